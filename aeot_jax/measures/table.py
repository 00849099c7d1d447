"""Tables of the sources: those that a configuration can name, and those that a file can hold."""

import dataclasses
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from aeot_jax.measures import public
from aeot_jax.measures.measure import Measure

ALL: tuple[type, ...] = tuple(kind for kind in vars(public).values() if isinstance(kind, type))
"""Every source of this package."""

CHOICES: dict[str, Callable[[int], Measure]] = {
    kind.option: kind for kind in ALL if hasattr(kind, "option")
}
"""Sources that their dimension determines, by their ``option``."""


def arrays(kind: type) -> dict[str, Any]:
    """The fields of a source that are arrays, with their annotations."""
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in _names(kind) if hasattr(hints[name], "dim_str")}


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def parts(kind: type) -> tuple[str, ...]:
    """The fields of a source that are sources."""
    return getattr(kind, "PARTS", ())


IN_FILES: dict[str, type] = {
    kind.__name__: kind for kind in ALL if {*_names(kind)} <= {"dim", *arrays(kind), *parts(kind)}
}
"""Sources that a file can hold, by name: their fields are ``dim``, arrays and sources."""

if TYPE_CHECKING:
    Source = str
else:
    Source = Literal[tuple(CHOICES)]
    """The names of sources in a configuration."""

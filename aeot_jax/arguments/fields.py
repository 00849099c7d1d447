"""Fields of a record that users make: numbers are checked, and names that it lacks are told."""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from aeot_jax.arguments.display import shown

_Record = TypeVar("_Record", bound=type)


def known_fields(record: _Record) -> _Record:
    """Let a dataclass refuse a field that it lacks in one sentence, with the nearest that it has.

    A decorator, above ``dataclass``. The sentence is a TypeError, as Python's own.
    """
    init = record.__init__
    names = tuple(field.name for field in dataclasses.fields(record) if field.init)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        for name, value in values.items():
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                way = (
                    f" (did you mean {near[0]}?)" if near else f"; pass some of {', '.join(names)}"
                )
                raise TypeError(
                    f"`{name}` is {shown(value)}, but `{record.__name__}` has no such field{way}."
                )
        init(self, *args, **values)

    record.__init__ = checked
    return record


def replace_field(
    record: Any, name: str, check: Callable[..., int | float], *bounds: int | float, **options: Any
) -> None:
    """Check a number in a frozen record, and keep it as a Python number.

    Args:
      record: the record, in its ``__post_init__``.
      name: the name of the field.
      check: ``count`` or ``number``.
      *bounds: passed to the check.
      **options: passed to the check.

    Raises:
      ValueError: as the check raises it.
    """
    value = getattr(record, name)
    found = check(name, value, *bounds, **options)
    if type(value) not in (int, float):  # a NumPy number has another hash, repr and JSON
        object.__setattr__(record, name, found)

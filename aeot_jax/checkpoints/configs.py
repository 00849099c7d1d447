"""Configurations to JSON and back: every value is checked before a record is made."""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from aeot_jax._version import __version__
from aeot_jax.inputs.nearest import nearest
from aeot_jax.model import Config
from aeot_jax.storage.records import NewerError

_Record = TypeVar("_Record")

_NOT_KEPT = ("parallel", "devices", "target_shards")
"""Fields of the solver's configuration that do not change the answer, and are not saved."""

BEFORE: dict[str, dict[str, Any]] = {
    "autoencoder": {"activation": "silu", "patches": "tiled", "chroma": "sharp"},
    "training": {"refine_epochs": 0, "refine_weight": 10.0, "fine_weight": 0.0},
    "solver": {"streams": 8, "search": "exact"},
    "extension": {"form": "blend"},
}
"""Fields that came later, by part: the values with which a fit does what it did without them."""

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def newer(what: str, version: object) -> NewerError:
    """The error for an unknown entry of a file.

    Args:
      what: the entry, with its name.
      version: the version of the library that wrote the file, as the file states it.
    """
    wrote = reprlib.repr(version) if isinstance(version, str) else "unknown"
    return NewerError(
        f"it holds {what}, which version {__version__} does not have; read it with the version "
        f"that wrote it ({wrote})"
    )


def config_to_json(config: Config) -> dict[str, Any]:
    """Convert a configuration to nested dicts for JSON.

    A custom optimiser is left out, and so are the devices, which do not change the answer.
    """
    solver = dataclasses.replace(config.solver, optimizer=None, devices=None)
    tree = dataclasses.asdict(dataclasses.replace(config, solver=solver))
    for name in _NOT_KEPT:
        del tree["solver"][name]
    return tree


def completed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a configuration with the fields that came after it was written."""
    parts = {part: tree[part] for part in BEFORE if isinstance(tree.get(part), Mapping)}
    return {**tree, **{part: {**BEFORE[part], **known} for part, known in parts.items()}}


def config_from_json(tree: Any, version: object = None) -> Config:
    """The inverse of ``config_to_json``.

    Args:
      tree: the parsed JSON.
      version: the version of the library that wrote it, for the error.

    Returns:
      The configuration. What it lacks, because it came later, has the value with which a fit does
      what it did then.

    Raises:
      NewerError: if an option is unknown.
      ValueError: if a part is missing, or a value has another type or is out of range.
    """
    parts = {field.name for field in dataclasses.fields(Config)}
    if isinstance(tree, Mapping) and (missing := sorted(parts - set(tree))):
        raise ValueError(f"its configuration has no `{missing[0]}`")
    known = completed(tree) if isinstance(tree, Mapping) else tree
    return from_json(Config, known, "config", version)


def from_json(kind: type[_Record], tree: Any, where: str, version: object = None) -> _Record:
    """Make a frozen record from parsed JSON.

    Args:
      kind: a dataclass whose fields are numbers, strings, booleans, None or such dataclasses.
      tree: the parsed JSON.
      where: name of the record, for errors.
      version: the version of the library that wrote it, for errors.

    Raises:
      NewerError: if a field is unknown.
      ValueError: if a field without default is missing, or a value has another type or is refused
        by the record.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"`{where}` is {reprlib.repr(tree)}, not an object")
    hints = typing.get_type_hints(kind)
    fields: dict[str, Any] = {field.name: field for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    values = {}
    for name, value in tree.items():
        if name not in fields:
            meant = nearest(str(name), fields)
            raise newer(f"the option {reprlib.repr(f'{where}.{name}')}{meant}", version)
        if dataclasses.is_dataclass(hint := hints[name]):
            value = from_json(typing.cast(type, hint), value, f"{where}.{name}", version)
        elif not _fits(value, hint):
            raise ValueError(f"`{where}.{name}` is {reprlib.repr(value)}, not {_words(hint)}")
        elif type(value) is int and float in (typing.get_args(hint) or (hint,)):
            value = float(value)
        values[name] = value
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"`{where}` has no `{name}`")
    try:
        return kind(**values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"`{where}` cannot be used ({error})") from error


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has an annotated type; False for types that JSON lacks."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    if hint is float:
        small = type(value) is int and abs(value) < 2**63
        return small or (type(value) is float and not math.isnan(value))
    return hint in (str, bool) and type(value) is hint


def _words(hint: Any) -> str:
    """An annotation in words, for errors."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(one) for one in typing.get_args(hint)))
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return _WORDS.get(hint, "null")

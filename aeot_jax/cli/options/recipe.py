"""The options of a run, read from its config.json to repeat it with changes."""

import dataclasses
import reprlib
from pathlib import Path
from typing import Any, TypeVar

from aeot_jax._version import __version__
from aeot_jax.checkpoints.configs import from_json
from aeot_jax.cli.options.source import Source
from aeot_jax.inputs.nearest import nearest
from aeot_jax.model import Config
from aeot_jax.storage import documents
from aeot_jax.storage.records import NewerError
from aeot_jax.storage.runs import CONFIG

_Record = TypeVar("_Record")

SCHEMA = 2
"""Version of config.json, raised when older programs cannot read it; 2 adds a checksum."""

_KEYS = ("schema", "version", "model", "seed", "source", "data", "labels", "config")
_OTHERWISE = {"path": "data", "labels": "labels_file"}
"""Fields of a source with another name as an option."""


def read(path: Path) -> dict[str, Any]:
    """Read values of the options of ``fit``, by field name, from a JSON file.

    The file may have been edited, and may leave out options, which then have their defaults.

    Raises:
      FileNotFoundError: if the file does not exist.
      ValueError: if it is not such a file, is of a newer version, or has invalid values.
    """
    path = path / CONFIG if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"`--config` is {str(path)!r}, but there is no such file.")
    try:
        return _values(documents.read(path, sealed=False))
    except ValueError as error:
        raise ValueError(f"`--config` {str(path)!r} cannot be used: {error}.") from error


def _values(content: dict[str, Any]) -> dict[str, Any]:
    """Read the values; raises ValueError with a reason."""
    version, schema = content.get("version"), content.get("schema", SCHEMA)
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ValueError(
            f"it has schema {reprlib.repr(schema)} of version {reprlib.repr(version)}, and this "
            f"version reads {SCHEMA}; install the version that wrote it"
        )
    for name in content:
        if name not in (*_KEYS, documents.SEAL):
            raise ValueError(f"it holds {name!r}{nearest(name, _KEYS)}; take that out")
    values: dict[str, Any] = {}
    if "config" in content:
        values["config"] = _record(Config, content, "config")
    if "source" in content:
        source = _record(Source, content, "source")
        source.check()
        for field in dataclasses.fields(source):
            values[_OTHERWISE.get(field.name, field.name)] = getattr(source, field.name)
        values["codes"] = None
        if source.codes:
            values |= {"codes": Path(source.path), "data": None}
        if source.labels is not None:
            values["labels_file"] = Path(source.labels)
    for name, kind, words in (("seed", int, "a whole number"), ("labels", bool, "true or false")):
        if name in content and type(content[name]) is not kind:
            raise ValueError(f"`{name}` is {reprlib.repr(content[name])}, not {words}")
        if name in content:
            values[name] = content[name]
    return values


def _record(kind: type[_Record], content: dict[str, Any], name: str) -> _Record:
    """Read a record; an unknown name in a file of this version is a misspelling."""
    version = content.get("version")
    try:
        return from_json(kind, content[name], name, version)
    except NewerError as error:
        if version not in (None, __version__):
            raise
        raise ValueError(f"{str(error).partition('; ')[0]}; correct the name") from error

"""Arrays and JSON in one file: no pickle, a schema number, a checksum, written atomically.

The file is a NumPy ``.npz`` archive. Its member ``meta`` holds JSON: the kind of the record, the
schema number, a SHA-256 over all arrays, and the caller's entries.
"""

import hashlib
import json
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from aeot_jax.storage import archives
from aeot_jax.storage.files import reason, replacing

SCHEMA = 2
"""Version of the format; files with another number are refused."""

Check = Callable[[Mapping[str, Any], Mapping[str, archives.Header]], None]
"""A function that may refuse a file before its arrays are read."""

_META = "meta"
_MOST_META = 2**20
"""Most bytes of the JSON."""

_KINDS = "biuf"
"""Allowed kinds of dtype."""

_GROWTH, _FREE = 4, 2**26
"""Arrays are stored uncompressed; a file that was compressed later may be 4 times smaller."""


class RefusedError(ValueError):
    """A file is whole, but of another kind or schema; the text is a sentence."""


class NewerError(ValueError):
    """A file holds something that this version does not know."""


def write(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
) -> None:
    """Write a record atomically: an older file at ``path`` stays until the new one is complete.

    Args:
      path: the file; missing parent folders are made.
      kind: the kind of the record, checked by ``read``.
      arrays: arrays by name; the name "meta" is reserved.
      meta: anything that JSON can hold.

    Raises:
      OSError: if the folder cannot be written or the disk is full.
    """
    head = {**meta, "kind": kind, "schema": SCHEMA, "sha256": _digest(arrays)}
    text = json.dumps(head, sort_keys=True, default=_python_number).encode()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_META: np.frombuffer(text, np.uint8)}, **arrays)


def _python_number(value: object) -> object:
    """Convert a NumPy number, which a configuration may hold, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"`meta` holds a {type(value).__name__}, which JSON cannot; leave it out.")


def read(
    path: str | os.PathLike[str], kind: str, check: Check | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a record and verify its checksum.

    Args:
      path: a file that ``write`` made.
      kind: the kind that the record must have.
      check: called with the JSON and the headers of the arrays, by name, before any array is read.
        It raises a ValueError with a reason, or a `NewerError`.

    Returns:
      The arrays by name, and the JSON.

    Raises:
      FileNotFoundError: if the file does not exist.
      ValueError: if the file is damaged, of another kind or of another schema.
    """
    with _opened(path, kind) as (archive, meta):
        headers = {**archive.headers()}
        del headers[_META]
        if check is not None:
            check(meta, headers)
        arrays = {name: archive.read(name) for name in headers}
        if meta.get("sha256") != _digest(arrays):
            raise ValueError("its checksum differs")
    return arrays, meta


def read_meta(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read only the JSON of a record; raises as ``read``."""
    with _opened(path, kind) as (_, meta):
        return meta


def kind_of(path: str | os.PathLike[str], kinds: Sequence[str]) -> str:
    """The kind of a record, one of `kinds`; raises as ``read`` for any other."""
    with _opened(path, kinds) as (_, meta):
        return str(meta["kind"])


@contextmanager
def complete(path: str | os.PathLike[str]) -> Iterator[None]:
    """Complete the reasons that the body raises to sentences that name the file.

    Args:
      path: the file.

    Raises:
      NewerError: for a NewerError of the body.
      ValueError: for any other ValueError of the body.
      OSError: unchanged.
    """
    shown = f"`path` {os.fspath(path)!r}"
    try:
        yield
    except RefusedError:
        raise
    except NewerError as error:
        raise NewerError(f"{shown} is of another version: {error}.") from error
    except (ValueError, MemoryError) as error:
        raise ValueError(
            f"{shown} is damaged or not a file of this library ({reason(error).rstrip('.')}); "
            "restore it from a copy or make it again."
        ) from error


@contextmanager
def _opened(
    path: str | os.PathLike[str], kind: str | Sequence[str]
) -> Iterator[tuple[archives.Archive, dict[str, Any]]]:
    """Open an archive and read its JSON, after a check of kind and schema."""
    kinds = (kind,) if isinstance(kind, str) else kind
    if not os.path.exists(path):
        raise FileNotFoundError(f"`path` is {os.fspath(path)!r}, but there is no such file.")
    with complete(path):
        limit = _GROWTH * os.stat(path).st_size + _FREE
        with archives.open_npz(path, kinds=_KINDS, limit=limit) as archive:
            meta = _meta(archive)
            _check_kind(path, kinds, meta)
            yield archive, meta


def _meta(archive: archives.Archive) -> dict[str, Any]:
    if _META not in archive.names:
        raise ValueError(f"it has no member {_META!r}")
    header = archive.header(_META)
    if header.dtype != np.uint8 or len(header.shape) != 1 or header.num_bytes > _MOST_META:
        raise ValueError(f"its member {_META!r} is not a text of at most {_MOST_META} bytes")
    try:
        meta = json.loads(archive.read(_META).tobytes())
    except RecursionError as error:
        raise ValueError(f"its member {_META!r} is nested too deeply") from error
    if not isinstance(meta, dict):
        raise ValueError(f"its member {_META!r} is not a JSON object")
    return meta


def _check_kind(
    path: str | os.PathLike[str], kinds: Sequence[str], meta: Mapping[str, Any]
) -> None:
    shown = f"`path` {os.fspath(path)!r}"
    if meta.get("kind") not in kinds:
        raise RefusedError(
            f"{shown} holds {reprlib.repr(meta.get('kind'))}, not "
            f"{' or '.join(map(repr, kinds))}; pass a file that was saved as such."
        )
    if meta.get("schema") != SCHEMA or type(meta.get("schema")) is not int:
        raise RefusedError(
            f"{shown} has schema {reprlib.repr(meta.get('schema'))}, this version reads "
            f"{SCHEMA}; read it with the version that wrote it "
            f"({reprlib.repr(meta.get('version'))})."
        )


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data.cast("B") if array.size else b"")
    return digest.hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Flatten nested dicts of arrays to one dict, with keys joined by a slash."""
    flat: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}/")
        else:
            flat[name] = np.asarray(value)
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The inverse of ``flatten``."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree

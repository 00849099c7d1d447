"""Arrays and JSON in one file: no pickle, a schema number, a checksum, written whole or not at all.

The file is a NumPy ``.npz`` archive whose member ``meta`` holds JSON: what kind of record it is,
the schema number, a SHA-256 over all arrays, and whatever the caller adds.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from aeot_jax.files import replacing

SCHEMA = 2
"""Number of the layout; a file of another number is refused."""

_META = "meta"


def write(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
) -> None:
    """Write a record; an older file at ``path`` stays whole until the new one is.

    Args:
      path: where; folders on the way are made.
      kind: what the record is, checked by ``read``.
      arrays: by name; "meta" is taken.
      meta: what JSON can hold.

    Raises:
      OSError: if the folder cannot be written or the disk is full.
    """
    head = {**meta, "kind": kind, "schema": SCHEMA, "sha256": _digest(arrays)}
    text = json.dumps(head, sort_keys=True, default=_python_number).encode()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_META: np.frombuffer(text, np.uint8)}, **arrays)


def _python_number(value: object) -> object:
    """What JSON writes for a NumPy number, which configurations may hold."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"`meta` holds a {type(value).__name__}, which JSON cannot; leave it out.")


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a record and check that it is whole.

    Args:
      path: a file that ``write`` made.
      kind: what the record must be.

    Returns:
      The arrays by name, and the JSON.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, of another kind or of another schema.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"`path` is {os.fspath(path)!r}, but there is no such file.")
    with open(path, "rb") as file:
        try:
            arrays, meta = _parse(file)
        except Exception as error:  # damaged bytes make zip and npy readers raise almost anything
            raise ValueError(
                f"`path` {os.fspath(path)!r} is damaged or not a file of this library ({error}); "
                "restore it from a copy or make it again."
            ) from error
    if meta.get("kind") != kind:
        raise ValueError(
            f"`path` {os.fspath(path)!r} holds {meta.get('kind')!r}, not {kind!r}; pass a file "
            "that was saved as such."
        )
    if meta.get("schema") != SCHEMA:
        raise ValueError(
            f"`path` {os.fspath(path)!r} has schema {meta.get('schema')}, this version reads "
            f"{SCHEMA}; read it with the version that wrote it ({meta.get('version')})."
        )
    if meta.get("sha256") != _digest(arrays):
        raise ValueError(
            f"`path` {os.fspath(path)!r} is damaged (its checksum differs); restore it from a "
            "copy or make it again."
        )
    return arrays, meta


def _parse(file: BinaryIO) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON of an archive; raises whatever the readers raise."""
    archive = np.load(file, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("it is a single array")
    with archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(arrays.pop(_META).tobytes())
    if not isinstance(meta, dict):
        raise ValueError(f"its member {_META!r} is no JSON object")
    return arrays, meta


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data.cast("B") if array.size else b"")
    return digest.hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dicts of arrays as one dict, keys joined by a slash."""
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

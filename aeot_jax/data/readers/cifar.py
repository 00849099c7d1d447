"""CIFAR-10 and CIFAR-100: the published batches, in the binary or the Python version.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009; the page "The
CIFAR-10 dataset" describes the files.
"""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aeot_jax.data.found import Arrays
from aeot_jax.storage.files import open_file, reason

_SIDE, _VALUES = 32, 3072
_MOST = 2**28
"""Most bytes of a file; the largest published one has 155 million."""

_BATCH = re.compile(r"(?:(?:data|test)_batch(?:_\d)?|train|test)(\.bin)?")
_MARKS = frozenset(
    {"batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt", "data_batch_1"}
    | {"data_batch_1.bin"}
)

Read = Callable[[str], bytes]


def is_folder(folder: Path) -> bool:
    """Whether the folder, or a folder in it, holds batches with their published names."""
    return _place(folder) is not None


def read_folder(folder: Path, split: str) -> Arrays:
    """Read the batches of one split; CIFAR-100 with its hundred fine classes.

    Args:
      folder: the folder of the batches, or its parent.
      split: "train" or "test".

    Raises:
      FileNotFoundError: if the split does not exist.
      ValueError: if a file is damaged, or a pickle that holds more than arrays and plain data.
    """
    place = _place(folder)
    assert place is not None  # as `is_folder` said
    names = sorted(path.name for path in place.iterdir())

    def contents(name: str) -> bytes:
        with open_file(place / name) as file:
            return file.read(_MOST + 1)

    return _read(names, contents, split, str(folder))


def is_archive(path: Path) -> bool:
    """Whether a tar file has a published name."""
    return re.fullmatch(r"cifar-100?-(python|binary)\.(tar\.gz|tgz|tar)", path.name) is not None


def read_archive(path: Path, split: str) -> Arrays:
    """Read the batches of one split from the published tar file; raises as `read_folder`."""
    from aeot_jax.data.readers import archived

    held: dict[str, bytes] = {}
    with archived.complete(path):
        for info, archive in archived.members_of_tar(path):
            name = info.name.rpartition("/")[2]
            if (_BATCH.fullmatch(name) or name in _MARKS) and info.size <= _MOST:
                held[name] = _bytes_of(archive, info)
    return _read(sorted(held), held.__getitem__, split, str(path))


def _bytes_of(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    assert file is not None  # a file
    return file.read()


def _place(folder: Path) -> Path | None:
    for place in (folder, *sorted(folder.glob("cifar-10*"))):
        if place.is_dir():
            names = {path.name for path in place.iterdir() if not path.is_dir()}
            if names & _MARKS and any(map(_BATCH.fullmatch, names)):
                return place
    return None


def _read(names: list[str], contents: Read, split: str, source: str) -> Arrays:
    stem = ("data_batch", "train") if split == "train" else ("test",)
    batches = [n for n in names if _BATCH.fullmatch(n) and n.startswith(stem)]
    if not batches:
        raise FileNotFoundError(
            f"`source` {source!r} has no CIFAR batches of split {split!r}; add them or pass "
            "another split."
        )
    parts = [_batch(name, contents, source) for name in batches]
    images = np.concatenate([pixels for pixels, _ in parts])
    labels = np.concatenate([classes for _, classes in parts])
    label_names = _label_names(names, contents, source)
    if label_names is not None and labels.size and not 0 <= labels.max() < len(label_names):
        label_names = None
    return Arrays(images, labels, label_names, ())


def _batch(name: str, contents: Read, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and labels (n,)."""
    try:
        data = contents(name)
        if len(data) > _MOST:
            raise ValueError(f"it has more than {_MOST:,} bytes")
        rows, labels = _binary(data, name) if name.endswith(".bin") else _python(data)
    except Exception as error:  # damaged bytes raise almost anything
        raise ValueError(
            f"`source` {source!r} holds {name!r}, which cannot be read as a CIFAR batch "
            f"({reason(error)}); fetch it again."
        ) from error
    return rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1), labels


def _binary(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    classes = 1 if "batch" in name else 2  # CIFAR-100 has coarse and fine ones
    width = classes + _VALUES
    if not data or len(data) % width:
        raise ValueError(f"its {len(data):,} bytes are not a whole number of rows of {width}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    return rows[:, classes:], rows[:, classes - 1].astype(np.int32)


def _python(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    held = _texts(_unpickled(data))
    pixels = held.get("data")
    labels = held.get("fine_labels", held.get("labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise ValueError("it holds no bytes called 'data'")
    if pixels.ndim != 2 or pixels.shape[1] != _VALUES:
        raise ValueError(f"its 'data' has shape {pixels.shape}, not (n, {_VALUES})")
    known = np.array(labels)
    if known.shape != (len(pixels),) or known.dtype.kind not in "iu":
        raise ValueError(f"it holds no {len(pixels)} labels")
    return pixels, known.astype(np.int32)


def _unpickled(data: bytes) -> Any:
    from aeot_jax.data.readers import (
        pickled,
    )

    return pickled.read(data)


def _texts(held: Any) -> dict[str, Any]:
    """A dict with string keys; pickles of Python 2 may have bytes."""
    if type(held) is not dict:
        raise ValueError("it holds no dict")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value
        for key, value in held.items()
    }


def _label_names(names: list[str], contents: Read, source: str) -> tuple[str, ...] | None:
    for name, key in (("batches.meta", "label_names"), ("meta", "fine_label_names")):
        if name in names:
            try:
                found = _texts(_unpickled(contents(name)[:_MOST])).get(key)
            except Exception as error:
                raise ValueError(
                    f"`source` {source!r} holds {name!r}, which cannot be read "
                    f"({reason(error)}); fetch it again."
                ) from error
            if isinstance(found, list):
                return tuple(_text(one) for one in found)
    for name in ("batches.meta.txt", "fine_label_names.txt"):
        if name in names:
            return tuple(contents(name)[:_MOST].decode("latin1").split())
    return None


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)

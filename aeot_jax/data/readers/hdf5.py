"""HDF5 files, by h5py: datasets stored in the file itself."""

from pathlib import Path
from typing import Any

import numpy as np

from aeot_jax.data.found import Arrays, NoSplitError
from aeot_jax.data.readers.named import LABELS, LISTS, UnclearError, numbered, one_axis, pick
from aeot_jax.data.tree import printable
from aeot_jax.storage.archives import check_size
from aeot_jax.storage.files import open_file, reason

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MOST_NAMES = 1000
"""Most datasets that are examined."""

_MOST_BYTES = 2**29
"""Of texts that are read at once."""


def is_hdf5(path: Path) -> bool:
    """Whether a file has the signature of HDF5, at its start or after MATLAB's header."""
    try:
        with open_file(path) as file:
            first = file.read(520)
    except (OSError, ValueError):
        return False
    return first.startswith(SIGNATURE) or first[512:] == SIGNATURE


def read(path: Path, split: str) -> Arrays:
    """Read the images and labels of one split.

    Links to other files, virtual datasets and objects are ignored. MATLAB writes arrays with
    reversed axes; those of a .mat file are transposed.

    Raises:
      ImportError: if h5py is missing.
      NoSplitError: if there are no test images.
      ValueError: if the file is damaged or too large, or it is not clear which dataset holds
        images.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"`source` {str(path)!r} is HDF5, which needs h5py; install it with: "
            "pip install 'aeot-jax[hdf5]'."
        ) from error

    shown = repr(str(path))
    is_matlab = path.suffix.lower() == ".mat"
    try:
        with open_file(path) as raw, h5py.File(raw, "r") as file:
            found = _datasets(file, h5py)
            images, labels = pick({n: tuple(one.shape) for n, one in found.items()}, split, shown)
            size = path.stat().st_size
            x, y = (None if n is None else _values(found[n], size) for n in (images, labels))
            assert x is not None
            names = _label_names(found, size)
            if y is not None and y.dtype == object:
                y, names = numbered(y)
    except (NoSplitError, UnclearError):
        raise
    except Exception as error:  # damaged bytes raise almost anything
        raise ValueError(
            f"`source` {shown} cannot be read as an HDF5 file ({reason(error)}); write it again."
        ) from error
    if is_matlab:
        x, y = x.T, None if y is None else y.T
    return Arrays(x, None if y is None else one_axis(y), names)


def _datasets(file: Any, h5py: Any) -> dict[str, Any]:
    """Datasets of numbers or strings, by the last part of their names; the first of each name."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> bool | None:
        own = name.rpartition("/")[2]
        texts = own.lower() in LABELS or own in LISTS  # others, as names of files, are no labels
        if isinstance(item, h5py.Dataset) and _is_plain(item, texts):
            found.setdefault(own, item)
        return True if len(found) > _MOST_NAMES else None

    file.visititems(visit)  # follows neither soft links nor links to other files
    return found


def _is_plain(dataset: Any, texts: bool) -> bool:
    """Whether a dataset of the file itself holds numbers or strings, or texts if those may be."""
    kinds = dataset.dtype.kind in "biufS" or (texts and _holds_texts(dataset))
    return kinds and not dataset.is_virtual and not dataset.external and bool(dataset.shape)


def _holds_texts(dataset: Any) -> bool:
    """Whether a dataset holds strings of any length, as h5py writes lists of them."""
    return dataset.dtype.kind == "O" and dataset.dtype.metadata.get("vlen") in (str, bytes)


def _values(dataset: Any, size: int) -> np.ndarray:
    """All values; texts are read a few at a time: each may be as long as the file.

    Bytes that are no UTF-8 stay apart until ``printable`` names them.
    """
    check_size(dataset.size * dataset.dtype.itemsize, size)
    if dataset.dtype.kind != "O":
        return dataset[()]
    rows, found = max(1, _MOST_BYTES // size), []
    for start in range(0, len(dataset), rows):
        part = dataset.asstr("utf-8", "surrogateescape")[start : start + rows]
        check_size(sum(map(len, part.flat)), size)
        found.append(part)
    return np.concatenate([np.empty((0, *dataset.shape[1:]), object), *found])


def _label_names(found: dict[str, Any], size: int) -> tuple[str, ...] | None:
    """The class names, if the file has a list of them."""
    names = next((found[name] for name in LISTS if name in found), None)
    if names is None or names.dtype.kind not in "SO":
        return None
    if names.ndim != 1 or names.size > _MOST_NAMES:
        return None
    listed = _values(names, size).tolist()
    return printable(
        [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in listed]
    )

"""NumPy files: images and labels in one .npz file, or images in an .npy file."""

import reprlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from aeot_jax.data.found import NoSplitError
from aeot_jax.storage.archives import Archive, open_npz, read_npy

KEYS = {
    "train": (("x_train", "y_train"), ("x", "y"), ("images", "labels")),
    "test": (("x_test", "y_test"),),
}
"""For each split, the names of images and labels, in order of preference."""


def read(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the images of one split, and the labels if there are any.

    A single array in an archive is the images, whatever its name.

    Returns:
      Images and labels (or None) as stored.

    Raises:
      ValueError: if the file is damaged, needs pickle, is too large or smaller than its header
        announces, or has none of the names in `KEYS`.
    """
    with _open(path) as archive:
        names = archive.names
        for x, y in KEYS[split]:
            if x in names:
                labels = _array(archive, y, path) if y in names else None
                return _array(archive, x, path), labels
        if split == "train" and len(names) == 1:
            return _array(archive, names[0], path), None
    wanted = " or ".join(x for x, _ in KEYS[split])
    raise ValueError(
        f"`source` {str(path)!r} holds the arrays {reprlib.repr(list(names))}, but images of split "
        f"{split!r} are called {wanted}; rename one."
    )


def read_array(path: Path, split: str) -> np.ndarray:
    """Read an .npy file, which holds one split.

    Raises:
      NoSplitError: for the split "test".
      ValueError: if the file is damaged, needs pickle, or announces more than it holds.
    """
    if split == "test":
        raise NoSplitError(f"`source` {str(path)!r} is one array; pass split='train'.")
    try:
        return read_npy(path)
    except ValueError as error:
        raise ValueError(
            f"`source` {str(path)!r} is not an .npy file or is damaged ({error}); write it with "
            "np.save(path, images)."
        ) from error


def has_split(path: Path, split: str) -> bool:
    """Whether an archive has images of a split; only its directory is read.

    Raises:
      ValueError: if the file is not an archive, or damaged.
    """
    with _open(path) as archive:
        return any(x in archive.names for x, _ in KEYS[split])


@contextmanager
def _open(path: Path) -> Iterator[Archive]:
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_npz(path))
        except ValueError as error:
            raise ValueError(
                f"`source` {str(path)!r} is not an .npz archive or is damaged ({error}); "
                "write it with np.savez(path, x=images, y=labels)."
            ) from error
        yield archive


def _array(archive: Archive, name: str, path: Path) -> np.ndarray:
    try:
        return archive.read(name)
    except ValueError as error:
        raise ValueError(
            f"`source` {str(path)!r} has an array {reprlib.repr(name)} that cannot be read "
            f"({error}); store plain numbers, as objects would need pickle."
        ) from error

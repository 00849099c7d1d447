"""Archives: images and labels in one .npz file."""

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

KEYS = {
    "train": (("x_train", "y_train"), ("x", "y"), ("images", "labels")),
    "test": (("x_test", "y_test"),),
}
"""For each split, the names under which images and labels are looked for, in this order."""


DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises on archives with flipped bits."""


def read(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the images of one split, and the labels where they are there.

    An archive that holds a single array, whatever its name, holds images.

    Returns:
      Images and labels (or None) as they were stored.

    Raises:
      ValueError: if the file is damaged, needs pickle, or has none of the names in `KEYS`.
    """
    # np.load takes a file that is not an archive for a pickle, and says so
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"`source` {str(path)!r} is not an .npz archive or is damaged; "
            "write it with np.savez(path, x=images, y=labels)."
        )
    try:
        opened = np.load(path, allow_pickle=False)
    except DAMAGE as error:
        raise ValueError(
            f"`source` {str(path)!r} is damaged ({error}); write it again with np.savez."
        ) from error
    with opened as archive:
        names = archive.files
        for x, y in KEYS[split]:
            if x in names:
                labels = _array(archive, y, path) if y in names else None
                return _array(archive, x, path), labels
        if split == "train" and len(names) == 1:
            return _array(archive, names[0], path), None
    wanted = " or ".join(x for x, _ in KEYS[split])
    raise ValueError(
        f"`source` {str(path)!r} holds the arrays {names}, but images of split {split!r} are "
        f"called {wanted}; rename one."
    )


def _array(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        array = archive[name]
        if not isinstance(array, np.ndarray):
            raise ValueError("it is a file of another kind")
        return array
    except DAMAGE as error:
        raise ValueError(
            f"`source` {str(path)!r} has an array {name!r} that cannot be read ({error}); store "
            "plain numbers, as objects would need pickle."
        ) from error

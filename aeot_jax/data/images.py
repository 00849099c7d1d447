"""Image sets: bytes with labels, from arrays, files or the network."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from aeot_jax import extras
from aeot_jax.data import archive, idx
from aeot_jax.data.convert import to_bytes, to_labels
from aeot_jax.nearest import nearest

NAMES = ("digits", "mnist", "fashion-mnist")
"""The sets that `load` knows by name."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size.

    Attributes:
      images: bytes, 0 black to 255 full; one channel (grey) or three (red, green, blue).
      labels: the class of each image, or None.
      name: what to call the set in titles.
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"] | None
    name: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


def from_arrays(images: Any, labels: Any = None, name: str = "array") -> ImageSet:
    """Check and convert a user's arrays.

    Args:
      images: (n, h, w) or (n, h, w, c), sides of 4 to 256 pixels, c 1 or 3, n at least 2; integers
        in 0..255, floats in [0, 1], or bools. Bytes are not copied.
      labels: (n,) or (n, 1) integers, or None.
      name: what to call the set.

    Returns:
      The set.

    Raises:
      ValueError: if a shape, a type or a range is another, a pixel is NaN or infinite, or all
        images are equal.
    """
    pixels = to_bytes(images)
    return ImageSet(pixels, None if labels is None else to_labels(labels, len(pixels)), name)


def load(
    source: str | os.PathLike[str],
    *,
    split: str = "train",
    cache_dir: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
) -> ImageSet:
    """Load images from where they are.

    Args:
      source: one of

        * "digits": the 1,797 handwritten digits, 8 x 8, that come with scikit-learn;
        * "mnist", "fashion-mnist": downloaded once, with checksums;
        * an ``.npz`` file with x_train, y_train, x_test, y_test, or x, y, or images, labels, or a
          single array;
        * a folder of IDX files as MNIST has them, gzipped or raw, with or without labels;
        * a folder of images; one sub-folder per class gives labels.

        A name wins over a path; write "./digits" for a folder of that name.
      split: "train" or "test"; a source that does not tell them apart is all "train".
      cache_dir: where downloads are kept; by default the user's cache folder.
      base_url: the address of the folder to download from, in place of the usual one; the
        environment variable AEOT_JAX_DATA_URL does the same.

    Returns:
      The set, named after its source.

    Raises:
      FileNotFoundError: if there is no such file, folder or split.
      ValueError: if what is there is damaged or cannot be used; see `from_arrays`.
      ConnectionError: if a download fails.
      ImportError: if "digits" is asked for and scikit-learn is missing.
    """
    if split not in ("train", "test"):
        raise ValueError(f"`split` is {split!r}; pass 'train' or 'test'.")
    images, labels, name = _read(source, split, cache_dir, base_url)
    shown = repr(os.fspath(source))
    pixels = to_bytes(images, f"the images of `source` {shown}")
    if labels is not None:
        labels = to_labels(labels, len(pixels), f"the labels of `source` {shown}")
    return ImageSet(pixels, labels, name)


def _read(
    source: str | os.PathLike[str],
    split: str,
    cache_dir: str | os.PathLike[str] | None,
    base_url: str | None,
) -> tuple[np.ndarray, np.ndarray | None, str]:
    if source == "digits":
        return *_digits(split), "digits"
    if source in NAMES:
        # pooch and requests take a while to import, and nothing else needs them
        for library in ("pooch", "requests"):
            extras.require(library, "cli", "downloads data")
        from aeot_jax.data import download

        found = download.fetch(str(source), split, cache_dir=cache_dir, base_url=base_url)
        return *idx.read_folder(found, split), str(source)
    path = Path(os.path.expanduser(source))  # as it is, where there is no such user
    if path.is_dir():
        if idx.is_folder(path):
            return *idx.read_folder(path, split), _title(path.resolve().name)
        extras.require("PIL", "cli", "reads pictures")
        from aeot_jax.data import folder

        return *folder.read(path, split), _title(path.resolve().name)
    if not path.exists():
        raise FileNotFoundError(
            f"`source` {str(path)!r} is no file, no folder and none of {', '.join(NAMES)}"
            f"{nearest(path.name, NAMES)}; check the path."
        )
    if path.suffix.lower() != ".npz":
        raise ValueError(
            f"`source` {str(path)!r} is a file but not an .npz archive; pass an .npz file or a "
            "folder of images or IDX files."
        )
    return *archive.read(path, split), _title(path.stem)


def _title(name: str) -> str:
    """A file's name that can be printed, whatever its bytes are."""
    unknown = "\N{REPLACEMENT CHARACTER}"
    return "".join(letter if letter.isprintable() else unknown for letter in name)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "`source` 'digits' comes with scikit-learn, which is missing; "
            "install it with: pip install 'aeot-jax[demo]'."
        ) from error
    if split == "test":
        raise ValueError("`split` is 'test', but 'digits' has no test set; pass 'train'.")
    levels, labels = load_digits(return_X_y=True)
    # 17 levels, 0..16, to the nearest byte: no two levels meet, and 16 becomes 255
    return np.rint(levels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), labels

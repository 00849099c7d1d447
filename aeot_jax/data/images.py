"""Image sets: bytes with labels, from arrays, files or downloads."""

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

from aeot_jax.data import share, sources
from aeot_jax.data.found import Arrays, Files, Report
from aeot_jax.data.pictures import axes
from aeot_jax.data.pictures.convert import to_bytes, to_labels
from aeot_jax.data.pictures.resample import resample
from aeot_jax.data.pictures.shaping import Pictures
from aeot_jax.data.sources import NAMES as NAMES
from aeot_jax.data.tables import Table, classes_of, is_table
from aeot_jax.inputs import extras
from aeot_jax.reprs import or_brief


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size.

    Attributes:
      images: bytes, 0 black to 255 full; one channel (grey) or three (red, green, blue).
      labels: the class of each image, or None.
      name: name of the set, for titles.
      label_names: names of the classes, indexed by label; None if they have no names.
      notes: remarks on how the set was read, one sentence each.
      skipped: broken pictures that were left out, each with the reason.
      files: name of the file of each image, within the source; None if they have none.
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"] | None
    name: str
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None

    @property
    def values(self) -> UInt8[np.ndarray, "n h w c"]:
        """The images."""
        return self.images

    def take(self, rows: Int[np.ndarray, " k"]) -> "ImageSet":
        """Select images, with their labels.

        Raises:
          ValueError: if the selected images are too few, or all equal.
        """
        labels = None if self.labels is None else self.labels[rows]
        files = None if self.files is None else tuple(self.files[row] for row in rows)
        images = to_bytes(self.images[rows])
        return dataclasses.replace(self, images=images, labels=labels, files=files)

    @or_brief
    def __repr__(self) -> str:
        """Return what it is, on one line."""
        sides = " x ".join(map(str, self.images.shape[1:]))
        left = f", {len(self.skipped):,} skipped" if self.skipped else ""
        said = f"{self.name}: {len(self):,} images of {sides}, {classes_of(self.labels)}{left}"
        return f"ImageSet({said})"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


def from_arrays(images: Any, labels: Any = None, name: str = "array") -> ImageSet:
    """Check and convert a user's arrays.

    Args:
      images: (n, h, w) or (n, h, w, c), sides of 4 to 256 pixels, c 1 or 3, n at least 2; integers
        in 0..255, floats in [0, 1], or bools. Bytes are not copied.
      labels: (n,) or (n, 1) integers or strings, or None.
      name: name of the set.

    Returns:
      The set.

    Raises:
      ValueError: if a shape, a type or a range does not fit, per pixel is NaN or infinite, or all
        images are equal.
    """
    pixels = to_bytes(images)
    if labels is None:
        return ImageSet(pixels, None, name)
    numbers, names = to_labels(labels, len(pixels))
    return ImageSet(pixels, numbers, name, names)


def load(
    source: str | os.PathLike[str],
    *,
    split: str = "train",
    pictures: Pictures = Pictures(),  # noqa: B008 - frozen
    labels: Any = None,
    labels_are: str = "`labels`",
    limit: int | None = None,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    on_progress: Report | None = None,
) -> ImageSet:
    """Load images by name, or from a file or a folder.

    Args:
      source: one of

        * "digits": the 1,797 handwritten digits, 8 x 8, that come with scikit-learn;
        * "mnist", "fashion-mnist": downloaded once, with checksums;
        * an ``.npz`` file with x_train, y_train, x_test, y_test, or x, y, or images, labels, or a
          single array; an ``.npy`` file; a MATLAB or HDF5 file with such names;
        * a folder of IDX files as MNIST has them, gzipped or raw, with or without labels;
        * the batches of CIFAR-10 or CIFAR-100, in a folder or in the published tar file;
        * a folder of pictures, or a zip or tar file of them; sub-folders are classes, by name,
          unless they are called train, val and test;
        * a parquet file or a folder of them, with pictures in the format of Hugging Face.

        A name takes precedence over a path; write "./digits" for a folder of that name.
      split: "train" or "test"; a source without splits is all "train".
      pictures: how pictures become images of one size.
      labels: labels of all images of the source (n,), in place of its own.
      labels_are: name of these labels, for errors.
      limit: number of images to take at random, the same share of every class; None is all.
      seed: seed of this choice.
      cache_dir: folder of downloads; by default the user's cache folder.
      base_url: URL of the folder to download from; the environment variable AEOT_JAX_DATA_URL sets
        it too.
      on_progress: called with the number of pictures decoded and the total.

    Returns:
      The set, named after its source.

    Raises:
      FileNotFoundError: if the file, the folder or the split does not exist.
      ValueError: if the data are damaged or cannot be used; see `from_arrays`.
      ConnectionError: if a download fails.
      ImportError: if a library that the source needs is missing.
    """
    found = read(
        source,
        split=split,
        pictures=pictures,
        labels=labels,
        labels_are=labels_are,
        limit=limit,
        seed=seed,
        cache_dir=cache_dir,
        base_url=base_url,
        on_progress=on_progress,
    )
    if isinstance(found, Table):
        raise ValueError(
            f"`source` {os.fspath(source)!r} holds a table of floats, shape {found.rows.shape}, "
            "and no images; reshape it to (n, height, width)."
        )
    return found


def read(
    source: str | os.PathLike[str],
    *,
    split: str = "train",
    pictures: Pictures = Pictures(),  # noqa: B008 - frozen
    labels: Any = None,
    labels_are: str = "`labels`",
    limit: int | None = None,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    on_progress: Report | None = None,
) -> ImageSet | Table:
    """Load images as `load` does, or a table if the source holds floats with two axes."""
    if split not in ("train", "test"):
        raise ValueError(f"`split` is {split!r}; pass 'train' or 'test'.")
    found, name = sources.find(source, split, cache_dir, base_url)
    return made(
        found,
        name,
        source,
        pictures=pictures,
        labels=labels,
        labels_are=labels_are,
        limit=limit,
        seed=seed,
        on_progress=on_progress,
    )


def made(
    found: Arrays | Files,
    name: str,
    source: str | os.PathLike[str],
    *,
    pictures: Pictures = Pictures(),  # noqa: B008 - frozen
    labels: Any = None,
    labels_are: str = "`labels`",
    limit: int | None = None,
    seed: int = 0,
    on_progress: Report | None = None,
) -> ImageSet | Table:
    """What `read` gives for data that were found; `name` and `source` are theirs."""
    shown = repr(os.fspath(source))
    if isinstance(found, Arrays) and not is_table(found.images):
        images, notes = axes.ordered(found.images, found.labels if labels is None else labels)
        found = dataclasses.replace(found, images=images, notes=found.notes + notes)
    given = found.labels if labels is None else labels
    numbers, names = None, None
    if given is not None:
        subject = f"the labels of `source` {shown}" if labels is None else labels_are
        numbers, names = to_labels(given, len(found), subject)
        if names is None and labels is None and found.label_names is not None:
            names, notes = _fitting(found.label_names, numbers)
            found = dataclasses.replace(found, notes=found.notes + notes)
    rows = None
    if limit is not None and limit < len(found):
        # Use the source's own labels if it has any, so that other labels do not change the choice.
        strata = numbers
        if labels is not None and found.labels is not None:
            strata, _ = to_labels(found.labels, len(found), f"the labels of `source` {shown}")
        rows = share.pick(strata, len(found), limit, seed)
    if isinstance(found, Files):
        extras.require("PIL", "cli", "reads pictures")
        from aeot_jax.data.pictures.gather import gather  # pillow takes a while to import

        wanted = range(len(found)) if rows is None else rows.tolist()
        gathered = gather(found, wanted, pictures, shown, on_progress)
        rows, notes = gathered.rows, found.notes + gathered.notes
        pixels = to_bytes(gathered.images, f"the images of `source` {shown}")
        numbers = None if numbers is None else numbers[rows]
        files = tuple(str(found.names[row]) for row in rows)
        return ImageSet(pixels, numbers, name, names, notes, gathered.skipped, files)
    images = found.images if rows is None else found.images[rows]
    numbers = numbers if numbers is None or rows is None else numbers[rows]
    if is_table(images):
        return Table(images, numbers, name, names, found.notes)
    resized = pictures.size is not None
    pixels = to_bytes(images, f"the images of `source` {shown}", any_side=resized)
    pixels = np.ascontiguousarray(resample(pixels, pictures))
    return ImageSet(pixels, numbers, name, names, found.notes)


def _fitting(
    names: tuple[str, ...], labels: np.ndarray
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Names of classes that a source holds, unless a label has none, as -1 may; then a note."""
    high = int(labels.max(initial=0))
    low = int(labels.min(initial=high))
    if low >= 0 and high < len(names):
        return names, ()
    count = "1 name of a class was" if len(names) == 1 else f"{len(names):,} names of classes were"
    return None, (f"{count} left out, because labels run from {low} to {high}.",)

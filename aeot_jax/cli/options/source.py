"""The source of a run's data: loaded to fit, and loaded again, the same rows, to evaluate."""

import contextlib
import dataclasses
import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aeot_jax.cli.options.pictures import AS_THEY_ARE, PictureOptions
from aeot_jax.data import images, sources
from aeot_jax.data.found import Arrays, Files, Report
from aeot_jax.data.images import ImageSet
from aeot_jax.data.pictures.shaping import Pictures
from aeot_jax.data.readers import archive
from aeot_jax.data.tables import Table
from aeot_jax.inputs import columns
from aeot_jax.storage import archives

MIN_HELD_OUT = 20
"""Fewest held-out images for a test of memorisation."""

Found = tuple[Arrays | Files, str]
"""Data that were found, and their name."""

_UNCHANGED = Pictures()

_LONGEST = 4096
"""Most characters of a path."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The data to load.

    Attributes:
      path: a name that `images.load` knows, or an absolute path.
      limit: number of training images; None is all.
      hold_out: number of training images to hold out for evaluation, chosen by the seed; only for a
        source without test images.
      seed: seed of both choices.
      labels: absolute path of an .npy file of labels, in place of those of the training images.
      at_random: whether `limit` takes images at random, the same share of every class; earlier
        versions took the first.
      pictures: how pictures become images of one size.
      codes: whether the source holds the user's own codes.
    """

    path: str
    limit: int | None = None
    hold_out: int = 0
    seed: int = 0
    labels: str | None = None
    at_random: bool = False
    pictures: PictureOptions = AS_THEY_ARE
    codes: bool = False

    def check(self) -> None:
        """Refuse a source that no run can have recorded.

        Raises:
          ValueError: if a path is neither known nor absolute, or a number is out of its range.
        """
        for name, path in (("path", self.path), ("labels", self.labels)):
            known = path is None or (name == "path" and path in images.NAMES)
            if not known and not _is_absolute(str(path)):
                raise ValueError(f"`source.{name}` is {path!r:.80}, not an absolute path")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"`source.limit` is {self.limit}, not at least 2")
        if self.hold_out and self.hold_out < MIN_HELD_OUT:
            raise ValueError(f"`source.hold_out` is {self.hold_out}, not at least {MIN_HELD_OUT}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`source.seed` is {self.seed}, not from 0 to {2**32 - 1}")
        self.pictures.pictures()


@dataclasses.dataclass(frozen=True)
class Splits:
    """The loaded data.

    Attributes:
      train: images, rows of a table or codes to fit.
      held_out: data of the same kind that are not fitted; None if there are none.
      kind: "test" if the source has a test split, "held out" if `hold_out` was used, else None.
    """

    train: ImageSet | Table
    held_out: ImageSet | Table | None
    kind: str | None

    def fingerprint(self) -> str:
        """SHA-256 of the training data, to identify the data set."""
        return hashlib.sha256(np.ascontiguousarray(self.train.values).data).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Name, sizes, shape and fingerprint, for config.json and metrics.json."""
        return {
            "name": self.train.name,
            "num_images": len(self.train),
            "num_held_out": 0 if self.held_out is None else len(self.held_out),
            "held_out": self.kind,
            "image_shape": list(self.train.values.shape[1:]),
            "label_names": None if self.train.label_names is None else [*self.train.label_names],
            "skipped": [*self.train.skipped],
            "sha256": self.fingerprint(),
        }


def absolute(path: str) -> str:
    """Make a path absolute; a known name stays.

    Raises:
      ValueError: if the path is not valid.
    """
    if path in images.NAMES:
        return path
    try:
        return os.path.realpath(Path(path).expanduser())
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the path {path!r} cannot be used ({error}); check it.") from error


def _is_absolute(path: str) -> bool:
    return len(path) < _LONGEST and "\0" not in path and Path(path).is_absolute()


@contextlib.contextmanager
def typed(option: str) -> Iterator[None]:
    """Name the option, as the user types it, where an error names the argument `source`."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        text = str(error).replace("`source`", f"`{option}`")
        if text == str(error):
            raise
        kinds = (FileNotFoundError, ConnectionError, OSError, ImportError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(text) from error


def load(
    source: Source,
    on_progress: Report | None = None,
    *,
    option: str | None = None,
    found: Found | None = None,
) -> Splits:
    """Load the images of a source, or its table, or its codes.

    Args:
      source: the data to load.
      on_progress: called with the number of pictures decoded and the total.
      option: the option of the source, for errors; None is that of ``fit``.
      found: the training data, if they have been found already.

    Raises:
      ValueError: if an option does not fit the images, or they cannot be used.
      FileNotFoundError: if the path does not exist.
      ConnectionError: if a download fails.
      ImportError: if a library for the source is missing.
    """
    with typed(option or ("--codes" if source.codes else "--data")):
        return _load(source, on_progress, found)


def _load(source: Source, on_progress: Report | None, found: Found | None) -> Splits:
    asked = "codes" if source.codes else "images or rows"
    if source.limit is not None and source.limit < 2:
        raise ValueError(f"`--limit` is {source.limit}; pass at least 2 {asked}.")
    if source.hold_out and source.hold_out < MIN_HELD_OUT:
        raise ValueError(
            f"`--hold-out` is {source.hold_out}; pass 0, or at least {MIN_HELD_OUT} {asked}."
        )
    pictures = source.pictures.pictures()
    train = images.made(
        *(found or sources.find(source.path, "train")),
        source.path,
        pictures=pictures,
        labels=None if source.labels is None else _read_labels(source.labels),
        labels_are=f"the labels of `--labels-file` {source.labels!r}",
        limit=source.limit if source.at_random else None,
        seed=source.seed,
        on_progress=on_progress,
    )
    _check_kind(source, train)
    if isinstance(train, Table):
        columns.varying("source", columns.check("source", train.rows, "rows"), "rows")
    test = load_test(source.path, like(pictures, train), on_progress)
    if test is not None:
        test = _numbered_alike(test, train.label_names)
    if isinstance(test, Table) and not np.isfinite(test.rows).all():
        raise ValueError(
            f"`source` {source.path!r} has test data that are not finite; drop such rows, found by "
            "~np.isfinite(x_test).all(axis=1)."
        )
    if test is not None and test.values.shape[1:] != train.values.shape[1:]:
        way = "make them of one size"
        way += " with --image-size" if isinstance(train, ImageSet) else ""
        raise ValueError(
            f"`source` {source.path!r} has test data of shape {test.values.shape[1:]}, but "
            f"training data of shape {train.values.shape[1:]}; {way}."
        )
    if source.limit is not None and not source.at_random:
        train = train.take(np.arange(min(source.limit, len(train))))
    if not source.hold_out:
        return Splits(train, test, None if test is None else "test")
    if test is not None:
        raise ValueError(
            f"`--hold-out` is {source.hold_out}, but {source.path!r} has {len(test)} test "
            f"{things(source, train)} of its own; leave the option out."
        )
    if source.hold_out > len(train) // 2:
        raise ValueError(
            f"`--hold-out` is {source.hold_out}, more than half of {len(train)} "
            f"{things(source, train)}; keep more to learn from."
        )
    order = np.random.default_rng(source.seed).permutation(len(train))
    kept, aside = np.sort(order[source.hold_out :]), np.sort(order[: source.hold_out])
    return Splits(train.take(kept), train.take(aside), "held out")


def things(source: Source, train: ImageSet | Table) -> str:
    """What the data are: "images", "rows" or "codes"."""
    return "images" if isinstance(train, ImageSet) else "codes" if source.codes else "rows"


def _check_kind(source: Source, train: ImageSet | Table) -> None:
    """Refuse images given as --codes."""
    if source.codes and isinstance(train, ImageSet):
        raise ValueError(
            f"`--codes` {source.path!r} holds images of shape {train.images.shape[1:]}, and no "
            "floats of shape (n, dimensions); pass codes, or give the images as --data."
        )


def like(pictures: Pictures, train: ImageSet | Table) -> Pictures:
    """The options for test images, so that they have the channels of the training images."""
    if isinstance(train, Table):
        return pictures
    return dataclasses.replace(pictures, colour="grey" if train.images.shape[-1] == 1 else "colour")


def _numbered_alike(test: ImageSet | Table, names: tuple[str, ...] | None) -> ImageSet | Table:
    """Renumber the classes of the test images to match the training images, by name."""
    if test.labels is None or test.label_names is None or names in (None, test.label_names):
        return test
    more = [name for name in test.label_names if name not in names]
    number = {name: i for i, name in enumerate((*names, *more))}
    numbers = np.array([number[name] for name in test.label_names], np.int32)
    return dataclasses.replace(test, labels=numbers[test.labels], label_names=(*names, *more))


def load_test(
    path: str, pictures: Pictures = _UNCHANGED, on_progress: Report | None = None
) -> ImageSet | Table | None:
    """Load the test data of a source, or None if it has no test split."""
    if path == "digits" or (path not in images.NAMES and _archive_without_test(Path(path))):
        return None
    try:
        return images.read(path, split="test", pictures=pictures, on_progress=on_progress)
    except FileNotFoundError:
        return None  # the split does not exist


def _read_labels(path: str) -> np.ndarray:
    if not Path(path).is_file():
        raise FileNotFoundError(f"`--labels-file` {path!r} is not a file; check the path.")
    if zipfile.is_zipfile(path):
        raise ValueError(f"`--labels-file` {path!r} is an .npz file; pass an .npy file.")
    try:
        return archives.read_npy(path)
    except ValueError as error:
        raise ValueError(
            f"`--labels-file` {path!r} cannot be read ({error}); write integers with np.save."
        ) from error


def _archive_without_test(path: Path) -> bool:
    path = Path(os.path.expanduser(path))
    if not path.is_file() or path.suffix.lower() != ".npz":
        return False
    try:
        return not archive.has_split(path, "test")
    except ValueError:
        return True  # reading the training images reports the error

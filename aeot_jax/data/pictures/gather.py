"""Many pictures, decoded into one array; broken ones are named."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from aeot_jax.data.found import Files, Report
from aeot_jax.data.pictures.decode import decode, look
from aeot_jax.data.pictures.opening import SizeError
from aeot_jax.data.pictures.shaping import Pictures, check_sides, way_out
from aeot_jax.data.pictures.threads import Broken, read_all
from aeot_jax.reprs import brief
from aeot_jax.storage.files import reason

_LISTED = 10
"""Most files that an error names."""

_SKIP = "(in Python `pictures=images.Pictures(skip_broken=True)`)"
"""The option of the command line in the other language."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """Decoded pictures.

    Attributes:
      images: images of the pictures that could be read.
      rows: their rows in the data set, ascending.
      notes: remarks for the user, one sentence each.
      skipped: the pictures that could not be read, each with the reason.
    """

    images: UInt8[np.ndarray, "n h w c"]
    rows: Int[np.ndarray, " n"]
    notes: tuple[str, ...]
    skipped: tuple[str, ...]

    __repr__ = brief


def gather(
    files: Files,
    rows: Sequence[int],
    pictures: Pictures,
    shown: str,
    report: Report | None = None,
) -> Gathered:
    """Decode the pictures of some rows.

    Args:
      files: the data set.
      rows: rows of the data set, ascending.
      pictures: how pictures become images of one size.
      shown: name of the data set, for errors.
      report: called as the work proceeds.

    Raises:
      ImportError: if a library for a format is missing.
      ValueError: if pictures have several sizes and none was requested; or if some cannot be read:
        it names up to ten.
    """

    def decoded(file: io.BufferedIOBase) -> UInt8[np.ndarray, "h w c"] | tuple[int, int]:
        """The image, or its size if that is wrong."""
        try:
            return decode(file, pictures, size)
        except SizeError as error:
            return error.size

    # pillow warns of damage before it raises, and of sizes that are refused anyway
    with warnings.catch_warnings(action="ignore"):
        size = pictures.size or _first_size(files, rows, pictures, shown)
        result = _Result(len(rows), size, pictures)
        broken: list[tuple[int, str]] = []
        done = 0
        with contextlib.closing(read_all(files, rows, decoded)) as stream:
            for row, found in stream:
                if isinstance(found, tuple):
                    raise _mixed(files, rows, size, row, found, shown)
                if isinstance(found, Broken):
                    broken.append((row, found.why))
                    if len(broken) > _LISTED and not pictures.skip_broken:
                        break
                else:
                    result.add(row, found)
                done += 1
                if report is not None and (done % 16 == 0 or done == len(rows)):
                    report(done, len(rows))
    if broken and (not pictures.skip_broken or not result.num):
        raise _unreadable(files, broken, shown)
    skipped = tuple(f"{files.names[row]!r} ({why})" for row, why in broken)
    return Gathered(result.images(), result.rows(), result.notes(), skipped)


class _Result:
    """The array of images; it is grey until one is in colour."""

    def __init__(self, num: int, size: tuple[int, int], pictures: Pictures):
        self._images = np.empty((num, *size, pictures.channels or 1), np.uint8)
        self._rows = np.empty(num, np.int64)
        self.num = self._num_grey = 0
        self._free = pictures.channels is None

    def add(self, row: int, image: UInt8[np.ndarray, "h w c"]) -> None:
        if image.shape[-1] > self._images.shape[-1]:
            wide = np.empty((*self._images.shape[:3], 3), np.uint8)
            wide[: self.num] = self._images[: self.num]
            self._images = wide
        self._images[self.num] = image
        self._rows[self.num] = row
        self._num_grey += image.shape[-1] == 1
        self.num += 1

    def images(self) -> UInt8[np.ndarray, "n h w c"]:
        return self._images[: self.num]

    def rows(self) -> Int[np.ndarray, " n"]:
        return self._rows[: self.num]

    def notes(self) -> tuple[str, ...]:
        if not (self._free and self._images.shape[-1] == 3 and self._num_grey):
            return ()
        return (
            f"{self._num_grey:,} of {self.num:,} pictures are grey, the others in colour; all are "
            "learned in colour (--grey makes them grey, --colour says that this is meant).",
        )


def _first_size(
    files: Files, rows: Sequence[int], pictures: Pictures, shown: str
) -> tuple[int, int]:
    """Height and width of the first picture whose header can be read."""
    broken: list[tuple[int, str]] = []
    with contextlib.closing(files.stream(rows)) as stream:
        for item in stream:
            try:
                with item.open() as file:
                    height, width = look(file).size
            except ImportError:
                raise
            except Exception as error:
                broken.append((item.row, reason(error)))
                if len(broken) > _LISTED and not pictures.skip_broken:
                    break
                continue
            what = f"the image {files.full_name(files.names[item.row])!r} in `source` {shown}"
            check_sides(height, width, what)
            return height, width
    raise _unreadable(files, broken, shown)


def _mixed(
    files: Files,
    rows: Sequence[int],
    size: tuple[int, int],
    row: int,
    other: tuple[int, int],
    shown: str,
) -> ValueError:
    return ValueError(
        f"`source` {shown} has {files.names[rows[0]]!r} of {size[0]} x {size[1]} pixels but "
        f"{files.names[row]!r} of {other[0]} x {other[1]} (height x width); "
        f"{way_out(min(size[0], other[0]), min(size[1], other[1]))}."
    )


def _unreadable(files: Files, broken: list[tuple[int, str]], shown: str) -> ValueError:
    if len(broken) == 1:
        ((row, why),) = broken
        return ValueError(
            f"`source` holds {files.full_name(files.names[row])!r}, which cannot be read as an "
            f"image ({why}); repair or remove it, or leave such files out with --skip-broken "
            f"{_SKIP}."
        )
    listed = ", ".join(repr(files.names[row]) for row, _ in broken[:_LISTED])
    more = "more than " if len(broken) > _LISTED else ""
    return ValueError(
        f"`source` {shown} holds {more}{min(len(broken), _LISTED)} files that cannot be read as "
        f"images: {listed} (of the first: {broken[0][1]}); repair or remove them, or leave them "
        f"out with --skip-broken {_SKIP}."
    )

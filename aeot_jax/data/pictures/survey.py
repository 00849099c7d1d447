"""What pictures there are: sizes and colours, from headers, and which of them are broken."""

import contextlib
import io
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aeot_jax.data.found import Files, Report
from aeot_jax.data.pictures.decode import Header, decode, look
from aeot_jax.data.pictures.shaping import Pictures
from aeot_jax.data.pictures.threads import Broken, read_all

MOST_DECODED = 10**9
"""Most pixels that are decoded to find broken pictures: some seconds of work."""

_TINY = Pictures(size=(8, 8), resize="stretch")
"""All data of a file are read for it, but few pixels are kept."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What the files of some pictures hold.

    Attributes:
      headers: headers of the pictures that can be read, by row.
      broken: why the others cannot, by row.
      missing: a sentence on a library that some of these need, or None.
      step: one in so many of the pictures was decoded, the others are known by their headers.
    """

    headers: dict[int, Header]
    broken: dict[int, str]
    missing: str | None
    step: int

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of pictures of each height and width."""
        return Counter(header.size for header in self.headers.values())


@dataclass(frozen=True)
class _Missing:
    sentence: str


def survey(
    files: Files, on_progress: Report | None = None, *, most_decoded: int = MOST_DECODED
) -> Survey:
    """Read every header, then decode the pictures, or an even part of them if they are very many.

    A picture that ends early is found only when it is decoded.

    Args:
      files: the pictures.
      on_progress: called with the number of pictures looked at and the total.
      most_decoded: most pixels to decode, about.

    Raises:
      ValueError: if an archive of them is damaged.
    """
    found: dict[int, Header] = {}
    broken: dict[int, str] = {}
    missing = None
    for row, header in _read(files, range(len(files)), on_progress, decoding=False):
        if isinstance(header, Header):
            found[row] = header
        elif isinstance(header, _Missing):
            missing = broken[row] = header.sentence
        elif isinstance(header, Broken):
            broken[row] = header.why
    pixels = sum(math.prod(header.size) for header in found.values())
    step = max(1, -(-pixels // most_decoded))
    for row, image in _read(files, sorted(found)[::step], on_progress, decoding=True):
        if isinstance(image, Broken):
            del found[row]
            broken[row] = image.why
    return Survey(dict(sorted(found.items())), dict(sorted(broken.items())), missing, step)


def _read(
    files: Files, rows: Sequence[int], on_progress: Report | None, *, decoding: bool
) -> list[tuple[int, Header | _Missing | Broken | None]]:
    """The header of each picture; or, after decoding it, None, unless it is broken."""

    def one(file: io.BufferedIOBase) -> Header | _Missing | None:
        try:
            if not decoding:
                return look(file)
            decode(file, _TINY)
        except ImportError as error:
            return _Missing(str(error))
        return None

    results = []
    with (
        warnings.catch_warnings(action="ignore"),  # pillow warns before it raises
        contextlib.closing(read_all(files, rows, one)) as stream,
    ):
        for found in stream:
            results.append(found)
            done = len(results)
            if on_progress is not None and (done % 16 == 0 or done == len(rows)):
                on_progress(done, len(rows))
    return results

"""Data sets that were found but not yet decoded: names, classes, and how to read them."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

import numpy as np

from aeot_jax.reprs import brief

Report = Callable[[int, int], None]
"""Called with the number of pictures done and the total."""


class NoSplitError(FileNotFoundError):
    """A source does not have the requested split."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images in one array.

    Attributes:
      images: the images as stored.
      labels: the label of each image as stored, or None.
      label_names: names of the classes, indexed by integer labels, or None.
      notes: remarks for the user, one sentence each.
    """

    images: np.ndarray
    labels: Any = None
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    __repr__ = brief

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


@dataclass(frozen=True)
class Item:
    """A picture in a file.

    Attributes:
      row: its row in the data set.
      open: opens the file; may be called by another thread.
      num_bytes: bytes of it that are in memory already.
    """

    row: int
    open: Callable[[], BufferedIOBase]
    num_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files, an archive or a table.

    Attributes:
      names: names of the pictures.
      stream: yields the pictures of ascending rows, in this order.
      labels: the class of each (n,), or None.
      label_names: names of the classes.
      notes: remarks for the user, one sentence each.
      full_name: maps the name of a picture to its path, for errors.
      others: names of the files that are no pictures, by their suffix.
    """

    names: Sequence[str]
    stream: Callable[[Sequence[int]], Generator[Item, None, None]]
    labels: Any = None
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    full_name: Callable[[str], str] = field(default=str)
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

"""Data sets that were found and not yet read: what they hold, in which classes."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

import numpy as np

Report = Callable[[int, int], None]
"""Called with how many pictures are done, and how many there are."""


class NoSplitError(FileNotFoundError):
    """A source does not tell the asked split apart."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images in one array.

    Attributes:
      images: as they were stored.
      labels: of each image as they were stored, or None.
      label_names: of the classes that integers in `labels` count, or None.
      notes: what a user should know, one sentence each.
    """

    images: np.ndarray
    labels: Any = None
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


@dataclass(frozen=True)
class Item:
    """A picture in a file.

    Attributes:
      row: its place in the data set.
      open: opens it; may be called by another thread.
      num_bytes: that it holds in memory already.
    """

    row: int
    open: Callable[[], BufferedIOBase]
    num_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files, an archive or a table.

    Attributes:
      names: of the pictures.
      stream: gives the pictures of some rows, which ascend, in their order.
      labels: the class of each (n,), or None.
      label_names: of the classes.
      notes: what a user should know, one sentence each.
      full_name: the name of a picture as a user would find it.
    """

    names: Sequence[str]
    stream: Callable[[Sequence[int]], Generator[Item, None, None]]
    labels: Any = None
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    full_name: Callable[[str], str] = field(default=str)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

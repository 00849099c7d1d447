"""Arrays too large to be looked at whole: a few rows at a time, from memory or from a file."""

import mmap
from collections.abc import Iterator

import numpy as np

PART_BYTES = 1 << 24
"""Bytes of an array that are looked at together."""


def parts(name: str, array: np.ndarray, times: int = 1) -> Iterator[slice]:
    """Slices of the rows of an array, of 16 MiB or one row each.

    A file that has shrunk under a memory map would end the process where it is read: each slice is
    given out only while the file holds what the map promises.

    Args:
      name: the name of the argument, for errors.
      array: of one dimension or more.
      times: how many times as many bytes the rows take where they are used.

    Raises:
      ValueError: if the file of a memory map has shrunk.
    """
    step = max(1, PART_BYTES * len(array) // max(1, times * array.nbytes))
    for start in range(0, len(array), step):
        check_file(name, array)
        yield slice(start, min(start + step, len(array)))


def _mapped(array: np.ndarray) -> tuple[mmap.mmap, int] | None:
    """The memory map behind an array, and the bytes that its file must hold; None without one."""
    offset, base = 0, array
    while isinstance(base, np.ndarray | memoryview):
        offset = getattr(base, "offset", offset)
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if not isinstance(base, mmap.mmap):
        return None
    return base, offset - offset % mmap.ALLOCATIONGRANULARITY + len(base)


def check_file(name: str, array: np.ndarray) -> None:
    """Refuse a memory map whose file no longer holds all of it.

    Raises:
      ValueError: if the file has shrunk.
    """
    found = _mapped(array)
    if found is None:
        return
    mapped, needed = found
    try:
        size = mapped.size()
    except OSError:  # no file is behind it
        return
    if size < needed:
        raise ValueError(
            f"`{name}` is a memory map of a file that has shrunk from {needed} to {size} bytes; "
            "write the file again, and map it when it is whole."
        )

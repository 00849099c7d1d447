"""Which target each draw goes to, kept: a training then pairs without a product.

A table in a folder is `table.json`, sealed, and shards `00000000.npy` of rows (j - first, index) in
uint32. A shard is written whole before `table.json` names it with its checksum, so that a table
that was cut off goes on where it ended.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt32

from aeot_jax import arguments
from aeot_jax.ot.couplings import numbers
from aeot_jax.reprs import or_brief
from aeot_jax.storage import documents, files
from aeot_jax.storage.locks import locked

_HEAD = "table.json"
_KIND, _SCHEMA = "coupling table", 1

Shard = UInt32[np.ndarray, "_ 2"]
"""Numbers of draws, counted from the first of the shard, with the targets that they go to."""


@dataclass(frozen=True, eq=False)
class Table:
    """The target of each of the draws 0 to n - 1; ``table[r]`` gives (j, index).

    In a folder it lies on disk, and only what is looked at is read.

    Attributes:
      shards: rows (j - first, index), uint32; the first draw of shard s is s * shard_size.
      shard_size: rows of a shard; the last may have fewer.
    """

    shards: tuple[Shard, ...]
    shard_size: int

    def __len__(self) -> int:
        return (len(self.shards) - 1) * self.shard_size + len(self.shards[-1])

    @or_brief
    def __repr__(self) -> str:
        return f"Table({len(self):,} draws in {len(self.shards)} shards)"

    def __getitem__(self, rows: Any) -> tuple[Any, Any]:
        """Numbers of draws and their targets.

        Args:
          rows: one row, a slice, or integers (r,); negative ones count from the end.

        Returns:
          The number of the draw and the index of its target: two integers, or arrays (r,) of uint64
          and int32, for ``noise`` and for the user's rows.

        Raises:
          IndexError: if a row is beyond the table.
          ValueError: if it is no integer.
        """
        n = len(self)
        if isinstance(rows, slice):
            return self._rows(np.arange(*rows.indices(n)))
        several = np.ndim(rows) > 0
        asked = arguments.host_array("rows", rows) if several else arguments.whole("rows", rows)
        found = np.atleast_1d(np.asarray(asked))
        if found.ndim != 1 or (found.size and not np.issubdtype(found.dtype, np.integer)):
            raise ValueError(f"`rows` is {arguments.shown(found)}; pass integers of shape (r,).")
        beyond = (found < -n) | (found >= n)
        if beyond.any():
            raise IndexError(
                f"`rows` has {found[beyond][0]}, but the table has {n:,} rows; pass rows below "
                f"{n:,}."
            )
        found = found.astype(np.int64)
        j, index = self._rows(np.where(found < 0, found + n, found))
        return (j, index) if several else (int(j[0]), int(index[0]))

    def _rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shard, place = np.divmod(rows, self.shard_size)
        found = np.empty((len(rows), 2), np.uint32)
        for s in np.unique(shard):
            found[shard == s] = self.shards[s][place[shard == s]]
        first = shard.astype(np.uint64) * np.uint64(self.shard_size)
        return first + found[:, 0], found[:, 1].astype(np.int32)


Paired = Callable[[int, int], np.ndarray]
"""From the number of a draw and how many: the targets of the draws from it on."""


def in_memory(n: int, shard_size: int, paired: Paired) -> Table:
    """A table of n draws."""
    starts = range(0, n, shard_size)
    return Table(tuple(_shard(s, min(shard_size, n - s), paired) for s in starts), shard_size)


def _shard(first: int, count: int, paired: Paired) -> Shard:
    return np.stack([np.arange(count, dtype=np.uint32), paired(first, count).astype(np.uint32)], 1)


def in_folder(
    folder: Path,
    n: int,
    shard_size: int,
    identity: Mapping[str, int],
    paired: Paired,
) -> Table:
    """A table of n draws in a folder; what is there already is verified and kept.

    A table that is there is read without a lock, so that the folder may be read-only.

    Args:
      folder: made if it is missing.
      n: draws.
      shard_size: rows of a shard.
      identity: what determines the table.
      paired: makes the rows.

    Raises:
      ValueError: if the folder holds a table of another coupling or a damaged one, or is being
        written by another process.
      OSError: if it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"`path` is {str(folder)!r}, which is a file; pass a folder.")
    head = {"kind": _KIND, "schema": _SCHEMA, "shard_size": shard_size, **identity}
    draws = range(n)
    try:
        found = _finished(folder, head, draws)
    except ValueError:  # damage, or another process has just replaced a shard
        found = None
        if not os.access(folder, os.W_OK):
            raise
    if found is not None:
        return Table(found, shard_size)
    with locked(folder, "path"):
        return Table(_completed(folder, head, draws, paired), shard_size)


def _shards(draws: range, head: Mapping[str, Any]) -> Iterator[range]:
    """The draws of each shard; a table may be cut off long before they end."""
    size = head["shard_size"]
    return (draws[first : first + size] for first in range(0, len(draws), size))


def _finished(folder: Path, head: Mapping[str, Any], draws: range) -> tuple[Shard, ...] | None:
    """The shards of a table that is there; None if some are missing."""
    known, shards = _known(folder, head), []
    if sum(shard["rows"] for shard in known) < len(draws):
        return None
    for s, own in enumerate(_shards(draws, head)):
        if s >= len(known) or known[s]["rows"] < len(own):
            return None
        shards.append(_verified(folder, _place(folder, s), known[s])[: len(own)])
    return tuple(shards)


def _completed(
    folder: Path, head: Mapping[str, Any], draws: range, paired: Paired
) -> tuple[Shard, ...]:
    """The shards of a table of which some may be there; the folder is locked."""
    known, shards = _known(folder, head), []
    for s, own in enumerate(_shards(draws, head)):
        place, first, count = _place(folder, s), own.start, len(own)
        if s >= len(known) or known[s]["rows"] < count:
            if s < len(known):  # whoever is cut off now makes this shard again
                known = known[:s]
                documents.write(folder / _HEAD, {**head, "shards": known})
            with files.replacing(place) as temporary, temporary.open("wb") as file:
                np.save(file, _shard(first, count, paired), allow_pickle=False)
            known[s:] = [{"rows": count, "sha256": documents.checksum(place)}]
            documents.write(folder / _HEAD, {**head, "shards": known})
        shards.append(_verified(folder, place, known[s])[:count])
    return tuple(shards)


def _place(folder: Path, s: int) -> Path:
    """The file of a shard."""
    return folder / f"{s:08}.npy"


def _known(folder: Path, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shards that a folder holds for this table."""
    place = folder / _HEAD
    if not place.exists():
        return []
    try:
        found = documents.read(place)
        if documents.SEAL not in found or not _is_list_of_shards(found.get("shards")):
            raise ValueError("it is incomplete")
    except ValueError as error:
        raise ValueError(_damaged(folder, _HEAD, error)) from error
    for name, value in head.items():
        if found.get(name) != value:
            raise ValueError(
                f"`path` {str(folder)!r} holds a table of another coupling: its {name} is "
                f"{arguments.shown(found.get(name))}, not {arguments.shown(value)}; pass another "
                "folder."
            )
    return found["shards"]


def _is_list_of_shards(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(shard, dict)
        and type(shard.get("rows")) is int
        and isinstance(shard.get("sha256"), str)
        for shard in value
    )


def _verified(folder: Path, place: Path, known: Mapping[str, Any]) -> Shard:
    """A shard on disk, whose checksum is right."""
    try:
        if documents.checksum(place) != known["sha256"]:
            raise ValueError("its checksum differs")
        shard = np.load(place, mmap_mode="r", allow_pickle=False)
        if shard.dtype != np.uint32 or shard.shape != (known["rows"], 2):
            raise ValueError(f"it holds {arguments.shown(shard)}")
    except (OSError, ValueError) as error:
        raise ValueError(_damaged(folder, place.name, error)) from error
    return shard


def _damaged(folder: Path, name: str, error: Exception) -> str:
    return (
        f"`path` {str(folder)!r} holds a damaged table: {name} cannot be used "
        f"({files.reason(error).rstrip('.')}); remove the folder, and call `table` again."
    )


def check_size(n: Any, shard_size: Any) -> tuple[int, int]:
    """Check how many draws a table has, and how many a shard.

    Raises:
      ValueError: if there are none, or more than have numbers.
    """
    n = arguments.whole("n", n, "how many draws")
    if not 1 <= n <= numbers.MOST:
        raise ValueError(f"`n` is {n}; pass how many draws the table has, at least 1.")
    return n, arguments.count("shard_size", shard_size, what="how many draws a shard has")

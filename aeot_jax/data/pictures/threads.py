"""Many files of pictures, read by several threads, in their order.

Threads, not processes: pillow releases the GIL while it decodes and resizes, and threads need no
copies between them. For small pictures most of the time is Python's, about 0.2 ms per picture.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedIOBase
from typing import TypeVar

from aeot_jax.data.found import Files, Item
from aeot_jax.storage.files import reason

_CHUNK, _CHUNK_BYTES = 32, 2**25
"""Most pictures, and most bytes in memory, of one task of a thread."""

_MOST_THREADS = 16

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Broken:
    """A picture that cannot be read.

    Attributes:
      why: the reason.
    """

    why: str


def read_all(
    files: Files, rows: Sequence[int], read: Callable[[BufferedIOBase], _Result]
) -> Generator[tuple[int, _Result | Broken], None, None]:
    """Yield each row with what `read` makes of its file; threads read a few of them ahead.

    Args:
      files: the data set.
      rows: rows of the data set, ascending.
      read: called by threads, with a file open to read bytes.

    Raises:
      ImportError: if `read` does; every other error makes a picture broken.
    """
    workers = _threads()
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(workers, "pictures")
    try:
        for chunk in _chunks(files.stream(rows)):
            waiting.append(pool.submit(_read_chunk, chunk, read))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += item.num_bytes
        if len(chunk) == _CHUNK or held > _CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _read_chunk(
    chunk: list[Item], read: Callable[[BufferedIOBase], _Result]
) -> list[tuple[int, _Result | Broken]]:
    results: list[tuple[int, _Result | Broken]] = []
    for item in chunk:
        try:
            with item.open() as file:
                results.append((item.row, read(file)))
        except ImportError:
            raise
        except Exception as error:
            results.append((item.row, Broken(reason(error))))
    return results


def _threads() -> int:
    known = getattr(os, "sched_getaffinity", None)
    count = len(known(0)) if known is not None else os.cpu_count() or 1
    return min(count, _MOST_THREADS)

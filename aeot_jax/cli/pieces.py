"""A large array, written in pieces to an .npy or .npz file, atomically."""

import contextlib
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from aeot_jax.storage import files


def check_room(path: Path, num_bytes: int, name: str) -> None:
    """Check, before any work, that the disk has room.

    Args:
      path: the file.
      num_bytes: bytes of the array; compressed, it may take less.
      name: the option that sets the number, for the error.

    Raises:
      ValueError: if less space is free.
    """
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"`{name}` asks for {num_bytes / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free in "
            f"{str(folder)!r}; make fewer, or write to another disk."
        )


@contextlib.contextmanager
def writing(
    path: Path, name: str, rows: int, row: np.ndarray
) -> Iterator[Callable[[np.ndarray], None]]:
    """Open a file for an array.

    Args:
      path: ends in .npy or .npz; an older file stays until the new one is complete.
      name: name of the array in an .npz file.
      rows: number of rows of the array.
      row: any row, for shape and dtype.

    Yields:
      A function that writes the next rows.
    """
    with files.replacing(path) as temporary, _opened(temporary, name) as file:
        shape = (rows, *row.shape)
        header = {"descr": row.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda piece: _write(file.write, piece)


def _write(write: Callable[[bytes], int], piece: np.ndarray) -> None:
    write(np.ascontiguousarray(piece).tobytes())


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.suffix.lower() == ".npy":
        with path.open("wb") as file:
            yield file
        return
    packing = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packing as archive, archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        yield file

"""Arrays in .npz and .npy files: headers are checked before memory is allocated.

A header may claim anything. It is read from the first bytes alone. The size that it announces must
be that of the data in the file, below a limit, and in proportion to the compressed size. An error
is a reason ("its header announces ..."), which the caller completes to a sentence.
"""

import io
import math
import os
import reprlib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from aeot_jax.storage.files import open_file, reason

LIMIT = 2**36
"""Most bytes that are read from one file, by default."""

FREE, GROWTH = 2**27, 200
"""Data may be `GROWTH` times as large as the compressed file; up to `FREE` bytes always pass.

Images grow 1 to 120 times (dSprites, the emptiest in use); zeros grow 1,030 times.
"""

KINDS = "biufcSU"
"""Kinds of dtype that are plain numbers or text."""

_CHUNK = 2**20  # bytes read at once
_HEAD = 2**14  # bytes; every header fits, as NumPy allows 10,000
_AXES = 32
_ENCRYPTED = 1  # flag of a member

# Version 3.0 is for field names that are not Latin-1; arrays here have no fields.
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@runtime_checkable
class Readable(Protocol):
    """A file open to read bytes, or a stream that decompresses one."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; none at the end."""
        ...


@dataclass(frozen=True)
class Header:
    """The header of an array.

    Attributes:
      shape: shape of the array.
      dtype: its dtype, of an allowed kind.
      fortran_order: whether the first index varies fastest in the file.
      start: bytes before the data.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    start: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open .npz file; see `open_npz`."""

    def __init__(self, file: zipfile.ZipFile, size: int, kinds: str, limit: int):
        self._file, self._size, self._kinds, self._limit = file, size, kinds, limit
        self._taken = 0
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in file.infolist():
            name = info.filename.removesuffix(".npy")
            if name in self._members:
                raise ValueError(f"it holds two members called {reprlib.repr(name)}")
            self._members[name] = info
            if info.comment:
                raise ValueError(
                    f"its member {reprlib.repr(name)} has a comment: it may hide others"
                )
            # A name is in the directory and before the data. If they differ, one is damaged, and a
            # caller might think that a member is missing: `open` compares them.
            if not info.flag_bits & _ENCRYPTED:
                file.open(info).close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, without ".npy", in file order."""
        return tuple(self._members)

    def header(self, name: str) -> Header:
        """Read and check the header of one member; no memory is allocated for the data.

        Raises:
          ValueError: if the member is damaged, encrypted, not an array, of a dtype that is not
            allowed, of another size than its header announces, or too large.
        """
        info = self._members[name]
        if info.flag_bits & _ENCRYPTED:
            raise ValueError("it is encrypted")
        # NumPy never writes the other methods, and zipfile decompresses them without a bound.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"it is compressed by method {info.compress_type}, which is not NumPy")
        if not info.filename.endswith(".npy"):
            raise ValueError("it is a file of another kind")
        with _reasons(), self._file.open(info) as member:
            header, _ = _header(member, self._kinds)
        _check_follows(header, info.file_size - header.start)
        check_size(header.num_bytes, self._size, limit=self._limit)
        return header

    def headers(self) -> Mapping[str, Header]:
        """Read the headers of all members, and check the total size too.

        Raises:
          ValueError: as for `header`; it names the member.
        """
        found = {}
        for name in self.names:
            try:
                found[name] = self.header(name)
            except ValueError as error:
                raise ValueError(f"of its member {reprlib.repr(name)}: {error}") from error
        total = sum(header.num_bytes for header in found.values())
        check_size(total, self._size, limit=self._limit)
        return found

    def read(self, name: str) -> np.ndarray:
        """Read one member; the total read from this archive stays below the limit.

        Raises:
          ValueError: as for `header`, and if the data are damaged.
        """
        self._taken += self.header(name).num_bytes
        check_size(self._taken, self._size, limit=self._limit)
        with _reasons(), self._file.open(self._members[name]) as member:
            return _array(member, *_header(member, self._kinds))


@contextmanager
def open_npz(
    path: str | os.PathLike[str], *, kinds: str = KINDS, limit: int = LIMIT
) -> Iterator[Archive]:
    """Open an .npz file, as a context manager.

    Args:
      path: the file.
      kinds: allowed kinds of dtype (`numpy.dtype.kind`).
      limit: most bytes of data to read.

    Yields:
      The archive; its members are listed, but their data are not read.

    Raises:
      OSError: if the file does not exist or cannot be read.
      ValueError: if it is not a zip file, its directory is damaged, or two members share a name.
    """
    with Sparing(open_file(path).detach()) as file:
        with _reasons():
            size = os.fstat(file.fileno()).st_size
            archive = Archive(zipfile.ZipFile(file), size, kinds, limit)
        yield archive


def read_npy(path: str | os.PathLike[str], *, kinds: str = KINDS, limit: int = LIMIT) -> np.ndarray:
    """Read an .npy file.

    Args:
      path: the file.
      kinds: allowed kinds of dtype.
      limit: most bytes of data to read.

    Raises:
      OSError: if the file does not exist or cannot be read.
      ValueError: if it is damaged, of another size than its header announces, of another kind, or
        too large.
    """
    with open_file(path) as file, _reasons():
        size = os.fstat(file.fileno()).st_size
        header, first = _header(file, kinds)
        _check_follows(header, size - header.start)
        check_size(header.num_bytes, size, limit=limit)
        return _array(file, header, first)


def check_size(num_bytes: int, held: int, *, limit: int = LIMIT) -> None:
    """Refuse data that are too large, or too large for the size of the file.

    Args:
      num_bytes: total bytes to read.
      held: bytes of the file, compressed or not.
      limit: most bytes to read.

    Raises:
      ValueError: with a reason.
    """
    if num_bytes > limit:
        raise ValueError(f"it announces {_size(num_bytes)}, more than the limit of {_size(limit)}")
    if num_bytes > max(FREE, GROWTH * held):
        raise ValueError(
            f"it announces {_size(num_bytes)} in a file of {_size(held)}, over {GROWTH} times as "
            "much as is stored; if you trust it, store it without compression"
        )


def fill(view: memoryview, file: Readable) -> None:
    """Fill a buffer from a file, in chunks; the file must end where the buffer does.

    Raises:
      ValueError: if the file ends earlier or later.
    """
    at = 0
    while at < len(view):
        part = file.read(min(_CHUNK, len(view) - at))
        if not part:
            raise ValueError(f"it announces {len(view)} bytes, but {at} follow")
        view[at : at + len(part)] = part
        at += len(part)
    if file.read(1):
        raise ValueError(f"it announces {len(view)} bytes, but more follow")


def _header(file: Readable, kinds: str) -> tuple[Header, bytes]:
    """The header, and the first bytes of the data, which are read with it."""
    first = io.BytesIO(file.read(_HEAD))
    version = np.lib.format.read_magic(first)
    if version not in _READ_HEADER:
        raise ValueError(f"its format is {version[0]}.{version[1]}, not 1.0 or 2.0")
    with warnings.catch_warnings(action="ignore"):  # Python warns about the text of damaged headers
        shape, fortran_order, dtype = _READ_HEADER[version](first)
    if dtype.hasobject:
        raise ValueError("it holds objects, which would need pickle")
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise ValueError(f"its type {dtype.str} is not one that is read")
    if len(shape) > _AXES:
        raise ValueError(f"its header announces {len(shape)} axes")
    if not all(0 <= side < 2**63 for side in shape):
        raise ValueError("its header announces an impossible side")
    # An empty array may still have axes whose product overflows.
    if math.prod(max(side, 1) for side in shape) * dtype.itemsize >= 2**63:
        raise ValueError(f"its header announces the shape {shape}, which no memory holds")
    return Header(shape, dtype, fortran_order, first.tell()), first.read()


def _check_follows(header: Header, follow: int) -> None:
    if header.num_bytes != follow:
        raise ValueError(
            f"its header announces {header.num_bytes} bytes, shape {header.shape}, "
            f"but {follow} follow"
        )


def _array(file: Readable, header: Header, first: bytes) -> np.ndarray:
    flat = np.empty(header.num_bytes, np.uint8)
    flat[: len(first)] = np.frombuffer(first, np.uint8)
    fill(flat.data[len(first) :], file)
    array = flat.view(header.dtype)
    if header.fortran_order:
        return array.reshape(header.shape[::-1]).T
    return array.reshape(header.shape)


class Sparing(io.BufferedReader):
    """A file that gives at most `most` bytes per read, by default a megabyte.

    zipfile reads the whole directory at once and makes an object from every 46 bytes of it.
    """

    def __init__(self, raw: io.RawIOBase, most: int = _CHUNK):
        super().__init__(raw)
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; raises ValueError, with a reason, if it would be more than `most` bytes."""
        asked = self.most + 1 if size is None or size < 0 else min(size, self.most + 1)
        data = super().read(asked)
        if len(data) > self.most:
            most = "a megabyte" if self.most == _CHUNK else _size(self.most)
            raise ValueError(f"its list of members takes more than {most}")
        return data


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn every error of the zip and header readers into a ValueError.

    Damaged bytes raise almost anything: SyntaxError, RecursionError, zlib.error, struct.error,
    NotImplementedError.
    """
    try:
        yield
    except EOFError as error:
        raise ValueError("it ends early") from error
    except MemoryError as error:
        raise ValueError("it takes more memory than there is") from error
    except Exception as error:
        raise ValueError(reason(error)) from error


def _size(num_bytes: int) -> str:
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.1f} {name}"
    return f"{num_bytes:,} bytes"

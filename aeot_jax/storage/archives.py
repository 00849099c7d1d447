"""Arrays in .npz and .npy files: no memory is taken before headers have been held against facts.

A header may claim anything. Here it is read from the first bytes alone; what it announces must be
what the file holds, stay below a limit, and not have grown out of all proportion to the file.
Errors are reasons ("its header announces ..."), which the caller completes to a sentence.
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
"""Most bytes that are read from one file, unless the caller says less."""

FREE, GROWTH = 2**27, 200
"""Compressed bytes may become `GROWTH` times as many; up to `FREE` bytes as many as they like.

Images grow 1 to 120 times (dSprites, the emptiest that are in use); zeros grow 1,030 times.
"""

KINDS = "biufcSU"
"""Kinds of dtype that are plain numbers or text."""

_CHUNK = 2**20  # bytes read at once
_HEAD = 2**14  # bytes that hold any header: NumPy allows 10,000
_AXES = 32
_ENCRYPTED = 1  # flag of a member

# The third version holds names of fields that are not Latin; there are no fields here.
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@runtime_checkable
class Readable(Protocol):
    """A file that is open to read bytes, or what unpacks one."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


@dataclass(frozen=True)
class Header:
    """What an array's header announces.

    Attributes:
      shape: of the array.
      dtype: of a kind that was allowed.
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
    """An .npz file that is open; see `open_npz`."""

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
            # A name stands in the list and before the data. Where they differ one is damaged, and a
            # caller might take a member to be missing.
            if not info.flag_bits & _ENCRYPTED:
                file.open(info).close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, without ".npy", in the order of the file."""
        return tuple(self._members)

    def header(self, name: str) -> Header:
        """Read the header of one member and check it; no memory is taken for the data.

        Raises:
          ValueError: if the member is damaged, encrypted, no array, of a dtype that is not allowed,
            or not as large as its header announces; or if it is too large.
        """
        info = self._members[name]
        if info.flag_bits & _ENCRYPTED:
            raise ValueError("it is encrypted")
        # The others are never written by NumPy, and zipfile unpacks them without a bound.
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
        """Read the headers of all members, and check their sum too.

        Raises:
          ValueError: as for `header`, naming the member.
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
        """Read one member; all that have been read from this archive stay below the limit together.

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
    """Open an .npz file for the time of a ``with``.

    Args:
      path: the file.
      kinds: the kinds of dtype (`numpy.dtype.kind`) that arrays may have.
      limit: most bytes of data to read.

    Yields:
      The archive; its members have been listed, and their data not been read.

    Raises:
      OSError: if there is no such file, or it may not be read.
      ValueError: if it is no zip file, its list of members is damaged, or two have one name.
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
      kinds: the kinds of dtype that the array may have.
      limit: most bytes of data to read.

    Raises:
      OSError: if there is no such file, or it may not be read.
      ValueError: if it is damaged, not as large as its header announces, of another kind, or too
        large.
    """
    with open_file(path) as file, _reasons():
        size = os.fstat(file.fileno()).st_size
        header, first = _header(file, kinds)
        _check_follows(header, size - header.start)
        check_size(header.num_bytes, size, limit=limit)
        return _array(file, header, first)


def check_size(num_bytes: int, held: int, *, limit: int = LIMIT) -> None:
    """Refuse to take memory for bytes that are too many, or too many for what a file holds.

    Args:
      num_bytes: what is to be read, in all.
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
    """Fill memory from a file, a little at a time; the file must end where the memory does.

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
    """The header, and the first bytes of the data, which were read with it."""
    first = io.BytesIO(file.read(_HEAD))
    version = np.lib.format.read_magic(first)
    if version not in _READ_HEADER:
        raise ValueError(f"its format is {version[0]}.{version[1]}, not 1.0 or 2.0")
    with warnings.catch_warnings(action="ignore"):  # Python's, on the text of damaged headers
        shape, fortran_order, dtype = _READ_HEADER[version](first)
    if dtype.hasobject:
        raise ValueError("it holds objects, which would need pickle")
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise ValueError(f"its type {dtype.str} is none that is read")
    if len(shape) > _AXES:
        raise ValueError(f"its header announces {len(shape)} axes")
    if not all(0 <= side < 2**63 for side in shape):
        raise ValueError("its header announces a side that no array has")
    # An array without elements may still have more than can be counted along its other axes.
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
    """A file that gives at most so many bytes at a time, by default a megabyte.

    zipfile reads the list of members at once and makes an object of every 46 bytes of it.
    """

    def __init__(self, raw: io.RawIOBase, most: int = _CHUNK):
        super().__init__(raw)
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; raises ValueError, a reason, where it is too much."""
        asked = self.most + 1 if size is None or size < 0 else min(size, self.most + 1)
        data = super().read(asked)
        if len(data) > self.most:
            most = "a megabyte" if self.most == _CHUNK else _size(self.most)
            raise ValueError(f"its list of members takes more than {most}")
        return data


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever zip and header readers raise, as a ValueError: damaged bytes raise almost anything.

    Said in particular: SyntaxError, RecursionError, zlib.error, struct.error, NotImplementedError.
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

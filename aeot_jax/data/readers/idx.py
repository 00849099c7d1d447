"""IDX files: the format of MNIST and of similar sets."""

import gzip
import math
import os
import re
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np

from aeot_jax.storage.archives import check_size, fill
from aeot_jax.storage.files import open_file, reason

DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
"""Errors of a gzip stream that is damaged or ends early."""

_UBYTE = 8
_AXES = 4
_HEAD = 2**16  # the first bytes of a gzip file, which must hold the IDX header
_NAME = re.compile(r"(?:.*-)?(train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")


def read(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or raw.

    The header is two zero bytes, the type, the number of axes, and the length of each axis as a
    big-endian int32; the values follow, row-major. It is read first; no more memory is allocated,
    and no more bytes are decompressed, than it announces.

    Returns:
      The array.

    Raises:
      ValueError: if the file is damaged, truncated, holds another type, or is too large.

    Source: LeCun, Cortes and Burges, "The MNIST database", section "File formats".
    """
    try:
        with open_file(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except DAMAGED_GZIP as error:
        raise ValueError(
            f"`source` holds {str(path)!r}, a damaged gzip file ({reason(error)}); fetch it again."
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"`source` holds {str(path)!r}: {reason(error)}.") from error


def _read(file: BufferedReader, size: int) -> np.ndarray:
    """Read a file of `size` bytes."""
    first = file.read(_HEAD)
    file.seek(0)
    zipped = is_gzip(first)
    # Only from the first bytes: the gzip header may hold an endless name or comment.
    head = zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(first, _HEAD) if zipped else first
    shape = _shape(head)
    start, num_bytes = 4 + 4 * len(shape), math.prod(shape)
    if not zipped and size - start != num_bytes:
        raise ValueError(
            f"its header announces {num_bytes} bytes, shape {shape}, but {size - start} follow; "
            "fetch it again"
        )
    # gzip hardly enlarges data, but a file may consist of many empty parts
    if size > 2 * num_bytes + _HEAD:
        raise ValueError(f"its header announces {num_bytes} bytes in {size}; fetch it again")
    check_size(num_bytes, size)
    flat = np.empty(num_bytes, np.uint8)
    with gzip.GzipFile(fileobj=file) if zipped else file as stream:
        stream.read(start)
        try:
            fill(flat.data, stream)
        except ValueError as error:
            raise ValueError(f"{error}; fetch it again") from error
    return flat.reshape(shape)


def _shape(head: bytes) -> tuple[int, ...]:
    """The shape in the header of an IDX file."""
    if len(head) < 4 or head[:2] != b"\0\0":
        raise ValueError("it is not an IDX file; replace it")
    kind, axes = head[2], head[3]
    if kind != _UBYTE:
        raise ValueError(
            f"it is an IDX file of type 0x{kind:02x}; write it as unsigned bytes (type 0x08)"
        )
    if not 1 <= axes <= _AXES:
        raise ValueError(f"it has {axes} axes where images have 3 and labels 1; fetch it again")
    if len(head) < 4 + 4 * axes:
        raise ValueError("it ends in its header; fetch it again")
    shape = struct.unpack(f">{axes}I", head[4 : 4 + 4 * axes])
    if 0 in shape:
        raise ValueError(f"its header announces the shape {shape}, which is empty; replace it")
    return shape


def is_gzip(data: bytes) -> bool:
    """Whether bytes are gzipped, by their signature: the suffix of a file may be wrong."""
    return data.startswith(b"\x1f\x8b")


def is_folder(folder: Path) -> bool:
    """Whether the folder holds IDX files of images with their usual names."""
    return any(_NAME.fullmatch(path.name) for path in folder.iterdir())


def read_folder(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the images of one split, and the labels if their file exists.

    Args:
      folder: the folder of ``train-images-idx3-ubyte`` and so on, with or without ``.gz``, a dot in
        place of the dash before ``idx3``, or a prefix such as ``emnist-letters-``; the test set is
        ``t10k`` or ``test``.
      split: "train" or "test".

    Returns:
      Images (n, h, w) uint8 and labels (n,) uint8 or None.

    Raises:
      FileNotFoundError: if the split does not exist.
      ValueError: if a file is damaged or there is more than one candidate.
    """
    stems = ("train",) if split == "train" else ("t10k", "test")
    # A raw file and its gzipped copy are one candidate; the raw one is read, for speed.
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match and match[1] in stems:
            found.setdefault(path.name.removesuffix(".gz"), path)
    if not found:
        raise FileNotFoundError(
            f"`source` {str(folder)!r} has no file {stems[0]}-images-idx3-ubyte[.gz], the images "
            f"of split {split!r}; add it or pass another split."
        )
    if len(found) > 1:
        names = sorted(found)
        raise ValueError(
            f"`source` {str(folder)!r} holds several sets of images ({names[0]!r}, {names[1]!r}); "
            "keep one set per folder."
        )
    ((name, path),) = found.items()
    return read(path), _read_labels(folder, name)


def _read_labels(folder: Path, name: str) -> np.ndarray | None:
    prefix, _, suffix = name.rpartition("images")
    for dash in "-.":
        stem = prefix + "labels" + dash + suffix[1:].replace("idx3", "idx1")
        for path in (folder / stem, folder / f"{stem}.gz"):
            if os.path.lexists(path):  # raises later if it cannot be read
                return read(path)
    return None

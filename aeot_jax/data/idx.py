"""IDX files: the format of MNIST and of the sets made in its image."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
"""What `gunzip` raises where the stream is damaged or ends early."""

_UBYTE = 8
_NAME = re.compile(r"(?:.*-)?(train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")


def read(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or raw.

    The header is two zero bytes, the type, the number of axes, and the length of each axis as a
    big-endian int32; the values follow, row-major.

    Returns:
      The array, read-only: a view of the bytes that were read.

    Raises:
      ValueError: if the file is damaged, truncated, or holds another type.

    Source: LeCun, Cortes and Burges, "The MNIST database", section "File formats".
    """
    try:
        data = gunzip(path.read_bytes())
    except DAMAGED_GZIP as error:
        raise ValueError(
            f"`source` holds {str(path)!r}, a damaged gzip file ({error}); fetch it again."
        ) from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise ValueError(f"`source` holds {str(path)!r}, which is not an IDX file; replace it.")
    kind, axes = data[2], data[3]
    if kind != _UBYTE:
        raise ValueError(
            f"`source` holds {str(path)!r}, an IDX file of type 0x{kind:02x}; "
            "write it as unsigned bytes (type 0x08)."
        )
    start = 4 + 4 * axes
    if len(data) < start:
        raise ValueError(f"`source` holds {str(path)!r}, which ends in its header; fetch it again.")
    shape = struct.unpack(f">{axes}I", data[4:start])
    size = math.prod(shape)
    if len(data) - start != size:
        raise ValueError(
            f"`source` holds {str(path)!r}, whose header announces {size} bytes, shape {shape}, "
            f"but {len(data) - start} follow; fetch it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def gunzip(data: bytes) -> bytes:
    """Decompress if gzipped: the first bytes say so, where a file's name may not be true."""
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def is_folder(folder: Path) -> bool:
    """Whether the folder holds IDX files of images under their usual names."""
    return any(_NAME.fullmatch(path.name) for path in folder.iterdir())


def read_folder(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the images of one split, and the labels where their file is there.

    Args:
      folder: where ``train-images-idx3-ubyte`` and its kin lie, with or without ``.gz``, a dot
        before ``idx3``, or a prefix such as ``emnist-letters-``; the test set is ``t10k`` or
        ``test``.
      split: "train" or "test".

    Returns:
      Images (n, h, w) uint8 and labels (n,) uint8 or None.

    Raises:
      FileNotFoundError: if the split is not there.
      ValueError: if a file is damaged or there is more than one candidate.
    """
    stems = ("train",) if split == "train" else ("t10k", "test")
    # a raw file and its gzipped copy are one candidate; the raw one is read, for speed
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
        names = ", ".join(sorted(found))
        raise ValueError(
            f"`source` {str(folder)!r} holds several sets of images ({names}); "
            "keep one set a folder."
        )
    ((name, path),) = found.items()
    return read(path), _read_labels(folder, name)


def _read_labels(folder: Path, name: str) -> np.ndarray | None:
    prefix, _, suffix = name.rpartition("images")
    for dash in "-.":
        stem = prefix + "labels" + dash + suffix[1:].replace("idx3", "idx1")
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return read(path)
    return None

"""MATLAB files of versions 4 to 7, by SciPy; version 7.3 is HDF5."""

import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aeot_jax.data.found import Arrays
from aeot_jax.data.readers.named import one_axis, pick
from aeot_jax.storage.archives import check_size
from aeot_jax.storage.files import open_file, reason

_KINDS = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8}
_KINDS |= {"uint64": 8, "single": 4, "double": 8, "logical": 1}
"""MATLAB classes that are read, with the bytes per number; not objects or cells."""


_TYPES = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)
"""Codes of the stored number types."""

_COMPRESSED = 15
_HEAD = 2**12
"""Bytes that hold all of an array except its numbers."""


def read(path: Path, split: str) -> Arrays:
    """Read the images and labels of one split; the headers are read and checked first.

    Raises:
      NoSplitError: if there are no test images.
      ValueError: if the file is damaged or too large, or it is not clear which array holds images.
    """
    from scipy import io

    shown = repr(str(path))
    try:
        with open_file(path) as file, warnings.catch_warnings(action="ignore"):
            size = os.fstat(file.fileno()).st_size
            held = io.whosmat(file)
    except Exception as error:  # damaged bytes raise almost anything
        raise _damaged(shown, error) from error
    shapes = {name: tuple(shape) for name, shape, kind in held if kind in _KINDS}
    images, labels = pick(shapes, split, shown)
    wanted = [images] if labels is None else [images, labels]
    kinds = {name: kind for name, _, kind in held}
    try:
        total = sum(_num_values(shapes[name]) * _KINDS[kinds[name]] for name in wanted)
        check_size(total, size)
        with open_file(path) as file, warnings.catch_warnings(action="ignore"):
            if io.matlab.matfile_version(file)[0] == 1:
                _check_types(file, wanted)
            file.seek(0)
            arrays = io.loadmat(file, variable_names=wanted)
        found = [np.asarray(arrays[name]) for name in wanted]
        if any(array.dtype.kind not in "biuf" for array in found):
            raise ValueError("it holds no plain numbers")
    except Exception as error:
        raise _damaged(shown, error) from error
    return Arrays(found[0], None if labels is None else one_axis(found[1]))


def _check_types(file: BinaryIO, wanted: Sequence[str]) -> None:
    """Refuse a file of version 5 to 7 with an unknown number type.

    SciPy looks the type up in a table without a bounds check, and crashes.
    """
    file.seek(126)
    order = "<" if file.read(2) == b"IM" else ">"
    while len(tag := file.read(8)) == 8:
        kind, length = struct.unpack(f"{order}2I", tag)
        after = file.tell() + length
        head = file.read(min(length, _HEAD))
        if kind == _COMPRESSED:
            head = zlib.decompressobj().decompress(head, _HEAD)[8:]
        _check_array(head, order, wanted)
        file.seek(after)


def _check_array(head: bytes, order: str, wanted: Sequence[str]) -> None:
    """Check the beginning of an array: flags, shape, name, and the type of its numbers."""
    flags = struct.unpack_from(f"{order}I", head, 8)[0]
    at = 16
    for _ in range(2):  # the shape, then the name
        first, length = struct.unpack_from(f"{order}2I", head, at)
        if first >> 16:  # a short element, of 4 bytes at most
            text, at = head[at + 4 : at + 4 + min(4, first >> 16)], at + 8
        else:
            text, at = head[at + 8 : at + 8 + length], at + 8 + -(-length // 8) * 8
    if text.decode("latin-1") not in wanted:
        return
    if flags >> 11 & 1:
        raise ValueError("its numbers are complex")
    kind = struct.unpack_from(f"{order}I", head, at)[0]
    if (kind & 0xFFFF if kind >> 16 else kind) not in _TYPES:
        raise ValueError(f"its numbers are of type {kind}, which is unknown")


def _num_values(shape: tuple[int, ...]) -> int:
    values = 1
    for side in shape:
        if side < 0:
            raise ValueError(f"its header announces the shape {shape}")
        values *= side
    return values


def _damaged(shown: str, error: BaseException) -> ValueError:
    return ValueError(
        f"`source` {shown} cannot be read as a MATLAB file ({reason(error)}); save it again."
    )

"""MATLAB files of version 4 to 7, by scipy; those of 7.3 are HDF5."""

import os
import warnings
from pathlib import Path

import numpy as np

from aeot_jax.archives import check_size
from aeot_jax.data.found import Arrays
from aeot_jax.data.named import pick
from aeot_jax.files import open_file, reason

_KINDS = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8}
_KINDS |= {"uint64": 8, "single": 4, "double": 8, "logical": 1}
"""Classes of MATLAB that are read, and the bytes of a number; no objects and no cells."""


def read(path: Path, split: str) -> Arrays:
    """Read the images and labels of one split; headers alone are read before they are checked.

    Raises:
      NoSplitError: if there are no test images.
      ValueError: if the file is damaged, announces more than fits, or it is not clear which array
        holds images.
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
            arrays = io.loadmat(file, variable_names=wanted)
        found = [np.asarray(arrays[name]) for name in wanted]
        if any(array.dtype.kind not in "biuf" for array in found):
            raise ValueError("it holds no plain numbers")
    except Exception as error:
        raise _damaged(shown, error) from error
    return Arrays(found[0], None if labels is None else found[1].ravel())


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

"""Sets of points for the metrics: checked, in the same units, one point per row.

The metrics take images and features. Images follow the rule of ``pixels``, and bytes count as
pixels; if one set of a call holds pixels, all must. Rows of other numbers, (n, d), are unchanged.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from aeot_jax import arguments
from aeot_jax.inputs import pixels

_LARGEST = float(np.finfo(np.float32).max)
_CHECKED = 2**22
"""Numbers that are checked together."""

Rows = UInt8[np.ndarray, "_ _"] | Float[np.ndarray, "_ _"]
"""Points on the host, one per row: pixels as bytes, or float32 or float64."""


def together(**sets: Any) -> list[np.ndarray]:
    """Check sets of points that are compared with each other, and flatten each point to a row.

    If one set holds images, (n, h, w) or (n, h, w, c), or bytes, all must hold pixels: bytes, other
    integers in 0..255, bools, or floats in [0, 1]. Otherwise the points are in the caller's units.
    Arrays of uint8, float32 or float64 are not copied: 60,000 images would take four times the
    memory as floats.

    Args:
      **sets: points, (n, ...), by name, for errors; the shape of each must be that of the last.

    Returns:
      The points, (n, d) each: bytes, or floats.

    Raises:
      ValueError: if a set is empty, does not hold finite real numbers, the sizes differ, or only
        some sets hold pixels.
    """
    arrays = {name: _numbers(name, value) for name, value in sets.items()}
    if any(array.ndim in (3, 4) or array.dtype == np.uint8 for array in arrays.values()):
        arrays = {name: pixels.checked(array, f"`{name}`") for name, array in arrays.items()}
    rows = {name: _rows(name, array) for name, array in arrays.items()}
    last = list(sets)[-1]
    for name in sets:
        _check_same(arrays, rows, (name, last))
    return list(rows.values())


def _numbers(name: str, value: Any) -> np.ndarray:
    array = arguments.host_array(name, value)
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"`{name}` is traced, but metrics are computed on the host; call outside `jax.jit`."
        )
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"`{name}` has shape {array.shape}; pass at least one point, (n, d) or (n, h, w, c)."
        )
    return array


def _rows(name: str, array: np.ndarray) -> Rows:
    rows = array.reshape(array.shape[0], -1)
    if rows.dtype == np.uint8:
        return rows
    if rows.dtype.kind not in "biuf":  # bfloat16, which NumPy does not know
        rows = rows.astype(np.float32)
    wide = np.promote_types(rows.dtype, np.float32)  # integers of 32 bits or more need float64
    rows = rows.astype(np.float32 if wide == np.float32 else np.float64, copy=False)
    step = max(1, _CHECKED // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        part = rows[start : start + step]
        good = (np.abs(part) <= _LARGEST).all(axis=1)  # False for NaN
        if not good.all():
            row = int(good.argmin())
            if np.isfinite(part[row]).all():
                raise ValueError(
                    f"`{name}` holds {np.abs(part[row]).max():.3g} in row {start + row}, too large "
                    "for float32; divide all sets by one scale."
                )
            raise ValueError(
                f"`{name}` holds a value that is not finite in row {start + row}; "
                "remove or repair such rows first."
            )
    return rows


def _check_same(
    arrays: dict[str, np.ndarray], rows: dict[str, Rows], names: tuple[str, str]
) -> None:
    """Raise a ValueError unless two sets have points of one size."""
    one, other = names
    if rows[one].shape[1] != rows[other].shape[1]:
        raise ValueError(
            f"`{one}` has {rows[one].shape[1]} dimensions a point and `{other}` has "
            f"{rows[other].shape[1]}; compute both in the same space."
        )
    shapes = [tuple(side for side in arrays[name].shape[1:] if side > 1) for name in names]
    if shapes[0] != shapes[1] and all(arrays[name].ndim > 2 for name in names):
        raise ValueError(
            f"`{one}` holds pictures of shape {arrays[one].shape[1:]} and `{other}` of "
            f"{arrays[other].shape[1:]}; bring both to one shape."
        )

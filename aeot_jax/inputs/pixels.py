"""Pixels: the values that images may have, and errors that say how to rescale others.

Every function that takes images follows one rule: integers are bytes in 0..255, floats are in
[0, 1], and bools are black and white. So the same array means the same image everywhere.
"""

import math

import numpy as np
from jaxtyping import Float, UInt8

_ROUNDING = 1e-6  # a float32 pixel may lie this far outside [0, 1] by rounding


def checked(
    array: np.ndarray, subject: str
) -> UInt8[np.ndarray, "n ..."] | Float[np.ndarray, "n ..."]:
    """Check images, and convert integers and bools to bytes.

    Args:
      array: (n, ...); integers in 0..255, bools, or floats in [0, 1].
      subject: the name of the images, for errors.

    Returns:
      Bytes for integers and bools, else the floats; not copied if nothing changes.

    Raises:
      ValueError: for any other range or type.
    """
    match array.dtype.kind:
        case "b":
            return array.astype(np.uint8) * np.uint8(255)
        case "u" | "i":
            return _from_integers(array, subject)
    if not array.dtype.name.startswith(("float", "bfloat")):  # NumPy's and ml_dtypes'
        raise ValueError(
            f"the type {array.dtype} of {subject} is not a number; "
            "pass uint8 in 0..255 or floats in [0, 1]."
        )
    if array.dtype.kind != "f":  # bfloat16, which NumPy does not know
        array = array.astype(np.float32)
    check_floats(array, subject)
    return array


def check_floats(array: Float[np.ndarray, "n ..."], subject: str) -> None:
    """Raise a ValueError unless float pixels (n, ...) are finite and lie in [0, 1]."""
    low, high = np.inf, -np.inf
    for block in blocks(array):
        part = array[block].reshape(len(array[block]), -1)
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"image {block.start + int(np.argmin(finite))} of {subject} has NaN or infinite "
                "pixels; drop or repair such images, found by ~np.isfinite(images)."
            )
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(
            f"the float pixels of {subject} span {low:g} to {high:g}, outside [0, 1]; "
            f"pass {_rescaled(low, high)}."
        )


def blocks(array: np.ndarray) -> list[slice]:
    """Slices that cover the images, a few at a time."""
    step = max(1, 2**22 // math.prod(array.shape[1:]))
    return [slice(start, start + step) for start in range(0, len(array), step)]


def _from_integers(array: np.ndarray, subject: str) -> UInt8[np.ndarray, "n ..."]:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"the integer pixels of {subject} span {low}..{high}, outside 0..255; "
            f"pass {_rescaled(low, high)} as floats in [0, 1]."
        )
    if high == 1:
        raise ValueError(
            f"the integer pixels of {subject} are 0 and 1, which is almost black on the scale "
            "0..255; multiply by 255, or pass bools."
        )
    return array.astype(np.uint8, copy=False)


def _rescaled(low: int | float, high: int | float) -> str:
    """The expression that brings pixels from low..high into [0, 1]."""
    if low >= 0 and high == 255:
        return "images / 255"
    if low >= 0 and high <= 255:
        return f"images / 255 if they are bytes, else images / {high:g}"
    if low >= -1 and high <= 1:
        return "(images + 1) / 2"
    if low >= 0:
        return f"images / {65535 if 255 < high <= 65535 and high == int(high) else high:g}"
    return f"(images - {low:g}) / {high - low:g}"

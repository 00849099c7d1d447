"""Pixels: the values that pictures may have, and a sentence on what to do where theirs are others.

Everything that takes pictures reads them by this one rule: integers are bytes, 0..255; floats lie
in [0, 1]; bools are black and white. The same picture then means the same wherever it goes.
"""

import math

import numpy as np
from jaxtyping import Float, UInt8

_ROUNDING = 1e-6  # how far a float32 pixel may lie outside [0, 1] without meaning anything by it


def checked(
    array: np.ndarray, subject: str
) -> UInt8[np.ndarray, "n ..."] | Float[np.ndarray, "n ..."]:
    """Pictures as bytes, or as the floats in [0, 1] that they came as.

    Args:
      array: (n, ...); integers in 0..255, bools, or floats in [0, 1].
      subject: what the messages call them.

    Returns:
      Bytes for integers and bools, else the floats; not copied where nothing changes.

    Raises:
      ValueError: for any other range or type.
    """
    match array.dtype.kind:
        case "b":
            return array.astype(np.uint8) * np.uint8(255)
        case "u" | "i":
            return _from_integers(array, subject)
    if not array.dtype.name.startswith(("float", "bfloat")):  # NumPy's, and those of ml_dtypes
        raise ValueError(
            f"the type {array.dtype} of {subject} is not a number; "
            "pass uint8 in 0..255 or floats in [0, 1]."
        )
    if array.dtype.kind != "f":  # bfloat16, of which NumPy knows little
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
    """A few images at a time."""
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
    """Say how to bring pixels from low..high into [0, 1]."""
    if low >= 0 and high == 255:
        return "images / 255"
    if low >= 0 and high <= 255:
        return f"images / 255 if they are bytes, else images / {high:g}"
    if low >= -1 and high <= 1:
        return "(images + 1) / 2"
    if low >= 0:
        return f"images / {65535 if 255 < high <= 65535 and high == int(high) else high:g}"
    return f"(images - {low:g}) / {high - low:g}"

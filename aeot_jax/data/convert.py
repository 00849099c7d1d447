"""Conversion: users' images and labels to uint8 and int32, or a sentence on why not."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int32, UInt8

from aeot_jax import pixels

MIN_SIDE, MAX_SIDE = 4, 256
"""Fewest and most pixels along a side of an image."""


def to_bytes(images: Any, subject: str = "`images`") -> UInt8[np.ndarray, "n h w c"]:
    """Convert images to bytes, with a channel axis.

    Bytes are not copied. Floats are converted a few images at a time, so extra memory is that of
    the result.

    Args:
      images: (n, h, w) or (n, h, w, c), c 1 or 3; integers in 0..255, floats in [0, 1], or bools.
      subject: what the messages call the images.

    Returns:
      The images; grey ones have one channel.

    Raises:
      ValueError: for any other shape or range, fewer than two images, or images all equal.
    """
    array = _as_array(images, subject)
    if array.ndim == 3 and array.shape[-1] in (1, 3):
        raise ValueError(
            f"the shape {array.shape} of {subject} is that of one image, but at least two are "
            "needed; stack them along a first axis."
        )
    if array.ndim == 3:
        array = array[..., None]
    check_shape(array.shape, subject)
    array = pixels.checked(array, subject)
    if array.dtype != np.uint8:
        array = _to_bytes(array)
    # `all` stops at the first image that differs, so this is quick unless it is true.
    if all(np.array_equal(image, array[0]) for image in array[1:]):
        raise ValueError(
            f"all {len(array)} of {subject} are equal once rounded to bytes, so there is nothing "
            "to learn; pass images that differ."
        )
    return array


def to_labels(labels: Any, n: int, subject: str = "`labels`") -> Int32[np.ndarray, " n"]:
    """Convert class labels to int32, one an image.

    Args:
      labels: (n,) or (n, 1); integers, or floats that hold integers.
      n: the number of images.
      subject: what the messages call the labels.

    Returns:
      The labels, (n,).

    Raises:
      ValueError: if their number is not n, or if they are not integers that fit 32 bits.
    """
    array = np.asarray(labels)
    if array.shape == (n, 1):
        array = array[:, 0]
    if array.ndim == 2 and len(array) == n:
        raise ValueError(
            f"the shape {array.shape} of {subject} looks one-hot; pass labels.argmax(axis=1)."
        )
    if array.shape != (n,):
        raise ValueError(
            f"the shape {array.shape} of {subject} does not fit {n} images; pass one label per "
            f"image, shape ({n},)."
        )
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"the type {array.dtype} of {subject} is not integer; number the classes first, for "
            "instance with np.unique(labels, return_inverse=True)[1]."
        )
    info = np.iinfo(np.int32)
    # NaN fails every comparison, so it is found here too.
    good = (array >= info.min) & (array <= info.max) & (array == np.floor(array))
    if not good.all():
        first = int(np.argmin(good))
        raise ValueError(
            f"label {first} of {subject} is {array[first]}, not an integer of 32 bits; "
            "number the classes from 0."
        )
    return array.astype(np.int32)


def check_shape(shape: tuple[int, ...], subject: str) -> None:
    """Raise a ValueError unless the shape is (n, h, w, c) with sides and channels that load."""
    if len(shape) != 4:
        raise ValueError(
            f"the shape {shape} of {subject} is neither (n, height, width) nor "
            "(n, height, width, channels); reshape to one of these."
        )
    n, height, width, channels = shape
    if channels not in (1, 3):
        if shape[1] in (1, 3):
            way_out = "move the channels last with np.moveaxis(images, 1, -1)"
        elif channels in (2, 4):
            way_out = "drop the alpha channel with images[..., :-1]"
        else:
            way_out = "keep 1 (grey) or 3 (colour)"
        raise ValueError(
            f"the shape {shape} of {subject} has {channels} channels, not 1 or 3; {way_out}."
        )
    check_sides(height, width, subject)
    if n < 2:
        raise ValueError(
            f"the number of {subject} is {n}, but at least two are needed to learn how they vary; "
            "pass more."
        )


def check_sides(height: int, width: int, subject: str) -> None:
    """Raise a ValueError unless both sides lie between `MIN_SIDE` and `MAX_SIDE`."""
    for side in (height, width):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise ValueError(
                f"the size {height} x {width} of {subject} is outside {MIN_SIDE} to {MAX_SIDE} "
                f"pixels a side; {'crop or shrink' if side > MAX_SIDE else 'enlarge'} to fit."
            )


def _as_array(images: Any, subject: str) -> np.ndarray:
    if isinstance(images, list | tuple):
        shapes = [np.shape(image) for image in images]
        for i, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise ValueError(
                    f"image 0 of {subject} has shape {shapes[0]}, but image {i} has shape {shape}; "
                    "crop or resize to one size."
                )
    return np.asarray(images)


def _to_bytes(array: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    result = np.empty(array.shape, np.uint8)
    for block in pixels.blocks(array):
        # float64 so that a float16 pixel is not rounded twice
        result[block] = np.rint(np.clip(array[block].astype(np.float64), 0, 1) * 255)
    return result

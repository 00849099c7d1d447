"""Conversion of users' images to uint8 and of their labels to int32."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, UInt8

from aeot_jax.data.tree import LONGEST, printable
from aeot_jax.inputs import pixels

MIN_SIDE, MAX_SIDE = 4, 256
"""Fewest and most pixels along a side of an image."""

_ALL_NAMES = 100_000  # letters of all names, which a model's file must hold


def to_bytes(
    images: Any, subject: str = "`images`", *, any_side: bool = False
) -> UInt8[np.ndarray, "n h w c"]:
    """Convert images to bytes, with a channel axis.

    Bytes are not copied. Floats are converted a few images at a time, so extra memory is only that
    of the result.

    Args:
      images: (n, h, w) or (n, h, w, c), c 1 or 3; integers in 0..255, floats in [0, 1], or bools.
      subject: name of the images, for errors.
      any_side: whether sides may have any length, because the images are resized later.

    Returns:
      The images; grey ones have one channel.

    Raises:
      ValueError: for any other shape or range, fewer than two images, or images all equal.
    """
    array = _as_array(images, subject)
    if array.ndim == 2 and array.dtype.kind in "iub":
        raise ValueError(
            f"the shape {array.shape} of {subject} is neither (n, height, width) nor "
            "(n, height, width, channels); reshape to one of these, or, if it is a table, convert "
            "it to floats, as by .astype(float)."
        )
    if array.ndim == 3 and array.shape[-1] in (1, 3):
        raise ValueError(
            f"the shape {array.shape} of {subject} is that of one image, but at least two are "
            "needed; stack them along a first axis."
        )
    if array.ndim == 3:
        array = array[..., None]
    check_shape(array.shape, subject, any_side=any_side)
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


def to_labels(
    labels: Any, n: int, subject: str = "`labels`"
) -> tuple[Int32[np.ndarray, " n"], tuple[str, ...] | None]:
    """Convert class labels to int32, one per image.

    Args:
      labels: (n,) or (n, 1); integers, floats that hold integers, or strings.
      n: the number of images.
      subject: name of the labels, for errors.

    Returns:
      The labels, (n,); and the class names, sorted, if the labels were strings, else None.

    Raises:
      ValueError: if their number is not n, or they are neither strings nor 32-bit integers.
    """
    array = _label_array(labels, subject)
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
    if array.dtype.kind in "SU":
        if array.dtype.itemsize > 4 * LONGEST:
            raise ValueError(
                f"{subject} are texts of up to {array.dtype.itemsize} bytes; pass names of classes."
            )
        names, numbers = np.unique(array, return_inverse=True)
        if array.dtype.kind == "S":
            names = np.char.decode(names, "utf-8", "replace")
        texts = tuple(map(str, names))
        good = all(texts) and len(set(texts)) == len(texts)  # unless bytes are no UTF-8
        return numbers.astype(np.int32), texts if good else printable(texts)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"the type {array.dtype} of {subject} is neither integer nor text; number the classes "
            "first, for instance with np.unique(labels, return_inverse=True)[1]."
        )
    info = np.iinfo(np.int32)
    # NaN fails every comparison, so it is refused here too.
    good = (array >= info.min) & (array <= info.max) & (array == np.floor(array))
    if not good.all():
        first = int(np.argmin(good))
        raise ValueError(
            f"label {first} of {subject} is {array[first]}, not an integer of 32 bits; "
            "number the classes from 0."
        )
    return array.astype(np.int32), None


def _label_array(labels: Any, subject: str) -> np.ndarray:
    """Labels as a NumPy array; a list of strings and numbers is refused, not converted."""
    if isinstance(labels, list | tuple):
        kinds = {isinstance(one, str | bytes) for one in labels}
        if len(kinds) > 1:
            raise ValueError(f"{subject} mix texts and numbers; pass one kind.")
    array = np.asarray(labels)
    if array.dtype == object and array.size and all(isinstance(x, str) for x in array.flat):
        return array.astype(str)  # such as a column of a data frame
    return array


def check_names(
    names: Any, labels: Int32[np.ndarray, " n"] | None, own: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Check the names of the classes.

    Args:
      names: one name for each number from 0 to the largest label, or None.
      labels: labels of the images, or None.
      own: the names of labels that were strings, or None.

    Returns:
      The names, or `own` if `names` is None.

    Raises:
      ValueError: if the names do not fit the labels, two are equal, or they are too long.
    """
    if names is None:
        _check_letters(own or (), "the texts of `labels`")
        return own
    if labels is None or own is not None:
        why = "`labels` is None" if labels is None else "`labels` are texts already"
        raise ValueError(f"`label_names` is given, but {why}; leave one of them out.")
    good = isinstance(names, list | tuple) and all(isinstance(one, str) and one for one in names)
    if not good:
        raise ValueError(f"`label_names` is {names!r:.80}; pass a list of names of classes.")
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`label_names` has {double!r:.80} twice; give every class its own name.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(names):
        raise ValueError(
            f"`label_names` has {len(names)} names, but `labels` run from {low} to {high}; pass "
            "one name for each number from 0."
        )
    _check_letters(names, "`label_names`")
    return tuple(names)


def _check_letters(names: Sequence[str], subject: str) -> None:
    """Refuse names that a model's file could not hold."""
    if sum(len(name.encode("utf-8", "replace")) for name in names) > _ALL_NAMES:
        raise ValueError(
            f"{subject} are {len(names):,} names of more than {_ALL_NAMES:,} letters together; "
            "shorten them, or number the classes."
        )


def check_shape(shape: tuple[int, ...], subject: str, *, any_side: bool = False) -> None:
    """Raise a ValueError unless the shape is (n, h, w, c) with supported sides and channels."""
    if len(shape) != 4:
        raise ValueError(
            f"the shape {shape} of {subject} is neither (n, height, width) nor "
            "(n, height, width, channels); reshape to one of these."
        )
    n, height, width, channels = shape
    if channels not in (1, 3):
        if shape[1] in (1, 3):
            way_out = "move the channels last with np.moveaxis(images, 1, -1)"
        elif shape[2] in (1, 3):
            way_out = "move the images first with np.moveaxis(images, -1, 0)"
        elif channels in (2, 4):
            way_out = "drop the alpha channel with images[..., :-1]"
        else:
            way_out = "keep 1 (grey) or 3 (colour)"
        raise ValueError(
            f"the shape {shape} of {subject} has {channels} channels, not 1 or 3; {way_out}."
        )
    if not any_side:
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
                f"pixels per side; {'crop or shrink' if side > MAX_SIDE else 'enlarge'} to fit."
            )


def _as_array(images: Any, subject: str) -> np.ndarray:
    if isinstance(images, list | tuple):
        shapes = [np.shape(image) for image in images]
        for i, shape in enumerate(shapes):
            if shape[:2] == shapes[0][:2] and {1, 3} == {_channels(shape), _channels(shapes[0])}:
                raise ValueError(
                    f"image 0 of {subject} has shape {shapes[0]}, but image {i} has shape {shape}; "
                    "make all grey or all colour, for instance by "
                    "np.repeat(image[..., None], 3, axis=-1)."
                )
            if shape != shapes[0]:
                raise ValueError(
                    f"image 0 of {subject} has shape {shapes[0]}, but image {i} has shape {shape}; "
                    "crop or resize to one size."
                )
    return np.asarray(images)


def _channels(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) == 2 else shape[-1] if shape else 0


def _to_bytes(array: Float[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    result = np.empty(array.shape, np.uint8)
    for block in pixels.blocks(array):
        # float64 so that a float16 pixel is not rounded twice
        result[block] = np.rint(np.clip(array[block].astype(np.float64), 0, 1) * 255)
    return result

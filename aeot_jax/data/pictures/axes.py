"""Orders of axes: other usual orders than (n, h, w, c) are recognised."""

from typing import Any

import numpy as np

from aeot_jax.data.pictures.convert import MAX_SIDE, MIN_SIDE

_CHANNELS = (1, 3)


def find_order(shape: tuple[int, ...], num_labels: int | None = None) -> tuple[int, ...] | None:
    """The permutation to the order n, h, w, c (or n, h, w).

    Args:
      shape: shape of the array, with three or four axes.
      num_labels: number of its labels, which identifies the axis n; or None.

    Returns:
      The argument of `numpy.transpose`; None if the order is right already, or not known.
    """
    if len(shape) == 4:
        if shape[3] in _CHANNELS and num_labels in (None, shape[0]):
            return None
        for axes in ((0, 2, 3, 1), (3, 0, 1, 2), (3, 1, 2, 0), (0, 1, 2, 3)):
            n, height, width, channels = (shape[axis] for axis in axes)
            if channels in _CHANNELS and _are_sides(height, width) and num_labels in (None, n):
                return None if axes == (0, 1, 2, 3) else axes
    if len(shape) == 3 and _are_sides(*shape[:2]):
        told = num_labels is not None and num_labels == shape[2] != shape[0]
        if told or (shape[2] > MAX_SIDE and shape[0] == shape[1]):
            return (2, 0, 1)
    return None


def ordered(images: np.ndarray, labels: Any = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Transpose images to the order n, h, w, c, with a note if they had another."""
    num_labels = None if labels is None or np.ndim(labels) == 0 else np.size(labels)
    axes = find_order(images.shape, num_labels)
    if axes is None:
        return images, ()
    names = dict(zip(axes, "nhwc", strict=False))
    order = ", ".join(names[axis] for axis in range(images.ndim))
    note = f"axes ({order}) of shape {images.shape} were recognised, and put in the usual order."
    return images.transpose(axes), (note,)


def _are_sides(height: int, width: int) -> bool:
    return all(MIN_SIDE <= side <= 4 * MAX_SIDE for side in (height, width))

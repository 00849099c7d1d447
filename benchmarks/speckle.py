"""Speckle: how much the colours of neighbouring pixels differ in the plain areas of pictures."""

import numpy as np
from scipy.ndimage import uniform_filter

_SIDE, _APART = 8, 4
"""Windows of so many pixels a side, each so many pixels from the next."""
_PLAIN, _WHITE = 3.0, 245.0
"""A plain window: largest standard deviation of a channel, and largest mean of the darkest one."""


def _mean(x: np.ndarray, side: int) -> np.ndarray:
    """Each pixel's mean over a square around it; the border is continued."""
    return uniform_filter(x, side, mode="nearest", axes=(1, 2))


def _windows(x: np.ndarray) -> np.ndarray:
    """Squares of images (n, h, w, c), as (n, rows, columns, c, side, side)."""
    every = np.lib.stride_tricks.sliding_window_view(x, (_SIDE, _SIDE), axis=(1, 2))
    return every[:, ::_APART, ::_APART]


def speckle(images: np.ndarray, originals: np.ndarray | None = None) -> float:
    """Coloured speckle of plain areas, in 1/255.

    The root mean square, over two orthonormal differences of the colours, of images less their 3x3
    means, in windows that are plain: those of the originals, or else those of the images' own 5x5
    means. A window's border pixels do not count, since their means reach out of it. White windows
    are left out: where the logits are large, nothing shows.

    Args:
      images: (n, h, w, 3), 0 to 255.
      originals: the images that they should be; None for new ones.
    """
    images = np.asarray(images, np.float64)
    judged = _mean(images, 5) if originals is None else np.asarray(originals, np.float64)
    windows = _windows(judged)
    plain = windows.std((4, 5)).max(-1) < _PLAIN
    plain &= windows.mean((4, 5)).min(-1) < _WHITE
    fine = images - _mean(images, 3)
    # The squares of two orthonormal differences add up to three times the channels' variance.
    inner = _windows(fine.var(axis=3, keepdims=True))[plain][..., 1:-1, 1:-1]
    return float(np.sqrt(3 * inner.mean()))

"""Speckle and grain: how much the pixels of plain areas differ, in colour and in brightness."""

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


def _root_mean(squares: np.ndarray, plain: np.ndarray, border: int) -> float:
    """Over the pixels of plain windows, less a border; NaN if there is no such window."""
    inner = _windows(squares)[plain][..., border:-border, border:-border]
    return float(np.sqrt(inner.mean())) if plain.any() else float("nan")


def _plain(images: np.ndarray, originals: np.ndarray | None) -> np.ndarray:
    """Which windows are plain, as (n, rows, columns): by the originals, or by 5x5 means."""
    judged = np.asarray(images if originals is None else originals, np.float64)
    windows = _windows(_mean(judged, 5) if originals is None else judged)
    plain = windows.std((4, 5)).max(-1) < _PLAIN
    return plain & (windows.mean((4, 5)).min(-1) < _WHITE)


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
    fine = images - _mean(images, 3)
    # The squares of two orthonormal differences add up to three times the channels' variance.
    return _root_mean(3 * fine.var(axis=3, keepdims=True), _plain(images, originals), 1)


def grain(images: np.ndarray, originals: np.ndarray | None = None) -> float:
    """Grain of plain areas in brightness, in 1/255; a woven texture is a regular one.

    The root mean square of the mean over the channels, less its 5x5 means, in the windows of
    ``speckle``; two pixels at their border do not count.

    Args:
      images: (n, h, w, channels), 0 to 255, in colour or grey.
      originals: the images that they should be; None for new ones.
    """
    grey = np.asarray(images, np.float64).mean(axis=3, keepdims=True)
    return _root_mean((grey - _mean(grey, 5)) ** 2, _plain(images, originals), 2)

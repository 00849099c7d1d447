"""Round trips: rows encoded and decoded in batches, their errors, and the detail they keep."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

import aeot_jax as aeot
from aeot_jax.inputs import columns

BATCH = 512
"""Rows per batch; one shape is compiled."""


def in_batches(function: Callable[[np.ndarray], Any], rows: np.ndarray) -> np.ndarray:
    """Apply a function to rows in batches of one size; the last is padded with its last row."""
    parts = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        fill = np.repeat(part[-1:], BATCH - len(part), axis=0)
        parts.append(np.asarray(function(np.concatenate([part, fill])))[: len(part)])
    return np.concatenate(parts)


def round_trip(model: aeot.AEOT, rows: np.ndarray) -> np.ndarray:
    """Encode and decode rows."""
    return in_batches(lambda x: aeot.decode(model, aeot.encode(model, x)), rows)


def unit(model: aeot.AEOT, x: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1], or rows in units of their columns, in float64."""
    if model.columns is not None:
        return columns.measured(x, *model.columns)
    return x.astype(np.float64) / 255 if x.dtype == np.uint8 else x.astype(np.float64)


def errors(model: aeot.AEOT, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode and decode rows, and compute the mean squared error of each."""
    decoded = round_trip(model, rows)
    difference = (unit(model, decoded) - unit(model, rows)).reshape(len(rows), -1)
    return decoded, (difference**2).mean(axis=1)


def kept_detail(
    original: Shaped[np.ndarray, "n h w c"], decoded: Shaped[np.ndarray, "n h w c"]
) -> float | None:
    """Share of the fine detail of images that decoded ones have.

    Fine detail is the sum of squared differences between neighbouring pixels. What is smeared has
    less of it: a step that is spread over k pixels has the part 1 / k. Where the detail is makes no
    difference, so what is decoded sharply but not exactly has its share, and so has noise.

    Args:
      original: bytes, or floats in [0, 1].
      decoded: the same images, encoded and decoded.

    Returns:
      The share, 1 for the images themselves; None if these have no detail.
    """
    of_original, of_decoded = _detail(original), _detail(decoded)
    return of_decoded / of_original if of_original > 0 else None


def _detail(images: Shaped[np.ndarray, "n h w c"]) -> float:
    found = 0.0
    for image in images:  # one at a time, for memory
        whole = 255.0 if image.dtype == np.uint8 else 1.0
        x = np.clip(image / whole, 0.0, 1.0)
        found += sum(float((np.diff(x, axis=axis) ** 2).sum()) for axis in (0, 1))
    return found

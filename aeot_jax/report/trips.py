"""Round trips: rows encoded and decoded in batches, and their errors."""

from collections.abc import Callable
from typing import Any

import numpy as np

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

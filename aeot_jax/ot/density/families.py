"""Families of groups: those whose codes are spread about equally far.

A group of few codes borrows its covariance from others. A tight one that borrowed from broad ones
would become as broad, so it borrows from its own family only. Most codes have one family.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

_APART = 3.0
"""Least ratio of the spreads of two families: that of a few codes in one dimension is known to a
factor of 1.5."""

LEAST = 2
"""Fewest codes of a family beyond one for each of its groups, in multiples of d + 1: so many
have a covariance of their own."""


def families(
    counts: Int[np.ndarray, " k"],
    mean: Float[np.ndarray, "k d"],
    covariance: Float[np.ndarray, "k d d"],
) -> Int[np.ndarray, " k"]:
    """The family of each group (k,), from 0, the tightest.

    Args:
      counts: codes of each group.
      mean: their means.
      covariance: their covariances, with divisor `counts`.
    """
    d = mean.shape[1]
    free = counts - 1
    variance = np.trace(covariance, axis1=1, axis2=2) * counts / np.maximum(free, 1)
    known = np.flatnonzero(variance > 0)
    order = known[np.argsort(variance[known], kind="stable")]
    parts = _large(_cut(order, variance), free, LEAST * (d + 1))
    result = np.zeros(len(counts), int)
    if len(parts) < 2:
        return result
    for number, part in enumerate(parts):
        result[part] = number
    alone = np.flatnonzero(~(variance > 0))
    if alone.size:  # a code by itself is of the family beside it
        result[alone] = result[known[cdist(mean[alone], mean[known]).argmin(1)]]
    return result


def _cut(order: Int[np.ndarray, " n"], variance: Float[np.ndarray, " k"]) -> list[np.ndarray]:
    """Groups in ascending order of their variance, cut where it jumps."""
    ascending = variance[order]
    jumps = np.flatnonzero(ascending[1:] > _APART**2 * ascending[:-1]) + 1
    return np.split(order, jumps)


def _large(parts: list[np.ndarray], free: Int[np.ndarray, " k"], least: int) -> list[np.ndarray]:
    """Join a part of too few codes to the next broader one, or, at the end, to the last."""
    result: list[np.ndarray] = []
    left = np.empty(0, int)
    for part in parts:
        left = np.concatenate([left, part])
        if free[left].sum() >= least:
            result.append(left)
            left = np.empty(0, int)
    if left.size and result:
        result[-1] = np.concatenate([result[-1], left])
    return result

r"""Twins: unseen points that are near copies of a known one, as pictures of a burst are.

Beside them any sampler looks new, because hardly a sample is as near to the data as a near copy. A
point is one if its nearest known point is far nearer than its fifth. Where points are spread evenly
about it in D dimensions,

.. math:: P(d_1 < c\, d_5) = 1 - (1 - c^D)^4 \approx 4 c^D ,

whatever their density is there. So c follows from a chance, one in a thousand, and D from the
median of :math:`d_3 / d_5`, whose power D has the distribution Beta(3, 2); few twins hardly move
it.

Source of the ratios: distances to neighbours in a Poisson process, as in Levina and Bickel,
"Maximum likelihood estimation of intrinsic dimension", NIPS 2004.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from aeot_jax.metrics.points import Rows

_NEIGHBOURS = 5
_MIDDLE = 3
_MEDIAN = 0.6143
"""Median of Beta(3, 2)."""

_CHANCE = 1e-3
"""Chance that a point without a twin passes for one."""

_FEW = 2
_SHARE = 0.01
"""Up to so many twins, or such a share of the points, are taken for chance."""

_SAME = 1e-5
"""Points at most so far from each other, in units of the spread of the points, are the same."""

_FOR_SPREAD = 2**13
"""Most points that tell the spread."""

_CHUNK = 2**22
"""Numbers that are held together."""

_WORK = 2**34
"""Most pairs of points times their dimensions: some seconds of a core."""


def twins(
    unseen: Rows,
    known: Rows,
    far: Float[np.ndarray, " p"],
    own: Int[np.ndarray, " p"] | None = None,
) -> Bool[np.ndarray, " p"]:
    """Which unseen points are near copies of a known point, but not equal to it; none if very few.

    Where it would take too long to look at all of them, those nearest to a known point are.

    Args:
      unseen: points (p, d).
      known: points (m, d), in the same unit.
      far: distance of each unseen point to its nearest known one.
      own: the row of each unseen point among the known, which does not count; None if it has none.
    """
    result = np.zeros(len(unseen), bool)
    if len(known) <= _NEIGHBOURS + 1:
        return result
    most = max(_WORK // known.size, 100)
    some = np.argsort(far, kind="stable")[:most]
    spread = np.linspace(0, len(unseen) - 1, min(most, len(unseen))).round().astype(int)
    rows = np.union1d(some, spread)
    near = _neighbours(unseen[rows], known, None if own is None else own[rows])
    middle, last = near[:, _MIDDLE - 1], near[:, -1]
    same = rounding(known)
    usual = np.isin(rows, spread) & (middle > same)
    if 2 * usual.sum() < len(spread):
        return result  # many are equal, as on a lattice
    ratio = float(np.median(middle[usual] / last[usual]))
    if not 0 < ratio < 1:
        return result  # of a lattice
    dimension = np.log(_MEDIAN) / np.log(ratio)
    least = (_CHANCE / (_NEIGHBOURS - 1)) ** (1 / dimension)
    result[rows] = (far[rows] > same) & (far[rows] < least * last)
    return result & (result.sum() > max(_FEW, _SHARE * len(rows)))


def rounding(known: Rows) -> float:
    """The distance up to which a point equals a known one."""
    some = known[:: -(-len(known) // _FOR_SPREAD)]
    return _SAME * float(np.sqrt(some.var(axis=0, dtype=np.float64).sum())) / _unit(known)


def _unit(points: Rows) -> int:
    """What one is in these points: bytes are pixels."""
    return 255 if points.dtype == np.uint8 else 1


def others(copied: Bool[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    """Which unseen points to compare with: those that are no twins, unless most of them are."""
    return ~copied if 2 * copied.sum() <= len(copied) else np.ones_like(copied)


def _neighbours(
    points: Rows, known: Rows, own: Int[np.ndarray, " p"] | None
) -> Float[np.ndarray, "p k"]:
    """Distances to the nearest known points, ascending, in float64 on the host."""
    centre = known[0].astype(np.float64) / _unit(known)
    x = points / float(_unit(points)) - centre
    square = (x * x).sum(1)[:, None]
    best = np.full((len(x), 0), np.inf)
    size = max(1, _CHUNK // max(len(x), x.shape[1]))
    for start in range(0, len(known), size):
        y = known[start : start + size] / float(_unit(known)) - centre
        distance = square + (y * y).sum(1) - 2 * x @ y.T
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < start + len(y)))
            distance[here, own[here] - start] = np.inf
        best = np.concatenate([best, distance], axis=1)
        best = np.partition(best, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS].copy()
    return np.sqrt(np.maximum(np.sort(best, axis=1), 0))

r"""Twins: unseen points that are near copies of a known one, as pictures of a burst are.

Beside them any sampler looks new, because hardly a sample is as near to the data as a near copy. A
point is one if its nearest known point is far nearer than its fifth. Where points are spread evenly
about it in D dimensions,

.. math:: P(d_1 < c\, d_5) = 1 - (1 - c^D)^4 \approx 4 c^D ,

whatever their density is there. So c follows from a chance, one in a thousand, and D from the
median of :math:`d_3 / d_5`, whose power D has the distribution Beta(3, 2); few twins hardly move
it.

Parts of the data that are thinner than the rest, such as a curve beside a cloud, have such points
by nature, and so do new points of the same law. Hence both sides are treated alike: the new points
lose the same share of twins. (What a sampler makes beyond that share stays, and is near.) In bursts
of more than five pictures the fifth neighbour is of the burst, too, and few are found.

Source of the ratios: distances to neighbours in a Poisson process, as in Levina and Bickel,
"Maximum likelihood estimation of intrinsic dimension", NIPS 2004.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from aeot_jax.metrics.points import Rows
from aeot_jax.reprs import brief

_NEIGHBOURS = 5
_MIDDLE = 3
_MEDIAN = 0.6143
"""Median of Beta(3, 2)."""

_CHANCE = 1e-3
"""Chance that a point without a twin passes for one."""

_FEW = 2
_SHARE = 0.01
"""Up to so many twins, or such a share of the points, are taken for chance."""

_LEAST_KNOWN = 100
"""Fewest known points among which twins can be told."""

_SAME = 1e-5
"""Points at most so far from each other, in units of the spread of the points, are the same."""

_FOR_SPREAD = 2**13
"""Most points that tell the spread."""

_CHUNK = 2**22
"""Numbers that are held together."""

_WORK = 2**33
"""Most pairs of points times their dimensions: some seconds of a core."""


class Twins(NamedTuple):
    """Which unseen points are near copies, and what makes a point one.

    Attributes:
      copied: which of the unseen points are (p,).
      least: times the distance to the fifth known point, below which the first makes a twin; 0 if
        there are no twins.
    """

    copied: Bool[np.ndarray, " p"]
    least: float

    __repr__ = brief

    @property
    def others(self) -> Bool[np.ndarray, " p"]:
        """Which unseen points to compare with: those that are no twins, unless most are."""
        return np.ones_like(self.copied) if self.are_most else ~self.copied

    @property
    def are_most(self) -> bool:
        """Whether more than half of the unseen points are twins."""
        return bool(2 * self.copied.sum() > len(self.copied))

    def share_se(self, n: int) -> float:
        """Standard error of the share of twins that n new points have beyond that of the unseen."""
        share = 0.0 if self.are_most else float(self.copied.mean())
        return math.sqrt(share * (1 - share) * (1 / n + 1 / len(self.copied)))


def twins(
    unseen: Rows,
    known: Rows,
    far: Float[np.ndarray, " p"],
    own: Int[np.ndarray, " p"] | None = None,
) -> Twins:
    """Find the unseen points that are near copies of a known point, but not equal to it.

    Where it would take too long to look at all of them, those nearest to a known point are. Very
    few are taken for chance, and of few known points nothing can be said.

    Args:
      unseen: points (p, d).
      known: points (m, d), in the same unit.
      far: distance of each unseen point to its nearest known one.
      own: the row of each unseen point among the known, which does not count; None if it has none.
    """
    none = Twins(np.zeros(len(unseen), bool), 0.0)
    if len(known) < _LEAST_KNOWN:
        return none
    nearest = _nearest(far, known)
    spread = np.linspace(0, len(unseen) - 1, len(nearest)).round().astype(int)
    rows = np.union1d(nearest, spread)
    near = _neighbours(unseen[rows], known, None if own is None else own[rows])
    some = near[np.searchsorted(rows, spread)]
    middle, last = some[:, _MIDDLE - 1], some[:, -1]
    usual = middle > rounding(known)
    if 2 * usual.sum() < len(spread):
        return none  # many are equal, as on a lattice
    ratio = float(np.median(middle[usual] / last[usual]))
    if not 0 < ratio < 1:
        return none  # of a lattice
    dimension = np.log(_MEDIAN) / np.log(ratio)
    least = float((_CHANCE / (_NEIGHBOURS - 1)) ** (1 / dimension))
    fifth = near[np.searchsorted(rows, nearest), -1]
    copied = np.zeros(len(unseen), bool)
    copied[nearest] = _are_near(far[nearest], fifth, known, least)
    few = copied.sum() <= max(_FEW, _SHARE * len(unseen))
    return none if few else Twins(copied, least)


def kept(
    new: Rows, known: Rows, near: Float[np.ndarray, " n"], found: Twins
) -> Bool[np.ndarray, " n"]:
    """Which new points to compare: without twins, up to the share of the unseen that are.

    Args:
      new: points (n, d).
      known: points (m, d).
      near: distance of each new point to its nearest known one.
      found: twins of the unseen points.
    """
    result = np.ones(len(new), bool)
    if found.least == 0 or found.are_most:
        return result
    most = round(float(found.copied.mean()) * len(new))
    nearest = _nearest(near, known)
    fifth = _neighbours(new[nearest], known, None)[:, -1]
    copied = nearest[_are_near(near[nearest], fifth, known, found.least)]
    result[copied[:most]] = False
    return result


def _are_near(
    first: Float[np.ndarray, " q"], fifth: Float[np.ndarray, " q"], known: Rows, least: float
) -> Bool[np.ndarray, " q"]:
    """Which points are much nearer to their first known neighbour than to their fifth."""
    return (first > rounding(known)) & (first < least * fifth)


def _nearest(near: Float[np.ndarray, " n"], known: Rows) -> Int[np.ndarray, " q"]:
    """The points to look at, the nearest first: as many as there is time for."""
    return np.argsort(near, kind="stable")[: max(_WORK // known.size, 100)]


def rounding(known: Rows) -> float:
    """The distance up to which a point equals a known one; a few far points change nothing."""
    some = known[:: -(-len(known) // _FOR_SPREAD)].astype(np.float64)
    spread = np.median(np.linalg.norm(some - np.median(some, axis=0), axis=1))
    if spread == 0:  # half of them are equal
        spread = np.sqrt(some.var(axis=0).sum())
    return _SAME * float(spread) / _unit(known)


def _unit(points: Rows) -> int:
    """What one is in these points: bytes are pixels."""
    return 255 if points.dtype == np.uint8 else 1


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

"""Groups of codes that lie together like a Gaussian, none of them across a singular face.

k-means makes the first groups. Then each code moves to the group under whose Gaussian it is most
likely, some times over (the classification step of EM: on codes of images this gains 0.2 nats of
left-out likelihood). At last a group is cut where chains of regular faces do not hold it together.

Source of the classification step: Celeux and Govaert, "A classification EM algorithm for clustering
and two stochastic versions", 1992.
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from aeot_jax.ot.density.moments import Moments, axes, members, moments

_ITERATIONS = 10
"""Rounds of k-means."""

_MOVES = 3
"""Rounds of the classification step."""

_TOGETHER = 256
"""Planes whose distances to all others are held together."""

_ROUNDING = 1e-12
"""More than the error of a squared distance, over the squares of its ends."""


class Planes(NamedTuple):
    """Planes of the codes, as far as the faces between them are concerned.

    Attributes:
      normals: their unit normals (m, d + 1).
      chord: largest distance of two normals whose face is regular.
    """

    normals: Float[np.ndarray, "m e"]
    chord: float


class Groups(NamedTuple):
    """Groups of codes, and which of them borrow their covariance from each other.

    Attributes:
      group: the group of each code (m,), from 0 without a gap.
      family: of each group, from 0 without a gap (k,); None has those of about equal spread.
    """

    group: Int[np.ndarray, " m"]
    family: Int[np.ndarray, " k"] | None = None

    def moments(
        self, y: Float[np.ndarray, "m d"], mass: Float[np.ndarray, " m"] | None = None
    ) -> Moments:
        """Their moments, of codes (m, d) with weights (m,)."""
        return moments(y, self.group, mass, self.family)


def together(
    y: Float[np.ndarray, "m d"], size: int, planes: Planes | None = None
) -> Int[np.ndarray, " m"]:
    """Put codes into groups of about so many, each of them in one piece, by k-means.

    The order of the codes changes nothing, up to ties.

    Args:
      y: codes (m, d), float64.
      size: codes of a group, on average.
      planes: which faces are regular; None cuts no group.

    Returns:
      The group of each code (m,), from 0 without a gap.
    """
    number = max(1, round(len(y) / size))
    ranks = np.linspace(0, len(y) - 1, number).round().astype(int)
    start = np.lexsort(y.T[::-1])[ranks]  # spread along the first coordinate, any along others
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty groups, which are left out below
        _, found = kmeans2(y, y[start], iter=_ITERATIONS, minit="matrix")
    return _cut(_renumbered(found).group, planes)


def settled(
    y: Float[np.ndarray, "m d"],
    found: Groups,
    weight: int | float,
    planes: Planes | None = None,
) -> Groups:
    """Move each code to the group under whose Gaussian it is most likely, some times over.

    Args:
      y: codes (m, d), float64.
      found: from ``together``.
      weight: what the pooled covariance weighs in that of a group, in codes.
      planes: as for ``together``.
    """
    for _ in range(_MOVES):
        found = _renumbered(_moved(y, found.moments(y), weight), found.family)
    group = _cut(found.group, planes)
    if found.family is None:
        return Groups(group)
    first = np.unique(group, return_index=True)[1]
    return Groups(group, found.family[found.group[first]])


def _renumbered(
    group: Int[np.ndarray, " m"], family: Int[np.ndarray, " k"] | None = None
) -> Groups:
    """Groups, and their families, without a gap in their numbers."""
    used, number = np.unique(group, return_inverse=True)
    if family is None:
        return Groups(number)
    return Groups(number, np.unique(family[used], return_inverse=True)[1])


def _moved(
    y: Float[np.ndarray, "m d"], found: Moments, weight: int | float
) -> Int[np.ndarray, " m"]:
    """The group under whose Gaussian each code is most likely."""
    vectors, deviations = axes(found, weight)
    most = np.log(found.counts) - np.log(deviations).sum(1)

    def scored(k: int, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        white = (y[rows] - found.mean[k]) @ (vectors[k] / deviations[k])
        return most[k] - 0.5 * np.einsum("nd,nd->n", white, white)

    best, result = np.empty(len(y)), found.group.copy()
    for k, rows in enumerate(members(found.group)):
        best[rows] = scored(k, rows)
    square = (y * y).sum(1)
    for k, mean in enumerate(found.mean):
        # No score is higher than if the offset lay along the widest axis.
        distance = square - y @ (2 * mean) + mean @ mean - _ROUNDING * (square + mean @ mean)
        bound = most[k] - 0.5 * distance / deviations[k].max() ** 2
        rows = np.flatnonzero((bound > best) & (found.group != k))
        score = scored(k, rows)
        higher = score > best[rows]
        best[rows[higher]], result[rows[higher]] = score[higher], k
    return result


def _cut(found: Int[np.ndarray, " m"], planes: Planes | None) -> Int[np.ndarray, " m"]:
    """Split each group into the pieces that chains of regular faces hold together."""
    if planes is None:
        return found
    result, used = np.empty_like(found), 0
    for rows in members(found):
        piece = pieces(planes.normals[rows], planes.chord)
        result[rows] = used + piece
        used += int(piece.max()) + 1
    return result


def pieces(normals: Float[np.ndarray, "n e"], chord: float) -> Int[np.ndarray, " n"]:
    """The piece of each plane (n,), from 0: chains of regular faces hold a piece together.

    Memory grows with n, and time too where most planes are near to each other: those that have been
    reached are looked at no more.
    """
    piece, number = np.full(len(normals), -1), 0
    left = np.arange(len(normals))  # that no chain has reached
    while left.size:
        reached, left = left[:1], left[1:]
        while reached.size:
            piece[reached] = number
            some, reached = reached[:_TOGETHER], reached[_TOGETHER:]
            near = (cdist(normals[some], normals[left]) <= chord).any(0)
            reached, left = np.concatenate([reached, left[near]]), left[~near]
        number += 1
    return piece

"""Small groups that borrow their covariance from their neighbours.

In many dimensions the codes of images lie near surfaces that bend: a group of many codes is thicker
than they are, and one of few has too few to tell its shape. So large groups are made first, each is
divided into small ones, and these borrow from each other: what neighbours have in common is the
direction of the surface. Neighbours that are several times tighter are a family of their own.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from aeot_jax.ot.density.families import LEAST, families
from aeot_jax.ot.density.grouping import Groups, Planes, settled, together
from aeot_jax.ot.density.moments import members, moments

_LARGE, _SMALL = 24, 4
"""Mean sizes of a family and of its groups, in multiples of d + 1."""

_LEAST_DIM = 4
"""Least dimension: in fewer a group of some codes knows its own shape (on all of the toy densities
neighbours made unseen codes less likely, by 0.05 to 0.28 nats)."""


def weight(dim: int) -> float:
    """What the covariance of a family weighs in that of its groups, in codes: 2 d."""
    return 2.0 * dim


def may_pay(num_codes: int, dim: int) -> bool:
    """Whether there are several families, in so many dimensions that they may help."""
    return dim >= _LEAST_DIM and num_codes >= 2 * _LARGE * (dim + 1)


def neighbourhoods(y: Float[np.ndarray, "m d"], planes: Planes | None = None) -> Groups:
    """Put codes into small groups, the families of which are neighbours.

    Args:
      y: codes (m, d), float64.
      planes: so that no group lies across a singular face; None cuts no group.
    """
    d = y.shape[1]
    large = settled(y, Groups(together(y, _LARGE * (d + 1), planes)), float(d), planes).group
    group, near = np.empty(len(y), int), []
    for number, rows in enumerate(members(large)):
        small = together(y[rows], _SMALL * (d + 1))
        group[rows] = len(near) + small
        near += [number] * (int(small.max()) + 1)
    found = _joined(y, Groups(group, _by_spread(y, group, np.array(near))))
    return _joined(y, settled(y, found, weight(d), planes))


def _by_spread(
    y: Float[np.ndarray, "m d"], group: Int[np.ndarray, " m"], near: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " k"]:
    """Families of neighbours, those of about equal spread apart from others."""
    made, result, used = moments(y, group, family=near), np.empty_like(near), 0
    for number in range(int(near.max()) + 1):
        own = np.flatnonzero(near == number)
        part = families(made.counts[own], made.mean[own], made.covariance[own])
        result[own] = used + part
        used += int(part.max()) + 1
    return result


def _joined(y: Float[np.ndarray, "m d"], found: Groups) -> Groups:
    """The same groups; a family of too few codes joins the nearest one."""
    assert found.family is not None
    free = np.bincount(found.group) - 1
    family, least = found.family, LEAST * (y.shape[1] + 1)
    while True:
        own = family[found.group]
        known = np.bincount(family, free)
        few = int(known.argmin())
        if known[few] >= least or len(known) == 1:
            return found._replace(family=family)
        centre = np.stack([y[rows].mean(0) for rows in members(own)])
        distance = cdist(centre[few : few + 1], centre)[0]
        distance[few] = np.inf
        family = np.where(family == few, distance.argmin(), family)
        family = np.unique(family, return_inverse=True)[1]

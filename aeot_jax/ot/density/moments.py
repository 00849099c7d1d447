r"""Mean and covariance of each group of codes, in float64 on the host.

The covariance of a group of :math:`n_g` codes is drawn towards that of its family F,

.. math:: C_g = \frac{n_g S_g + a P_F}{n_g + a}, \qquad
   P_F = \frac{1}{m_F} \sum_{g \in F} n_g S_g , \qquad m_F = \sum_{g \in F} n_g ,

so that a group of few codes has one, too. Groups are of one family if they are spread about equally
far (``families.py``), or if they are neighbours (``neighbours.py``).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aeot_jax.ot.density.families import families

_FLOOR = 1e-4
"""Least standard deviation in any direction, over that of a coordinate of all codes: where codes
do not differ at all, densities stay finite."""


class Moments(NamedTuple):
    """Moments of groups of codes.

    Attributes:
      group: the group of each code (m,).
      counts: codes of each group (k,).
      mean: of each group (k, d).
      covariance: S of each group (k, d, d).
      family: the family of each group (k,).
      sizes: codes of each family (f,).
      pooled: P of each family (f, d, d).
      least: least variance in any direction.
    """

    group: Int[np.ndarray, " m"]
    counts: Int[np.ndarray, " k"]
    mean: Float[np.ndarray, "k d"]
    covariance: Float[np.ndarray, "k d d"]
    family: Int[np.ndarray, " k"]
    sizes: Int[np.ndarray, " f"]
    pooled: Float[np.ndarray, "f d d"]
    least: float

    def shrunk(self, weight: int | float, fewer: int = 0) -> Float[np.ndarray, "k d d"]:
        """Covariances C (k, d, d), with `weight` the a of the module; see ``axes``."""
        n = self.counts[:, None, None]
        scale = (self.sizes / (self.sizes - fewer))[:, None, None] if fewer else 1.0
        drawn = (weight * scale * self.pooled)[self.family]
        return (n * self.covariance + drawn) / (n + weight)


def moments(
    y: Float[np.ndarray, "m d"],
    group: Int[np.ndarray, " m"],
    mass: Float[np.ndarray, " m"] | None = None,
    family: Int[np.ndarray, " k"] | None = None,
) -> Moments:
    """The moments of all groups.

    Args:
      y: codes (m, d), float64.
      group: from ``grouping``.
      mass: weights (m,), sum 1; None is uniform. A group counts its codes even so.
      family: of each group, from 0 without a gap (k,); None has those of about equal spread.
    """
    rows = members(group)
    shares = [None if mass is None else _shares(mass[own]) for own in rows]
    mean = np.stack([_mean(y[own], share) for own, share in zip(rows, shares, strict=True)])
    each = zip(rows, mean, shares, strict=True)
    covariance = np.stack([_covariance(y[own] - at, share) for own, at, share in each])
    counts = np.array([len(own) for own in rows])
    total = counts / len(y) if mass is None else np.array([mass[own].sum() for own in rows])
    if family is None:
        family = families(counts, mean, covariance)
    sizes = np.bincount(family, counts).astype(int)
    pooled = np.stack([_pooled(total, covariance, family == f) for f in range(len(sizes))])
    least = _FLOOR**2 * float(y.var(0).mean())
    return Moments(group, counts, mean, covariance, family, sizes, pooled, least)


def _pooled(
    total: Float[np.ndarray, " k"], covariance: Float[np.ndarray, "k d d"], own: np.ndarray
) -> Float[np.ndarray, "d d"]:
    """The mean covariance of a family's groups."""
    if own.all():
        return np.einsum("k,kab->ab", total, covariance)
    return np.einsum("k,kab->ab", _shares(total[own]), covariance[own])


def members(group: Int[np.ndarray, " m"]) -> list[Int[np.ndarray, " n"]]:
    """The codes of each group, ascending."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group))[:-1])


def _shares(mass: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The masses over their sum; equal ones if there is none."""
    total = mass.sum()
    return mass / total if total > 0 else np.full(len(mass), 1 / len(mass))


def _mean(
    y: Float[np.ndarray, "n d"], share: Float[np.ndarray, " n"] | None
) -> Float[np.ndarray, " d"]:
    return y.mean(0) if share is None else share @ y


def _covariance(
    offsets: Float[np.ndarray, "n d"], share: Float[np.ndarray, " n"] | None
) -> Float[np.ndarray, "d d"]:
    if share is None:
        return offsets.T @ offsets / len(offsets)
    return (offsets * share[:, None]).T @ offsets


def axes(
    found: Moments, weight: int | float, fewer: int = 0
) -> tuple[Float[np.ndarray, "k d d"], Float[np.ndarray, "k d"]]:
    """Principal axes of the covariances C, as columns, and the standard deviations along them.

    Args:
      found: moments of groups.
      weight: a, what the pooled covariance weighs, in codes.
      fewer: codes that each family is to lack. P then has a smaller divisor, m_F - `fewer`.
    """
    values, vectors = np.linalg.eigh(found.shrunk(weight, fewer))
    return vectors, np.sqrt(np.maximum(values, found.least))

r"""Mean and covariance of each group of codes, in float64 on the host.

The covariance of a group of :math:`n_g` codes is drawn towards that of all groups together,

.. math:: C_g = \frac{n_g S_g + a P}{n_g + a}, \qquad P = \frac1m \sum_g n_g S_g ,

so that a group of few codes has one, too. A group that is many times tighter than the others
becomes wider by this.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

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
      pooled: P (d, d).
      least: least variance in any direction.
    """

    group: Int[np.ndarray, " m"]
    counts: Int[np.ndarray, " k"]
    mean: Float[np.ndarray, "k d"]
    covariance: Float[np.ndarray, "k d d"]
    pooled: Float[np.ndarray, "d d"]
    least: float

    def shrunk(self, weight: int | float, pooled_scale: float = 1.0) -> Float[np.ndarray, "k d d"]:
        """Covariances C (k, d, d), with `weight` the a of the module."""
        n = self.counts[:, None, None]
        drawn = weight * pooled_scale * self.pooled[None]
        return (n * self.covariance + drawn) / (n + weight)


def moments(
    y: Float[np.ndarray, "m d"],
    group: Int[np.ndarray, " m"],
    mass: Float[np.ndarray, " m"] | None = None,
) -> Moments:
    """The moments of all groups.

    Args:
      y: codes (m, d), float64.
      group: from ``grouping``.
      mass: weights (m,), sum 1; None is uniform. A group counts its codes even so.
    """
    rows = members(group)
    shares = [None if mass is None else _shares(mass[own]) for own in rows]
    mean = np.stack([_mean(y[own], share) for own, share in zip(rows, shares, strict=True)])
    each = zip(rows, mean, shares, strict=True)
    covariance = np.stack([_covariance(y[own] - at, share) for own, at, share in each])
    counts = np.array([len(own) for own in rows])
    total = counts / len(y) if mass is None else np.array([mass[own].sum() for own in rows])
    pooled = np.einsum("k,kab->ab", total, covariance)
    return Moments(group, counts, mean, covariance, pooled, _FLOOR**2 * float(y.var(0).mean()))


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
    found: Moments, weight: int | float, pooled_scale: float = 1.0
) -> tuple[Float[np.ndarray, "k d d"], Float[np.ndarray, "k d"]]:
    """Principal axes of the covariances C, as columns, and the standard deviations along them.

    Args:
      found: moments of groups.
      weight: a, what the pooled covariance weighs, in codes.
      pooled_scale: a factor of the pooled covariance.
    """
    values, vectors = np.linalg.eigh(found.shrunk(weight, pooled_scale))
    return vectors, np.sqrt(np.maximum(values, found.least))

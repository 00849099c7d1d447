r"""Mean and covariance of each group of codes, in float64 on the host.

The covariance of a group of :math:`n_g` codes is drawn towards that of all groups together,

.. math:: C_g = \frac{n_g S_g + a P}{n_g + a}, \qquad P = \frac1m \sum_g n_g S_g ,

so that a group of few codes has one, too.
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


def moments(y: Float[np.ndarray, "m d"], group: Int[np.ndarray, " m"]) -> Moments:
    """The moments of all groups.

    Args:
      y: codes (m, d), float64.
      group: from ``groups``.
    """
    rows = members(group)
    mean = np.stack([y[own].mean(0) for own in rows])
    covariance = np.stack([_covariance(y[own] - at) for own, at in zip(rows, mean, strict=True)])
    counts = np.array([len(own) for own in rows])
    pooled = np.einsum("k,kab->ab", counts / len(y), covariance)
    return Moments(group, counts, mean, covariance, pooled, _FLOOR**2 * float(y.var(0).mean()))


def members(group: Int[np.ndarray, " m"]) -> list[Int[np.ndarray, " n"]]:
    """The codes of each group, ascending."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group))[:-1])


def _covariance(offsets: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    return offsets.T @ offsets / len(offsets)


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

"""The maps of cells onto kernels, in float64 on the host.

A = E^(-1/2) (E^(1/2) C E^(1/2))^(1/2) E^(-1/2) is the optimal map from N(0, E) to N(0, C). Few
samples leave the shape of a cell near that of its group, and that of a group near that of all.

Source: Olkin and Pukelsheim, "The distance between two random vectors with given dispersion
matrices", 1982.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from aeot_jax.ot.density.kernels import Kernels
from aeot_jax.ot.extension.noise.places import PRIOR, Places

_FLAT = 1e-3
"""Least variance of a shape in a direction, over its largest."""

_SHARES = np.concatenate([np.arange(1, 64) / 64, [1 - 1 / 256, 1 - 1 / 1024]])
"""Shares of samples at the knots."""

_TOGETHER = 1 << 20
"""Numbers in the matrices that are computed together."""


def of_groups(
    kernels: Kernels, counts: Int[np.ndarray, " g"], squares: Float[np.ndarray, "g d d"]
) -> Float[np.ndarray, "g d d"]:
    """A of each group of codes, of so many samples and of the sum of e e^T over these."""
    return _maps(_shapes(counts, squares), np.arange(len(counts)), kernels)


def of_cells(
    kernels: Kernels, places: Places, group: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "m d d"]:
    """A of each cell, whose code is in a group."""
    counts, squares = (np.asarray(one) for one in (places.counts, places.squares))
    d = squares.shape[-1]
    # Of a mean square of 1, as that of o / sigma is: sigma is known better than from a cell alone.
    mean = np.trace(squares, axis1=1, axis2=2)[:, None, None] / d
    # A single sample is its centre: its squares are rounding errors, and tell of no shape.
    known = (counts[:, None, None] > 1) & (mean > 0)
    counts = np.where(known[:, 0, 0], counts, 0)
    part = np.where(known, counts[:, None, None] / np.where(known, mean, 1.0), 0.0)
    squares = squares.astype(np.float64) * part
    groups = len(kernels.counts)
    total = np.zeros((groups, d, d))
    np.add.at(total, group, squares)
    prior = _shapes(np.bincount(group, counts, groups), total)
    shape = (squares + d * prior[group]) / (counts + d)[:, None, None]
    return _maps(shape, group, kernels)


def _shapes(
    counts: Float[np.ndarray, " g"] | Int[np.ndarray, " g"], squares: Float[np.ndarray, "g d d"]
) -> Float[np.ndarray, "g d d"]:
    """E of each group."""
    total = squares.astype(np.float64).sum(0) / max(counts.sum(), 1)
    weight = PRIOR * squares.shape[-1]
    return (squares + weight * total[None]) / (counts + weight)[:, None, None]


def _maps(
    shape: Float[np.ndarray, "c d d"], group: Int[np.ndarray, " c"], kernels: Kernels
) -> Float[np.ndarray, "c d d"]:
    """A from N(0, E) to N(0, C) of the group of each, as float32."""
    axes, deviations = (np.asarray(a, np.float64) for a in (kernels.axes, kernels.deviations))
    size = max(1, _TOGETHER // shape.shape[-1] ** 2)
    parts = [slice(first, first + size) for first in range(0, len(shape), size)]
    return np.concatenate(
        [_optimal(shape[own], axes[group[own]], deviations[group[own]]) for own in parts]
    )


def _optimal(
    shape: Float[np.ndarray, "c d d"],
    axes: Float[np.ndarray, "c d d"],
    deviations: Float[np.ndarray, "c d"],
) -> Float[np.ndarray, "c d d"]:
    values, vectors = np.linalg.eigh(shape)
    # Of a source that has one point in each cell nothing varies, and any shape will do.
    largest = values[:, -1:]
    values = np.where(largest > 0, np.maximum(values, _FLAT * largest), 1.0)
    root, inverse = (_symmetric(vectors, values**power) for power in (0.5, -0.5))
    inner = root @ _symmetric(axes, deviations**2) @ root
    values, vectors = np.linalg.eigh(inner)
    middle = _symmetric(vectors, np.sqrt(np.maximum(values, 0.0)))
    return (inverse @ middle @ inverse).astype(np.float32)


def _symmetric(
    vectors: Float[np.ndarray, "g d d"], values: Float[np.ndarray, "g d"]
) -> Float[np.ndarray, "g d d"]:
    return (vectors * values[:, None, :]) @ np.swapaxes(vectors, 1, 2)


def knots(r: Float[np.ndarray, " n"], dim: int) -> Float[np.ndarray, "2 k"]:
    """Knots of the increasing function that makes lengths those of a Gaussian.

    Args:
      r: lengths of samples (n,).
      dim: d; of N(0, I) they follow the chi distribution of d degrees.
    """
    wanted, varied = stats.chi.ppf(_SHARES, dim), r[r > 0]
    found = np.quantile(varied, _SHARES) if varied.size else wanted, wanted
    return np.asarray(np.pad(found, ((0, 0), (1, 0))), np.float32)

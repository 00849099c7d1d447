"""Checks of targets, weights, heights and source, with errors that name the argument."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from aeot_jax import arguments
from aeot_jax.arguments import is_concrete
from aeot_jax.measures import Measure
from aeot_jax.measures.checks import normalised
from aeot_jax.trees import check_distinct
from aeot_jax.typing import ArrayLike, Given, Heights, Targets, Weights

_LEAST_WEIGHT = float(np.finfo(np.float32).tiny)
"""Weights below it are none: float32 has no reciprocal for them, and no sample would ever tell."""


def check_targets(y: ArrayLike, name: str = "y") -> Targets:
    """Targets as float32 (m, d): at least one, all finite.

    Raises:
      ValueError: if the shape is not (m, d), a dimension is 0 or a number is not finite.
    """
    return arguments.real(name, points(name, y))


def points(name: str, y: Any) -> np.ndarray | Array:
    """Points in the caller's dtype, all finite where that is known, and within float32."""
    points = _ranked(name, y, 2)
    if points.shape[0] == 0 or points.shape[1] == 0:
        raise ValueError(f"`{name}` has shape {points.shape}; pass at least one target, (m, d).")
    arguments.check_real(name, points)
    return points


def _ranked(name: str, value: Any, ndim: int) -> np.ndarray | Array:
    """An array of a rank, in the caller's dtype."""
    array = arguments.array(name, value)
    if array.ndim != ndim:
        wanted = {1: "one number a target, shape (m,)", 2: "one point a row, shape (m, d)"}[ndim]
        raise ValueError(f"`{name}` has shape {array.shape}; pass {wanted}.")
    return array


def check_weights(nu: ArrayLike | None, y: Targets) -> Weights:
    """Weights as float32 (m,) with sum 1; uniform where ``nu`` is None.

    Raises:
      ValueError: if the shape disagrees with y, a weight is negative or not finite, all are zero,
        or the sum is not 1.
    """
    return placed(rounded_weights(weights(nu, y)))


def weights(nu: ArrayLike | None, y: np.ndarray | Array) -> np.ndarray | Array:
    """Weights in float64, divided by their sum; traced ones as they are, in float32."""
    if nu is None:
        return np.full(y.shape[0], 1.0 / y.shape[0])
    weights = _ranked("nu", nu, 1)
    _check_one_each("nu", weights, y, "weight")
    if not is_concrete(weights):
        return arguments.real("nu", weights)
    return normalised(np.asarray(weights).astype(np.float64))


def rounded_weights(nu: np.ndarray | Array) -> np.ndarray | Array:
    """Weights as float32; what is too small for it is 0."""
    if not is_concrete(nu):
        return nu
    known = np.asarray(nu, np.float64)
    return np.where(known < _LEAST_WEIGHT, 0.0, known).astype(np.float32)


def _check_one_each(name: str, array: Array | np.ndarray, y: Any, what: str) -> None:
    if array.shape[0] != y.shape[0]:
        raise ValueError(
            f"`{name}` has shape {array.shape}, but `y` has shape {y.shape}; pass one {what} per "
            "target."
        )


def check_heights(h: ArrayLike, y: Any, name: str = "h") -> Heights:
    """Heights as float32 (m,): finite or -inf, at least one finite.

    Raises:
      ValueError: if the shape disagrees with y, a height is NaN or +inf, or none is finite.
    """
    return arguments.real(name, heights(name, h, y), infinite_below=True)


def heights(name: str, h: ArrayLike, y: Any, *, some: bool = True) -> np.ndarray | Array:
    """Heights in the caller's dtype, looked at where they are known."""
    heights = _ranked(name, h, 1)
    _check_one_each(name, heights, y, "height")
    if is_concrete(heights):
        known = np.asarray(heights)
        _check_known_heights(name, known, some)
        arguments.rounded_to_float32(name, known, infinite_below=True)
    return heights


def _check_known_heights(name: str, h: np.ndarray, some: bool) -> None:
    bad = np.isnan(h) | (h == np.inf)
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(
            f"`{name}` is {h[index]} at {index}; heights are finite, or -inf for a target "
            "that owns no cell."
        )
    if some and not np.isfinite(h).any():
        raise ValueError(f"`{name}` is -inf everywhere; at least one target must own a cell.")


def check_measure(mu: Given[Measure], y: np.ndarray | Array) -> None:
    """Refuse what is no source, and one whose dimension is not that of the targets."""
    way = f"a source measure, as `aeot_jax.Gaussian(dim={y.shape[1]})`"
    arguments.instance("mu", mu, Measure, way)
    check_distinct("mu", mu)
    if mu.dim != y.shape[1]:
        raise ValueError(
            f"`mu` has dimension {mu.dim}, but `y` has shape {y.shape}; pass a source of dimension "
            f"{y.shape[1]}."
        )


def placed(array: np.ndarray | Array) -> Array:
    """An array of JAX as it is, one of NumPy on the default device."""
    return array if isinstance(array, jax.Array) else arguments.placed(array)

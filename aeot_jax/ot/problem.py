"""Targets and weights: checked at the border, merged where they coincide, centred and scaled."""

import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.arguments import is_concrete as is_concrete
from aeot_jax.measures import Measure
from aeot_jax.numerics import PRECISION
from aeot_jax.ot import blockwise
from aeot_jax.typing import ArrayLike, Given, Heights, HostTargets, HostWeights, Targets, Weights

_WEIGHT_SUM_TOLERANCE = 1e-4


def as_float32(
    name: str, value: ArrayLike, ndim: int, *, infinite_below: bool = False
) -> Float[Array, "..."]:
    """Check the rank and round to float32; what float32 cannot hold is an error, not infinity."""
    array = arguments.array(name, value)
    _check_rank(name, array, ndim)
    return arguments.real(name, array, infinite_below=infinite_below)


def _on_host(
    name: str, value: ArrayLike, ndim: int, *, infinite_below: bool = False
) -> Float[np.ndarray, "..."]:
    """``as_float32`` with NumPy, so that no device holds the array."""
    array = np.asarray(arguments.host_array(name, value))
    _check_rank(name, array, ndim)
    return arguments.rounded_to_float32(name, array, infinite_below=infinite_below)


def _check_rank(name: str, array: Array | np.ndarray, ndim: int) -> None:
    if array.ndim != ndim:
        wanted = {1: "one number a target, shape (m,)", 2: "one point a row, shape (m, d)"}[ndim]
        raise ValueError(f"`{name}` has shape {array.shape}; pass {wanted}.")


def check_targets(y: ArrayLike, name: str = "y") -> Targets:
    """Targets as float32 (m, d): at least one, all finite.

    Raises:
      ValueError: if the shape is not (m, d), a dimension is 0 or a number is not finite.
    """
    targets = as_float32(name, y, 2)
    _check_points(name, targets)
    return targets


def host_targets(y: ArrayLike, name: str = "y") -> HostTargets:
    """``check_targets`` for targets that no device can hold whole."""
    targets = _on_host(name, y, 2)
    _check_points(name, targets)
    return targets


def _check_points(name: str, targets: Targets | HostTargets) -> None:
    if targets.shape[0] == 0 or targets.shape[1] == 0:
        raise ValueError(f"`{name}` has shape {targets.shape}; pass at least one target, (m, d).")


def check_weights(nu: ArrayLike | None, y: Targets) -> Weights:
    """Weights as float32 (m,) with sum 1; uniform where ``nu`` is None.

    Raises:
      ValueError: if the shape disagrees with y, a weight is negative or not finite, all are zero,
        or the sum is not 1.
    """
    if nu is None:
        return jnp.full_like(y[:, 0], 1.0 / y.shape[0])
    weights = arguments.host_array("nu", nu)
    _check_rank("nu", weights, 1)
    _check_one_each("nu", weights, y, "weight")
    if not is_concrete(weights):
        return jnp.asarray(weights).astype(jnp.float32)
    return jnp.asarray(_normalised(np.asarray(weights, np.float64)).astype(np.float32))


def host_weights(nu: ArrayLike | None, y: HostTargets) -> HostWeights:
    """``check_weights`` on the host."""
    if nu is None:
        return np.full_like(y[:, 0], 1.0 / y.shape[0])
    weights = np.asarray(arguments.host_array("nu", nu))
    _check_rank("nu", weights, 1)
    _check_one_each("nu", weights, y, "weight")
    return _normalised(weights.astype(np.float64)).astype(np.float32)


def _check_one_each(
    name: str, array: Array | np.ndarray, y: Targets | HostTargets, what: str
) -> None:
    if array.shape[0] != y.shape[0]:
        raise ValueError(
            f"`{name}` has shape {array.shape}, but `y` has shape {y.shape}; pass one {what} per "
            "target."
        )


def _normalised(nu: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Weights divided by their sum, or an error that says what is wrong with them."""
    if not np.isfinite(nu).all():
        raise ValueError("`nu` holds NaN or infinity; pass finite weights that sum to 1.")
    if (nu < 0).any():
        raise ValueError(
            f"`nu` has a negative weight, {nu.min():.6g} at {nu.argmin()}; weights are >= 0."
        )
    if not nu.any():
        raise ValueError("`nu` is zero everywhere; at least one weight must be positive.")
    if abs(nu.sum() - 1) > _WEIGHT_SUM_TOLERANCE:
        raise ValueError(f"`nu` sums to {nu.sum():.6g}; divide it by its sum to get 1.")
    return nu / nu.sum()


def check_heights(h: ArrayLike, y: Targets, name: str = "h") -> Heights:
    """Heights as float32 (m,): finite or -inf, at least one finite.

    Raises:
      ValueError: if the shape disagrees with y, a height is NaN or +inf, or none is finite.
    """
    given = arguments.host_array(name, h)
    _check_rank(name, given, 1)
    _check_one_each(name, given, y, "height")
    if is_concrete(given):
        _check_known_heights(name, np.asarray(given))
    return arguments.real(name, h, infinite_below=True)


def host_heights(h: ArrayLike, y: HostTargets, name: str = "h") -> HostWeights:
    """``check_heights`` on the host."""
    heights = _on_host(name, h, 1, infinite_below=True)
    _check_one_each(name, heights, y, "height")
    _check_known_heights(name, heights)
    return heights


def _check_known_heights(name: str, h: np.ndarray) -> None:
    bad = np.isnan(h) | (h == np.inf)
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(
            f"`{name}` is {h[index]} at {index}; heights are finite, or -inf for a target "
            "that owns no cell."
        )
    if not np.isfinite(h).any():
        raise ValueError(f"`{name}` is -inf everywhere; at least one target must own a cell.")


def check_measure(mu: Given[Measure], y: Targets | HostTargets) -> None:
    """Refuse what is no source, and one whose dimension is not that of the targets."""
    way = f"a source measure, as `aeot_jax.Gaussian(dim={y.shape[1]})`"
    arguments.instance("mu", mu, Measure, way)
    if mu.dim != y.shape[1]:
        raise ValueError(
            f"`mu` has dimension {mu.dim}, but `y` has shape {y.shape}; pass a source of dimension "
            f"{y.shape[1]}."
        )


def representatives(y: Targets | HostTargets) -> Int[np.ndarray, " m"] | None:
    """Lowest index of the target that equals each target; None where all differ.

    Coinciding targets share one cell, which ``assign`` gives to the lowest index: their weights
    are merged there for the solve and for every residual.
    """
    host = np.ascontiguousarray(np.asarray(y)) + 0.0  # -0.0 equals 0.0
    rows = host.view(np.dtype((np.void, host.dtype.itemsize * host.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    if first.size == host.shape[0]:
        return None
    return first[inverse.ravel()].astype(np.int32)


def merged_weights(nu: Weights, same: Int[np.ndarray, " m"]) -> Weights:
    """Weights (m,) of each group of coinciding targets at its representative, 0 elsewhere.

    Known weights are added on the host: float32 loses the sum of many small ones.
    """
    if not is_concrete(nu):
        return jnp.zeros_like(nu).at[jnp.asarray(same)].add(nu)
    return jnp.asarray(host_merged_weights(np.asarray(nu), same))


def host_merged_weights(nu: HostWeights, same: Int[np.ndarray, " m"]) -> HostWeights:
    """``merged_weights`` on the host."""
    merged = np.bincount(same, nu.astype(np.float64), len(same))
    return (merged / merged.sum()).astype(np.float32)


def warn_of_duplicates(same: Int[np.ndarray, " m"]) -> None:
    """Say once that some targets coincide and what becomes of their weights."""
    copies = int((same != np.arange(same.size)).sum())
    warnings.warn(
        f"`y` holds {copies} targets that equal an earlier one; each group shares one cell, whose "
        "mass is the sum of the group's weights.",
        stacklevel=3,
    )


class Frame(NamedTuple):
    """Where the targets lie: y = centre + scale * (targets the solver sees).

    A shift of the targets moves every score of a sample alike, and heights scale with the targets:
    ``h = scale * (heights the solver sees)``. One set of constants then serves every data set.
    """

    centre: Float[Array, " d"]
    scale: Float[Array, ""]

    def normalise(self, y: Targets) -> Targets:
        """Centre and scale targets (m, d)."""
        return (y - self.centre[None, :]) / self.scale


def frame(y: Targets, nu: Weights, targets_axis: str | None = None) -> Frame:
    """Weighted mean of the targets and root mean square of a coordinate around it.

    Args:
      y: targets (m, d).
      nu: weights (m,).
      targets_axis: a mapped axis over whose devices the targets are dealt.
    """
    size = jnp.max(jnp.abs(y))
    if targets_axis is not None:
        size = jax.lax.pmax(size, targets_axis)
    # Scale first: squares of targets near 1e-30 or 1e+30 leave float32.
    size = jnp.maximum(size, jnp.finfo(jnp.float32).tiny)

    def mean(y: Targets, nu: Weights, size: Float[Array, ""]) -> Float[Array, " d"]:
        return jnp.matmul(nu, y / size, precision=PRECISION)

    def square(
        y: Targets, nu: Weights, size: Float[Array, ""], centre: Float[Array, " d"]
    ) -> Float[Array, ""]:
        deviation = jnp.square(y / size - centre[None, :]).mean(1)
        return jnp.matmul(nu, deviation, precision=PRECISION)

    of_targets = partial(blockwise.totals, targets_axis=targets_axis)
    centre = of_targets(mean, (y, nu), size)
    variance = of_targets(square, (y, nu), size, centre)
    # Targets that all coincide, up to rounding, have no size: any scale serves.
    scale = jnp.where(variance > 1e-13, jnp.sqrt(variance), 1.0)
    return Frame(centre * size, scale * size)

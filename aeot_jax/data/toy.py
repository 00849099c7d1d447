"""Toy densities with known modes or a known curve, to find what a generator misses."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import PRNGKey


@register
@dataclasses.dataclass(frozen=True)
class Toy:
    """A sample of a toy density: noise around modes or around a curve.

    Attributes:
      points: the sample.
      modes: the centres, all of equal weight; None for a curve.
      labels: the index of the mode, or of the branch of the curve, that each point came from.
      sigma: standard deviation of the isotropic Gaussian noise.
      distance: for a curve, the function that maps points (n, 2) to their distance (n,) from the
        noiseless curve; None for modes.
    """

    points: Float[Array, "n d"]
    modes: Float[Array, "k d"] | None
    labels: Int[Array, " n"]
    sigma: float = dataclasses.field(metadata={"static": True})
    distance: Callable[[Array], Array] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )

    __repr__ = brief


def ring(key: PRNGKey, n: int, *, sigma: float = 0.01) -> Toy:
    """Draw from eight Gaussians on the unit circle, the first at (1, 0).

    Source: Lin, Khetan, Fanti, Oh, "PacGAN", NeurIPS 2018, section 4.1 (100,000 points to learn
    from, 2,500 to judge by).
    """
    angle = np.arange(8) * (np.pi / 4)
    return _mixture(key, n, np.stack([np.cos(angle), np.sin(angle)], axis=1), sigma)


def grid(key: PRNGKey, n: int, *, sigma: float = 0.05) -> Toy:
    """Draw from 25 Gaussians at {-4, -2, 0, 2, 4}^2.

    Source: as for `ring`.
    """
    return _mixture(key, n, _lattice(np.arange(-4, 5, 2), dim=2), sigma)


def cube(key: PRNGKey, n: int, *, sigma: float = 0.05) -> Toy:
    """Draw from 27 Gaussians at {-2, 0, 2}^3: the grid in one dimension more."""
    return _mixture(key, n, _lattice(np.arange(-2, 3, 2), dim=3), sigma)


def clusters(
    key: PRNGKey, n: int, *, k: int = 10, dim: int = 32, sigma: float = 0.05, seed: int = 0
) -> Toy:
    """Draw from Gaussians around k random centres, the closest two at distance 1.

    At the default sigma the balls that hold 99.7 % of each cluster are disjoint up to dim 60.

    Args:
      key: the key of the sample.
      n: the number of points.
      k: the number of clusters.
      dim: the dimension.
      sigma: standard deviation of each cluster, in every direction.
      seed: seed of the centres, so that samples with other keys share them.

    Returns:
      The sample.

    Raises:
      ValueError: if k or dim is less than 1.
    """
    if k < 1 or dim < 1:
        raise ValueError(f"`k` is {k} and `dim` is {dim}; pass at least 1 for both.")
    centres = np.random.default_rng(seed).standard_normal((k, dim))
    if k > 1:
        i, j = np.triu_indices(k, 1)
        centres /= np.sqrt(np.sum((centres[i] - centres[j]) ** 2, axis=1).min())
    return _mixture(key, n, centres, sigma)


def moons(key: PRNGKey, n: int, *, sigma: float = 0.05) -> Toy:
    """Draw from two interleaved half circles, uniformly along them, with noise.

    The upper has its centre at (0, 0), the lower at (1, 1/2); both have radius 1.
    """
    _check(n, sigma)
    branch_key, angle_key, noise_key = jax.random.split(key, 3)
    labels = jax.random.randint(branch_key, (n,), 0, 2, jnp.int32)
    angle = jax.random.uniform(angle_key, (n,), jnp.float32, 0.0, jnp.pi)
    arc = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    upper = (labels == 0)[:, None]
    curve = jnp.where(upper, arc, jnp.array([[1.0, 0.5]], jnp.float32) - arc)
    points = curve + sigma * jax.random.normal(noise_key, (n, 2), jnp.float32)
    return Toy(points, None, labels, sigma, moons_distance)


def moons_distance(points: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """Return the distance of each point to the nearer of the two half circles of `moons`."""
    upper = _half_circle_distance(points)
    lower = _half_circle_distance(jnp.array([[1.0, 0.5]], points.dtype) - points)
    return jnp.minimum(upper, lower)


def swiss_roll(key: PRNGKey, n: int, *, sigma: float = 0.02) -> Toy:
    """Draw from a planar spiral of one and a half turns, with noise.

    The curve is t (cos t, sin t) / (4.5 pi), t uniform on [1.5 pi, 4.5 pi]: the usual roll seen
    along its axis, scaled to outer radius 1. Its turns are 0.44 apart, 22 times the default sigma.

    Source: Marsland, "Machine Learning: An Algorithmic Perspective", chapter 10.
    """
    _check(n, sigma)
    curve_key, noise_key = jax.random.split(key)
    t = jax.random.uniform(curve_key, (n,), jnp.float32, _ROLL_START, _ROLL_END)
    points = _roll(t) + sigma * jax.random.normal(noise_key, (n, 2), jnp.float32)
    return Toy(points, None, jnp.zeros(n, jnp.int32), sigma, swiss_roll_distance)


def swiss_roll_distance(points: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """Return the distance of each point to the curve of `swiss_roll`.

    From both ends, and from where the ray through the point meets each turn, a few Newton steps
    lead to the feet of perpendiculars; of all points of the curve visited, the nearest counts.
    """
    angle = jnp.arctan2(points[:, 1], points[:, 0])
    # angle is in [-pi, pi] and t in [1.5 pi, 4.5 pi]; 0 and 3 turns clip to the ends
    turns = 2 * jnp.pi * jnp.arange(4, dtype=points.dtype)
    t = jnp.clip(angle[:, None] + turns[None, :], _ROLL_START, _ROLL_END)
    x = points[:, None, :]

    def newton(t: Array, _: None) -> tuple[Array, Array]:
        cos, sin = jnp.cos(t), jnp.sin(t)
        first = jnp.stack([cos - t * sin, sin + t * cos], axis=-1) / _ROLL_END
        second = jnp.stack([-2 * sin - t * cos, 2 * cos - t * sin], axis=-1) / _ROLL_END
        gap = _roll(t) - x
        squared = jnp.sum(gap**2, axis=-1)
        slope = jnp.sum(gap * first, axis=-1)
        speed = jnp.sum(first**2, axis=-1)
        # near the centre of curvature the second derivative vanishes; keep the step a descent
        bend = jnp.maximum(speed + jnp.sum(gap * second, axis=-1), 0.2 * speed)
        return jnp.clip(t - slope / bend, _ROLL_START, _ROLL_END), squared

    _, squared = jax.lax.scan(newton, t, length=8)
    return jnp.sqrt(jnp.min(squared, axis=(0, 2)))


_ROLL_START, _ROLL_END = 1.5 * np.pi, 4.5 * np.pi


def _roll(t: Array) -> Array:
    """Return the points (..., 2) of the spiral at the angles t (...)."""
    return jnp.stack([t * jnp.cos(t), t * jnp.sin(t)], axis=-1) / _ROLL_END


def _half_circle_distance(points: Array) -> Array:
    """Return distances to the upper half of the unit circle."""
    to_circle = jnp.abs(jnp.linalg.norm(points, axis=1) - 1)
    # below the centre the nearest point is the end on the same side
    to_end = jnp.hypot(jnp.abs(points[:, 0]) - 1, points[:, 1])
    return jnp.where(points[:, 1] >= 0, to_circle, to_end)


def _lattice(levels: np.ndarray, dim: int) -> np.ndarray:
    """Return every point (k, dim) whose coordinates are all levels; the last varies fastest."""
    return np.stack(np.meshgrid(*[levels] * dim, indexing="ij"), axis=-1).reshape(-1, dim)


def _mixture(key: PRNGKey, n: int, centres: np.ndarray, sigma: float) -> Toy:
    """Draw n points from Gaussians of equal weight around the centres (k, d)."""
    _check(n, sigma)
    label_key, noise_key = jax.random.split(key)
    modes = jnp.asarray(centres, jnp.float32)
    labels = jax.random.randint(label_key, (n,), 0, len(modes), jnp.int32)
    noise = jax.random.normal(noise_key, (n, modes.shape[1]), jnp.float32)
    return Toy(modes[labels] + sigma * noise, modes, labels, sigma)


def _check(n: int, sigma: float) -> None:
    if n < 1:
        raise ValueError(f"`n` is {n}; pass at least 1.")
    if not sigma >= 0:
        raise ValueError(f"`sigma` is {sigma}; pass a standard deviation of at least 0.")

"""Precision, recall, density, coverage: fidelity and diversity told apart by neighbour balls."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.metrics import distances


@dataclasses.dataclass(frozen=True)
class PRDC:
    """The four scores, and what they were computed from.

    Attributes:
      precision: share of generated points inside the ball of at least one real point.
      recall: share of real points inside the ball of at least one generated point.
      density: mean number of real balls that hold a generated point, over k; may exceed 1.
      coverage: share of real points whose ball holds at least one generated point.
      k: the neighbour that sets the radius of a point's ball.
      num_real: real points.
      num_generated: generated points.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    num_real: int
    num_generated: int


def prdc(real: ArrayLike, generated: ArrayLike, *, k: int = 5) -> PRDC:
    """Measure precision, recall, density and coverage.

    A point's ball reaches to its k-th nearest neighbour within its own set, itself not counted.
    For two independent samples of one distribution, density is 1 and coverage 1 - (choose(2n-1-k,
    n) / choose(2n-1, n)), about 1 - 2^-k, in expectation; precision and recall depend on the
    dimension.

    Balls are closed, as in Kynkäänniemi et al.: a copy of a real point counts as inside even where
    duplicates shrink the ball to nothing. The code of Naeem et al. has open balls; the two differ
    only on ties, that is for copies: identical sets have density (k+1)/k here and 1 there.

    Args:
      real: real points, (n, ...), flattened to rows; features rather than pixels.
      generated: generated points, (m, ...), of the same size.
      k: the neighbour that sets the radius.

    Returns:
      The four scores.

    Raises:
      ValueError: if the sizes differ, a value is not finite, or a set has no k-th neighbour.

    Source: Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for Generative
    Models", ICML 2020; Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall
    Metric for Assessing Generative Models", NeurIPS 2019.
    """
    x, y = distances.rows(real, "real"), distances.rows(generated, "generated")
    distances.same_width(x, y, ("real", "generated"))
    radius_x, radius_y = _radii(x, k, "real"), _radii(y, k, "generated")
    centre = distances.mean_row(x)
    (n, d), m = x.shape, y.shape[0]
    reference = distances.centred(x, centre)
    balls = np.empty(m, np.int64)
    covered, recalled = np.zeros(n, bool), np.zeros(n, bool)
    for part in distances.chunks(m, 4 * (2 * n + d)):
        balls[part], reached, held = _overlaps(
            reference, distances.centred(y[part], centre), radius_x, radius_y[part]
        )
        covered |= np.asarray(reached)
        recalled |= np.asarray(held)
    return PRDC(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
        k=k,
        num_real=n,
        num_generated=m,
    )


def neighbour_radii(x: ArrayLike, k: int = 5) -> np.ndarray:
    """Measure the distance from each point to its k-th nearest other point.

    Duplicates are neighbours at distance 0. Beyond one float32 copy of the points, temporaries
    stay under 64 MiB.

    Args:
      x: points, (n, ...), flattened to rows.
      k: which neighbour; 1 is the nearest.

    Returns:
      Radii, (n,) float32, accurate to a few ulp.

    Raises:
      ValueError: if a value is not finite or there are fewer than k + 1 points.
    """
    return _radii(distances.rows(x, "x"), k, "x")


def _radii(x: np.ndarray, k: int, name: str) -> np.ndarray:
    n, d = x.shape
    if k < 1:
        raise ValueError(f"`k` is {k}; pass at least 1.")
    if n <= k:
        raise ValueError(
            f"`{name}` has {n} points, too few for `k` = {k}; pass at least {k + 1} or lower `k`."
        )
    points = distances.centred(x, distances.mean_row(x))
    radius = np.empty(n, np.float32)
    for part in distances.chunks(n, 4 * (2 * n + (k + 1) * d)):
        radius[part] = _kth_distance(
            points, jnp.arange(part.start, part.stop, dtype=jnp.int32), k=k
        )
    return radius


@jax.jit(static_argnames="k")
def _kth_distance(x: Float[Array, "n d"], own: Int[Array, " c"], *, k: int) -> Float[Array, " c"]:
    a = x[own]
    squared, _ = distances.squared_distances(a, x)
    squared = squared.at[jnp.arange(own.shape[0], dtype=jnp.int32), own].set(jnp.inf)
    _, index = jax.lax.top_k(-squared, k)
    difference = a[:, None, :] - x[index]
    return jnp.sqrt(jnp.sum(difference * difference, axis=2).max(axis=1))


@jax.jit
def _overlaps(
    x: Float[Array, "n d"],
    y: Float[Array, "c d"],
    radius_x: Float[Array, " n"],
    radius_y: Float[Array, " c"],
) -> tuple[Int[Array, " c"], Bool[Array, " n"], Bool[Array, " n"]]:
    """Count the real balls around each generated point; mark the real points reached and held."""
    squared, slack = distances.squared_distances(y, x)
    # A point on the sphere belongs to the ball, whatever the last digits of the expansion say.
    in_real = squared <= (radius_x**2)[None, :] + slack
    in_generated = squared <= (radius_y**2)[:, None] + slack
    return in_real.sum(axis=1, dtype=jnp.int32), in_real.any(axis=0), in_generated.any(axis=0)

r"""The Wasserstein distance between a source and targets, enclosed from below and from above.

Let :math:`\mu_n` be the empirical law of the n samples drawn. Any heights give a feasible pair of
Kantorovich potentials, and any coupling a cost, so that on every draw

.. math:: \text{lower}^2 = \frac1n\sum_x 2\varphi(x) + 2\langle\nu, \psi\rangle
          \;\le\; W_2^2(\mu_n, \nu) \;\le\; \text{upper}^2 = \text{cost of a coupling}.

The left side is a mean, so its expectation is the dual value at h, at most :math:`W_2^2(\mu, \nu)`.
The optimal cost is convex in the pair of measures, so the expectation of the middle, and hence of
the right side, is at least :math:`W_2^2(\mu, \nu)` (Jensen). Both bounds thus hold in expectation
for any h, any number of samples and any source with a second moment; how far one draw may lie from
its expectation is what the standard errors say.

The coupling is T, which is optimal for its own masses w (u_h is convex), followed by a plan that
carries w to nu (``repair.py``).

Source: Kantorovich duality and convexity of the cost: Villani 2009, theorems 5.10 and 4.8.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.numerics import add_rows, without_gradient
from aeot_jax.ot import centring, checks, merging
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.ot.duality.repair import curve_order, repair_cost
from aeot_jax.ot.duality.scaled import Asked, Scaled, Sums, draw_sums, scale_to_unit
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_SAMPLES_PER_STREAM = 512
"""Samples of a stream in one round."""

_NO_GRADIENT = (
    "`wasserstein` gives bounds, which have no gradient; train on `w2_loss`, which has one, and "
    "call `wasserstein` outside of what is differentiated, or on `jax.lax.stop_gradient(...)`."
)


@register
@dataclass(frozen=True)
class Distance:
    r"""Bounds of W2 between a source and weighted targets. Every field is a scalar array.

    The squares are the estimates. ``lower_squared`` is an unbiased estimate of twice the dual value
    at h, which is at most W2^2; it may be negative. ``upper_squared`` has an expectation of at
    least W2^2. On one draw ``lower_squared <= upper_squared`` up to rounding. The root of a
    negative square is 0, and a root's standard error is sqrt(square + se) - root, finite at 0.

    Attributes:
      lower: root of ``lower_squared``, or 0.
      lower_se: its standard error.
      upper: root of ``upper_squared``.
      upper_se: its standard error.
      lower_squared: twice the dual value, ``E[2 phi] + 2 <nu, psi> = cost - 2 residual``; -inf
        if a target of positive weight has height -inf.
      lower_squared_se: its standard error, from the variance over samples.
      upper_squared: cost of a coupling of the samples and the weights.
      upper_squared_se: its standard error: the jackknife over the 8 logical streams, with the mean
        sample of each cell held fixed.
      cost: unbiased estimate of E|x - T(x)|^2, which is W2^2 between the source and the targets if
        the masses of the cells are the weights.
      cost_se: its standard error.
      residual: ``<w - nu, psi>``, signed: half of what the errors of the masses add to the cost; 0
        at the optimum.
      residual_se: its standard error.
      num_samples: samples used.
    """

    lower: Float[Array, ""]
    lower_se: Float[Array, ""]
    upper: Float[Array, ""]
    upper_se: Float[Array, ""]
    lower_squared: Float[Array, ""]
    lower_squared_se: Float[Array, ""]
    upper_squared: Float[Array, ""]
    upper_squared_se: Float[Array, ""]
    cost: Float[Array, ""]
    cost_se: Float[Array, ""]
    residual: Float[Array, ""]
    residual_se: Float[Array, ""]
    num_samples: Int[Array, ""]

    __repr__ = brief


def wasserstein(
    key: Given[PRNGKey],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    num_samples: Given[int] = 100_000,
) -> Distance:
    r"""Bound W2(mu, nu), the root of the least mean of |x - y|^2, from below and above by heights.

    The lower bound is tight at the optimal heights: its gap is quadratic in the mass error. The
    upper bound repairs the masses of this draw, whose errors include those of sampling. Its gap
    shrinks with more samples and with a smaller mass error: on the line as fast as that of the
    lower bound, in high dimension like the share of mass that must move.

    Memory beyond the arguments is a few arrays of the size of ``y``. Bounds have no gradient:
    ``w2_loss`` is the distance as a loss.

    Args:
      key: consumed; must not be a key that led to ``h``.
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y, h and nu.
      y: targets (m, d).
      h: heights (m,), optimal or not; -inf for a target that owns no cell.
      nu: weights (m,), sum 1; None is uniform. Weights may be 0.
      num_samples: samples, at least 2; rounded up to whole rounds of the logical streams.

    Returns:
      The bounds with their standard errors.

    Raises:
      ValueError: if shapes, weights, heights or the source's dimension do not fit.
      TypeError: if ``jax.grad`` asks for a gradient.
    """
    key = arguments.key("key", key)
    mu, y, h, nu = parts_of(mu, y, h, nu)
    targets, offset = centring.near_points(y)
    heights = checks.check_heights(h, targets)
    weights = checks.check_weights(nu, targets)
    checks.check_measure(mu, targets)
    most = arguments.MOST - NUM_STREAMS * _SAMPLES_PER_STREAM
    num_samples = arguments.count("num_samples", num_samples, 2, most)
    same = merging.representatives(targets) if arguments.is_concrete(targets) else None
    merged = weights if same is None else merging.merged_weights(weights, same)
    own = np.arange(targets.shape[0], dtype=np.int32) if same is None else same
    per_stream = min(_SAMPLES_PER_STREAM, -(-num_samples // NUM_STREAMS))
    rounds = -(-num_samples // (per_stream * NUM_STREAMS))
    asked = Asked(targets, jnp.asarray(offset, jnp.float32), heights, weights, own, merged)
    found = _wasserstein(key, mu, asked, jnp.int32(rounds), per_stream=per_stream)
    return without_gradient(found, _NO_GRADIENT)


class _Estimate(NamedTuple):
    """An estimate with its standard error."""

    value: Float[Array, ""]
    se: Float[Array, ""]

    def root(self) -> "_Estimate":
        """The root of what is positive."""
        root = jnp.sqrt(jnp.maximum(self.value, 0.0))
        return _Estimate(root, jnp.sqrt(jnp.maximum(self.value, 0.0) + self.se) - root)

    def times(self, factor: Float[Array, ""]) -> "_Estimate":
        """The same in another unit."""
        return _Estimate(factor * self.value, factor * self.se)


@partial(jax.jit, static_argnames="per_stream")
def _wasserstein(
    key: PRNGKey, mu: Measure, asked: Asked, rounds: Int[Array, ""], *, per_stream: int
) -> Distance:
    unit_key, draw_key = jax.random.split(key)
    scaled = scale_to_unit(unit_key, mu, asked)
    sums = draw_sums(draw_key, mu, scaled, rounds, per_stream)
    per_mean = rounds * per_stream
    cost, residual, lower = _means(sums, per_mean, scaled.mean_psi)
    upper = _upper(sums, asked, scaled, cost.value)
    unit, area = scaled.unit, scaled.unit * scaled.unit
    lower_root, upper_root = lower.root().times(unit), upper.root().times(unit)
    lower, upper = lower.times(area), upper.times(area)
    cost, residual = cost.times(area), residual.times(area)
    return Distance(
        lower=lower_root.value,
        lower_se=lower_root.se,
        upper=upper_root.value,
        upper_se=upper_root.se,
        lower_squared=lower.value,
        lower_squared_se=lower.se,
        upper_squared=upper.value,
        upper_squared_se=upper.se,
        cost=cost.value,
        cost_se=cost.se,
        residual=residual.value,
        residual_se=residual.se,
        num_samples=NUM_STREAMS * per_mean,
    )


def _means(
    sums: Sums, per_mean: Int[Array, ""], mean_psi: Float[Array, ""]
) -> tuple[_Estimate, _Estimate, _Estimate]:
    """Cost, residual <w - nu, psi> and the lower bound cost - 2 residual, scaled.

    Args:
      sums: of all streams.
      per_mean: samples behind each mean.
      mean_psi: <nu, psi>.
    """
    n = NUM_STREAMS * per_mean
    mean = sums.mean.mean(0)
    each = per_mean.astype(jnp.float32)
    scatter = (sums.scatter + each * jnp.square(sums.mean - mean[None, :])).sum(0)
    se = jnp.sqrt(scatter / (n - 1).astype(jnp.float32) / n.astype(jnp.float32))
    cost, residual = mean[0], mean[1] - mean_psi
    # The upper bound is rounded from the same cost: a sum keeps the order of what is added.
    lower = cost - 2 * residual
    return _Estimate(cost, se[0]), _Estimate(residual, se[1]), _Estimate(lower, se[2])


def _upper(sums: Sums, asked: Asked, scaled: Scaled, cost: Float[Array, ""]) -> _Estimate:
    """Cost of the map and of the plan that repairs its masses, scaled; jackknife over streams."""
    counts = jnp.zeros_like(sums.counts).at[:, asked.same].add(sums.counts)
    held = jnp.maximum(counts.sum(0, dtype=jnp.int32), 1).astype(jnp.float32)
    cell_sum = add_rows(jnp.zeros_like(sums.cell_sum), jnp.asarray(asked.same), sums.cell_sum)
    cell_mean = (cell_sum / held[:, None] - scaled.centre[None, :]) / scaled.unit
    order = curve_order(scaled.v)

    def coupling_cost(group: tuple[Int[Array, " m"], Float[Array, ""]]) -> Float[Array, ""]:
        counts, cost = group
        w = counts.astype(jnp.float32) / counts.sum(dtype=jnp.int32).astype(jnp.float32)
        return cost + repair_cost(w, asked.merged, scaled.v, cell_mean, order)

    # All streams, then all but one, in one loop: it is compiled once.
    total = counts.sum(0, dtype=jnp.int32)[None, :]
    of_others = (NUM_STREAMS * cost - sums.mean[:, 0]) / (NUM_STREAMS - 1)
    groups = (
        jnp.concatenate([total, total - counts]),
        jnp.concatenate([cost[None], of_others]),
    )
    costs = jax.lax.map(coupling_cost, groups)
    deviation = jnp.square(costs[1:] - costs[1:].mean()).sum()
    return _Estimate(costs[0], jnp.sqrt(deviation * (NUM_STREAMS - 1) / NUM_STREAMS))

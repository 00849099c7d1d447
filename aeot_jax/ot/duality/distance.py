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
carries w to nu. Of two such plans the cheaper is taken: both fill along a curve through the
targets, one the weights with all of the masses, one the deficits with the excesses.

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
from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import PRECISION, repeat, safe_ratio
from aeot_jax.ot import problem
from aeot_jax.ot.cells import power
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given, Heights, PRNGKey, Targets, Weights

_SAMPLES_PER_STREAM = 512
"""Samples of a stream in one round."""

_UNIT_SAMPLES = 64
"""Samples that tell the size of the source, so that no square leaves float32."""

_SEGMENTS = 4096
"""Segments of a plan that are priced together."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Distance:
    r"""Bounds of W2 between a source and weighted targets. Every field is a scalar array.

    The squares are the estimates: ``lower_squared`` is unbiased for the dual value at h, at most
    W2^2, and may be negative; ``upper_squared`` has an expectation of at least W2^2. On one draw
    ``lower_squared <= upper_squared`` up to rounding. Roots are taken of what is positive, and a
    root's standard error is sqrt(square + se) - root, finite at 0.

    Attributes:
      lower: root of ``lower_squared``, or 0.
      lower_se: its standard error.
      upper: root of ``upper_squared``.
      upper_se: its standard error.
      lower_squared: twice the dual value, E[2 phi] + 2 <nu, psi> = cost - 2 residual; -inf if a
        target of positive weight has height -inf.
      lower_squared_se: its standard error, from the spread over samples.
      upper_squared: cost of a coupling of the samples and the weights.
      upper_squared_se: its standard error: the jackknife over the 8 logical streams, the mean
        sample of each cell held.
      cost: E|x - T(x)|^2, which is W2^2 between the source and the targets with the masses of the
        cells as weights, unbiased.
      cost_se: its standard error.
      residual: <w - nu, psi>, signed: half of what the masses' errors are worth in the dual, 0 at
        the optimum.
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
    r"""Enclose W2(mu, nu), the root of the least mean of |x - y|^2, by what heights prove.

    The lower bound is tight at the optimal heights: its gap is quadratic in the mass error. The
    upper bound pays for the masses of this draw, errors of sampling included: its gap shrinks with
    more samples and with a smaller mass error, on the line as fast as the lower one's, in high
    dimension like the share of mass that must move.

    Memory beyond the arguments is a few arrays of the size of ``y``.

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
    """
    key = arguments.key("key", key)
    mu, y, h, nu = parts_of(mu, y, h, nu)
    targets, offset = problem.near_points(y)
    heights = problem.check_heights(h, targets)
    weights = problem.check_weights(nu, targets)
    problem.check_measure(mu, targets)
    most = arguments.MOST - NUM_STREAMS * _SAMPLES_PER_STREAM
    num_samples = arguments.count("num_samples", num_samples, 2, most)
    same = problem.representatives(targets) if problem.is_concrete(targets) else None
    merged = weights if same is None else problem.merged_weights(weights, same)
    own = np.arange(targets.shape[0], dtype=np.int32) if same is None else same
    per_stream = min(_SAMPLES_PER_STREAM, -(-num_samples // NUM_STREAMS))
    rounds = -(-num_samples // (per_stream * NUM_STREAMS))
    return _wasserstein(
        key,
        mu,
        targets,
        jnp.asarray(offset, jnp.float32),
        heights,
        weights,
        own,
        merged,
        jnp.int32(rounds),
        per_stream=per_stream,
    )


class _Sums(NamedTuple):
    """What a draw leaves behind, by logical stream s; costs in units of the problem's size.

    Attributes:
      counts: samples in each cell (s, m).
      cell_sum: sum of the samples of each cell over all streams (m, d).
      mean: mean over samples (s, 3) of |x - T(x)|^2, psi(T(x)) and the first less twice the second.
      scatter: sums of squared deviations from these means (s, 3).
    """

    counts: Int[Array, "s m"]
    cell_sum: Float[Array, "m d"]
    mean: Float[Array, "s 3"]
    scatter: Float[Array, "s 3"]


@partial(jax.jit, static_argnames="per_stream")
def _wasserstein(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    offset: Float[Array, " d"],
    h: Heights,
    nu: Weights,
    same: Int[Array, " m"],
    merged: Weights,
    rounds: Int[Array, ""],
    *,
    per_stream: int,
) -> Distance:
    unit_key, draw_key = jax.random.split(key)
    frame = problem.frame(y, nu)
    centre, scale = frame.centre + offset, frame.scale
    reach = jnp.abs(draw(unit_key, mu, _UNIT_SAMPLES) - centre[None, :]).max()
    unit = jnp.maximum(jnp.maximum(reach, scale), jnp.finfo(jnp.float32).tiny)
    normalised = frame.normalise(y)
    v = normalised * (scale / unit)
    # psi less a constant, in units of unit^2: h + |y|^2 / 2 around the centre of the targets.
    psi = h / unit / unit + jnp.matmul(v, centre / unit, precision=PRECISION)
    psi = psi + jnp.square(v).sum(1) / 2
    finite = jnp.where(jnp.isfinite(psi), nu, 0.0)
    psi = psi - safe_ratio(jnp.where(finite > 0, nu * psi, 0.0).sum(), finite.sum())
    of_weights = jnp.where(nu > 0, nu * psi, 0.0).sum()  # 0 but for rounding, or -inf

    sums = _draw(draw_key, mu, normalised, h / scale, v, centre, unit, psi, rounds, per_stream)
    per_mean = rounds * per_stream
    n = NUM_STREAMS * per_mean
    num_samples = n.astype(jnp.float32)
    mean = sums.mean.mean(0)
    each = per_mean.astype(jnp.float32)
    scatter = (sums.scatter + each * jnp.square(sums.mean - mean[None, :])).sum(0)
    cost_se, residual_se, lower_se = jnp.sqrt(scatter / (n - 1).astype(jnp.float32) / num_samples)
    cost, residual, lower = mean[0], mean[1] - of_weights, mean[2] + 2 * of_weights

    counts = jnp.zeros_like(sums.counts).at[:, same].add(sums.counts)
    held = jnp.maximum(counts.sum(0, dtype=jnp.int32), 1).astype(jnp.float32)
    cell_sum = jnp.zeros_like(sums.cell_sum).at[same].add(sums.cell_sum)
    cell_mean = (cell_sum / held[:, None] - centre[None, :]) / unit
    order = _curve(v)

    def coupling_cost(group: tuple[Int[Array, " m"], Float[Array, ""]]) -> Float[Array, ""]:
        w = group[0].astype(jnp.float32) / group[0].sum(dtype=jnp.int32).astype(jnp.float32)
        return group[1] + _repair(w, merged, v, cell_mean, order)

    # All streams, then all but one, in one loop: what is compiled is compiled once.
    total = counts.sum(0, dtype=jnp.int32)[None, :]
    of_others = (NUM_STREAMS * cost - sums.mean[:, 0]) / (NUM_STREAMS - 1)
    groups = (
        jnp.concatenate([total, total - counts]),
        jnp.concatenate([cost[None], of_others]),
    )
    coupling_costs = jax.lax.map(coupling_cost, groups)
    upper = coupling_costs[0]
    deviation = jnp.square(coupling_costs[1:] - coupling_costs[1:].mean()).sum()
    upper_se = jnp.sqrt(deviation * (NUM_STREAMS - 1) / NUM_STREAMS)

    def root(square: Float[Array, ""], se: Float[Array, ""]) -> tuple[jax.Array, jax.Array]:
        root = jnp.sqrt(jnp.maximum(square, 0.0))
        return unit * root, unit * (jnp.sqrt(jnp.maximum(square, 0.0) + se) - root)

    lower_root, lower_root_se = root(lower, lower_se)
    upper_root, upper_root_se = root(upper, upper_se)
    area = unit * unit
    return Distance(
        lower=lower_root,
        lower_se=lower_root_se,
        upper=upper_root,
        upper_se=upper_root_se,
        lower_squared=area * lower,
        lower_squared_se=area * lower_se,
        upper_squared=area * upper,
        upper_squared_se=area * upper_se,
        cost=area * cost,
        cost_se=area * cost_se,
        residual=area * residual,
        residual_se=area * residual_se,
        num_samples=n,
    )


def _draw(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    v: Targets,
    centre: Float[Array, " d"],
    unit: Float[Array, ""],
    psi: Heights,
    rounds: Int[Array, ""],
    per_stream: int,
) -> _Sums:
    """Draw and sum; means of batches are merged by counts, so that float32 keeps its digits."""

    def add(carry: tuple[_Sums, Int[Array, ""]], stream: Int[Array, ""]):
        sums, i = carry
        x = draw(jax.random.fold_in(jax.random.fold_in(key, i), stream), mu, per_stream)
        _, index = power.best(x, y, h)
        cost = jnp.square((x - centre[None, :]) / unit - v[index]).sum(1)
        seen = jnp.stack([cost, psi[index], cost - 2 * psi[index]])
        mean = seen.mean(1)
        scatter = jnp.square(seen - mean[:, None]).sum(1)
        delta = mean - sums.mean[stream]
        before, after = (per_stream * i).astype(jnp.float32), (i + 1).astype(jnp.float32)
        return (
            _Sums(
                sums.counts.at[stream, index].add(1),
                sums.cell_sum.at[index].add(x),
                sums.mean.at[stream].add(delta / after),
                sums.scatter.at[stream].add(scatter + jnp.square(delta) * (before / after)),
            ),
            i,
        ), None

    def body(i: Int[Array, ""], sums: _Sums) -> _Sums:
        return jax.lax.scan(add, (sums, i), jnp.arange(NUM_STREAMS, dtype=jnp.int32))[0][0]

    empty = _Sums(
        jnp.zeros((NUM_STREAMS, y.shape[0]), jnp.int32),
        jnp.zeros_like(y),
        jnp.zeros((NUM_STREAMS, 3), jnp.float32),
        jnp.zeros((NUM_STREAMS, 3), jnp.float32),
    )
    return repeat(rounds, body, empty)


def _repair(
    w: Weights, nu: Weights, v: Targets, cell_mean: Float[Array, "m d"], order: Int[Array, " m"]
) -> Float[Array, ""]:
    """What a coupling of the samples and nu costs beyond T; negative if T sends them too far.

    What a plan takes from cell i is taken from all of its samples alike, so that only their mean
    matters: |x - v_j|^2 - |x - v_i|^2 = <v_j - v_i, v_j + v_i - 2 x>.
    """

    def price(segment: tuple[Int[Array, ""], Int[Array, ""], Float[Array, ""]]):
        i, j, length = segment
        return length * ((v[j] - v[i]) * (v[j] + v[i] - 2 * cell_mean[i])).sum()

    def cost(pair: tuple[Weights, Weights]) -> Float[Array, ""]:
        plan = _fill(*pair, order)
        return jax.lax.map(price, plan, batch_size=min(_SEGMENTS, 2 * w.shape[0])).sum()

    sources = jnp.stack([w, jnp.maximum(w - nu, 0.0)])
    sinks = jnp.stack([nu, jnp.maximum(nu - w, 0.0)])
    return jax.lax.map(cost, (sources, sinks)).min()


def _fill(
    source: Weights, sink: Weights, order: Int[Array, " m"]
) -> tuple[Int[Array, " k"], Int[Array, " k"], Float[Array, " k"]]:
    """The plan that fills the sinks from the sources in one order, as 2 m segments (i, j, mass).

    On the line, in the order of the line, no plan is cheaper.
    """
    m = order.shape[0]
    out, into = jnp.cumsum(source[order]), jnp.cumsum(sink[order])
    into = into * safe_ratio(out[-1], into[-1])  # equal totals but for rounding
    ends = jnp.concatenate([out, into])
    sequence = jnp.argsort(ends)
    is_source = (sequence < m).astype(jnp.int32)
    mass = jnp.diff(ends[sequence], prepend=0.0)
    i = jnp.minimum(jnp.cumsum(is_source) - is_source, m - 1)
    j = jnp.minimum(jnp.cumsum(1 - is_source) - (1 - is_source), m - 1)
    return order[i], order[j], mass


def _curve(v: Targets) -> Int[Array, " m"]:
    """Order targets so that neighbours stay together: halve by one axis after another.

    Axes come by falling variance. On the line this is the order of the line.
    """
    m, d = v.shape
    levels = (m - 1).bit_length()
    axes = jnp.argsort(-v.var(0))

    def halve(level: Int[Array, ""], order: Int[Array, " m"]) -> Int[Array, " m"]:
        # A part is an aligned run of ranks, so parts are nested whatever m is.
        rank = jnp.zeros_like(order).at[order].set(jnp.arange(m, dtype=jnp.int32))
        part = rank >> (levels - level)
        return jnp.lexsort((v[:, axes[level % d]], part)).astype(jnp.int32)

    return repeat(levels, halve, jnp.arange(m, dtype=jnp.int32))

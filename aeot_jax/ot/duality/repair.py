r"""A cheap plan that carries the masses w of the cells to the weights nu, and what it costs.

Both measures are laid out along one curve through the targets, and each piece of mass goes to the
target that lies at the same place on it. On the line, in the order of the line, no plan is cheaper.
Of two plans the cheaper is taken: one moves all of w onto nu, the other only the excesses of w onto
its deficits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import repeat, safe_ratio
from aeot_jax.typing import Targets, Weights

_SEGMENTS = 4096
"""Segments of a plan whose costs are computed together."""


class Plan(NamedTuple):
    """A plan between weights, as segments: from each source, to each sink, how much.

    Attributes:
      i: source of each segment (k,).
      j: its sink (k,).
      mass: its mass (k,).
    """

    i: Int[Array, " k"]
    j: Int[Array, " k"]
    mass: Float[Array, " k"]


def repair_cost(
    w: Weights, nu: Weights, v: Targets, cell_mean: Float[Array, "m d"], order: Int[Array, " m"]
) -> Float[Array, ""]:
    r"""What a coupling of the samples and nu costs beyond the map T; it may be negative.

    A plan takes from cell i the same share of each of its samples, so only their mean matters: with
    :math:`\bar x_i` the mean sample of cell i, a mass taken from v_i to v_j costs
    :math:`|\bar x_i - v_j|^2 - |\bar x_i - v_i|^2 = \langle v_j - v_i, v_j + v_i - 2 \bar x_i
    \rangle` more.

    Args:
      w: masses of the cells (m,).
      nu: weights (m,).
      v: targets (m, d).
      cell_mean: mean sample of each cell (m, d); anything where w is 0.
      order: of the targets along the curve (m,), from ``curve_order``.
    """

    def segment_cost(segment: Plan) -> Float[Array, ""]:
        i, j, mass = segment
        return mass * ((v[j] - v[i]) * (v[j] + v[i] - 2 * cell_mean[i])).sum()

    def cost(pair: tuple[Weights, Weights]) -> Float[Array, ""]:
        plan = plan_along(*pair, order)
        return jax.lax.map(segment_cost, plan, batch_size=min(_SEGMENTS, 2 * w.shape[0])).sum()

    sources = jnp.stack([w, jnp.maximum(w - nu, 0.0)])
    sinks = jnp.stack([nu, jnp.maximum(nu - w, 0.0)])
    return jax.lax.map(cost, (sources, sinks)).min()


def plan_along(source: Weights, sink: Weights, order: Int[Array, " m"]) -> Plan:
    """The plan that fills the sinks from the sources in the order of a curve, in 2 m segments.

    Args:
      source: masses to take (m,).
      sink: masses to fill (m,); scaled to the same total.
      order: of the targets along the curve (m,).
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
    return Plan(order[i], order[j], mass)


def curve_order(v: Targets) -> Int[Array, " m"]:
    """Order of targets along a curve on which neighbours stay together.

    The set is halved along one axis after another, the axis of the largest variance first. On the
    line this is the order of the line.

    Args:
      v: targets (m, d).
    """
    m, d = v.shape
    levels = (m - 1).bit_length()
    axes = jnp.argsort(-v.var(0))

    def halve(level: Int[Array, ""], order: Int[Array, " m"]) -> Int[Array, " m"]:
        # A part is an aligned run of ranks, so that parts are nested whatever m is.
        rank = jnp.zeros_like(order).at[order].set(jnp.arange(m, dtype=jnp.int32))
        part = rank >> (levels - level)
        return jnp.lexsort((v[:, axes[level % d]], part)).astype(jnp.int32)

    return repeat(levels, halve, jnp.arange(m, dtype=jnp.int32))

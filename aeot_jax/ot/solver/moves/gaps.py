"""The gap between the best and the second score: its mean, and its sum over the samples of a cell.

Gaps are added up as whole numbers (``counts/units.py``).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from aeot_jax.measures import draw
from aeot_jax.numerics import isolated
from aeot_jax.ot.cells import blockwise, power
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.counts import units
from aeot_jax.ot.counts.sharded import own_streams
from aeot_jax.ot.counts.ways.way import Batch
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights, PRNGKey, Targets, Weights

_FEW_SAMPLES = 128
"""Samples of a look that all targets share; its relative error is about 9 %."""


def are_looked_at(plan: Plan) -> bool:
    """Whether the mean gap of the start is measured, for the first phase."""
    return plan.method == "newton" and plan.in_spreads and not plan.few_dims


def size(batch: Batch, least: int = 1) -> tuple[int, int]:
    """Samples of a stream in a look, and streams."""
    return max(least, _FEW_SAMPLES // batch.streams), batch.streams


def look_at_gaps(
    key: PRNGKey, state: SolverState, marginals: Marginals, size: tuple[int, int], axes: Axes
) -> tuple[Float[Array, ""], Float[Array, " m"], Int[Array, " m"]]:
    """Draw samples and look at their two best scores.

    Args:
      key: consumed.
      state: whose heights, and whose gap so far, are looked at.
      marginals: source, targets and weights, centred and scaled.
      size: samples of each logical stream, and how many streams there are.
      axes: over which samples and targets are sharded.

    Returns:
      The mean gap, the sums of the gaps in every cell (m,), and how many those are (m,).
    """
    samples_per_stream, num_streams = size
    number = samples_per_stream * num_streams
    parts = units.parts(number)
    targets, first = _own(state.h, axes)
    width = blockwise.width(max(targets, marginals.y.shape[0]) * blockwise.num_shards(axes.targets))

    def add(sums: Int[Array, "2 m"], stream: Int[Array, ""]) -> tuple[Int[Array, "2 m"], None]:
        x = draw(jax.random.fold_in(key, stream), marginals.mu, samples_per_stream)
        best, rows = _two_best(x, state.h, marginals, axes.targets)
        gaps, block, row = isolated(_whole_gaps, best, rows, parts, state.spread)
        place = block * width + row - first
        place = jnp.where((place >= 0) & (place < targets), place, targets)  # another device's
        return sums.at[:, place].add(jnp.stack([gaps, jnp.ones_like(gaps)]), mode="drop"), None

    streams = own_streams(axes.samples, num_streams)
    # Under shard_map a carry must vary over devices as what is added to it does.
    none = jnp.zeros((2, 1), jnp.int32) + jnp.zeros_like(state.h, dtype=jnp.int32)[None, :]
    sums = lax.scan(add, none + 0 * streams[:1][None, :], streams)[0]
    if axes.samples is not None:
        sums = lax.psum(sums, axes.samples)
    gaps = isolated(units.told, sums[0], state.spread, parts)
    total = blockwise.sum_blocks(jnp.sum, (gaps,), targets_axis=axes.targets)
    return isolated(jnp.divide, total, jnp.float32(number)), gaps, sums[1]


def _own(h: Heights, axes: Axes) -> tuple[int, Int[Array, ""] | int]:
    """Targets of this device, and the number of the first of them."""
    rows = h.shape[0]
    return rows, 0 if axes.targets is None else lax.axis_index(axes.targets) * rows


def _two_best(
    x: Array, h: Heights, marginals: Marginals, targets_axis: str | None
) -> tuple[Float[Array, "8 n 2"], Int[Array, "8 n 2"]]:
    """Of every logical block of targets the two best scores, and in which of its rows."""

    def of_block(y: Targets | Rows, h: Heights, nu: Weights, x: Array) -> tuple[Array, Array]:
        return power.highest(x, y, jnp.where(nu > 0, h, -jnp.inf), 2)

    arrays = marginals.y, h, marginals.nu
    of_blocks = blockwise.map_blocks(of_block, arrays, x, targets_axis=targets_axis)
    return blockwise.gather_blocks(of_blocks, targets_axis)


def _whole_gaps(
    best: Float[Array, "8 n 2"],
    rows: Int[Array, "8 n 2"],
    parts: Float[Array, ""],
    spread: Float[Array, ""],
) -> tuple[Int[Array, " n"], Int[Array, " n"], Int[Array, " n"]]:
    """Gaps in units, and of the target that wins the block and its row there."""
    number = best.shape[1]
    scores, rows = (jnp.swapaxes(part, 0, 1).reshape(number, -1) for part in (best, rows))
    two, place = lax.top_k(scores, 2)
    row = jnp.take_along_axis(rows, place[:, :1], 1)[:, 0]
    return units.whole(two[:, 0] - two[:, 1], spread, parts), place[:, 0] // 2, row

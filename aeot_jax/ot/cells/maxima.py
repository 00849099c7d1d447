r"""The kernel on a CPU: maxima of groups of targets, then the winning groups once more.

XLA fuses a product with a *maximum*, not with an argmax. So targets are streamed in blocks, each
sample keeps the highest maximum over a group of targets with that group, and in the end its winning
group is scored again. In few dimensions a product reuses nothing, and a scan over single targets is
faster.
"""

import jax
import jax.numpy as jnp
from jax import lax

from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot.cells import blocks, contenders
from aeot_jax.ot.cells.blocks import Rows

GROUP = 32
"""Targets of a group: fewer are cheaper to score again, but dearer to reduce."""

_MERGE = 256
"""Groups whose maxima are merged together into the list of the k highest."""

_UNROLL = 8
"""Targets of one step of the single-target scan."""


def _with_one(x: jax.Array) -> jax.Array:
    """Append a coordinate 1, so that a product with (y, h) adds the heights at no cost."""
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)


def _group_maxima(x1: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """The highest plane of each group of a block (n, groups); the scores are never written."""
    scores = jnp.matmul(x1, jnp.concatenate([yb, hb[:, None]], axis=1).T, precision=PRECISION)
    groups = max(1, yb.shape[0] // GROUP)
    return jnp.max(scores.reshape(x1.shape[0], groups, -1), axis=2)


def best_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    """Best plane: by maxima of groups, then by scoring the winning group again."""
    ((_, winner),) = _leading_groups(x, y, h, used, block)
    return blocks.best_of_groups(x, y, h, winner, min(block, GROUP))


def leader_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    """The maximum by which the winning group won, and the best plane of that group."""
    ((best, winner),) = _leading_groups(x, y, h, used, block)
    return best, blocks.best_of_groups(x, y, h, winner, min(block, GROUP))[1]


def contenders_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, block: int
) -> contenders.Contenders:
    """The best plane and those that may come second."""
    leading = _leading_groups(x, y, h, used, block, number=2)
    return contenders.of_groups(x, y, h, leading, min(block, GROUP))


def _leading_groups(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, block: int, number: int = 1
) -> contenders.Leading:
    """Highest maxima over a group at each sample, and where the first group with each begins.

    Groups begin at multiples of their size whatever m is: the last block is filled up.
    """
    n, m = x.shape[0], y.shape[0]
    size = min(block, GROUP)
    x1 = _with_one(x)

    def merged(
        yb: jax.Array, hb: jax.Array, start: jax.Array | int, carry: contenders.Leading
    ) -> contenders.Leading:
        maxima = _group_maxima(x1, yb, hb)
        for j in range(maxima.shape[1]):
            carry = contenders.inserted(carry, maxima[:, j], start + j * size)
        return carry

    def body(b: jax.Array, carry: contenders.Leading) -> contenders.Leading:
        start = b * block
        hb = lax.dynamic_slice_in_dim(h, start, block)
        return merged(y.part(start, block), hb, start, carry)

    carry = contenders.empty(n, number, x, y.points, h)
    carry = repeat(jnp.minimum(blocks.number_of(used, block), m // block), body, carry)
    tail = m % block
    if not tail:
        return carry
    yb = jnp.pad(y.part(m - tail, tail), ((0, block - tail), (0, 0)))
    hb = jnp.pad(h[m - tail :], (0, block - tail), constant_values=-jnp.inf)
    return merged(yb, hb, m - tail, carry)


def best_by_target(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Best plane by a scan over single targets: element-wise over samples, no product."""
    n, (m, d) = x.shape[0], y.shape
    unroll = min(_UNROLL, m)
    coordinates = x.T

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        # The last turn scores some targets twice; ties keep the first, so that is harmless.
        start = jnp.minimum(b * unroll, m - unroll)
        yb = y.part(start, unroll)
        hb = lax.dynamic_slice_in_dim(h, start, unroll)
        for j in range(unroll):
            score = hb[j]
            for axis in range(d):
                score = score + coordinates[axis] * yb[j, axis]
            # `jnp.maximum` passes on a NaN, which takes three instructions in place of one.
            better = score > best
            best = jnp.where(better, score, best)
            index = jnp.where(better, start + j, index)
        return best, index

    data = x, y.points, h
    carry = blocks.full((n,), -jnp.inf, x.dtype, *data), blocks.full((n,), 0, jnp.int32, *data)
    return repeat(blocks.number_of(used, unroll), body, carry)


def top_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes lie in the k groups with the highest maxima: find and score these again.

    Order the maxima from the highest down, and equal ones by group. A target outside of the first k
    groups comes after k others, one of each of them, so it is not among the k best.
    """
    n, m = x.shape[0], y.shape[0]
    size = min(block, GROUP)
    groups = block // size
    num_blocks = -(-m // block)
    keep = min(k, (num_blocks - 1) * groups + -(-(m - (num_blocks - 1) * block) // size))
    # Many blocks are merged at a time, because `lax.top_k` reads the list each time as well.
    merge = -(-num_blocks // -(-num_blocks * groups // _MERGE))
    # The list must fill up, even if that takes targets without a height.
    needed = jnp.maximum(blocks.number_of(used, block), min(num_blocks, -(-keep // groups)))
    # A target's own -inf becomes `lowest`: -inf is for places that are masked or not yet filled.
    lowest = jnp.finfo(x.dtype).min
    x1 = _with_one(x)

    def maxima_of(b: jax.Array) -> jax.Array:
        yb, hb, start = blocks.window(y, h, b, block)
        ends = start + size * jnp.arange(1, groups + 1, dtype=jnp.int32)
        maxima = jnp.maximum(_group_maxima(x1, yb, hb), lowest)
        return jnp.where((ends > b * block)[None, :], maxima, -jnp.inf)

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        fresh = lax.map(maxima_of, i * merge + jnp.arange(merge, dtype=jnp.int32))
        fresh = jnp.swapaxes(fresh, 0, 1).reshape(n, -1)
        maxima, position = lax.top_k(jnp.concatenate([carry[0], fresh], axis=1), keep)
        held = jnp.take_along_axis(carry[1], jnp.minimum(position, keep - 1), axis=1)
        return maxima, jnp.where(position < keep, held, i * merge * groups + position - keep)

    data = x, y.points, h
    carry = (
        blocks.full((n, keep), -jnp.inf, x.dtype, *data),
        blocks.full((n, keep), 0, jnp.int32, *data),
    )
    _, group = repeat(blocks.number_of(needed, merge), body, carry)
    # In the order of the targets: `top_k` keeps the first of equals, which has the lowest index.
    group = jnp.sort(group, axis=1)

    def rescore(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        b, j = jnp.divmod(part[1], groups)
        start = jnp.minimum(b * block, m - block) + j * size
        index = start[:, :, None] + jnp.arange(size, dtype=jnp.int32)[None, None, :]
        score = blocks.group_scores(part[0], y, h, start, size)
        # A target at -inf still comes before one that an earlier group owns, which is masked.
        score = jnp.where(index < (b * block)[:, :, None], -jnp.inf, jnp.maximum(score, lowest))
        value, position = lax.top_k(score.reshape(score.shape[0], -1), k)
        group, place = jnp.divmod(position, size)
        index = jnp.take_along_axis(start, group, axis=1) + place
        return jnp.where(value == lowest, -jnp.inf, value), index

    together = blocks.together(keep * size * x.shape[1])
    parts = x.reshape(-1, together, x.shape[1]), group.reshape(-1, together, keep)
    value, index = lax.map(rescore, parts)
    return value.reshape(n, k), index.reshape(n, k)

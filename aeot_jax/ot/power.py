r"""The kernel: Brenier's potential $u_h(x) = \max_i \langle x, y_i\rangle + h_i$ and its argmax.

One pass costs about a matrix product and writes no $n \times m$ scores. XLA fuses a product with a
*maximum*, not with an argmax, so on a CPU the exact kernel is built from maxima: stream the targets
in blocks, keep the highest maximum over a group of targets and that group, then score the one
winning group of each sample again. In few dimensions a product has nothing to reuse, and a scan
over single targets is faster. ``benchmarks/kernel.py`` times these forms against each other.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot import blocks, problem, shift
from aeot_jax.ot.blocks import Rows, as_rows
from aeot_jax.typing import ArrayLike, Given

_SMALL_DIM = 5
"""Up to here a scan over single targets beats a product on a CPU (measured)."""

_CHUNK = 4096
"""Samples scored together; 4096 x 64 floats are 1 MiB, the second-level cache of a core."""

_CHUNK_FLOATS = 4096 * 256
"""Bound of a chunk's size in floats: in high dimension the chunk shrinks."""

_GROUP = 32
"""Targets of which a CPU keeps one maximum: fewer are cheaper to score again, dearer to reduce."""

_MERGE = 256
"""Groups whose maxima are merged at once into the list of the k highest."""

_MAX_BLOCK = 1024
"""Largest block: each group of a block is a few more instructions in the compiled program."""

_UNROLL = 8
"""Targets of one step of the single-target scan."""

_SUMMED_DIM = 4
"""Up to here an accelerator sums scores coordinate by coordinate."""

_ACCELERATOR_CHUNK = 16_384
"""Samples scored together on an accelerator, where larger products gain little."""

_ACCELERATOR_SMALL_CHUNK = 65_536
"""The same in so few dimensions that scores are summed within their reduction."""

_ACCELERATOR_SCORES = 1 << 26
"""Scores of a block on an accelerator, at most: 256 MiB; blocks within its cache are no quicker,
because each is some launches (measured)."""

_ACCELERATOR_TOP_CHUNKS = (256, 4096)
"""Samples whose highest planes an accelerator finds together, at least and at most: fewer samples
rather than several blocks, because to merge two lists costs as much as to make one (measured)."""

_ACCELERATOR_TOP_SCORES = 1 << 27
"""Scores that it looks through at once for the highest planes, at most."""


def assign(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, *, block: Given[int] = 128
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    r"""Evaluate $u_h$ at each sample and find the cell that holds it.

    Samples are streamed in chunks and targets in blocks: extra memory stays under 64 MiB at any
    size (on an accelerator 0.5 GiB), and no copy of ``y`` is made. Ties go to the lowest index.
    Composes with ``jit``, ``vmap``, ``pmap`` and ``shard_map``. It is not made to be
    differentiated: the gradient is a gather of the winner, which ``energy`` and ``kantorovich``
    know.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); a target at -inf owns no cell. If all are -inf, the answer is -inf and 0.
      block: targets scored together on a CPU, at most 1024, rounded down to a multiple of 32 if
        above; an accelerator has a size of its own. It changes the time, not the answer.

    Returns:
      The potential (n,) and the lowest index (n,) that attains it, computed in float32 around the
      middle of the targets: an offset of all targets moves no cell.

    Raises:
      ValueError: if shapes disagree, ``block`` is not positive, or an argument whose values are
        known (not traced) holds a NaN, or an infinity other than a height of -inf.

    Source: Lei et al., Engineering 6(3), 2020, section 3.
    """
    samples, near = _validated(x, y, h, block)
    return _assign(samples, near, block=_fitting(block, near.h.shape[0]))


def top_k(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, k: Given[int], *, block: Given[int] = 128
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    r"""Find the k highest planes above each sample, exactly.

    Meant for a small k: each sample scores k groups of 32 targets twice.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf comes last.
      k: number of planes, from 1 to m.
      block: as for :func:`assign`.

    Returns:
      Scores $\langle x, y_i\rangle + h_i$ (n, k) from the highest down, and their indices (n, k),
      all distinct; ties have the lowest index first.

    Raises:
      ValueError: as for :func:`assign`, and if k is not in 1..m.
    """
    samples, near = _validated(x, y, h, block)
    k = arguments.whole("k", k, "how many planes")
    num_targets = np.shape(h)[0]
    if not 1 <= k <= num_targets:
        raise ValueError(
            f"`k` is {k}, but `y` has {num_targets} targets; pass k from 1 to {num_targets}."
        )
    return _top_k(samples, near, k=k, block=_fitting(block, near.h.shape[0]))


def _validated(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, block: Given[int]
) -> tuple[Float[Array, "n d"], problem.Near]:
    """Samples, and targets with heights near the origin, or what is wrong with them."""
    arguments.count("block", block, what="how many targets are scored at once")
    near = problem.near(y, h, some=False)
    samples = arguments.real("x", x)
    if samples.ndim != 2 or samples.size == 0:
        raise ValueError(
            f"`x` has shape {samples.shape}; pass samples of shape (n, d), n and d from 1."
        )
    if samples.shape[1] != near.y.shape[1]:
        raise ValueError(
            f"`x` has shape {samples.shape}, but `y` has shape {np.shape(y)}; pass the same "
            "dimension d."
        )
    return samples, near


def _fitting(block: int, num_targets: int) -> int:
    return blocks.whole_groups(min(block, _MAX_BLOCK), num_targets, _GROUP)


def best(
    x: Float[Array, "n d"], y: Float[Array, "m d"] | Rows, h: Float[Array, " m"], block: int = 128
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    """``assign`` of arguments that are known to be good, of targets near the origin.

    Args:
      x: samples (n, d).
      y: targets (m, d), or from ``shift.around``.
      h: heights (m,).
      block: as for ``assign``.
    """
    return _best(x, as_rows(y), h, block=_fitting(block, h.shape[0]))


def highest(
    x: Float[Array, "n d"], y: Float[Array, "m d"] | Rows, h: Float[Array, " m"], k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """``top_k`` of arguments that are known to be good; as ``best``."""
    return _highest(x, as_rows(y), h, k=k, block=_fitting(128, h.shape[0]))


def _assign_body(
    x: Float[Array, "n d"], near: problem.Near, *, block: int
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    rows, h, taken = shift.around(near.y, near.h)
    value, index = _best(x, rows, h, block=block)
    return value + (taken.of(x) + near.shift.of(x)), index


_assign = jax.jit(_assign_body, static_argnames="block")


def _top_k_body(
    x: Float[Array, "n d"], near: problem.Near, *, k: int, block: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    rows, h, taken = shift.around(near.y, near.h)
    values, index = _highest(x, rows, h, k=k, block=block)
    return values + (taken.of(x) + near.shift.of(x))[:, None], index


_top_k = jax.jit(_top_k_body, static_argnames=("k", "block"))


def leaders(x: jax.Array, y: jax.Array | Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the best among some of the targets, to be compared with the best among others.

    Where parts of the targets begin at multiples of 128, the part with the highest score (the first
    of several) holds the index that :func:`assign` gives for all targets, to the last bit: these
    are the scores by which it decides. They differ from its values by rounding.

    Args:
      x: samples (n, d), known to be good.
      y: targets (m, d).
      h: heights (m,).

    Returns:
      The scores (n,), and the indices (n,) that ``assign`` gives.
    """
    block = _fitting(128, h.shape[0])
    return _best(x, as_rows(y), h, block=block, kernel=_leader_by_block)


def _best(
    x: jax.Array,
    y: Rows,
    h: jax.Array,
    *,
    block: int,
    kernel: Callable[..., tuple[jax.Array, jax.Array]] | None = None,
) -> tuple[jax.Array, jax.Array]:
    kernel = functools.partial(kernel or _best_by_block, block=block)

    def by_block(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(kernel, x, y, h, ())

    def by_target(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_best_by_target, x, y, h, ())

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_best_on_accelerator, x, y, h, (), most=_accelerator_chunk(x))

    # A batched product leaves the fused path of a CPU: there problems take turns under `vmap`.
    on_cpu = by_target if x.shape[1] <= _SMALL_DIM else sequential_vmap(by_block)
    return lax.platform_dependent(x, y, h, cpu=on_cpu, default=on_accelerator)


def _highest(
    x: jax.Array, y: Rows, h: jax.Array, *, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    @sequential_vmap
    def on_cpu(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(functools.partial(_top_by_block, k=k, block=block), x, y, h, (k,))

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        least, most = _ACCELERATOR_TOP_CHUNKS
        chunk = min(most, max(least, _ACCELERATOR_TOP_SCORES // h.shape[0]))
        chunk -= chunk % blocks.RESCORE
        kernel = functools.partial(_top_on_accelerator, k=k)
        return _in_chunks(kernel, x, y, h, (k,), most=chunk)

    return lax.platform_dependent(x, y, h, cpu=on_cpu, default=on_accelerator)


def _in_chunks(
    kernel: Callable[..., tuple[jax.Array, jax.Array]],
    x: jax.Array,
    y: Rows,
    h: jax.Array,
    shape: tuple[int, ...],
    most: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Apply a kernel to chunks of samples, writing its values and indices in place.

    Every chunk has one shape: the last is a window that overlaps its neighbour, and fewer samples
    than a chunk are padded to a multiple of ``blocks.RESCORE``. So the answer at a sample hardly
    depends on how many others come with it, and ``x`` is not copied.
    """
    n, d = x.shape
    used = blocks.used(h)
    width = max((d, *shape))
    chunk = min(_CHUNK, max(1, _CHUNK_FLOATS // (width * blocks.RESCORE)) * blocks.RESCORE)
    chunk = most or chunk
    if n <= chunk:
        value, index = kernel(jnp.pad(x, ((0, -n % blocks.RESCORE), (0, 0))), y, h, used)
        return value[:n], index[:n]

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = jnp.minimum(i * chunk, n - chunk)
        value, index = kernel(lax.dynamic_slice_in_dim(x, start, chunk), y, h, used)
        return (
            lax.dynamic_update_slice_in_dim(carry[0], value, start, 0),
            lax.dynamic_update_slice_in_dim(carry[1], index, start, 0),
        )

    data = x, y.points, h
    carry = (
        blocks.full((n, *shape), 0, x.dtype, *data),
        blocks.full((n, *shape), 0, jnp.int32, *data),
    )
    return repeat(-(-n // chunk), body, carry)


def _with_one(x: jax.Array) -> jax.Array:
    """Append a coordinate 1, so that a product with (y, h) adds the heights at no cost."""
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)


def _group_maxima(x1: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """The highest plane of each group of a block (n, groups); the scores are never written."""
    scores = jnp.matmul(x1, jnp.concatenate([yb, hb[:, None]], axis=1).T, precision=PRECISION)
    groups = max(1, yb.shape[0] // _GROUP)
    return jnp.max(scores.reshape(x1.shape[0], groups, -1), axis=2)


def _best_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    """Best plane by way of group maxima, then the winning group of each sample again."""
    _, winner = _winning_group(x, y, h, used, block)
    return blocks.best_of_groups(x, y, h, winner, min(block, _GROUP))


def _leader_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    """The maximum that decided for the winning group, and the best plane of that group."""
    best, winner = _winning_group(x, y, h, used, block)
    return best, blocks.best_of_groups(x, y, h, winner, min(block, _GROUP))[1]


def _winning_group(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """Highest maximum over a group at each sample, and where the first group with it begins.

    Groups begin at multiples of their size, whatever m is: the ragged tail is filled up.
    """
    n, m = x.shape[0], y.shape[0]
    size = min(block, _GROUP)
    x1 = _with_one(x)

    def merged(yb: jax.Array, hb: jax.Array, start: jax.Array | int, carry: tuple) -> tuple:
        best, winner = carry
        maxima = _group_maxima(x1, yb, hb)
        for j in range(maxima.shape[1]):
            better = maxima[:, j] > best
            best = jnp.where(better, maxima[:, j], best)
            winner = jnp.where(better, start + j * size, winner)
        return best, winner

    def body(b: jax.Array, carry: tuple) -> tuple:
        start = b * block
        hb = lax.dynamic_slice_in_dim(h, start, block)
        return merged(y.part(start, block), hb, start, carry)

    data = x, y.points, h
    carry = blocks.full((n,), -jnp.inf, x.dtype, *data), blocks.full((n,), 0, jnp.int32, *data)
    carry = repeat(jnp.minimum(blocks.number_of(used, block), m // block), body, carry)
    tail = m % block
    if not tail:
        return carry
    yb = jnp.pad(y.part(m - tail, tail), ((0, block - tail), (0, 0)))
    hb = jnp.pad(h[m - tail :], (0, block - tail), constant_values=-jnp.inf)
    return merged(yb, hb, m - tail, carry)


def _best_by_target(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Best plane by a scan over single targets: element-wise over samples, no product."""
    n, (m, d) = x.shape[0], y.shape
    unroll = min(_UNROLL, m)
    coordinates = x.T

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        # The ragged tail scores some targets twice; ties keep the first, so that is harmless.
        start = jnp.minimum(b * unroll, m - unroll)
        yb = y.part(start, unroll)
        hb = lax.dynamic_slice_in_dim(h, start, unroll)
        for j in range(unroll):
            score = hb[j]
            for axis in range(d):
                score = score + coordinates[axis] * yb[j, axis]
            # Not `jnp.maximum`: to hand on a NaN it takes three instructions where this takes one.
            better = score > best
            best = jnp.where(better, score, best)
            index = jnp.where(better, start + j, index)
        return best, index

    data = x, y.points, h
    carry = blocks.full((n,), -jnp.inf, x.dtype, *data), blocks.full((n,), 0, jnp.int32, *data)
    return repeat(blocks.number_of(used, unroll), body, carry)


def _top_by_block(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes lie in the k groups of highest maxima: find those, score them again.

    With maxima ordered from the highest down and ties by the lowest group, a target outside these
    k groups has k others before it, one of each group, so it is not among the k best.
    """
    n, m = x.shape[0], y.shape[0]
    size = min(block, _GROUP)
    groups = block // size
    num_blocks = -(-m // block)
    keep = min(k, (num_blocks - 1) * groups + -(-(m - (num_blocks - 1) * block) // size))
    # Many blocks are merged at a time: `lax.top_k` also looks at the list that it merges into.
    merge = -(-num_blocks // -(-num_blocks * groups // _MERGE))
    # The list must fill up, if need be with targets that have no height.
    needed = jnp.maximum(blocks.number_of(used, block), min(num_blocks, -(-keep // groups)))
    # Below a target's own -inf there must be room for what is masked or not yet filled.
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
    # In ascending order of targets, so that `top_k`, which keeps the first of equals, does right.
    group = jnp.sort(group, axis=1)

    def rescore(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        b, j = jnp.divmod(part[1], groups)
        start = jnp.minimum(b * block, m - block) + j * size
        index = start[:, :, None] + jnp.arange(size, dtype=jnp.int32)[None, None, :]
        score = blocks.group_scores(part[0], y, h, start, size)
        # A target at -inf still goes before one that an earlier group owns.
        score = jnp.where(index < (b * block)[:, :, None], -jnp.inf, jnp.maximum(score, lowest))
        value, position = lax.top_k(score.reshape(score.shape[0], -1), k)
        group, place = jnp.divmod(position, size)
        index = jnp.take_along_axis(start, group, axis=1) + place
        return jnp.where(value == lowest, -jnp.inf, value), index

    together = blocks.together(keep * size * x.shape[1])
    parts = x.reshape(-1, together, x.shape[1]), group.reshape(-1, together, keep)
    value, index = lax.map(rescore, parts)
    return value.reshape(n, k), index.reshape(n, k)


def _accelerator_chunk(x: jax.Array) -> int:
    return _ACCELERATOR_CHUNK if x.shape[1] > _SUMMED_DIM else _ACCELERATOR_SMALL_CHUNK


def _scores(x: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """All scores of one block (n, block), for a device whose memory holds them."""
    if x.shape[1] > _SUMMED_DIM:
        return jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :]
    # As a sum it fuses into the reduction that follows; a product would be a kernel of its own.
    score = hb[None, :]
    for axis in range(x.shape[1]):
        score = score + x[:, axis, None] * yb[None, :, axis]
    return score


def _best_on_accelerator(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Best plane by few large blocks; their number is known, or the host would wait each turn."""
    del used
    n, m = x.shape[0], y.shape[0]
    block = blocks.equal_blocks(m, _ACCELERATOR_SCORES // n)

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        yb, hb, start = blocks.window(y, h, b, block)
        (value,), (place,) = blocks.first_best((_scores(x, yb, hb),))
        better = value > best
        return jnp.where(better, value, best), jnp.where(better, start + place, index)

    data = x, y.points, h
    carry = blocks.full((n,), -jnp.inf, x.dtype, *data), blocks.full((n,), 0, jnp.int32, *data)
    return repeat(-(-m // block), body, carry)


def _top_on_accelerator(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, k: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes by merging the k best of each block into those of the blocks before.

    The list is full from the first block on, and what it holds goes before an equal newcomer: a
    masked target of the tail's window, at -inf, never enters.
    """
    del used
    m = y.shape[0]
    block = blocks.equal_blocks(m, max(k, _ACCELERATOR_TOP_SCORES // x.shape[0]))

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        yb, hb, start = blocks.window(y, h, b, block)
        merged = jnp.concatenate([carry[0], _scores(x, yb, hb)], axis=1)
        value, position = lax.top_k(merged, k)
        held = jnp.take_along_axis(carry[1], jnp.minimum(position, k - 1), axis=1)
        return value, jnp.where(position < k, held, start + position - k)

    value, index = lax.top_k(_scores(x, y.part(0, block), h[:block]), k)
    return lax.fori_loop(np.int32(1), np.int32(-(-m // block)), body, (value, index))

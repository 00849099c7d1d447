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
from jax.core import Tracer
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot import blocks

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

_ACCELERATOR_BLOCK = 1024
"""Targets of a block on an accelerator: 4096 x 1024 scores, 16 MiB, stay in its L2 cache."""


def assign(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, *, block: int = 128
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    r"""Evaluate $u_h$ at each sample and find the cell that holds it.

    Samples are streamed in chunks and targets in blocks: extra memory stays under 64 MiB at any
    size, and no copy of ``y`` is made. Ties go to the lowest index. Composes with ``jit``,
    ``vmap``, ``pmap`` and ``shard_map``. It is not made to be differentiated: the gradient is a
    gather of the winner, which ``energy`` and ``kantorovich`` know.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); a target at -inf owns no cell. If all are -inf, the answer is -inf and 0.
      block: targets scored together on a CPU, at most 1024, rounded down to a multiple of 32 if
        above; an accelerator has a size of its own. It changes the time, not the answer.

    Returns:
      The potential (n,) and the lowest index (n,) that attains it. Arithmetic is float32, or
      float64 where JAX's 64-bit mode is on and an argument asks for it.

    Raises:
      ValueError: if shapes disagree, ``block`` is not positive, or an argument whose values are
        known (not traced) holds a NaN, or an infinity other than a height of -inf.

    Source: Lei et al., Engineering 6(3), 2020, section 3.
    """
    x, y, h = _validated(x, y, h, block)
    return _assign(x, y, h, block=_fitting(block, y.shape[0]))


def top_k(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, k: int, *, block: int = 128
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
    x, y, h = _validated(x, y, h, block)
    if not 1 <= k <= y.shape[0]:
        raise ValueError(
            f"`k` is {k}, but `y` has {y.shape[0]} targets; pass k from 1 to {y.shape[0]}."
        )
    return _top_k(x, y, h, k=k, block=_fitting(block, y.shape[0]))


def _validated(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the three arrays in one floating type, or explain what is wrong with them."""
    given = {"x": x, "y": y, "h": h}
    x, y, h = jnp.asarray(x), jnp.asarray(y), jnp.asarray(h)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"`x` has shape {x.shape}; pass samples of shape (n, d), n and d from 1.")
    if y.ndim != 2 or y.size == 0:
        raise ValueError(f"`y` has shape {y.shape}; pass targets of shape (m, d), m and d from 1.")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"`x` has shape {x.shape}, but `y` has shape {y.shape}; pass the same dimension d."
        )
    if h.shape != y.shape[:1]:
        raise ValueError(
            f"`h` has shape {h.shape}, but `y` has shape {y.shape}; pass one height per target."
        )
    if block < 1:
        raise ValueError(f"`block` is {block}; pass the number of targets scored at once, from 1.")
    for name, array in (("x", x), ("y", y), ("h", h)):
        if jnp.iscomplexobj(array):
            raise ValueError(f"`{name}` has type {array.dtype}; pass real numbers.")
    dtype = jnp.promote_types(jnp.result_type(x, y, h), jnp.float32)
    refuse_not_finite(given)
    return x.astype(dtype), y.astype(dtype), h.astype(dtype)


def _fitting(block: int, num_targets: int) -> int:
    return blocks.whole_groups(min(block, _MAX_BLOCK), num_targets, _GROUP)


def refuse_not_finite(given: dict[str, ArrayLike]) -> None:
    """Refuse NaN and infinity where the values are known; under a transformation they are not."""
    for name, array in given.items():
        if isinstance(array, Tracer):
            continue
        with jax.ensure_compile_time_eval():  # a known array, perhaps under someone's trace
            usable = bool(_is_usable(jnp.asarray(array), infinite_below=name == "h"))
        if usable:
            continue
        allowed = "finite numbers or -inf" if name == "h" else "finite numbers"
        raise ValueError(f"`{name}` holds a NaN or an infinity; pass {allowed}.")


def _is_usable_body(array: jax.Array, *, infinite_below: bool) -> jax.Array:
    if infinite_below:
        return jnp.all(array < jnp.inf)
    return jnp.all(jnp.isfinite(array))


_is_usable = jax.jit(_is_usable_body, static_argnames="infinite_below")


def leaders(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
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
    return _assign_body(x, y, h, block=_fitting(128, y.shape[0]), kernel=_leader_by_block)


def _assign_body(
    x: jax.Array,
    y: jax.Array,
    h: jax.Array,
    *,
    block: int,
    kernel: Callable[..., tuple[jax.Array, jax.Array]] | None = None,
) -> tuple[jax.Array, jax.Array]:
    kernel = functools.partial(kernel or _best_by_block, block=block)

    def by_block(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(kernel, x, y, h, ())

    def by_target(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_best_by_target, x, y, h, ())

    def on_accelerator(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_best_on_accelerator, x, y, h, ())

    # A batched product leaves the fused path of a CPU: there problems take turns under `vmap`.
    on_cpu = by_target if x.shape[1] <= _SMALL_DIM else sequential_vmap(by_block)
    return lax.platform_dependent(x, y, h, cpu=on_cpu, default=on_accelerator)


_assign = jax.jit(_assign_body, static_argnames="block")


def _top_k_body(
    x: jax.Array, y: jax.Array, h: jax.Array, *, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    @sequential_vmap
    def on_cpu(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(functools.partial(_top_by_block, k=k, block=block), x, y, h, (k,))

    def on_accelerator(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(functools.partial(_top_on_accelerator, k=k), x, y, h, (k,))

    return lax.platform_dependent(x, y, h, cpu=on_cpu, default=on_accelerator)


_top_k = jax.jit(_top_k_body, static_argnames=("k", "block"))


def _in_chunks(
    kernel: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    x: jax.Array,
    y: jax.Array,
    h: jax.Array,
    shape: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Apply a kernel to chunks of samples, writing its values and indices in place.

    Every chunk has one shape: the last is a window that overlaps its neighbour, and fewer samples
    than a chunk are padded to a multiple of ``blocks.RESCORE``. So the answer at a sample hardly
    depends on how many others come with it, and ``x`` is not copied.
    """
    n, d = x.shape
    width = max((d, *shape))
    chunk = min(_CHUNK, max(1, _CHUNK_FLOATS // (width * blocks.RESCORE)) * blocks.RESCORE)
    if n <= chunk:
        value, index = kernel(jnp.pad(x, ((0, -n % blocks.RESCORE), (0, 0))), y, h)
        return value[:n], index[:n]

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = jnp.minimum(i * chunk, n - chunk)
        value, index = kernel(lax.dynamic_slice_in_dim(x, start, chunk), y, h)
        return (
            lax.dynamic_update_slice_in_dim(carry[0], value, start, 0),
            lax.dynamic_update_slice_in_dim(carry[1], index, start, 0),
        )

    carry = (
        blocks.full((n, *shape), 0, x.dtype, x, y, h),
        blocks.full((n, *shape), 0, jnp.int32, x, y, h),
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
    x: jax.Array, y: jax.Array, h: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    """Best plane by way of group maxima, then the winning group of each sample again."""
    _, winner = _winning_group(x, y, h, block)
    return blocks.best_of_groups(x, y, h, winner, min(block, _GROUP))


def _leader_by_block(
    x: jax.Array, y: jax.Array, h: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    """The maximum that decided for the winning group, and the best plane of that group."""
    best, winner = _winning_group(x, y, h, block)
    return best, blocks.best_of_groups(x, y, h, winner, min(block, _GROUP))[1]


def _winning_group(
    x: jax.Array, y: jax.Array, h: jax.Array, block: int
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
        yb = lax.dynamic_slice_in_dim(y, start, block)
        return merged(yb, lax.dynamic_slice_in_dim(h, start, block), start, carry)

    carry = blocks.full((n,), -jnp.inf, x.dtype, x, y, h), blocks.full((n,), 0, jnp.int32, x, y, h)
    carry = repeat(m // block, body, carry)
    tail = m % block
    if not tail:
        return carry
    yb = jnp.pad(y[m - tail :], ((0, block - tail), (0, 0)))
    hb = jnp.pad(h[m - tail :], (0, block - tail), constant_values=-jnp.inf)
    return merged(yb, hb, m - tail, carry)


def _best_by_target(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Best plane by a scan over single targets: element-wise over samples, no product."""
    n, (m, d) = x.shape[0], y.shape
    unroll = min(_UNROLL, m)
    coordinates = x.T

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        # The ragged tail scores some targets twice; ties keep the first, so that is harmless.
        start = jnp.minimum(b * unroll, m - unroll)
        yb = lax.dynamic_slice_in_dim(y, start, unroll)
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

    carry = blocks.full((n,), -jnp.inf, x.dtype, x, y, h), blocks.full((n,), 0, jnp.int32, x, y, h)
    return repeat(-(-m // unroll), body, carry)


def _top_by_block(
    x: jax.Array, y: jax.Array, h: jax.Array, *, k: int, block: int
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
    num_merges = -(-num_blocks * groups // _MERGE)
    merge = -(-num_blocks // num_merges)
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

    carry = (
        blocks.full((n, keep), -jnp.inf, x.dtype, x, y, h),
        blocks.full((n, keep), 0, jnp.int32, x, y, h),
    )
    _, group = repeat(num_merges, body, carry)
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


def _scores(x: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """All scores of one block (n, block), for a device whose cache holds them."""
    if x.shape[1] > 4:
        return jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :]
    # As a sum it fuses into the reduction that follows; a product would be a kernel of its own.
    score = hb[None, :]
    for axis in range(x.shape[1]):
        score = score + x[:, axis, None] * yb[None, :, axis]
    return score


def _best_on_accelerator(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Best plane by blocks large enough to fill an accelerator and small enough for its cache."""
    block = min(_ACCELERATOR_BLOCK, y.shape[0])

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        yb, hb, start = blocks.window(y, h, b, block)
        score = _scores(x, yb, hb)
        value = jnp.max(score, axis=1)
        position = jnp.argmax(score, axis=1).astype(jnp.int32)
        return jnp.maximum(best, value), jnp.where(value > best, start + position, index)

    n = x.shape[0]
    carry = blocks.full((n,), -jnp.inf, x.dtype, x, y, h), blocks.full((n,), 0, jnp.int32, x, y, h)
    return repeat(-(-y.shape[0] // block), body, carry)


def _top_on_accelerator(
    x: jax.Array, y: jax.Array, h: jax.Array, *, k: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes by merging the k best of each block into those of the blocks before.

    The list is full from the first block on, and what it holds goes before an equal newcomer: a
    masked target of the tail's window, at -inf, never enters.
    """
    block = min(max(_ACCELERATOR_BLOCK, k), y.shape[0])

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        yb, hb, start = blocks.window(y, h, b, block)
        merged = jnp.concatenate([carry[0], _scores(x, yb, hb)], axis=1)
        value, position = lax.top_k(merged, k)
        held = jnp.take_along_axis(carry[1], jnp.minimum(position, k - 1), axis=1)
        return value, jnp.where(position < k, held, start + position - k)

    value, index = lax.top_k(_scores(x, y[:block], h[:block]), k)
    last = -(-y.shape[0] // block)
    return lax.fori_loop(np.int32(1), np.int32(last), body, (value, index))

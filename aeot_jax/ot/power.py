r"""The kernel: Brenier's potential $u_h(x) = \max_i \langle x, y_i\rangle + h_i$ and who attains it.

One pass costs about a matrix product and writes no $n \times m$ scores. XLA fuses a product with a
*maximum*, not with an argmax, so the exact kernel is built from maxima: stream the targets in
blocks, keep the best block maximum and its block, then score the one winning block of each sample
again. In few dimensions a product has nothing to reuse, and a scan over single targets is faster.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import PRECISION

_SMALL_DIM = 12
"""Up to here a scan over single targets beats a product on a CPU (measured)."""

_CHUNK = 4096
"""Samples scored together; 4096 x 64 floats are 1 MiB, the second-level cache of a core."""

_CHUNK_FLOATS = 4096 * 256
"""Bound of a chunk's size in floats: in high dimension the chunk shrinks."""

_RESCORE = 64
"""Samples whose winning blocks are gathered together, so that the gather stays in cache."""

_UNROLL = 8
"""Targets of one step of the single-target scan."""

_ACCELERATOR_BLOCK = 1024
"""Targets of a block on an accelerator: 4096 x 1024 scores, 16 MiB, stay in its second-level cache."""


def assign(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, *, block: int = 64
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    r"""Evaluate $u_h$ at each sample and find the cell that holds it.

    Samples are streamed in chunks and targets in blocks: extra memory stays under 64 MiB at any
    size, and no copy of ``y`` is made. Ties go to the lowest index. Composes with ``jit``,
    ``vmap``, ``pmap`` and ``shard_map``.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); a target at -inf owns no cell. If all are -inf, the answer is -inf and 0.
      block: targets scored together on a CPU; an accelerator has a size of its own.

    Returns:
      The potential (n,) and the lowest index (n,) that attains it. Arithmetic is float32, or
      float64 where JAX's 64-bit mode is on and an argument asks for it.

    Raises:
      ValueError: if shapes disagree, ``block`` is not positive, or an argument whose values are
        known (not traced) holds a NaN, or an infinity other than a height of -inf.

    Source: Lei et al., Engineering 6(3), 2020, section 3.
    """
    x, y, h = _validated(x, y, h, block)
    return _assign(x, y, h, block=min(block, y.shape[0]))


def top_k(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, k: int, *, block: int = 64
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    r"""Find the k highest planes above each sample, exactly.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf comes last.
      k: number of planes, from 1 to m.
      block: targets scored together on a CPU.

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
    return _top_k(x, y, h, k=k, block=min(block, y.shape[0]))


def _validated(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the three arrays in one floating type, or explain what is wrong with them."""
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
    x, y, h = x.astype(dtype), y.astype(dtype), h.astype(dtype)
    _refuse_not_finite(x, y, h)
    return x, y, h


def _refuse_not_finite(x: jax.Array, y: jax.Array, h: jax.Array) -> None:
    """Refuse NaN and infinity where the values are known; under a transformation they are not."""
    for name, array in (("x", x), ("y", y), ("h", h)):
        if isinstance(array, jax.core.Tracer) or _is_usable(array, infinite_below=name == "h"):
            continue
        allowed = "finite numbers or -inf" if name == "h" else "finite numbers"
        raise ValueError(f"`{name}` holds a NaN or an infinity; pass {allowed}.")


def _is_usable_body(array: jax.Array, *, infinite_below: bool) -> jax.Array:
    if infinite_below:
        return jnp.all(array < jnp.inf)
    return jnp.all(jnp.isfinite(array))


_is_usable = jax.jit(_is_usable_body, static_argnames="infinite_below")


def _assign_body(
    x: jax.Array, y: jax.Array, h: jax.Array, *, block: int
) -> tuple[jax.Array, jax.Array]:
    on_cpu = _best_by_target if x.shape[1] <= _SMALL_DIM else _best_by_block

    def kernel(chunk: jax.Array) -> tuple[jax.Array, jax.Array]:
        return lax.platform_dependent(
            chunk,
            y,
            h,
            cpu=lambda x, y, h: on_cpu(x, y, h, block),
            default=_best_on_accelerator,
        )

    return _in_chunks(kernel, x, y, h, ())


_assign = jax.jit(_assign_body, static_argnames="block")


def _top_k_body(
    x: jax.Array, y: jax.Array, h: jax.Array, *, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    def kernel(chunk: jax.Array) -> tuple[jax.Array, jax.Array]:
        return lax.platform_dependent(
            chunk,
            y,
            h,
            cpu=lambda x, y, h: _top_by_block(x, y, h, k, block),
            default=lambda x, y, h: _top_on_accelerator(x, y, h, k),
        )

    return _in_chunks(kernel, x, y, h, (k,))


_top_k = jax.jit(_top_k_body, static_argnames=("k", "block"))


def _in_chunks(
    kernel: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    x: jax.Array,
    y: jax.Array,
    h: jax.Array,
    shape: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """Apply a kernel to chunks of samples, writing its values and indices in place.

    Every chunk has one shape: the last is a window that overlaps its neighbour, and fewer samples
    than a chunk are padded to a multiple of ``_RESCORE``. So the answer at a sample hardly depends
    on how many others come with it, and ``x`` is not copied.
    """
    n, d = x.shape
    chunk = min(_CHUNK, max(1, _CHUNK_FLOATS // (d * _RESCORE)) * _RESCORE)
    if n <= chunk:
        padded = jnp.pad(x, ((0, -n % _RESCORE), (0, 0)))
        value, index = kernel(padded)
        return value[:n], index[:n]

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = jnp.minimum(i * chunk, n - chunk)
        value, index = kernel(lax.dynamic_slice_in_dim(x, start, chunk))
        return (
            lax.dynamic_update_slice_in_dim(carry[0], value, start, 0),
            lax.dynamic_update_slice_in_dim(carry[1], index, start, 0),
        )

    carry = (
        _full((n, *shape), 0, x.dtype, x, y, h),
        _full((n, *shape), 0, jnp.int32, x, y, h),
    )
    return lax.fori_loop(0, -(-n // chunk), body, carry)


def _full(shape: tuple[int, ...], fill: float, dtype: Any, *data: jax.Array) -> jax.Array:
    """Fill a loop's carry so that it varies over every mesh axis that the data vary over.

    ``shard_map`` types each value by the mesh axes over which it varies; a bare constant varies
    over none and would not match the carry that comes out of the loop.
    """
    varies = jnp.zeros((), bool)
    for array in data:
        varies = varies | jnp.isnan(array[(0,) * array.ndim])
    # Both branches are the same number: the compiler drops the test, the type keeps it.
    return jnp.broadcast_to(
        jnp.where(varies, jnp.asarray(fill, dtype), jnp.asarray(fill, dtype)), shape
    )


def _window(
    y: jax.Array, h: jax.Array, b: jax.Array, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Block b of the targets, its heights, and its first index.

    The ragged tail is a full window over the last targets, the ones that the block before it owns
    already masked by -inf: y is never padded, and since every product has one shape, duplicates
    of a target have bit-equal scores in whatever blocks they lie.
    """
    start = jnp.minimum(b * block, y.shape[0] - block)
    heights = lax.dynamic_slice_in_dim(h, start, block)
    owned = start + jnp.arange(block, dtype=jnp.int32) >= b * block
    return (
        lax.dynamic_slice_in_dim(y, start, block),
        jnp.where(owned, heights, -jnp.inf),
        start,
    )


def _block_maximum(x: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """The highest plane of one block; XLA fuses the maximum into the product."""
    return jnp.max(jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :], axis=1)


def _best_by_block(
    x: jax.Array, y: jax.Array, h: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """Best plane by way of block maxima, then the winning block of each sample again."""

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, winner = carry
        yb, hb, _ = _window(y, h, b, block)
        value = _block_maximum(x, yb, hb)
        return jnp.maximum(best, value), jnp.where(value > best, b, winner)

    n = x.shape[0]
    carry = _full((n,), -jnp.inf, x.dtype, x, y, h), _full((n,), 0, jnp.int32, x, y, h)
    _, winner = lax.fori_loop(0, -(-y.shape[0] // block), body, carry)

    def rescore(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        score, index = _candidates(part[0], y, h, part[1][:, None], block)
        position = jnp.argmax(score, axis=1)[:, None]
        return (
            jnp.take_along_axis(score, position, axis=1)[:, 0],
            jnp.take_along_axis(index, position, axis=1)[:, 0],
        )

    value, index = lax.map(
        rescore, (x.reshape(-1, _RESCORE, x.shape[1]), winner.reshape(-1, _RESCORE))
    )
    return value.reshape(-1), index.reshape(-1)


def _candidates(
    x: jax.Array, y: jax.Array, h: jax.Array, blocks: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """Score the targets of the named blocks (n, k), in the order of their names.

    Beyond the last target the score is -inf, and such places come last where the names ascend.
    """
    n, m = x.shape[0], y.shape[0]
    index = blocks[:, :, None] * block + jnp.arange(block, dtype=jnp.int32)
    index = index.reshape(n, -1)
    inside = jnp.minimum(index, m - 1)
    score = jnp.einsum("nd,nkd->nk", x, y[inside], precision=PRECISION) + h[inside]
    return jnp.where(index < m, score, -jnp.inf), inside


def _best_by_target(
    x: jax.Array, y: jax.Array, h: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """Best plane by a scan over single targets: element-wise over samples, no product."""
    del block
    m, d = y.shape
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

    n = x.shape[0]
    carry = _full((n,), -jnp.inf, x.dtype, x, y, h), _full((n,), 0, jnp.int32, x, y, h)
    return lax.fori_loop(0, -(-m // unroll), body, carry)


def _scores(x: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """All scores of one block (n, block), for a device whose cache holds them."""
    if x.shape[1] > 4:
        return jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :]
    # As a sum it fuses into the reduction that follows; a product would be a kernel of its own.
    score = hb[None, :]
    for axis in range(x.shape[1]):
        score = score + x[:, axis, None] * yb[None, :, axis]
    return score


def _best_on_accelerator(
    x: jax.Array, y: jax.Array, h: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Best plane by blocks large enough to fill an accelerator and small enough for its cache."""
    block = min(_ACCELERATOR_BLOCK, y.shape[0])

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        yb, hb, start = _window(y, h, b, block)
        score = _scores(x, yb, hb)
        value = jnp.max(score, axis=1)
        position = jnp.argmax(score, axis=1).astype(jnp.int32)
        return jnp.maximum(best, value), jnp.where(value > best, start + position, index)

    n = x.shape[0]
    carry = _full((n,), -jnp.inf, x.dtype, x, y, h), _full((n,), 0, jnp.int32, x, y, h)
    return lax.fori_loop(0, -(-y.shape[0] // block), body, carry)


def _top_by_block(
    x: jax.Array, y: jax.Array, h: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes lie in the k blocks of highest maxima: find those, score them again.

    With maxima ordered from the highest down and ties by the lowest block, a target outside these
    k blocks has k others before it, one of each block, so it is not among the k best.
    """
    n, m = x.shape[0], y.shape[0]
    num_blocks = -(-m // block)
    keep = min(k, num_blocks)

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        maxima, blocks = carry
        yb, hb, _ = _window(y, h, b, block)
        value = jnp.broadcast_to(_block_maximum(x, yb, hb)[None, :], maxima.shape)
        # Insert into the sorted list; a place not yet taken yields even to -inf.
        stays = (maxima >= value) & (blocks >= 0)
        above = jnp.concatenate([jnp.ones_like(stays[:1]), stays[:-1]])
        shifted = jnp.concatenate([maxima[:1], maxima[:-1]])
        moved = jnp.concatenate([blocks[:1], blocks[:-1]])
        return (
            jnp.where(stays, maxima, jnp.where(above, value, shifted)),
            jnp.where(stays, blocks, jnp.where(above, b, moved)),
        )

    carry = (
        _full((keep, n), -jnp.inf, x.dtype, x, y, h),
        _full((keep, n), -1, jnp.int32, x, y, h),
    )
    _, blocks = lax.fori_loop(0, num_blocks, body, carry)
    blocks = jnp.sort(blocks.T, axis=1)

    def rescore(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        score, index = _candidates(part[0][None], y, h, part[1][None], block)
        value, position = lax.top_k(score, k)
        return value[0], jnp.take_along_axis(index, position, axis=1)[0]

    return lax.map(rescore, (x, blocks))


def _top_on_accelerator(
    x: jax.Array, y: jax.Array, h: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes by merging the k best of each block into those of the blocks before.

    The list is full from the first block on, and what it holds goes before an equal newcomer: a
    masked target of the tail's window, at -inf, never enters.
    """
    block = min(max(_ACCELERATOR_BLOCK, k), y.shape[0])

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        yb, hb, start = _window(y, h, b, block)
        merged = jnp.concatenate([carry[0], _scores(x, yb, hb)], axis=1)
        value, position = lax.top_k(merged, k)
        held = jnp.take_along_axis(carry[1], jnp.minimum(position, k - 1), axis=1)
        return value, jnp.where(position < k, held, start + position - k)

    value, index = lax.top_k(_scores(x, y[:block], h[:block]), k)
    return lax.fori_loop(1, -(-y.shape[0] // block), body, (value, index))

"""The kernel on an accelerator: few large products, whose scores are held in device memory."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.cells.blocks import Rows

_SUMMED_DIM = 4
"""Largest dimension in which an accelerator sums scores coordinate by coordinate."""

_CHUNK = 16_384
"""Samples scored together on an accelerator, where larger products gain little."""

_SMALL_CHUNK = 65_536
"""The same up to ``_SUMMED_DIM``, where scores are summed inside their reduction."""

_SCORES = 1 << 26
"""Most scores of a block: 256 MiB. Blocks that fit its cache are no faster, because each costs some
launches (``benchmarks/kernel.py``)."""

_TOP_CHUNKS = (256, 4096)
"""Fewest and most samples whose highest planes are found together. Fewer samples in one block are
faster than more in several: merging two lists costs as much as making one."""

_TOP_SCORES = 1 << 27
"""Most scores that are searched together for the highest planes."""


def chunk_of_best(dim: int) -> int:
    """Samples to give ``best`` at once."""
    return _CHUNK if dim > _SUMMED_DIM else _SMALL_CHUNK


def chunk_of_highest(num_targets: int) -> int:
    """Samples to give ``highest`` at once."""
    least, most = _TOP_CHUNKS
    chunk = min(most, max(least, _TOP_SCORES // num_targets))
    return chunk - chunk % blocks.RESCORE


def _scores(x: jax.Array, yb: jax.Array, hb: jax.Array) -> jax.Array:
    """All scores of one block (n, block)."""
    if x.shape[1] > _SUMMED_DIM:
        return jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :]
    # A sum fuses into the reduction that follows; a matrix product would be a separate kernel.
    score = hb[None, :]
    for axis in range(x.shape[1]):
        score = score + x[:, axis, None] * yb[None, :, axis]
    return score


def best(x: jax.Array, y: Rows, h: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Best plane by few large blocks: a fixed number, so that no turn waits for the host."""
    del used
    n, m = x.shape[0], y.shape[0]
    block = blocks.equal_blocks(m, _SCORES // n)

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        yb, hb, start = blocks.window(y, h, b, block)
        (value,), (place,) = blocks.first_best((_scores(x, yb, hb),))
        better = value > best
        return jnp.where(better, value, best), jnp.where(better, start + place, index)

    data = x, y.points, h
    carry = blocks.full((n,), -jnp.inf, x.dtype, *data), blocks.full((n,), 0, jnp.int32, *data)
    return repeat(-(-m // block), body, carry)


def highest(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, *, k: int
) -> tuple[jax.Array, jax.Array]:
    """The k best planes: the k best of each block are merged into those of the blocks before it.

    The list is full from the first block on, and its members win over equal newcomers. So a target
    that the tail's window masks by -inf never enters it.
    """
    del used
    m = y.shape[0]
    block = blocks.equal_blocks(m, max(k, _TOP_SCORES // x.shape[0]))

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        yb, hb, start = blocks.window(y, h, b, block)
        merged = jnp.concatenate([carry[0], _scores(x, yb, hb)], axis=1)
        value, position = lax.top_k(merged, k)
        held = jnp.take_along_axis(carry[1], jnp.minimum(position, k - 1), axis=1)
        return value, jnp.where(position < k, held, start + position - k)

    value, index = lax.top_k(_scores(x, y.part(0, block), h[:block]), k)
    return lax.fori_loop(np.int32(1), np.int32(-(-m // block)), body, (value, index))

"""The best plane at each sample, among the targets of the lists that promise most.

What is scored is scored in float32, as the kernel does. Pairs of a sample and a list are sorted by
list, so that many samples meet the blocks of a list in one product. Of every group of targets only
the maximum is kept, and the winning group is scored again, as the kernel does.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.lists.lists import BLOCK, Lists, planes
from aeot_jax.typing import Samples

_GROUP = 32
"""Targets of which one maximum is kept, and which are scored again where it wins."""

_CHUNK = 16_384
"""Samples that are searched together at most: all their pairs with lists are in memory."""

_TILES = (64, 256)
"""Samples that meet a list at once, at least and at most."""


def owners(
    x: Samples, y: Rows, h: Float[Array, " rows"], lists: Lists, probes: int
) -> Int[Array, " n"]:
    """Cells of samples, some of them wrong.

    Args:
      x: samples (n, d).
      y: targets list by list.
      h: heights (rows,).
      lists: of these targets.
      probes: lists that a sample looks at.
    """
    n, d = x.shape
    # One product gives the scores with their heights.
    y1 = jnp.concatenate([blocks.whole(y), h[:, None]], axis=1)
    offsets = lists.mean_heights(h) + lists.excess

    def searched(x: Samples) -> Int[Array, " c"]:
        near = lax.top_k(planes(x, lists.slopes, offsets), probes)[1]
        x1 = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
        group = _leading(x1, near, y1, lists.begin)
        return blocks.best_of_groups(x, y, h, group * _GROUP, _GROUP)[1]

    most = min(_CHUNK, _most_pairs(lists.number) // probes // blocks.RESCORE * blocks.RESCORE)
    chunk = min(most, n + -n % blocks.RESCORE)
    x = jnp.pad(x, ((0, -n % chunk), (0, 0))).reshape(-1, chunk, d)
    index = searched(x[0]) if x.shape[0] == 1 else lax.map(searched, x)
    return index.reshape(-1)[:n]


def _most_pairs(number: int) -> int:
    """Pairs that fit into one word with the number of a list, of so many."""
    return 1 << (32 - (number - 1).bit_length())


def _by_list(near: Int[Array, "n p"], number: int) -> tuple[Int[Array, " np"], Int[Array, " k1"]]:
    """Pairs of a sample and a list in the order of the lists, and where each list's begin."""
    pairs = near.size
    bits = max(1, (pairs - 1).bit_length())
    # List and place in one word: a sort without a payload is several times as quick.
    place = jnp.arange(pairs, dtype=jnp.uint32)
    key = jnp.sort((near.reshape(-1).astype(jnp.uint32) << bits) | place)
    begin = jnp.searchsorted(key, jnp.arange(number, dtype=jnp.uint32) << bits)
    begin = jnp.append(begin.astype(jnp.int32), jnp.int32(pairs))
    return (key & jnp.uint32((1 << bits) - 1)).astype(jnp.int32), begin


def _tile(pairs: int, number: int) -> int:
    """Samples of a tile: about as many as a list has, a power of two."""
    least, most = _TILES
    return min(most, max(least, 1 << (max(1, pairs // number) - 1).bit_length()))


def _leading(
    x1: Float[Array, "n d1"],
    near: Int[Array, "n p"],
    y1: Float[Array, "rows d1"],
    first: Int[Array, " k1"],
) -> Int[Array, " n"]:
    """The group of targets with the highest maximum (n,), over all lists that a sample looks at.

    Args:
      x1: samples with a last coordinate 1.
      near: the lists of each.
      y1: targets with their heights.
      first: the first block of each list.
    """
    n, probes = near.shape
    number = first.shape[0] - 1
    pair, begin = _by_list(near, number)
    size = _tile(n * probes, number)
    tiles = -(-(begin[1:] - begin[:-1]) // size)
    ends = jnp.cumsum(tiles, dtype=jnp.int32)
    padded = jnp.pad(pair, (0, size))
    per_block = BLOCK // _GROUP
    data = x1, y1

    def tile(
        t: Int[Array, ""], carry: tuple[Float[Array, " q"], Int[Array, " q"]]
    ) -> tuple[Float[Array, " q"], Int[Array, " q"]]:
        own = jnp.searchsorted(ends, t, side="right").astype(jnp.int32)
        start = begin[own] + (t - ends[own] + tiles[own]) * size
        xs = x1[lax.dynamic_slice_in_dim(padded, start, size) // probes]

        def block(
            b: Int[Array, ""], leading: tuple[Float[Array, " s"], Int[Array, " s"]]
        ) -> tuple[Float[Array, " s"], Int[Array, " s"]]:
            best, group = leading
            rows = lax.dynamic_slice_in_dim(y1, b * BLOCK, BLOCK)
            scores = jnp.matmul(xs, rows.T, precision=PRECISION)
            maxima = jnp.max(scores.reshape(size, per_block, _GROUP), axis=2)
            for j in range(per_block):
                better = maxima[:, j] > best
                best = jnp.where(better, maxima[:, j], best)
                group = jnp.where(better, b * per_block + j, group)
            return best, group

        empty = (
            blocks.full((size,), -jnp.inf, jnp.float32, *data),
            blocks.full((size,), 0, jnp.int32, *data),
        )
        found = lax.fori_loop(first[own], first[own + 1], block, empty)
        # The end of a list's last tile belongs to later lists, which overwrite it.
        best, group = (
            lax.dynamic_update_slice_in_dim(whole, part, start, 0)
            for whole, part in zip(carry, found, strict=True)
        )
        return best, group

    carry = (
        blocks.full((n * probes + size,), 0, jnp.float32, *data),
        blocks.full((n * probes + size,), 0, jnp.int32, *data),
    )
    best, group = (
        jnp.zeros(n * probes, part.dtype).at[pair].set(part[: n * probes]).reshape(n, probes)
        for part in repeat(ends[-1], tile, carry)
    )
    return jnp.take_along_axis(group, jnp.argmax(best, axis=1)[:, None], axis=1)[:, 0]

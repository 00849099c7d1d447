r"""Inverted lists: the best of the targets in a few lists that promise most, a trial.

Targets are put into lists of near ones by k-means. Each list has a plane, and a sample probes the
lists whose planes are highest. A plane's slope is the mean target of its list. Its offset is
learned: at samples that the list wins, the plane is on average as high as Brenier's potential. So
one product with the planes ranks the lists. A sample that does not probe the list of its cell gets
a wrong cell; what share of samples does is measured on some that are also assigned exactly.

What is scored is scored in float32, as the kernel does; pairs of a sample and a list are sorted by
list, so that many samples meet a list in one product.

Sources: Jegou, Douze, Schmid 2011 (inverted lists); Clopper, Pearson 1934 (the bound).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.stats import beta

from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import power

_BLOCK = 64
"""Targets scored at once; every list is filled up to whole blocks."""
_GROUP = 32
"""Targets of which one maximum is kept, and which are scored again where it wins."""
_TILE = 256
"""Samples that meet a list at once."""
_RESCORE = 64
"""Samples whose winning groups are scored again together."""
_ROUNDS = 5
"""Of k-means."""

exact = jax.jit(power.best)
"""The kernel of the package."""


class Lists(NamedTuple):
    """Targets, list by list.

    Attributes:
      planes: slope and offset of K lists (K, d + 1).
      rows: targets with their heights (r, d + 1), -inf where a list is filled up.
      index: which target a row is (r,).
      slot: the row of each target (m,).
      begin: the first block of each list (K + 1,).
    """

    planes: jax.Array
    rows: jax.Array
    index: jax.Array
    slot: jax.Array
    begin: jax.Array


def kmeans(rng: np.random.Generator, y: np.ndarray, number: int) -> np.ndarray:
    """The list of each target (m,), of so many; each is the nearest of the lists' means."""
    means = y[rng.permutation(len(y))[:number]]
    own = np.zeros(len(y), np.int64)
    for _ in range(_ROUNDS):
        own = np.array(exact(y, means, -np.square(means).sum(1) / 2)[1])
        sizes = np.bincount(own, minlength=number)[:, None]
        spare = y[rng.permutation(len(y))[:number]]
        means = np.where(sizes > 0, sums(y, own, number) / np.maximum(sizes, 1), spare)
        means = means.astype(np.float32)
    return np.array(exact(y, means, -np.square(means).sum(1) / 2)[1])


def sums(values: np.ndarray, own: np.ndarray, number: int) -> np.ndarray:
    """Sums of rows (m, k) over each list (number, k)."""
    return np.stack([np.bincount(own, column, number) for column in values.T], axis=1)


def means(values: np.ndarray, own: np.ndarray, number: int) -> np.ndarray:
    """Means of rows (m, k) over each list (number, k)."""
    return sums(values, own, number) / np.maximum(np.bincount(own, minlength=number), 1)[:, None]


def offsets(y: np.ndarray, h: np.ndarray, own: np.ndarray, number: int) -> dict[str, np.ndarray]:
    """Offsets of planes that need no samples: the mean and the highest height of each list."""
    highest = np.full(number, -np.inf)
    np.maximum.at(highest, own, h)
    return {"mean height": means(h[:, None], own, number)[:, 0], "highest": highest}


def learned(
    y: np.ndarray, h: np.ndarray, own: np.ndarray, number: int, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of what the potential at samples (n, d) exceeds its list's mean plane by, and counts.

    Two samples are added to each list, which exceed it by half of what the highest height does.
    """
    plain = offsets(y, h, own, number)
    mean = plain["mean height"]
    value, index = map(np.array, exact(x, y, h))
    winner = own[index]
    slopes = means(y, own, number)
    excess = value - np.einsum("nd,nd->n", x, slopes[winner]) - mean[winner]
    prior = np.where(np.isfinite(plain["highest"]), plain["highest"] - mean, 0.0)
    return np.bincount(winner, excess, number) + prior, np.bincount(winner, minlength=number) + 2.0


def build(y: np.ndarray, h: np.ndarray, own: np.ndarray, planes: np.ndarray) -> Lists:
    """Lay the targets out list by list."""
    (m, d), number = y.shape, len(planes)
    sizes = np.bincount(own, minlength=number)
    begin = np.concatenate([[0], np.cumsum(-(-sizes // _BLOCK))])
    order = np.argsort(own, kind="stable")
    first = np.cumsum(sizes) - sizes
    to = begin[own[order]] * _BLOCK + np.arange(m) - first[own[order]]
    size = (-(-m // _BLOCK) + number) * _BLOCK
    rows = np.zeros((size, d + 1), np.float32)
    rows[:, d] = -np.inf
    rows[to, :d], rows[to, d] = y[order], h[order]
    index, slot = np.zeros(size, np.int32), np.zeros(m, np.int32)
    index[to], slot[order] = order, to
    arrays = planes.astype(np.float32), rows, index, slot, begin.astype(np.int32)
    return Lists(*map(jnp.asarray, arrays))


def ranks(x: np.ndarray, planes: np.ndarray, winner: np.ndarray) -> np.ndarray:
    """How many lists are probed before that of each sample's cell (n,)."""
    heights = x @ planes[:, :-1].T + planes[:, -1]
    own = np.take_along_axis(heights, winner[:, None], 1)
    return (heights > own).sum(1)


def scored(x: np.ndarray, planes: np.ndarray, sizes: np.ndarray, probes: int) -> float:
    """The share of all targets that is in the first lists of samples, on average."""
    heights = x @ planes[:, :-1].T + planes[:, -1]
    near = np.argpartition(-heights, probes - 1, axis=1)[:, :probes]
    return float(sizes[near].sum(1).mean() / sizes.sum())


def at_most(wrong: int, checked: int, level: float = 0.95) -> float:
    """Clopper and Pearson's upper bound on a share of which some were seen among those checked."""
    return 1.0 if wrong >= checked else float(beta.ppf(level, wrong + 1, checked - wrong))


@partial(jax.jit, static_argnames="probes")
def probed(x1: jax.Array, planes: jax.Array, probes: int) -> jax.Array:
    """The lists with the highest planes (n, probes) at samples with a coordinate 1."""
    return lax.top_k(jnp.matmul(x1, planes.T, precision=PRECISION), probes)[1]


@partial(jax.jit, static_argnames="probes")
def assign(x: jax.Array, lists: Lists, probes: int) -> tuple[jax.Array, jax.Array]:
    """The best plane among the targets of so many lists: as ``exact``, n a multiple of 64."""
    x1 = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
    return _rescored(x1, _leading(x1, probed(x1, lists.planes, probes), lists), lists)


def _by_list(near: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Pairs of a sample and a list in the order of the lists, and where each list's begin."""
    pairs = near.size
    bits = max(1, (pairs - 1).bit_length())
    assert bits + (number - 1).bit_length() <= 32, "fewer samples, lists or probes at once"
    # List and place in one word: a sort without a payload is several times as quick.
    place = jnp.arange(pairs, dtype=jnp.uint32)
    key = jnp.sort((near.reshape(-1).astype(jnp.uint32) << bits) | place)
    begin = jnp.searchsorted(key, jnp.arange(number, dtype=jnp.uint32) << bits)
    begin = jnp.append(begin.astype(jnp.int32), jnp.int32(pairs))
    return (key & jnp.uint32((1 << bits) - 1)).astype(jnp.int32), begin


def _leading(x1: jax.Array, near: jax.Array, lists: Lists) -> jax.Array:
    """The group of targets with the highest maximum (n,), over all lists that a sample probes."""
    n, probes = near.shape
    pair, begin = _by_list(near, lists.planes.shape[0])
    tiles = -(-(begin[1:] - begin[:-1]) // _TILE)
    ends = jnp.cumsum(tiles)
    padded = jnp.pad(pair, (0, _TILE))

    def tile(t: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        own = jnp.searchsorted(ends, t, side="right").astype(jnp.int32)
        start = begin[own] + (t - ends[own] + tiles[own]) * _TILE
        xs = x1[lax.dynamic_slice_in_dim(padded, start, _TILE) // probes]

        def block(b: jax.Array, leading: tuple[jax.Array, jax.Array]):
            best, group = leading
            rows = lax.dynamic_slice_in_dim(lists.rows, b * _BLOCK, _BLOCK)
            scores = jnp.matmul(xs, rows.T, precision=PRECISION)
            maxima = jnp.max(scores.reshape(_TILE, -1, _GROUP), axis=2)
            for j in range(_BLOCK // _GROUP):
                better = maxima[:, j] > best
                best = jnp.where(better, maxima[:, j], best)
                group = jnp.where(better, b * (_BLOCK // _GROUP) + j, group)
            return best, group

        empty = jnp.full(_TILE, -jnp.inf, jnp.float32), jnp.zeros(_TILE, jnp.int32)
        found = lax.fori_loop(lists.begin[own], lists.begin[own + 1], block, empty)
        # The end of a list's last tile belongs to later lists, which overwrite it.
        best, group = (
            lax.dynamic_update_slice_in_dim(whole, part, start, 0)
            for whole, part in zip(carry, found, strict=True)
        )
        return best, group

    size = n * probes + _TILE
    carry = jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.int32)
    best, group = (
        jnp.zeros(n * probes, part.dtype).at[pair].set(part[: n * probes]).reshape(n, probes)
        for part in lax.fori_loop(0, ends[-1], tile, carry)
    )
    return jnp.take_along_axis(group, jnp.argmax(best, axis=1)[:, None], axis=1)[:, 0]


def _rescored(x1: jax.Array, group: jax.Array, lists: Lists) -> tuple[jax.Array, jax.Array]:
    """The best plane of a group of each sample."""
    width = x1.shape[1]
    groups = lists.rows.reshape(-1, _GROUP, width)

    def part(given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        xs, own = given
        scores = jnp.einsum("nd,nkd->nk", xs, groups[own], precision=PRECISION)
        index = lists.index[own * _GROUP + jnp.argmax(scores, axis=1)]
        return jnp.max(scores, axis=1), index

    parts = x1.reshape(-1, _RESCORE, width), group.reshape(-1, _RESCORE)
    value, index = lax.map(part, parts)
    return value.reshape(-1), index.reshape(-1)

"""Blocks of targets: how they are cut out, scored and reduced, and loops with fixed bits."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from aeot_jax.numerics import PRECISION, barrier, is_typed_key, on_accelerator, repeat, traced_once

_Tree = TypeVar("_Tree")

RESCORE = 64
"""Most samples whose winning groups are scored again together; chunks are multiples of it."""

_VECTOR = 128
"""On an accelerator, blocks are multiples of so many targets."""

RESCORE_FLOATS = 1 << 18
"""Most floats gathered together: 1 MiB, which stays in cache between the gather and the product."""


class Rows(NamedTuple):
    """Targets as stored, with what a kernel does to each block: widen, shift and scale it.

    Scores of targets far from the origin lose digits; around a centre they keep them. The stored
    targets, of which a number may take one byte, are never copied as a whole for that.

    Attributes:
      points: targets as stored (m, d), in a dtype whose numbers float32 holds.
      centre: what is subtracted from each (d,); None where they are near the origin already.
      scale: what they are divided by then; None where they have their size.
      lists: inverted lists of them (``ot/lists``), for steps that look at few; None has all scored.
    """

    points: jax.Array
    centre: jax.Array | None = None
    scale: jax.Array | None = None
    lists: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of targets and dimension."""
        return self.points.shape

    def part(self, start: jax.Array | int, size: int) -> jax.Array:
        """``size`` targets from ``start`` on, float32 (size, d)."""
        return self.of(lax.dynamic_slice_in_dim(self.points, start, size))

    def of(self, stored: jax.Array) -> jax.Array:
        """Some rows as they are scored, float32 (n, d), from the same as they are stored."""
        rows = stored.astype(jnp.float32)
        rows = rows if self.centre is None else rows - self.centre[None, :]
        return rows if self.scale is None else rows / self.scale


def as_rows(y: jax.Array | Rows) -> Rows:
    """Targets as ``Rows``; plain arrays are near the origin."""
    return y if isinstance(y, Rows) else Rows(y)


def whole(y: jax.Array | Rows) -> jax.Array:
    """All targets as they are scored, float32 (m, d)."""
    y = as_rows(y)
    return y.of(y.points)


def used(h: jax.Array) -> jax.Array:
    """Number of targets up to the last one with a height: a kernel must score these.

    Targets that only fill up an array come last and have the height -inf.
    """
    places = jnp.arange(1, h.shape[0] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(h > -jnp.inf, places, 0))


def number_of(used: jax.Array, block: int) -> jax.Array:
    """Blocks that hold the targets that a kernel must score."""
    return (used + (block - 1)) // block


def whole_groups(block: int, num_targets: int, group: int) -> int:
    """Fit a block into the targets and make it a whole number of groups."""
    block = min(block, num_targets)
    return block if block < group else block - block % group


def full(
    shape: tuple[int, ...], fill: float | int, dtype: DTypeLike, *data: jax.Array
) -> jax.Array:
    """A constant array for a loop's carry, which varies over the same mesh axes as the data.

    ``shard_map`` types each value by the mesh axes over which it varies. A plain constant varies
    over none, which does not match the carry that comes out of the loop.
    """
    number = jnp.asarray(fill, dtype)
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return jnp.broadcast_to(number, shape)
    varies = jnp.zeros((), bool)
    for array in data:
        varies = varies | jnp.isnan(array[(0,) * array.ndim])
    # Both choices are the same number: the compiler removes the test, the type keeps the axes.
    return jnp.broadcast_to(jnp.where(varies, number, number), shape)


def window(
    y: Rows, h: jax.Array, b: jax.Array, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Block b of the targets, its heights, and the index of its first target.

    The last block is a full window over the last targets; those that the block before it owns are
    masked by -inf. So y is never padded. Every product has one shape, so that equal targets have
    bit-equal scores in any block.
    """
    start = jnp.minimum(b * block, y.shape[0] - block)
    heights = lax.dynamic_slice_in_dim(h, start, block)
    owned = start + jnp.arange(block, dtype=jnp.int32) >= b * block
    return y.part(start, block), jnp.where(owned, heights, -jnp.inf), start


def group_scores(x: jax.Array, y: Rows, h: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Score the groups that begin at ``start`` (n, k) again; the scores are (n, k, size)."""
    slices = jax.vmap(jax.vmap(lambda i: y.part(i, size)))(start)
    heights = jax.vmap(jax.vmap(lambda i: lax.dynamic_slice_in_dim(h, i, size)))(start)
    flat = slices.reshape(x.shape[0], -1, x.shape[1])
    return jnp.einsum("nd,nkd->nk", x, flat, precision=PRECISION).reshape(heights.shape) + heights


def together(floats: int) -> int:
    """How many samples of ``floats`` floats each to gather together: a power of two up to 64."""
    return 1 << (min(RESCORE, max(1, RESCORE_FLOATS // floats)).bit_length() - 1)


def best_of_groups(
    x: jax.Array, y: Rows, h: jax.Array, start: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    """Best plane at each sample among the ``size`` targets from ``start`` (n,) on.

    n is a multiple of ``RESCORE``. A group that would reach beyond the last target ends there.
    """
    value, index = leading_of_groups(x, y, h, start, size, 1)
    return value[0], index[0]


def leading_of_groups(
    x: jax.Array, y: Rows, h: jax.Array, start: jax.Array, size: int, number: int
) -> tuple[jax.Array, jax.Array]:
    """Several best planes (number, n), the best first; -inf where there is none."""
    n, d = x.shape
    last = y.shape[0] - size

    def rescore(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        begin = jnp.minimum(part[1], last)
        score = group_scores(part[0], y, h, begin[:, None], size)[:, 0]
        places = jnp.arange(size, dtype=jnp.int32)[None, :]
        score = jnp.where(places >= (part[1] - begin)[:, None], score, -jnp.inf)
        values, indices = [], []
        for rank in range(number):
            value = jnp.max(score, axis=1)
            # `jnp.argmax` is scalar code on a CPU; two reductions are not.
            place = jnp.min(jnp.where(score == value[:, None], places, size - 1), axis=1)
            values.append(value)
            indices.append(begin + place)
            if rank + 1 < number:
                score = jnp.where(places == place[:, None], -jnp.inf, score)
        return jnp.stack(values, axis=1), jnp.stack(indices, axis=1)

    at_once = together(size * d)
    value, index = lax.map(rescore, (x.reshape(-1, at_once, d), start.reshape(-1, at_once)))
    return value.reshape(n, number).T, index.reshape(n, number).T


def in_padded_chunks(
    kernel: Callable[..., _Tree], x: jax.Array, y: Rows, h: jax.Array, chunk: int, whole: int
) -> _Tree:
    """Apply ``kernel(rows, y, h, used)`` to chunks of x of one shape; the last one is padded.

    Args:
      kernel: gives arrays with the rows along their last axis.
      x: rows (n, d).
      y: targets (m, d).
      h: heights (m,).
      chunk: most rows of a chunk.
      whole: fewer rows are padded to a multiple of it.
    """
    n, d = x.shape
    chunk = min(chunk, n + -n % whole)
    padded = jnp.pad(x, ((0, -n % chunk), (0, 0))).reshape(-1, chunk, d)
    last = used(h)
    found = lax.map(lambda part: kernel(part, y, h, last), padded)

    def joined(chunks: jax.Array) -> jax.Array:
        return jnp.moveaxis(chunks, 0, -2).reshape(*chunks.shape[1:-1], -1)[..., :n]

    return jax.tree.map(joined, found)


def equal_blocks(num_targets: int, most: int) -> int:
    """Size of equal blocks for an accelerator: a multiple of 128, at most about ``most`` targets.

    The window over the last targets then scores few of them twice.
    """
    number = -(-num_targets // max(_VECTOR, most))
    size = -(-num_targets // number)
    return min(num_targets, size + -size % _VECTOR)


@jax.custom_jvp
def first_best(scores: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], ...]:
    """Maxima over the last axis and the lowest places that attain them, by one reduction.

    An accelerator then reads the operands of the scores only once. A NaN never wins.

    Args:
      scores: arrays of one shape.

    Returns:
      The maxima of each array, and their places.
    """
    number, last = len(scores), scores[0].ndim - 1

    def better(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        values, places = [], []
        for v, w, i, j in zip(a[:number], b[:number], a[number:], b[number:], strict=True):
            wins = (w > v) | ((w == v) & (j < i))
            values.append(jnp.where(wins, w, v))
            places.append(jnp.where(wins, j, i))
        return (*values, *places)

    places = lax.broadcasted_iota(jnp.int32, scores[0].shape, last)
    least, beyond = np.array(-np.inf, scores[0].dtype), np.array(np.iinfo(np.int32).max, np.int32)
    none = (least,) * number + (beyond,) * number
    found = tuple(lax.reduce((*scores, *(places,) * number), none, better, (last,)))
    return found[:number], found[number:]


@first_best.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    values, places = first_best(*primals)
    changes = tuple(
        jnp.take_along_axis(change, place[..., None], axis=-1)[..., 0]
        for change, place in zip(tangents[0], places, strict=True)
    )
    still = tuple(np.zeros(place.shape, jax.dtypes.float0) for place in places)
    return (values, places), (changes, still)


def first_best_of(
    parts: tuple[jax.Array, ...],
    neutral: tuple[float, ...],
    scores: Callable[..., tuple[jax.Array, ...]],
    number: int,
) -> tuple[tuple[jax.Array, ...], ...]:
    """``first_best(scores(*parts))``, but only the parts are ever in memory.

    The compiler writes scores that several formulas share before it reduces them. Here the formulas
    are inside of the reduction: its elements are parts with a maximum so far, and one that has met
    another holds neutral parts.

    Args:
      parts: arrays of one shape, of which the scores are made.
      neutral: parts from which every score is -inf.
      scores: from parts to scores.
      number: how many scores there are.
    """
    last, held = parts[0].ndim - 1, len(parts) + 1
    none = (*map(np.float32, neutral), np.int32(np.iinfo(np.int32).max))
    empty = (np.float32(-np.inf), none[-1]) * number

    def reducer(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        best = list(a[held:])
        for element in (a, b):
            own = [(score, element[held - 1]) for score in scores(*element[: held - 1])]
            if element is b:
                own += zip(b[held::2], b[held + 1 :: 2], strict=True)
            for k, (value, place) in enumerate(own):
                at = 2 * (k % number)
                wins = (value > best[at]) | ((value == best[at]) & (place < best[at + 1]))
                best[at] = jnp.where(wins, value, best[at])
                best[at + 1] = jnp.where(wins, place, best[at + 1])
        return (*map(jnp.asarray, none), *best)

    places = lax.broadcasted_iota(jnp.int32, parts[0].shape, last)
    filled = [jnp.full(parts[0].shape, fill, fill.dtype) for fill in empty]
    found = tuple(lax.reduce((*parts, places, *filled), none + empty, reducer, (last,)))
    return found[held::2], found[held + 1 :: 2]


def map_range(function: Callable[..., _Tree], number: int, *operands: Any) -> _Tree:
    """Evaluate ``function(i, *operands)`` for i in 0 .. number - 1 and stack the results.

    Each turn has the same bits in every program, and with any number of turns. The compiler fuses
    nothing across the border of a loop and knows nothing beyond a barrier. It does not know the
    number of turns either, so even a single turn stays a loop. That number depends on the operands:
    under ``vmap`` each problem keeps its own.
    """
    operands = barrier(operands)
    function = traced_once(function)
    shapes = jax.eval_shape(function, jnp.int32(0), *operands)
    numbers = [leaf for leaf in jax.tree.leaves(operands) if not is_typed_key(leaf)]
    # Never true, which the compiler does not know.
    never = jnp.max(numbers[0].ravel()[:1]).astype(jnp.float32) < -jnp.inf

    def turn(i: jax.Array, stacked: _Tree) -> _Tree:
        return jax.tree.map(
            lambda all_, one: lax.dynamic_update_index_in_dim(all_, one, i, 0),
            stacked,
            function(i, *operands),
        )

    empty = jax.tree.map(lambda s: full((number, *s.shape), 0, s.dtype, *numbers), shapes)
    return repeat(jnp.where(never, 0, number), turn, empty)


def map_abreast(function: Callable[..., _Tree], number: int, *operands: Any) -> _Tree:
    """``map_range``, but an accelerator evaluates all turns together, in its memory.

    Barriers on both sides keep the rest of the program out, so that the results depend on the
    operands and the number of turns alone.
    """
    if not on_accelerator():
        return map_range(function, number, *operands)
    operands = barrier(operands)
    turns = jnp.arange(number, dtype=jnp.int32)
    return barrier(jax.vmap(lambda i: function(i, *operands))(turns))

r"""The kernel on a GPU with tensor cores: they find candidates, and float32 decides among these.

Tensor cores multiply bfloat16 numbers, exactly, and add the products in float32, a dozen times as
fast as float32 numbers are multiplied. A number is split in two of them: :math:`x = a + b + r` with
:math:`a` the nearest bfloat16 to :math:`x` and :math:`b` that to :math:`x - a`. The score that is
looked at is

.. math:: A_i = a \cdot a_i + a \cdot b_i + b \cdot a_i + h_i .

Each sample keeps the three highest of these, :math:`A_{(1)} \ge A_{(2)} \ge A_{(3)}`, over all
targets, and where the first two are.

**The bound.** With :math:`v = 2^{-8}` and :math:`u = 2^{-24}`, the units of the two formats,
:math:`|b| \le v(1+v)|x|` and :math:`|r| \le v^2 |x|` in every coordinate, so that by Cauchy and
Schwarz what is left out is at most :math:`3.1\, v^2 \|x\| \|y_i\|`. A sum of N terms in any order,
each addition off by at most a relative t, is off by at most :math:`N t / (1 - N t)` times the sum
of the terms' sizes. Tensor cores add several products and the sum so far at once: all are shifted
to the exponent of the largest, cut there, and the result is cut again (Fasi et al. 2021). If they
add at least 8 products and keep at least 24 bits, that is :math:`t = 1.25 \cdot 2^{-23}` for each
term. For a float32 sum, t = u. Let S be *any* float32 evaluation of the scores that adds runs of at
most k coordinates in any order, and then the runs. Together, for a sum of three products in one,

.. math:: |A_i - S_i| \le e = \Big(3.1\, v^2 + 1.02 \frac{3 k t}{1 - 3 k t} + 1.02\,(k + 16)\, u
          \Big) \|x\| \max_i \|y_i\| + 4 u \max_i |h_i| .

Where a is summed by itself, 3 k t is k t (and 4 v k t for the small products). What is smaller than
float32's least normal number may become 0; ``bound`` adds that, too.

**The decision.** Where :math:`A_{(1)} - A_{(3)} > 2 e`, every target but the first two has
:math:`S_i \le A_{(3)} + e < A_{(1)} - e \le S_{(1)}`. So the highest S is at one of these two, and
both are scored in float32. All other samples are given, a few at a time, to the kernel that scores
every target in float32: ties and adversarial data are slower, and as right.

Source: Ootomo and Yokota 2022 for split products; the decision is this library's.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aeot_jax.numerics import repeat
from aeot_jax.ot.cells import accelerator, blocks
from aeot_jax.ot.cells.blocks import Rows

LEAST_DIM = 64
"""Least dimension in which candidates pay (``benchmarks/kernel.py``)."""

_LEAST_TARGETS = 2048
"""Fewest targets: with fewer, the work that each sample brings weighs more than its scores."""

_LEAST_SAMPLES = 1024
"""Fewest samples for which there are enough to fill a GPU beside those that float32 decides."""

CHUNK = 16_384
"""Samples scored together."""

_SCORES = 1 << 26
"""Most scores of a block: 256 MiB."""

_APART = 1024
"""Least number of coordinates of a product for which the large terms are summed by themselves: that
is written and read once more, and leaves fewer samples open."""

_OPEN = 256
"""Samples that are left open, decided together by float32."""

_BFLOAT = 2.0**-8
_UNIT = 2.0**-24
_TENSOR_UNIT = 1.25 * 2.0**-23
_TINY = 2.0**-126
"""Units of bfloat16, float32 and sums on tensor cores, and float32's least normal number."""

_NOWHERE = 1 << 30
"""Index of a target that is not there; the start of a block can be added to it."""

_LARGEST = 2.0**100
"""Samples and targets with larger norms are not split: their halves or scores could overflow."""


class Leading(NamedTuple):
    """The three highest scores of each sample, from the highest down, and where two of them are."""

    first: jax.Array
    second: jax.Array
    third: jax.Array
    index: jax.Array
    second_index: jax.Array


def pays(num_samples: int, num_targets: int, dim: int) -> bool:
    """Whether candidates are quicker than float32 for every score."""
    return num_samples >= _LEAST_SAMPLES and num_targets >= _LEAST_TARGETS and dim >= LEAST_DIM


def split(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two bfloat16 numbers whose sum is a float32 number but for its last 8 bits."""
    # A conversion there and back may be dropped by the compiler; this rounding is not.
    near = lax.reduce_precision(rows, exponent_bits=8, mantissa_bits=7)
    return near.astype(jnp.bfloat16), (rows - near).astype(jnp.bfloat16)


def apart(length: int) -> bool:
    """Whether products of so many coordinates keep their large terms to themselves."""
    return length >= _APART


def left(rows: jax.Array, length: int) -> tuple[jax.Array, ...]:
    """Samples (..., n, k) as ``products`` takes them; ``length`` is the number of coordinates."""
    near, rest = split(rows)
    if apart(length):
        return near, jnp.concatenate([near, rest], axis=-1)
    return (jnp.concatenate([near, near, rest], axis=-1),)


def right(rows: jax.Array, length: int) -> tuple[jax.Array, ...]:
    """The same for targets (..., b, k)."""
    near, rest = split(rows)
    if apart(length):
        return near, jnp.concatenate([rest, near], axis=-1)
    return (jnp.concatenate([near, rest, near], axis=-1),)


def products(x: tuple[jax.Array, ...], y: tuple[jax.Array, ...]) -> jax.Array:
    """Approximate inner products (..., n, b) of what ``left`` and ``right`` made."""
    found = [
        jnp.einsum("...nk,...bk->...nb", a, b, preferred_element_type=jnp.float32)
        for a, b in zip(x, y, strict=True)
    ]
    return found[0] if len(found) == 1 else found[0] + found[1]


def error(dim: int, length: int) -> float:
    """The bound on the error of a score, over the norms of the sample and of the target.

    Args:
      dim: d.
      length: coordinates of a product; d, unless a score is a sum of several.
    """
    terms = (1 if apart(length) else 3) * length * _TENSOR_UNIT
    small = 4 * _BFLOAT * length * _TENSOR_UNIT if apart(length) else 0.0
    if terms >= 0.5 or dim * _UNIT >= 0.01:
        return np.inf
    return 3.1 * _BFLOAT**2 + 1.02 * (terms / (1 - terms) + small + (length + 16) * _UNIT)


def norm(squares: jax.Array, dim: int) -> jax.Array:
    """An upper bound on a norm from a computed sum of squares, some of which may have become 0."""
    return (1 + 2 * dim * _UNIT) * jnp.sqrt(squares + 2 * dim * _TINY)


def bound(x_norm: jax.Array, y_norm: jax.Array, h_size: jax.Array, dim: int, length: int):
    """The e of this file, for each sample.

    Args:
      x_norm: at least the norm of each sample (n,).
      y_norm: at least the largest norm of a target.
      h_size: the largest finite height, without its sign.
      dim: d.
      length: as for ``error``.
    """
    lost = 4 * dim * _TINY * (1 + x_norm + y_norm)
    e = error(dim, length) * x_norm * y_norm + 4 * _UNIT * h_size + lost
    fits = (x_norm < _LARGEST) & (y_norm < _LARGEST) & (h_size < _LARGEST)
    return jnp.where(fits, 1.01 * e, jnp.inf)  # what rounds here is far below a hundredth


def merged(a: Leading, b: Leading) -> Leading:
    """The three highest of two lists; of equal ones the lowest index comes first."""
    wins = (b.first > a.first) | ((b.first == a.first) & (b.index < a.index))

    def of_winner(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where(wins, other, one)

    lost, lost_index = of_winner(b.first, a.first), of_winner(b.index, a.index)
    next_, next_index = of_winner(a.second, b.second), of_winner(a.second_index, b.second_index)
    ahead = next_ > lost
    low = jnp.where(ahead, lost, next_)
    rest, last = of_winner(b.second, a.second), of_winner(a.third, b.third)
    third = jnp.where(rest > last, rest, last)
    return Leading(
        of_winner(a.first, b.first),
        jnp.where(ahead, next_, lost),
        jnp.where(low > third, low, third),
        of_winner(a.index, b.index),
        jnp.where(ahead, next_index, lost_index),
    )


def leading(scores: tuple[jax.Array, ...]) -> tuple[Leading, ...]:
    """The three highest over the last axis of arrays of one shape, by one reduction.

    An index is a place on that axis, beyond all where there are too few scores above -inf.
    """
    number, last = len(scores), scores[0].ndim - 1
    places = lax.broadcasted_iota(jnp.int32, scores[0].shape, last)
    least, beyond = np.float32(-np.inf), np.int32(_NOWHERE)
    nothing, nowhere = jnp.full_like(scores[0], least), jnp.full_like(places, beyond)

    def grouped(flat: tuple[jax.Array, ...]) -> list[Leading]:
        return [Leading(*flat[i : i + 5]) for i in range(0, len(flat), 5)]

    def reducer(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        lists = map(merged, grouped(a), grouped(b))
        return tuple(array for one in lists for array in one)

    operands = [array for s in scores for array in (s, nothing, nothing, places, nowhere)]
    none = (least, least, least, beyond, beyond) * number
    return tuple(grouped(tuple(lax.reduce(tuple(operands), none, reducer, (last,)))))


def moved(found: Leading, start: jax.Array) -> Leading:
    """Places in a block as indices of targets."""
    return found._replace(index=found.index + start, second_index=found.second_index + start)


def over_blocks(
    score: Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]],
    shape: tuple[int, ...],
    x: jax.Array,
    y: Rows,
    h: jax.Array,
    block: int,
) -> tuple[tuple[Leading, ...], jax.Array, jax.Array]:
    """The leading targets of all blocks, and what ``bound`` needs of them.

    Args:
      score: from targets (b, d) and heights (b,) to arrays of scores (..., b).
      shape: of such an array, without its last axis, and the number of arrays in front.
      x: samples, of which the scores are.
      y: targets (m, d).
      h: heights (m,).
      block: targets scored together.

    Returns:
      The lists, at least the largest norm of a target with a height, and the size of h.
    """
    dim = y.shape[1]

    def body(b: jax.Array, carry: tuple) -> tuple:
        lists, y_norm = carry
        yb, hb, start = blocks.window(y, h, b, block)
        fresh = leading(score(yb, hb))
        squares = jnp.where(hb == -jnp.inf, 0.0, jnp.square(yb).sum(axis=1))
        lists = tuple(merged(old, moved(new, start)) for old, new in zip(lists, fresh, strict=True))
        return lists, jnp.maximum(y_norm, norm(jnp.max(squares), dim))

    data = x, y.points, h
    values = [blocks.full(shape[1:], -jnp.inf, jnp.float32, *data)] * 3
    indices = [blocks.full(shape[1:], _NOWHERE, jnp.int32, *data)] * 2
    empty = (Leading(*values, *indices),) * shape[0]
    lists, y_norm = repeat(
        -(-y.shape[0] // block), body, (empty, blocks.full((), 0.0, jnp.float32, *data))
    )
    return lists, y_norm, jnp.max(jnp.where(h == -jnp.inf, 0.0, jnp.abs(h)))


def of_pair(
    found: Leading, score: Callable[[jax.Array], jax.Array], num_targets: int
) -> jax.Array:
    """Which of the first two is highest in float32; of equals the lowest.

    Args:
      found: the lists.
      score: from the index of a target for each sample to its score in float32.
      num_targets: m.
    """
    index, other = (jnp.clip(i, 0, num_targets - 1) for i in (found.index, found.second_index))
    mine, its = score(index), score(other)
    its = jnp.where(found.second > -jnp.inf, its, -jnp.inf)
    return jnp.where((its > mine) | ((its == mine) & (other < index)), other, index)


def is_open(found: Leading, e: jax.Array) -> jax.Array:
    """Whether more than two targets could be the highest; also where anything is no number."""
    return ~(found.first - found.third > 2 * e)


def row_score(x: jax.Array, rows: jax.Array, heights: jax.Array) -> jax.Array:
    """Scores of samples (..., d), each with a target of its own (..., d), in float32.

    The coordinates are added in four runs, and then these.
    """
    d = x.shape[-1]
    terms = x * rows
    terms = jnp.pad(terms, [(0, 0)] * (terms.ndim - 1) + [(0, -d % 4)])
    runs = terms.reshape(*terms.shape[:-1], 4, -1).sum(axis=-1)
    return (runs[..., 0] + runs[..., 1]) + (runs[..., 2] + runs[..., 3]) + heights


def settled(
    index: jax.Array,
    open_: jax.Array,
    decide: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Let float32 decide all samples that are open, a few at a time, until none is.

    Args:
      index: where the others are (..., n).
      open_: which samples are open (n,).
      decide: from the places of some samples (c,) to their indices (..., c).
    """
    n = open_.shape[0]
    size = min(_OPEN, n)

    def turn(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        still, index = carry
        places = jnp.nonzero(still, size=size, fill_value=n)[0].astype(jnp.int32)
        found = decide(jnp.minimum(places, n - 1))
        index = index.at[..., places].set(found, mode="drop")
        return still.at[places].set(False, mode="drop"), index

    return lax.while_loop(lambda carry: jnp.any(carry[0]), turn, (open_, index))[1]


def best(x: jax.Array, y: Rows, h: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The highest plane at each sample, as ``accelerator.best`` finds it.

    The index is that of the highest score in float32; the value is that score, summed as
    ``row_score`` does.
    """
    index = _index(*lax.stop_gradient((x, y, h)), used)
    return row_score(x, y.of(y.points[index]), h[index]), index


def _index(x: jax.Array, y: Rows, h: jax.Array, used: jax.Array) -> jax.Array:
    (n, d), m = x.shape, y.shape[0]
    split_x = left(x, d)

    def score(yb: jax.Array, hb: jax.Array) -> tuple[jax.Array, ...]:
        return (products(split_x, right(yb, d)) + hb[None, :],)

    block = blocks.equal_blocks(m, _SCORES // n)
    (found,), y_norm, h_size = over_blocks(score, (1, n), x, y, h, block)
    e = bound(norm(jnp.square(x).sum(axis=1), d), y_norm, h_size, d, d)
    index = of_pair(found, lambda i: row_score(x, y.of(y.points[i]), h[i]), m)
    return settled(
        index, is_open(found, e), lambda places: accelerator.best(x[places], y, h, used)[1]
    )

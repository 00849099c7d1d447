r"""The kernel on a GPU with tensor cores: they find candidates, and float32 decides among these.

Tensor cores multiply a dozen times as fast as float32 numbers are multiplied, but not as exactly.
So each sample keeps a short list of the highest of the scores :math:`A_i` that they give, from
:math:`A_{(1)}` down to :math:`A_{(k)}`, and where all but the last are. In ``split.py`` is a bound
e on the distance between :math:`A_i` and any evaluation :math:`S_i` of the score in float32.

**The decision.** Where :math:`A_{(1)} - A_{(k)} > 2 e`, every target outside of the first k - 1 has
:math:`S_i \le A_i + e \le A_{(k)} + e < A_{(1)} - e \le S_{(1)}`. So the highest S is at one of
these k - 1, and they are scored in float32. All other samples are open: they are given, a few at a
time, to the kernel that scores every target in float32. Ties of many targets and adversarial data
are slower, and as right (``benchmarks/kernel.py`` records how many samples are open).
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aeot_jax.ot.cells import accelerator, blocks
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.cells.tensorcores import split
from aeot_jax.ot.cells.tensorcores.leading import Leading, Scores, over_blocks

_LEAST_SAMPLES, _LEAST_TARGETS = 512, 2048
"""Fewest samples and targets: with fewer, what each of them costs weighs more than their scores."""


class Least(NamedTuple):
    """What a work has at least where candidates are quicker (``benchmarks/kernel.py``).

    Attributes:
      dim: dimensions.
      work: multiplications.
    """

    dim: int
    work: int


_LEAST = Least(64, 1 << 34)
"""For samples: half a millisecond of an H200, as a call costs some launches."""

CHUNK = 16_384
"""Samples scored together."""

PRODUCTS = 1 << 28
"""Most products of a block: 1 GiB. Few long rows are quicker to reduce than many short ones."""

_BLOCK = 16_384
"""Most targets of a block."""

_OPEN = 256
"""Samples that are left open, decided together by float32."""


def pays(num_products: int, num_targets: int, dim: int, *, least: Least = _LEAST) -> bool:
    """Whether candidates are quicker than float32 for every score.

    Args:
      num_products: samples that are multiplied, or orbits.
      num_targets: m.
      dim: d.
      least: the work from which on they are.
    """
    are_many = num_products >= _LEAST_SAMPLES and num_targets >= _LEAST_TARGETS
    is_long = num_products * num_targets * dim >= least.work
    return are_many and is_long and dim >= least.dim and split.error(dim, dim) < np.inf


def of_few(found: Leading, score: Callable[[jax.Array], jax.Array], num_targets: int) -> jax.Array:
    """Which of a list but its last is highest in float32; of equals the lowest.

    Args:
      found: the lists.
      score: from the index of a target for each sample to its score in float32.
      num_targets: m.
    """
    best, index = jnp.full_like(found.values[0], -jnp.inf), jnp.zeros_like(found.places[0])
    for value, place in zip(found.values, found.places, strict=False):
        place = jnp.clip(place, 0, num_targets - 1)
        its = jnp.where(value > -jnp.inf, score(place), -jnp.inf)
        wins = (its > best) | ((its == best) & (place < index))
        best, index = jnp.where(wins, its, best), jnp.where(wins, place, index)
    return index


def is_open(found: Leading, e: jax.Array) -> jax.Array:
    """Whether a target outside of a list could be the highest, also where anything is no number."""
    return ~(found.values[0] - found.values[-1] > 2 * e)


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
    ``row_score`` does, so that it is the same wherever its target stands.
    """
    index = _index(*lax.stop_gradient((x, y, h)), used)
    return row_score(x, y.of(y.points[index]), h[index]), index


def _index(x: jax.Array, y: Rows, h: jax.Array, used: jax.Array) -> jax.Array:
    found, e = looked_at(x, y, h)
    index = of_few(found, lambda i: row_score(x, y.of(y.points[i]), h[i]), h.shape[0])
    return settled(
        index, is_open(found, e), lambda places: accelerator.best(x[places], y, h, used)[1]
    )


def looked_at(x: jax.Array, y: Rows, h: jax.Array) -> tuple[Leading, jax.Array]:
    """The list of each sample (n,), and the e of this file (n,)."""
    (n, d), m = x.shape, y.shape[0]
    split_x = split.left(x, d)
    number = len(split_x)

    def parts(yb: jax.Array, hb: jax.Array) -> tuple[jax.Array, ...]:
        found = split.products(split_x, split.right(yb, d))
        return *found, jnp.broadcast_to(hb[None, :], found[0].shape).astype(jnp.float32)

    def scores(*parts: jax.Array) -> tuple[jax.Array, ...]:
        return (functools.reduce(operator.add, parts),)

    of = Scores(parts, (0.0,) * number + (-np.inf,), scores, 1)
    block = blocks.equal_blocks(m, min(PRODUCTS // (number * n), _BLOCK))
    found, e = over_blocks(of, x, y, h, block, d)
    return jax.tree.map(lambda array: array[0], found), e

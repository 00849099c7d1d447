"""The highest scores of each sample, and where they are: a short list, made by one reduction."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aeot_jax.numerics import repeat
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.cells.tensorcores import split

KEPT = 4
"""Scores of a list."""

_NOWHERE = 1 << 30
"""Index of a target that is not there; the start of a block can be added to it."""


class Leading(NamedTuple):
    """The highest scores of each sample, from the highest down, and where all but the last are.

    Attributes:
      values: ``KEPT`` arrays of one shape.
      places: one array less, of the same shape.
    """

    values: tuple[jax.Array, ...]
    places: tuple[jax.Array, ...]


def _inserted(found: Leading, value: jax.Array, place: jax.Array, first: int = 0) -> Leading:
    """A list with one score more, whose lowest is dropped; of equals those in it come first.

    Args:
      found: a list.
      value: no more than the ``first`` highest scores of the list.
      place: where it is.
      first: how many to pass over.
    """
    values, places = list(found.values), list(found.places)
    for i in range(first, len(values)):
        wins = value > values[i]
        values[i], value = jnp.where(wins, value, values[i]), jnp.where(wins, values[i], value)
        if i < len(places):
            places[i], place = jnp.where(wins, place, places[i]), jnp.where(wins, places[i], place)
    return Leading(tuple(values), tuple(places))


def merged(a: Leading, b: Leading) -> Leading:
    """The highest of two lists."""
    for i, value in enumerate(b.values):
        # The last of a list has no place, and can only be the last again.
        a = _inserted(a, value, b.places[min(i, len(b.places) - 1)], i)
    return a


def leading(
    parts: tuple[jax.Array, ...],
    neutral: tuple[float, ...],
    scores: Callable[..., tuple[jax.Array, ...]],
    number: int,
) -> tuple[Leading, ...]:
    """The highest scores over the last axis, by one reduction that reads each part once.

    What is reduced are pairs of parts and lists: at first the lists are empty, and after it has met
    another pair it is its parts that are. If the scores were computed before, the compiler would
    write them.

    Args:
      parts: arrays of one shape, of which the scores are made.
      neutral: parts from which every score is -inf.
      scores: from parts to scores.
      number: how many scores there are.

    Returns:
      The list of each score; a place is one on that axis, or ``_NOWHERE`` in a list that is not
      full.
    """
    last = parts[0].ndim - 1
    none = (*map(np.float32, neutral), np.int32(_NOWHERE))
    empty = (np.float32(-np.inf),) * KEPT + (np.int32(_NOWHERE),) * (KEPT - 1)
    held = len(none)

    def lists_of(pair: tuple[jax.Array, ...]) -> list[Leading]:
        flat, size = pair[held:], len(empty)
        rows = (flat[i : i + size] for i in range(0, len(flat), size))
        return [Leading(tuple(row[:KEPT]), tuple(row[KEPT:])) for row in rows]

    def reducer(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        lists = list(map(merged, lists_of(a), lists_of(b)))
        for pair in (a, b):
            fresh = scores(*pair[: held - 1])
            lists = [_inserted(old, s, pair[held - 1]) for old, s in zip(lists, fresh, strict=True)]
        return (
            *map(jnp.asarray, none),
            *(array for one in lists for array in (*one.values, *one.places)),
        )

    places = lax.broadcasted_iota(jnp.int32, parts[0].shape, last)
    filled = [jnp.full(parts[0].shape, fill, fill.dtype) for fill in empty] * number
    found = lax.reduce((*parts, places, *filled), none + empty * number, reducer, (last,))
    return tuple(lists_of(tuple(found)))


class Scores(NamedTuple):
    """How scores are made of parts.

    Attributes:
      parts: from targets (b, d) and heights (b,) to arrays (n, b).
      neutral: of each part a number; from these all scores are -inf.
      scores: from parts to scores.
      number: how many scores there are.
    """

    parts: Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]
    neutral: tuple[float, ...]
    scores: Callable[..., tuple[jax.Array, ...]]
    number: int


def over_blocks(
    of: Scores, x: jax.Array, y: Rows, h: jax.Array, block: int, length: int
) -> tuple[Leading, jax.Array]:
    """The leading targets of all blocks, and the bound on the errors of a sample's scores.

    Args:
      of: the scores.
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,).
      block: targets scored together.
      length: coordinates of a product; see ``split.error``.

    Returns:
      The lists of each score (number, n), and the bound (n,).
    """
    dim = y.shape[1]

    def body(b: jax.Array, carry: tuple) -> tuple:
        found, y_norm = carry
        yb, hb, start = blocks.window(y, h, b, block)
        lists = leading(of.parts(yb, hb), of.neutral, of.scores, of.number)
        fresh = jax.tree.map(lambda *of_each: jnp.stack(of_each), *lists)
        fresh = fresh._replace(places=tuple(place + start for place in fresh.places))
        squares = jnp.where(hb == -jnp.inf, 0.0, jnp.square(yb).sum(axis=1))
        return merged(found, fresh), jnp.maximum(y_norm, split.norm(jnp.max(squares), dim))

    shape, data = (of.number, x.shape[0]), (x, y.points, h)
    values = (blocks.full(shape, -jnp.inf, jnp.float32, *data),) * KEPT
    places = (blocks.full(shape, _NOWHERE, jnp.int32, *data),) * (KEPT - 1)
    empty = Leading(values, places)
    nothing = blocks.full((), 0.0, jnp.float32, *data)
    found, y_norm = repeat(-(-y.shape[0] // block), body, (empty, nothing))
    h_size = jnp.max(jnp.where(h == -jnp.inf, 0.0, jnp.abs(h)))
    x_norm = split.norm(jnp.square(x).sum(axis=1), dim)
    return found, split.bound(x_norm, y_norm, h_size, dim, length)

"""Pairs: noise with the targets of the cells that hold it, and the program that makes a batch."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from aeot_jax.arguments import is_concrete
from aeot_jax.measures import Measure
from aeot_jax.ot import centring, checks
from aeot_jax.ot.cells import antithetic, power, shift
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.couplings import noise, numbers
from aeot_jax.ot.couplings.turns import Turns, of_copies, taken
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given, Heights, Index, PRNGKey, Samples, Targets


class Pairs(NamedTuple):
    """A batch of a coupling.

    Attributes:
      x: samples of the source (b, d).
      y: the target of each (b, d), in the units in which the targets were given.
      index: its row in the array of targets that the user passed (b,), int32.
    """

    x: Float[Array, "b d"]
    y: Float[Array, "b d"]
    index: Int[Array, " b"]

    __repr__ = brief


class Parts(NamedTuple):
    """What every batch is made of; a pytree.

    Attributes:
      key: of all draws.
      mu: source measure.
      rows: targets as the kernel takes them (rows, d), with what fills up.
      h: their heights (rows,), around 0.
      y: targets as they are handed out (m, d), perhaps with what fills up.
      turns: of equal targets; None where all differ, or may.
    """

    key: PRNGKey
    mu: Any
    rows: Rows
    h: Heights
    y: Targets
    turns: Turns | None


def parts_of_batches(
    key: PRNGKey,
    mu: Given[Measure],
    y: ArrayLike,
    h: ArrayLike,
    nu: ArrayLike | None = None,
    *,
    turns: bool,
) -> Parts:
    """Check a problem with its heights, and do once what no batch should do again.

    Args:
      key: of all draws.
      mu: source measure.
      y: targets (m, d).
      h: heights (m,).
      nu: weights (m,), by which equal targets share their cell; None is uniform.
      turns: whether equal targets take turns.

    Raises:
      ValueError: if a shape or a known value does not fit.
    """
    points = checks.points("y", y)
    checks.check_measure(mu, points)
    weights = None if nu is None else checks.weights(nu, points)
    near = centring.near(y, h)
    centre, heights = _around(near.y, near.h)
    if is_concrete(centre) and not np.asarray(centre).any():
        centre = None  # the kernel need not subtract it
    own = near.y if _are_as_given(near, points.shape[0]) else checks.check_targets(y)
    held = None
    if turns and is_concrete(points, weights):
        known = None if weights is None else np.asarray(weights)
        alike, _ = centring.centred(points, np.ones(points.shape[0], bool))
        held = of_copies(np.asarray(alike), known, near.y.shape[0])
    return Parts(key, mu, Rows(near.y, centre), heights, own, held)


def _are_as_given(near: centring.Near, m: int) -> bool:
    """Whether no target was moved by the host, nor overwritten because it owns no cell.

    Adding back what was taken off would change last bits; a copy without a cell has its turn.
    """
    if np.asarray(near.shift.centre).any() or not is_concrete(near.h):
        return False
    return bool((np.asarray(near.h)[:m] > -np.inf).all())


@jax.jit
def _around(y: Targets, h: Heights) -> tuple[Array, Heights]:
    """A pass over all targets costs a tenth of a small batch: it is made once."""
    rows, heights, _ = shift.around(y, h)
    assert rows.centre is not None
    return rows.centre, heights


def make(
    parts: Parts, first: UInt32[Array, "2"], *, count: int, dtype: Any, dependent: bool
) -> Pairs:
    """Pair ``count`` draws from number ``first`` on; under ``dependent``, orbits of eight.

    A ``count`` of whole orbits must begin with an orbit.
    """
    x, index = _drawn(parts, first, count, dependent)
    return Pairs(x.astype(dtype), parts.y[index].astype(dtype), index)


paired = partial(jax.jit, static_argnames=("count", "dtype", "dependent"))(make)
"""``make`` on one device."""


def indices(
    parts: Parts, firsts: Iterable[UInt32[np.ndarray, "2"]], *, count: int, dependent: bool
) -> Iterator[Int[np.ndarray, " n"]]:
    """The targets alone of ``count`` draws from each first number on."""
    for first in firsts:
        yield np.asarray(_indices(parts, first, count=count, dependent=dependent))


@partial(jax.jit, static_argnames=("count", "dependent"))
def _indices(parts: Parts, first: UInt32[Array, "2"], *, count: int, dependent: bool) -> Index:
    return _drawn(parts, first, count, dependent)[1]


def _drawn(
    parts: Parts, first: UInt32[Array, "2"], count: int, dependent: bool
) -> tuple[Samples, Index]:
    """Noise, and its targets."""
    j = numbers.later(first, jnp.arange(count, dtype=jnp.int32))
    x, index = (_of_orbits if dependent else _of_draws)(parts, j)
    return x, index if parts.turns is None else taken(parts.turns, index, j)


def _of_draws(parts: Parts, j: UInt32[Array, "2 n"]) -> tuple[Samples, Index]:
    """Independent noise, and its cells."""
    x = noise.samples(parts.key, parts.mu, j)
    return x, power.best(x, parts.rows, parts.h)[1]


def _of_orbits(parts: Parts, j: UInt32[Array, "2 n"]) -> tuple[Samples, Index]:
    """Dependent noise, and its cells: one product serves an orbit."""
    n, size = j.shape[1], antithetic.SIZE
    whole = n // size if n % size == 0 else (n + 2 * size - 2) // size  # it may begin anywhere
    number = numbers.later(numbers.orbits(j[:, :1])[:, 0], jnp.arange(whole, dtype=jnp.int32))
    x = noise.samples(parts.key, parts.mu, number)
    index = antithetic.assign_orbits(x, parts.rows, parts.h)
    drawn = jnp.swapaxes(antithetic.members(x), 0, 1).reshape(whole * size, -1)
    start = numbers.members(j[:, :1])[0]
    return (
        jax.lax.dynamic_slice_in_dim(drawn, start, n),
        jax.lax.dynamic_slice_in_dim(index.T.reshape(-1), start, n),
    )


@partial(jax.jit, static_argnames=("dtype", "dependent"))
def noise_of(
    key: PRNGKey, mu: Measure, j: UInt32[Array, "2 n"], *, dtype: Any, dependent: bool
) -> Samples:
    """The noise (n, d) of some draws."""
    return (noise.dependent if dependent else noise.samples)(key, mu, j).astype(dtype)

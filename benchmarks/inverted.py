"""Inverted lists on the bench: the package's, with planes and lists of one's own.

The package has one number of lists and one kind of offset (``aeot_jax/ot/lists``); here others are
compared with them, by host code that looks at all scores.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import power
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.lists import arrange, search
from aeot_jax.ot.lists.lists import Lists

_ROUNDS = 5
"""Of k-means."""

exact = jax.jit(power.best)
"""The kernel of the package."""


class Laid(NamedTuple):
    """Targets with heights, list by list.

    Attributes:
      rows: targets (r, d).
      h: heights (r,), -inf where a list is filled up.
      lists: with their planes.
      index: which target a row is (r,).
      slot: the row of each target (m,).
    """

    rows: Rows
    h: jax.Array
    lists: Lists
    index: jax.Array
    slot: jax.Array


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


def build(y: np.ndarray, h: np.ndarray, own: np.ndarray, planes: np.ndarray) -> Laid:
    """Lay the targets out list by list."""
    begin, order, slot = arrange.side_by_side(own, len(planes))
    heights = np.where(order >= 0, h[order], -np.inf).astype(np.float32)
    excess = planes[:, -1] - offsets(y, h, own, len(planes))["mean height"]
    lists = arrange.unlearned(begin, planes[:, :-1].astype(np.float32))
    lists = lists._replace(excess=jnp.asarray(excess, jnp.float32))
    whole = map(jnp.asarray, (y[order], heights, order.astype(np.int32), slot.astype(np.int32)))
    rows, heights, index, slot = whole
    return Laid(Rows(rows), heights, lists, index, slot)


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


@partial(jax.jit, static_argnames="probes")
def assign(x: jax.Array, laid: Laid, probes: int) -> tuple[jax.Array, jax.Array]:
    """The best plane among the targets of so many lists: as ``exact``."""
    row = search.owners(x, laid.rows, laid.h, laid.lists, probes)
    value = jnp.einsum("nd,nd->n", x, laid.rows.points[row], precision=PRECISION) + laid.h[row]
    return value, laid.index[row]

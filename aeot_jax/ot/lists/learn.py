"""What lists learn from samples whose cells are known: the offsets of their planes.

The first half of the samples teaches the offsets, and says how many lists must be looked at for the
share of wrong cells that is allowed, by the new planes and by those that have grown old. The second
half decides nothing: it tells which share the planes had that were in use until then.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.ot.cells import power
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.lists.lists import Lists, planes
from aeot_jax.typing import Heights, PRNGKey

NUM_SAMPLES = 16_384
"""Samples with exact cells, two halves of them."""

_PRIOR = 2.0
"""Samples that are added to each list; they exceed its mean plane by half of what its highest
height does."""


class Learned(NamedTuple):
    """Lists with their planes, and what tells how many of them a sample must look at.

    Attributes:
      lists: with new offsets.
      ranks: how many planes are higher than that of the cell's list: the new planes at samples that
        taught them, the planes before at these, and the planes before at others (3, n).
    """

    lists: Lists
    ranks: Int[Array, "3 n"]


def learned(
    key: PRNGKey, mu: Measure, y: Rows, h: Heights, lists: Lists, number: int = NUM_SAMPLES
) -> Learned:
    """Learn the offsets of planes, on the targets and heights of a step.

    Args:
      key: consumed.
      mu: source measure.
      y: targets list by list.
      h: heights (rows,).
      lists: with slopes in the units of the targets, and the offsets that were in use.
      number: of samples.
    """
    half = number // 2
    x = draw(key, mu, 2 * half)
    value, index = power.best(x, y, h)
    winner = lists.own[index]
    mean, own = lists.mean_heights(h), winner[:, None]
    plain = planes(x, lists.slopes, mean)
    above = value - jnp.take_along_axis(plain, own, axis=1)[:, 0]
    highest = jnp.full_like(mean, -jnp.inf).at[lists.own].max(h)
    prior = jnp.where(highest > -jnp.inf, highest - mean, 0.0) / 2
    total = (_PRIOR * prior).at[winner[:half]].add(above[:half])
    excess = total / jnp.full_like(total, _PRIOR).at[winner[:half]].add(1.0)
    raised = jnp.concatenate([plain[:half] + excess[None, :], plain + lists.excess[None, :]])
    own = jnp.concatenate([own[:half], own])
    ranks = (raised > jnp.take_along_axis(raised, own, axis=1)).sum(axis=1, dtype=jnp.int32)
    return Learned(lists._replace(excess=excess), ranks.reshape(3, half))

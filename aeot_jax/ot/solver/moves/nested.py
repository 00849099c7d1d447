r"""Stochastic Newton steps for targets with far groups: level by level, as a nested logit.

Inside of a far group (``groups.py``) scores compete on a smaller scale than between groups. With b
the mean gap between the best score and the best of another one, the step of ``newton.py`` would
either leave the masses of whole groups as they are or throw cells inside of them about. In a nested
logit the choice between groups and the choice inside of one are two logits, each with a scale of
its own. So every level has its own Newton step,

.. math:: h_i \leftarrow h_i - \sum_l b_l\,\gamma\,
          \left(\frac{\hat w_{g_l} / \hat w_{g_{l-1}}}{\nu_{g_l} / \nu_{g_{l-1}}} - 1\right),

where :math:`g_l` is the group of target i at level l, :math:`g_{-1}` all targets, and the last
level's groups are single targets. :math:`b_l` is the mean gap between the best score and the best
one in another group of level l inside of the same group above, over the samples that fall into
:math:`g_l`. It is drawn to the mean over all such groups there, or over all single targets there:
these often make up a cluster of their own. A group that no sample hit says nothing of its inside.

These steps follow where those of one scale have missed the tolerance by far (``misses.py``).
There is no first phase: Adam knows one scale. The gain :math:`\gamma` is that of ``newton.py`` with
a = 1.8 and t_0 = 6, from h = 0. In few dimensions it is theirs, and heights are averaged.

Source: Train, "Discrete choice methods with simulation", 2009, chapters 3 and 4, for nested logits.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax.measures import draw
from aeot_jax.numerics import PRECISION, choose, isolated, repeat, safe_ratio
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves.groups import Groups
from aeot_jax.ot.solver.moves.newton import CLIP, GAIN_IN_FEW_DIMS, GAP_EVERY, MEMORY, PRIOR, Gain
from aeot_jax.ot.solver.moves.seen import Seen
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Counts, Heights

_GAIN = Gain(a=1.8, t_0=6.0, p=1.0, g=1.0)
"""Inside of a group the source is cut off by faces; a little more gain serves slow modes there."""

LOOK_SAMPLES = 256
"""Samples of a look at the gaps."""

_PART = 16
"""Samples of it whose scores are held at a time."""

_PRIOR_GAP = 0.3
"""Gap before any is seen, as a part of the unit of the level."""

_MOST_UNITS = 8
"""A gap counts as no more units: the sum of a look then fits an int32."""

_PARTS = 2**30 // (LOOK_SAMPLES * _MOST_UNITS)
"""Parts of a unit that gaps are counted in, so that their sums have no order."""


class NestedState(NamedTuple):
    """What these steps keep.

    Attributes:
      labels: of the groups (levels, m); see ``Groups``, as for the next three.
      pools: (levels + 1, m).
      shares: (levels + 1, m).
      units: (levels + 1, m).
      gaps: sums of the gaps seen, older ones forgotten, in each target's pool and in its own group
        (2, levels + 1, m).
      hits: how many those are.
      drawn: samples of all looks at gaps so far.
    """

    labels: Int[Array, "*batch levels m"]
    pools: Int[Array, "*batch levels1 m"]
    shares: Float[Array, "*batch levels1 m"]
    units: Float[Array, "*batch levels1 m"]
    gaps: Float[Array, "*batch 2 levels1 m"]
    hits: Float[Array, "*batch 2 levels1 m"]
    drawn: Int[Array, "*batch"]


def init(h: Heights, spread: Float[Array, ""]) -> NestedState:
    """Before the first step, without groups: all targets are of one."""
    del spread
    no_labels, one = jnp.zeros((0, h.shape[0]), jnp.int32), jnp.ones_like(h)[None, :]
    none = jnp.zeros((2, *one.shape), jnp.float32)
    pool = jnp.zeros(one.shape, jnp.int32)
    return NestedState(no_labels, pool, one, one, none, none, jnp.zeros((), jnp.int32))


def with_groups(drawn: Int[Array, ""], groups: Groups) -> NestedState:
    """What is kept before the first step, with these groups; on the host.

    Args:
      drawn: samples of looks before it.
      groups: of the targets.
    """
    none = np.zeros((2, *groups.units.shape), np.float32)
    return NestedState(
        jnp.asarray(groups.labels.astype(np.int32)),
        jnp.asarray(groups.pools.astype(np.int32)),
        jnp.asarray(groups.shares.astype(np.float32)),
        jnp.asarray(groups.units.astype(np.float32)),
        jnp.asarray(none),
        jnp.asarray(none),
        drawn,
    )


def num_samples(own: NestedState) -> Int[Array, "*batch"]:
    """Samples of all looks at gaps."""
    return own.drawn


def update(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> SolverState:
    """One step of the module's docstring."""
    del axes  # all targets are on every device
    nu, since = marginals.nu, state.step - state.phases.adam_until
    look = (since % GAP_EVERY == 0) | (state.method.drawn == 0)

    def measured(state: SolverState, seen: Seen, marginals: Marginals) -> NestedState:
        return isolated(_looked, state, seen, marginals)

    def kept(state: SolverState, *_: Any) -> NestedState:
        return state.method

    own = choose(look, measured, kept, state, seen, marginals)
    per_target = plan.batch.size / (nu > 0).sum().astype(jnp.float32)
    tau = since.astype(jnp.float32) * per_target
    if state.worth.shape == state.h.shape:
        tau = tau + state.worth
    a, t_0, p, g = GAIN_IN_FEW_DIMS if plan.few_dims else _GAIN
    gamma = jnp.minimum(a * per_target / t_0 * (1 + tau / t_0) ** -p, g)
    h = state.h
    for level, (above, label) in enumerate(_levels(own.labels)):
        more = relative(seen.counts, above, label, own.shares[level])
        move = jnp.clip(gamma * jnp.where(nu > 0, more, 0.0), -CLIP, CLIP)
        h = h - _gap(own, level, state.spread) * move
    return replace(state, h=h, method=own)


def _levels(
    labels: Int[Array, "levels m"],
) -> list[tuple[Int[Array, " m"], Int[Array, " m"]]]:
    """Labels one level above, and those of the level; all targets stand above the first."""
    number = labels.shape[1]
    every = [jnp.zeros(number, jnp.int32), *labels, jnp.arange(number, dtype=jnp.int32)]
    return list(pairwise(every))


def _total(counts: Int[Array, " m"], label: Int[Array, " m"]) -> Int[Array, " m"]:
    """For each target the sum over its group."""
    return jnp.zeros_like(counts).at[label].add(counts)[label]


def relative(
    counts: Counts, above: Int[Array, " m"], label: Int[Array, " m"], share: Float[Array, " m"]
) -> Float[Array, " m"]:
    """How much more of the samples above a group has than its share; 0 where there are none."""
    of_group, of_above = (_total(counts, by).astype(jnp.float32) for by in (label, above))
    return jnp.where(of_above > 0, safe_ratio(of_group, of_above * share) - 1, 0.0)


def _gap(own: NestedState, level: int, spread: Float[Array, ""]) -> Float[Array, " m"]:
    """Mean gap of each target's group, drawn to that of its pool."""
    unit, gaps, hits = own.units[level] * spread, own.gaps[:, level], own.hits[:, level]
    of_pool = (gaps[0] + PRIOR * _PRIOR_GAP * unit) / (hits[0] + PRIOR)
    return jnp.minimum((gaps[1] + PRIOR * of_pool) / (hits[1] + PRIOR), unit)


def _looked(state: SolverState, seen: Seen, marginals: Marginals) -> NestedState:
    """What is kept after one more look at the gaps; every device draws the same samples."""
    own, number = state.method, state.h.shape[0]
    y = blocks.whole(marginals.y)[:number]
    h = jnp.where(marginals.nu > 0, state.h, -jnp.inf)
    levels = _levels(own.labels)

    def add(part: Int[Array, ""], sums: Int[Array, "2 2 l m"]) -> Int[Array, "2 2 l m"]:
        x = draw(jax.random.fold_in(seen.key, part), marginals.mu, _PART)
        scores = jnp.matmul(x, y.T, precision=PRECISION) + h[None, :]
        best = jnp.argmax(scores, axis=1)
        highest = jnp.max(scores, axis=1)
        for level, (above, label) in enumerate(levels):
            rivals = (above[None, :] == above[best][:, None]) & (
                label[None, :] != label[best][:, None]
            )
            second = jnp.max(jnp.where(rivals, scores, -jnp.inf), axis=1)
            unit = own.units[level][best] * state.spread
            gap = jnp.minimum(safe_ratio(highest - second, unit), float(_MOST_UNITS))
            known = (second > -jnp.inf) & (unit > 0)
            whole = jnp.round(jnp.where(known, gap, 0.0) * _PARTS).astype(jnp.int32)
            both = jnp.stack([whole, known.astype(jnp.int32)])
            sums = sums.at[:, 0, level, own.pools[level][best]].add(both)
            sums = sums.at[:, 1, level, label[best]].add(both)
        return sums

    sums = repeat(LOOK_SAMPLES // _PART, add, jnp.zeros((2, 2, len(levels), number), jnp.int32))
    places = jnp.stack([own.pools, jnp.stack([label for _, label in levels])])
    whole, hits = jnp.take_along_axis(sums, places[None], 3).astype(jnp.float32)
    gaps = whole / _PARTS * (own.units * state.spread)[None]
    return own._replace(
        gaps=MEMORY * own.gaps + gaps,
        hits=MEMORY * own.hits + hits,
        drawn=own.drawn + LOOK_SAMPLES,
    )

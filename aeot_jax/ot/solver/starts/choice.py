"""Which starting heights to take: candidates are compared by what they miss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.counts import streams
from aeot_jax.ot.counts.chi_square import chi_square
from aeot_jax.ot.counts.ways.way import Draws
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.plan import Plan, Trust
from aeot_jax.ot.solver.starts.starving import starving
from aeot_jax.typing import Counts, Heights, PRNGKey

_CLEARLY = 3.0
"""Standard errors of chi^2 by which another start must be better than heights given."""

_PAIR = 2**32 - 5
"""What the key of a start is folded with to compare a pair; no stream has this number."""


class Judge(NamedTuple):
    """By what starts are judged.

    Attributes:
      marginals: source, targets and weights, as steps see them.
      deviation: of every target's score, over the mean one (m,).
      trust: says how many samples tell whether a start is near, and what is asked of it.
      plan: of the solve.
      axes: mapped axes.
    """

    marginals: Marginals
    deviation: Float[Array, " m"]
    trust: Trust
    plan: Plan
    axes: Axes


def best(key: PRNGKey, candidates: Float[Array, "c m"], judge: Judge) -> Int[Array, ""]:
    """Which candidate misses least, seen by the same batch of samples.

    Heights that are given come last. They give way to the best of the others where that is better
    beyond noise, seen by as many samples as tell whether a start is near.

    Args:
      key: of the start.
      candidates: heights of every start of the plan, then those that are given (c, m).
      judge: of starts.
    """
    marginals, deviation, trust, plan, axes = judge
    draws = Draws(plan.batch, axes)

    def missing(counts: Counts, number: ArrayLike) -> Float[Array, ""]:
        chi2 = chi_square(counts, marginals.nu, number, axes.targets)[0]
        if not planning.looks_at_start(plan):
            return chi2
        return chi2 + starving(counts, marginals.nu, deviation, number, axes.targets)

    def by_a_batch(h: Heights) -> Float[Array, ""]:
        counts, _ = streams.batch_counts(key, marginals, h, draws)
        return missing(counts, plan.batch.size)

    own = candidates[: len(plan.starts)]
    best = jnp.zeros((), jnp.int32)
    if len(own) > 1:
        best = jnp.argmin(jax.lax.map(by_a_batch, own)).astype(jnp.int32)
    if not plan.given:
        return best
    number = plan.batch.size * trust.num_batches
    pair_key = jax.random.fold_in(key, _PAIR)

    def by_many(h: Heights) -> Float[Array, ""]:
        counts, _ = streams.draw_counts(pair_key, marginals, h, trust.num_batches, draws=draws)
        return missing(counts, number)

    missed = jax.lax.map(by_many, jnp.stack([own[best], candidates[-1]]))
    active = blockwise.count(marginals.nu > 0, axes.targets).astype(jnp.float32)
    noise = _CLEARLY * jnp.sqrt(2 * active) / number.astype(jnp.float32)
    return jnp.where(missed[1] - noise <= missed[0], len(own), best).astype(jnp.int32)

"""What a start is worth: a near one is not forgotten, and guesses at new targets are worth less."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.numerics import isolated
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.counts import streams
from aeot_jax.ot.counts.chi_square import chi_square_between
from aeot_jax.ot.counts.ways.table import INDEPENDENT
from aeot_jax.ot.counts.ways.way import Draws
from aeot_jax.ot.solver.plan import NEVER, Phases, head_start, samples_worth
from aeot_jax.ot.solver.starts.choice import Judge
from aeot_jax.ot.solver.starts.known import Known
from aeot_jax.ot.solver.starts.starving import starving
from aeot_jax.typing import Counts, Heights, PRNGKey, Weights

_LEAST_SHARE = 1e-6
"""Weight of new targets at least: of less nothing is seen."""

_UNEVEN = 0.03
"""Square of the error that new targets add to the others, over their share: they take more from
some than from others (0.01 to 0.06 for those of ``benchmarks/growing.py``)."""

_CLEARLY = 2.0
"""Standard errors by which known heights must miss more than they should, to be trusted less."""

Estimate = tuple[Float[Array, ""], Float[Array, ""]]
"""chi^2 and its standard error."""


def trusting(
    key: PRNGKey, h: Heights, judge: Judge, phases: Phases, given: Known | None
) -> tuple[Phases, Float[Array, " w"]]:
    r"""Phases without the first one, where a start is too good to be forgotten.

    With new targets, the masses of the others are measured among each other, too: what they have
    lost together, they get back once the new ones hold what they shall. Either kind has a mean
    square error of its cells, chi^2 over its weight, and is worth 1 / error^2 samples a target. The
    head start of all is that of the new ones; averages begin as early as the mean of both allows.

    Args:
      key: of the draw.
      h: heights of the start (m,).
      judge: of starts.
      phases: those of a start that is forgotten.
      given: heights that were given; tells which are a guess, and what the others should miss.

    Returns:
      The phases, and samples a target that others are worth beyond the new ones (m,); one 0 if all
      are alike.
    """
    marginals, deviation, trust, plan, axes = judge
    nu, number = marginals.nu, plan.batch.size * trust.num_batches
    batch = plan.batch._replace(way=plan.batch.way if plan.batch.way.independent else INDEPENDENT)
    draws = Draws(batch, axes)

    def measured(nu: Weights) -> tuple[Counts, Estimate, Float[Array, ""]]:
        """Counts; chi^2 of the targets of positive weight; how far groups of them starve."""
        own = marginals._replace(nu=nu)
        counts, within = streams.draw_counts(key, own, h, trust.num_batches, draws=draws)
        chi2, chi2_se = chi_square_between(
            counts, within, nu, number, trust.num_batches, axes.targets
        )
        seen = jnp.where(nu > 0, counts, 0)
        starved = starving(seen, nu, deviation, number, axes.targets)
        return counts, (chi2, chi2_se), starved

    per_target = batch.size / blockwise.count(nu > 0, axes.targets).astype(jnp.float32)
    counts, total, starved = measured(nu)
    chi2 = _at_least(*total)
    worth = jnp.zeros(1, jnp.float32)
    near, mean = chi2 + starved <= trust.chi2, chi2
    if given is not None and given.new is not None:
        new, known = given.new, jnp.where(given.new > 0, 0.0, nu)
        share = blockwise.sum_blocks(lambda nu: nu.sum(), (known,), targets_axis=axes.targets)
        hits = blockwise.count(jnp.where(known > 0, counts, 0), axes.targets)
        held = isolated(jnp.divide, hits.astype(jnp.float32), jnp.float32(number))
        scale = held / jnp.maximum(share, jnp.finfo(jnp.float32).tiny)
        _, of_known, starved_known = measured(known * scale)
        found = isolated(_by_kind, total, of_known, given.chi2, share, held)
        error_known, chi2, more, mean = found
        near = near | ((share > 0) & (error_known + starved_known <= trust.chi2))
        worth = jnp.where((new > 0) | ~near, 0.0, more)
    head = head_start(chi2, per_target)
    earlier = jnp.maximum(phases.average_from - head_start(mean, per_target), 0)
    averages = near & (phases.average_from != NEVER)
    phases = phases._replace(
        adam_until=jnp.where(near, -head, phases.adam_until),
        average_from=jnp.where(averages, earlier, phases.average_from),
    )
    return phases, worth


def _at_least(chi2: Float[Array, ""], chi2_se: Float[Array, ""]) -> Float[Array, ""]:
    """What cannot be told is not trusted."""
    return jnp.maximum(chi2, 0.5 * chi2_se)


def _by_kind(
    total: Estimate,
    of_known: Estimate,
    claimed: Float[Array, ""],
    share: Float[Array, ""],
    held: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Mean square errors of the cells that are known, and of new ones, which are no better.

    Args:
      total: chi^2 of all targets.
      of_known: of those whose heights are known, of weights that sum to their mass.
      claimed: what is known of the same, of weights that sum to 1; infinite where nothing is.
      share: their weight.
      held: their mass.

    Returns:
      The two, samples a target that known ones are worth beyond the others, and the mean of all.
    """
    least = jnp.finfo(jnp.float32).tiny
    measured, se = (number / jnp.maximum(held, least) for number in of_known)
    should = claimed + _UNEVEN * (1 - share)
    known = jnp.where(jnp.isinf(claimed), _at_least(measured, se), should)
    known = jnp.maximum(known, measured - _CLEARLY * se)
    rest = jnp.maximum(1 - share, _LEAST_SHARE)
    new = jnp.maximum((total[0] - share * known) / rest, total[1] / rest)
    new = jnp.where(share > 0, jnp.maximum(new, known), _at_least(*total))
    more = samples_worth(known) - samples_worth(new)
    mean = jnp.where(share > 0, share * known + jnp.maximum(1 - share, 0) * new, new)
    return known, new, jnp.where(share > 0, more, 0.0), mean

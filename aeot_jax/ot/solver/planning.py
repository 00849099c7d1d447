"""How plan and budget follow from a problem's size, its source and the configuration."""

import math

import numpy as np

from aeot_jax.measures import Measure, num_moment_samples
from aeot_jax.numerics import on_accelerator
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.counts import shares
from aeot_jax.ot.counts.chi_square import samples_to_verify
from aeot_jax.ot.counts.law import MARGIN, cost, error_after, samples_to_reach
from aeot_jax.ot.counts.light import samples_to_bound, samples_to_see_equal
from aeot_jax.ot.counts.ways.way import Batch
from aeot_jax.ot.solver.batch import BATCHES, LEAST_STEPS, batch_of
from aeot_jax.ot.solver.config import (
    DEFAULT_TOLERANCE,
    LARGEST,
    SolverConfig,
    asks_for_adam,
    sampling_method,
    tolerance_of,
)
from aeot_jax.ot.solver.moves.table import MOVES
from aeot_jax.ot.solver.plan import (
    FEW_DIMS,
    NEVER,
    NO_TRUST,
    Budget,
    Phases,
    Plan,
    Trust,
    head_start,
)
from aeot_jax.ot.solver.starts import closed_forms, tails
from aeot_jax.ot.solver.starts.closed_forms import Start
from aeot_jax.typing import HostWeights, Weights

_CHECK_ERROR = 0.05
"""Standard error of the last draw, as a part of the tolerance."""

_UNSEEN = 0.05
"""Part of the squared tolerance left to what targets too light to see may add."""

_LEAST_PHASE_STEPS = LEAST_STEPS // 2
"""Steps of the first phase at least, if they leave half to Newton: the rate, decaying from 0.05
spreads to a tenth of it, then travels 2.7 spreads, which forgets the start
(``benchmarks/solve.py``)."""

_LEAST_PHASE_SAMPLES = 12
"""Samples a target of the first phase at least, likewise. From fewer, Adam cannot tell which cells
starve, and the steps after it are too short to feed them."""

_LEAST_GAPS_DIM = 13
"""Dimensions from which on every target's gap is looked at, and samples may be shared with the
runner-up. Below, where ``vmap`` solves problems abreast on a CPU, a look would be paid for at every
step."""

_LEAST_TARGETS_TO_SHARE = 2048
"""Targets from which on samples are shared: a fifth to a quarter fewer samples, whose counts take
1.3 times as long as plain ones of 10,000 targets and 1.5 times as long of 2,000
(``benchmarks/entropic.py``). Whole solves of 2,000 heavy-tailed targets take as long either way."""

_START_SHARE = 0.25
"""Part of the samples that a tolerance takes from which tail-matched heights are computed."""

_LEAST_ROOM = 4
"""Times the samples of tail-matched heights that a solve must have to spend."""

_FAR = 2.0
"""Times the square of an expected error from which the phases are planned anew."""

_NEAR = 3.0
"""Tolerances, or errors that the samples allow, within which a start is not to be forgotten."""

_MOST_CHI2 = 1.0
"""Square of the mass error of such a start at most where samples are limited and no tolerance is
asked for: cells that are empty, or twice as large as they should be, want the first phase."""


def plan(
    num_targets: int,
    mu: Measure,
    config: SolverConfig,
    *,
    given: bool = False,
    solved: bool = False,
) -> Plan:
    """What the programs of a solve are compiled for; alike for all targets that share a size.

    Args:
      num_targets: m.
      mu: source measure.
      config: the user's decisions.
      given: whether heights to start from are given.
      solved: whether they are known to be near, so that no samples go into a start of their own.

    Raises:
      ValueError: if the source does not allow the way to draw that was asked for.
    """
    batch, method = batch_of(num_targets, mu, config), sampling_method(config)
    starts, start_round = _starts(num_targets, mu, config, batch, solved)
    return Plan(
        batch=batch,
        starts=starts,
        start_round=start_round,
        method=method,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        in_spreads=config.rate_unit == "spread",
        plateau_steps=config.plateau_steps,
        few_dims=mu.dim <= FEW_DIMS,
        own_gaps=mu.dim >= _LEAST_GAPS_DIM,
        shares=(
            method == "newton"
            and not on_accelerator()
            and config.search == "exact"
            and config.plateau_steps is None
            and batch.way.can_share
            and mu.dim >= _LEAST_GAPS_DIM
            and sizes.padded(num_targets, mu.dim) >= _LEAST_TARGETS_TO_SHARE
            and batch.size <= shares.MOST_SAMPLES
        ),
        given=given,
    )


def _starts(
    num_targets: int, mu: Measure, config: SolverConfig, batch: Batch, solved: bool
) -> tuple[tuple[Start, ...], int]:
    """Names of the starts to choose from, and samples of a round of tail-matched heights.

    These are among the starts where their samples are affordable. In few dimensions scores are far
    from normal, and pure Adam stays what it was.
    """
    size = sizes.padded(num_targets, mu.dim)  # of which there are few, so that few programs serve
    wanted = samples_to_reach(size, mu.dim, tolerance_of(config))
    per_round = tails.samples_of_a_round(math.floor(_START_SHARE * wanted), mu.dim)
    if config.start != "auto":
        return (config.start,), per_round if config.start == "tails" else 0
    limits = config.max_samples, config.max_steps and config.max_steps * batch.size
    room = min((limit for limit in limits if limit), default=LARGEST)
    affordable = room >= _LEAST_ROOM * tails.num_samples(per_round)
    if mu.dim <= FEW_DIMS or config.method == "adam" or solved or not affordable:
        return closed_forms.NAMES, 0
    return (*closed_forms.NAMES, "tails"), per_round


def _begun(mu: Measure, plan: Plan) -> int:
    """Samples from which the start is computed."""
    return num_moment_samples(mu) + tails.num_samples(plan.start_round)


def looks_at_start(plan: Plan) -> bool:
    """Whether a start may be near enough to be measured closely."""
    return plan.given or ("tails" in plan.starts and not plan.few_dims)


def _trust(num_targets: int, mu: Measure, plan: Plan, config: SolverConfig, wanted: int) -> Trust:
    """What is asked of the start, by as many samples as tell half of the square of the aim."""
    if plan.method not in MOVES or asks_for_adam(config) or not looks_at_start(plan):
        return NO_TRUST
    aimed = _aimed(wanted, num_targets, mu.dim, config)
    samples = min(math.sqrt(2 * num_targets) / (0.5 * aimed**2), wanted / 8)
    chi2 = (_NEAR * aimed) ** 2
    if config.tolerance is None:
        chi2 = min(chi2, _MOST_CHI2)
    return Trust(max(1, round(samples / plan.batch.size)), chi2)


def max_samples(num_targets: int, config: SolverConfig) -> int:
    """Samples that may move the heights.

    Raises:
      ValueError: if the tolerance takes more than the user allows, or than an int32 can count.
    """
    if config.tolerance is None:
        return config.max_samples or LARGEST
    least = math.ceil(num_targets / config.tolerance**2)
    room = 8 * max(least, LEAST_STEPS * (config.batch_size or BATCHES[1]))
    limit = config.max_samples or min(room, LARGEST)
    if least > limit:
        raise ValueError(
            f"`tolerance` is {config.tolerance:g}, which {num_targets} targets cannot reach with "
            f"{limit} samples: it takes at least m / tolerance^2 = {least}; raise `tolerance` or "
            "`max_samples`."
        )
    return limit


def budget(num_targets: int, mu: Measure, config: SolverConfig, made: Plan | None = None) -> Budget:
    """What the host may spend on a solve with m targets, whose plan is ``made``.

    Raises:
      ValueError: as ``max_samples``, and if that leaves no step after the samples of the start.
    """
    limit = max_samples(num_targets, config)
    made = made or plan(num_targets, mu, config)
    batch, begun = made.batch.size, _begun(mu, made)
    if config.max_samples and begun >= limit:
        raise ValueError(
            f"`max_samples` is {limit}, but the start alone takes {begun} samples, and a step "
            f"{batch}; pass at least {begun + batch}."
        )
    tolerance = tolerance_of(config)
    wanted = samples_to_reach(num_targets, mu.dim, tolerance, made.shares)
    if config.tolerance is not None:
        wanted = max(wanted, LEAST_STEPS * batch)
    if config.max_steps is not None and config.plateau_steps is None:
        limit = min(limit, config.max_steps * batch + begun)
    if config.tolerance is None and (config.max_samples or config.max_steps):
        wanted = limit  # a budget to spend, whatever it reaches
    check = samples_to_verify(num_targets, MARGIN * tolerance, _CHECK_ERROR * tolerance)
    check = max(check, samples_to_see_equal(num_targets))
    if config.tolerance is None:  # nothing to decide: spend at most a quarter on looking
        check = min(check, max(wanted // 4, batch))
    wanted = min(wanted, limit - begun)
    trust = _trust(num_targets, mu, made, config, wanted)
    planned = phases_of(wanted, num_targets, mu.dim, made, config)
    return Budget(planned, trust, begun, limit, min(check, LARGEST))


def aim(num_targets: int, dim: int, budget: Budget, config: SolverConfig) -> float:
    """The mass error at which a solve should end: its tolerance, or what its limits allow."""
    return _aimed(budget.max_samples, num_targets, dim, config)


def _aimed(num_samples: int, num_targets: int, dim: int, config: SolverConfig) -> float:
    """The tolerance or, where there is none, the error that so many samples allow."""
    if config.tolerance is not None:
        return config.tolerance
    return max(DEFAULT_TOLERANCE, error_after(num_samples, num_targets, dim))


def phases(
    num_steps: int,
    dim: int,
    config: SolverConfig,
    steps_per_target: float | int = 0,
    method: str = "newton",
) -> Phases:
    """Divide so many steps.

    Args:
      num_steps: until the tolerance should be reached.
      dim: d.
      config: the user's decisions.
      steps_per_target: steps that draw as many samples as there are targets.
      method: of the plan; "nested" has no first phase.
    """
    few, adam = dim <= FEW_DIMS, config.method == "adam"
    least = max(_LEAST_PHASE_STEPS, 0 if few else round(_LEAST_PHASE_SAMPLES * steps_per_target))
    adam_until = num_steps if adam else _phase_steps(num_steps, few, config, least)
    adam_until = 0 if method == "nested" else adam_until
    # Pure Adam has no steps after its first phase: its own last ones are averaged.
    rest = num_steps - (0 if adam else adam_until)
    share = config.average_share
    if share is None:
        share = 0.7 if few and not adam else 0.0
    average_from = num_steps - math.floor(share * rest)
    return Phases(0, adam_until, average_from if average_from < num_steps else NEVER, num_steps)


def phases_of(
    num_samples: int, num_targets: int, dim: int, plan: Plan, config: SolverConfig
) -> Phases:
    """Divide the steps that draw so many samples, at least one."""
    steps = max(1, -(-num_samples // plan.batch.size))
    return phases(steps, dim, config, num_targets / plan.batch.size, plan.method)


def phases_after(
    error: float, drawn: int, goal: int, again: Phases, per_target: float, trust: Trust
) -> Phases | None:
    """Phases of the steps to a goal, after a far miss: the first is left out as it is of a start.

    To forget what was reached takes as many samples again; where there are less, nothing changes.

    Args:
      error: the mass error.
      drawn: samples so far.
      goal: samples to go to.
      again: phases of so many steps from a start that is forgotten.
      per_target: samples of a step over the number of targets.
      trust: says which error is near.
    """
    if error**2 > trust.chi2:
        return again if goal >= 2 * drawn else None
    return again._replace(adam_until=-int(head_start(error**2, per_target, np)))


def _phase_steps(num_steps: int, few: bool, config: SolverConfig, least: int) -> int:
    """Steps of the first phase under "newton"; none if the user wants none."""
    share = config.adam_share
    if share is None:
        share = 0.3 if few else 0.1
    steps = round(share * num_steps)
    return max(steps, min(least, num_steps // 2)) if share else 0


def samples_to_continue(
    drawn: int, error: float, num_targets: int, dim: int, budget: Budget, config: SolverConfig
) -> int:
    """Samples at which to certify again, after a draw that showed a mass error too large.

    The error falls like 1 / sqrt(samples); at least a quarter more is drawn, at most four times as
    much, so that one unlucky draw commits to neither a tiny nor a huge continuation. After a start
    that saved most samples four times as much is little: there the law of the samples decides.
    """
    if config.tolerance is None:
        return budget.max_samples
    ratio = (error / (MARGIN * config.tolerance)) ** 2
    lacking = samples_to_reach(num_targets, dim, config.tolerance) * (1 - 1 / max(ratio, 1.0))
    goal = max(drawn * min(max(ratio, 1.25), 4.0), drawn + lacking)
    return min(budget.max_samples, math.ceil(goal))


def is_far(drawn: int, error: float, num_targets: int, dim: int, tolerance: float) -> bool:
    """Whether an error is far above the tolerance and above the law of its samples.

    Then more of the same is no cure.
    """
    near = MARGIN * tolerance
    law = max(near**2, cost(dim) * num_targets / max(drawn, 1))  # none, if the start seemed near
    return error**2 >= _FAR * law


def seeing(
    budget: Budget, nu: Weights | HostWeights, config: SolverConfig, num_samples: int
) -> Budget:
    """As many samples in a draw as light targets ask for, up to those of the solve."""
    if config.tolerance is None:
        return budget
    room = _UNSEEN * config.tolerance**2
    number = samples_to_bound(np.asarray(nu), room, budget.check_samples, num_samples)
    return budget._replace(check_samples=number)

"""The loop of a solve by sampling: steps, a certificate, and what follows from it."""

import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax.numerics import on_accelerator
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.counts import law
from aeot_jax.ot.counts.certificate import draw as draw_certificate
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.lists import arrange
from aeot_jax.ot.lists.searching import Searching
from aeot_jax.ot.problem import Marginals, Prepared
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.config import (
    SolverConfig,
    method_of,
)
from aeot_jax.ot.solver.exactly import is_reached
from aeot_jax.ot.solver.loop.chunks import Run, advanced, checked
from aeot_jax.ot.solver.loop.misses import Going, after_miss
from aeot_jax.ot.solver.plan import Budget, Plan
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution, SolveProgress, history_of
from aeot_jax.ot.solver.starts import start
from aeot_jax.ot.solver.starts.known import Known
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights, PRNGKey

MOST_COUNTED = 2**31 - 1
"""Most samples that a count tells of."""

_AIM = 0.9
"""Part of the square of the error aimed at, to be at after the first steps from a solution: to miss
costs a further draw of a certificate, and another to confirm."""

_MOST_NEW = 0.5
"""Weight of new targets up to which a solution is trusted to make the solver's tail-matched start
superfluous: from one of 21 targets it took 17 times the samples without that start."""

_COSTS = (0.4, 1.5)
"""Costs, as parts of the law's, within which that of an earlier solve is believed."""


class StartWarning(UserWarning):
    """Heights to start from were worse than a start that the solver makes itself."""

    def __init__(self, name: str, new: float | None = None):
        way = "check that the heights belong to these targets, in their order"
        if new is not None:
            way = f"{new:.0%} of the weight is on targets that the solution does not have"
        super().__init__(
            f"`h0` misses more mass than the start {name!r}, so that the solve begins there; {way}."
        )


def solve_by_sampling(
    key: PRNGKey,
    made: Prepared,
    config: SolverConfig,
    where: Placement,
    on_progress: Callable[[SolveProgress], None],
    h0: Known | None = None,
) -> Solution:
    """``solve`` without the exact solver: run, certify, go on until it is reached or over."""
    started, searching = time.monotonic(), None
    if config.search == "lists":
        made, h0, searching = _arranged(made, h0)
    given, new = h0 is not None, _weight_of_new(made, h0)
    solved = new is not None and new <= _MOST_NEW
    plan = planning.plan(made.num_targets, made.mu, config, given=given, solved=solved)
    budget = planning.budget(made.num_targets, made.mu, config, plan)
    goal = budget.phases.end * plan.batch.size + budget.begun
    budget = planning.seeing(budget, made.nu, config, goal)
    init_key, check_key = jax.random.split(key)
    state, marginals = _begun(init_key, made, plan, budget, h0, where)
    if searching is not None:
        searching.tolerance = planning.aim(made.num_targets, made.mu.dim, budget, config)
        searching.lists = parallel.place(where, searching.lists)
    if given and int(state.start) < len(plan.starts):
        warnings.warn(StartWarning(plan.starts[int(state.start)], new), stacklevel=4)
    course, goal = _course_and_goal(state, made, config, plan, budget, h0)
    going = Going(goal, budget, course)
    run = Run(
        made, marginals, plan, config, where, started, budget.begun, searching, [], on_progress
    )
    check_key = parallel.place(where, check_key)
    check_samples = start.num_check_samples(plan, budget.trust)
    confirming = False
    for attempt in itertools.count():
        state, status = advanced(run, state, going.goal)
        look_key = jax.random.fold_in(check_key, attempt)
        certificate, status = _certified(run, look_key, state, status, going.budget)
        check_samples += int(certificate.num_samples)
        reached = is_reached(certificate, config)
        if reached and attempt > 0 and status is Status.RUNNING and not confirming:
            # A first look was planned; a later one that passes is a decision to stop, and what is
            # reported is drawn after it.
            confirming = True
            continue
        confirming = False
        if reached and status not in (Status.INTERRUPTED, Status.NON_FINITE):
            status = Status.CONVERGED
        if status is Status.RUNNING and run.drawn(state) < budget.max_samples:
            run, state, status, going = after_miss(run, state, certificate, going, attempt)
            if status is Status.RUNNING:
                continue
        if status is Status.RUNNING:
            steps_left = config.max_steps is None or int(state.step) < config.max_steps
            status = Status.SAMPLE_LIMIT if steps_left else Status.STEP_LIMIT
        checked(run, state)
        found = _solution(run, state, status, certificate, check_samples)
        return found if going.before is None else _nearer(found, made, *going.before)
    raise AssertionError  # unreachable: the loop above only ends by returning


def _begun(
    key: PRNGKey,
    made: Prepared,
    plan: Plan,
    budget: Budget,
    h0: Known | None,
    where: Placement,
) -> tuple[SolverState, Marginals]:
    """The state before the first step and the problem, where the devices want them."""
    if where.target_shards > 1:
        rows = sizes.sharded(*made.y.shape)
        key, mu = parallel.place(where, (key, made.mu))
        y, nu = (parallel.shard(where, np.asarray(array), rows) for array in (made.y, made.nu))
        marginals = Marginals(mu, y, nu)
        if h0 is not None:
            h = parallel.shard(where, np.asarray(h0.h), rows, fill=-np.inf)
            new = None if h0.new is None else parallel.shard(where, np.asarray(h0.new), rows)
            h0 = Known(h, new, *parallel.place(where, h0[2:]))
        return start.begin_sharded(key, marginals, plan, budget, h0, where), marginals
    marginals = Marginals(made.mu, jnp.asarray(made.y), jnp.asarray(made.nu))
    state = start.begin(key, marginals, plan, budget, jax.tree.map(jnp.asarray, h0))
    return parallel.place(where, (state, marginals))


def _nearer(found: Solution, made: Prepared, h: Heights, certificate: Certificate) -> Solution:
    """What was found, unless earlier heights are nearer to a tolerance that both miss."""
    if bool(found.converged) or float(found.certificate.upper) <= float(certificate.upper):
        return found
    return replace(found, h=made.of_users(parallel.local(h)), certificate=certificate)


def _arranged(made: Prepared, h0: Known | None) -> tuple[Prepared, Known | None, Searching]:
    """The problem list by list, with the heights to start from."""
    if on_accelerator():
        raise ValueError(
            f"`search` is 'lists' on a {jax.default_backend().upper()}, which is quicker at all "
            "scores; choose 'exact'."
        )
    found = arrange.arranged(made)
    if h0 is not None:
        new = None if h0.new is None else found.moved(h0.new, 0.0)
        h0 = h0._replace(h=found.moved(h0.h, -np.inf), new=new)
    return found.made, h0, Searching(found.lists)


def _weight_of_new(made: Prepared, h0: Known | None) -> float | None:
    """Weight of the targets whose height is a guess; None unless a solution is given."""
    if h0 is None or h0.new is None:
        return None
    return float((np.asarray(h0.new) * np.asarray(made.nu)).sum())


def _course_and_goal(
    state: SolverState,
    made: Prepared,
    config: SolverConfig,
    plan: Plan,
    budget: Budget,
    h0: Known | None,
) -> tuple[law.Course | None, int]:
    """How the error falls from a solution, if it is the start; and the samples to go to at first.

    These are fewer from a start that is near to the optimum.
    """
    size, course = (made.num_targets, made.mu.dim), None
    goal = budget.phases.end * plan.batch.size + budget.begun
    trusted = budget.trust.chi2 > 0 and int(state.phases.adam_until) <= 0
    if not trusted or config.tolerance is None:
        return None, goal
    new = _weight_of_new(made, h0)
    if h0 is not None and new is not None and int(state.start) == len(plan.starts):
        course = _course(state, made, plan, h0, new)
        lacking = course.samples(_AIM * (law.MARGIN * config.tolerance) ** 2)
    else:
        saved = -int(state.phases.adam_until) * plan.batch.size  # by steps not to take
        lacking = law.samples_to_reach(*size, config.tolerance, plan.shares) - saved
    return course, min(goal, budget.begun + max(0, lacking))


def _course(state: SolverState, made: Prepared, plan: Plan, h0: Known, share: float) -> law.Course:
    """How the mass error falls where new targets, of this weight, begin with less than others."""
    worth = -int(state.phases.adam_until) * plan.batch.size / made.num_targets
    worths = worth, worth + float(jnp.max(state.worth))
    kinds = tuple(
        law.Kind(weight, 1 / max(worth, 1.0))
        for weight, worth in zip((share, 1 - share), worths, strict=True)
    )
    usual = law.cost(made.mu.dim, plan.shares)
    own = float(h0.cost) or usual
    least, most = (part * usual for part in _COSTS)
    return law.Course(made.num_targets, min(max(own, least), most), kinds)


def _solution(
    run: Run, state: SolverState, status: Status, certificate: Certificate, check_samples: int
) -> Solution:
    """What was found, for the targets as the user gave them."""
    h = stepping.heights(state)
    if run.where.target_shards > 1:
        h = parallel.collect(h, run.marginals.y.shape[0])
    else:
        h = parallel.local(h)
    check_samples += int(stepping.num_own_samples(state, run.plan))
    check_samples += stepping.num_look_samples(run.plan) * len(run.history)
    check_samples += 0 if run.searching is None else run.searching.num_samples
    return Solution(
        h=run.made.of_users(h),
        status=jnp.asarray(status, jnp.int32),
        certificate=certificate,
        method=method_of(run.config),
        num_steps=parallel.local(state.step),
        num_samples=jnp.asarray(run.drawn(state), jnp.int32),
        search=None if run.searching is None else run.searching.told(),
        num_check_samples=jnp.asarray(min(check_samples, MOST_COUNTED), jnp.int32),
        history=history_of(run.history),
    )


def _certified(
    run: Run, key: PRNGKey, state: SolverState, status: Status, budget: Budget
) -> tuple[Certificate, Status]:
    """A certificate of the heights reached; an interruption makes it a short one."""

    def draw(key: PRNGKey, status: Status) -> Certificate:
        number = _check_samples(run, state, status, budget)
        alike = run.where, run.plan.batch
        drawn = draw_certificate(key, run.marginals, stepping.heights(state), number, *alike)
        return jax.block_until_ready(drawn)

    try:
        return draw(key, status), status
    except KeyboardInterrupt:
        return draw(jax.random.fold_in(key, 1), Status.INTERRUPTED), Status.INTERRUPTED


def _check_samples(run: Run, state: SolverState, status: Status, budget: Budget) -> int:
    """Samples of a draw: those that decide, or, after a limit, a quarter of the solve's."""
    if status is Status.RUNNING:
        return budget.check_samples
    return min(budget.check_samples, max(run.drawn(state) // 4, run.plan.batch.size))

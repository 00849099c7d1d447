"""What follows a missed certificate.

More samples; phases begun again; steps for far groups, if there are any; or annealing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax.measures import around
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.counts import law
from aeot_jax.ot.counts.estimate import Certificate, error_to_reduce
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.config import asks_for_adam, sampling_method, tolerance_of
from aeot_jax.ot.solver.loop.chunks import Run, is_late
from aeot_jax.ot.solver.moves.groups import MOST_NUMBERS, Groups, find
from aeot_jax.ot.solver.moves.nested import with_groups
from aeot_jax.ot.solver.moves.table import MOVES
from aeot_jax.ot.solver.plan import Budget, Phases, Plan, head_start
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import SolveProgress
from aeot_jax.ot.solver.starts.annealed import MOST_TARGETS, anneal
from aeot_jax.ot.solver.starts.working import normal_targets
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights

_ANNEAL = 2**32 - 3
"""What the key of a solve is folded with to anneal; no step has this number."""

_Result = TypeVar("_Result")


class Going(NamedTuple):
    """Where a solve goes; each miss changes it.

    Attributes:
      goal: samples at which to certify next.
      budget: what may be spent.
      course: how the error falls from a solution; None where the law of the samples tells it.
      looked: whether far groups have been looked for.
      annealed: whether heights have been annealed.
      before: the nearest heights that a certificate has missed, and it, since the solve began anew
        and just before; None if it never did.
      one_scale: the plan and what its steps kept, before those for far groups; None without.
      strayed: whether a certificate has missed by far after steps for far groups.
    """

    goal: int
    budget: Budget
    course: law.Course | None
    looked: bool = False
    annealed: bool = False
    before: tuple[Heights, Certificate] | None = None
    one_scale: tuple[Plan, Any] | None = None
    strayed: bool = False


def after_miss(
    run: Run, state: SolverState, certificate: Certificate, going: Going, attempt: int
) -> tuple[Run, SolverState, Status, Going]:
    """Plan more samples after a certificate that misses the tolerance, while some may be spent.

    After a far miss the phases begin again, as steps that have become short would not repair it.
    After a far one or a second one far groups are looked for, once; where there are any, all begins
    anew with steps that heed them. After a second far miss of steps of a kind heights are annealed,
    once: points of a curve may look like far groups.

    Args:
      run: so far.
      state: that missed.
      certificate: of it.
      going: where to, before.
      attempt: number of this certificate, from 0 on.

    Returns:
      The run and the state to go on with; RUNNING, or what ended the look for groups; where to.
    """
    made, config, plan = run.made, run.config, run.plan
    size, drawn, status = (made.num_targets, made.mu.dim), run.drawn(state), Status.RUNNING
    budget, course, before = going.budget, going.course, going.before
    error, groups, found = error_to_reduce(certificate), None, None
    if before is not None and float(certificate.upper) < float(before[1].upper):
        before = stepping.heights(state), certificate
    goal = planning.samples_to_continue(drawn, error, *size, budget, config)
    if course is not None:
        least = max(budget.check_samples // 2, drawn // 4)
        near = (law.MARGIN * tolerance_of(config)) ** 2
        more = course.samples_to_go_on(drawn - run.begun, error**2, near, least)
        goal = min(goal, drawn + more)
    budget = planning.seeing(budget, made.nu, config, goal)
    # Adam alone is the published algorithm, which plans once.
    moving = plan.method in MOVES or int(state.average.number) > 0
    far = moving and planning.is_far(drawn, error, *size, tolerance_of(config))
    if (far or attempt > 0) and not going.looked:
        going = going._replace(looked=True)
        groups, status = _far_groups(run)
    if groups is not None:
        before, course = (stepping.heights(state), certificate), None
        going = going._replace(one_scale=(plan, state.method))
        run, state, goal = _nested(run, state, groups, drawn, budget)
        far = False  # all begins anew
    if far and attempt > 0 and not going.annealed and _may_anneal(run, going):
        going = going._replace(annealed=True)
        found, status = _annealed(run, state, certificate, budget.max_samples - drawn, going)
    going = going._replace(strayed=going.strayed or (far and plan.method == "nested"))
    if found is not None:
        before, course = before or (stepping.heights(state), certificate), None
        run, state = found
        goal = run.drawn(state)  # to be certified before any step
    elif far:
        anew = planning.phases_of(goal - drawn, *size, plan, config)
        per_target = plan.batch.size / size[0]
        again = planning.phases_after(error, drawn, goal, anew, per_target, budget.trust)
        if again is not None:
            state, course = parallel.place(run.where, planned_anew(state, again)), None
    going = going._replace(goal=goal, budget=budget, course=course, before=before)
    return run, state, status, going


def _far_groups(run: Run) -> tuple[Groups | None, Status]:
    """Far groups of the targets, if steps may heed them; and what ended the look early."""
    made, config = run.made, run.config
    if not _may_begin_anew(run) or made.y.size > MOST_NUMBERS:
        return None, Status.RUNNING
    y, nu = (np.asarray(array, np.float64) for array in (made.y, made.nu))
    return _unless_over(run, lambda pause: find(y, nu, tolerance_of(config), pause))


def _may_begin_anew(run: Run) -> bool:
    """Whether a solve may leave the steps that it was planned with."""
    config = run.config
    planned = config.plateau_steps is None and sampling_method(config) == "newton"
    # Linear algebra of several processes may differ in a last bit.
    alone = run.where.target_shards == 1 and jax.process_count() == 1
    return planned and alone and not asks_for_adam(config)


def _unless_over(
    run: Run, work: Callable[[Callable[[], None]], _Result]
) -> tuple[_Result | None, Status]:
    """What long work on the host returns, and RUNNING; or None and what ended it early.

    Args:
      run: whose time may end.
      work: takes a function to call now and then.
    """

    def pause() -> None:
        if is_late(run):
            raise TimeoutError

    try:
        return work(pause), Status.RUNNING
    except TimeoutError:
        return None, Status.TIME_LIMIT
    except KeyboardInterrupt:
        return None, Status.INTERRUPTED


def _nested(
    run: Run, state: SolverState, groups: Groups, drawn: int, budget: Budget
) -> tuple[Run, SolverState, int]:
    """Begin anew, from h = 0 and with steps that heed these groups; also the samples to go to."""
    size, config = (run.made.num_targets, run.made.mu.dim), run.config
    plan = run.plan._replace(method="nested", shares=False, own_gaps=False)
    lacking = law.samples_to_reach(*size, tolerance_of(config))
    goal = min(budget.max_samples, drawn + lacking)
    again = planning.phases_of(goal - drawn, *size, plan, config)
    # Steps of one scale have thrown cells inside of groups too far to bring them back.
    h = jnp.asarray(np.where(np.isfinite(np.asarray(state.h)), np.float32(0), np.float32(-np.inf)))
    method = with_groups(state.method.drawn, groups)
    state = replace(planned_anew(state, again), h=h, method=method)
    return run._replace(plan=plan), parallel.place(run.where, state), goal


def _may_anneal(run: Run, going: Going) -> bool:
    """Whether heights may be annealed: of few targets, all scores at hand.

    Soft cells have one temperature, and groups have scales of their own: where there are any, their
    steps come first.
    """
    few = run.made.num_targets <= MOST_TARGETS
    tried = run.plan.method != "nested" or going.strayed
    return few and tried and run.searching is None and _may_begin_anew(run)


def _annealed(
    run: Run, state: SolverState, certificate: Certificate, room: int, going: Going
) -> tuple[tuple[Run, SolverState] | None, Status]:
    """Annealed heights to go on from; None if they take more samples than there is room for.

    Until they are certified, progress tells the error of the heights that have missed.
    """
    made, config = run.made, run.config
    plan, method = going.one_scale or (run.plan, state.method)
    drawn, error = run.drawn(state), float(certificate.mass_error)
    error_se = float(certificate.mass_error_se)
    tolerance, size = tolerance_of(config), (made.num_targets, made.mu.dim)
    lacking = law.samples_to_reach(*size, tolerance)
    key, frame, source, spread = parallel.local(
        (state.key, state.frame, state.source, state.spread)
    )
    y = blocks.whole(normal_targets(jnp.asarray(made.y), frame))
    problem = Marginals(around(made.mu, source), y, jnp.asarray(made.nu))
    key = jax.random.fold_in(jax.random.fold_in(key, _ANNEAL), int(state.step))

    def heights(pause: Callable[[], None]) -> tuple[Heights, int] | None:
        def told(used: int, planned: int) -> None:
            pause()
            run.on_progress(SolveProgress(drawn + used, drawn + planned, error, error_se))

        return anneal(key, problem, float(spread), lacking, room, told)

    found, status = _unless_over(run, heights)
    if found is None:
        return None, status
    h, used = found
    again = planning.phases_of(lacking, *size, plan, config)
    head = head_start(tolerance**2, plan.batch.size / made.num_targets, np)
    state = planned_anew(state, again._replace(adam_until=-int(head)))
    # The heights are committed to no device.
    state = replace(state, h=jnp.asarray(np.asarray(h)), method=method)
    run = run._replace(plan=plan, begun=run.begun + used)
    return (run, parallel.place(run.where, state)), status


def planned_anew(state: SolverState, phases: Phases) -> SolverState:
    """Begin both phases again, from the answer so far and for so many steps; on the host.

    Steps that have become short would never repair an answer that is far off. The numbers come from
    NumPy, so that this compiles nothing.
    """
    again = jax.tree.map(jnp.asarray, phases.traced(int(state.step)))
    mean = state.average._replace(number=jnp.asarray(np.int32(0)))
    h = state.average.heights if int(state.average.number) else state.h
    zeros = np.zeros(state.worth.shape, np.float32)
    # What is committed to no device stays so, or the same steps are compiled again.
    worth = jax.device_put(zeros, state.worth.sharding if state.worth.committed else None)
    return replace(state, h=h, phases=again, average=mean, worth=worth)

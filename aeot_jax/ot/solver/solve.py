"""``solve``: a short host loop over jitted chunks of steps, so that limits and Ctrl-C work."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from aeot_jax import arguments
from aeot_jax.machines import processes
from aeot_jax.measures import Measure
from aeot_jax.ot import problem
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.counts import estimate
from aeot_jax.ot.counts.certificate import draw as draw_certificate
from aeot_jax.ot.counts.certificate import most_at_once
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.counts.light import samples_to_bound
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.problem import Prepared
from aeot_jax.ot.solver import start, stepping
from aeot_jax.ot.solver.config import SolverConfig, check_config, method_of, placement
from aeot_jax.ot.solver.exactly import is_exact, is_reached, solve_exactly
from aeot_jax.ot.solver.plan import Plan, phases, plan, samples_to_continue
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution, SolveProgress, history_of
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.ot.solver.updates import check_elementwise, optimizer, planned_anew
from aeot_jax.typing import (
    ArrayLike,
    Given,
    Heights,
    PRNGKey,
    Targets,
    Weights,
    WorkingTargets,
)

_CHUNK_STEPS = 64
"""Steps of a chunk at most."""

_MOST_COUNTED = 2**31 - 1
"""Most samples that a count tells of."""

_ANEW = 2
"""Factor of a continuation that plans its phases anew: it adds at least as much as there was."""

_UNSEEN = 0.05
"""Part of the squared tolerance left to what targets too light to see may add."""

_LEAST_CHECK_BATCHES = 4
"""Batches of the last draw, at least, after a limit."""


def solve(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    *,
    on_progress: Given[Callable[[SolveProgress], None] | None] = None,
) -> Solution:
    """Find heights whose cells have the masses that the weights ask for.

    Runs the planned samples, certifies on fresh ones, and goes on with more samples until the
    mass error is within the tolerance with confidence 95 % or a limit is met. Ctrl-C returns the
    heights reached so far. Coinciding targets share one cell (a warning says how many).

    On a line and in the plane, with a Gaussian or the uniform cube, ``solve_exact`` is far quicker
    and exact: it answers by default there, with the same certificate, and ``method`` says so. Where
    float32 cannot hold its heights to the tolerance (a thousand targets on a line, clusters thinner
    than 1e-4), sampling goes on, and the better of the two answers is returned.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d), any scale and offset.
      nu: weights (m,), sum 1; None is uniform. Weights may be 0.
      config: the user's decisions.
      on_progress: called on the host after each chunk of steps.

    Returns:
      The solution; read ``status`` (or call ``raise_if_failed``) before trusting it.

    Raises:
      ValueError: if targets, weights, source, configuration or devices do not fit, or if several
        processes were given different ones; under jit or vmap, where ``solve_jit`` serves.
    """
    way = "call `solve_jit`, which takes its `num_steps`, inside of `jax.jit` and `jax.vmap`"
    arguments.refuse_trace("solve", way, key=key, mu=mu, y=y, nu=nu)
    arguments.function("on_progress", on_progress)
    key = arguments.key("key", key)
    check_config(config)
    where = placement(config)  # what it refuses is refused before the first step
    if where.target_shards > 1:
        check_elementwise(optimizer(config))
    made = problem.make(mu, y, nu, sharded=where.target_shards > 1)
    decisions = repr(replace(config, optimizer=None, devices=None))
    processes.check_agreement(key=key, mu=mu, y=made.y, nu=made.nu, config=decisions)
    exactly = is_exact(made, config)
    if made.same is not None:
        problem.warn_of_duplicates(made.same)
    found = solve_exactly(key, made, config) if exactly else None
    if found is None or not (found.converged or config.method == "exact"):
        report = on_progress or (lambda _: None)
        solution = _solve(key, made, config, where, report)
        found = solution if found is None else _better(solution, found)
    return replace(found, problem=problem.asked(mu, y, nu))


def _better(sampled: Solution, found: Solution) -> Solution:
    """What sampling found, unless exact heights that miss the tolerance too are nearer to it."""
    total = min(int(sampled.num_check_samples) + int(found.num_check_samples), _MOST_COUNTED)
    uppers = float(sampled.certificate.upper), float(found.certificate.upper)
    if bool(sampled.converged) or uppers[0] <= uppers[1]:
        return replace(sampled, num_check_samples=jnp.asarray(total, jnp.int32))
    return replace(
        found,
        status=sampled.status,
        num_samples=sampled.num_samples,
        num_check_samples=jnp.asarray(total, jnp.int32),
        history=sampled.history,
    )


def _begun(
    key: PRNGKey, made: Prepared, config: SolverConfig, where: Placement
) -> tuple[SolverState, Measure, WorkingTargets, Float[Array, " rows"]]:
    """The state before the first step and the data, where the devices want them."""
    if where.target_shards > 1:
        rows = sizes.sharded(*made.y.shape)
        key, mu = parallel.place(where, (key, made.mu))
        y, nu = (parallel.shard(where, np.asarray(array), rows) for array in (made.y, made.nu))
        return start.init_sharded(key, mu, y, nu, made.num_targets, config), mu, y, nu
    y, nu = jnp.asarray(made.y), jnp.asarray(made.nu)
    return parallel.place(where, (start.begin(made, key, config), made.mu, y, nu))


def _solve(
    key: PRNGKey,
    made: Prepared,
    config: SolverConfig,
    where: Placement,
    on_progress: Callable[[SolveProgress], None],
) -> Solution:
    """``solve`` by sampling."""
    started = time.monotonic()
    num_targets = made.num_targets
    planned = plan(num_targets, made.mu, config)
    goal = planned.phases.num_steps * planned.batch
    planned = _seeing(planned, made.nu, config, goal)
    init_key, check_key = jax.random.split(key)
    check_samples = start.num_start_samples(made.mu, num_targets, config)
    state, mu, y, nu = _begun(init_key, made, config, where)
    check_key = parallel.place(where, check_key)
    history: list[tuple[int, float, float]] = []
    confirming = False
    for attempt in itertools.count():
        state, status = _advance(
            state, mu, y, nu, planned, config, goal, started, history.append, on_progress
        )
        look_key = jax.random.fold_in(check_key, attempt)
        certificate, status = _certified(look_key, mu, y, nu, state, status, planned, where)
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
        drawn = int(state.batches) * planned.batch
        if status is Status.RUNNING:
            if drawn < planned.max_samples:
                error = estimate.error_to_reduce(certificate)
                goal = samples_to_continue(drawn, error, planned, config)
                planned = _seeing(planned, made.nu, config, goal)
                if goal >= _ANEW * drawn:
                    num_steps = -(-(goal - drawn) // planned.batch)
                    state = planned_anew(state, phases(num_steps, mu, config))
                    state = parallel.place(where, state)
                continue
            steps_left = config.max_steps is None or int(state.step) < config.max_steps
            status = Status.SAMPLE_LIMIT if steps_left else Status.STEP_LIMIT
        h = stepping.heights(state)
        sharded = where.target_shards > 1
        h = parallel.collect(h, y.shape[0]) if sharded else parallel.local(h)
        extra = int(stepping.num_gap_samples(state))
        extra += stepping.num_look_samples(planned.samples_per_stream, mu, config) * len(history)
        return Solution(
            h=made.of_users(h),
            status=jnp.asarray(status, jnp.int32),
            certificate=certificate,
            method=method_of(config),
            num_steps=parallel.local(state.step),
            num_samples=jnp.asarray(drawn, jnp.int32),
            num_check_samples=jnp.asarray(min(check_samples + extra, _MOST_COUNTED), jnp.int32),
            history=history_of(history),
        )
    raise AssertionError  # unreachable: the loop above only ends by returning


def _seeing(
    planned: Plan, nu: Weights | np.ndarray, config: SolverConfig, num_samples: int
) -> Plan:
    """As many samples in a draw as light targets ask for, up to those of the solve."""
    if config.tolerance is None:
        return planned
    room = _UNSEEN * config.tolerance**2
    number = samples_to_bound(np.asarray(nu), room, planned.check_samples, num_samples)
    return planned._replace(check_samples=number)


def _certified(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    nu: Weights,
    state: SolverState,
    status: Status,
    planned: Plan,
    where: Placement,
) -> tuple[Certificate, Status]:
    """A certificate of the heights reached; an interruption makes it a short one."""

    def draw(key: PRNGKey, status: Status) -> Certificate:
        number = _check_samples(state, status, planned)
        h = stepping.heights(state)
        drawn = draw_certificate(key, mu, y, h, nu, number, planned.samples_per_stream, where)
        return jax.block_until_ready(drawn)

    try:
        return draw(key, status), status
    except KeyboardInterrupt:
        return draw(jax.random.fold_in(key, 1), Status.INTERRUPTED), Status.INTERRUPTED


def _check_samples(state: SolverState, status: Status, planned: Plan) -> int:
    """Samples of a draw: those that decide, or, after a limit, at most a quarter of the solve's."""
    if status is Status.RUNNING:
        return planned.check_samples
    least = _LEAST_CHECK_BATCHES * planned.batch
    return min(planned.check_samples, max(int(state.batches) * planned.batch // 4, least))


def _advance(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    planned: Plan,
    config: SolverConfig,
    goal: int,
    started: float,
    record: Callable[[tuple[int, float, float]], None],
    on_progress: Callable[[SolveProgress], None],
) -> tuple[SolverState, Status]:
    """Run chunks of steps until ``goal`` samples are drawn or something else ends the solve.

    Returns:
      The last finite state, and RUNNING or the reason to stop.
    """
    batch, per_stream = planned.batch, planned.samples_per_stream
    chunk = min(_CHUNK_STEPS, most_at_once(batch, *y.shape))
    try:
        while (drawn := int(state.batches) * batch) < goal:
            left = config.max_steps - int(state.step) if config.max_steps else chunk
            if left <= 0:
                return state, Status.STEP_LIMIT
            if config.time_limit and _is_late(started, config.time_limit):
                return state, Status.TIME_LIMIT
            batches = -(-(goal - drawn) // (batch * int(state.multiplier)))
            num_steps = min(chunk, left, batches)
            if config.plateau_steps is not None:  # at most one doubling in a chunk
                num_steps = min(num_steps, config.plateau_steps)
            new, *chi2 = stepping.run_steps(state, mu, y, nu, num_steps, config, per_stream)
            error, error_se, finite = _running_estimate(new.h, nu, *chi2)
            if not bool(finite):
                return state, Status.NON_FINITE
            state = new
            drawn = int(state.batches) * batch
            record((drawn, float(error), float(error_se)))
            on_progress(SolveProgress(drawn, goal, float(error), float(error_se)))
    except KeyboardInterrupt:
        return state, Status.INTERRUPTED
    return state, Status.RUNNING


def _is_late(started: float, time_limit: float) -> bool:
    """Whether the time is over, by the clock of the first process: all must stop together."""
    return bool(processes.from_first(jnp.asarray(time.monotonic() - started > time_limit)))


@jax.jit
def _running_estimate(
    h: Heights, nu: Weights, chi2: Float[Array, ""], chi2_se: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
    """Running mass error with its standard error, and whether all active heights are finite."""
    finite = jnp.where(nu > 0, jnp.isfinite(h), True).all()
    return *estimate.mass_error(chi2, chi2_se), finite

"""``solve``: a short host loop over jitted chunks of steps, so that limits and Ctrl-C work."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from aeot_jax import processes
from aeot_jax.measures import Gaussian, Measure, UniformCube
from aeot_jax.numerics import repeat
from aeot_jax.ot import estimate, exact, parallel, problem, solver, streams
from aeot_jax.ot.certify import certify_checked
from aeot_jax.ot.config import (
    Plan,
    SolverConfig,
    layout,
    most_at_once,
    phases,
    plan,
    samples_to_continue,
)
from aeot_jax.ot.estimate import Certificate
from aeot_jax.ot.layouts import Layout
from aeot_jax.ot.result import Method, Status
from aeot_jax.ot.solution import History, Solution, SolveProgress
from aeot_jax.ot.solver import SolverState
from aeot_jax.ot.updates import check_elementwise, optimizer, planned_anew
from aeot_jax.typing import (
    Heights,
    HostTargets,
    HostWeights,
    PRNGKey,
    Targets,
    Weights,
    WorkingTargets,
)

_CHUNK_STEPS = 64
"""Steps of a chunk at most."""

_EXACT_SOURCES = {Gaussian: "gaussian", UniformCube: "uniform"}
"""Sources that the exact solver knows, by its names."""

_EXACT_DIMS = 2

_EXACT_KEY = 2**32 - 1
"""What the key is folded with for the certificate of exact heights; sampling uses other keys."""

_MOST_COUNTED = 2**31 - 1
"""Most samples that a count tells of."""

_MOST_EXACT_TARGETS = 200_000
"""Targets up to which "auto" solves exactly."""

_ANEW = 2
"""Factor of a continuation that plans its phases anew: it adds at least as much as there was."""

_LEAST_CHECK_BATCHES = 4
"""Batches of the last draw, at least, after a limit."""


def solve(
    key: PRNGKey,
    mu: Measure,
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: SolverConfig = SolverConfig(),  # noqa: B008 - frozen
    *,
    on_progress: Callable[[SolveProgress], None] | None = None,
) -> Solution:
    """Find heights whose cells have the masses that the weights ask for.

    Runs the planned samples, certifies on fresh ones, and goes on with more samples until the
    mass error plus two standard errors is within the tolerance or a limit is met. Ctrl-C returns
    the heights reached so far. Coinciding targets share one cell (a warning says how many).

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
        processes were given different ones.
    """
    where = layout(config)  # what it refuses is refused before the first step
    if where.target_shards > 1:
        check_elementwise(optimizer(config))
        targets = problem.host_targets(y)
        weights = problem.host_weights(nu, targets)
    else:
        targets = problem.check_targets(y)
        weights = problem.check_weights(nu, targets)
    problem.check_measure(mu, targets)
    decisions = repr(replace(config, optimizer=None, devices=None))
    processes.check_agreement(key=key, mu=mu, y=targets, nu=weights, config=decisions)
    exactly = _is_exact(mu, targets, config)
    same = problem.representatives(targets)
    if same is not None:
        problem.warn_of_duplicates(same)
        if where.target_shards > 1:
            weights = problem.host_merged_weights(np.asarray(weights), same)
        else:
            weights = problem.merged_weights(jnp.asarray(weights), same)
    found = _solve_exactly(key, mu, targets, weights, config) if exactly else None
    if found is not None and (found.converged or config.method == "exact"):
        solution = found
    else:
        report = on_progress or (lambda _: None)
        solution = _solve(key, mu, targets, weights, config, where, report)
        if found is not None:
            solution = _better(solution, found)
    if same is None:
        return solution
    return replace(solution, h=solution.h[same])


def _is_exact(mu: Measure, y: Targets | HostTargets, config: SolverConfig) -> bool:
    """Whether the exact solver is asked for, or can answer and nothing says otherwise."""
    possible = type(mu) in _EXACT_SOURCES and y.shape[1] <= _EXACT_DIMS
    if config.method == "exact" and not possible:
        raise ValueError(
            f"`method` is 'exact', which takes Gaussian or UniformCube in 1 or 2 dimensions, but "
            f"`mu` is {type(mu).__name__} in {mu.dim}; choose 'auto'."
        )
    defaults = SolverConfig()
    unasked = ("method", "tolerance", "parallel", "devices", "target_shards")
    asked = replace(config, **{name: getattr(defaults, name) for name in unasked}) != defaults
    few = y.shape[0] <= _MOST_EXACT_TARGETS
    return config.method == "exact" or (config.method == "auto" and possible and few and not asked)


def _solve_exactly(
    key: PRNGKey,
    mu: Measure,
    y: Targets | HostTargets,
    nu: Weights | HostWeights,
    config: SolverConfig,
) -> Solution:
    """The exact heights with their certificate, which float32 may keep from the tolerance.

    So few targets in so few dimensions need no sharding.
    """
    found = exact.solve_exact(np.asarray(y), np.asarray(nu), source=_EXACT_SOURCES[type(mu)])
    sizes = plan(y.shape[0], mu, config)
    h, y, nu = jnp.asarray(found.h, jnp.float32), jnp.asarray(y), jnp.asarray(nu)
    check_key = jax.random.fold_in(key, _EXACT_KEY)
    certificate = certify_checked(check_key, mu, y, h, nu, sizes.check_samples, None)
    reached = _is_reached(certificate, config)
    return Solution(
        h=h,
        status=jnp.asarray(Status.CONVERGED if reached else Status.STEP_LIMIT, jnp.int32),
        certificate=certificate,
        method=jnp.asarray(Method.EXACT, jnp.int32),
        num_steps=jnp.asarray(found.num_steps, jnp.int32),
        num_samples=jnp.asarray(0, jnp.int32),
        num_check_samples=certificate.num_samples,
        history=_history([]),
    )


def _better(sampled: Solution, found: Solution) -> Solution:
    """What sampling found, unless exact heights that miss the tolerance too are nearer to it."""
    total = min(int(sampled.num_check_samples) + int(found.num_check_samples), _MOST_COUNTED)
    if bool(sampled.converged) or float(sampled.mass_error) <= float(found.mass_error):
        return replace(sampled, num_check_samples=jnp.asarray(total, jnp.int32))
    return replace(
        found,
        status=sampled.status,
        num_samples=sampled.num_samples,
        num_check_samples=jnp.asarray(total, jnp.int32),
        history=sampled.history,
    )


def _is_reached(certificate: Certificate, config: SolverConfig) -> bool:
    bound = float(certificate.mass_error) + 2 * float(certificate.mass_error_se)
    return config.tolerance is not None and bound <= config.tolerance


def _history(entries: list[tuple[int, float, float]]) -> History:
    columns = np.array(entries, np.float64).reshape(-1, 3)
    return History(columns[:, 0].astype(np.int64), columns[:, 1], columns[:, 2])


def _begun(
    key: PRNGKey,
    mu: Measure,
    y: Targets | HostTargets,
    nu: Weights | HostWeights,
    config: SolverConfig,
    where: Layout,
) -> tuple[SolverState, Measure, WorkingTargets, Float[Array, " rows"]]:
    """The state before the first step and the data, where the devices want them."""
    if where.target_shards > 1:
        key, mu = parallel.place(where, (key, mu))
        own_y, own_nu = (parallel.shard(where, np.asarray(array)) for array in (y, nu))
        state = solver.init_dealt(key, mu, own_y, own_nu, y.shape[0], config)
        return state, mu, own_y, own_nu
    y, nu = jnp.asarray(y), jnp.asarray(nu)
    return parallel.place(where, (solver.init(key, mu, y, nu, config), mu, y, nu))


def _solve(
    key: PRNGKey,
    mu: Measure,
    targets: Targets | HostTargets,
    weights: Weights | HostWeights,
    config: SolverConfig,
    where: Layout,
    on_progress: Callable[[SolveProgress], None],
) -> Solution:
    """``solve`` by sampling, for a problem that is known to be good."""
    started = time.monotonic()
    num_targets = targets.shape[0]
    sizes = plan(num_targets, mu, config)
    init_key, check_key = jax.random.split(key)
    check_samples = solver.num_start_samples(mu, num_targets, config)
    state, mu, y, nu = _begun(init_key, mu, targets, weights, config, where)
    check_key = parallel.place(where, check_key)
    history: list[tuple[int, float, float]] = []
    goal = sizes.phases.num_steps * sizes.batch
    confirming = False
    for attempt in itertools.count():
        state, status = _advance(
            state, mu, y, nu, num_targets, config, goal, started, history.append, on_progress
        )
        look_key = jax.random.fold_in(check_key, attempt)
        certificate, status = _certified(look_key, mu, y, nu, state, status, sizes, where)
        check_samples += int(certificate.num_samples)
        reached = _is_reached(certificate, config)
        if reached and attempt > 0 and status is Status.RUNNING and not confirming:
            # A first look was planned; a later one that passes is a decision to stop, and what is
            # reported is drawn after it.
            confirming = True
            continue
        confirming = False
        if reached and status not in (Status.INTERRUPTED, Status.NON_FINITE):
            status = Status.CONVERGED
        drawn = int(state.batches) * sizes.batch
        if status is Status.RUNNING:
            if drawn < sizes.max_samples:
                error = float(certificate.mass_error)
                goal = samples_to_continue(drawn, error, sizes, config)
                if goal >= _ANEW * drawn:
                    num_steps = -(-(goal - drawn) // sizes.batch)
                    state = planned_anew(state, phases(num_steps, mu, config))
                    state = parallel.place(where, state)
                continue
            steps_left = config.max_steps is None or int(state.step) < config.max_steps
            status = Status.SAMPLE_LIMIT if steps_left else Status.STEP_LIMIT
        h = state.heights
        dealt = where.target_shards > 1
        h = parallel.collect(h, num_targets) if dealt else parallel.local(h)
        extra = int(solver.num_gap_samples(state, num_targets))
        extra += solver.num_look_samples(num_targets, mu, config) * len(history)
        return Solution(
            h=h,
            status=jnp.asarray(status, jnp.int32),
            certificate=certificate,
            method=_method(config),
            num_steps=parallel.local(state.step),
            num_samples=jnp.asarray(drawn, jnp.int32),
            num_check_samples=jnp.asarray(min(check_samples + extra, _MOST_COUNTED), jnp.int32),
            history=_history(history),
        )
    raise AssertionError  # unreachable: the loop above only ends by returning


def _method(config: SolverConfig) -> Int[Array, ""]:
    return jnp.asarray(Method.ADAM if config.method == "adam" else Method.NEWTON, jnp.int32)


def _certified(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    nu: Weights,
    state: SolverState,
    status: Status,
    sizes: Plan,
    where: Layout,
) -> tuple[Certificate, Status]:
    """A certificate of the heights reached; an interruption makes it a short one."""

    def draw(key: PRNGKey, status: Status) -> Certificate:
        number = _check_samples(state, status, sizes)
        drawn = certify_checked(
            key, mu, y, state.heights, nu, number, None, sizes.samples_per_stream, where
        )
        return jax.block_until_ready(drawn)

    try:
        return draw(key, status), status
    except KeyboardInterrupt:
        return draw(jax.random.fold_in(key, 1), Status.INTERRUPTED), Status.INTERRUPTED


def _check_samples(state: SolverState, status: Status, sizes: Plan) -> int:
    """Samples of a draw: those that decide, or, after a limit, at most a quarter of the solve's."""
    if status is Status.RUNNING:
        return sizes.check_samples
    least = _LEAST_CHECK_BATCHES * sizes.batch
    return min(sizes.check_samples, max(int(state.batches) * sizes.batch // 4, least))


def _advance(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_targets: int,
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
    sizes = plan(num_targets, mu, config)
    chunk = min(_CHUNK_STEPS, most_at_once(sizes.batch, num_targets, y.shape[1]))
    try:
        while (drawn := int(state.batches) * sizes.batch) < goal:
            left = config.max_steps - int(state.step) if config.max_steps else chunk
            if left <= 0:
                return state, Status.STEP_LIMIT
            if config.time_limit and _is_late(started, config.time_limit):
                return state, Status.TIME_LIMIT
            batches = -(-(goal - drawn) // (sizes.batch * int(state.multiplier)))
            num_steps = min(chunk, left, batches)
            if config.plateau_steps is not None:  # at most one doubling in a chunk
                num_steps = min(num_steps, config.plateau_steps)
            new, *chi2 = solver.run_steps(state, mu, y, nu, num_steps, config, num_targets)
            error, error_se, finite = _look(new.h, nu, *chi2)
            if not bool(finite):
                return state, Status.NON_FINITE
            state = new
            drawn = int(state.batches) * sizes.batch
            record((drawn, float(error), float(error_se)))
            on_progress(SolveProgress(drawn, goal, float(error), float(error_se)))
    except KeyboardInterrupt:
        return state, Status.INTERRUPTED
    return state, Status.RUNNING


def _is_late(started: float, time_limit: float) -> bool:
    """Whether the time is over, by the clock of the first process: all must stop together."""
    return bool(processes.from_first(jnp.asarray(time.monotonic() - started > time_limit)))


@jax.jit
def _look(
    h: Heights, nu: Weights, chi2: Float[Array, ""], chi2_se: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
    """Running mass error with its standard error, and whether all active heights are finite."""
    finite = jnp.where(nu > 0, jnp.isfinite(h), True).all()
    return *estimate.mass_error(chi2, chi2_se), finite


@partial(jax.jit, static_argnames=("config", "num_steps", "axis_name"))
def solve_jit(
    key: PRNGKey,
    mu: Measure,
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: SolverConfig = SolverConfig(),  # noqa: B008 - frozen
    *,
    num_steps: int,
    axis_name: str | None = None,
) -> Solution:
    """A fixed number of steps and a certificate, with no host in it: for use inside jit and vmap.

    The phases are planned for ``num_steps``. Under jit values cannot be looked at: coinciding
    targets are not merged and NaN shows as a status.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions; its limits have no meaning here, and every method but "adam"
        is "newton".
      num_steps: steps; static.
      axis_name: a mapped axis over whose devices the samples are dealt; see ``step``.

    Returns:
      The solution, its history empty; converged, non-finite or at the step limit.

    Raises:
      ValueError: if shapes or the configuration do not fit.
    """
    y = problem.check_targets(y)
    nu = problem.check_weights(nu, y)
    budget = replace(config, tolerance=None, max_samples=None, max_steps=num_steps)
    sizes = plan(y.shape[0], mu, budget)
    init_key, check_key = jax.random.split(key)
    state = solver.init(init_key, mu, y, nu, budget)

    def body(_: Int[Array, ""], state: SolverState) -> SolverState:
        return solver.step(state, mu, y, nu, budget, axis_name)

    state = repeat(num_steps, body, state)
    batches = -(-sizes.check_samples // sizes.batch)
    counts, _ = streams.draw_counts(
        check_key,
        mu,
        y,
        state.heights,
        nu,
        batches,
        samples_per_stream=sizes.samples_per_stream,
        axis_name=axis_name,
    )
    certificate = estimate.certificate(counts, nu, batches * sizes.batch)
    bound = certificate.mass_error + 2 * certificate.mass_error_se
    tolerance = -1.0 if config.tolerance is None else config.tolerance
    status = jnp.where(bound <= tolerance, Status.CONVERGED, Status.STEP_LIMIT)
    finite = jnp.where(nu > 0, jnp.isfinite(state.h), True).all()
    started = solver.num_start_samples(mu, y.shape[0], budget)
    gaps = solver.num_gap_samples(state, y.shape[0])
    return Solution(
        h=state.heights,
        status=jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32),
        certificate=certificate,
        method=_method(config),
        num_steps=state.step,
        num_samples=state.batches * sizes.batch,
        num_check_samples=started + gaps + batches * sizes.batch,
        history=History(jnp.zeros((0,), jnp.int32), *2 * (jnp.zeros((0,), jnp.float32),)),
    )

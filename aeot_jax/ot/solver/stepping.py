r"""Heights by stochastic convex minimisation of the semi-dual energy: state, step, and no host.

One step draws fresh samples (``sampling.py``), counts them in the cells and moves the heights along
:math:`\hat w - \nu` (``updates.py``). Targets are centred and scaled inside, so that one set of
constants serves every data set.
"""

from dataclasses import fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import MOMENT_SAMPLES, Measure, around, is_centred, moments
from aeot_jax.numerics import PRECISION, isolated, repeat, usual_dtypes
from aeot_jax.ot import problem
from aeot_jax.ot.cells import blockwise, shift
from aeot_jax.ot.counts import estimate, sampling, streams
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import NUM_STREAMS, SHARDED
from aeot_jax.ot.problem import Frame, Prepared
from aeot_jax.ot.solver import updates, warmstart
from aeot_jax.ot.solver.config import (
    Phases,
    SolverConfig,
    check_config,
    placement,
    plan,
    samples_per_stream,
)
from aeot_jax.ot.solver.state import SolverState as SolverState
from aeot_jax.typing import (
    ArrayLike,
    Counts,
    Given,
    Heights,
    PRNGKey,
    Targets,
    Weights,
    WorkingTargets,
)

_MIXING, _LOOK = 2**32 - 1, 2**32 - 2
"""What the key of a solve is folded with to turn the targets, and to look; no step has these
numbers."""

_LOOK_BATCHES = 8
"""Batches of a look."""


def init(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    axis_name: str | None = None,
    targets_axis: str | None = None,
) -> SolverState:
    """State at the start of a solve: problem normalised, starting heights chosen, phases planned.

    Pure and jit-able with ``config`` static. Under jit values cannot be looked at, so NaN targets
    pass and coinciding targets are not merged: ``solve`` does both.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions.
      axis_name: a mapped axis over whose devices the samples are sharded; see ``step``.
      targets_axis: a mapped axis over whose devices the targets are sharded; see ``step``.

    Raises:
      ValueError: if a shape, a known value or the configuration does not fit.
    """
    key = arguments.key("key", key)
    check_config(config)
    targets, weights, num_targets = _checked(mu, y, nu, axis_name, targets_axis)
    axes = {"axis_name": axis_name, "targets_axis": targets_axis}
    return _begin(key, mu, targets, weights, num_targets, config, **axes)


def begin(made: Prepared, key: PRNGKey, config: SolverConfig) -> SolverState:
    """``init`` of a problem that ``problem.make`` has made."""
    y, nu = jnp.asarray(made.y), jnp.asarray(made.nu)
    return _begin(key, made.mu, y, nu, made.num_targets, config)


def _begin(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_targets: int,
    config: SolverConfig,
    axis_name: str | None = None,
    targets_axis: str | None = None,
) -> SolverState:
    planned = plan(num_targets, mu, config)
    return _init_checked(
        key,
        mu,
        y,
        nu,
        _traced(planned.phases),
        config=config.of_programs(),
        per_stream=planned.samples_per_stream,
        axis_name=axis_name,
        targets_axis=targets_axis,
    )


def _traced(phases: Phases) -> Phases:
    """Phases as numbers that programs are not compiled for."""
    return jax.tree.map(np.int32, phases)


def init_sharded(
    key: PRNGKey, mu: Measure, y: Targets, nu: Weights, num_targets: int, config: SolverConfig
) -> SolverState:
    """``init`` where ``parallel.shard`` has sharded good targets and weights over devices.

    Args:
      key: consumed.
      mu: source measure.
      y: targets, filled up.
      nu: weights, filled up with 0.
      num_targets: m, without what fills up.
      config: the user's decisions.
    """
    row = jax.ShapeDtypeStruct(nu.shape, jnp.float32)
    optimizer_state = jax.eval_shape(updates.optimizer(config).init, row)
    of_state = _specs(optimizer_state, row.shape, not is_centred(mu))
    specs = (P(), P(), SHARDED, SHARDED, P()), of_state
    planned = plan(num_targets, mu, config)
    arguments = key, mu, y, nu, _traced(planned.phases)
    options = {"config": config.of_programs(), "per_stream": planned.samples_per_stream}
    return SolverState(
        **parallel.run(placement(config), _init_dict, *arguments, specs=specs, **options)
    )


def _specs(optimizer_state: Any, shape: tuple[int, ...], tilted: bool) -> dict[str, Any]:
    """PartitionSpecs of a state whose vectors have this shape, on a mesh that shards targets."""
    of_optimizer = jax.tree.map(
        lambda leaf: SHARDED if leaf.shape == shape else P(), optimizer_state
    )
    sharded = {"h": SHARDED, "average": SHARDED, "optimizer_state": of_optimizer}
    if tilted:
        sharded["tilt"] = SHARDED
    return {field.name: P() for field in fields(SolverState)} | sharded


def _checked(
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None,
    axis_name: str | None,
    targets_axis: str | None,
) -> tuple[Targets, Weights, int]:
    """Targets and weights of this device, and how many targets all devices have."""
    targets, _ = problem.near_points(y)
    if targets_axis is not None and targets_axis == axis_name:
        raise ValueError(
            f"`axis_name` and `targets_axis` are both {axis_name!r}; samples and targets are "
            "sharded over two axes, so name two, or pass None for one."
        )
    if targets_axis is not None and nu is None:
        raise ValueError(
            f"`nu` is None, but `targets_axis` is {targets_axis!r}; pass the weights of the "
            "targets of this device, whose sum over all devices is 1."
        )
    weights = problem.check_weights(nu, targets)
    problem.check_measure(mu, targets)
    return targets, weights, blockwise.num_targets(targets.shape[0], targets_axis)


def _init(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    nu: Weights,
    phases: Phases,
    *,
    config: SolverConfig,
    per_stream: int,
    axis_name: str | None,
    targets_axis: str | None,
) -> SolverState:
    """The body of ``init``, for the devices of the axes."""
    moment_key, start_key, run_key = jax.random.split(key, 3)
    frame = problem.frame(y, nu, targets_axis)
    # A scale is never negative, which the compiler does not know.
    always = ~(frame.scale < 0)
    unknown = jnp.zeros(mu.dim, jnp.float32), jnp.zeros((mu.dim, mu.dim), jnp.float32)
    mean, covariance = isolated(
        always, lambda _, key, mu: moments(key, mu), unknown, moment_key, mu
    )
    of_targets = partial(blockwise.sum_blocks, targets_axis=targets_axis)
    normal = isolated(always, lambda y, frame: frame.normalise(y), y, frame)
    square = of_targets(_weighted_square, (normal, nu))
    source = jnp.zeros_like(mean)
    if not is_centred(mu):
        source = shift.rounded(mean, jnp.sqrt(jnp.max(jnp.diagonal(covariance))))
    mean = mean - source
    spread = isolated(always, _spread, frame.scale, square, mean, covariance)

    names = warmstart.NAMES if config.start == "auto" else (config.start,)
    starting = partial(warmstart.heights, targets_axis=targets_axis)
    made = [starting(name, normal, nu, mean, covariance) for name in names]
    candidates = [updates.centred(h, nu, targets_axis) for h in made]
    h = candidates[0]
    if len(candidates) > 1:
        way = _way(mu, config)
        prepared = _working_targets(y, frame, run_key, mu, config)
        near = around(mu, source)

        def residual(h: Heights) -> Float[Array, ""]:
            counts, _ = streams.batch_counts(
                start_key,
                near,
                prepared,
                h,
                nu,
                per_stream,
                axis_name,
                way,
                targets_axis,
            )
            return estimate.chi_square(counts, nu, per_stream * NUM_STREAMS, targets_axis)[0]

        stacked = jnp.stack(candidates)
        h = stacked[jnp.argmin(jax.lax.map(residual, stacked))]

    none = jnp.zeros(1, jnp.float32)
    tilt = none if is_centred(mu) else blockwise.map_rows(_tilt, normal, source)[: nu.shape[0]]
    return _fresh(run_key, h, spread, frame, source, tilt, config, phases)


def _fresh(
    key: PRNGKey,
    h: Heights,
    spread: Float[Array, ""],
    frame: Frame,
    source: Float[Array, " d"],
    tilt: Float[Array, " t"],
    config: SolverConfig,
    phases: Phases,
) -> SolverState:
    """A state that has taken no step."""
    zero = jnp.zeros((), jnp.int32)
    with usual_dtypes():
        optimizer_state = updates.optimizer(config).init(jnp.zeros_like(h))
    return SolverState(
        key=key,
        h=h,
        optimizer_state=optimizer_state,
        step=zero,
        batches=zero,
        multiplier=zero + 1,
        phase_from=zero,
        phase_steps=zero + phases.phase_steps,
        gap=spread,
        gap_draws=zero,
        spread=spread,
        best=jnp.full((), jnp.finfo(jnp.float32).max, jnp.float32),
        stalled=zero,
        average=jnp.zeros_like(h),
        averaged=zero,
        average_from=zero + phases.average_from,
        frame=frame,
        source=source,
        tilt=tilt,
    )


_init_checked = jax.jit(
    _init, static_argnames=("config", "per_stream", "axis_name", "targets_axis")
)


def _init_dict(*arguments: Any, **options: Any) -> dict[str, Any]:
    return _init(*arguments, **options).as_dict()


def _weighted_square(y: Targets, nu: Weights) -> Float[Array, "d d"]:
    return jnp.matmul((y * nu[:, None]).T, y, precision=PRECISION)


def _tilt(y: Targets, source: Float[Array, " d"]) -> Heights:
    return jnp.matmul(y, source, precision=PRECISION)


def _spread(
    _: Float[Array, ""],
    square: Float[Array, "d d"],
    mean: Float[Array, " d"],
    covariance: Float[Array, "d d"],
) -> Float[Array, ""]:
    """Standard deviation over targets of <x, y_i>."""
    return jnp.sqrt(((covariance + jnp.outer(mean, mean)) * square).sum())


def num_start_samples(mu: Measure, num_targets: int, config: SolverConfig) -> int:
    """Samples that ``init`` draws: for the candidates of the start, and for unknown moments."""
    candidates = plan(num_targets, mu, config).batch if config.start == "auto" else 0
    return candidates + (0 if mu.variance is not None else MOMENT_SAMPLES)


def num_gap_samples(state: SolverState) -> Int[Array, "*batch"]:
    """Samples that the estimates of the gap have drawn."""
    return state.gap_draws * updates.GAP_SAMPLES


def step(
    state: Given[SolverState],
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    axis_name: str | None = None,
    targets_axis: str | None = None,
) -> SolverState:
    """One step of the solver; pure, for users who own the loop.

    Args:
      state: from ``init`` or an earlier step with the same other arguments.
      mu: source measure.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions; static under jit.
      axis_name: a mapped axis over whose devices the logical streams are sharded; its size divides
        8. The counts are summed over it and the state is the same on all of them.
      targets_axis: a mapped axis over whose devices the targets are sharded in their order; its
        size divides 8. Then ``y``, ``nu`` and the vectors of the state are those of this device,
        and targets of weight 0 fill up the last ones to a multiple of 1024 in all. An optimizer
        of one's own must work element by element.

    Raises:
      ValueError: if a shape or an axis does not fit.
    """
    arguments.instance("state", state, SolverState, "what `init` or the last step returned")
    check_config(config)
    targets, weights, num_targets = _checked(mu, y, nu, axis_name, targets_axis)
    working = _working_targets(targets, state.frame, state.key, mu, config)
    per_stream = samples_per_stream(num_targets, mu, config)
    return _step(state, mu, working, weights, config, per_stream, axis_name, targets_axis)[0]


@jax.jit
def heights(state: SolverState) -> Heights:
    """``state.heights`` as one program."""
    return state.heights


def run_steps(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_steps: int,
    config: SolverConfig,
    per_stream: int | None = None,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """Some steps in one call; their number is traced, so any number costs one compilation.

    Samples and targets are spread over devices as the configuration says; ``per_stream`` samples
    of each logical stream are a batch, by default as many as follow from the number of targets.

    Returns:
      The state, and an unbiased estimate of chi^2 with its standard error. It is the average over
      the heights that the steps met, each of which saw samples that are fresh for it. Samples of a
      net repel and cannot tell: there it is a look at the answer so far, by independent samples.
    """
    tilted = state.tilt.shape == state.h.shape
    of_state = _specs(state.optimizer_state, state.h.shape, tilted)
    specs = (of_state, P(), SHARDED, SHARDED, P()), (of_state, P(), P())
    arguments = state.as_dict(), mu, y, nu, np.int32(num_steps)
    per_stream = per_stream or samples_per_stream(nu.shape[0], mu, config)
    options = {"config": config.of_programs(), "per_stream": per_stream}
    moved, *chi2 = parallel.run(placement(config), _run_steps, *arguments, specs=specs, **options)
    return SolverState(**moved), *chi2


def _run_steps(
    state_dict: dict[str, Any],
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_steps: Int[Array, ""],
    *,
    config: SolverConfig,
    per_stream: int,
    axis_name: str | None,
    targets_axis: str | None,
) -> tuple[dict[str, Any], Float[Array, ""], Float[Array, ""]]:
    """The body of ``run_steps``, for the devices of the axes; states as dicts."""
    state = SolverState(**state_dict)
    targets = _working_targets(y, state.frame, state.key, mu, config)
    batch = per_stream * NUM_STREAMS

    def body(_: Int[Array, ""], carry: tuple) -> tuple:
        state, total, variance = carry
        multiplier = state.multiplier
        state, counts, within = _step(
            state, mu, targets, nu, config, per_stream, axis_name, targets_axis
        )
        chi2, chi2_se = estimate.chi_square_between(
            counts, within, nu, batch * multiplier, multiplier, targets_axis
        )
        return state, total + chi2, variance + chi2_se**2

    carry = (state, jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
    state, total, variance = repeat(num_steps, body, carry)
    if num_look_samples(per_stream, mu, config):
        return state.as_dict(), *_look(state, mu, targets, nu, per_stream, axis_name, targets_axis)
    steps = num_steps.astype(jnp.float32)
    return state.as_dict(), total / steps, jnp.sqrt(variance) / steps


def num_look_samples(per_stream: int, mu: Measure, config: SolverConfig) -> int:
    """Samples that ``run_steps`` draws beside those of its steps."""
    if _way(mu, config) != "sobol":
        return 0
    return _LOOK_BATCHES * per_stream * NUM_STREAMS


def _look(
    state: SolverState,
    mu: Measure,
    y: WorkingTargets,
    nu: Weights,
    samples_per_stream: int,
    axis_name: str | None,
    targets_axis: str | None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """chi^2 of the answer so far, with its standard error."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, _LOOK), state.step)
    counts, _ = streams.draw_counts(
        key,
        around(mu, state.source),
        y,
        state.answer,
        nu,
        _LOOK_BATCHES,
        samples_per_stream=samples_per_stream,
        axis_name=axis_name,
        targets_axis=targets_axis,
    )
    num_samples = _LOOK_BATCHES * samples_per_stream * NUM_STREAMS
    return estimate.chi_square(counts, nu, num_samples, targets_axis)


def _way(mu: Measure, config: SolverConfig) -> sampling.Sampling:
    return sampling.choose(mu, config.sampling, config.batch_size)


def _mixing_key(key: PRNGKey) -> PRNGKey:
    return jax.random.fold_in(key, _MIXING)


def _working_targets(
    y: Targets, frame: Frame, key: PRNGKey, mu: Measure, config: SolverConfig
) -> WorkingTargets:
    """Targets as the steps use them: centred, scaled, and turned where orbits want it.

    There they are filled up to whole blocks of the kernel.
    """
    way = _way(mu, config)

    def prepared(y: Targets, frame: Frame, key: PRNGKey) -> Targets:
        return sampling.prepared(key, mu, frame.normalise(y), way)

    if way == "orbits":
        return blockwise.map_rows(prepared, y, frame, _mixing_key(key))
    # A scale is never negative, which the compiler does not know.
    return isolated(~(frame.scale < 0), prepared, y, frame, _mixing_key(key))


def _step(
    state: SolverState,
    mu: Measure,
    y: WorkingTargets,
    nu: Weights,
    config: SolverConfig,
    per_stream: int,
    axis_name: str | None,
    targets_axis: str | None,
) -> tuple[SolverState, Counts, Float[Array, " s"]]:
    """One step on working targets; also the counts that it saw and their scatter by stream."""
    key = jax.random.fold_in(state.key, state.step)
    batch_key, gap_key = jax.random.split(key)
    near = around(mu, state.source)
    counts, within = streams.draw_counts(
        batch_key,
        near,
        y,
        state.h,
        nu,
        1 if config.plateau_steps is None else state.multiplier,
        samples_per_stream=per_stream,
        axis_name=axis_name,
        way=_way(mu, config),
        targets_axis=targets_axis,
    )
    static = {"config": config, "per_stream": per_stream, "targets_axis": targets_axis}
    update = partial(updates.updated, **static)
    # The counts are integers and the same in every placement; so that the heights are, too, no
    # placement's program may fuse this arithmetic with anything of its own.
    state = isolated(state.step >= 0, update, state, counts, gap_key, near, y, nu)
    return state, counts, within

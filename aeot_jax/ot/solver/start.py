r"""The start of a solve: the problem normalised, starting heights chosen, phases planned."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures import MOMENT_SAMPLES, Measure, around, is_centred, moments
from aeot_jax.numerics import PRECISION, isolated, usual_dtypes
from aeot_jax.ot import problem
from aeot_jax.ot.cells import blockwise, shift
from aeot_jax.ot.counts import estimate, sampling, streams
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import NUM_STREAMS, SHARDED
from aeot_jax.ot.problem import Frame, Prepared
from aeot_jax.ot.solver import updates, warmstart
from aeot_jax.ot.solver.config import SolverConfig, check_config, placement, way_of
from aeot_jax.ot.solver.plan import Phases, plan
from aeot_jax.ot.solver.state import SolverState, partition_specs
from aeot_jax.typing import ArrayLike, Given, Heights, PRNGKey, Targets, Weights, WorkingTargets

_MIXING = 2**32 - 1
"""What the key of a solve is folded with to turn the targets; no step has this number."""


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
    targets, weights, num_targets = checked(mu, y, nu, axis_name, targets_axis)
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
    of_state = partition_specs(optimizer_state, row.shape, not is_centred(mu))
    specs = (P(), P(), SHARDED, SHARDED, P()), of_state
    planned = plan(num_targets, mu, config)
    arguments = key, mu, y, nu, _traced(planned.phases)
    options = {"config": config.of_programs(), "per_stream": planned.samples_per_stream}
    return SolverState(
        **parallel.run(placement(config), _init_dict, *arguments, specs=specs, **options)
    )


def checked(
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
    mean, covariance = isolated(moments, moment_key, mu)
    of_targets = partial(blockwise.sum_blocks, targets_axis=targets_axis)
    normal = isolated(Frame.normalise, frame, y)
    square = of_targets(_weighted_square, (normal, nu))
    source = jnp.zeros_like(mean)
    if not is_centred(mu):
        source = shift.rounded(mean, jnp.sqrt(jnp.max(jnp.diagonal(covariance))))
    mean = mean - source
    spread = isolated(_spread, square, mean, covariance)

    names = warmstart.NAMES if config.start == "auto" else (config.start,)
    starting = partial(warmstart.heights, targets_axis=targets_axis)
    made = [starting(name, normal, nu, mean, covariance) for name in names]
    candidates = [updates.centred(h, nu, targets_axis) for h in made]
    h = candidates[0]
    if len(candidates) > 1:
        way = way_of(mu, config)
        prepared = working_targets(y, frame, run_key, mu, config)
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


def working_targets(
    y: Targets, frame: Frame, key: PRNGKey, mu: Measure, config: SolverConfig
) -> WorkingTargets:
    """Centre and scale targets (m, d), and turn them where orbits want it.

    There they are filled up to whole blocks of the kernel.

    Args:
      y: targets of this device (m, d).
      frame: of the problem.
      key: of the solve.
      mu: source measure.
      config: the user's decisions.
    """
    how = way_of(mu, config)
    key = jax.random.fold_in(key, _MIXING)

    def prepared(y: Targets, frame: Frame, key: PRNGKey) -> Targets:
        return sampling.prepared(key, mu, frame.normalise(y), how)

    if how == "orbits":
        return blockwise.map_rows(prepared, y, frame, key)
    return isolated(prepared, y, frame, key)

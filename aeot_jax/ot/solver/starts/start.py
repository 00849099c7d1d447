r"""The start of a solve: the problem normalised, starting heights chosen, phases planned."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures import MOMENT_SAMPLES, Measure, around, is_centred, moments
from aeot_jax.numerics import PRECISION, isolated
from aeot_jax.ot import centring, checks, frames
from aeot_jax.ot.cells import blockwise, shift
from aeot_jax.ot.counts import streams
from aeot_jax.ot.counts.chi_square import chi_square
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import ALONE, OF_MARGINALS, Axes, Placement
from aeot_jax.ot.frames import Frame
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import SolverConfig, check_config
from aeot_jax.ot.solver.moves import adam, average
from aeot_jax.ot.solver.moves.seen import centred
from aeot_jax.ot.solver.moves.table import MOVES
from aeot_jax.ot.solver.plan import Phases, Plan
from aeot_jax.ot.solver.starts import closed_forms
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
    axes = Axes(axis_name, targets_axis)
    marginals, num_targets = checked(mu, y, nu, axes)
    phases = planning.budget(num_targets, mu, config).phases
    return begin(key, marginals, planning.plan(num_targets, mu, config), phases, axes)


def begin(
    key: PRNGKey, marginals: Marginals, plan: Plan, phases: Phases, axes: Axes = ALONE
) -> SolverState:
    """``init`` of a problem that is known to be good."""
    return _init_jitted(key, marginals, phases.traced(), plan=plan, axes=axes)


def begin_sharded(
    key: PRNGKey, marginals: Marginals, plan: Plan, phases: Phases, where: Placement
) -> SolverState:
    """``begin`` where ``parallel.shard`` has sharded the targets and weights over devices."""
    row = jax.ShapeDtypeStruct(marginals.nu.shape, jnp.float32)
    kept = jax.eval_shape(partial(_kept, plan=plan), row, jax.ShapeDtypeStruct((), jnp.float32))
    of_state = partition_specs(kept[0], kept[1], row.shape, not is_centred(marginals.mu))
    specs = (P(), OF_MARGINALS, P()), of_state
    arguments = key, marginals, phases.traced()
    return SolverState(**parallel.run(where, _init_dict, *arguments, specs=specs, plan=plan))


def checked(
    mu: Given[Measure], y: ArrayLike, nu: ArrayLike | None, axes: Axes = ALONE
) -> tuple[Marginals, int]:
    """The problem with this device's targets and weights, and how many targets all devices have."""
    targets, _ = centring.near_points(y)
    if axes.targets is not None and axes.targets == axes.samples:
        raise ValueError(
            f"`axis_name` and `targets_axis` are both {axes.samples!r}; samples and targets are "
            "sharded over two axes, so name two, or pass None for one."
        )
    if axes.targets is not None and nu is None:
        raise ValueError(
            f"`nu` is None, but `targets_axis` is {axes.targets!r}; pass the weights of the "
            "targets of this device, whose sum over all devices is 1."
        )
    weights = checks.check_weights(nu, targets)
    checks.check_measure(mu, targets)
    num_targets = blockwise.num_targets(targets.shape[0], axes.targets)
    return Marginals(mu, targets, weights), num_targets


class _Law(NamedTuple):
    """What the start needs to know of the source.

    Attributes:
      offset: what is taken off the samples (d,).
      mean: of the source after that (d,).
      covariance: of the source (d, d).
    """

    offset: Float[Array, " d"]
    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]


def _init(
    key: PRNGKey, marginals: Marginals, phases: Phases, *, plan: Plan, axes: Axes
) -> SolverState:
    """The body of ``init``, for the devices of the axes."""
    mu, y, nu = marginals
    moment_key, start_key, run_key = jax.random.split(key, 3)
    frame = frames.frame(y, nu, axes.targets)
    law = _law(moment_key, mu)
    normal = isolated(Frame.normalise, frame, y)
    of_targets = partial(blockwise.sum_blocks, targets_axis=axes.targets)
    square = of_targets(_weighted_square, (normal, nu))
    spread = isolated(_spread, square, law.mean, law.covariance)

    starting = partial(closed_forms.heights, targets_axis=axes.targets)
    made = [starting(name, normal, nu, law.mean, law.covariance) for name in plan.starts]
    candidates = [centred(h, nu, axes.targets) for h in made]
    h = candidates[0]
    if len(candidates) > 1:
        turned = working_targets(y, frame, run_key, mu, plan)
        near = Marginals(around(mu, law.offset), turned, nu)
        h = _best(start_key, jnp.stack(candidates), near, plan, axes)

    none = jnp.zeros(1, jnp.float32)
    tilt = none if is_centred(mu) else blockwise.map_rows(_tilt, normal, law.offset)[: nu.shape[0]]
    zero = jnp.zeros((), jnp.int32)
    adam_state, method_state = _kept(h, spread, plan=plan)
    return SolverState(
        key=run_key,
        h=h,
        step=zero,
        batches=zero,
        multiplier=zero + 1,
        phases=jax.tree.map(lambda step: zero + step, phases),
        spread=spread,
        adam=adam_state,
        method=method_state,
        average=average.init(h),
        frame=frame,
        source=law.offset,
        tilt=tilt,
    )


def _law(key: PRNGKey, mu: Measure) -> _Law:
    """Mean and covariance of the source, known or from samples."""
    mean, covariance = isolated(moments, key, mu)
    offset = jnp.zeros_like(mean)
    if not is_centred(mu):
        offset = shift.rounded(mean, jnp.sqrt(jnp.max(jnp.diagonal(covariance))))
    return _Law(offset, mean - offset, covariance)


def _best(
    key: PRNGKey, candidates: Float[Array, "c m"], marginals: Marginals, plan: Plan, axes: Axes
) -> Heights:
    """The candidate with the least mass error, seen by the same batch of samples."""

    def residual(h: Heights) -> Float[Array, ""]:
        counts, _ = streams.batch_counts(key, marginals, h, plan.batch, axes)
        return chi_square(counts, marginals.nu, plan.batch.size, axes.targets)[0]

    return candidates[jnp.argmin(jax.lax.map(residual, candidates))]


def _kept(h: Heights, spread: Float[Array, ""], *, plan: Plan) -> tuple[Any, Any]:
    """What the first phase and the method after it keep, before the first step."""
    method = MOVES[plan.method].init(h, spread) if plan.method in MOVES else ()
    return adam.init(h, plan), method


_init_jitted = jax.jit(_init, static_argnames=("plan", "axes"))


def _init_dict(*arguments: Any, **options: Any) -> dict[str, Any]:
    """``_init`` with the state as a dict, whose parts lie differently on a mesh."""
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


def num_start_samples(mu: Measure, plan: Plan) -> int:
    """Samples that ``init`` draws: for the candidates of the start, and for unknown moments."""
    candidates = plan.batch.size if len(plan.starts) > 1 else 0
    return candidates + (0 if mu.variance is not None else MOMENT_SAMPLES)


def working_targets(
    y: Targets, frame: Frame, key: PRNGKey, mu: Measure, plan: Plan
) -> WorkingTargets:
    """Centre and scale targets (m, d), and prepare them for the way of drawing.

    If that turns them, they are filled up to whole blocks of the kernel.

    Args:
      y: targets of this device (m, d).
      frame: of the problem.
      key: of the solve.
      mu: source measure.
      plan: of the solve.
    """
    way = plan.batch.way
    key = jax.random.fold_in(key, _MIXING)

    def prepared(y: Targets, frame: Frame, key: PRNGKey) -> Targets:
        return way.prepared(key, mu, frame.normalise(y))

    if way.turns:
        return blockwise.map_rows(prepared, y, frame, key)
    return isolated(prepared, y, frame, key)

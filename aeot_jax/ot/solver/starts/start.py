r"""The start of a solve: the problem normalised, starting heights chosen, phases planned."""

import math
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, around, is_centred, moments
from aeot_jax.numerics import PRECISION, isolated
from aeot_jax.ot import centring, checks, frames
from aeot_jax.ot.cells import blocks, blockwise, shift
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import ALONE, OF_MARGINALS, SHARDED, Axes, Placement
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import SolverConfig, check_config
from aeot_jax.ot.solver.moves import adam, average, gaps
from aeot_jax.ot.solver.moves.seen import centred
from aeot_jax.ot.solver.moves.table import MOVES
from aeot_jax.ot.solver.plan import Budget, Phases, Plan, Trust
from aeot_jax.ot.solver.starts import closed_forms, tails
from aeot_jax.ot.solver.starts.choice import Judge, best
from aeot_jax.ot.solver.starts.closed_forms import Start
from aeot_jax.ot.solver.starts.known import Known
from aeot_jax.ot.solver.starts.trusting import trusting
from aeot_jax.ot.solver.starts.working import normal_targets, second_moment, turned_targets
from aeot_jax.ot.solver.state import SolverState, partition_specs
from aeot_jax.typing import ArrayLike, Given, Heights, PRNGKey, Targets, Weights

_TAILS, _LOOK, _GAPS = 2**32 - 3, 2**32 - 4, 2**32 - 5
"""What the key of a start is folded with; no stream has these numbers."""


def init(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    axis_name: str | None = None,
    targets_axis: str | None = None,
    *,
    h0: ArrayLike | None = None,
) -> SolverState:
    """State at the start of a solve: problem normalised, starting heights chosen, phases planned.

    Pure and jit-able with ``config`` static. Under jit values cannot be looked at, so NaN targets
    pass, coinciding targets are not merged and far groups are not found: ``solve`` does all three.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions.
      axis_name: a mapped axis over whose devices the samples are sharded; see ``step``.
      targets_axis: a mapped axis over whose devices the targets are sharded; see ``step``.
      h0: heights (m,) to start from, if they miss less mass than those of ``config.start``.

    Raises:
      ValueError: if a shape, a known value or the configuration does not fit.
    """
    key = arguments.key("key", key)
    check_config(config)
    axes = Axes(axis_name, targets_axis)
    marginals, num_targets = checked(mu, y, nu, axes)
    given = h0 is not None
    plan = planning.plan(num_targets, mu, config, given=given)
    budget = planning.budget(num_targets, mu, config, plan)
    known = Known(checks.check_heights(h0, marginals.y, "h0")) if h0 is not None else None
    return begin(key, marginals, plan, budget, known, axes)


def begin(
    key: PRNGKey,
    marginals: Marginals,
    plan: Plan,
    budget: Budget,
    known: Known | None = None,
    axes: Axes = ALONE,
) -> SolverState:
    """``init`` of a problem that is known to be good."""
    return _init_jitted(key, marginals, budget.traced(), known, plan=plan, axes=axes)


def begin_sharded(
    key: PRNGKey,
    marginals: Marginals,
    plan: Plan,
    budget: Budget,
    known: Known | None,
    where: Placement,
) -> SolverState:
    """``begin`` where ``parallel.shard`` has sharded the targets and weights over devices."""
    row = jax.ShapeDtypeStruct(marginals.nu.shape, jnp.float32)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    kept = jax.eval_shape(partial(_kept, plan=plan), row, number)
    vectors = [
        *["tilt"] * (not is_centred(marginals.mu)),
        *["worth"] * _tells_kinds(plan, known),
    ]
    of_state = partition_specs(kept[0], kept[1], row.shape, vectors)
    of_known = Known(SHARDED, SHARDED, P(), P()) if known is not None else P()
    specs = (P(), OF_MARGINALS, P(), of_known), of_state
    arguments = key, marginals, budget.traced(), known
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
    key: PRNGKey,
    marginals: Marginals,
    when: tuple[Phases, Trust],
    known: Known | None,
    *,
    plan: Plan,
    axes: Axes,
) -> SolverState:
    """The body of ``init``, for the devices of the axes."""
    (mu, y, nu), (phases, trust) = marginals, when
    moment_key, start_key, run_key = jax.random.split(key, 3)
    frame = frames.frame(y, nu, axes.targets)
    law = _law(moment_key, mu)
    normal = normal_targets(y, frame, axes.targets)
    spread = _spread(normal, nu, mu, law, axes)

    turned = normal if not plan.batch.way.turns else turned_targets(y, frame, run_key, mu, plan)
    working = Marginals(around(mu, law.offset), turned, nu)
    none = jnp.zeros(1, jnp.float32)
    tilt = none if is_centred(mu) else blockwise.map_rows(_tilt, normal, law.offset)[: nu.shape[0]]
    candidates = _candidates(start_key, normal, working, law, plan, axes)
    if known is not None:
        own = isolated(lambda h, scale, tilt: h / scale + tilt, known.h, frame.scale, tilt)
        candidates.append(centred(own, nu, axes.targets))
    judge = Judge(working, _deviation(normal, nu, mu, law.covariance, axes), trust, plan, axes)
    h, chosen, phases, worth = _chosen(start_key, candidates, judge, phases, known)

    zero = jnp.zeros((), jnp.int32)
    adam_state, method_state = _kept(h, spread, plan=plan)
    state = SolverState(
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
        deviation=judge.deviation,
        worth=worth,
        start=chosen,
    )
    if gaps.are_looked_at(plan):
        gap_key, size = jax.random.fold_in(start_key, _GAPS), gaps.size(plan.batch)
        gap, *_ = gaps.look_at_gaps(gap_key, state, working, size, axes)
        method_state = method_state._replace(gap=isolated(jnp.minimum, gap, spread))
        state = replace(state, method=method_state)
    return state


def _candidates(
    key: PRNGKey, y: Targets | Rows, working: Marginals, law: _Law, plan: Plan, axes: Axes
) -> list[Heights]:
    """Heights of every start of the plan: closed forms from y, tails from the problem of steps."""
    nu, law_of_x = working.nu, (law.mean, law.covariance)

    @cache  # for those that need them
    def of_targets() -> closed_forms.Moments:
        return closed_forms.moments(y, nu, axes.targets)

    def starting(name: Start) -> Heights:
        if name == "tails":
            tail_key, size = jax.random.fold_in(key, _TAILS), plan.start_round
            return tails.heights(tail_key, working, *law_of_x, size, targets_axis=axes.targets)
        if name == "zero":
            return centred(jnp.zeros_like(nu), nu, axes.targets)
        form = closed_forms.heights(name, y, nu, of_targets(), *law_of_x)
        return centred(form, nu, axes.targets)

    return [starting(name) for name in plan.starts]


def _chosen(
    key: PRNGKey, candidates: list[Heights], judge: Judge, phases: Phases, known: Known | None
) -> tuple[Heights, Int[Array, ""], Phases, Float[Array, " w"]]:
    """The candidate that misses least, its number, and what follows from how near it is."""
    chosen, plan = jnp.zeros((), jnp.int32), judge.plan
    if len(candidates) > 1:
        chosen = best(key, jnp.stack(candidates), judge)
    h = jnp.stack(candidates)[chosen]
    if not planning.looks_at_start(plan):
        return h, chosen, phases, jnp.zeros(1, jnp.float32)
    if known is not None and known.new is not None:
        of_its_own = chosen < len(plan.starts)
        known = known._replace(new=jnp.where(of_its_own, jnp.float32(1), known.new))
    return h, chosen, *trusting(jax.random.fold_in(key, _LOOK), h, judge, phases, known)


def _law(key: PRNGKey, mu: Measure) -> _Law:
    """Mean and covariance of the source, known or from samples."""
    mean, covariance = isolated(moments, key, mu)
    offset = jnp.zeros_like(mean)
    if not is_centred(mu):
        offset = shift.rounded(mean, jnp.sqrt(jnp.max(jnp.diagonal(covariance))))
    return _Law(offset, mean - offset, covariance)


def _deviation(
    y: Targets | Rows, nu: Weights, mu: Measure, covariance: Float[Array, "d d"], axes: Axes
) -> Float[Array, " m"]:
    """Standard deviation of every target's score over the mean one."""

    def deviation(y: Targets, covariance: Float[Array, "d d"]) -> Float[Array, " n"]:
        # A product with a multiple of the unit matrix rounds no more than this.
        known = mu.variance is not None
        own = covariance[0, 0] * y if known else jnp.matmul(y, covariance, precision=PRECISION)
        return jnp.sqrt(jnp.maximum((own * y).sum(1), 0.0))

    def weighted(own: Float[Array, " n"], nu: Weights) -> Float[Array, ""]:
        return (own * nu).sum()

    own = blockwise.map_rows(deviation, y, covariance)[: nu.shape[0]]
    mean = blockwise.sum_blocks(weighted, (own, nu), targets_axis=axes.targets)
    return isolated(jnp.divide, own, jnp.maximum(mean, jnp.finfo(jnp.float32).tiny))


def _kept(h: Heights, spread: Float[Array, ""], *, plan: Plan) -> tuple[Any, Any]:
    """What the first phase and the method after it keep, before the first step."""
    method = MOVES[plan.method].init(h, spread) if plan.method in MOVES else ()
    return adam.init(h, plan), method


def _tells_kinds(plan: Plan, known: Known | None) -> bool:
    """Whether heights to start from are worth more at some targets than at others."""
    return known is not None and known.new is not None and planning.looks_at_start(plan)


_init_jitted = jax.jit(_init, static_argnames=("plan", "axes"))


def _init_dict(*arguments: Any, **options: Any) -> dict[str, Any]:
    """``_init`` with the state as a dict, whose parts lie differently on a mesh."""
    return _init(*arguments, **options).as_dict()


def _tilt(y: Targets, source: Float[Array, " d"]) -> Heights:
    return jnp.matmul(y, source, precision=PRECISION)


def _spread(y: Targets | Rows, nu: Weights, mu: Measure, law: _Law, axes: Axes) -> Float[Array, ""]:
    """Standard deviation over targets of <x, y_i>."""
    if isinstance(y, Rows) and mu.variance is not None:  # many: m d additions, not m d^2

        def squares(y: Rows, nu: Weights) -> Float[Array, ""]:
            return ((blocks.whole(y) ** 2).sum(1) * nu).sum()

        square = blockwise.sum_blocks(squares, (y, nu), targets_axis=axes.targets)
        return isolated(lambda square: jnp.sqrt(jnp.float32(mu.variance) * square), square)

    def spread(
        square: Float[Array, "d d"], mean: Float[Array, " d"], covariance: Float[Array, "d d"]
    ) -> Float[Array, ""]:
        return jnp.sqrt(((covariance + jnp.outer(mean, mean)) * square).sum())

    square = second_moment(y, nu, axes.targets)
    return isolated(spread, square, law.mean, law.covariance)


def num_check_samples(plan: Plan, trust: Trust) -> int:
    """Samples by which ``init`` compares the candidates, measures the best and sees its gaps."""
    compared = int(len(plan.starts) > 1) + plan.given * int(trust.num_batches)
    looked = planning.looks_at_start(plan) * int(trust.num_batches)
    own = math.prod(gaps.size(plan.batch)) if gaps.are_looked_at(plan) else 0
    return plan.batch.size * (compared + looked) + own

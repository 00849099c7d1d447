r"""Heights by stochastic convex minimisation of the semi-dual energy: the step, and no host.

One step draws fresh samples (``counts/ways``), counts them in the cells (``counts/streams.py``) and
moves the heights against :math:`\hat w - \nu` (``moves``): Adam forgets the start, stochastic
Newton falls like the sampling limit, and in few dimensions the answer is the mean of the last
heights. Neither has a rate to tune, because targets are centred and scaled inside
(``starts/start.py``) and each rate is tied to a measured scale of the scores. Every sum over
targets has the same bits on any number of devices (``cells/blockwise.py``).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, around
from aeot_jax.numerics import choose, isolated, repeat
from aeot_jax.ot.cells.blocks import as_rows
from aeot_jax.ot.counts import streams
from aeot_jax.ot.counts.chi_square import chi_square, chi_square_between
from aeot_jax.ot.counts.ways.table import INDEPENDENT
from aeot_jax.ot.counts.ways.way import Draws
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import OF_MARGINALS, Axes, Placement
from aeot_jax.ot.frames import Frame
from aeot_jax.ot.lists.learn import Learned, learned
from aeot_jax.ot.lists.lists import Lists
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import SolverConfig, check_config, refuse_unheeded
from aeot_jax.ot.solver.moves import adam, average, newton
from aeot_jax.ot.solver.moves.seen import Seen, centred
from aeot_jax.ot.solver.moves.table import MOVES
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.starts.start import checked
from aeot_jax.ot.solver.starts.working import working_targets
from aeot_jax.ot.solver.state import SolverState, partition_specs
from aeot_jax.typing import ArrayLike, Counts, Given, Heights

_LOOK = 2**32 - 2
"""What the key of a solve is folded with to look; no step has this number."""

_LEARN = 2**32 - 5
"""The same, for lists to learn."""

_MOVED = "h", "adam", "method", "multiplier"
"""Fields of a state that a way of moving the heights may change."""

_LOOK_BATCHES = 8
"""Batches of a look."""


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
    refuse_unheeded("step", config)
    axes = Axes(axis_name, targets_axis)
    marginals, num_targets = checked(mu, y, nu, axes)
    plan = planning.plan(num_targets, mu, config)
    return _step(state, _working(state, marginals, plan, axes), plan, axes)[0]


@jax.jit
def heights(state: SolverState) -> Heights:
    """``state.heights`` as one program."""
    return state.heights


def num_own_samples(state: SolverState, plan: Plan) -> Int[Array, "*batch"]:
    """How many samples the method has drawn itself, for anything but the counts."""
    if plan.method not in MOVES:
        return jnp.zeros_like(state.step)
    return MOVES[plan.method].num_samples(state.method)


def run_steps(
    state: SolverState,
    marginals: Marginals,
    plan: Plan,
    where: Placement,
    num_steps: int,
    lists: Lists | None = None,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """Some steps in one call; their number is traced, so any number costs one compilation.

    Args:
      state: before the steps.
      marginals: source, targets and weights.
      plan: of the solve.
      where: devices over which samples and targets are sharded.
      num_steps: how many.
      lists: of the targets, of which ``plan.batch.probes`` are looked at; from ``learn``.

    Returns:
      The state, and an unbiased estimate of chi^2 with its standard error. It is the average over
      the heights that the steps met, each of which saw samples that are fresh for it. Sobol
      points are not independent, so their counts give no unbiased estimate: there independent
      samples are drawn at the current answer instead.
    """
    vectors = [name for name in ("tilt", "worth") if getattr(state, name).shape == state.h.shape]
    of_state = partition_specs(state.adam, state.method, state.h.shape, vectors)
    specs = (of_state, OF_MARGINALS, P(), P()), (of_state, P(), P())
    arguments = state.as_dict(), marginals, np.int32(num_steps), lists
    moved, *chi2 = parallel.run(where, _advance_dict, *arguments, specs=specs, plan=plan.of_steps)
    return SolverState(**moved), *chi2


def _advance_dict(
    state: dict[str, Any],
    marginals: Marginals,
    num_steps: Int[Array, ""],
    lists: Lists | None,
    *,
    plan: Plan,
    axes: Axes,
) -> tuple[dict[str, Any], Float[Array, ""], Float[Array, ""]]:
    """``advance`` of a state as a dict, whose parts lie differently on a mesh."""
    moved, chi2, chi2_se = advance(SolverState(**state), marginals, plan, axes, num_steps, lists)
    return moved.as_dict(), chi2, chi2_se


def advance(
    state: SolverState,
    marginals: Marginals,
    plan: Plan,
    axes: Axes,
    num_steps: Int[Array, ""] | int,
    lists: Lists | None = None,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """The loop of all solves: some steps on the devices of the axes, and chi^2 with its error.

    Args:
      state: before the steps.
      marginals: source, targets and weights of this device.
      plan: of the solve.
      axes: over which samples and targets are sharded.
      num_steps: may be traced.
      lists: as for ``run_steps``.

    Returns:
      As ``run_steps``.
    """
    working = _working(state, marginals, plan, axes)
    if lists is not None:
        working = _listed(working, lists, state.frame)

    def body(_: Int[Array, ""], carry: tuple) -> tuple:
        state, total, variance = carry
        multiplier = state.multiplier
        state, counts, within = _step(state, working, plan, axes)
        number = plan.batch.size * multiplier
        chi2, chi2_se = chi_square_between(
            counts, within, marginals.nu, number, multiplier, axes.targets
        )
        return state, total + chi2, variance + chi2_se**2

    carry = (state, jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
    state, total, variance = repeat(num_steps, body, carry)
    if num_look_samples(plan):
        return state, *_look(state, working, plan, axes)
    steps = jnp.asarray(num_steps, jnp.float32)
    return state, total / steps, jnp.sqrt(variance) / steps


def _working(state: SolverState, marginals: Marginals, plan: Plan, axes: Axes) -> Marginals:
    """The problem as the steps see it: centred, scaled and prepared for the way of drawing."""
    y = working_targets(marginals.y, state.frame, state.key, marginals.mu, plan, axes.targets)
    return Marginals(around(marginals.mu, state.source), y, marginals.nu)


def _listed(working: Marginals, lists: Lists, frame: Frame) -> Marginals:
    """The problem as the steps see it, with lists of its targets."""
    own = lists._replace(slopes=frame.normalise(lists.slopes))
    return working._replace(y=as_rows(working.y)._replace(lists=own))


def learn(
    state: SolverState, marginals: Marginals, plan: Plan, where: Placement, lists: Lists
) -> Learned:
    """New planes of lists, for the heights of a state; see ``lists/learn.py``.

    Args:
      state: after some steps.
      marginals: source, targets and weights.
      plan: of the solve.
      where: devices over which samples are sharded; each learns from all samples.
      lists: slopes in the user's units, offsets in those of the state; likewise the result.
    """
    return parallel.run(where, _learn, state.as_dict(), marginals, lists, plan=plan)


def _learn(
    state: dict[str, Any], marginals: Marginals, lists: Lists, *, plan: Plan, axes: Axes
) -> Learned:
    now = SolverState(**state)
    working = _listed(_working(now, marginals, plan, axes), lists, now.frame)
    key = jax.random.fold_in(jax.random.fold_in(now.key, _LEARN), now.step)
    found = learned(key, working.mu, working.y, now.h, working.y.lists)
    return found._replace(lists=found.lists._replace(slopes=lists.slopes))


def num_look_samples(plan: Plan) -> int:
    """Samples that ``run_steps`` draws beside those of its steps."""
    return 0 if plan.batch.way.independent else _LOOK_BATCHES * plan.batch.size


def _look(
    state: SolverState, working: Marginals, plan: Plan, axes: Axes
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """chi^2 of the answer so far, with its standard error."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, _LOOK), state.step)
    batch = plan.batch._replace(way=INDEPENDENT)
    draws = Draws(batch, axes)
    counts, _ = streams.draw_counts(key, working, state.answer, _LOOK_BATCHES, draws=draws)
    return chi_square(counts, working.nu, _LOOK_BATCHES * batch.size, axes.targets)


def _step(
    state: SolverState, working: Marginals, plan: Plan, axes: Axes
) -> tuple[SolverState, Counts, Float[Array, " s"]]:
    """One step on a working problem; also the counts that it saw and their scatter by stream."""
    key = jax.random.fold_in(state.key, state.step)
    batch_key, own_key = jax.random.split(key)
    num_batches = 1 if plan.plateau_steps is None else state.multiplier
    draw, draws = (batch_key, working, state.h, num_batches), Draws(plan.batch, axes)
    shared = None
    if plan.shares:
        counts, shared, within = streams.draw_shared(*draw, newton.scale(state, plan), draws=draws)
    else:
        counts, within = streams.draw_counts(*draw, draws=draws)
    num_samples = (plan.batch.size * state.multiplier).astype(jnp.float32)
    seen = Seen(counts, num_samples, own_key, shared)
    # The counts are integers and the same in every placement; so that the heights are, too, no
    # placement's program may fuse this arithmetic with anything of its own.
    state = isolated(partial(updated, plan=plan, axes=axes), state, seen, working)
    return state, counts, within


def updated(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> SolverState:
    """The state after a step that saw these counts.

    Args:
      state: before it.
      seen: its counts.
      marginals: source, targets and weights, centred and scaled.
      plan: of the solve.
      axes: over which samples and targets are sharded.
    """
    state = replace(state, batches=state.batches + state.multiplier)

    def moved(
        update: Callable[..., SolverState], state: SolverState, seen: Seen, marginals: Marginals
    ) -> dict[str, Any]:
        after = update(state, seen, marginals, plan, axes)
        return {name: getattr(after, name) for name in _MOVED}

    first = partial(moved, adam.update)
    if plan.method in MOVES:
        second = partial(moved, MOVES[plan.method].update)
        is_first = state.step < state.phases.adam_until
        changes = choose(is_first, first, second, state, seen, marginals)
    else:
        changes = first(state, seen, marginals)
    state = replace(state, **changes)
    h, now = centred(state.h, marginals.nu, axes.targets), state.step + 1
    mean = average.updated(state.average, h, now, state.phases.average_from)
    return replace(state, h=h, step=now, average=mean)

r"""The first phase: an optax optimiser, Adam by default, on the gradient of the energy.

Its rate is in units of the *spread* of the scores, the standard deviation over targets of <x, y_i>,
so that one rate serves every data set. It forgets the start. Under ``method="adam"`` it is all.

Where clusters lie far apart, nearly all of the spread is between them, and steps of that size would
empty most cells inside. Before Newton steps, the unit is therefore at most 64 mean gaps between the
best and the second score at the start. Then the start says what the clusters weigh together.

Source: Lei et al., Engineering 6(3), 2020, section 3 (energy, Adam, doubling of the samples).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import isolated, usual_dtypes
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves import gaps
from aeot_jax.ot.solver.moves.seen import Seen
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Counts, Heights, Weights

_LAST_RATE = 0.1
"""Rate at the end of the phase, as a part of the first rate."""

_MOST_GAPS = 64.0
"""Mean gaps that the unit of the rate may be. Without clusters that lie far apart a spread is less;
with 32, clusters 30 widths apart took up to ten times the samples."""

_MOST_BATCHES = 1024
"""Batches of a step, at most: the doublings end there."""

_DOUBLING_RATE = 0.8
"""Factor of the rate at a doubling of the samples (published value)."""


class AdamState(NamedTuple):
    """What the first phase keeps.

    Attributes:
      optimizer_state: of optax.
      best: least norm of the residual so far, for the doubling on a plateau.
      stalled: steps since then.
    """

    optimizer_state: Any
    best: Float[Array, "*batch"]
    stalled: Int[Array, "*batch"]


def optimizer(
    own: optax.GradientTransformation | None, learning_rate: float
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of the phase: the user's own, or Adam."""
    return optax.with_extra_args_support(own or optax.adam(learning_rate))


def init(h: Heights, plan: Plan) -> AdamState:
    """Before the first step from these heights (m,)."""
    with usual_dtypes():
        optimizer_state = optimizer(plan.optimizer, plan.learning_rate).init(jnp.zeros_like(h))
    best = jnp.full((), jnp.finfo(jnp.float32).max, jnp.float32)
    return AdamState(optimizer_state, best, jnp.zeros((), jnp.int32))


def update(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> SolverState:
    """One step along the gradient."""
    nu = marginals.nu
    # Both the optimiser and the norm read the gradient: it is rounded once for both.
    gradient = isolated(_residual, seen.counts, nu, seen.num_samples)
    known = jnp.where(nu > 0, state.h, 0.0)
    with usual_dtypes():
        rule = optimizer(plan.optimizer, plan.learning_rate)
        moves, optimizer_state = rule.update(gradient, state.adam.optimizer_state, known)
    unit = state.spread if plan.in_spreads else 1 / state.frame.scale
    if gaps.are_looked_at(plan):
        gap = state.method.gap  # 0 where all targets have copies
        unit = jnp.where(gap > 0, jnp.minimum(unit, _MOST_GAPS * gap), unit)
    rate = unit * _rate(state, plan)
    h = state.h + rate * jnp.where(nu > 0, jnp.asarray(moves, jnp.float32), 0.0)
    adam = state.adam._replace(optimizer_state=optimizer_state)
    state = replace(state, h=h, adam=adam)
    return _double_on_plateau(state, gradient, plan.plateau_steps, axes.targets)


def _residual(counts: Counts, nu: Weights, num_samples: Float[Array, ""]) -> Weights:
    """Gradient of the energy, as seen."""
    return jnp.where(nu > 0, counts.astype(jnp.float32) / num_samples - nu, 0.0)


def _rate(state: SolverState, plan: Plan) -> Float[Array, ""]:
    """Factor of the rate: a cosine from 1 to a tenth, then 1/t; constant if paper's.

    With doubling on plateaus the doublings lower the rate instead, as published.
    """
    if plan.plateau_steps is not None:
        doublings = jnp.log2(state.multiplier.astype(jnp.float32))
        return _DOUBLING_RATE**doublings
    begin, end = state.phases.begin, state.phases.adam_until
    horizon = jnp.maximum(end - begin, 1).astype(jnp.float32)
    part = (state.step - begin).astype(jnp.float32) / horizon
    cosine = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(part, 1.0)))
    return cosine / jnp.maximum(part, 1.0)


def _double_on_plateau(
    state: SolverState, gradient: Heights, plateau_steps: int | None, targets_axis: str | None
) -> SolverState:
    """Double the batches of a step once the residual has stopped falling (published rule)."""
    if plateau_steps is None:
        return state
    square = blockwise.sum_blocks(lambda g: (g * g).sum(), (gradient,), targets_axis=targets_axis)
    norm = jnp.sqrt(square)
    better = norm < state.adam.best
    stalled = jnp.where(better, 0, state.adam.stalled + 1)
    double = stalled >= plateau_steps
    more = jnp.minimum(2 * state.multiplier, _MOST_BATCHES)
    adam = state.adam._replace(
        best=jnp.where(better, norm, state.adam.best), stalled=jnp.where(double, 0, stalled)
    )
    return replace(state, adam=adam, multiplier=jnp.where(double, more, state.multiplier))


def check_elementwise(optimizer: optax.GradientTransformationExtraArgs) -> None:
    """Refuse an optimiser that looks at all targets at once, where no device sees them all.

    Raises:
      ValueError: if half of a vector moves otherwise by itself than with its other half.
    """

    def moved(gradients: np.ndarray) -> list[float]:
        """Moves of the first two targets."""
        h = jnp.zeros(gradients.shape[1:], jnp.float32)
        with usual_dtypes():
            state = optimizer.init(h)
            for gradient in gradients:
                move, state = optimizer.update(jnp.asarray(gradient), state, h)
                h = h + jnp.asarray(move)
        return np.asarray(h[:2]).tolist()

    rows = [1e3, -2e3, 3e-3, 4e4], [-5e-2, 6e2, -7e3, 8], [9e-3, 1e-3, 2e3, -3e3]
    gradients = np.array(rows, np.float32)
    if not np.allclose(moved(gradients), moved(gradients[:, :2]), rtol=1e-5, atol=0):
        raise ValueError(
            "`optimizer` moves one height by what it sees of others, but `target_shards` shards "
            "the targets; choose an optimiser that works element by element, or 1 shard."
        )

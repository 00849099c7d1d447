r"""What one step makes of the counts that it saw: Adam, then stochastic Newton, then the average.

Two phases follow each other, neither with a rate to tune, because targets are centred and scaled
inside and each rate is tied to a measured scale of the scores:

1. **Adam** (the published algorithm's optimiser; any optax transformation may take its place) at a
   rate in units of the *spread* of the scores, the standard deviation over targets of <x, y_i>.
   It forgets the start.
2. **Stochastic Newton.** Near the optimum the winner among many scores behaves like a multinomial
   logit, whose Hessian is close to :math:`diag(\nu) / b` with b the mean gap between the best and
   the second score (for scores with a Gumbel tail the mean gap is the scale of the tail). In any
   dimension it is the Jacobi preconditioner of the true Hessian, a graph Laplacian over faces.
   The classical 1/t Newton step then needs no rate,

   .. math:: h_i \leftarrow h_i - b\,\gamma\,(\hat w_i / \nu_i - 1), \qquad
             \gamma = \frac{a\,(n/m)}{t_0}\,(1 + \tau / t_0)^{-p} \le g,

   with :math:`\tau` the samples per target drawn so far in this phase, a = 1.2,
   t_0 = 4, p = 1 and g = 1.
   Its error falls like the sampling limit :math:`\sqrt{m / n}`: with p = 1 an error of the heights
   along an eigenvector of the preconditioned Hessian with eigenvalue l shrinks like
   :math:`\tau^{-a l}`, and any a l > 1/2 leaves the noise of the samples in charge.

   In up to three dimensions cells have few neighbours and the Laplacian has eigenvalues near 0,
   modes that 1/t steps never reach. There a = 12, t_0 = 6, p = 2/3, g = 1/2, and the answer is the
   mean of the last heights, which is as good as with the exact Hessian, whatever it is (Polyak and
   Juditsky 1992).

Every sum over targets has the same bits on any number of devices (``blockwise.py``).

Sources: Lei et al., Engineering 6(3), 2020, section 3 (energy, Adam, doubling of the samples);
Robbins and Monro 1951 and Chung 1954 for the 1/t step; Train 2009, chapter 3, for the logit.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import isolated, safe_ratio, usual_dtypes
from aeot_jax.ot.cells import blockwise, power
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.ot.solver.config import FEW_DIMS, SolverConfig
from aeot_jax.ot.solver.plan import Phases
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Counts, Heights, PRNGKey, Targets, Weights, WorkingTargets


class _Gain(NamedTuple):
    """Gain of the Newton steps; see the module's docstring for its letters."""

    rate: float
    delay: float
    power: float
    most: float


_GAIN = _Gain(rate=1.2, delay=4.0, power=1.0, most=1.0)
"""Classical steps (measured: rates of 1.2 to 1.5 and delays of 4 to 6 differ by a tenth)."""

_GAIN_IN_FEW_DIMS = _Gain(rate=12.0, delay=6.0, power=2 / 3, most=0.5)
"""Long steps, to be averaged; the preconditioned Laplacian has eigenvalues up to 2."""

_NEWTON_CLIP = 4.0
"""Largest move of one height in a Newton step, in gaps: an empty cell's linear model ends there."""

_GAP_EVERY = 32
"""Steps between two estimates of the gap."""

GAP_SAMPLES = 128
"""Samples of such an estimate; its relative error is about 9 %."""

_LAST_RATE = 0.1
"""Rate of the first optimiser at the end of its phase, as a part of the first rate."""

_MOST_BATCHES = 1024
"""Batches of a step, at most: the doublings end there."""

_DOUBLING_RATE = 0.8
"""Factor of the rate at a doubling of the samples (published value)."""


def updated(
    state: SolverState,
    counts: Counts,
    gap_key: PRNGKey,
    mu: Measure,
    y: WorkingTargets,
    nu: Weights,
    *,
    config: SolverConfig,
    per_stream: int,
    targets_axis: str | None,
) -> SolverState:
    """The state after a step that saw these counts.

    Args:
      state: before it.
      counts: of all samples of the step (m,).
      gap_key: key of the samples that estimate the gap.
      mu: source measure.
      y: targets, centred and scaled (m, d); rows from m on own no cell.
      nu: weights (m,).
      config: the user's decisions.
      per_stream: samples of each logical stream in a batch.
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    batch = per_stream * NUM_STREAMS
    num_samples = (batch * state.multiplier).astype(jnp.float32)

    def first_phase(state: SolverState) -> SolverState:
        # Both the optimiser and the norm read the gradient: it is rounded once for both.
        gradient = isolated(_residual, counts, nu, num_samples)
        known = jnp.where(nu > 0, state.h, 0.0)
        with usual_dtypes():
            moves, optimizer_state = optax.with_extra_args_support(optimizer(config)).update(
                gradient, state.optimizer_state, known
            )
        unit = state.spread if config.rate_unit == "spread" else 1 / state.frame.scale
        rate = unit * _rate(state, config)
        h = state.h + rate * jnp.where(nu > 0, jnp.asarray(moves, jnp.float32), 0.0)
        state = replace(state, h=h, optimizer_state=optimizer_state)
        return _double_on_plateau(state, gradient, config.plateau_steps, targets_axis)

    def newton_phase(state: SolverState) -> SolverState:
        look = (state.step - state.phase_steps) % _GAP_EVERY == 0

        def measured() -> Float[Array, ""]:
            return _mean_gap(gap_key, mu, y, nu, state, targets_axis)

        gap = jax.lax.cond(look, measured, lambda: state.gap)
        gain = _GAIN_IN_FEW_DIMS if mu.dim <= FEW_DIMS else _GAIN
        per_target = batch / blockwise.count(nu > 0, targets_axis).astype(jnp.float32)
        drawn = (state.step - state.phase_steps).astype(jnp.float32) * per_target
        size = gain.rate * per_target / gain.delay * (1 + drawn / gain.delay) ** -gain.power
        seen = counts.astype(jnp.float32) / num_samples
        relative = jnp.where(nu > 0, safe_ratio(seen, nu) - 1, 0.0)
        move = jnp.clip(jnp.minimum(size, gain.most) * relative, -_NEWTON_CLIP, _NEWTON_CLIP)
        gap_draws = state.gap_draws + look.astype(jnp.int32)
        return replace(state, h=state.h - gap * move, gap=gap, gap_draws=gap_draws)

    state = replace(state, batches=state.batches + state.multiplier)
    if config.method == "adam":
        state = first_phase(state)
    else:
        state = jax.lax.cond(state.step < state.phase_steps, first_phase, newton_phase, state)
    state = replace(state, h=centred(state.h, nu, targets_axis), step=state.step + 1)
    return _averaged(state)


def planned_anew(state: SolverState, phases: Phases) -> SolverState:
    """Begin both phases again, from the answer so far and for so many steps; on the host.

    For a solve that averages: its long steps have become short, and would never repair an answer
    that is far off. The numbers come from NumPy, so that this compiles nothing.
    """
    if not int(state.averaged):
        return state
    now = int(state.step)

    def at(step: int) -> Int[Array, ""]:
        return jnp.asarray(np.int32(now + step))

    return replace(
        state,
        h=state.average,
        phase_from=at(0),
        phase_steps=at(phases.phase_steps),
        average_from=at(phases.average_from),
        averaged=jnp.asarray(np.int32(0)),
    )


def optimizer(config: SolverConfig) -> optax.GradientTransformation:
    """The optimiser of the first phase."""
    return config.optimizer or optax.adam(config.learning_rate)


def check_elementwise(optimizer: optax.GradientTransformation) -> None:
    """Refuse an optimiser that looks at all targets at once, where no device sees them all.

    Raises:
      ValueError: if half of a vector moves otherwise by itself than with its other half.
    """
    optimizer = optax.with_extra_args_support(optimizer)

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


def centred(h: Heights, nu: Weights, targets_axis: str | None) -> Heights:
    """Heights whose weighted mean over active targets is 0, and -inf elsewhere."""

    def weighted(h: Heights, nu: Weights) -> Float[Array, ""]:
        return jnp.where(nu > 0, nu * h, 0.0).sum()

    mean = blockwise.sum_blocks(weighted, (h, nu), targets_axis=targets_axis)
    return jnp.where(nu > 0, h - mean, -jnp.inf)


def _residual(counts: Counts, nu: Weights, num_samples: Float[Array, ""]) -> Weights:
    """Gradient of the energy, as seen."""
    return jnp.where(nu > 0, counts.astype(jnp.float32) / num_samples - nu, 0.0)


def _averaged(state: SolverState) -> SolverState:
    """Take the heights into the average, once its time has come."""
    averaged = state.averaged + (state.step > state.average_from).astype(jnp.int32)
    finite = jnp.isfinite(state.h)
    number = jnp.maximum(averaged, 1).astype(jnp.float32)
    change = jnp.where(finite, state.h - state.average, 0.0) / number
    average = jnp.where(
        finite, state.average + change * (averaged > 0).astype(jnp.float32), state.h
    )
    return replace(state, average=average, averaged=averaged)


def _rate(state: SolverState, config: SolverConfig) -> Float[Array, ""]:
    """Factor of the first phase's rate: a cosine from 1 to a tenth, then 1/t; constant if paper's.

    With doubling on plateaus the doublings lower the rate instead, as published.
    """
    if config.plateau_steps is not None:
        doublings = jnp.log2(state.multiplier.astype(jnp.float32))
        return _DOUBLING_RATE**doublings
    horizon = jnp.maximum(state.phase_steps - state.phase_from, 1).astype(jnp.float32)
    part = (state.step - state.phase_from).astype(jnp.float32) / horizon
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
    better = norm < state.best
    stalled = jnp.where(better, 0, state.stalled + 1)
    double = stalled >= plateau_steps
    return replace(
        state,
        best=jnp.where(better, norm, state.best),
        stalled=jnp.where(double, 0, stalled),
        multiplier=jnp.where(
            double, jnp.minimum(2 * state.multiplier, _MOST_BATCHES), state.multiplier
        ),
    )


def _mean_gap(
    key: PRNGKey,
    mu: Measure,
    y: WorkingTargets,
    nu: Weights,
    state: SolverState,
    targets_axis: str | None,
) -> Float[Array, ""]:
    """Mean gap between the best and the second score; the spread where there is no second."""
    x = draw(key, mu, GAP_SAMPLES)

    def two_best(y: Targets, h: Heights, nu: Weights, x: Array) -> Float[Array, "n 2"]:
        return power.highest(x, y, jnp.where(nu > 0, h, -jnp.inf), 2)[0]

    of_blocks = blockwise.map_blocks(two_best, (y, state.h, nu), x, targets_axis=targets_axis)

    def gap(spread: Float[Array, ""], of_blocks: Float[Array, "b n 2"]) -> Float[Array, ""]:
        scores = jnp.swapaxes(of_blocks, 0, 1).reshape(GAP_SAMPLES, -1)
        two = jax.lax.top_k(scores, 2)[0]
        return jnp.minimum((two[:, 0] - two[:, 1]).mean(), spread)

    of_blocks = blockwise.gather_blocks(of_blocks, targets_axis)
    return isolated(gap, state.spread, of_blocks)

r"""Heights by stochastic convex minimisation of the semi-dual energy: state, step, and no host.

One step draws fresh samples, counts them in the cells and moves the heights along
:math:`\hat w - \nu`. Two phases follow each other, neither with a rate to tune, because targets
are centred and scaled inside and each rate is tied to a measured scale of the scores:

1. **Adam** (the published algorithm's optimiser; any optax transformation may take its place) at a
   rate in units of the *spread* of the scores, the standard deviation over targets of <x, y_i>.
   It forgets the start.
2. **Stochastic Newton.** Near the optimum the winner among many scores behaves like a multinomial
   logit, whose Hessian is close to :math:`diag(\nu) / b` with b the mean gap between the best and
   the second score (for scores with a Gumbel tail the mean gap is the scale of the tail). In any
   dimension it is the Jacobi preconditioner of the true Hessian, a graph Laplacian over faces.
   The classical 1/t Newton step then needs no rate,

   .. math:: h_i \leftarrow h_i - b\,\gamma\,(\hat w_i / \nu_i - 1), \qquad
             \gamma = \frac{1.5\,(n/m)}{6 + \tau},

   with :math:`\tau` the samples per target drawn so far in this phase, and its error falls like
   the sampling limit :math:`\sqrt{m / n}`.

Sources: Lei et al., Engineering 6(3), 2020, section 3 (energy, Adam, doubling of the samples);
Robbins and Monro 1951 and Chung 1954 for the 1/t step; Train 2009, chapter 3, for the logit.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.measures import MOMENT_SAMPLES, Measure, moments
from aeot_jax.numerics import PRECISION, safe_ratio
from aeot_jax.ot import estimate, power, problem, warmstart
from aeot_jax.ot.config import Plan, SolverConfig, plan, samples_per_stream
from aeot_jax.ot.estimate import NUM_STREAMS
from aeot_jax.typing import Counts, Heights, PRNGKey, Targets, Weights

_NEWTON_RATE = 1.5
"""Above 1/2 the 1/t step forgets its start; the excess pays for an inexact Hessian (measured)."""

_NEWTON_DELAY = 6.0
"""Samples per target before the 1/t decay sets in."""

_NEWTON_CLIP = 4.0
"""Largest move of one height in a Newton step, in gaps: an empty cell's linear model ends there."""

_GAP_EVERY = 32
"""Steps between two estimates of the gap."""

_GAP_SAMPLES = 128
"""Samples of such an estimate; its relative error is about 9 %."""

_LAST_RATE = 0.1
"""Rate of the first optimiser at the end of its phase, as a part of the first rate."""

_MOST_BATCHES = 1024
"""Batches of a step, at most: the doublings end there."""

_DOUBLING_RATE = 0.8
"""Factor of the rate at a doubling of the samples (published value)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SolverState:
    """All that one step needs; arrays only.

    Attributes:
      key: key of the whole solve; step t draws with ``fold_in(key, t)``.
      h: heights of the normalised targets (m,), their weighted mean 0; -inf where the weight is 0.
      optimizer_state: of the first phase.
      step: steps taken.
      batches: batches drawn by them.
      multiplier: batches of the next step.
      phase_steps: steps of the first phase, the horizon of its rate.
      gap: mean gap between the best and the second score.
      gap_draws: estimates of it so far.
      spread: standard deviation over targets of <x, y_i>.
      best: least residual norm so far, for the doubling on a plateau.
      stalled: steps since then.
      frame: centre and scale of the targets.
    """

    key: Array
    h: Float[Array, "*batch m"]
    optimizer_state: Any
    step: Int[Array, "*batch"]
    batches: Int[Array, "*batch"]
    multiplier: Int[Array, "*batch"]
    phase_steps: Int[Array, "*batch"]
    gap: Float[Array, "*batch"]
    gap_draws: Int[Array, "*batch"]
    spread: Float[Array, "*batch"]
    best: Float[Array, "*batch"]
    stalled: Int[Array, "*batch"]
    frame: problem.Frame

    @property
    def heights(self) -> Float[Array, "*batch m"]:
        """Heights of the targets as the user gave them (m,)."""
        return self.h * self.frame.scale[..., None]


def init(
    key: PRNGKey,
    mu: Measure,
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: SolverConfig = SolverConfig(),  # noqa: B008 - frozen
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

    Raises:
      ValueError: if a shape, a known value or the configuration does not fit.
    """
    targets = problem.check_targets(y)
    weights = problem.check_weights(nu, targets)
    problem.check_measure(mu, targets)
    return _init(key, mu, targets, weights, config, plan(targets.shape[0], config))


@partial(jax.jit, static_argnames=("config", "sizes"))
def _init(
    key: PRNGKey, mu: Measure, y: Targets, nu: Weights, config: SolverConfig, sizes: Plan
) -> SolverState:
    moment_key, start_key, run_key = jax.random.split(key, 3)
    frame = problem.frame(y, nu)
    y = frame.normalise(y)
    mean, covariance = moments(moment_key, mu)
    second_moment = covariance + jnp.outer(mean, mean)
    of_targets = jnp.matmul((y * nu[:, None]).T, y, precision=PRECISION)
    spread = jnp.sqrt((second_moment * of_targets).sum())

    names = warmstart.NAMES if config.start == "auto" else (config.start,)
    candidates = [_centred(warmstart.heights(name, y, nu, mean, covariance), nu) for name in names]
    h = candidates[0]
    if len(candidates) > 1:

        def residual(h: Heights) -> Float[Array, ""]:
            counts = estimate.batch_counts(start_key, mu, y, h, sizes.samples_per_stream)
            return estimate.chi_square(counts, nu, sizes.batch)[0]

        stacked = jnp.stack(candidates)
        h = stacked[jnp.argmin(jax.lax.map(residual, stacked))]

    zero = jnp.zeros((), jnp.int32)
    return SolverState(
        key=run_key,
        h=h,
        optimizer_state=_optimizer(config).init(jnp.zeros_like(h)),
        step=zero,
        batches=zero,
        multiplier=zero + 1,
        phase_steps=zero + sizes.phase_steps,
        gap=spread,
        gap_draws=zero,
        spread=spread,
        best=jnp.full((), jnp.inf, jnp.float32),
        stalled=zero,
        frame=frame,
    )


def num_start_samples(mu: Measure, num_targets: int, config: SolverConfig) -> int:
    """Samples that ``init`` draws: for the candidates of the start, and for unknown moments."""
    candidates = plan(num_targets, config).batch if config.start == "auto" else 0
    return candidates + (0 if mu.variance is not None else MOMENT_SAMPLES)


def num_gap_samples(state: SolverState) -> Int[Array, "*batch"]:
    """Samples that the estimates of the gap have drawn; none are drawn for a single target."""
    return state.gap_draws * (_GAP_SAMPLES if state.h.shape[-1] > 1 else 0)


def step(
    state: SolverState,
    mu: Measure,
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: SolverConfig = SolverConfig(),  # noqa: B008 - frozen
    axis_name: str | None = None,
) -> SolverState:
    """One step of the solver; pure, for users who own the loop.

    Args:
      state: from ``init`` or an earlier step with the same other arguments.
      mu: source measure.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions; static under jit.
      axis_name: a mapped axis over whose devices the logical streams are dealt; its size divides
        8. The counts are summed over it and the state is the same on all of them.
    """
    targets = problem.check_targets(y)
    weights = problem.check_weights(nu, targets)
    new, _ = _step(state, mu, state.frame.normalise(targets), weights, config, axis_name)
    return new


@partial(jax.jit, static_argnames=("config",))
def run_steps(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_steps: Int[Array, ""],
    config: SolverConfig,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """Some steps in one call; their number is traced, so any number costs one compilation.

    Returns:
      The state, and chi^2 with its standard error, averaged over the heights that the steps met:
      each step's samples are fresh for its heights, so the average is unbiased.
    """
    y = state.frame.normalise(y)
    batch = samples_per_stream(nu.shape[0], config) * NUM_STREAMS

    def body(_: Int[Array, ""], carry: tuple) -> tuple:
        state, total, variance = carry
        num_samples = batch * state.multiplier
        state, counts = _step(state, mu, y, nu, config, None)
        chi2, chi2_se = estimate.chi_square(counts, nu, num_samples)
        return state, total + chi2, variance + chi2_se**2

    carry = (state, jnp.zeros(()), jnp.zeros(()))
    state, total, variance = jax.lax.fori_loop(0, num_steps, body, carry)
    return state, total / num_steps, jnp.sqrt(variance) / num_steps


def _step(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    config: SolverConfig,
    axis_name: str | None,
) -> tuple[SolverState, Counts]:
    """One step on normalised targets; also the counts that it saw."""
    key = jax.random.fold_in(state.key, state.step)
    batch_key, gap_key = jax.random.split(key)
    counts = _draw(batch_key, state, mu, y, config, axis_name)
    batch = samples_per_stream(nu.shape[0], config) * NUM_STREAMS
    num_samples = (batch * state.multiplier).astype(jnp.float32)

    def first_phase(state: SolverState) -> SolverState:
        gradient = jnp.where(nu > 0, counts / num_samples - nu, 0.0)
        moves, optimizer_state = optax.with_extra_args_support(_optimizer(config)).update(
            gradient, state.optimizer_state, jnp.where(nu > 0, state.h, 0.0)
        )
        unit = state.spread if config.rate_unit == "spread" else 1 / state.frame.scale
        rate = unit * _rate(state, config)
        h = state.h + rate * jnp.where(nu > 0, jnp.asarray(moves), 0.0)
        state = replace(state, h=h, optimizer_state=optimizer_state)
        return _double_on_plateau(state, gradient, config.plateau_steps)

    def newton_phase(state: SolverState) -> SolverState:
        look = (state.step - state.phase_steps) % _GAP_EVERY == 0
        gap = jax.lax.cond(look, lambda: _mean_gap(gap_key, mu, y, state), lambda: state.gap)
        num_active = (nu > 0).sum()
        per_target = batch / num_active
        drawn = (state.step - state.phase_steps) * per_target
        gain = _NEWTON_RATE * per_target / (_NEWTON_DELAY + drawn)
        relative = jnp.where(nu > 0, safe_ratio(counts / num_samples, nu) - 1, 0.0)
        move = jnp.clip(gain * relative, -_NEWTON_CLIP, _NEWTON_CLIP)
        return replace(state, h=state.h - gap * move, gap=gap, gap_draws=state.gap_draws + look)

    state = replace(state, batches=state.batches + state.multiplier)
    if config.method == "adam":
        state = first_phase(state)
    else:
        state = jax.lax.cond(state.step < state.phase_steps, first_phase, newton_phase, state)
    return replace(state, h=_centred(state.h, nu), step=state.step + 1), counts


def _optimizer(config: SolverConfig) -> optax.GradientTransformation:
    return config.optimizer or optax.adam(config.learning_rate)


def _rate(state: SolverState, config: SolverConfig) -> Float[Array, ""]:
    """Factor of the first phase's rate: a cosine from 1 to a tenth, then 1/t; constant if paper's.

    With doubling on plateaus the doublings lower the rate instead, as published.
    """
    if config.plateau_steps is not None:
        doublings = jnp.log2(state.multiplier.astype(jnp.float32))
        return _DOUBLING_RATE**doublings
    horizon = jnp.maximum(state.phase_steps, 1).astype(jnp.float32)
    part = state.step / horizon
    cosine = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(part, 1.0)))
    return cosine / jnp.maximum(part, 1.0)


def _double_on_plateau(
    state: SolverState, gradient: Heights, plateau_steps: int | None
) -> SolverState:
    """Double the batches of a step once the residual has stopped falling (published rule)."""
    if plateau_steps is None:
        return state
    norm = jnp.linalg.norm(gradient)
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


def _centred(h: Heights, nu: Weights) -> Heights:
    """Heights whose weighted mean over active targets is 0, and -inf elsewhere."""
    active = nu > 0
    mean = jnp.where(active, nu * h, 0.0).sum()
    return jnp.where(active, h - mean, -jnp.inf)


def _mean_gap(key: PRNGKey, mu: Measure, y: Targets, state: SolverState) -> Float[Array, ""]:
    """Mean gap between the best and the second score; the spread where there is no second."""
    if y.shape[0] == 1:
        return state.spread
    x = mu.sample(key, _GAP_SAMPLES)
    values, _ = power.top_k(x, y, state.h, 2)
    gap = (values[:, 0] - values[:, 1]).mean()
    return jnp.minimum(gap, state.spread)


def _draw(
    key: PRNGKey,
    state: SolverState,
    mu: Measure,
    y: Targets,
    config: SolverConfig,
    axis_name: str | None,
) -> Counts:
    """Counts of the step's batches, over all devices of the axis."""
    num_batches = 1 if config.plateau_steps is None else state.multiplier
    return estimate.draw_counts(
        key,
        mu,
        y,
        state.h,
        num_batches,
        samples_per_stream=samples_per_stream(y.shape[0], config),
        axis_name=axis_name,
    )

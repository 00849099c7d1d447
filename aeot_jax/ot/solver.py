r"""Heights by stochastic convex minimisation of the semi-dual energy: state, step, and no host.

One step draws fresh samples (``sampling.py``), counts them in the cells and moves the heights along
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

Sources: Lei et al., Engineering 6(3), 2020, section 3 (energy, Adam, doubling of the samples);
Robbins and Monro 1951 and Chung 1954 for the 1/t step; Train 2009, chapter 3, for the logit.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.measures import MOMENT_SAMPLES, Measure, moments
from aeot_jax.numerics import PRECISION, isolated, safe_ratio
from aeot_jax.ot import estimate, parallel, power, problem, sampling, warmstart
from aeot_jax.ot.config import (
    FEW_DIMS,
    Phases,
    Plan,
    SolverConfig,
    layout,
    plan,
    samples_per_stream,
)
from aeot_jax.ot.estimate import NUM_STREAMS
from aeot_jax.typing import Counts, Heights, PRNGKey, Targets, Weights


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

_MIXING, _LOOK = 2**32 - 1, 2**32 - 2
"""What the key of a solve is folded with to turn the targets, and to look; no step has these
numbers."""

_LOOK_BATCHES = 8
"""Batches of a look."""

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
      phase_from: step with which the first phase begins.
      phase_steps: step with which it ends, the horizon of its rate.
      gap: mean gap between the best and the second score.
      gap_draws: estimates of it so far.
      spread: standard deviation over targets of <x, y_i>.
      best: least residual norm so far, for the doubling on a plateau.
      stalled: steps since then.
      average: mean of the heights of the last steps (m,), once they are being averaged.
      averaged: how many that are.
      average_from: the step that is the first of them.
      frame: centre and scale of the targets.
    """

    key: Array
    h: Float[Array, "*batch m"]
    optimizer_state: Any
    step: Int[Array, "*batch"]
    batches: Int[Array, "*batch"]
    multiplier: Int[Array, "*batch"]
    phase_from: Int[Array, "*batch"]
    phase_steps: Int[Array, "*batch"]
    gap: Float[Array, "*batch"]
    gap_draws: Int[Array, "*batch"]
    spread: Float[Array, "*batch"]
    best: Float[Array, "*batch"]
    stalled: Int[Array, "*batch"]
    average: Float[Array, "*batch m"]
    averaged: Int[Array, "*batch"]
    average_from: Int[Array, "*batch"]
    frame: problem.Frame

    @property
    def heights(self) -> Float[Array, "*batch m"]:
        """The answer so far, for the targets as the user gave them (m,)."""
        h = jnp.where((self.averaged > 0)[..., None], self.average, self.h)
        return h * self.frame.scale[..., None]


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
    return _init(key, mu, targets, weights, config, plan(targets.shape[0], mu, config))


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
        way = _way(mu, config)
        prepared = sampling.prepared(_mixing_key(run_key), mu, y, way)

        def residual(h: Heights) -> Float[Array, ""]:
            counts, _ = estimate.batch_counts(
                start_key, mu, prepared, h, nu, sizes.samples_per_stream, None, way
            )
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
        phase_from=zero,
        phase_steps=zero + sizes.phases.phase_steps,
        gap=spread,
        gap_draws=zero,
        spread=spread,
        best=jnp.full((), jnp.inf, jnp.float32),
        stalled=zero,
        average=jnp.zeros_like(h),
        averaged=zero,
        average_from=zero + sizes.phases.average_from,
        frame=frame,
    )


def num_start_samples(mu: Measure, num_targets: int, config: SolverConfig) -> int:
    """Samples that ``init`` draws: for the candidates of the start, and for unknown moments."""
    candidates = plan(num_targets, mu, config).batch if config.start == "auto" else 0
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
    problem.check_measure(mu, targets)
    working = _working_targets(state, mu, targets, config)
    return _step(state, mu, working, weights, config, axis_name)[0]


def run_steps(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_steps: int,
    config: SolverConfig,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """Some steps in one call; their number is traced, so any number costs one compilation.

    The samples are spread over devices as the configuration says.

    Returns:
      The state, and an unbiased estimate of chi^2 with its standard error. It is the average over
      the heights that the steps met, each of which saw samples that are fresh for it. Samples of a
      net repel and cannot tell: there it is a look at the answer so far, by independent samples.
    """
    arguments = state, mu, y, nu, np.int32(num_steps)
    return parallel.run(layout(config), _run_steps, *arguments, config=config)


def _run_steps(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_steps: Int[Array, ""],
    *,
    config: SolverConfig,
    axis_name: str | None,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """The body of ``run_steps``, for the devices of an axis."""
    targets = _working_targets(state, mu, y, config)
    batch = samples_per_stream(nu.shape[0], mu, config) * NUM_STREAMS

    def body(_: Int[Array, ""], carry: tuple) -> tuple:
        state, total, variance = carry
        multiplier = state.multiplier
        state, counts, within = _step(state, mu, targets, nu, config, axis_name)
        chi2, chi2_se = estimate.chi_square_between(
            counts, within, nu, batch * multiplier, multiplier
        )
        return state, total + chi2, variance + chi2_se**2

    carry = (state, jnp.zeros(()), jnp.zeros(()))
    state, total, variance = jax.lax.fori_loop(0, num_steps, body, carry)
    if num_look_samples(nu.shape[0], mu, config):
        return state, *_look(state, mu, targets, nu, batch // NUM_STREAMS, axis_name)
    return state, total / num_steps, jnp.sqrt(variance) / num_steps


def num_look_samples(num_targets: int, mu: Measure, config: SolverConfig) -> int:
    """Samples that ``run_steps`` draws beside those of its steps."""
    if _way(mu, config) != "sobol":
        return 0
    return _LOOK_BATCHES * samples_per_stream(num_targets, mu, config) * NUM_STREAMS


def _look(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    samples_per_stream: int,
    axis_name: str | None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """chi^2 of the answer so far, with its standard error."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, _LOOK), state.step)
    answer = state.heights / state.frame.scale
    counts, _ = estimate.draw_counts(
        key,
        mu,
        y,
        answer,
        nu,
        _LOOK_BATCHES,
        samples_per_stream=samples_per_stream,
        axis_name=axis_name,
    )
    return estimate.chi_square(counts, nu, counts.sum())


def _way(mu: Measure, config: SolverConfig) -> sampling.Sampling:
    return sampling.choose(mu, config.sampling, config.batch_size)


def _mixing_key(key: PRNGKey) -> PRNGKey:
    return jax.random.fold_in(key, _MIXING)


def _working_targets(state: SolverState, mu: Measure, y: Targets, config: SolverConfig) -> Targets:
    """Targets as the steps use them: centred, scaled, and turned where orbits want it."""
    way = _way(mu, config)

    def prepared(y: Targets, frame: problem.Frame, key: PRNGKey) -> Targets:
        return sampling.prepared(key, mu, frame.normalise(y), way)

    # A scale is never negative, which the compiler does not know.
    always = ~(state.frame.scale < 0)
    return isolated(always, prepared, y, state.frame, _mixing_key(state.key))


def _step(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    config: SolverConfig,
    axis_name: str | None,
) -> tuple[SolverState, Counts, Float[Array, " s"]]:
    """One step on working targets; also the counts that it saw and their scatter by stream."""
    key = jax.random.fold_in(state.key, state.step)
    batch_key, gap_key = jax.random.split(key)
    counts, within = _draw(batch_key, state, mu, y, nu, config, axis_name)
    update = partial(_updated, config=config)
    # The counts are integers and the same in every layout; so that the heights are, too, no
    # layout's program may fuse this arithmetic with anything of its own.
    state = isolated(state.step >= 0, update, state, counts, gap_key, mu, y, nu)
    return state, counts, within


def _updated(
    state: SolverState,
    counts: Counts,
    gap_key: PRNGKey,
    mu: Measure,
    y: Targets,
    nu: Weights,
    config: SolverConfig,
) -> SolverState:
    """The state after a step that saw these counts."""
    batch = samples_per_stream(nu.shape[0], mu, config) * NUM_STREAMS
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
        gain = _GAIN_IN_FEW_DIMS if mu.dim <= FEW_DIMS else _GAIN
        per_target = batch / (nu > 0).sum()
        drawn = (state.step - state.phase_steps) * per_target
        size = gain.rate * per_target / gain.delay * (1 + drawn / gain.delay) ** -gain.power
        relative = jnp.where(nu > 0, safe_ratio(counts / num_samples, nu) - 1, 0.0)
        move = jnp.clip(jnp.minimum(size, gain.most) * relative, -_NEWTON_CLIP, _NEWTON_CLIP)
        return replace(state, h=state.h - gap * move, gap=gap, gap_draws=state.gap_draws + look)

    state = replace(state, batches=state.batches + state.multiplier)
    if config.method == "adam":
        state = first_phase(state)
    else:
        state = jax.lax.cond(state.step < state.phase_steps, first_phase, newton_phase, state)
    state = replace(state, h=_centred(state.h, nu), step=state.step + 1)
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


def _averaged(state: SolverState) -> SolverState:
    """Take the heights into the average, once its time has come."""
    averaged = state.averaged + (state.step > state.average_from)
    finite = jnp.isfinite(state.h)
    change = jnp.where(finite, state.h - state.average, 0.0) / jnp.maximum(averaged, 1)
    average = jnp.where(finite, state.average + change * (averaged > 0), state.h)
    return replace(state, average=average, averaged=averaged)


def _optimizer(config: SolverConfig) -> optax.GradientTransformation:
    return config.optimizer or optax.adam(config.learning_rate)


def _rate(state: SolverState, config: SolverConfig) -> Float[Array, ""]:
    """Factor of the first phase's rate: a cosine from 1 to a tenth, then 1/t; constant if paper's.

    With doubling on plateaus the doublings lower the rate instead, as published.
    """
    if config.plateau_steps is not None:
        doublings = jnp.log2(state.multiplier.astype(jnp.float32))
        return _DOUBLING_RATE**doublings
    horizon = jnp.maximum(state.phase_steps - state.phase_from, 1).astype(jnp.float32)
    part = (state.step - state.phase_from) / horizon
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
    nu: Weights,
    config: SolverConfig,
    axis_name: str | None,
) -> tuple[Counts, Float[Array, " s"]]:
    """Counts of the step's batches over all devices of the axis, and their scatter by stream."""
    num_batches = 1 if config.plateau_steps is None else state.multiplier
    return estimate.draw_counts(
        key,
        mu,
        y,
        state.h,
        nu,
        num_batches,
        samples_per_stream=samples_per_stream(y.shape[0], mu, config),
        axis_name=axis_name,
        way=_way(mu, config),
    )

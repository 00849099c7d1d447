r"""Heights by stochastic convex minimisation of the semi-dual energy: the step, and no host.

One step draws fresh samples (``sampling.py``), counts them in the cells and moves the heights along
:math:`\hat w - \nu` (``updates.py``). Targets are centred and scaled inside (``start.py``), so
that one set of constants serves every data set.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, around
from aeot_jax.numerics import isolated, repeat
from aeot_jax.ot.counts import estimate, streams
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import NUM_STREAMS, SHARDED
from aeot_jax.ot.solver import updates
from aeot_jax.ot.solver.config import SolverConfig, check_config, placement, refuse_unheeded, way_of
from aeot_jax.ot.solver.plan import samples_per_stream
from aeot_jax.ot.solver.start import checked, working_targets
from aeot_jax.ot.solver.state import SolverState, partition_specs
from aeot_jax.typing import ArrayLike, Counts, Given, Heights, Targets, Weights, WorkingTargets

_LOOK = 2**32 - 2
"""What the key of a solve is folded with to look; no step has this number."""

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
    targets, weights, num_targets = checked(mu, y, nu, axis_name, targets_axis)
    prepared = working_targets(targets, state.frame, state.key, mu, config)
    per_stream = samples_per_stream(num_targets, mu, config)
    return _step(state, mu, prepared, weights, config, per_stream, axis_name, targets_axis)[0]


@jax.jit
def heights(state: SolverState) -> Heights:
    """``state.heights`` as one program."""
    return state.heights


def num_gap_samples(state: SolverState) -> Int[Array, "*batch"]:
    """Samples that the estimates of the gap have drawn."""
    return state.gap_draws * updates.GAP_SAMPLES


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
      the heights that the steps met, each of which saw samples that are fresh for it. Sobol
      points are not independent, so their counts give no unbiased estimate: there independent
      samples are drawn at the current answer instead.
    """
    tilted = state.tilt.shape == state.h.shape
    of_state = partition_specs(state.optimizer_state, state.h.shape, tilted)
    specs = (of_state, P(), SHARDED, SHARDED, P()), (of_state, P(), P())
    arguments = state.as_dict(), mu, y, nu, np.int32(num_steps)
    per_stream = per_stream or samples_per_stream(nu.shape[0], mu, config)
    options = {"config": config.of_programs(), "per_stream": per_stream}
    moved, *chi2 = parallel.run(
        placement(config), _advance_dict, *arguments, specs=specs, **options
    )
    return SolverState(**moved), *chi2


def _advance_dict(
    state_dict: dict[str, Any], *arguments: Any, **options: Any
) -> tuple[dict[str, Any], Float[Array, ""], Float[Array, ""]]:
    """``advance`` of a state as a dict, whose parts lie differently on a mesh."""
    state, chi2, chi2_se = advance(SolverState(**state_dict), *arguments, **options)
    return state.as_dict(), chi2, chi2_se


def advance(
    state: SolverState,
    mu: Measure,
    y: Targets,
    nu: Weights,
    num_steps: Int[Array, ""] | int,
    *,
    config: SolverConfig,
    per_stream: int,
    axis_name: str | None,
    targets_axis: str | None,
) -> tuple[SolverState, Float[Array, ""], Float[Array, ""]]:
    """The loop of all solves: some steps on the devices of the axes, and chi^2 with its error.

    Args:
      state: before the steps.
      mu: source measure.
      y: targets of this device (m, d).
      nu: weights of this device (m,).
      num_steps: may be traced.
      config: the user's decisions.
      per_stream: samples of each logical stream in a batch.
      axis_name: a mapped axis over whose devices the samples are sharded, or None.
      targets_axis: the same of the targets.

    Returns:
      As ``run_steps``.
    """
    targets = working_targets(y, state.frame, state.key, mu, config)
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
        return state, *_look(state, mu, targets, nu, per_stream, axis_name, targets_axis)
    steps = jnp.asarray(num_steps, jnp.float32)
    return state, total / steps, jnp.sqrt(variance) / steps


def num_look_samples(per_stream: int, mu: Measure, config: SolverConfig) -> int:
    """Samples that ``run_steps`` draws beside those of its steps."""
    if way_of(mu, config) != "sobol":
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
        way=way_of(mu, config),
        targets_axis=targets_axis,
    )
    static = {"config": config, "per_stream": per_stream, "targets_axis": targets_axis}
    update = partial(updates.updated, **static)
    # The counts are integers and the same in every placement; so that the heights are, too, no
    # placement's program may fuse this arithmetic with anything of its own.
    state = isolated(update, state, counts, gap_key, near, y, nu)
    return state, counts, within

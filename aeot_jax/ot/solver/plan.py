"""The plan of a solve: the sizes, samples and phases that follow from a problem and a config."""

import math
from typing import NamedTuple

from aeot_jax.measures import Measure
from aeot_jax.ot.cells import antithetic, sizes
from aeot_jax.ot.counts.estimate import samples_to_verify
from aeot_jax.ot.counts.light import samples_to_see_equal
from aeot_jax.ot.counts.sampling import choose
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.ot.solver.config import FEW_DIMS, LARGEST, SolverConfig

_DEFAULT_TOLERANCE = 0.1
"""Aim of the schedule where only a time limit is given."""

_MARGIN = 0.85
"""Part of the tolerance aimed at, so that two standard errors of the certificate fit above it."""

_CHECK_ERROR = 0.05
"""Standard error of the last draw, as a part of the tolerance."""

_LEAST_PHASE_STEPS = 100
"""Steps of the first phase at least, if they leave half to Newton: the rate, decaying from 0.05
spreads to a tenth of it, then travels 2.7 spreads, which forgets the start (measured)."""

_LEAST_STEPS = 2 * _LEAST_PHASE_STEPS
"""Steps of a solve with a tolerance, at least: few targets need few samples, but as many steps."""

_BATCHES = (256, 4096)
"""Samples of a step, at least and at most, where the user names none."""

_WHOLE = {"independent": 8, "sobol": 8, "orbits": 256}
"""What the samples of a stream are a multiple of, where the user names no batch: the kernel of the
orbits is quick on whole vectors of them, 32 (measured)."""

NEVER = 2**31 - 1
"""A step that no solve reaches."""


class Phases(NamedTuple):
    """What the steps of a solve do.

    Attributes:
      num_steps: steps after which the tolerance should be reached.
      phase_steps: steps of the first phase among them.
      average_from: step whose heights are the first to be averaged; ``NEVER`` if none are.
    """

    num_steps: int
    phase_steps: int
    average_from: int


class Plan(NamedTuple):
    """Static sizes of a solve, from the number of targets, the source and the configuration.

    Attributes:
      samples_per_stream: samples that each logical stream draws for a batch.
      phases: of the steps after which the tolerance should be reached.
      max_samples: samples that may move the heights.
      check_samples: fresh samples of the last draw.
    """

    samples_per_stream: int
    phases: Phases
    max_samples: int
    check_samples: int

    @property
    def batch(self) -> int:
        """Samples of a batch."""
        return self.samples_per_stream * NUM_STREAMS


def samples_per_stream(num_targets: int, mu: Measure, config: SolverConfig) -> int:
    """Samples that each logical stream draws for a batch; alike for all that share a size."""
    way = choose(mu, config.sampling, config.batch_size)
    if config.batch_size:
        whole = antithetic.SIZE if way == "orbits" else 1
        return -(-config.batch_size // (NUM_STREAMS * whole)) * whole
    least, most = _BATCHES
    whole, batch = _WHOLE[way], min(most, max(least, sizes.padded(num_targets, mu.dim) // 4))
    return max(1, round(batch / (NUM_STREAMS * whole))) * whole


def samples_to_reach(num_targets: int, dim: int, tolerance: float) -> int:
    """Samples after which the default method should be certified within the tolerance.

    The law is ``mass_error^2 * samples / m = cost``, with a margin below the tolerance and a cost
    that was measured: 1.3 in many dimensions, 2.3 in the plane; 1 is the limit of sampling.
    """
    cost = 1.3 + 4 / dim**2
    return math.ceil(cost * num_targets / (_MARGIN * tolerance) ** 2)


def check_budget(num_targets: int, config: SolverConfig) -> int:
    """Samples that may move the heights.

    Raises:
      ValueError: if the tolerance takes more samples than ``max_samples`` allows, or than an int32
        can count.
    """
    if config.tolerance is None:
        return config.max_samples or LARGEST
    least = math.ceil(num_targets / config.tolerance**2)
    room = 8 * max(least, _LEAST_STEPS * (config.batch_size or _BATCHES[1]))
    limit = config.max_samples or min(room, LARGEST)
    if least > limit:
        raise ValueError(
            f"`tolerance` is {config.tolerance:g}, which {num_targets} targets cannot reach with "
            f"{limit} samples: it takes at least m / tolerance^2 = {least}; raise `tolerance` or "
            "`max_samples`."
        )
    return limit


def plan(num_targets: int, mu: Measure, config: SolverConfig) -> Plan:
    """Sizes of a solve with m targets.

    Raises:
      ValueError: as ``check_budget``.
    """
    limit = check_budget(num_targets, config)
    per_stream = samples_per_stream(num_targets, mu, config)
    batch = per_stream * NUM_STREAMS
    tolerance = config.tolerance or _DEFAULT_TOLERANCE
    wanted = samples_to_reach(num_targets, mu.dim, tolerance)
    if config.tolerance is not None:
        wanted = max(wanted, _LEAST_STEPS * batch)
    elif config.max_samples or config.max_steps:  # a budget to spend, whatever it reaches
        wanted = limit
    if config.max_steps is not None and config.plateau_steps is None:
        limit = min(limit, config.max_steps * batch)
    check = samples_to_verify(num_targets, _MARGIN * tolerance, _CHECK_ERROR * tolerance)
    check = max(check, samples_to_see_equal(num_targets))
    if config.tolerance is None:  # nothing to decide: spend at most a quarter on looking
        check = min(check, max(wanted // 4, 16 * batch))
    wanted = min(wanted, limit)
    return Plan(
        samples_per_stream=per_stream,
        phases=phases(max(1, -(-wanted // batch)), mu, config),
        max_samples=limit,
        check_samples=min(check, LARGEST),
    )


def phases(num_steps: int, mu: Measure, config: SolverConfig) -> Phases:
    """Divide so many steps."""
    few, adam = mu.dim <= FEW_DIMS, config.method == "adam"
    phase_steps = num_steps if adam else _phase_steps(num_steps, few, config)
    # Pure Adam has no steps after its first phase: its own last ones are averaged.
    rest = num_steps - (0 if adam else phase_steps)
    share = config.average_share
    if share is None:
        share = 0.7 if few and not adam else 0.0
    average_from = num_steps - math.floor(share * rest)
    return Phases(num_steps, phase_steps, average_from if average_from < num_steps else NEVER)


def _phase_steps(num_steps: int, few: bool, config: SolverConfig) -> int:
    """Steps of the first phase under "newton"; none if the user wants none."""
    share = config.adam_share
    if share is None:
        share = 0.3 if few else 0.1
    steps = round(share * num_steps)
    return max(steps, min(_LEAST_PHASE_STEPS, num_steps // 2)) if share else 0


def samples_to_continue(drawn: int, error: float, planned: Plan, config: SolverConfig) -> int:
    """Samples at which to certify again, after a draw that showed a mass error too large.

    The error falls like 1 / sqrt(samples); at least a quarter more is drawn, at most four times as
    much, so that one unlucky draw commits to neither a tiny nor a huge continuation.
    """
    if config.tolerance is None:
        return planned.max_samples
    ratio = (error / (_MARGIN * config.tolerance)) ** 2
    return min(planned.max_samples, math.ceil(drawn * min(max(ratio, 1.25), 4.0)))

"""What the user of the solver decides, and the sizes that follow from it."""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aeot_jax.ot import warmstart
from aeot_jax.ot.estimate import NUM_STREAMS, samples_to_verify

_COST = 1.4
"""``mass_error^2 * samples / m`` that the default method reaches (measured); 1 is the limit."""

_MARGIN = 0.85
"""Part of the tolerance aimed at, so that two standard errors of the certificate fit above it."""

_CHECK_ERROR = 0.05
"""Standard error of the last draw, as a part of the tolerance."""

_DEFAULT_TOLERANCE = 0.1
"""Aim of the schedule where only a time limit is given."""

_LEAST_PHASE_STEPS = 100
"""Steps of the first phase at least, if they leave half to Newton: the rate, decaying from 0.05
spreads to a tenth of it, then travels 2.7 spreads, which forgets the start (measured)."""

_LEAST_STEPS = 2 * _LEAST_PHASE_STEPS
"""Steps of a solve with a tolerance, at least: few targets need few samples, but as many steps."""

_LARGEST = 2_000_000_000
"""Most samples of a solve: counts are int32."""


@dataclass(frozen=True)
class SolverConfig:
    """What the user decides; the defaults serve every data set.

    Attributes:
      tolerance: mass error to certify (with two standard errors); None runs to a limit.
      method: "newton" follows Adam by stochastic Newton steps; "adam" is Adam to the end.
      start: starting heights, "auto" takes the candidate with the least measured mass error.
      optimizer: an optax transformation for the first phase; None is Adam at ``learning_rate``.
      learning_rate: rate of the default Adam.
      rate_unit: "spread" multiplies updates by the spread of the scores, so that one rate serves
        every data set; "one" takes them as they are, in units of the heights.
      adam_share: share of the planned samples that the first phase takes under "newton".
      batch_size: samples of a step; None is half the number of targets, within [512, 4096].
        Rounded up to whole logical streams.
      plateau_steps: under "adam", steps without a smaller residual after which the samples of a
        step are doubled and the rate multiplied by 0.8; None never doubles.
      max_samples: samples that may move the heights, rounded up to whole steps; None is
        8 m / tolerance^2, and room for 1600 steps at least.
      max_steps: steps of the solver; None is no limit.
      time_limit: seconds, checked between chunks of steps; None is no limit. A time limit makes
        the answer depend on the machine.
    """

    tolerance: float | None = 0.1
    method: Literal["newton", "adam"] = "newton"
    start: warmstart.Start = "auto"
    optimizer: optax.GradientTransformation | None = None
    learning_rate: float = 0.05
    rate_unit: Literal["spread", "one"] = "spread"
    adam_share: float = 0.2
    batch_size: int | None = None
    plateau_steps: int | None = None
    max_samples: int | None = None
    max_steps: int | None = None
    time_limit: float | None = None

    def __post_init__(self):
        whole = ("batch_size", "plateau_steps", "max_samples", "max_steps")
        for name in ("tolerance", "learning_rate", "time_limit", *whole):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` is {value!r}; pass a positive number.")
            if name in whole and value is not None and not hasattr(value, "__index__"):
                raise ValueError(f"`{name}` is {value!r}; pass a whole number, as an integer.")
        if not 0 <= self.adam_share <= 1:
            raise ValueError(f"`adam_share` is {self.adam_share!r}; pass a share within [0, 1].")
        if self.rate_unit not in ("spread", "one"):
            raise ValueError(f"`rate_unit` is {self.rate_unit!r}; choose 'spread' or 'one'.")
        if self.method not in ("newton", "adam"):
            raise ValueError(f"`method` is {self.method!r}; choose 'newton' or 'adam'.")
        if self.start not in ("auto", *warmstart.NAMES):
            choices = ", ".join(repr(name) for name in ("auto", *warmstart.NAMES))
            raise ValueError(f"`start` is {self.start!r}; choose one of {choices}.")
        if self.tolerance is None and not any((self.max_samples, self.max_steps, self.time_limit)):
            raise ValueError(
                "`tolerance` is None and no limit is set; set `max_samples`, `max_steps` or "
                "`time_limit`."
            )

    @classmethod
    def paper(cls, num_targets: int, learning_rate: float = 5e-2, **changes: Any) -> "SolverConfig":
        """The published algorithm, for comparison: pair it with ``UniformCube``.

        Adam without bias correction from h = 0 at a fixed rate, 10 samples per target a step,
        doubled with the rate times 0.8 after 40 steps without a smaller residual. Two departures:
        samples are fresh at every step (the paper draws one Sobol set and keeps it, so its residual
        is in-sample), and the end is a certificate (the paper's bound on norm(w - nu) depends on
        the number of targets).

        Args:
          num_targets: m, for the samples of a step.
          learning_rate: 5e-2 in 100 dimensions, 1e-4 in the plane (published).
          **changes: fields to set otherwise.

        Source: Lei et al., Engineering 6(3), 2020, algorithm 1; rates from the authors' code.
        """
        settings: dict[str, Any] = {
            "method": "adam",
            "start": "zero",
            "optimizer": uncorrected_adam(learning_rate),
            "rate_unit": "one",
            "batch_size": 10 * num_targets,
            "plateau_steps": 40,
        }
        return cls(**{**settings, **changes})


@functools.cache
def uncorrected_adam(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam without bias correction, as published; cached, so that equal rates compile once."""
    corrected = optax.scale_by_adam(b1, b2, eps)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        del params
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        moves = jax.tree.map(lambda m, v: -learning_rate * m / (jnp.sqrt(v) + eps), mean, square)
        return moves, optax.ScaleByAdamState(count=state.count + 1, mu=mean, nu=square)

    return optax.GradientTransformation(corrected.init, update)


class Plan(NamedTuple):
    """Static sizes of a solve, from the number of targets and the configuration.

    Attributes:
      samples_per_stream: samples that each logical stream draws for a batch.
      num_steps: steps after which the tolerance should be reached.
      phase_steps: steps of the first phase among them.
      max_samples: samples that may move the heights.
      check_samples: fresh samples of the last draw.
    """

    samples_per_stream: int
    num_steps: int
    phase_steps: int
    max_samples: int
    check_samples: int

    @property
    def batch(self) -> int:
        """Samples of a batch."""
        return self.samples_per_stream * NUM_STREAMS


def samples_per_stream(num_targets: int, config: SolverConfig) -> int:
    """Samples that each logical stream draws for a batch."""
    batch = config.batch_size or min(4096, max(512, num_targets // 2))
    return -(-batch // NUM_STREAMS)


def samples_to_reach(num_targets: int, tolerance: float) -> int:
    """Samples after which the default method should be certified within the tolerance.

    The law is ``mass_error^2 * samples / m = cost``, with a margin below the tolerance.
    """
    return math.ceil(_COST * num_targets / (_MARGIN * tolerance) ** 2)


def plan(num_targets: int, config: SolverConfig) -> Plan:
    """Sizes of a solve with m targets.

    Raises:
      ValueError: if the tolerance takes more samples than ``max_samples`` allows, or than an int32
        can count.
    """
    per_stream = samples_per_stream(num_targets, config)
    batch = per_stream * NUM_STREAMS
    tolerance = config.tolerance or _DEFAULT_TOLERANCE
    wanted = samples_to_reach(num_targets, tolerance)
    if config.tolerance is None:
        limit = config.max_samples or _LARGEST
        if config.max_samples or config.max_steps:  # a budget to spend, whatever it reaches
            wanted = limit
    else:
        least = math.ceil(num_targets / tolerance**2)
        wanted = max(wanted, _LEAST_STEPS * batch)
        limit = config.max_samples or min(8 * max(least, _LEAST_STEPS * batch), _LARGEST)
        if least > limit:
            raise ValueError(
                f"`tolerance` is {tolerance:g}, which {num_targets} targets cannot reach with "
                f"{limit} samples: it takes at least m / tolerance^2 = {least}; raise `tolerance` "
                "or `max_samples`."
            )
    if config.max_steps is not None and config.plateau_steps is None:
        limit = min(limit, config.max_steps * batch)
    wanted = min(wanted, limit)
    num_steps = max(1, -(-wanted // batch))
    phase_steps = num_steps
    if config.method == "newton":
        phase_steps = round(config.adam_share * num_steps)
        if phase_steps:
            phase_steps = max(phase_steps, min(_LEAST_PHASE_STEPS, num_steps // 2))
    check = samples_to_verify(num_targets, _MARGIN * tolerance, _CHECK_ERROR * tolerance)
    if config.tolerance is None:  # nothing to decide: spend at most a quarter on looking
        check = min(check, max(wanted // 4, 16 * batch))
    return Plan(per_stream, num_steps, phase_steps, limit, min(check, _LARGEST))


def samples_to_continue(drawn: int, error: float, sizes: Plan, config: SolverConfig) -> int:
    """Samples at which to certify again, after a draw that showed a mass error too large.

    The error falls like 1 / sqrt(samples); at least a quarter more is drawn, at most four times as
    much, so that one unlucky draw commits to neither a tiny nor a huge continuation.
    """
    if config.tolerance is None:
        return sizes.max_samples
    ratio = (error / (_MARGIN * config.tolerance)) ** 2
    return min(sizes.max_samples, math.ceil(drawn * min(max(ratio, 1.25), 4.0)))

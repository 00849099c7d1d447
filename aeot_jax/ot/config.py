"""What the user of the solver decides, and the sizes that follow from it."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

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

_LEAST_PHASE_STEPS = 16
"""Steps of the first phase at least: with fewer, Adam cannot forget the start."""

_LARGEST = 2**31 - 1
"""Counts are int32."""


@dataclass(frozen=True)
class SolverConfig:
    """What the user decides; the defaults serve every data set.

    Attributes:
      tolerance: mass error to certify (with two standard errors); None runs to a limit.
      method: "newton" follows Adam by stochastic Newton steps; "adam" is Adam to the end.
      start: starting heights, "auto" takes the candidate with the least measured mass error.
      optimizer: an optax transformation for the first phase, its updates in units of the spread of
        the scores; None is Adam at ``learning_rate``.
      learning_rate: rate of the default Adam in units of the spread of the scores.
      adam_share: share of the planned samples that the first phase takes under "newton".
      batch_size: samples of a step; None is the number of targets, within [256, 4096]. Rounded up
        to whole logical streams.
      plateau_steps: under "adam", steps without a smaller residual after which the samples of a
        step are doubled and the rate multiplied by 0.8; None never doubles.
      max_samples: samples that may move the heights; None is 8 m / tolerance^2.
      max_steps: steps of the solver; None is no limit.
      time_limit: seconds, checked between chunks of steps; None is no limit. A time limit makes
        the answer depend on the machine.
    """

    tolerance: float | None = 0.1
    method: Literal["newton", "adam"] = "newton"
    start: warmstart.Start = "auto"
    optimizer: optax.GradientTransformation | None = None
    learning_rate: float = 0.05
    adam_share: float = 0.2
    batch_size: int | None = None
    plateau_steps: int | None = None
    max_samples: int | None = None
    max_steps: int | None = None
    time_limit: float | None = None

    def __post_init__(self):
        positive = ("tolerance", "learning_rate", "batch_size", "plateau_steps", "max_samples")
        for name in (*positive, "max_steps", "time_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` is {value!r}; pass a positive number.")
        if not 0 <= self.adam_share <= 1:
            raise ValueError(f"`adam_share` is {self.adam_share!r}; pass a share within [0, 1].")
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
    batch = config.batch_size or min(4096, max(256, num_targets))
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
        limit = config.max_samples or min(max(8 * least, 64 * batch), _LARGEST)
        if least > limit:
            raise ValueError(
                f"`tolerance` is {tolerance:g}, which {num_targets} targets cannot reach with "
                f"{limit} samples: it takes at least m / tolerance^2 = {least}; raise `tolerance` "
                "or `max_samples`."
            )
    if config.max_steps is not None:
        limit = min(limit, config.max_steps * batch)
    wanted = min(wanted, limit)
    num_steps = max(1, -(-wanted // batch))
    phase_steps = num_steps
    if config.method == "newton":
        phase_steps = round(config.adam_share * num_steps)
        if phase_steps:
            phase_steps = min(num_steps, max(_LEAST_PHASE_STEPS, phase_steps))
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

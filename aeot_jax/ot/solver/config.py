"""What the user of the solver decides, and the sizes that follow from it."""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.numerics import on_accelerator
from aeot_jax.ot.cells import antithetic, sizes
from aeot_jax.ot.counts.estimate import samples_to_verify
from aeot_jax.ot.counts.light import samples_to_see_equal
from aeot_jax.ot.counts.sampling import NAMES as SAMPLINGS
from aeot_jax.ot.counts.sampling import Sampling, choose
from aeot_jax.ot.devices.placement import NAMES as PARALLELS
from aeot_jax.ot.devices.placement import NUM_STREAMS, SHARDS, Parallel, Placement, check_devices
from aeot_jax.ot.devices.placement import placement as placement_of
from aeot_jax.ot.solver import warmstart
from aeot_jax.typing import Devices, Given

_MARGIN = 0.85
"""Part of the tolerance aimed at, so that two standard errors of the certificate fit above it."""

_CHECK_ERROR = 0.05
"""Standard error of the last draw, as a part of the tolerance."""

_DEFAULT_TOLERANCE = 0.1
"""Aim of the schedule where only a time limit is given."""

FEW_DIMS = 3
"""Up to here cells have few neighbours and errors of the masses are smooth: a diagonal Newton step
misses slow modes, so steps stay long, last longer, and their heights are averaged (measured)."""

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

_CHUNK_WORK = 2e11
"""Floating-point operations of one call: about a second of two cores."""

_ACCELERATOR_CHUNK_WORK = 1e13
"""The same on an accelerator: about half a second of a GPU (measured)."""

_LARGEST = 2_000_000_000
"""Most samples of a solve: counts are int32."""


@dataclass(frozen=True)
class SolverConfig:
    """What the user decides; the defaults serve every data set.

    Attributes:
      tolerance: what the mass error shall be at most, with confidence 95 % (``Certificate.upper``);
        None runs to a limit.
      method: "newton" follows Adam by stochastic Newton steps; "adam" is Adam to the end; "exact"
        is ``solve_exact``, on a line or in the plane with a Gaussian or a cube. "auto" is "exact"
        where that can be had and nothing below says otherwise, else "newton".
      start: starting heights, "auto" takes the candidate with the least measured mass error.
      optimizer: an optax transformation for the first phase; None is Adam at ``learning_rate``.
      learning_rate: rate of the default Adam.
      rate_unit: "spread" multiplies updates by the spread of the scores, so that one rate serves
        every data set; "one" takes them as they are, in units of the heights.
      adam_share: share of the planned samples that the first phase takes under "newton"; None is
        0.1, and 0.3 in up to 3 dimensions.
      average_share: last part of the other steps whose heights are averaged; None is 0, and 0.7 in
        up to 3 dimensions.
      sampling: how the samples that move the heights are drawn: "independent"; "sobol", a scrambled
        net, up to 12 dimensions; "orbits", eight samples for little more than the price of one,
        for a symmetric source. "auto" takes nets up to 12 dimensions and orbits from 32 on, where
        the source allows.
      batch_size: samples of a step; None is a quarter of the number of targets, within [256,
        4096], rounded to sizes that the kernel is quick on (orbits: 2048 or 4096). A number given
        is rounded up to whole logical streams.
      plateau_steps: under "adam", steps without a smaller residual after which the samples of a
        step are doubled and the rate multiplied by 0.8; None never doubles.
      max_samples: samples that may move the heights, rounded up to whole steps; None is
        8 m / tolerance^2, and room for 1600 steps at least.
      max_steps: steps of the solver; None is no limit.
      time_limit: seconds, checked between chunks of steps; None is no limit. A time limit makes
        the answer depend on the machine.
      parallel: how samples are spread over devices: "none", "pmap" or "shard_map"; "auto" is
        ``shard_map`` over several devices or processes, and "none" on one device or a CPU. The
        heights are the same bits whatever is chosen (on a CPU; see ``devices``).
      devices: the devices to use, 1, 2, 4 or 8 of them; None is all that are present. Devices of
        one kind agree to the last bit.
      target_shards: devices over which the targets are sharded, 1, 2, 4 or 8, where one device
        cannot hold them all: of 8 devices and 4 shards, 2 rows of 4 devices share the samples. The
        heights are the same bits again; an ``optimizer`` must then work element by element.
        ``solve_jit``, and with it ``solve_classes``, holds all targets of a problem on one device.
        None of these three fields is kept with a model.
    """

    tolerance: float | None = 0.1
    method: Literal["auto", "newton", "adam", "exact"] = "auto"
    start: warmstart.Start = "auto"
    optimizer: optax.GradientTransformation | None = None
    learning_rate: float = 0.05
    rate_unit: Literal["spread", "one"] = "spread"
    adam_share: float | None = None
    average_share: float | None = None
    sampling: Literal["auto"] | Sampling = "auto"
    batch_size: int | None = None
    plateau_steps: int | None = None
    max_samples: int | None = None
    max_steps: int | None = None
    time_limit: float | None = None
    parallel: Parallel = "auto"
    devices: Devices | None = None
    target_shards: int = 1

    def __post_init__(self):
        for name in ("batch_size", "plateau_steps", "max_samples", "max_steps", "target_shards"):
            if getattr(self, name) is not None:
                what = "a number of shards" if name == "target_shards" else "a number of them"
                arguments.replace_field(self, name, arguments.count, what=what)
        for name in ("tolerance", "learning_rate", "time_limit"):
            if getattr(self, name) is not None:
                positive = {"above": True, "what": "a positive number"}
                arguments.replace_field(self, name, arguments.number, 0.0, **positive)
        for name in ("adam_share", "average_share"):
            if getattr(self, name) is not None:
                what = "a share within [0, 1]"
                arguments.replace_field(self, name, arguments.number, 0.0, 1.0, what=what)
        for name, choices in (
            ("rate_unit", ("spread", "one")),
            ("method", ("auto", "newton", "adam", "exact")),
            ("start", ("auto", *warmstart.NAMES)),
            ("sampling", ("auto", *SAMPLINGS)),
            ("parallel", PARALLELS),
            ("target_shards", SHARDS),
        ):
            arguments.choice(name, getattr(self, name), choices)
        if self.learning_rate is None:
            raise ValueError("`learning_rate` is None; pass a positive number.")
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise ValueError(
                f"`optimizer` is {self.optimizer!r}; pass an optax transformation, or None (Adam)."
            )
        check_devices(self.devices)
        if self.tolerance is None and not any((self.max_samples, self.max_steps, self.time_limit)):
            raise ValueError(
                "`tolerance` is None and no limit is set; set `max_samples`, `max_steps` or "
                "`time_limit`."
            )

    def of_programs(self) -> "SolverConfig":
        """The decisions that are compiled into programs; what else there is, is as by default."""
        compiled = ("method", "start", "optimizer", "learning_rate", "rate_unit", "sampling")
        compiled += ("batch_size", "plateau_steps")
        return SolverConfig(**{name: getattr(self, name) for name in compiled})

    @classmethod
    def paper(
        cls, num_targets: Given[int], learning_rate: Given[float] = 5e-2, **changes: Any
    ) -> "SolverConfig":
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
        num_targets = arguments.count("num_targets", num_targets, what="how many targets")
        rate = arguments.number("learning_rate", learning_rate, 0.0, above=True)
        settings: dict[str, Any] = {
            "method": "adam",
            "start": "zero",
            "optimizer": uncorrected_adam(rate),
            "rate_unit": "one",
            "average_share": 0.0,
            "sampling": "independent",
            "batch_size": 10 * num_targets,
            "plateau_steps": 40,
        }
        return cls(**{**settings, **changes})


def check_config(config: Given[SolverConfig]) -> None:
    """Refuse what is no configuration of the solver."""
    way = "what the solver is to do as an `aeot_jax.SolverConfig(...)`"
    arguments.instance("config", config, SolverConfig, way)


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


def most_at_once(num_samples: int, num_targets: int, dim: int) -> int:
    """Batches of one call: a second of two cores, so that limits and Ctrl-C work."""
    work = _ACCELERATOR_CHUNK_WORK if on_accelerator() else _CHUNK_WORK
    return max(1, int(work / (2 * num_samples * num_targets * dim)))


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


def placement(config: SolverConfig) -> Placement:
    """Where the samples of a solve are drawn and the targets lie.

    Raises:
      ValueError: if streams and targets cannot be sharded over the devices.
    """
    return placement_of(config.parallel, config.devices, config.target_shards)


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


NEVER = 2**31 - 1
"""A step that no solve reaches."""


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
        return config.max_samples or _LARGEST
    least = math.ceil(num_targets / config.tolerance**2)
    room = 8 * max(least, _LEAST_STEPS * (config.batch_size or _BATCHES[1]))
    limit = config.max_samples or min(room, _LARGEST)
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
        check_samples=min(check, _LARGEST),
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

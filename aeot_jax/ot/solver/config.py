"""What the user of the solver decides."""

import functools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from aeot_jax import arguments
from aeot_jax.ot.counts.ways.table import WAYS, Sampling
from aeot_jax.ot.devices.placement import NAMES as PARALLELS
from aeot_jax.ot.devices.placement import (
    NUM_STREAMS,
    SHARDS,
    STREAMS,
    Parallel,
    Placement,
    checked_devices,
)
from aeot_jax.ot.devices.placement import placement as placement_of
from aeot_jax.ot.solver.moves.table import Method, MethodName
from aeot_jax.ot.solver.starts import closed_forms
from aeot_jax.typing import Devices, Given

DEFAULT_TOLERANCE = 0.1
"""Aim of the schedule where only a limit is given."""

LARGEST = 2_000_000_000
"""Most samples of a solve: counts are int32."""

_LEAST_TOLERANCE = 1e-100
"""Smallest tolerance: the square of a smaller one may be 0."""


@arguments.known_fields
@dataclass(frozen=True)
class SolverConfig:
    """What the user decides; the defaults serve every data set.

    Attributes:
      tolerance: what the mass error shall be at most, with confidence 95 % (``Certificate.upper``);
        None runs to a limit.
      method: "newton" follows Adam by stochastic Newton steps; "adam" is Adam to the end; "exact"
        is ``solve_exact``, on a line or in the plane with a Gaussian or a cube. "auto" is "exact"
        where that can be had and nothing below says otherwise, else "newton". Where steps of one
        scale miss the tolerance by far and ``solve`` finds far groups of targets, "newton" begins
        anew with steps of their scales; not with an ``optimizer`` or ``adam_share`` of the user's,
        ``plateau_steps``, ``target_shards`` or several processes.
      start: starting heights, "auto" takes the best candidate by a measurement: h = 0, Voronoi's
        heights, those of two normal laws, and from 4 dimensions on those matched to the tails of
        the scores, which take samples of their own. Where the best is within three tolerances, or
        without one three times the error that the samples allow, "newton" skips Adam, unless
        ``optimizer`` or ``adam_share`` are given.
      optimizer: an optax transformation for the first phase; None is Adam at ``learning_rate``.
      learning_rate: rate of the default Adam.
      rate_unit: "spread" multiplies updates by the spread of the scores (before Newton steps, by no
        more than 64 mean gaps between the best and the second), so that one rate serves every data
        set; "one" takes them as they are, in units of the heights.
      adam_share: share of the planned samples that the first phase takes under "newton"; None is
        0.1, and 0.3 in up to 3 dimensions.
      average_share: last part of the other steps whose heights are averaged; None is 0, and 0.7 in
        up to 3 dimensions.
      sampling: how the samples that move the heights are drawn: "independent"; "sobol", a scrambled
        net, up to 12 dimensions; "orbits", eight samples for little more than the price of one,
        for a symmetric source. "auto" takes nets up to 12 dimensions and orbits from 32 on, where
        the source allows.
      search: how the cells of the samples that move the heights are found: "exact" scores every
        target; "lists" only those of the few inverted lists that promise most, of which it learns.
        With 140,000 targets on a CPU a step is then 3 times as quick in 8 dimensions, and twice in
        16. A few samples are counted in a wrong cell (``Solution.search`` has a bound): so few that
        the mass error, which is certified by exact cells, should hardly know.
      batch_size: samples of a step; None is a quarter of the number of targets, within [256,
        4096], rounded to sizes that the kernel is quick on (orbits: 2048 or 4096). On an
        accelerator it is more, up to 65,536, where the solve has more than about a thousand such
        steps to take. A number given is rounded up to whole logical streams.
      plateau_steps: under "adam", steps without a smaller residual after which the samples of a
        step are doubled and the rate multiplied by 0.8; None never doubles.
      max_samples: samples that may move the heights, rounded up to whole steps; those of the start
        count (4,096 where the moments of the source are unknown). None is 8 m / tolerance^2, and
        room for 1600 steps at least.
      max_steps: steps of the solver; None is no limit.
      time_limit: seconds, checked between chunks of steps; None is no limit. A time limit makes
        the answer depend on the machine.
      parallel: how samples are sharded over devices: "none", "pmap" or "shard_map"; "auto" is
        ``shard_map`` over several devices or processes, and "none" on one device or a CPU. The
        heights are the same bits whatever is chosen (on a CPU; see ``devices``).
      devices: the devices to use, 1, 2, 4 or 8 of them, or more with more ``streams``; None is all
        that are present. Devices of one kind agree to the last bit.
      target_shards: devices over which the targets are sharded, 1, 2, 4 or 8, where one device
        cannot hold them all: of 8 devices and 4 shards, 2 rows of 4 devices share the samples. The
        heights are the same bits again; an ``optimizer`` must then work element by element.
        ``solve_jit`` holds all targets of a problem on one device. None of these three fields is
        kept with a model.
      streams: logical streams of samples, 8, 16, 32, 64, 128 or 256; their number must be a
        multiple of that of the devices that share the samples. The answer depends on it, and on the
        devices it does not.
    """

    tolerance: float | None = 0.1
    method: MethodName = "auto"
    start: closed_forms.Start = "auto"
    optimizer: optax.GradientTransformation | None = None
    learning_rate: float = 0.05
    rate_unit: Literal["spread", "one"] = "spread"
    adam_share: float | None = None
    average_share: float | None = None
    sampling: Literal["auto"] | Sampling = "auto"
    search: Literal["exact", "lists"] = "exact"
    batch_size: int | None = None
    plateau_steps: int | None = None
    max_samples: int | None = None
    max_steps: int | None = None
    time_limit: float | None = None
    parallel: Parallel = "auto"
    devices: Devices | None = None
    target_shards: int = 1
    streams: int = NUM_STREAMS

    def __post_init__(self):
        whats = {"target_shards": "a number of shards", "streams": "a number of streams"}
        counts = "batch_size", "plateau_steps", "max_samples", "max_steps", *whats
        for name in counts:
            if getattr(self, name) is not None:
                what = whats.get(name, "a number of them")
                arguments.replace_field(self, name, arguments.count, what=what)
        for name in ("tolerance", "learning_rate", "time_limit"):
            if getattr(self, name) is not None:
                positive = {"above": True, "what": "a positive number"}
                arguments.replace_field(self, name, arguments.number, 0.0, **positive)
        if self.tolerance is not None and self.tolerance < _LEAST_TOLERANCE:
            raise ValueError(
                f"`tolerance` is {self.tolerance:g}, which nothing reaches; pass a mass error such "
                "as 0.1."
            )
        for name in ("adam_share", "average_share"):
            if getattr(self, name) is not None:
                what = "a share within [0, 1]"
                arguments.replace_field(self, name, arguments.number, 0.0, 1.0, what=what)
        for name, choices in (
            ("rate_unit", ("spread", "one")),
            ("method", get_args(MethodName)),
            ("start", get_args(closed_forms.Start)),
            ("sampling", ("auto", *WAYS)),
            ("search", ("exact", "lists")),
            ("parallel", PARALLELS),
            ("target_shards", SHARDS),
            ("streams", STREAMS),
        ):
            arguments.choice(name, getattr(self, name), choices)
        if self.search == "lists" and self.sampling == "orbits":
            raise ValueError(
                "`sampling` is 'orbits' beside `search` 'lists', but an orbit looks at all targets "
                "once for eight samples; choose 'auto', or 'exact' to search."
            )
        if self.search == "lists" and self.method == "exact":
            raise ValueError(
                "`search` is 'lists' beside `method` 'exact', which takes no samples; choose "
                "'auto', or 'exact' to search."
            )
        if self.search == "lists" and self.target_shards > 1:
            raise ValueError(
                f"`target_shards` is {self.target_shards} beside `search` 'lists', which takes all "
                "targets on each device; pass 1, or choose 'exact' to search."
            )
        if self.learning_rate is None:
            raise ValueError("`learning_rate` is None; pass a positive number.")
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise ValueError(
                f"`optimizer` is {self.optimizer!r}; pass an optax transformation, or None (Adam)."
            )
        object.__setattr__(self, "devices", checked_devices(self.devices))
        if self.tolerance is None and not any((self.max_samples, self.max_steps, self.time_limit)):
            raise ValueError(
                "`tolerance` is None and no limit is set; set `max_samples`, `max_steps` or "
                "`time_limit`."
            )

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


_OF_THE_HOST = {
    "parallel": ("auto", "none"),
    "devices": (None,),
    "target_shards": (1,),
    "time_limit": (None,),
    "search": ("exact",),
    "method": tuple(name for name in get_args(MethodName) if name != "exact"),
}
"""Options that only the loop of ``solve`` can honour, and their values that ask for nothing."""


def refuse_unheeded(name: str, config: SolverConfig) -> None:
    """Refuse options that a function without a host loop cannot honour.

    Args:
      name: of the function.
      config: the user's decisions.
    """
    for option, silent in _OF_THE_HOST.items():
        value = getattr(config, option)
        if value not in silent:
            raise ValueError(
                f"`{option}` is {arguments.shown(value)}, which `{name}` cannot honour; pass "
                f"{silent[0]!r}, or call `solve`."
            )


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


def placement(config: SolverConfig) -> Placement:
    """Where the samples of a solve are drawn and the targets lie.

    Raises:
      ValueError: if streams and targets cannot be sharded over the devices.
    """
    return placement_of(config.parallel, config.devices, config.target_shards, config.streams)


def method_of(config: SolverConfig) -> Int[Array, ""]:
    """Code of what moves the heights by sampling."""
    return jnp.asarray(Method[sampling_method(config).upper()], jnp.int32)


def tolerance_of(config: SolverConfig) -> float:
    """Mass error that the schedule aims at."""
    return config.tolerance or DEFAULT_TOLERANCE


def asks_for_adam(config: SolverConfig) -> bool:
    """Whether the user decides what the first phase is, so that none is left out."""
    return config.optimizer is not None or config.adam_share is not None


def sampling_method(config: SolverConfig) -> str:
    """Name of what moves the heights by sampling."""
    return "newton" if config.method in ("auto", "exact") else config.method

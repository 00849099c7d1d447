"""The one interface of all generators, and the loop of those that learn by steps."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float

Points = Float[np.ndarray, "n d"]
Sample = Callable[[Array, int], Points]
"""``sample(key, n)`` gives n new points."""

CHUNK = 100
"""Steps between two looks at the clock."""

_DRAW = 8192
"""Samples of one draw: a network that samples is compiled once."""


@dataclass(frozen=True)
class Budget:
    """What a generator may spend on learning; compilation and sampling are not counted.

    Attributes:
      seconds: CPU-seconds of this process; None is no limit.
      steps: of the optimiser; None is no limit. Only with these a run can be repeated to the bit.
    """

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self):
        given = [value for value in (self.seconds, self.steps) if value is not None]
        if not given or not all(value > 0 for value in given):
            raise ValueError(
                f"`seconds` is {self.seconds} and `steps` is {self.steps}; pass at least one, "
                "above 0."
            )

    def share(self, share: float) -> "Budget":
        """A part of the budget, for one stage of several."""
        steps = None if self.steps is None else max(1, round(share * self.steps))
        return Budget(None if self.seconds is None else share * self.seconds, steps)

    def spent(self, seconds: float, steps: int) -> float:
        """The share that is spent, by the limit that comes first."""
        of_seconds = 0.0 if self.seconds is None else seconds / self.seconds
        return max(of_seconds, 0.0 if self.steps is None else steps / self.steps)


@dataclass(frozen=True)
class Fitted:
    """A generator that has learned.

    Attributes:
      sample: draws new points.
      seconds: CPU-seconds that learning took.
      half: the same generator when half of its budget was spent; None if it does not learn by
        steps.
      about: what else belongs into the record: steps made, what was chosen.
    """

    sample: Sample
    seconds: float
    half: Sample | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class Fit(Protocol):
    """Learn to generate points like the data (m, d), within a budget."""

    def __call__(
        self, key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]
    ) -> Fitted:
        """The generator, with what it spent."""
        ...


@dataclass(frozen=True)
class Method:
    """A generator and what is decided for it.

    Attributes:
      fit: learns.
      settings: what it gets if nobody says otherwise.
      tried: the values that a search tries, by setting; empty if it chooses for itself by held-out
        data, or has nothing to choose.
      learns: whether it spends its budget, step by step.
    """

    fit: Fit
    settings: Mapping[str, Any] = field(default_factory=dict)
    tried: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    learns: bool = False


@dataclass(frozen=True)
class Learned:
    """Where a loop ended, and where it stood at half of its budget."""

    state: Any
    half: Any
    steps: int
    seconds: float


def learn(
    key: Array,
    state: Any,
    chunk: Callable[[Any, Array, Float[Array, ""]], Any],
    budget: Budget,
    chunk_steps: int = CHUNK,
) -> Learned:
    """Make steps, some at a time, until the budget is spent.

    Args:
      key: of all steps.
      state: where to begin.
      chunk: ``chunk(state, key, progress)`` makes ``chunk_steps`` steps; it gets the share of the
        budget that is spent, for schedules. Its first call, which compiles, is not counted.
      budget: when to stop; the last steps may exceed it by less than a chunk.
      chunk_steps: how many steps a chunk makes.
    """
    progress, steps, half = 0.0, 0, None
    jax.block_until_ready(chunk(state, key, jax.numpy.float32(0)))
    began = time.process_time()
    while progress < 1:
        own = jax.random.fold_in(key, steps)
        state = jax.block_until_ready(chunk(state, own, jax.numpy.float32(progress)))
        steps += chunk_steps
        progress = budget.spent(time.process_time() - began, steps)
        if half is None and progress >= 0.5:
            half = state
    return Learned(state, half, steps, time.process_time() - began)


def in_draws(draw: Callable[[Array], Array]) -> Sample:
    """A sampler of any number of points from one that draws ``_DRAW`` at a time."""

    def sample(key: Array, n: int) -> Points:
        number = -(-n // _DRAW)
        parts = [np.asarray(draw(jax.random.fold_in(key, k))) for k in range(number)]
        return np.concatenate(parts)[:n]

    return sample


DRAW = _DRAW


@dataclass(frozen=True)
class Units:
    """The frame in which networks learn: mean 0, and one scale for all coordinates."""

    mean: Float[np.ndarray, "1 d"]
    scale: float

    def enter(self, points: Points) -> Points:
        """Points of the data's own units, in the frame."""
        return ((points - self.mean) / self.scale).astype(np.float32)

    def leave(self, sample: Sample) -> Sample:
        """The sampler, in the units of the data."""
        return lambda key, n: sample(key, n) * np.float32(self.scale) + self.mean


def units(data: Points) -> Units:
    """The frame of some data.

    Raises:
      ValueError: if the data are no matrix, hold a value that is not finite, or are all equal.
    """
    if data.ndim != 2 or len(data) < 2:
        raise ValueError(f"`data` has shape {data.shape}; pass at least 2 points (n, d).")
    if not np.isfinite(data).all():
        raise ValueError("`data` holds a value that is not finite; leave such points out.")
    scale = float(np.sqrt(data.var(0, dtype=np.float64).mean()))
    if scale == 0:
        raise ValueError("`data` are all equal; pass points that differ.")
    return Units(data.mean(0, dtype=np.float64, keepdims=True).astype(np.float32), scale)

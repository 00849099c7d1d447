"""What follows from a problem and a config: the plan of the programs, and the budget of the host.

``planning.py`` makes both, once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aeot_jax.ot.counts.ways.way import Batch
from aeot_jax.ot.solver.starts.closed_forms import Start

FEW_DIMS = 3
"""Up to here cells have few neighbours and errors of the masses are smooth: a diagonal Newton step
misses slow modes, so steps stay long, last longer, and their heights are averaged
(``benchmarks/solve.py``)."""

_LEAST_CHI2 = 1e-6
"""Square of the mass error that no heights are trusted to be below."""

NEVER = 2**31 - 1
"""A step that no solve reaches."""


class Plan(NamedTuple):
    """What the programs of a solve are compiled for; static and hashable.

    Attributes:
      batch: how the samples of a step are drawn.
      starts: names of the starting heights to choose from.
      start_round: samples of a round of tail-matched heights; 0 without these.
      method: what moves the heights after the first phase; "adam" is the first phase to the end.
      optimizer: of the first phase, None is Adam at ``learning_rate``.
      learning_rate: of that.
      in_spreads: whether the moves of the first phase are in units of the spread of the scores.
      plateau_steps: steps without a smaller residual, after which samples are doubled; None never.
      few_dims: whether the problem has at most ``FEW_DIMS`` dimensions.
      given: whether heights to start from are given.
      own_gaps: whether many samples are spent on the gap of every target.
      shares: whether steps share samples with the runner-up (``counts/shares.py``).
    """

    batch: Batch
    starts: tuple[Start, ...]
    start_round: int
    method: str
    optimizer: optax.GradientTransformation | None
    learning_rate: float
    in_spreads: bool
    plateau_steps: int | None
    few_dims: bool
    own_gaps: bool
    shares: bool
    given: bool

    @property
    def of_steps(self) -> "Plan":
        """What the steps are compiled for, wherever they began."""
        return self._replace(starts=(), start_round=0, given=False)


class Phases(NamedTuple):
    """When the phases of a solve begin and end, in steps from its start; traced in a state.

    Attributes:
      begin: first step of the first phase.
      adam_until: first step after it, of the method that follows.
      average_from: step whose heights are the first to be averaged; ``NEVER`` if none are.
      end: step after which the tolerance should be reached.
    """

    begin: int
    adam_until: int
    average_from: int
    end: int

    def traced(self, now: int = 0) -> "Phases":
        """The same from the step ``now`` on, as numbers that programs are not compiled for."""
        return jax.tree.map(lambda step: np.int32(min(now + step, NEVER)), self)


class Trust(NamedTuple):
    """What is asked of a start that no first phase shall forget; traced in programs.

    Attributes:
      num_batches: batches by which the start is measured.
      chi2: square of the mass error up to which it is trusted; below 0 it never is.
    """

    num_batches: Any
    chi2: Any

    def traced(self) -> "Trust":
        """The same as numbers that programs are not compiled for."""
        return Trust(np.int32(self.num_batches), np.float32(self.chi2))


NO_TRUST = Trust(1, -1.0)
"""The first phase forgets every start."""


def head_start(chi2: Any, per_target: Any, numbers: Any = jnp) -> Any:
    """Steps that heights are worth whose mass error has this square: 1 / chi^2 samples a target.

    The phase after Adam is then taken to have begun so many steps before the first one.

    Args:
      chi2: square of the mass error.
      per_target: samples of a step over the number of targets.
      numbers: the module that computes, NumPy on the host.
    """
    return numbers.floor(samples_worth(chi2, numbers) / per_target).astype(numbers.int32)


def samples_worth(chi2: Any, numbers: Any = jnp) -> Any:
    """Samples a target that heights with this square of a mass error are worth."""
    return 1 / numbers.maximum(chi2, _LEAST_CHI2)


class Budget(NamedTuple):
    """What the host spends.

    Attributes:
      phases: of the steps after which the tolerance should be reached.
      trust: what is asked of the start.
      begun: samples from which the start is computed.
      max_samples: samples that may move the heights, those of the start included.
      check_samples: fresh samples of the last draw.
    """

    phases: Phases
    trust: Trust
    begun: int
    max_samples: int
    check_samples: int

    def traced(self) -> tuple[Phases, Trust]:
        """What the start needs of it, as numbers that programs are not compiled for."""
        return self.phases.traced(), self.trust.traced()

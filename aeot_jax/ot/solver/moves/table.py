"""The ways to move heights after the first phase, by name.

A new way is a file beside this one with what ``Move`` asks for, and its name here, three times: for
the user, for files, for the solver.
"""

from enum import IntEnum
from typing import Any, Literal, Protocol

from jaxtyping import Array, Float, Int

from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves import newton
from aeot_jax.ot.solver.moves.seen import Seen
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState

MethodName = Literal["auto", "newton", "adam", "exact"]
"""What the user may ask for."""


class Method(IntEnum):
    """What found the heights; files keep the number."""

    NEWTON = 0
    ADAM = 1
    EXACT = 2


class Move(Protocol):
    """A way to move the heights: a module with these functions."""

    def init(self, spread: Float[Array, ""]) -> Any:
        """What it keeps from step to step, a NamedTuple of arrays: ``state.method``.

        Args:
          spread: standard deviation over targets of the scores, the unit of heights.
        """
        ...

    def update(
        self, state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
    ) -> SolverState:
        """Move ``state.h`` (m,), and change nothing else but ``state.method``.

        Sums over targets go through ``blockwise``: they have the same bits on any number of
        devices. Heights are centred, averaged and counted afterwards (``stepping.py``).

        Args:
          state: before the step.
          seen: its counts.
          marginals: source, targets and weights, centred and scaled.
          plan: static.
          axes: over which samples and targets are sharded.
        """
        ...

    def num_samples(self, own: Any) -> Int[Array, "*batch"]:
        """Samples that it has drawn beside those of the counts.

        Args:
          own: what it keeps.
        """
        ...


MOVES: dict[str, Move] = {"newton": newton}
"""What follows the first phase; "adam" goes on with that to the end."""

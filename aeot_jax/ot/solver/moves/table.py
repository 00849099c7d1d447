"""The ways to move heights after the first phase, by name.

A new way is a file beside this one with what ``Move`` asks for, and its name here, three times: for
the user, for files, for the solver.
"""

from enum import IntEnum
from typing import Any, Literal, Protocol

from jaxtyping import Array, Float, Int

from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves import nested, newton
from aeot_jax.ot.solver.moves.seen import Seen
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights

MethodName = Literal["auto", "newton", "adam", "exact"]
"""What the user may ask for."""


class Method(IntEnum):
    """What found the heights. Files keep the number, so that none is ever used again."""

    NEWTON = 0
    """Stochastic Newton steps, after Adam or from a start near to the optimum."""

    ADAM = 1
    """Adam, or the user's optimiser, to the end."""

    EXACT = 2
    """Exact integration in float64, on a line or in the plane."""


class Move(Protocol):
    """A way to move the heights: a module with these functions."""

    def init(self, h: Heights, spread: Float[Array, ""]) -> Any:
        """What it keeps from step to step, a NamedTuple of arrays: ``state.method``.

        An array of the shape of ``h`` is sharded with the targets.

        Args:
          h: heights of the start (m,).
          spread: standard deviation over targets of the scores, the unit of heights.
        """
        ...

    def update(
        self, state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
    ) -> SolverState:
        """Move ``state.h`` (m,), and change nothing else but ``state.method``.

        Arithmetic element by element is safe; a sum over targets goes through ``blockwise``, or
        its bits depend on the number of devices. Afterwards heights are centred and averaged
        (``stepping.py``). After a far miss ``state.phases`` begin again and ``state.method`` is
        kept (``misses.planned_anew``).

        Args:
          state: before the step.
          seen: its counts.
          marginals: source, targets and weights, centred and scaled.
          plan: static.
          axes: over which samples and targets are sharded.
        """
        ...

    def num_samples(self, own: Any) -> Int[Array, "*batch"]:
        """How many samples it has drawn itself, for anything but the counts.

        Args:
          own: what it keeps.
        """
        ...


MOVES: dict[str, Move] = {"newton": newton, "nested": nested}
"""What follows the first phase; "adam" goes on with that to the end. ``solve`` turns
from "newton" to "nested" where targets have far groups."""

UNASKED = ("nested",)
"""Those that no user names."""

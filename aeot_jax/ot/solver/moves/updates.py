r"""What one step makes of the counts that it saw: Adam, then stochastic Newton, then the average.

Two phases follow each other, neither with a rate to tune, because targets are centred and scaled
inside and each rate is tied to a measured scale of the scores: ``moves/adam.py`` forgets the start,
``moves/newton.py`` falls like the sampling limit. In few dimensions the answer is the mean of the
last heights (``moves/average.py``).

Every sum over targets has the same bits on any number of devices (``blockwise.py``).
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves import adam, average
from aeot_jax.ot.solver.moves.seen import Seen, centred
from aeot_jax.ot.solver.moves.table import MOVES
from aeot_jax.ot.solver.plan import Phases, Plan
from aeot_jax.ot.solver.state import SolverState


def updated(
    state: SolverState, seen: Seen, marginals: Marginals, plan: Plan, axes: Axes
) -> SolverState:
    """The state after a step that saw these counts.

    Args:
      state: before it.
      seen: its counts.
      marginals: source, targets and weights, centred and scaled.
      plan: of the solve.
      axes: over which samples and targets are sharded.
    """

    def first(state: SolverState) -> SolverState:
        return adam.update(state, seen, marginals, plan, axes)

    def second(state: SolverState) -> SolverState:
        return MOVES[plan.method].update(state, seen, marginals, plan, axes)

    state = replace(state, batches=state.batches + state.multiplier)
    if plan.method in MOVES:
        state = jax.lax.cond(state.step < state.phases.adam_until, first, second, state)
    else:
        state = first(state)
    h, now = centred(state.h, marginals.nu, axes.targets), state.step + 1
    mean = average.updated(state.average, h, now, state.phases.average_from)
    return replace(state, h=h, step=now, average=mean)


def planned_anew(state: SolverState, phases: Phases) -> SolverState:
    """Begin both phases again, from the answer so far and for so many steps; on the host.

    For a solve that averages: its long steps have become short, and would never repair an answer
    that is far off. The numbers come from NumPy, so that this compiles nothing.
    """
    if not int(state.average.number):
        return state
    again = jax.tree.map(jnp.asarray, phases.traced(int(state.step)))
    mean = state.average._replace(number=jnp.asarray(np.int32(0)))
    return replace(state, h=state.average.heights, phases=again, average=mean)

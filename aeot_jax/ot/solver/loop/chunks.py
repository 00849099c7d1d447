"""Chunks of steps until enough samples are drawn, so that limits and Ctrl-C work."""

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aeot_jax.machines import processes
from aeot_jax.ot.counts.certificate import most_at_once
from aeot_jax.ot.counts.chi_square import mass_error
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.lists.learn import Learned
from aeot_jax.ot.lists.lists import Lists
from aeot_jax.ot.lists.searching import Searching
from aeot_jax.ot.problem import Marginals, Prepared
from aeot_jax.ot.solver import stepping
from aeot_jax.ot.solver.config import SolverConfig
from aeot_jax.ot.solver.plan import Plan
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import SolveProgress
from aeot_jax.ot.solver.state import SolverState
from aeot_jax.typing import Heights, Weights

_CHUNK_STEPS = 64
"""Steps of a chunk at most."""


class Run(NamedTuple):
    """What stays the same while a solve runs.

    Attributes:
      made: the problem as ``problem.make`` made it.
      marginals: the same where the devices want it.
      plan: that programs are compiled for.
      config: the user's decisions.
      where: the devices.
      started: time of the start, in seconds.
      begun: samples from which the start was computed.
      searching: how cells are looked for; None where every score is computed.
      history: samples, running error and its standard error after each chunk; it grows.
      on_progress: to be called after each chunk.
    """

    made: Prepared
    marginals: Marginals
    plan: Plan
    config: SolverConfig
    where: Placement
    started: float
    begun: int
    searching: Searching | None
    history: list[tuple[int, float, float]]
    on_progress: Callable[[SolveProgress], None]

    def drawn(self, state: SolverState) -> int:
        """Samples from which the heights of a state are computed."""
        return int(state.batches) * self.plan.batch.size + self.begun


def advanced(run: Run, state: SolverState, goal: int) -> tuple[SolverState, Status]:
    """Run chunks of steps until ``goal`` samples are drawn or something else ends the solve.

    Returns:
      The last finite state, and RUNNING or the reason to stop.
    """
    config, batch = run.config, run.plan.batch.size
    try:
        while (drawn := run.drawn(state)) < goal:
            left = config.max_steps - int(state.step) if config.max_steps else _CHUNK_STEPS
            if left <= 0:
                return state, Status.STEP_LIMIT
            if is_late(run):
                return state, Status.TIME_LIMIT
            plan, lists, chunk = _searched(run, state)
            batches = -(-(goal - drawn) // (batch * int(state.multiplier)))
            num_steps = min(chunk, left, batches)
            if config.plateau_steps is not None:  # at most one doubling in a chunk
                num_steps = min(num_steps, config.plateau_steps)
            new, *chi2 = stepping.run_steps(state, run.marginals, plan, run.where, num_steps, lists)
            error, error_se, finite = _running_estimate(new.h, run.marginals.nu, *chi2)
            if not bool(finite):
                return state, Status.NON_FINITE
            state = new
            if run.searching is not None and lists is not None:
                run.searching.looked += run.drawn(state) - drawn
            drawn = run.drawn(state)
            run.history.append((drawn, float(error), float(error_se)))
            run.on_progress(SolveProgress(drawn, goal, float(error), float(error_se)))
    except KeyboardInterrupt:
        return state, Status.INTERRUPTED
    return state, Status.RUNNING


def _searched(run: Run, state: SolverState) -> tuple[Plan, Lists | None, int]:
    """The plan of the next steps, their lists, and how many steps they are at most."""
    searching, step, plan, lists = run.searching, int(state.step), run.plan, None
    share, most = 1.0, _CHUNK_STEPS
    if searching is not None:
        if step >= searching.due:
            searching.learn(_learned(run, state, searching), step)
        most = min(most, searching.due - step)
        if searching.probes:
            plan = plan._replace(batch=plan.batch._replace(probes=searching.probes))
            lists, share = searching.lists, searching.share
    rows, dim = run.marginals.y.shape
    return plan, lists, min(most, most_at_once(plan.batch.size, int(share * rows) + 1, dim))


def checked(run: Run, state: SolverState) -> None:
    """Check the planes of the last steps; who interrupts this is told what was found before."""
    searching = run.searching
    if searching is None or not searching.looked:
        return
    with contextlib.suppress(KeyboardInterrupt):
        searching.check(_learned(run, state, searching))


def _learned(run: Run, state: SolverState, searching: Searching) -> Learned:
    """New planes for the heights of a state."""
    return stepping.learn(state, run.marginals, run.plan, run.where, searching.lists)


def is_late(run: Run) -> bool:
    """Whether the time is over, by the clock of the first process: all must stop together."""
    limit = run.config.time_limit
    if not limit:
        return False
    return bool(processes.from_first(jnp.asarray(time.monotonic() - run.started > limit)))


@jax.jit
def _running_estimate(
    h: Heights, nu: Weights, chi2: Float[Array, ""], chi2_se: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
    """Running mass error with its standard error, and whether all active heights are finite."""
    finite = jnp.where(nu > 0, jnp.isfinite(h), True).all()
    return *mass_error(chi2, chi2_se), finite

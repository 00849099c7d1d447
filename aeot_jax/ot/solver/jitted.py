"""``solve_jit``: a fixed number of steps with no host in it, for one's own jit, vmap and meshes."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot.counts import estimate
from aeot_jax.ot.counts.certificate import fresh_counts
from aeot_jax.ot.counts.ways.table import INDEPENDENT
from aeot_jax.ot.devices.placement import ALONE, Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.config import SolverConfig, check_config, method_of, refuse_unheeded
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution, no_history
from aeot_jax.ot.solver.starts import start
from aeot_jax.ot.solver.starts.start import checked
from aeot_jax.typing import ArrayLike, Given, PRNGKey


def solve_jit(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    *,
    num_steps: Given[int],
    axis_name: str | None = None,
) -> Solution:
    """A fixed number of steps and a certificate, with no host in it: for use inside jit and vmap.

    The phases are planned for ``num_steps``. Under jit values cannot be looked at: coinciding
    targets are not merged, far groups of them are not found (``solve`` heeds both), and NaN shows
    as a status.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      nu: weights (m,), sum 1; None is uniform.
      config: the user's decisions, without devices, time limit and the method "exact"; "auto" is
        "newton", and ``num_steps`` stands for its other limits.
      num_steps: steps; static.
      axis_name: a mapped axis over whose devices the samples are sharded; see ``step``.

    Returns:
      The solution, its history empty; converged, non-finite or at the step limit.

    Raises:
      ValueError: if shapes or the configuration do not fit.
    """
    key = arguments.key("key", key)
    check_config(config)
    refuse_unheeded("solve_jit", config)
    num_steps = arguments.count("num_steps", num_steps)
    marginals, _ = checked(mu, y, nu)
    axes = Axes(axis_name)
    return solve_traced(key, marginals, config=config, num_steps=num_steps, axes=axes)


@partial(jax.jit, static_argnames=("config", "num_steps", "axes"))
def solve_traced(
    key: PRNGKey, marginals: Marginals, *, config: SolverConfig, num_steps: int, axes: Axes = ALONE
) -> Solution:
    """``solve_jit`` for a problem that is known to be good."""
    mu, y, nu = marginals
    spending = replace(config, tolerance=None, max_samples=None, max_steps=num_steps)
    plan = planning.plan(y.shape[0], mu, spending)
    budget = planning.budget(y.shape[0], mu, spending, plan)
    init_key, check_key = jax.random.split(key)
    state = start.begin(init_key, marginals, plan, budget)
    state, *_ = stepping.advance(state, marginals, plan, axes, num_steps)
    batch = plan.batch._replace(way=INDEPENDENT)
    batches = -(-budget.check_samples // batch.size)
    numbers = jnp.int32(0), jnp.int32(batches)
    counts = fresh_counts(check_key, marginals, state.heights, numbers, batch=batch, axes=axes)
    certificate = estimate.certificate(counts, nu, batches * batch.size)
    tolerance = -1.0 if config.tolerance is None else config.tolerance
    status = jnp.where(certificate.upper <= tolerance, Status.CONVERGED, Status.STEP_LIMIT)
    finite = jnp.where(nu > 0, jnp.isfinite(state.h), True).all()
    other = start.num_check_samples(plan, budget.trust) + stepping.num_own_samples(state, plan)
    return Solution(
        h=state.heights,
        status=jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32),
        certificate=certificate,
        method=method_of(config),
        num_steps=state.step,
        num_samples=state.batches * plan.batch.size + budget.begun,
        num_check_samples=other + batches * batch.size,
        history=no_history(),
    )

"""``solve``: what is asked is checked, then solved exactly or by sampling."""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp

from aeot_jax import arguments
from aeot_jax.machines import processes
from aeot_jax.measures import Measure
from aeot_jax.ot import merging, problem
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.solver.config import SolverConfig, check_config, placement
from aeot_jax.ot.solver.exactly import is_exact, solve_exactly
from aeot_jax.ot.solver.loop.running import MOST_COUNTED, solve_by_sampling
from aeot_jax.ot.solver.moves.adam import check_elementwise, optimizer
from aeot_jax.ot.solver.solution import Solution, SolveProgress
from aeot_jax.ot.solver.starts import known
from aeot_jax.ot.solver.starts.known import Known
from aeot_jax.typing import ArrayLike, Given, PRNGKey


def solve(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    nu: ArrayLike | None = None,
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    h0: ArrayLike | Solution | None = None,
    *,
    on_progress: Given[Callable[[SolveProgress], None] | None] = None,
) -> Solution:
    """Find heights whose cells have the masses that the weights ask for.

    Runs the planned samples, certifies on fresh ones, and goes on with more samples until the
    mass error is within the tolerance with confidence 95 % or a limit is met. Ctrl-C returns the
    heights reached so far. Coinciding targets share one cell (a warning says how many).

    Targets may lie at more than one scale: clusters far apart, a tight one in a broad one, points
    that nearly coincide. After a far miss, or a second miss, such groups are looked for among up to
    65,536 targets with 4 million numbers; if there are some, the solve begins anew with steps that
    heed them (``moves/nested.py``). After a second far miss without groups, as of points of a
    curve, or of steps for groups, heights of up to 8,192 targets are annealed
    (``starts/annealed.py``). float32 tells heights apart down to about a millionth of the spread of
    the scores: nearer targets share their mass as they can.

    On a line and in the plane, with a Gaussian or the uniform cube, ``solve_exact`` is far quicker
    and exact: it answers by default there, with the same certificate, and ``method`` says so. Where
    float32 cannot hold its heights to the tolerance (a thousand targets on a line, clusters thinner
    than 1e-4), sampling goes on, and the better of the two answers is returned.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d), any scale and offset, in any real dtype. Many targets of one or two bytes a
        number stay so, also those of a memory map, and each block is widened where it is scored;
        only ``sampling="orbits"``, the default from d = 32 on, keeps a float32 copy that is turned,
        and ``search="lists"`` one with its heights.
      nu: weights (m,), sum 1; None is uniform. Weights may be 0.
      config: the user's decisions.
      h0: heights (m,) to start from, as those of ``extend_heights``; or the solution of a problem
        some of whose targets are among these: its heights are extended, and what its certificate
        says of them saves samples. Where they miss less mass than the solver's own starts, the
        solve begins from them, and takes the fewer steps the nearer they are; otherwise a warning
        says so. An exact solution needs no start.
      on_progress: called on the host after each chunk of steps.

    Returns:
      The solution; read ``status`` (or call ``raise_if_failed``) before trusting it.

    Raises:
      ValueError: if targets, weights, source, configuration or devices do not fit, or if several
        processes were given different ones; under jit or vmap, where ``solve_jit`` serves.
    """
    way = "call `solve_jit`, which takes its `num_steps`, inside of `jax.jit` and `jax.vmap`"
    arguments.refuse_trace("solve", way, key=key, mu=mu, y=y, nu=nu, h0=h0)
    arguments.function("on_progress", on_progress)
    key = arguments.key("key", key)
    check_config(config)
    where = placed(config)
    made = problem.make(mu, y, nu, sharded=where.target_shards > 1, stored=True)
    asked = problem.asked(mu, y, nu)
    start = known.given(h0, made, asked)
    decisions = repr(replace(config, optimizer=None, devices=None))
    processes.check_agreement(key=key, mu=mu, y=made.y, nu=made.nu, h0=start, config=decisions)
    if start is not None:
        key = known.fresh(key, start, made)
    if made.same is not None:
        merging.warn_of_duplicates(made.same)
    found = solve_prepared(key, made, config, where, on_progress, start)
    return replace(found, problem=asked)


def placed(config: SolverConfig) -> Placement:
    """Where to solve; what does not fit is refused before the first step."""
    where = placement(config)
    if where.target_shards > 1:
        check_elementwise(optimizer(config.optimizer, config.learning_rate))
    return where


def solve_prepared(
    key: PRNGKey,
    made: problem.Prepared,
    config: SolverConfig,
    where: Placement,
    on_progress: Callable[[SolveProgress], None] | None = None,
    h0: Known | None = None,
) -> Solution:
    """``solve`` for a problem that is known to be good; the solution does not hold it."""
    found = solve_exactly(key, made, config) if is_exact(made, config) else None
    if found is not None and (bool(found.converged) or config.method == "exact"):
        return found
    report = on_progress or (lambda _: None)
    solution = solve_by_sampling(key, made, config, where, report, h0)
    return solution if found is None else _better(solution, found)


def _better(sampled: Solution, found: Solution) -> Solution:
    """What sampling found, unless exact heights that miss the tolerance too are nearer to it."""
    total = min(int(sampled.num_check_samples) + int(found.num_check_samples), MOST_COUNTED)
    uppers = float(sampled.certificate.upper), float(found.certificate.upper)
    if bool(sampled.converged) or uppers[0] <= uppers[1]:
        return replace(sampled, num_check_samples=jnp.asarray(total, jnp.int32))
    return replace(
        found,
        status=sampled.status,
        num_samples=sampled.num_samples,
        num_check_samples=jnp.asarray(total, jnp.int32),
        history=sampled.history,
    )

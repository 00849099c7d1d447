"""Flow matching, on pairs of any noise with any datum, and on semi-discrete pairs.

The network, its step and Euler's method are those of ``velocity.py``.

Sources: Lipman et al., Flow Matching for Generative Modeling, ICLR 2023; arXiv 2509.25519
(semi-discrete pairs).
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import velocity
from jaxtyping import Array, Float

import aeot_jax as aeot
from baselines.method import CHUNK, DRAW, Budget, Fitted, Method, Points, in_draws, learn, units
from baselines.networks import averaged, falling

_BATCH = 256
_KEPT = 0.998
"""What the average of the weights keeps of itself in a step."""
_EULER = 50
"""Steps of Euler's method."""


@partial(jax.jit, static_argnums=(0, 1))
def _chunk(
    graph: Any,
    decay: bool,
    y: Array,
    h: Array | None,
    at: velocity.Training,
    key: Array,
    progress: Float[Array, ""],
) -> velocity.Training:
    """Some steps, with pairs of independent points or, given heights, of the transport map.

    With decay the rate falls in the second half of the budget: a part of the network's own step.
    """
    factor = falling(progress, decay)

    def move(at: velocity.Training, k: Array) -> tuple[velocity.Training, None]:
        x_key, y_key, own = jax.random.split(jax.random.fold_in(key, k), 3)
        x = jax.random.normal(x_key, (_BATCH, y.shape[1]))
        if h is None:
            target = y[jax.random.randint(y_key, (_BATCH,), 0, len(y))]
        else:
            target = aeot.transport(x, y, h)
        label = jnp.zeros(_BATCH, jnp.int32)
        made = velocity.step(graph, at, own, (x, target, label))
        params = optax.incremental_update(made.params, at.params, factor)
        average = averaged(at.averaged, params, _KEPT, at.step)
        return made._replace(params=params, averaged=average), None

    return jax.lax.scan(move, at, jnp.arange(CHUNK))[0]


def fit(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Learn until the budget is spent, the solution of the transport included.

    Args:
      key: of everything.
      data: points.
      budget: CPU-seconds or steps.
      settings: ``width`` of the network; ``decay``, whether its rate falls; ``tolerance``, the
        mass error of semi-discrete pairs, or None for independent ones; ``targets``, how many data
        these use at most.
    """
    width, tolerance, targets = (settings[name] for name in ("width", "tolerance", "targets"))
    frame, dim = units(data), data.shape[1]
    solve_key, seed_key, own = jax.random.split(key, 3)
    y, h, solved = jnp.asarray(frame.enter(data)), None, 0.0
    about: dict[str, Any] = {}
    if tolerance is not None:
        y = y[:targets]
        config = aeot.SolverConfig(tolerance=tolerance)
        aeot.solve(solve_key, aeot.Gaussian(dim), y, config=config)  # compiles, not counted
        began = time.process_time()
        solution = aeot.solve(solve_key, aeot.Gaussian(dim), y, config=config)
        h, solved = solution.h, time.process_time() - began
        about |= {"solve_s": solved, "mass_error": float(solution.mass_error)}
        if budget.seconds is not None:
            budget = Budget(max(budget.seconds / 10, budget.seconds - solved), budget.steps)
    seed = int(jax.random.randint(seed_key, (), 0, 2**31 - 1))
    graph, start = velocity.begin(seed, dim, 1, width)
    found = learn(own, start, partial(_chunk, graph, settings["decay"], y, h), budget)

    def sampler(at: velocity.Training):
        def draw(key: Array) -> Array:
            x = jax.random.normal(key, (DRAW, dim))
            return velocity.flow(graph, at.averaged, x, jnp.zeros(DRAW, jnp.int32), _EULER)

        return frame.leave(in_draws(draw))

    about |= {"steps": found.steps}
    seconds = found.seconds + solved
    return Fitted(sampler(found.state), seconds, sampler(found.half), about)


_SETTINGS = {"width": 128, "tolerance": None, "targets": 10_000, "decay": True}
_SEARCHED = {"width": (64, 128)}

INDEPENDENT = Method(fit, _SETTINGS, _SEARCHED, learns=True)
SEMI_DISCRETE = Method(fit, {**_SETTINGS, "tolerance": 0.1}, _SEARCHED, learns=True)

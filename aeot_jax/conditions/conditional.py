r"""Transport of noise beside a condition: ``solve_conditional``.

The source is the product of the noise and the law of the conditions; the targets are
:math:`(y_i, \sqrt\beta z_i)`, and both sides carry :math:`\sqrt\beta z`. The cost is thus
:math:`|x - y_i|^2/2 + \beta |z - z_i|^2/2`. With a small beta the condition drawn is ignored, paths
are short, and the noise tells which condition its target has; with a large beta the target has the
condition drawn, as if each condition were solved by itself, and the noise tells nothing.

**Beta by a principle.** Training on (x, z_i, y_i) is right as far as the noise is independent of
z_i (``leakage.py``). "auto" is the smallest beta, up to a factor 1.5, whose leakage is at most
``max_leakage`` with confidence 95 %: of all couplings that a model can be asked to reproduce, the
one with the shortest paths.

Sources: Kerrigan et al. 2024 and Hosseini et al. 2023 (weights on the condition, and their limit);
Cheng, Schwing 2025, C2OT (what pairs without them do to conditional models).
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aeot_jax import arguments
from aeot_jax.conditions.answer import Conditional, Trials
from aeot_jax.conditions.asked import Asked
from aeot_jax.conditions.by_label import solved_by_label
from aeot_jax.conditions.codes import Codes, codes_of
from aeot_jax.conditions.leakage import Leakage, probe
from aeot_jax.measures import Measure
from aeot_jax.ot import checks, merging
from aeot_jax.ot.solver.config import SolverConfig, check_config
from aeot_jax.ot.solver.loop.running import StartWarning
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.ot.solver.solve import solve
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_STEP = 4.0
"""Factor between two trials of beta, until one leaks and one does not."""

_NEAR = 1.5
"""Factor between those two at which the search ends."""

_REACH = 4.0**6
"""Factor by which beta may leave the ratio of the variances of targets and conditions."""

_TRIAL_TOLERANCE = 0.3
"""Mass error of a trial: the leakage hardly depends on it."""


def solve_conditional(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    z: ArrayLike,
    beta: Given[float | Literal["auto"]] = "auto",
    config: Given[SolverConfig] = SolverConfig(),  # noqa: B008 - frozen
    *,
    nu: ArrayLike | None = None,
    max_leakage: Given[float] = 0.05,
    num_samples: Given[int] = 16_384,
) -> Conditional:
    r"""Carry noise beside a condition to targets that have one, for conditional models.

    The cost is :math:`|x - y_i|^2/2 + \beta|z - z_i|^2/2`, where z is drawn independently of x from
    the conditions of the targets. Labels count as unit vectors: two that differ cost beta.

    Args:
      key: consumed.
      mu: source measure of the noise.
      y: targets (m, d).
      z: conditions of the targets: integer labels (m,), or vectors (m, k).
      beta: weight of the condition, above 0. "auto" is the smallest, up to a factor 1.5, with which
        the noise explains at most ``max_leakage`` of the condition's variance. ``math.inf``, for
        labels, solves the problem of each label by itself; take it for a weight so large that
        float32 loses the rest of the cost beside it, which the certificate would show.
      config: the user's decisions, as for ``solve``.
      nu: weights of the targets (m,), sum 1; the conditions have the same. None is uniform.
      max_leakage: what the leakage shall be at most, with confidence 95 %, if beta is "auto".
      num_samples: samples of the noise by which the leakage is measured.

    Returns:
      The solution with the beta chosen and the leakage measured. Where no beta leaks so little, a
      warning says so for vectors, and labels are solved each by itself.

    Raises:
      ValueError: if shapes, conditions, beta or the configuration do not fit; under jit.

    Example:
      >>> import jax, numpy as np, aeot_jax as aeot
      >>> y = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
      >>> labels = (y[:, 0] > 0).astype(int)
      >>> config = aeot.SolverConfig(tolerance=0.3, start="voronoi")
      >>> key = jax.random.key(0)
      >>> found = aeot.solve_conditional(key, aeot.Gaussian(3), y, labels, 4.0, config)
      >>> x, z, y_i, i = found.pairs(jax.random.key(1), 256)  # train a model of x, z on y_i
      >>> bool((z == labels[i]).all())
      True
    """
    arguments.refuse_trace(
        "solve_conditional", "call it outside of `jax.jit`", key=key, mu=mu, y=y, z=z, nu=nu
    )
    key = arguments.key("key", key)
    check_config(config)
    targets = np.asarray(checks.points("y", y))
    checks.check_measure(mu, targets)
    weights = None if nu is None else np.asarray(checks.weights(nu, targets))
    codes = codes_of(z, targets.shape[0], weights)
    weight = _checked_beta(beta, codes)
    largest = {"above": True, "what": "a share between 0 and 1"}
    max_leakage = arguments.number("max_leakage", max_leakage, 0.0, 1.0, **largest)
    num_samples = arguments.count("num_samples", num_samples, 2, what="a number of samples")
    asked = Asked(mu, targets, codes, config, num_samples)
    keys = (jax.random.fold_in(key, i) for i in range(2**31))
    if weight is not None:
        return _found(asked, keys, weight, None, [])
    weight, h0, trials = _searched(asked, keys, max_leakage)
    return _found(asked, keys, weight, h0, trials)


class _Trial(NamedTuple):
    """A beta, and what was measured with it."""

    beta: float
    leakage: Leakage


def _checked_beta(beta: Any, codes: Codes) -> float | None:
    """The weight; None is to be searched for."""
    if isinstance(beta, str):
        arguments.choice("beta", beta, ("auto",))
        return None
    what = "a number above 0, or 'auto'"
    weight = arguments.number("beta", beta, 0.0, above=True, infinite=True, what=what)
    if math.isinf(weight) and codes.labels is None:
        raise ValueError(
            "`beta` is inf, but `z` holds vectors, of which each would be solved by itself; pass a "
            "finite number, or integer labels."
        )
    return weight


def _searched(
    asked: Asked, keys: Iterator[Array], max_leakage: float
) -> tuple[float, Any, list[_Trial]]:
    """The smallest beta that leaks little enough, heights near its own, and the trials."""
    tolerance = asked.config.tolerance
    if tolerance is not None:
        tolerance = max(tolerance, _TRIAL_TOLERANCE)
    loose = asked._replace(config=replace(asked.config, tolerance=tolerance))
    y, nu = asked.y.astype(np.float64), asked.codes.nu
    spread = np.average(np.square(y - np.average(y, 0, nu)).sum(1), 0, nu)
    unit = float(spread / asked.codes.variance) or 1.0
    leaks, serves, h, h0, beta, trials = None, None, None, None, unit, []
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StartWarning)
            warnings.simplefilter("ignore", merging.CoincidenceWarning)
            found, leakage = _measured(loose, keys, beta, h)
        h = found.h
        trials.append(_Trial(beta, leakage))
        if leakage.upper <= max_leakage:
            serves, h0 = beta, h
        else:
            leaks = beta
        if serves is not None and leaks is not None:
            if serves <= _NEAR * leaks:
                return serves, h0, trials
            beta = math.sqrt(serves * leaks)
        elif leaks is not None:
            if beta >= unit * _REACH:
                return _beyond(asked.codes, trials, max_leakage), h, trials
            beta *= _STEP
        elif beta <= unit / _REACH:
            return beta, h0, trials
        else:
            beta /= _STEP


def _beyond(codes: Codes, trials: list[_Trial], max_leakage: float) -> float:
    """What to take where every finite beta leaks: each label by itself, or the largest."""
    if codes.labels is not None:
        return math.inf
    last = trials[-1]
    warnings.warn(
        f"`max_leakage` is {max_leakage:g}, but with the largest `beta`, {last.beta:.3g}, the "
        f"noise explains {last.leakage.share:.2g} of the condition's variance; raise "
        "`num_samples` or `max_leakage`, or pass `beta`.",
        stacklevel=4,
    )
    return last.beta


def _found(
    asked: Asked, keys: Iterator[Array], beta: float, h0: Any, trials: list[_Trial]
) -> Conditional:
    """The solution at a beta, with its leakage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StartWarning)
        solution, leakage = _measured(asked, keys, beta, None if math.isinf(beta) else h0)
    trials = trials or [_Trial(beta, leakage)]
    columns = [(trial.beta, trial.leakage.share, trial.leakage.kept) for trial in trials]
    return Conditional(
        solution=solution,
        z=jnp.asarray(asked.codes.given),
        beta=jnp.float32(beta),
        leakage=jnp.float32(leakage.share),
        leakage_se=jnp.float32(leakage.se),
        kept=jnp.float32(leakage.kept),
        trials=Trials(*np.array(columns, np.float64).T),
    )


def _measured(
    asked: Asked, keys: Iterator[Array], beta: float, h0: Any
) -> tuple[Solution, Leakage]:
    """Solve the augmented problem, and measure what leaks."""
    if math.isinf(beta):
        solution, beta = solved_by_label(asked, keys)
        mu, y = asked.augmented(beta)
    else:
        mu, y = asked.augmented(beta)
        solution = solve(next(keys), mu, y, asked.codes.nu, asked.config, h0)
    share = (mu, y, solution.h, asked.codes, beta, asked.num_samples)
    return solution, probe(next(keys), *share)

"""Where the exact solver can answer: on a line and in the plane, with its certificate."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax.measures import Gaussian, Measure, UniformCube
from aeot_jax.ot import checks
from aeot_jax.ot.counts import estimate
from aeot_jax.ot.counts.certificate import draw as draw_certificate
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.exact import exact
from aeot_jax.ot.exact.exact import ExactSolution
from aeot_jax.ot.problem import Marginals, Prepared
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import SolverConfig
from aeot_jax.ot.solver.result import Method, Status
from aeot_jax.ot.solver.solution import Solution, history_of
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_SOURCES = {Gaussian: "gaussian", UniformCube: "uniform"}
"""Sources that the exact solver knows, by its names."""

_DIMS = 2

_KEY = 2**32 - 1
"""What the key is folded with for the certificate of exact heights; sampling uses other keys."""

_MOST_TARGETS = 200_000
"""Targets up to which "auto" solves exactly."""


def solve_exact(
    mu: Given[Measure] | ArrayLike | None = None,
    y: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    source: Given[str | None] = None,
    tolerance: Given[float] = 1e-9,
    max_steps: Given[int] = 100,
) -> ExactSolution:
    """Solve semi-discrete optimal transport exactly, for targets on the line or in the plane.

    The old form ``solve_exact(y, nu, source="uniform")`` serves for one version more.

    Args:
      mu: `Gaussian` or `UniformCube`, of 1 or 2 dimensions.
      y: (m,), (m, 1) or (m, 2) targets; equal targets are one target to the solver.
      nu: (m,) weights, sum 1; equal weights unless given. Zero weights are allowed.
      source: of the old form, "uniform" or "gaussian".
      tolerance: largest ``mass_error`` that counts as converged.
      max_steps: Newton steps at most.

    Returns:
      The solution, with ``converged`` False where float64 or ``max_steps`` stopped short of the
      tolerance. Rounding of h alone moves masses by about 1e-16 * size(y) / distance to the next
      target: targets nearer to each other than 1e-7 of their extent are beyond the default.

    Raises:
      ValueError: if the source is another one, the dimension is 3 or more or not that of the
        source, a target is not finite, the weights are no distribution over the targets, or an
        option is out of range.
    """
    options = {"tolerance": tolerance, "max_steps": max_steps}
    if mu is not None and not isinstance(mu, Measure):
        y, nu = mu, y if nu is None else nu
    if y is None:
        raise ValueError("`y` is None; pass the targets (m, d) after the source.")
    if not isinstance(mu, Measure):
        return exact.solve_exact(y, nu, source=source or "uniform", **options)
    if source is not None:
        raise ValueError(f"`source` is {source!r} beside the measure `mu`; leave it out.")
    if not _is_known(mu):
        raise ValueError(
            f"`mu` is {mu!r}; pass a Gaussian or a UniformCube of 1 or 2 dimensions, or call "
            "`solve`, which takes any source."
        )
    targets, _ = exact.check_targets(y)
    checks.check_measure(mu, targets)
    return exact.solve_exact(y, nu, source=_SOURCES[type(mu)], **options)


def _is_known(mu: Measure) -> bool:
    """Whether the exact solver takes a source."""
    return type(mu) in _SOURCES and mu.dim <= _DIMS


def is_exact(made: Prepared, config: SolverConfig) -> bool:
    """Whether the exact solver is asked for, or can answer and nothing says otherwise."""
    mu = made.mu
    possible = _is_known(mu)
    if config.method == "exact" and not possible:
        raise ValueError(
            f"`method` is 'exact', which takes Gaussian or UniformCube in 1 or 2 dimensions, but "
            f"`mu` is {type(mu).__name__} in {mu.dim}; choose 'auto'."
        )
    defaults = SolverConfig()
    unasked = ("method", "tolerance", "parallel", "devices", "target_shards")
    asked = replace(config, **{name: getattr(defaults, name) for name in unasked}) != defaults
    few = made.num_targets <= _MOST_TARGETS
    return config.method == "exact" or (config.method == "auto" and possible and few and not asked)


def solve_exactly(key: PRNGKey, made: Prepared, config: SolverConfig) -> Solution:
    """The exact heights with their certificate, which float32 may keep from the tolerance.

    So few targets in so few dimensions need no sharding.
    """
    own = slice(made.num_targets)
    y, nu = np.asarray(made.y, np.float32), np.asarray(made.nu)
    found = exact.solve_exact(y[own], nu[own], source=_SOURCES[type(made.mu)])
    budget = planning.budget(made.num_targets, made.mu, config)
    h = np.full(len(y), -np.inf, np.float32)
    h[own] = found.h
    check_key = jax.random.fold_in(key, _KEY)
    checked = Marginals(made.mu, jnp.asarray(y), jnp.asarray(nu))
    certificate = draw_certificate(check_key, checked, jnp.asarray(h), budget.check_samples)
    if not is_reached(certificate, config):  # exact masses tell what no draw can see
        masses = exact.exact_masses(y[own], h[own], source=_SOURCES[type(made.mu)])
        certificate = estimate.with_masses(certificate, masses, nu[own])
    reached = is_reached(certificate, config)
    return Solution(
        h=made.of_users(h),
        status=jnp.asarray(Status.CONVERGED if reached else Status.STEP_LIMIT, jnp.int32),
        certificate=certificate,
        method=jnp.asarray(Method.EXACT, jnp.int32),
        num_steps=jnp.asarray(found.num_steps, jnp.int32),
        num_samples=jnp.asarray(0, jnp.int32),
        num_check_samples=certificate.num_samples,
        history=history_of([]),
    )


def is_reached(certificate: Certificate, config: SolverConfig) -> bool:
    """Whether a certificate is within the tolerance, if one was asked for."""
    return config.tolerance is not None and float(certificate.upper) <= config.tolerance

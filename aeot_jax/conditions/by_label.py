"""The limit of an infinite weight: each label is solved by itself."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax.classes import solve_classes
from aeot_jax.conditions.asked import Asked
from aeot_jax.measures import draw
from aeot_jax.ot import problem
from aeot_jax.ot.duality.certify import certify
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import LARGEST
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution, history_of

_NORM_SAMPLES = 65_536
"""Samples of the noise, whose largest norm tells how far scores can differ."""

_MARGIN = 2.0
"""Times that difference is a weight that no noise outweighs."""

_MOST_LOOKS = 4
"""Certificates at most, each of four times the samples: too few see little of light targets."""


def solved_by_label(asked: Asked, keys: Iterator[Array]) -> tuple[Solution, float]:
    """Solve the problem of each label, and tell the answer as one of the augmented problem.

    There a finite weight stands for the infinite one: it outweighs any difference of scores, so
    that the target has the label drawn.

    Args:
      asked: the problem; its conditions are labels.
      keys: consumed as far as needed.

    Returns:
      The solution, certified by samples of the augmented problem, and the weight.
    """
    labels = asked.codes.labels
    assert labels is not None  # vectors were refused
    near = np.asarray(asked.y.astype(np.float64) - asked.y.mean(0, np.float64), np.float32)
    nu = asked.codes.nu
    rows = np.arange(len(labels))
    if nu is not None:  # labels without weight own no cell
        rows = np.flatnonzero(np.isin(labels, labels[nu > 0]))
    weights = None if nu is None else nu[rows]
    classes = solve_classes(
        next(keys), asked.mu, near[rows], labels[rows], asked.config, nu=weights, extension=False
    )
    found = classes.solution
    h = np.full(len(labels), -np.inf, np.float32)
    for name, own in zip(np.asarray(classes.labels).tolist(), np.asarray(found.h), strict=True):
        members = rows[classes.index(name)]
        h[members] = own[: len(members)]
    x = np.asarray(draw(next(keys), asked.mu, _NORM_SAMPLES))
    beta = _enough(x, near[rows], h[rows])
    mu, targets = asked.augmented(beta)
    budget = planning.budget(len(h), mu, asked.config)
    if nu is not None:  # light targets take more samples to be seen
        moved = int(np.asarray(found.num_samples).sum())
        budget = planning.seeing(budget, nu, asked.config, moved)
    number, tolerance = budget.check_samples, asked.config.tolerance
    checked = found.num_check_samples.sum(dtype=jnp.int32)
    for _ in range(_MOST_LOOKS):
        certificate = certify(next(keys), mu, targets, h, nu, number)
        checked += certificate.num_samples
        reached = tolerance is not None and float(certificate.upper) <= tolerance
        least = float(certificate.mass_error - 2 * certificate.mass_error_se)
        if reached or tolerance is None or least > tolerance:
            break
        number = min(4 * number, LARGEST)
    worst = max(Status.STEP_LIMIT, int(np.asarray(found.status).max()))
    solution = Solution(
        h=jnp.asarray(h),
        status=jnp.int32(Status.CONVERGED if reached else worst),
        certificate=certificate,
        method=found.method[0],
        num_steps=found.num_steps.max(),
        num_samples=found.num_samples.sum(dtype=jnp.int32),
        num_check_samples=checked,
        history=history_of([]),
        problem=problem.asked(mu, targets, nu),
    )
    return solution, beta


def _enough(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], h: Float[np.ndarray, " m"]
) -> float:
    """A weight above all differences of scores <x, y_i> + h_i, by the inequality of Schwarz."""
    norms = [float(np.linalg.norm(points, axis=1).max()) for points in (x, y)]
    finite = h[np.isfinite(h)]
    spread = float(np.ptp(finite)) if finite.size else 0.0
    return _MARGIN * (2 * norms[0] * norms[1] + spread) or 1.0

"""Heights that are known before a solve: given as an array, or those of a solution."""

import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from aeot_jax.ot import checks
from aeot_jax.ot.problem import Prepared, Problem
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.ot.solver.starts import growing
from aeot_jax.typing import ArrayLike, PRNGKey


class Known(NamedTuple):
    """Heights to start from, for the targets of a prepared problem; a pytree.

    Attributes:
      h: heights (rows,).
      new: 1 at targets whose height is a guess, 0 at others (rows,); None if all are alike.
      chi2: square of the mass error of the others among each other; None with ``new``.
      cost: what it was times the samples a target that found them, by which the host plans; 0 if
        there were none, None with ``new``.
    """

    h: Any
    new: Any = None
    chi2: Any = None
    cost: Any = None


def given(h0: ArrayLike | Solution | None, made: Prepared, asked: Problem) -> Known | None:
    """Heights that the user gives, checked.

    Args:
      h0: heights (m,), or a solution of a problem whose targets may be among these.
      made: the problem to solve.
      asked: the same as the user gave it.

    Raises:
      ValueError: if heights do not fit the targets, or a solution does not hold its problem.
    """
    if h0 is None:
        return None
    if isinstance(h0, Solution):
        return _of_solution(h0, made, asked)
    h = made.heights(h0, "h0")
    if (lost := np.isneginf(h) & (np.asarray(made.nu) > 0)).any():
        raise ValueError(
            f"`h0` is -inf at {int(lost.argmax())}, a target with a positive weight; pass a finite "
            "height, for instance by `extend_heights`."
        )
    return Known(h)


def fresh(key: PRNGKey, known: Known, made: Prepared) -> PRNGKey:
    """A key whose samples these heights have not met, though the same key may have found them.

    Samples that moved heights once tell nothing more: a warm solve by them stays where it was.
    """
    heights = np.asarray(known.h, np.float32)[: made.num_targets]
    return jax.random.fold_in(key, zlib.crc32(heights.tobytes()))


def _of_solution(solution: Solution, made: Prepared, asked: Problem) -> Known:
    """Heights of the targets that a solution knows, guesses at the others, and what it misses."""
    before = solution.problem
    if np.ndim(solution.h) != 1:
        raise ValueError(
            f"`h0` is a batch of solutions, with heights of shape {np.shape(solution.h)}; pass one "
            "of them."
        )
    if before is None:
        raise ValueError(
            "`h0` is a solution that does not hold its problem, as those of `solve_jit`; pass "
            "heights (m,), for other targets by `extend_heights`."
        )
    if np.shape(before.y)[1] != made.mu.dim:
        raise ValueError(
            f"`h0` is a solution of targets in dimension {np.shape(before.y)[1]}; pass one of "
            f"dimension {made.mu.dim}, as these targets have."
        )
    extended = growing.extended(before.y, solution.h, asked.y)
    chi2 = np.inf
    if _equal(before.mu, asked.mu):
        nu = checks.weights(before.nu, before.y), checks.weights(asked.nu, asked.y)
        chi2 = _missed(float(solution.certificate.chi2), extended, *nu)
    cost = solution.certificate.chi2 * solution.num_samples / np.shape(solution.h)[0]
    cost = cost if np.isfinite(cost) else 0.0
    marks = made.marks(extended.where < 0)
    return Known(made.heights(extended.heights), marks, np.float32(chi2), np.float32(cost))


def _equal(one: Any, other: Any) -> bool:
    """Whether two sources are the same."""
    leaves, structure = jax.tree.flatten(one)
    others, other_structure = jax.tree.flatten(other)
    return structure == other_structure and all(map(np.array_equal, leaves, others))


def _missed(
    certified: float, extended: growing.Extended, before: ArrayLike, now: ArrayLike
) -> float:
    r"""Square of the mass error that old heights should have among the targets that are left.

    The masses p of the old cells, as certified, miss the new weights q of those targets by
    :math:`\sum (p - q)^2 / q` more, both with sum 1. Nothing is known where a target was removed.

    Args:
      certified: chi^2 of the solution.
      extended: which old target each new one equals.
      before: weights of the old ones (m,).
      now: weights of the new ones (n,).
    """
    p, q = (
        np.bincount(where[where >= 0], np.asarray(nu, np.float64)[where >= 0], len(extended.own))
        for where, nu in ((extended.own, before), (extended.where, now))
    )
    if not q.sum() or (q[p > 0] == 0).any() or np.isnan(certified):
        return np.inf
    p, q = p[q > 0] / p.sum(), q[q > 0] / q.sum()
    return max(certified, 0.0) + float((np.square(p - q) / q).sum())

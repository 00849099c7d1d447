"""What a solve tells: heights, their certificate, how they came about, and how far it is."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.counts.words import in_words
from aeot_jax.ot.lists.searching import Search
from aeot_jax.ot.problem import Problem
from aeot_jax.ot.solver.result import Method, Status
from aeot_jax.reprs import brief, number, numbers, or_brief, short
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Given


class History(NamedTuple):
    """One entry a chunk of steps; see ``solver.run_steps`` for how it is estimated.

    The estimates are unbiased; but most average over heights that move, and stopping looks at them:
    they are a picture and not the certificate.

    Attributes:
      num_samples: samples so far (c,).
      mass_error: of the chunk's mean masses (c,).
      mass_error_se: its standard error (c,).
    """

    num_samples: Int[Array | np.ndarray, "*batch c"]
    mass_error: Float[Array | np.ndarray, "*batch c"]
    mass_error_se: Float[Array | np.ndarray, "*batch c"]

    __repr__ = brief


def history_of(entries: list[tuple[int, float, float]]) -> History:
    """A history of the number of samples, the mass error and its error of each chunk."""
    columns = np.array(entries, np.float64).reshape(-1, 3)
    return History(columns[:, 0].astype(np.int64), columns[:, 1], columns[:, 2])


def no_history() -> History:
    """The history of a solve that keeps none."""
    none = jnp.zeros((0,), jnp.float32)
    return History(jnp.zeros((0,), jnp.int32), none, none)


class SolveProgress(NamedTuple):
    """What a progress callback gets after each chunk.

    Attributes:
      num_samples: samples that have moved the heights.
      planned_samples: samples after which the tolerance should be reached.
      mass_error: running estimate, see ``History``; while heights are annealed, that of the last
        certificate.
      mass_error_se: its standard error.
    """

    num_samples: int
    planned_samples: int
    mass_error: float
    mass_error_se: float

    def __str__(self) -> str:
        """The estimate in words; within its noise, what it is at most."""
        return f"mass error {in_words(self.mass_error, self.mass_error_se)}"


@register
@dataclass(frozen=True)
class Solution:
    """Heights with their certificate.

    Attributes:
      h: heights (m,), their nu-weighted mean 0; -inf where the weight is 0. NumPy's where the
        targets were sharded over devices.
      status: code of ``Status``; ``message(status)`` is a sentence.
      certificate: from fresh samples drawn after the decision to stop.
      method: code of ``Method``: what found the heights.
      num_steps: steps of the solver.
      num_samples: samples that moved the heights; 0 if they are exact.
      num_check_samples: all other samples: starts, gaps, certificates.
      history: one entry a chunk of steps.
      search: under ``SolverConfig(search="lists")``, how cells were found: among so many ``lists``,
        of which a sample looked at ``probes``; ``wrong_at_most`` bounds the share of samples in a
        wrong cell, with confidence 95 %. None where all targets were scored, and from a file.
      problem: what was asked, as it was given; None from ``solve_jit``, where a ``vmap`` would make
        copies of the targets, and in the records of a model, which holds them once.
    """

    h: Float[Array | np.ndarray, "*batch m"]
    status: Int[Array, "*batch"]
    certificate: Certificate
    method: Int[Array, "*batch"]
    num_steps: Int[Array, "*batch"]
    num_samples: Int[Array, "*batch"]
    num_check_samples: Int[Array, "*batch"]
    history: History
    search: Search | None = None
    problem: Problem | None = None

    @or_brief
    def __repr__(self) -> str:
        """What was solved, why it ended, and how good it is; of several, how many converged."""
        codes, certificate = numbers(self.status), self.certificate
        if codes.ndim:
            done = int((codes == Status.CONVERGED).sum())
            return f"Solution(h={short(self.h)}; {done} of {codes.size} converged)"
        error = in_words(*map(number, (self.mass_error, self.mass_error_se, certificate.upper)))
        return (
            f"Solution({np.shape(self.h)[-1]:,} heights by {Method(number(self.method)).name}, "
            f"status {Status(number(self.status)).name}: mass error {error}; "
            f"{number(self.num_steps):,.0f} steps, {number(self.num_samples):,.0f} samples "
            f"and {number(self.num_check_samples):,.0f} to check)"
        )

    @property
    def converged(self) -> Array:
        """Whether ``certificate.upper`` is within the tolerance."""
        return self.status == Status.CONVERGED

    @property
    def mass_error(self) -> Array:
        """Certified mass error: sqrt of sum (w - nu)^2 / nu."""
        return self.certificate.mass_error

    @property
    def mass_error_se(self) -> Array:
        """Its standard error."""
        return self.certificate.mass_error_se


def parts_of(
    mu: Given[Measure | Solution],
    y: ArrayLike | None,
    h: ArrayLike | None,
    nu: ArrayLike | None = None,
) -> tuple[Given[Measure], ArrayLike, ArrayLike, ArrayLike | None]:
    """Source, targets, heights and weights, as they were passed or as a solution holds them.

    What was passed is not looked at: the functions that take it say what is wrong.

    Raises:
      ValueError: if a solution comes with what it holds itself, or holds no problem, or if targets
        or heights are missing without one.
    """
    if not isinstance(mu, Solution):
        if hasattr(mu, "solution") and hasattr(mu, "coupling"):
            raise ValueError(
                f"`mu` is a {type(mu).__name__}; pass its `solution`, or call its own `coupling`."
            )
        if hasattr(mu, "solution") and hasattr(mu, "extension"):
            raise ValueError(
                f"`mu` is of class {type(mu).__name__}; pass its `extension.mu`, `extension.y` and "
                "`extension.h` each."
            )
        if all(hasattr(mu, name) for name in ("mu", "y", "h")):
            raise ValueError(
                f"`mu` is of class {type(mu).__name__}; pass its `mu`, `y` and `h` each."
            )
        for name, value, what in (("y", y, "targets (m, d)"), ("h", h, "heights (m,)")):
            if value is None:
                raise ValueError(
                    f"`{name}` is None; pass the {what}, or a `Solution` of `solve` in place of "
                    "`mu`, `y`, `h` and `nu`."
                )
        return mu, y, h, nu  # pyright: ignore[reportReturnType] - neither is None
    for name, value in (("y", y), ("h", h), ("nu", nu)):
        if value is not None:
            raise ValueError(
                f"`{name}` is given beside a `Solution`, which holds it; leave it out, or pass "
                "`mu`, `y`, `h` and `nu` each."
            )
    if mu.problem is None:
        raise ValueError(
            "`mu` is a `Solution` without its problem, as `solve_jit` and models have it; pass "
            "`mu`, `y`, `h` and `nu` each: a model's `extension` has the first three."
        )
    return mu.problem.mu, mu.problem.y, mu.h, mu.problem.nu

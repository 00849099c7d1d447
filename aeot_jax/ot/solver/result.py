"""Why a solve ended, in a sentence, what solved it, and an error for those who want one."""

from enum import IntEnum
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Int

from aeot_jax import arguments
from aeot_jax.ot.solver.moves.table import Method as Method
from aeot_jax.typing import ArrayLike, Given


class Status(IntEnum):
    """Why the solver stopped; ``message`` has a sentence for each."""

    RUNNING = 0
    """It has not stopped: a state of ``init`` and ``step``, whose heights are not certified."""

    CONVERGED = 1
    """The mass error is certified to be within the tolerance."""

    STEP_LIMIT = 2
    """``max_steps`` came before the tolerance was certified."""

    SAMPLE_LIMIT = 3
    """``max_samples`` came before the tolerance was certified."""

    TIME_LIMIT = 4
    """``time_limit`` came before the tolerance was certified."""

    NON_FINITE = 5
    """A height became infinite or not a number; the last finite heights are returned."""

    INTERRUPTED = 6
    """Ctrl-C came; the heights reached so far are returned."""


_SENTENCES = {
    Status.RUNNING: "The solver has not stopped; its heights are not certified.",
    Status.CONVERGED: "Converged: the mass error is certified to be within the tolerance.",
    Status.STEP_LIMIT: "Stopped at the step limit before the tolerance was certified; raise "
    "`max_steps` or `tolerance`.",
    Status.SAMPLE_LIMIT: "Stopped at the sample limit before the tolerance was certified; raise "
    "`max_samples` or `tolerance`.",
    Status.TIME_LIMIT: "Stopped at the time limit before the tolerance was certified; raise "
    "`time_limit` or `tolerance`.",
    Status.NON_FINITE: "A height became infinite or not a number; the last finite heights are "
    "returned. Check the targets and the optimiser's learning rate.",
    Status.INTERRUPTED: "Interrupted by the user; the heights reached so far are returned.",
}


class SolveError(RuntimeError):
    """A solve did not converge."""


@runtime_checkable
class HasStatus(Protocol):
    """Anything with a status code."""

    @property
    def status(self) -> Int[Array, ""]:
        """Status code, a scalar array."""
        ...


def message(outcome: ArrayLike | Given[HasStatus]) -> str:
    """The sentence that belongs to a status code.

    Args:
      outcome: the code, or the solution that has it: where that did not converge, a second sentence
        says which targets its certificate could not verify, if any.
    """
    _refuse_holder("outcome", outcome)
    if not isinstance(outcome, HasStatus):
        code = arguments.count("outcome", outcome, 0, max(Status), "a solution or its `status`")
        return _SENTENCES[Status(code)]
    status = Status(int(np.asarray(jax.device_get(outcome.status))))
    certificate = getattr(outcome, "certificate", None)
    if status is Status.CONVERGED or certificate is None:
        return _SENTENCES[status]
    return f"{_SENTENCES[status]} {certificate.unverified()}".rstrip()


def _refuse_holder(name: str, value: object) -> None:
    """Name the solution in what holds one: a fitted model, transport under conditions."""
    if isinstance(getattr(value, "solution", None), HasStatus):
        raise ValueError(f"`{name}` is of class {type(value).__name__}; pass its `solution`.")


def raise_if_failed(solution: Given[HasStatus]) -> None:
    """Raise ``SolveError`` with the ``message`` unless the solve converged.

    Args:
      solution: what ``solve`` returned; concrete (not inside jit).

    Raises:
      SolveError: if the status is anything but converged.
    """
    _refuse_holder("solution", solution)
    arguments.instance("solution", solution, HasStatus, "what `aeot_jax.solve` returns")
    arguments.refuse_trace("raise_if_failed", "call it outside of `jax.jit`", solution=solution)
    status = jax.device_get(solution.status)
    if Status(int(status)) is not Status.CONVERGED:
        raise SolveError(message(solution))

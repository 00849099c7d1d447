"""Events of a fit: stages, losses, estimates, certificates.

One callback gets each of them as an ``Event``; ``Progress`` is the part that a progress bar shows.
The logger ``aeot_jax`` gets them too: stages and certificates at INFO, the rest at DEBUG.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from aeot_jax import arguments
from aeot_jax.typing import Given

logger = logging.getLogger("aeot_jax")

Kind = Literal["stage", "loss", "estimate", "certificate"]


class Progress(NamedTuple):
    """The argument of a progress callback.

    Attributes:
      stage: one of ``STAGES``.
      done: work done in this stage, in the unit of ``total``.
      total: total work of the stage (epochs, images, samples).
      note: the result so far, in words.
      values: the numbers in the note, by name.
    """

    stage: str
    done: float
    total: float
    note: str
    values: Mapping[str, float] = {}


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of a fit.

    Attributes:
      kind: "stage" when one begins or ends; "loss" after an epoch; "estimate" of the mass error
        while the transport is solved; "certificate", from fresh samples at the end.
      stage: one of ``STAGES``.
      done: work done in this stage, in the unit of ``total``: epochs, images, samples.
      total: total work of the stage.
      values: numbers by name: "loss"; "mass_error", "mass_error_se"; a certificate also has "upper"
        and "converged" (0 or 1).
      note: the same in words.
      seconds: time since the fit began.
    """

    kind: Kind
    stage: str
    done: float
    total: float
    values: Mapping[str, float]
    note: str
    seconds: float


def reporter(
    on_progress: Given[Callable[[Progress], None] | None],
    on_event: Given[Callable[[Event], None] | None],
) -> Callable[[Progress], None]:
    """The function that a fit reports to; it calls the logger and both callbacks."""
    arguments.function("on_progress", on_progress)
    arguments.function("on_event", on_event)
    started = time.monotonic()

    def report(news: Progress) -> None:
        kind = _kind(news.values)
        level = logging.INFO if kind in ("stage", "certificate") else logging.DEBUG
        logger.log(level, "%s: %g of %g. %s", news.stage, news.done, news.total, news.note)
        if on_progress is not None:
            on_progress(news)
        if on_event is not None:
            seconds = time.monotonic() - started
            done, total = float(news.done), float(news.total)
            on_event(Event(kind, news.stage, done, total, dict(news.values), news.note, seconds))

    return report


def _kind(values: Mapping[str, float]) -> Kind:
    if "upper" in values:
        return "certificate"
    if "mass_error" in values:
        return "estimate"
    return "loss" if "loss" in values else "stage"

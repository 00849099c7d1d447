"""What happens in a fit, as it happens: stages, losses, estimates, certificates.

One callback gets them all as ``Event``; ``Progress`` is the part that a bar on the screen shows.
The logger ``aeot_jax`` says the same, to whoever listens: stages and certificates at INFO, the rest
at DEBUG.
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
    """What a progress callback gets.

    Attributes:
      stage: one of ``STAGES``.
      done: work done in this stage, in the unit of ``total``.
      total: work of the stage (epochs, images, samples).
      note: the stage's residual in words.
      values: the numbers behind the note, by name.
    """

    stage: str
    done: float
    total: float
    note: str
    values: Mapping[str, float] = {}


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened in a fit.

    Attributes:
      kind: "stage", where one begins or ends; "loss" of an epoch; "estimate" of the mass error
        while the transport is solved; "certificate", what fresh samples say of it at the end.
      stage: one of ``STAGES``.
      done: work done in this stage, in the unit of ``total``: epochs, images, samples.
      total: work of the stage.
      values: numbers by name: "loss"; "mass_error", "mass_error_se"; of a certificate "upper" and
        "converged" (0 or 1) too.
      note: the same in words.
      seconds: since the fit began.
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
    """The function that a fit reports to: it tells the log and both callbacks."""
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

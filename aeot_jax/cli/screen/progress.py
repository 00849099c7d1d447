"""Progress of a long command: bars on a terminal, a few lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

import aeot_jax as aeot
from aeot_jax.cli.screen.timing import Pace, clock, left

Report = Callable[[aeot.Progress], None]
"""The `on_progress` of `aeot_jax.fit`."""

_LINE_SECONDS = 20.0
"""Seconds between two lines of one stage."""

_PLANNED = ("transport",)
"""Stages whose total is a plan: more samples are planned where a certificate asks for them."""


@contextmanager
def progress(console: Console, *, quiet: bool) -> Iterator[Report]:
    """Show the stages of a fit while the body runs: what is done, how long it took and will take.

    The time that is left is told for work that is reported in parts, at the pace so far.

    Args:
      console: a terminal gets one bar per stage; a file or a pipe gets a line at the end of each
        stage, and one every 20 seconds.
      quiet: show nothing.

    Yields:
      The function to report to.
    """
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            Left(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
        ) as bars:
            yield _Bars(bars).report
    else:
        lines = _Lines(console)
        try:
            yield lines.report
        finally:
            lines.end()


class Left(ProgressColumn):
    """The time that is left, if it is known."""

    def render(self, task: Task) -> Text:
        """See ``ProgressColumn``."""
        known = not task.finished
        return Text(_left(task.description, task.fields["pace"], task.total) if known else "")


def _left(stage: str, pace: Pace, total: Any) -> str:
    return left(pace, float(total or 0), planned=stage in _PLANNED)


class _Bars:
    """One bar per stage; a new stage completes the one before it."""

    def __init__(self, bars: Progress):
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}

    def report(self, news: aeot.Progress) -> None:
        if news.stage not in self._tasks:
            pace = self._paces[news.stage] = Pace()
            task = self._bars.add_task(news.stage, total=news.total, note="", pace=pace)
            self._tasks[news.stage] = task
        task = self._tasks[news.stage]
        self._paces[news.stage].heard(float(news.done))
        self._bars.update(task, completed=news.done, total=news.total, note=news.note)


class _Lines:
    """Plain lines, few enough for a log."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic):
        self._console, self._now = console, now
        self._pace = Pace(now)
        self._last: aeot.Progress | None = None
        self._shown = 0.0

    def report(self, news: aeot.Progress) -> None:
        now = self._now()
        if self._last is None or news.stage != self._last.stage:
            self.end()
            self._shown = now
            self._pace = Pace(self._now, self._pace.heard_last)  # it compiles before it reports
        self._last = news
        self._pace.heard(float(news.done))
        if news.done < news.total and now - self._shown >= _LINE_SECONDS:
            self._print(news)
            self._shown = now

    def end(self) -> None:
        """Print the state of the last stage."""
        if self._last is not None:
            self._print(self._last)
            self._last = None

    def _print(self, news: aeot.Progress) -> None:
        share = 100 * news.done / news.total if news.total else 100.0
        time_left = _left(news.stage, self._pace, news.total) if news.done < news.total else ""
        took = ", ".join(filter(None, (clock(self._pace.took()), time_left)))
        parts = (f"{news.stage:<12} {share:3.0f} %", news.note, took)
        line = "  ".join(filter(None, parts))
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

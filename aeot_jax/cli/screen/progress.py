"""Progress of a long command: bars on a terminal, a few lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

import aeot_jax as aeot

Report = Callable[[aeot.Progress], None]
"""The `on_progress` of `aeot_jax.fit`."""

_LINE_SECONDS = 20.0
"""Seconds between two lines of one stage."""


@contextmanager
def progress(console: Console, *, quiet: bool) -> Iterator[Report]:
    """Show the stages of a fit while the body runs.

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
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
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


class _Bars:
    """One bar per stage; a new stage completes the one before it."""

    def __init__(self, bars: Progress):
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def report(self, news: aeot.Progress) -> None:
        if news.stage not in self._tasks:
            self._tasks[news.stage] = self._bars.add_task(news.stage, total=news.total, note="")
        task = self._tasks[news.stage]
        self._bars.update(task, completed=news.done, total=news.total, note=news.note)


class _Lines:
    """Plain lines, few enough for a log."""

    def __init__(self, console: Console):
        self._console = console
        self._last: aeot.Progress | None = None
        self._shown = 0.0

    def report(self, news: aeot.Progress) -> None:
        now = time.monotonic()
        if self._last is None or news.stage != self._last.stage:
            self.end()
            self._shown = now
        self._last = news
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
        line = f"{news.stage:<12} {share:3.0f} %  {news.note}".rstrip()
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

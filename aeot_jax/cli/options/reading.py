"""Progress while pictures are read, and remarks afterwards."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aeot_jax.cli.screen.progress import Left
from aeot_jax.cli.screen.timing import Pace, clock, left
from aeot_jax.data.found import Report
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table

_LINE_SECONDS = 20.0
"""Seconds between two lines."""


@contextmanager
def reading(console: Console, *, quiet: bool) -> Iterator[Report | None]:
    """Show how many pictures have been read while the body runs.

    Args:
      console: a terminal gets a bar; a file or a pipe gets a line every 20 seconds.
      quiet: show nothing.

    Yields:
      The function to report to.
    """
    if quiet:
        yield None
    elif not console.is_terminal:
        yield _lines(console)
    else:
        columns = (TextColumn("reading     "), BarColumn(bar_width=28), MofNCompleteColumn())
        times = TimeElapsedColumn(), Left()
        with Progress(*columns, *times, console=console, transient=True) as bars:
            pace = Pace()
            task = bars.add_task("reading", total=None, visible=False, pace=pace)

            def report(done: int, total: int) -> None:
                pace.heard(float(done))
                bars.update(task, completed=done, total=total, visible=True)

            yield report


def _lines(console: Console) -> Report:
    shown = time.monotonic()
    pace = Pace()

    def report(done: int, total: int) -> None:
        nonlocal shown
        pace.heard(float(done))
        if time.monotonic() - shown >= _LINE_SECONDS:
            shown = time.monotonic()
            times = ", ".join(filter(None, (clock(pace.elapsed()), left(pace, float(total)))))
            text = f"read {done:,} of {total:,} pictures  {times}"
            console.print(text, soft_wrap=True, highlight=False)

    return report


def say(found: ImageSet | Table, err: Console, *, quiet: bool) -> None:
    """Print remarks on how a set was read; skipped pictures are named even if `quiet`."""
    if found.skipped:
        count = (
            "1 broken picture was"
            if len(found.skipped) == 1
            else (f"{len(found.skipped):,} broken pictures were")
        )
        text = f"Warning: {count} left out: {', '.join(found.skipped)}."
        err.print(text, style="yellow", soft_wrap=True, markup=False, highlight=False)
    for note in () if quiet else found.notes:
        err.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)

"""The time that is left: told at the pace so far, and only where that is known."""

import pytest
from rich.console import Console

import aeot_jax as aeot
from aeot_jax.cli.screen import progress
from aeot_jax.cli.screen.timing import Pace, clock, left


class Clock:
    """A clock that a test moves."""

    seconds = 1000.0

    def __call__(self):
        return self.seconds


def test_the_first_work_with_its_compilation_does_not_count():
    now = Clock()
    pace = Pace(now)
    pace.heard(3.0)  # a run that goes on
    now.seconds += 50  # compilation
    pace.heard(4.0)
    assert left(pace, 10.0) == ""
    now.seconds += 8
    pace.heard(6.0)
    assert pace.left(10.0) == 4 * 4
    assert pace.elapsed() == 58
    now.seconds += 6
    assert pace.left(10.0) == 10  # it is counted down between reports
    assert left(pace, 10.0) == "about 0:00:10 left"
    now.seconds += 60
    assert pace.left(10.0) == 0


def test_no_pace_is_told_of_work_that_is_done_at_once_or_anew():
    now = Clock()
    pace = Pace(now)
    for done in (0.0, 1.0):
        pace.heard(done)
        now.seconds += 100
        assert pace.left(1.0) is None
    for done in (0.0, 5.0, 9.0):
        pace.heard(done)
        now.seconds += 2
    assert pace.left(17.0) == pytest.approx(2.0)
    pace.heard(2.0)  # another pass
    assert pace.left(17.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0:00:00"), (59.6, "0:01:00"), (3725.0, "1:02:05"), (9e4, "25:00:00")],
)
def test_clocks_show_hours_minutes_and_seconds(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize("stage", ["autoencoder", "transport"])
def test_lines_say_how_long_a_stage_took_and_will_take(stage, capsys):
    now = Clock()
    lines = progress._Lines(Console(width=200), now)
    for done, total in ((0, 8), (2, 8), (4, 8), (6, 12), (12, 12)):  # the plan grows
        lines.report(aeot.Progress(stage, done, total, "a note"))
        now.seconds += 30
    lines.end()
    second, third, last = capsys.readouterr().out.splitlines()[1:]
    planned = " as planned now" if stage == "transport" else ""
    assert second == f"{stage:<12}  50 %  a note  0:01:00, about 0:01:00 left{planned}"
    assert third == f"{stage:<12}  50 %  a note  0:01:30, about 0:01:30 left{planned}"
    assert last == f"{stage:<12} 100 %  a note  0:02:00"


def test_the_time_before_the_first_report_of_a_stage_is_its_own(capsys):
    now = Clock()
    lines = progress._Lines(Console(width=200), now)
    lines.report(aeot.Progress("codes", 0, 9, ""))
    now.seconds += 1
    lines.report(aeot.Progress("codes", 9, 9, "done"))
    now.seconds += 60  # the solver compiles
    lines.report(aeot.Progress("transport", 9, 9, "solved"))
    lines.end()
    assert capsys.readouterr().out.split("\n")[:2] == [
        "codes        100 %  done  0:00:01",
        "transport    100 %  solved  0:01:00",
    ]


def test_bars_show_no_time_for_what_is_not_known(capsys):
    with progress.progress(Console(force_terminal=True, width=120), quiet=False) as report:
        report(aeot.Progress("map", 0, 1, ""))
        report(aeot.Progress("map", 1, 1, "a threshold"))
    shown = capsys.readouterr().out
    assert "a threshold" in shown
    assert "left" not in shown

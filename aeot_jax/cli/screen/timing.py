"""How long a stage has taken, and about how long it will take."""

import time
from collections.abc import Callable

_LEAST_SECONDS = 2.0
"""Seconds of work before a pace is believed."""


class Pace:
    """The pace of one stage.

    It is measured from the first work that was done: what comes before it is compilation, or work
    of an earlier run.

    Args:
      now: a clock, seconds.
      began: the time at which the stage began, by the clock; None is now.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, began: float | None = None):
        self._now = now
        self._began = now() if began is None else began
        self._start: float | None = None
        self._first: tuple[float, float] | None = None
        self._last = 0.0, self._began

    def heard(self, done: float) -> None:
        """Note how much is done; less than before begins another pass over the work."""
        if self._start is None or done < self._last[0]:
            self._start, self._first = done, None
        elif self._first is None and done > self._start:
            self._first = done, self._now()
        self._last = done, self._now()

    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return self._now() - self._began

    @property
    def heard_last(self) -> float:
        """The time of the last work that was noted, by the clock."""
        return self._last[1]

    def took(self) -> float:
        """Seconds from the beginning of the stage to the last work that was noted."""
        return self.heard_last - self._began

    def left(self, total: float) -> float | None:
        """Seconds that the rest of the work takes at this pace; None if that is not known yet."""
        if self._first is None:
            return None
        work, seconds = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if work <= 0 or seconds < _LEAST_SECONDS:
            return None
        since = self._now() - self._last[1]
        return max(0.0, (total - self._last[0]) * seconds / work - since)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def left(pace: Pace, total: float, *, planned: bool = False) -> str:
    """How long the rest of a stage takes, in words; empty if that is not known.

    Args:
      pace: the pace of the stage.
      total: all work of the stage.
      planned: whether the total is only a plan, which may grow.
    """
    seconds = pace.left(total)
    if seconds is None:
        return ""
    return f"about {clock(seconds)} left" + (" as planned now" if planned else "")

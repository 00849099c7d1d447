"""Ctrl-C and SIGTERM are heard wherever they come."""

import gc
import signal
import sys
import time
from collections.abc import Callable

import pytest

from aeot_jax.cli.screen import interrupts

_PATIENCE = 60.0
"""Seconds after which an interruption counts as lost; far more than it takes."""


def in_a_collection(stop: Callable[[], None]) -> None:
    def callback(phase, info):
        stop()

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


def in_a_finaliser(stop: Callable[[], None]) -> None:
    class Ends:
        def __del__(self):
            stop()

    ends = Ends()
    del ends


def work(begin: Callable[[], None]) -> None:
    with interrupts.stoppable():
        begin()
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", [in_a_collection, in_a_finaliser])
def test_an_interruption_where_python_forgets_exceptions_comes_again(capsys, place, number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    left = iter([None, None])

    def stop():
        if next(left, 0) is None:  # twice at most: a place that is left at last
            signal.raise_signal(number)

    try:
        with pytest.raises(KeyboardInterrupt):
            work(lambda: place(stop))
    finally:
        signal.signal(signal.SIGINT, before[0])
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    assert after == before
    assert not capsys.readouterr().err


def test_other_exceptions_that_nobody_can_catch_are_shown_as_ever(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)

    def fail():
        raise RuntimeError("broken")

    with interrupts.stoppable():
        in_a_finaliser(fail)
    assert [str(one.exc_value) for one in shown] == ["broken"]

"""Ctrl-C and SIGTERM: one sentence, and the command with which to go on where it would work."""

import _thread
import contextlib
import queue
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Literal

CODE = 130
"""Exit code of an interrupted command."""

_AGAIN_SECONDS = 0.05
"""Until an interruption that went unheard comes again."""


class Interrupted(KeyboardInterrupt):
    """A fit was interrupted.

    Attributes:
      way: the flag with which the same command goes on.
      kept: whether an epoch, or more, was kept.
    """

    def __init__(self, way: Literal["--resume", "--overwrite"], *, kept: bool):
        super().__init__()
        self.way, self.kept = way, kept


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does while the body runs, in the main thread.

    Either may come while Python runs a callback of the garbage collector (JAX has one) or a
    finaliser, where Python prints an exception and forgets it. Then it comes again.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal is handled
        yield
        return
    unheard = _Unheard()
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it shall be ignored
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, unheard.stop) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, unheard.heard
    try:
        yield
    finally:
        unheard.end()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


class _Unheard:
    """Interruptions that were raised where nobody can catch them, which a thread sends again."""

    def __init__(self):
        self._hook = sys.unraisablehook
        self._sent: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be used in a finaliser
        self._over = threading.Event()
        threading.Thread(target=self._again, daemon=True).start()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        del number
        if frame is not None and frame.f_code is _Unheard.heard.__code__:  # would be forgotten too
            self._sent.put(True)
            return
        raise KeyboardInterrupt

    def heard(self, unraisable: Any) -> None:
        """Hear of an exception that nobody can catch."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._sent.put(True)
        else:
            self._hook(unraisable)

    def end(self) -> None:
        """Send no more."""
        self._over.set()
        self._sent.put(False)

    def _again(self) -> None:
        # Not at once: the callback or finaliser that was interrupted may not have returned.
        while self._sent.get() and not self._over.wait(_AGAIN_SECONDS):
            _thread.interrupt_main(signal.SIGTERM)


def sentence(error: KeyboardInterrupt, arguments: list[str]) -> str:
    """What to say of an interrupted command.

    Args:
      error: that ended it.
      arguments: of the command.
    """
    if not isinstance(error, Interrupted):
        return "Interrupted; no file is written by half."
    same = [part for part in arguments if part not in ("--resume", "--overwrite")]
    again = shlex.join(["aeot-jax", *same, error.way])
    if error.kept:
        return f"Interrupted; what was done is kept. Continue with: {again}"
    return f"Interrupted before anything was kept. Start again with: {again}"

"""Ctrl-C and SIGTERM: one sentence, with the command that continues the run."""

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
"""Delay before a lost interruption is sent again."""


class Interrupted(KeyboardInterrupt):
    """A fit was interrupted.

    Attributes:
      way: the flag that continues the run.
      kept: whether at least one epoch was saved.
    """

    def __init__(self, way: Literal["--resume", "--overwrite"], *, kept: bool):
        super().__init__()
        self.way, self.kept = way, kept


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C while the body runs in the main thread.

    Either may arrive while Python runs a callback of the garbage collector (JAX has one) or a
    finaliser, where Python prints exceptions and drops them. Then the interruption is sent again.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are handled there only
        yield
        return
    unheard = _Unheard()
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it must stay ignored
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
    """Interruptions that Python has dropped; a thread sends them again."""

    def __init__(self):
        self._hook = sys.unraisablehook
        self._sent: queue.SimpleQueue[bool] = queue.SimpleQueue()  # safe in a finaliser
        self._over = threading.Event()
        threading.Thread(target=self._again, daemon=True).start()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        del number
        if frame is not None and frame.f_code is _Unheard.heard.__code__:  # would be dropped too
            self._sent.put(True)
            return
        raise KeyboardInterrupt

    def heard(self, unraisable: Any) -> None:
        """Handle an exception that Python would drop."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._sent.put(True)
        else:
            self._hook(unraisable)

    def end(self) -> None:
        """Stop the thread."""
        self._over.set()
        self._sent.put(False)

    def _again(self) -> None:
        # Wait first: the interrupted callback or finaliser may not have returned.
        while self._sent.get() and not self._over.wait(_AGAIN_SECONDS):
            _thread.interrupt_main(signal.SIGTERM)


def sentence(error: KeyboardInterrupt, arguments: list[str]) -> str:
    """The message of an interrupted command.

    Args:
      error: the interruption.
      arguments: the arguments of the command.
    """
    if not isinstance(error, Interrupted):
        return "Interrupted; no file is left half-written."
    same = [part for part in arguments if part not in ("--resume", "--overwrite")]
    again = shlex.join(["aeot-jax", *same, error.way])
    if error.kept:
        return f"Interrupted; what was done is kept. Continue with: {again}"
    return f"Interrupted before anything was kept. Start again with: {again}"

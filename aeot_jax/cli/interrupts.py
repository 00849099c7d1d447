"""Ctrl-C and SIGTERM: one sentence, and the command with which to go on where it would work."""

import contextlib
import shlex
import signal
from collections.abc import Iterator
from typing import Literal

CODE = 130
"""Exit code of an interrupted command."""


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
    """Let SIGTERM do what Ctrl-C does while the body runs, in the main thread."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread, where signals are not handled
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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

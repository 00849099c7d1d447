"""Warnings of the command line: one line each, without source code."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from rich.console import Console


def warn(err: Console, text: str) -> None:
    """Print a warning."""
    err.print(f"Warning: {text}", style="yellow", soft_wrap=True, markup=False, highlight=False)


@contextlib.contextmanager
def in_words(err: Console) -> Iterator[None]:
    """Show Python's warnings as sentences while the body runs."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        copies = getattr(message, "copies", None)  # of `ot.problem.CoincidenceWarning`
        if copies is None:
            warn(err, " ".join(str(message).split()))
        else:
            what = "1 code equals" if copies == 1 else f"{copies:,} codes equal"
            warn(err, f"{what} another one, as where data appear twice; copies share one cell.")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield

"""Letters for terminals and files that hold few of them, such as those of ASCII."""

import codecs
import contextlib
import io
import sys
import unicodedata
from collections.abc import Iterator

_NAME = "aeot_jax.plain"

_SIGNS = {"\N{PLUS-MINUS SIGN}": "+-", "\N{MULTIPLICATION SIGN}": "x"}
"""Signs that have no letter below their marks."""


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Print letters that the output cannot hold without their marks, or as "?", in the body.

    Else an accent in a help, or in the name of a file, ends a command. UTF-8 holds all letters.
    """
    changed = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _holds_all(stream.encoding):
            changed.append((stream, stream.errors))
            stream.reconfigure(errors=_NAME)
    try:
        yield
    finally:
        for stream, errors in changed:
            with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.reconfigure(errors=errors)


def _holds_all(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith("utf")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What to print for letters that an encoding does not hold, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(_ascii, letters)), error.end


def _ascii(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode("ascii")
    return _SIGNS.get(letter) or plain or "?"


codecs.register_error(_NAME, _replaced)

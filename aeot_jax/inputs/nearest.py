"""The known word that a user may have meant by an unknown one."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The question " (did you mean X?)" for an error; empty if no known word is similar."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f" (did you mean {names[found[0]]}?)" if found else ""

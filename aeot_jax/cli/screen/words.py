"""Words for classes, for lists of files, and for the next command."""

import shlex
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from aeot_jax.data.tree import title

_SHOWN = 20
"""Most classes that are listed by name."""

_NAMED = 5
"""Most files that are listed."""


def classes(labels: Int[np.ndarray, " n"] | None, names: Sequence[str] | None) -> str:
    """The classes of some labels, with the number of each."""
    if labels is None:
        return "none"
    found, counts = np.unique(labels, return_counts=True)
    if names is None or len(found) > _SHOWN or not 0 <= found.min() <= found.max() < len(names):
        return f"{len(found)} classes of {counts.min():,} to {counts.max():,}"
    shown = [title(str(names[number])) for number in found.tolist()]
    return ", ".join(f"{name} ({count:,})" for name, count in zip(shown, counts, strict=True))


def listed(things: Sequence[str]) -> str:
    """The first of some things, and how many more there are."""
    more = len(things) - _NAMED
    return ", ".join(things[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def refused(why: str) -> str:
    """That `fit` does not take what was described."""
    return f"aeot-jax fit refuses it: {why}"


def to_learn(path: str, options: list[str]) -> str:
    """The command that learns what a path holds."""
    given = shlex.join(["--data", title(path), "--out", "RUN", *options])
    return f"To learn it: aeot-jax fit {given}"

"""Findings, and how their numbers are written."""

from typing import Literal, NamedTuple

Level = Literal["good", "fair", "weak", "open"]
"""A level of quality; "open" means not judged."""

NOT_MEASURED = "some of it was not measured yet"
"""Why most open findings are open."""


class Finding(NamedTuple):
    """One finding of the verdict.

    Attributes:
      level: its level.
      title: its subject.
      text: the finding, in one or two sentences.
      advice: what to try, if anything.
      weakness: for a weak finding, a clause on what is wrong with the model.
      left: for an open finding, a clause on why; empty if another finding says it.
    """

    level: Level
    title: str
    text: str
    advice: str = ""
    weakness: str = ""
    left: str = NOT_MEASURED


def percent(share: float) -> str:
    """A share in percent, with a decimal where it is small."""
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"

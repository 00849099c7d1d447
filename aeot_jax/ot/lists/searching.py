"""How the cells of a solve's samples are searched, on the host: by how many lists, how wrong.

The number of lists follows from the share of wrong cells that the tolerance allows. Heights move
less and less, so that lists learn anew each time the number of steps has grown by half. Samples
that decide nothing then tell how many cells were wrong until there. Of such a check the more
samples count, the more steps it is for: so their mean is that of the steps.

Sources: Clopper and Pearson 1934 for the bound on a share; Hoeffding 1956 for its use where the
share changes.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.stats import beta

from aeot_jax.ot.lists.learn import Learned
from aeot_jax.ot.lists.lists import Lists
from aeot_jax.reprs import brief

_WRONG = 0.08
"""Share of wrong cells over the square of the tolerance: the mass error that these make by
themselves is then below a fifth of the tolerance (``benchmarks/README.md``, "Fewer scores")."""

_DRIFTED = 4.0
"""Times the wrong cells that are allowed, from which on the number of lists follows from how wrong
planes have become, not from how right new ones are."""

_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Numbers of lists to look at; few, since each is a program."""

_MOST_LISTS = 0.4
"""Part of the lists from which on all scores are as quick."""

_FIRST_STEPS = 8
"""Steps after which lists learn anew for the first time."""

_GROWTH = 1.5
"""Times the steps at which lists learn to the next."""

_CONFIDENCE = 0.95


class Search(NamedTuple):
    """How the cells of the samples that moved the heights were found.

    Attributes:
      lists: of targets.
      probes: lists that a sample looked at in the last steps; 0 where it scored all targets.
      wrong_at_most: share in a wrong cell, at most, of the samples that looked at lists, with
        confidence 95 %. It is measured each time before the lists learn anew, when they are oldest.
    """

    lists: int
    probes: int
    wrong_at_most: float


@dataclass(eq=False)
class Searching:
    """The search of one solve; what is learned changes it.

    Attributes:
      lists: of the targets, with the planes that are in use.
      tolerance: mass error that the solve aims at.
      probes: lists that a sample looks at; 0 where it scores all targets.
      due: step at which lists learn anew.
      looked: samples that looked at so many lists since they learned.
      checks: whether each sample of a check had a wrong cell, and how many samples of steps it is
        for.
      num_samples: from which lists have learned, or that checked them.
    """

    lists: Lists
    tolerance: float = 1.0
    probes: int = 0
    due: int = 0
    looked: int = 0
    checks: list[tuple[np.ndarray, int]] = field(default_factory=list)
    num_samples: int = 0

    __repr__ = brief

    @property
    def share(self) -> float:
        """Part of the scores of a step that are computed, about: the planes', and these lists'."""
        return min(1.0, 2 * self.probes / self.lists.number)

    def check(self, found: Learned) -> None:
        """Note how many cells were wrong since the lists learned; ``found`` has them in use."""
        self.num_samples += 2 * found.ranks.shape[1]
        if self.looked:
            self.checks.append((np.asarray(found.ranks[2]) >= self.probes, self.looked))
        self.looked = 0

    def learn(self, found: Learned, step: int) -> None:
        """Check the planes in use, take new ones, and choose how many lists to look at.

        Args:
          found: from ``learned``, with the lists in use.
          step: at which this is.
        """
        self.check(found)
        self.lists = found.lists
        taught, old, _ = np.asarray(found.ranks)
        own = self.tolerance, self.lists.number, self.probes
        self.probes = probes_for(taught, *own)
        drifted = (old >= self.probes).mean() > _DRIFTED * allowed(self.tolerance)
        if step and self.probes and drifted:
            self.probes = probes_for(old, *own)  # the new planes will be as wrong
        self.due = max(step + _FIRST_STEPS, int(_GROWTH * step))

    def told(self) -> Search:
        """What is told of it."""
        most = max((looked for _, looked in self.checks), default=1)
        counted = [wrong[: -(-len(wrong) * looked // most)] for wrong, looked in self.checks]
        wrong, checked = sum(int(part.sum()) for part in counted), sum(map(len, counted))
        looked = sum(looked for _, looked in self.checks) + self.looked
        # What nobody checked, because a user interrupted that, may all be wrong.
        unknown = self.looked / max(looked, 1)
        share = unknown + (1 - unknown) * wrong_at_most(wrong, checked)
        return Search(self.lists.number, self.probes, share)


def allowed(tolerance: float) -> float:
    """Share of wrong cells that a mass error allows."""
    return min(_WRONG * tolerance**2, 0.5)


def probes_for(ranks: Int[np.ndarray, " n"], tolerance: float, number: int, before: int) -> int:
    """Lists that a sample shall look at; 0 where all scores are as quick.

    Args:
      ranks: how many lists are higher than that of its cell, of each of some samples.
      tolerance: mass error that the solve aims at.
      number: of lists.
      before: what was chosen last; it stays where it is enough and at most twice that.
    """
    wanted = 1 + int(np.quantile(ranks, 1 - allowed(tolerance), method="higher"))
    if wanted > min(_MOST_LISTS * number, _PROBES[-1]):
        return 0
    if wanted <= before <= 2 * wanted:
        return before
    return next(probes for probes in _PROBES if probes >= wanted)


def wrong_at_most(wrong: int, checked: int) -> float:
    """Upper bound on a share of which some were seen among those checked, with confidence 95 %."""
    if not checked:
        return 0.0
    return 1.0 if wrong >= checked else float(beta.ppf(_CONFIDENCE, wrong + 1, checked - wrong))

"""The law of the samples: how many the default method takes to a mass error."""

import math
from typing import NamedTuple

MARGIN = 0.85
"""Part of the tolerance aimed at, so that two standard errors of the certificate fit above it."""

_COST_OF_SHARES = 1.0
"""Cost where samples are shared, at most: 0.7 to 1.0 (``benchmarks/entropic.py``, ``solve.py``)."""

_LEAST_MISSED = 1e-3
"""Part of what is aimed at that a draw may seem to miss: an estimate may be 0."""

_HALVINGS = 40
"""Of the interval that holds the samples to add."""


def samples_to_reach(num_targets: int, dim: int, tolerance: float, shares: bool = False) -> int:
    """Samples after which the default method should be certified within the tolerance.

    The law is ``mass_error^2 * samples / m = cost``, with a margin below the tolerance.

    Args:
      num_targets: m.
      dim: d.
      tolerance: the mass error wanted.
      shares: whether steps share samples with the runner-up.
    """
    return math.ceil(cost(dim, shares) * num_targets / (MARGIN * tolerance) ** 2)


def error_after(num_samples: int, num_targets: int, dim: int) -> float:
    """Mass error after so many samples, by the same law; arguments as for ``samples_to_reach``."""
    return math.sqrt(cost(dim) * num_targets / num_samples)


class Kind(NamedTuple):
    """Targets whose heights miss as much.

    Attributes:
      weight: of all of them.
      chi2: mean square of the relative errors of their cells.
    """

    weight: float
    chi2: float


class Course(NamedTuple):
    """How the mass error falls of heights that are partly known.

    Cells that miss e are worth cost / e^2 samples a target, and their errors fall with those that
    come.

    Attributes:
      num_targets: m.
      cost: of the law.
      kinds: of the targets, at the start.
    """

    num_targets: int
    cost: float
    kinds: tuple[Kind, ...]

    def chi2(self, drawn: int | float) -> float:
        """Square of the mass error after so many samples."""
        more = drawn / self.num_targets
        return sum(kind.weight * self.cost / (self.cost / kind.chi2 + more) for kind in self.kinds)

    def samples(self, chi2: float) -> int:
        """Samples after which no more than this is missed."""
        if self.chi2(0) <= chi2:
            return 0
        least, most = 0.0, self.cost * self.num_targets / chi2
        for _ in range(_HALVINGS):
            middle = (least + most) / 2
            least, most = (middle, most) if self.chi2(middle) > chi2 else (least, middle)
        return math.ceil(most)

    def samples_to_go_on(self, drawn: int, missed: float, chi2: float, least: int) -> int:
        """More samples, where what is missed after those that were drawn tells the cost.

        Args:
          drawn: samples since the start.
          missed: chi^2 after these.
          chi2: what it shall be.
          least: of them; at most as many again come, if those are more.
        """
        missed = max(missed, chi2 * _LEAST_MISSED)
        more = self.samples(chi2 * self.chi2(drawn) / missed) - drawn
        return min(max(more, least), max(drawn, least))


def cost(dim: int, shares: bool = False) -> float:
    """Cost of the default method as ``benchmarks/solve.py`` measured it; 1 is sampling's limit.

    It is 1.3 in many dimensions and 2.3 in the plane; less where samples are shared.
    """
    return _COST_OF_SHARES if shares else 1.3 + 4 / dim**2

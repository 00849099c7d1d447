"""The law of the samples: how many the default method takes to a mass error."""

import math

MARGIN = 0.85
"""Part of the tolerance aimed at, so that two standard errors of the certificate fit above it."""

_COST_OF_SHARES = 1.0
"""Cost where samples are shared, at most: 0.7 to 1.0 (``benchmarks/entropic.py``, ``solve.py``)."""


def samples_to_reach(num_targets: int, dim: int, tolerance: float, shares: bool = False) -> int:
    """Samples after which the default method should be certified within the tolerance.

    The law is ``mass_error^2 * samples / m = cost``, with a margin below the tolerance.

    Args:
      num_targets: m.
      dim: d.
      tolerance: the mass error wanted.
      shares: whether steps share samples with the runner-up.
    """
    law = _COST_OF_SHARES if shares else cost(dim)
    return math.ceil(law * num_targets / (MARGIN * tolerance) ** 2)


def cost(dim: int) -> float:
    """Cost of the default method as ``benchmarks/solve.py`` measured it; 1 is sampling's limit.

    It is 1.3 in many dimensions and 2.3 in the plane.
    """
    return 1.3 + 4 / dim**2

"""What belongs to each target, as vectors whose distances the cost can use."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from aeot_jax import arguments, classes
from aeot_jax.measures import Empirical, Measure, Weighted
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike

_MOST_LOST = 1e-2
"""Part of the spread of a condition that its rounding to float32 may be."""


@dataclass(frozen=True, eq=False)
class Codes:
    """Conditions as vectors.

    Attributes:
      rows: of a label its unit vector, of a vector what it differs by from the mean (m, k).
      nu: weights (m,), sum 1; None is uniform.
      labels: the labels (m,); None if vectors were given.
      given: what was given, as the pairs return it.
      variance: mean squared distance of a row to the mean row.
    """

    rows: Float[np.ndarray, "m k"]
    nu: Float[np.ndarray, " m"] | None
    labels: Int[np.ndarray, " m"] | None
    given: Any
    variance: float

    __repr__ = brief

    def on_scale(self, beta: float) -> Float[np.ndarray, "m k"]:
        """The rows times sqrt(beta), as float32: half a squared distance is their part of the cost.

        Raises:
          ValueError: if float32 cannot hold them.
        """
        return arguments.rounded_to_float32("z", self.rows * np.sqrt(beta))

    def law(self, beta: float) -> Measure:
        """The conditions of the targets by their weights, times sqrt(beta)."""
        points = arguments.placed(self.on_scale(beta))
        if self.nu is None:
            return Empirical(points)
        return Weighted(points, arguments.placed(self.nu.astype(np.float32)))


def codes_of(z: ArrayLike, num_targets: int, nu: Float[np.ndarray, " m"] | None = None) -> Codes:
    """Check labels (m,) or vectors (m, k) of targets with weights (m,).

    Raises:
      ValueError: if the length is not that of the targets, numbers without a second axis are no
        integers, a number is not finite, or all conditions are equal.
    """
    classes.refuse_texts("z", z)
    host = np.asarray(arguments.host_array("z", z))
    if host.ndim not in (1, 2) or host.shape[0] != num_targets or 0 in host.shape:
        raise ValueError(
            f"`z` has shape {host.shape}; pass one label for each of the {num_targets} targets, an "
            f"integer, shape ({num_targets},), or a vector for each, shape ({num_targets}, k)."
        )
    if host.ndim == 1:
        labels = classes.check_labels(host, num_targets, "z", "targets")
        rows = (labels[:, None] == np.unique(labels)[None, :]).astype(np.float64)
        given = labels
    else:
        labels, given = None, arguments.known("z", host)
        narrow = arguments.rounded_to_float32("z", host)
        rows = given - np.average(given, 0, nu)
        lost = np.abs(narrow - given).max(0)
        spread = given.std(0)
        varies = np.ptp(given, 0) > 0  # the deviation of equal numbers may be a rounding
        close = varies & (lost > _MOST_LOST * spread)
        if close.any():
            column = int(close.argmax())
            raise ValueError(
                f"`z` is about {given[0, column]:.6g} and differs by about {spread[column]:.3g} in "
                f"column {column}, which float32 cannot tell apart; subtract its mean first."
            )
        given = narrow
    variance = float(np.average(np.square(rows - np.average(rows, 0, nu)).sum(1), 0, nu))
    counted = rows if nu is None else rows[nu > 0]
    if variance == 0 or (counted == counted[0]).all():
        raise ValueError(
            f"`z` is the same for all {len(counted)} targets that count, so there is no condition "
            "to keep; call `solve`."
        )
    return Codes(rows, nu, labels, given, variance)

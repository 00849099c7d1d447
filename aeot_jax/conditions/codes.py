"""What belongs to each target, as vectors whose distances the cost can use."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from aeot_jax import arguments, classes
from aeot_jax.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Codes:
    """Conditions as vectors.

    Attributes:
      rows: of a label its unit vector, of a vector what it differs by from the mean (m, k).
      labels: the labels (m,); None if vectors were given.
      given: what was given, as the pairs return it.
      variance: mean squared distance of a row to the mean row.
    """

    rows: Float[np.ndarray, "m k"]
    labels: Int[np.ndarray, " m"] | None
    given: Any
    variance: float

    def on_scale(self, beta: float) -> Float[np.ndarray, "m k"]:
        """The rows times sqrt(beta), as float32: half a squared distance is their part of the cost.

        Raises:
          ValueError: if float32 cannot hold them.
        """
        return arguments.rounded_to_float32("z", self.rows * np.sqrt(beta))


def codes_of(z: ArrayLike, num_targets: int) -> Codes:
    """Check labels (m,) or vectors (m, k).

    Raises:
      ValueError: if the length is not that of the targets, numbers without a second axis are no
        integers, a number is not finite, or all conditions are equal.
    """
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
        arguments.rounded_to_float32("z", host)
        rows = given - given.mean(0)
        given = given.astype(np.float32)
    variance = float(np.square(rows - rows.mean(0)).sum(1).mean())
    if variance == 0:
        raise ValueError(
            f"`z` is the same for all {num_targets} targets, so there is no condition to keep; "
            "call `solve`."
        )
    return Codes(rows, labels, given, variance)

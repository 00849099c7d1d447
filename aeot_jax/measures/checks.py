"""What every source checks: its dimension when it is made, the key and the number when it draws."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.typing import Given, PRNGKey

_WEIGHT_SUM_TOLERANCE = 1e-4


def check_dim(measure: Any) -> None:
    """Check the `dim` of a frozen measure, and keep it as a Python integer.

    Raises:
      ValueError: if it is not a whole number of at least 1.
    """
    what = "the dimension of the targets"
    object.__setattr__(measure, "dim", arguments.count("dim", measure.dim, what=what))


def check_draw(key: Given[PRNGKey], n: Given[int]) -> tuple[PRNGKey, int]:
    """Check the arguments of `sample`.

    Raises:
      ValueError: if `key` is not one key, or `n` is not a whole number of at least 0.
    """
    what = "how many samples to draw"
    return arguments.key("key", key), arguments.count("n", n, least=0, what=what)


def check_atoms(points: Any) -> Array | np.ndarray:
    """At least one atom (p, d), in the dtype in which they were given.

    Raises:
      ValueError: if the shape is another.
    """
    found = arguments.array("points", points)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"`points` has shape {found.shape}; pass at least one atom, (p, d).")
    return found


def normalised(nu: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Weights divided by their sum, or an error that says what is wrong with them."""
    if not np.isfinite(nu).all():
        raise ValueError("`nu` holds NaN or infinity; pass finite weights that sum to 1.")
    if (nu < 0).any():
        raise ValueError(
            f"`nu` has a negative weight, {nu.min():.6g} at {nu.argmin()}; weights are >= 0."
        )
    if not nu.any():
        raise ValueError("`nu` is zero everywhere; at least one weight must be positive.")
    if abs(nu.sum() - 1) > _WEIGHT_SUM_TOLERANCE:
        raise ValueError(f"`nu` sums to {nu.sum():.6g}; divide it by its sum to get 1.")
    return nu / nu.sum()

"""A distribution on the rows of an array, each with a weight of its own."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from aeot_jax import arguments
from aeot_jax.measures.checks import check_atoms, check_draw, normalised
from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey, Samples

_UNITS = 2.0**32 - 2**20
"""Whole numbers that the weights are told in: room is left for the rounding of their sum."""


@register
@dataclass(frozen=True)
class Weighted:
    """The distribution on the rows of an array by weights, drawn with replacement.

    What is said of ``Empirical`` holds here: use far more points than targets, unless it is a part
    of a ``Product``, as conditions beside noise. A weight counts in parts of 2^-32.

    Attributes:
      points: the atoms (p, d), finite; kept as float32.
      nu: their weights (p,), at least 0, sum 1; kept as float32.
    """

    points: Float[Array, "p d"]
    nu: Float[Array, " p"]

    __repr__ = brief

    def __post_init__(self):
        points, nu = check_atoms(self.points), arguments.array("nu", self.nu)
        if nu.shape != points.shape[:1]:
            raise ValueError(
                f"`nu` has shape {nu.shape}, but `points` has shape {points.shape}; pass one "
                "weight for each atom."
            )
        if arguments.is_concrete(nu):
            nu = normalised(arguments.known("nu", nu))
        object.__setattr__(self, "points", arguments.real("points", points))
        object.__setattr__(self, "nu", arguments.real("nu", nu))

    @property
    def dim(self) -> int:
        """Dimension d of the points."""
        return self.points.shape[-1]

    @property
    def variance(self) -> None:
        """Unknown: the solver estimates it from samples."""
        return None

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n atoms with replacement (n, d)."""
        key, n = check_draw(key, n)
        return jnp.asarray(self.points, jnp.float32)[_drawn(key, self.nu, n)]


def _drawn(key: PRNGKey, nu: Array, n: int) -> Array:
    """Rows of n atoms: sums of whole numbers are exact, those of many light weights are not.

    Under a transformation nobody has checked the sum, beyond which whole numbers would wrap.
    """
    nu = nu.astype(jnp.float32)
    whole = (nu / nu.sum() * _UNITS).astype(jnp.uint32)
    up_to: UInt32[Array, " p"] = jnp.cumsum(whole, dtype=jnp.uint32)
    place = jax.random.randint(key, (n,), 0, up_to[-1], jnp.uint32)
    return jnp.searchsorted(up_to, place, side="right").astype(jnp.int32)

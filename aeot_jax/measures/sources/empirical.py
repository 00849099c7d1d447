"""The uniform distribution on the rows of an array."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.measures.checks import check_atoms, check_draw
from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey, Samples


@register
@dataclass(frozen=True)
class Empirical:
    """The uniform distribution on the rows of an array, drawn with replacement.

    Ties between cells have positive probability, and the mass of a cell is a multiple of
    1 / len(points): use far more points than targets.

    Attributes:
      points: the atoms (p, d), finite; kept as float32.
    """

    points: Float[Array, "p d"]

    __repr__ = brief

    def __post_init__(self):
        points = check_atoms(self.points)
        object.__setattr__(self, "points", arguments.real("points", points))

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
        index = jax.random.randint(key, (n,), 0, self.points.shape[0], jnp.int32)
        return jnp.asarray(self.points, jnp.float32)[index]

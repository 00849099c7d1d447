"""The uniform law on a cube."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from aeot_jax.measures.checks import check_dim, check_draw
from aeot_jax.measures.measure import Symmetry
from aeot_jax.typing import Given, PRNGKey, Samples


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniformCube:
    """The uniform law on the cube [-1/2, 1/2]^d, the source of the published algorithm.

    Attributes:
      option: what `Config.source` and `--source` call it.
      dim: dimension d.
    """

    option: ClassVar[str] = "cube"
    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        check_dim(self)

    @property
    def variance(self) -> float:
        """Variance of each coordinate: 1/12."""
        return 1.0 / 12.0

    @property
    def symmetry(self) -> Symmetry:
        """Changing the sign of any coordinate leaves the law as it is."""
        return "signs"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        return jax.random.uniform(key, (n, self.dim), jnp.float32, minval=-0.5, maxval=0.5)

    def from_uniform(self, u: Samples) -> Samples:
        """Carry uniform points of the open unit cube onto the law (n, d)."""
        return u - 0.5

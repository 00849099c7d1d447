"""The standard normal law."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from aeot_jax.measures.checks import check_dim, check_draw
from aeot_jax.measures.measure import Symmetry
from aeot_jax.typing import Given, PRNGKey, Samples


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """The standard normal law N(0, I).

    Attributes:
      option: what `Config.source` and `--source` call it.
      dim: dimension d.
    """

    option: ClassVar[str] = "gaussian"
    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        check_dim(self)

    @property
    def variance(self) -> float:
        """Variance of each coordinate: 1."""
        return 1.0

    @property
    def symmetry(self) -> Symmetry:
        """Every rotation leaves the law as it is."""
        return "rotations"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        return jax.random.normal(key, (n, self.dim), jnp.float32)

    def from_uniform(self, u: Samples) -> Samples:
        """Carry uniform points of the open unit cube onto the law (n, d)."""
        return jax.scipy.special.ndtri(u)

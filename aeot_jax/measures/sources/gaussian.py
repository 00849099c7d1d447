"""The standard normal distribution."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from aeot_jax.measures.checks import check_dim, check_draw
from aeot_jax.measures.measure import Symmetry
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey, Samples


@register
@dataclass(frozen=True)
class Gaussian:
    """The standard normal distribution N(0, I).

    Attributes:
      option: its name in `Config.source` and `--source`.
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
        """The distribution does not change under any rotation."""
        return "rotations"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        return jax.random.normal(key, (n, self.dim), jnp.float32)

    def from_uniform(self, u: Samples) -> Samples:
        """Map uniform points of the open unit cube (n, d) to samples."""
        return jax.scipy.special.ndtri(u)

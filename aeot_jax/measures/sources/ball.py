"""The uniform distribution on a ball."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from aeot_jax.measures.checks import check_dim, check_draw
from aeot_jax.measures.measure import Symmetry
from aeot_jax.numerics import usual_dtypes
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey, Samples


@register
@dataclass(frozen=True)
class UniformBall:
    """The uniform distribution on the unit ball of R^d.

    Attributes:
      option: its name in `Config.source` and `--source`.
      dim: dimension d.
    """

    option: ClassVar[str] = "ball"
    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        check_dim(self)

    @property
    def variance(self) -> float:
        """Variance of each coordinate: 1 / (d + 2)."""
        return 1.0 / (self.dim + 2)

    @property
    def symmetry(self) -> Symmetry:
        """The distribution does not change under any rotation."""
        return "rotations"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        with usual_dtypes():  # JAX would draw float64 signs in 64-bit mode
            return jax.random.ball(key, self.dim, shape=(n,), dtype=jnp.float32)

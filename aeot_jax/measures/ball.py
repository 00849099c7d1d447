"""The uniform law on a ball."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from aeot_jax.measures.checks import check_dim, check_draw
from aeot_jax.measures.measure import Symmetry
from aeot_jax.numerics import usual_dtypes
from aeot_jax.typing import Given, PRNGKey, Samples


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniformBall:
    """The uniform law on the unit ball of R^d.

    Attributes:
      option: what `Config.source` and `--source` call it.
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
        """Every rotation leaves the law as it is."""
        return "rotations"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        with usual_dtypes():  # JAX draws its signs as floats of the mode
            return jax.random.ball(key, self.dim, shape=(n,), dtype=jnp.float32)

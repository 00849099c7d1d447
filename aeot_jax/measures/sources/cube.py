"""The uniform distribution on a cube."""

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
class UniformCube:
    """The uniform distribution on [-1/2, 1/2]^d, the source of the published algorithm.

    Attributes:
      option: its name in `Config.source` and `--source`.
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
        """The distribution does not change when any coordinate changes its sign."""
        return "signs"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        return jax.random.uniform(key, (n, self.dim), jnp.float32, minval=-0.5, maxval=0.5)

    def from_uniform(self, u: Samples) -> Samples:
        """Map uniform points of the open unit cube (n, d) to samples."""
        return u - 0.5

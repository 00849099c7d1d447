"""The product of two sources: their samples side by side, independent of each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from aeot_jax import arguments
from aeot_jax.measures.checks import check_draw
from aeot_jax.measures.measure import Measure, Symmetry
from aeot_jax.measures.moments import draw
from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey, Samples


@register
@dataclass(frozen=True)
class Product:
    """The law of (a, b) with a and b independent, as noise beside a condition.

    It offers what both parts offer: a symmetry under changes of signs, a map of uniform points.

    Attributes:
      mu_a: law of the first coordinates.
      mu_b: law of the last ones.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("mu_a", "mu_b")
    mu_a: Given[Measure]
    mu_b: Given[Measure]

    __repr__ = brief

    def __post_init__(self):
        for name in self.PARTS:
            way = "a source measure, as `aeot_jax.Gaussian(dim=2)`"
            arguments.instance(name, getattr(self, name), Measure, way)

    @property
    def parts(self) -> tuple[Measure, Measure]:
        """Both sources, in the order of their coordinates."""
        return self.mu_a, self.mu_b

    @property
    def dim(self) -> int:
        """The sum of both dimensions."""
        return self.mu_a.dim + self.mu_b.dim

    @property
    def variance(self) -> float | None:
        """That of a coordinate, if both parts know theirs and they are equal."""
        return self.mu_a.variance if self.mu_a.variance == self.mu_b.variance else None

    @property
    def symmetry(self) -> Symmetry | None:
        """Changes of signs, if both parts have a symmetry."""
        known = [getattr(part, "symmetry", None) for part in self.parts]
        return "signs" if None not in known else None

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = check_draw(key, n)
        pairs = zip(jax.random.split(key), self.parts, strict=True)
        return jnp.concatenate([draw(own, part, n) for own, part in pairs], 1)

    @property
    def from_uniform(self) -> Callable[[Samples], Samples]:
        """Map uniform points of the open unit cube (n, d) to samples, if both parts can."""
        maps = [part.from_uniform for part in self.parts]  # pyright: ignore[reportAttributeAccessIssue] - the error says what is missing
        first = self.mu_a.dim

        def mapped(u: Samples) -> Samples:
            return jnp.concatenate([maps[0](u[:, :first]), maps[1](u[:, first:])], 1)

        return mapped

"""A measure shifted by its mean."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from aeot_jax.measures.measure import Measure
from aeot_jax.trees import register
from aeot_jax.typing import PRNGKey, Samples


@register
@dataclass(frozen=True)
class _Around:
    """The distribution of x - mean, which the solver draws from."""

    mu: Measure
    mean: Float[Array, " d"]

    @property
    def dim(self) -> int:
        return self.mu.dim

    @property
    def variance(self) -> None:
        return None

    def sample(self, key: PRNGKey, n: int) -> Samples:
        return self.mu.sample(key, n) - self.mean[None, :]


@register
class _NetAround(_Around):
    """The same for a measure with ``from_uniform``."""

    def from_uniform(self, u: Samples) -> Samples:
        return self.mu.from_uniform(u) - self.mean[None, :]  # pyright: ignore[reportAttributeAccessIssue]


def is_centred(mu: Measure) -> bool:
    """Whether the mean of a measure is known to be 0."""
    return mu.variance is not None or getattr(mu, "symmetry", None) is not None


def around(mu: Measure, mean: Float[Array, " d"]) -> Measure:
    """Shift a measure by its mean, so that scores of samples lose no digits to an offset.

    Args:
      mu: the distribution of x.
      mean: its mean, or an estimate of it.

    Returns:
      The distribution of x - mean; `mu` itself if it is known to be centred.
    """
    if is_centred(mu):
        return mu
    return (_NetAround if hasattr(mu, "from_uniform") else _Around)(mu, mean)

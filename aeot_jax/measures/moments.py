"""Samples of any measure, and its mean and covariance."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.measures.measure import Measure
from aeot_jax.typing import PRNGKey, Samples

MOMENT_SAMPLES = 4096
"""Samples from which unknown moments are estimated."""


def draw(key: PRNGKey, mu: Measure, n: int) -> Samples:
    """Draw samples (n, d) of any measure as float32; a user's own may give float64."""
    return jnp.asarray(mu.sample(key, n), jnp.float32)


def moments(key: PRNGKey, mu: Measure) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean (d,) and covariance (d, d) of a measure: exact if known, else from samples.

    Those of a product are those of its parts.

    Args:
      key: consumed only if the moments must be estimated.
      mu: the measure.
    """
    if mu.variance is not None:
        return jnp.zeros(mu.dim, jnp.float32), mu.variance * jnp.eye(mu.dim, dtype=jnp.float32)
    if made_of := parts(mu):
        keys = jax.random.split(key, len(made_of))
        means, blocks = zip(*map(moments, keys, made_of), strict=True)
        return jnp.concatenate(means), jax.scipy.linalg.block_diag(*blocks)
    x = draw(key, mu, MOMENT_SAMPLES)
    with jax.default_matmul_precision("highest"):
        covariance = jnp.cov(x, rowvar=False)
    return x.mean(0), covariance.reshape(mu.dim, mu.dim)


def num_moment_samples(mu: Measure) -> int:
    """Samples from which ``moments`` estimates what is not known."""
    if mu.variance is not None:
        return 0
    return max(map(num_moment_samples, parts(mu)), default=MOMENT_SAMPLES)


def parts(mu: Measure) -> tuple[Measure, ...]:
    """The sources whose product a measure is; none if it is no product."""
    return getattr(mu, "parts", ())

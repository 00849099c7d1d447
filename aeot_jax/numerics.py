"""Numerical traps with names: matmul precision, scale and centre, safe ratios."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PRECISION = jax.lax.Precision.HIGHEST
"""Precision of every product behind an argmax: TF32 and bfloat16 move samples between cells."""


def safe_ratio(
    numerator: Float[Array, "..."], denominator: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Divide, with 0 where the denominator is 0; gradients stay finite there."""
    zero = denominator == 0
    return jnp.where(zero, 0.0, numerator / jnp.where(zero, 1.0, denominator))

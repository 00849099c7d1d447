"""Gaps between scores as whole numbers of a small unit.

So their sums are the same however samples and targets are sharded over devices.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_MOST_SPREADS = 8
"""A gap counts as no more spreads of the scores: the sum of all gaps then fits an int32."""


def parts(num_samples: int) -> Float[Array, ""]:
    """Parts of a spread in which the gaps of so many samples are added up."""
    return jnp.float32(2**30 // (num_samples * _MOST_SPREADS))


def whole(
    gap: Float[Array, " n"], spread: Float[Array, ""], parts: Float[Array, ""]
) -> Int[Array, " n"]:
    """Gaps (n,) in parts of the spread."""
    return jnp.round(jnp.minimum(gap / spread, float(_MOST_SPREADS)) * parts).astype(jnp.int32)


def told(
    sums: Int[Array, " m"], spread: Float[Array, ""], parts: Float[Array, ""]
) -> Float[Array, " m"]:
    """Sums of gaps (m,) from sums of whole numbers."""
    return sums.astype(jnp.float32) * (spread / parts)

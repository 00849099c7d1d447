"""How far groups of targets are from their mass, where single cells are too small to tell.

The square of the mass error counts a cell without mass as 1 and one with three times its mass as 4,
but an empty cell is the worse miss: steps lift it by a few gaps at most. A few samples tell nothing
of one cell. So targets whose scores deviate alike, the inner and the outer ones, are counted
together.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.numerics import isolated
from aeot_jax.ot.cells import blockwise
from aeot_jax.typing import Counts, Weights

_GROUPS = 16
"""Groups, two to a doubling of the deviation."""


def starving(
    counts: Counts,
    nu: Weights,
    deviation: Float[Array, " m"],
    num_samples: ArrayLike,
    targets_axis: str | None = None,
) -> Float[Array, ""]:
    r"""Sum over groups of :math:`\nu_g \log^2(w_g / \nu_g)`, with a sample added to each.

    Args:
      counts: of samples in the cells (m,).
      nu: weights (m,).
      deviation: standard deviation of every target's score over the mean one (m,).
      num_samples: the sum of the counts.
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    group = isolated(_group, deviation)
    seen = jnp.zeros_like(counts, shape=_GROUPS).at[group].add(counts)
    if targets_axis is not None:
        seen = lax.psum(seen, targets_axis)

    def weights(nu: Weights, group: Int[Array, " n"]) -> Float[Array, " g"]:
        own = group[:, None] == jnp.arange(_GROUPS, dtype=jnp.int32)[None, :]
        return jnp.where(own, nu[:, None], 0.0).sum(0)

    wanted = blockwise.sum_blocks(weights, (nu, group), targets_axis=targets_axis)
    return isolated(_miss, seen, wanted, jnp.asarray(num_samples, jnp.float32))


def _group(deviation: Float[Array, " m"]) -> Int[Array, " m"]:
    """Number of a target's group."""
    scale = 2 * jnp.log2(jnp.maximum(deviation, 1e-6)) + _GROUPS // 2
    return jnp.clip(scale, 0, _GROUPS - 1).astype(jnp.int32)


def _miss(
    seen: Int[Array, " g"], wanted: Float[Array, " g"], num_samples: Float[Array, ""]
) -> Float[Array, ""]:
    one = 1 / num_samples
    ratio = jnp.log((seen.astype(jnp.float32) * one + one) / (wanted + one))
    return (wanted * ratio * ratio).sum()

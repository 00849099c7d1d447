"""What a step has seen, from which the heights move."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.counts.shares import Shared
from aeot_jax.typing import Counts, Heights, PRNGKey, Weights


class Seen(NamedTuple):
    """What a step has seen.

    Attributes:
      counts: of all samples of the step in the cells (m,).
      num_samples: the sum of the counts over all cells.
      key: for samples that a way of moving draws itself.
      shared: what the samples tell beyond that; None where the plan shares none.
    """

    counts: Counts
    num_samples: Float[Array, ""]
    key: PRNGKey
    shared: Shared | None = None


def centred(h: Heights, nu: Weights, targets_axis: str | None) -> Heights:
    """Heights whose weighted mean over active targets is 0, and -inf elsewhere."""

    def weighted(h: Heights, nu: Weights) -> Float[Array, ""]:
        return jnp.where(nu > 0, nu * h, 0.0).sum()

    mean = blockwise.sum_blocks(weighted, (h, nu), targets_axis=targets_axis)
    return jnp.where(nu > 0, h - mean, -jnp.inf)

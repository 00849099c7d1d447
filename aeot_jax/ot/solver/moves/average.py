"""The mean of the last heights, which is as good as steps with the exact Hessian.

Source: Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aeot_jax.typing import Heights


class Average(NamedTuple):
    """A running mean.

    Attributes:
      heights: the mean (m,); the heights themselves before the first is taken in.
      number: how many it is of.
    """

    heights: Float[Array, "*batch m"]
    number: Int[Array, "*batch"]


def init(h: Heights) -> Average:
    """Nothing yet."""
    return Average(jnp.zeros_like(h), jnp.zeros((), jnp.int32))


def updated(
    average: Average, h: Heights, step: Int[Array, ""], average_from: Int[Array, ""] | int
) -> Average:
    """Take in the heights after so many steps, once their time has come."""
    number = average.number + (step > average_from).astype(jnp.int32)
    finite = jnp.isfinite(h)
    of = jnp.maximum(number, 1).astype(jnp.float32)
    change = jnp.where(finite, h - average.heights, 0.0) / of
    moved = average.heights + change * (number > 0).astype(jnp.float32)
    return Average(jnp.where(finite, moved, h), number)

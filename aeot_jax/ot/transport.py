r"""The transport map: :math:`T = \nabla u_h` carries a sample to the target of its cell."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from aeot_jax.ot import power


def transport(x: ArrayLike, y: ArrayLike, h: ArrayLike) -> Float[Array, "..."]:
    r"""Carry samples to the targets of their cells: T(x) = y_i for x in the cell of target i.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,).

    Returns:
      T(x), of the shape of x.

    Raises:
      ValueError: if the shapes disagree.

    Source: Lei et al., Engineering 6(3), 2020, section 3; Brenier 1991.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    _, index = power.assign(jnp.atleast_2d(x), y, h)
    return y[index].reshape(x.shape)

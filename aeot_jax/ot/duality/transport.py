r"""The transport map: :math:`T = \nabla u_h` carries a sample to the target of its cell."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax.ot import centring, checks
from aeot_jax.ot.cells import power, shift
from aeot_jax.ot.cells.samples import check_samples
from aeot_jax.typing import ArrayLike, Heights, Index, Samples, Targets


def transport(x: ArrayLike, y: ArrayLike, h: ArrayLike) -> Float[Array, "..."]:
    r"""Carry samples to the targets of their cells: T(x) = y_i for x in the cell of target i.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,).

    Returns:
      T(x) in the shape of x, float32 whatever dtype the targets have.

    Raises:
      ValueError: if a shape or a known value does not fit.

    Source: Lei et al., Engineering 6(3), 2020, section 3; Brenier 1991.
    """
    near = centring.near(y, h)
    samples = check_samples(x, np.shape(y))
    # The user's own targets: adding back what the host has subtracted would change last bits.
    targets = checks.check_targets(y) if np.asarray(near.shift.centre).any() else near.y
    return targets[winner(jnp.atleast_2d(samples), near)].reshape(samples.shape)


def winner(x: Samples, near: centring.Near) -> Index:
    """The target whose cell holds each sample, as by ``assign``; derivatives are stopped.

    Args:
      x: samples (n, d).
      near: targets and heights.
    """
    x, near = jax.lax.stop_gradient((x, near))
    return _winner(x, near.y, near.h)


@jax.custom_batching.custom_vmap
def _winner(x: Samples, y: Targets, h: Heights) -> Index:
    """``_cells``, where ``vmap`` over samples becomes one call with all of them."""
    return _cells(x, y, h)


@_winner.def_vmap
def _winner_vmap(
    axis_size: int, in_batched: list[bool], x: jax.Array, y: jax.Array, h: jax.Array
) -> tuple[jax.Array, bool]:
    if in_batched == [True, False, False]:
        index = _winner(x.reshape(-1, x.shape[-1]), y, h)
        return index.reshape(axis_size, x.shape[1]), True
    axes = [0 if batched else None for batched in in_batched]
    return jax.vmap(_cells, in_axes=axes)(x, y, h), True


@jax.jit
def _cells(x: Samples, y: Targets, h: Heights) -> Index:
    rows, heights, _ = shift.around(y, h)
    return power.best(x, rows, heights)[1]

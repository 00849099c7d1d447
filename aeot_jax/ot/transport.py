r"""The transport map: :math:`T = \nabla u_h` carries a sample to the target of its cell."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from aeot_jax.ot import power, problem
from aeot_jax.ot.samples import check_samples
from aeot_jax.typing import Heights, Index, Samples, Targets


def transport(x: ArrayLike, y: ArrayLike, h: ArrayLike) -> Float[Array, "..."]:
    r"""Carry samples to the targets of their cells: T(x) = y_i for x in the cell of target i.

    Args:
      x: one sample (d,) or samples (n, d).
      y: targets (m, d).
      h: heights (m,).

    Returns:
      T(x), of the shape of x.

    Raises:
      ValueError: if a shape or a known value does not fit.

    Source: Lei et al., Engineering 6(3), 2020, section 3; Brenier 1991.
    """
    targets = problem.check_targets(y)
    heights = problem.check_heights(h, targets)
    samples = check_samples(x, targets)
    index = winner(jnp.atleast_2d(samples), targets, heights)
    return jnp.asarray(y)[index].reshape(samples.shape)


def winner(x: Samples, y: Targets, h: Heights) -> Index:
    """Whose cell holds each sample; as ``assign``, but with more digits where targets lie far off.

    A shift of all targets moves every score of a sample alike, and so does one of all heights.
    Scored is around the targets' mean and below the highest height, where rounding follows the
    distances between targets and not those to the origin. Nothing is differentiated.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,).
    """
    x, y, h = jax.lax.stop_gradient((x, y, h))
    return _winner(x, y - centre(y, h)[None, :], h - h.max())


def centre(y: Targets, h: Heights) -> Float[Array, " d"]:
    """Mean of the targets that have a height."""
    active = jnp.isfinite(h)
    return jnp.where(active[:, None], y / active.sum(dtype=jnp.int32).astype(jnp.float32), 0.0).sum(
        0
    )


@jax.custom_batching.custom_vmap
def _winner(x: Samples, y: Targets, h: Heights) -> Index:
    """By ``assign``, but a batch of single samples becomes one call on many samples."""
    return power.assign(x, y, h)[1]


@_winner.def_vmap
def _winner_vmap(
    axis_size: int, in_batched: list[bool], x: jax.Array, y: jax.Array, h: jax.Array
) -> tuple[jax.Array, bool]:
    if in_batched == [True, False, False]:
        index = _winner(x.reshape(-1, x.shape[-1]), y, h)
        return index.reshape(axis_size, x.shape[1]), True
    axes = [0 if batched else None for batched in in_batched]
    return jax.vmap(lambda *a: power.assign(*a)[1], in_axes=axes)(x, y, h), True

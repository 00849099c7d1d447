"""Targets that no device holds whole: their highest planes, and some rows, known on every device.

Each device finds the highest planes of its own targets. The lists of all devices then travel, k
numbers a sample and device, and every device merges them alike. Floats travel as their bits, in
places to which the other devices add 0, so that no sum rounds.
"""

import jax
import jax.numpy as jnp
from jax import lax

from aeot_jax.ot.cells import power
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.cells.blockwise import gather_bits


def highest(
    x: jax.Array, y: jax.Array | Rows, h: jax.Array, k: int, targets_axis: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """The k highest planes at each sample among the targets of all devices; see ``power.highest``.

    Args:
      x: samples (n, d), the same on all devices of the axis.
      y: targets of this device (m, d), or from ``shift.around``.
      h: their heights (m,).
      k: at most the number of targets of all devices.
      targets_axis: a mapped axis over whose devices the targets are sharded in their order.

    Returns:
      Values (n, k) and indices among the targets of all devices (n, k), the same on each.
    """
    if targets_axis is None:
        return power.highest(x, y, h, k)
    return merged(own_highest(x, y, h, k, targets_axis), k, targets_axis)


def own_highest(
    x: jax.Array, y: jax.Array | Rows, h: jax.Array, k: int, targets_axis: str | None
) -> tuple[jax.Array, jax.Array]:
    """The k highest planes of this device's targets, all of them if it has fewer, for ``merged``.

    The indices are among the targets of all devices.
    """
    values, index = power.highest(x, y, h, min(k, h.shape[0]))
    if targets_axis is not None:
        index += lax.axis_index(targets_axis) * h.shape[0]
    return values, index


def merged(
    own: tuple[jax.Array, jax.Array], k: int, targets_axis: str | None
) -> tuple[jax.Array, jax.Array]:
    """The k highest of the planes that devices found; of equals the lowest index comes first.

    Args:
      own: from ``own_highest`` (n, j).
      k: how many to keep.
      targets_axis: the axis of these devices.
    """
    if targets_axis is None:
        return own
    values, index = (_everyone(part, targets_axis) for part in own)
    values, position = lax.top_k(values, k)  # it keeps the first of equals, of the first device
    return values, jnp.take_along_axis(index, position, axis=1)


def take(y: jax.Array | Rows, index: jax.Array, targets_axis: str | None = None) -> jax.Array:
    """Rows of the targets of all devices, as they are scored, float32 (..., d); one holds each.

    Args:
      y: targets of this device (m, d).
      index: among the targets of all devices, the same on each (...).
      targets_axis: as for ``highest``.
    """
    y = as_rows(y)
    if targets_axis is None:
        return y.of(y.points[index.ravel()]).reshape(*index.shape, y.shape[1])
    own = y.shape[0]
    place = index.ravel() - lax.axis_index(targets_axis) * own
    mine = (place >= 0) & (place < own)
    rows = y.of(y.points[jnp.clip(place, 0, own - 1)])
    bits = jnp.where(mine[:, None], lax.bitcast_convert_type(rows, jnp.int32), 0)
    found = lax.bitcast_convert_type(lax.psum(bits, targets_axis), jnp.float32)
    return found.reshape(*index.shape, y.shape[1])


def _everyone(own: jax.Array, targets_axis: str) -> jax.Array:
    """Lists (n, k) of all devices, one after the other (n, devices k), the same on each."""
    bits = lax.bitcast_convert_type(own, jnp.int32)
    return lax.bitcast_convert_type(gather_bits(bits.T, targets_axis).T, own.dtype)

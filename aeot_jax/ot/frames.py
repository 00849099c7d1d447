"""Where the targets lie: the solver sees them centred and scaled."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import blocks, blockwise, shift
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.typing import HeldTargets, Stored, Targets, Weights

_MOST_COPIED = 64 << 20
"""Most bytes of float32 targets that are copied where they are stored in fewer."""


class Frame(NamedTuple):
    """Where the targets lie: y = centre + scale * (targets the solver sees).

    A shift of the targets moves every score of a sample alike, and heights scale with the targets:
    ``h = scale * (heights the solver sees)``. One set of constants then serves every data set.
    """

    centre: Float[Array, " d"]
    scale: Float[Array, ""]

    def normalise(self, y: HeldTargets) -> Targets:
        """Centre and scale targets (m, d)."""
        return (jnp.asarray(y).astype(jnp.float32) - self.centre[None, :]) / self.scale

    def rows(self, y: Stored) -> Rows:
        """Targets (m, d) that are centred and scaled where they are scored."""
        return Rows(y, self.centre, self.scale)


def stays_stored(y: Stored, targets_axis: str | None = None) -> bool:
    """Whether targets are so many, of less than float32 each, that no copy of all is widened.

    Args:
      y: targets of this device, as stored (m, d).
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    size = 4 * y.size * blockwise.num_shards(targets_axis)  # the same on any number of devices
    return y.dtype != jnp.float32 and size > _MOST_COPIED


def frame(y: Stored, nu: Weights, targets_axis: str | None = None) -> Frame:
    """Weighted mean of the targets and root mean square of a coordinate around it.

    Args:
      y: targets as stored (m, d).
      nu: weights (m,).
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    taken = shift.around(y, jnp.where(nu > 0, 0 * nu, -jnp.inf), targets_axis)[2]
    offset = jnp.asarray(taken.centre)
    size = shift.farthest(y, offset)
    if targets_axis is not None:
        size = jax.lax.pmax(size, targets_axis)
    # Scale first: squares of targets near 1e-30 or 1e+30 leave float32.
    size = jnp.where(size > 0, jnp.maximum(size, jnp.finfo(jnp.float32).tiny), 1.0)

    def unit(y: Stored | Rows, offset: Float[Array, " d"], size: Float[Array, ""]) -> Targets:
        return (blocks.whole(y) - offset[None, :]) / size

    def mean(y: Stored | Rows, nu: Weights, *place: Array) -> Float[Array, " d"]:
        return jnp.matmul(nu, unit(y, *place), precision=PRECISION)

    def square(
        y: Stored | Rows, nu: Weights, centre: Float[Array, " d"], *place: Array
    ) -> Float[Array, ""]:
        deviation = jnp.square(unit(y, *place) - centre[None, :]).mean(1)
        return jnp.matmul(nu, deviation, precision=PRECISION)

    of_targets = partial(blockwise.sum_blocks, targets_axis=targets_axis)
    rows = Rows(y) if stays_stored(y, targets_axis) else y
    centre = of_targets(mean, (rows, nu), offset, size)
    variance = of_targets(square, (rows, nu), centre, offset, size)
    # Targets that all coincide, up to rounding, have no size: any scale serves.
    scale = jnp.where(variance > 1e-13, jnp.sqrt(variance), 1.0)
    return Frame(offset + centre * size, scale * size)

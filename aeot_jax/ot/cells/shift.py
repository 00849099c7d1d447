r"""Centring of targets and heights, so that scores keep their digits wherever the targets lie.

A shift of all targets changes the scores :math:`\langle x, y_i\rangle + h_i` of a sample by one
number, and so does a shift of all heights: the cells stay the same. Near the origin, scores are
rounded relative to the distances between targets; at an offset, relative to the offset.

The shift is a multiple of a power of two that is more than four times the size of the targets, or
of the heights. Near the origin that multiple is 0 and no bit changes. Elsewhere the subtraction is
exact, because the two float32 numbers are near to each other.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Real, Shaped

from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.typing import Stored

_MANTISSA_BITS = 23
"""Bits of a float32 below its exponent."""

_SPARE_BITS = 2
"""Bits that an offset may cost before it is subtracted: one of less than twice the size stays."""

_EXPONENTS = 7, 247
"""Least and largest exponent of a unit, 2^-120 and 2^120: its multiples stay within float32."""

_EXACT = 2.0**24
"""Below, every integer is a float32."""

_PART = 4096
"""Targets that are reduced together."""

_HOST_ROWS = 1 << 16
"""Targets that are shifted together on the host: it bounds the copies in float64."""


class Shift(NamedTuple):
    """What was subtracted from targets and heights; scores of x are lower by <x, centre> + level.

    Attributes:
      centre: subtracted from every target (d,).
      level: subtracted from every height.
    """

    centre: Float[Array | np.ndarray, " d"]
    level: Float[Array | np.ndarray, ""]

    def of(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """By how much the scores of each sample are lower (n,)."""
        centre, level = jnp.asarray(self.centre), jnp.asarray(self.level)
        return jnp.matmul(x, centre, precision=PRECISION) + level


def none(dim: int) -> Shift:
    """A shift by 0."""
    return Shift(np.zeros(dim, np.float32), np.zeros((), np.float32))


def around(
    y: Stored, h: Float[Array, " m"], targets_axis: str | None = None
) -> tuple[Rows, Float[Array, " m"], Shift]:
    """Centre targets and heights for a kernel; for use under a trace.

    Args:
      y: targets as stored (m, d).
      h: heights (m,).
      targets_axis: a mapped axis over whose devices the targets are sharded; all use one shift.

    Returns:
      The targets with their centre, which is subtracted when they are scored; the shifted heights;
      the shift. Derivatives are stopped.
    """
    y, h = lax.stop_gradient((y, h))
    active = h > -jnp.inf
    centre, level = (_middle(values, active, targets_axis) for values in (y, h))
    return Rows(y, centre), h - level, Shift(centre, level)


def on_host(
    y: Shaped[np.ndarray, "m d"], active: Bool[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, " d"]]:
    """Centre targets in float64 and round them; return them and the centre in float64.

    Args:
      y: targets in any real dtype (m, d), finite.
      active: the targets around whose middle to centre (m,); at least one.
    """
    low, high = _ends(y, active)
    longest = (high - low).max()
    unit = np.ldexp(1.0, int(np.frexp(longest)[1]) + _SPARE_BITS)
    middle = low / 2 + high / 2
    centre = np.round(middle / unit) * unit if longest > 0 else middle
    shifted = np.empty(y.shape, np.float32)
    for start in range(0, len(y), _HOST_ROWS):
        part = slice(start, start + _HOST_ROWS)
        shifted[part] = y[part].astype(np.float64) - centre
    return shifted, centre


def _ends(
    y: Shaped[np.ndarray, "m d"], active: Bool[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Least and largest coordinates of the active targets, in float64."""
    low, high = np.full(y.shape[1], np.inf), np.full(y.shape[1], -np.inf)
    for start in range(0, len(y), _HOST_ROWS):
        part = slice(start, start + _HOST_ROWS)
        own = y[part][active[part]]
        if len(own):
            low = np.minimum(low, own.min(0).astype(np.float64))
            high = np.maximum(high, own.max(0).astype(np.float64))
    return low, high


def _middle(
    values: Real[Array, "m *d"], active: Bool[Array, " m"], targets_axis: str | None
) -> Float[Array, "*d"]:
    """Middle of the active values in each coordinate, rounded by ``rounded``; 0 if none is active.

    Values are reduced a part at a time: otherwise the compiler writes all masked values first.
    """
    m = values.shape[0]
    size = min(_PART, m)

    def body(b: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        start = jnp.minimum(b * size, m - size)
        part = lax.dynamic_slice_in_dim(values, start, size).astype(jnp.float32)
        known = lax.dynamic_slice_in_dim(active, start, size)
        known = known.reshape(-1, *[1] * (values.ndim - 1))
        low = jnp.min(jnp.where(known, part, jnp.inf), axis=0)
        high = jnp.max(jnp.where(known, part, -jnp.inf), axis=0)
        return jnp.minimum(ends[0], low), jnp.maximum(ends[1], high)

    shape, dtype = values.shape[1:], jnp.float32
    ends = blocks.full(shape, np.inf, dtype, values), blocks.full(shape, -np.inf, dtype, values)
    low, high = repeat(-(-m // size), body, ends)
    if targets_axis is not None:
        low, high = lax.pmin(low, targets_axis), lax.pmax(high, targets_axis)
    some = low <= high
    low, high = jnp.where(some, low, 0.0), jnp.where(some, high, 0.0)
    return rounded(low / 2 + high / 2, jnp.max(high - low))


def farthest(y: Stored, centre: Float[Array, " d"]) -> Float[Array, ""]:
    """Largest distance of a coordinate of the targets from that of a centre, a part at a time."""
    m = y.shape[0]
    size = min(_PART, m)

    def body(b: Array, most: Array) -> Array:
        start = jnp.minimum(b * size, m - size)
        part = lax.dynamic_slice_in_dim(y, start, size).astype(jnp.float32)
        return jnp.maximum(most, jnp.max(jnp.abs(part - centre[None, :])))

    return repeat(-(-m // size), body, blocks.full((), 0.0, jnp.float32, y, centre))


def rounded(middle: Float[Array, "*d"], size: Float[Array, ""]) -> Float[Array, "*d"]:
    """Round a middle to a multiple of a power of two above four times a size: to 0 near the origin.

    Args:
      middle: what to round; it stays as it is where the size is 0.
      size: longest side of the points around it.
    """
    exponent = lax.bitcast_convert_type(size, jnp.int32) >> _MANTISSA_BITS  # size is not negative
    exponent = jnp.clip(exponent + 1 + _SPARE_BITS, *_EXPONENTS)
    unit = lax.bitcast_convert_type(exponent << _MANTISSA_BITS, jnp.float32)
    number = middle / unit
    is_fine = (size > 0) & (jnp.abs(number) < _EXACT)  # beyond, every float32 is such a multiple
    return jnp.where(is_fine, jnp.round(number) * unit, middle)

"""Scrambled Sobol points inside jit: they fill the cube evenly, and each point is uniform.

Every draw has its own scrambling, so a mean over its points is unbiased and draws are independent
of each other. The points of one draw are not independent: they avoid each other, so a cell that
holds several of them is counted with less noise than by independent points.

Sources: Sobol 1967 and Joe, Kuo 2008 (direction numbers, from SciPy); Owen 1995 (scrambling);
Laine, Karras 2011 (a hash that scrambles nested digits).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, UInt32

from aeot_jax.typing import PRNGKey

MOST_POINTS = 1 << 20
"""Most points of one draw."""

MOST_DIMS = 12
"""Largest dimension in which Sobol points are drawn; above it they reduce no noise here."""

_BITS = 30


@functools.cache
def _directions(dim: int) -> UInt32[np.ndarray, "20 d"]:
    """Direction numbers: point i is the xor of the numbers at the binary digits 1 of i."""
    from scipy.stats import qmc  # takes half a second to import

    rows = []
    for digit in range(MOST_POINTS.bit_length() - 1):
        # SciPy counts in Gray code: its point 2^j differs from the last by directions j and j - 1.
        engine = qmc.Sobol(dim, scramble=False, bits=_BITS).fast_forward(1 << digit)
        point = (engine.random(1)[0] * 2.0**_BITS).astype(np.uint32)
        rows.append(point ^ rows[-1] if rows else point)
    return np.stack(rows) << np.uint32(32 - _BITS)


def uniforms(key: PRNGKey, dim: int, first: ArrayLike, n: int, total: int) -> Float[Array, "n d"]:
    """Points first, ..., first + n - 1 of a scrambled Sobol net of ``total`` points.

    All parts of one draw take the same key; together they are the net.

    Args:
      key: key of the draw; it decides the scrambling.
      dim: dimension d, at most ``MOST_DIMS``.
      first: index of the first point; may be traced.
      n: number of points.
      total: number of points of the whole net, at most ``MOST_POINTS``.

    Returns:
      Points of the open unit cube (n, d), float32.
    """
    index = jnp.asarray(first, jnp.uint32) + jnp.arange(n, dtype=jnp.uint32)
    point = jnp.zeros((n, dim), jnp.uint32)
    for digit, direction in enumerate(_directions(dim)[: (total - 1).bit_length()]):
        held = ((index >> digit) & 1).astype(bool)
        point ^= jnp.where(held[:, None], jnp.asarray(direction)[None, :], jnp.uint32(0))
    # The parts of a draw share one seed on purpose; `clone` tells this to JAX's key reuse checker.
    seed = jax.random.bits(jax.random.clone(key), (1, dim), jnp.uint32)
    return _open_unit(_scrambled(point, seed))


def _open_unit(point: UInt32[Array, "n d"]) -> Float[Array, "n d"]:
    """The digits as a number in (0, 1): float32 holds 23 of them, and half a unit is added."""
    return ((point >> 9).astype(jnp.float32) + 0.5) * 2.0**-23


def _scrambled(point: UInt32[Array, "n d"], seed: UInt32[Array, "1 d"]) -> UInt32[Array, "n d"]:
    """Flip each digit by a hash of the digits before it."""
    x = _reversed(point) + seed
    for factor in (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6):
        x ^= x * jnp.uint32(factor)
    return _reversed(x)


def _reversed(x: UInt32[Array, "n d"]) -> UInt32[Array, "n d"]:
    """The 32 binary digits in reverse order."""
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> width) & jnp.uint32(mask)) | ((x & jnp.uint32(mask)) << width)
    return (x >> 16) | (x << 16)

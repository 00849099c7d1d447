"""Scrambled Sobol points inside jit: evenly spread, and each point uniform by itself.

Every draw is scrambled afresh, so that a mean over points is unbiased and draws are independent of
each other; within a draw the points repel, and cells that hold several of them are counted with
less noise than by independent points.

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
"""Points of one draw, at most."""

MOST_DIMS = 12
"""Dimension up to which Sobol points are drawn: beyond it they gain nothing here (measured)."""

_BITS = 30


@functools.cache
def _directions(dim: int) -> UInt32[np.ndarray, "20 d"]:
    """Direction numbers: point i is the exclusive or of those of the digits of i that are 1."""
    from scipy.stats import qmc  # half a second, which not every program needs

    rows = []
    for digit in range(MOST_POINTS.bit_length() - 1):
        # SciPy counts in Gray code: its point 2^j differs from the last by directions j and j - 1.
        engine = qmc.Sobol(dim, scramble=False, bits=_BITS).fast_forward(1 << digit)
        point = (engine.random(1)[0] * 2.0**_BITS).astype(np.uint32)
        rows.append(point ^ rows[-1] if rows else point)
    return np.stack(rows) << np.uint32(32 - _BITS)


def uniforms(key: PRNGKey, dim: int, first: ArrayLike, n: int, total: int) -> Float[Array, "n d"]:
    """Points first, ..., first + n - 1 of the first ``total`` of a scrambled Sobol sequence.

    Parts of one draw share its key: together they are the net.

    Args:
      key: of the draw; another key scrambles otherwise.
      dim: dimension d, at most ``MOST_DIMS``.
      first: index of the first point; may be traced.
      n: points.
      total: points of the whole net, at most ``MOST_POINTS``.

    Returns:
      Points of the open unit cube (n, d), float32.
    """
    index = jnp.asarray(first, jnp.uint32) + jnp.arange(n, dtype=jnp.uint32)
    point = jnp.zeros((n, dim), jnp.uint32)
    for digit, direction in enumerate(_directions(dim)[: (total - 1).bit_length()]):
        held = ((index >> digit) & 1).astype(bool)
        point ^= jnp.where(held[:, None], jnp.asarray(direction)[None, :], jnp.uint32(0))
    # The parts of a draw take one seed on purpose: a clone says so to JAX's check of used keys.
    seed = jax.random.bits(jax.random.clone(key), (1, dim), jnp.uint32)
    return _open_unit(_scrambled(point, seed))


def _open_unit(point: UInt32[Array, "n d"]) -> Float[Array, "n d"]:
    """Digits as a number inside (0, 1): 23 of them and a half are what float32 holds."""
    return ((point >> 9).astype(jnp.float32) + 0.5) * 2.0**-23


def _scrambled(point: UInt32[Array, "n d"], seed: UInt32[Array, "1 d"]) -> UInt32[Array, "n d"]:
    """Flip each digit by a hash of the digits before it."""
    x = _reversed(point) + seed
    for factor in (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6):
        x ^= x * jnp.uint32(factor)
    return _reversed(x)


def _reversed(x: UInt32[Array, "n d"]) -> UInt32[Array, "n d"]:
    """The 32 digits in opposite order."""
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> width) & jnp.uint32(mask)) | ((x & jnp.uint32(mask)) << width)
    return (x >> 16) | (x << 16)

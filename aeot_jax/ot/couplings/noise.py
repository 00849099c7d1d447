"""The noise of each draw, by a key of its own: the same alone, in any batch and on any device.

Keys by row cost as much as one key for all rows: a batch of 256 in 64 dimensions takes a twentieth
of its product with 10,000 targets either way (``benchmarks/pairs.py``).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, UInt32

from aeot_jax.measures import Measure, draw
from aeot_jax.ot.cells import antithetic, blocks
from aeot_jax.ot.couplings import numbers
from aeot_jax.typing import PRNGKey, Samples

_TOGETHER = 128
"""Draws of one turn. Turns of one shape have the same bits in every program."""


def samples(key: PRNGKey, mu: Measure, j: UInt32[Array, "2 n"]) -> Samples:
    """Samples (n, d) of the source, independent of each other.

    Args:
      key: of all draws.
      mu: source measure.
      j: numbers of the draws, in two words.
    """
    n = j.shape[1]
    if n == 0:
        return jnp.zeros((0, mu.dim), jnp.float32)
    padded = jnp.pad(j, ((0, 0), (0, -n % _TOGETHER)))

    def turn(i: Int[Array, ""], key: PRNGKey, mu: Measure, j: UInt32[Array, "2 k"]) -> Samples:
        own = lax.dynamic_slice_in_dim(j, i * _TOGETHER, _TOGETHER, 1)
        return jax.vmap(lambda high, low: _sample(key, mu, high, low))(*own)

    x = blocks.map_abreast(turn, padded.shape[1] // _TOGETHER, key, mu, padded)
    return x.reshape(-1, mu.dim)[:n]


def _sample(key: PRNGKey, mu: Measure, high: UInt32[Array, ""], low: UInt32[Array, ""]) -> Array:
    """``fold_in`` takes 32 bits: the words are folded in one after the other."""
    return draw(jax.random.fold_in(jax.random.fold_in(key, high), low), mu, 1)[0]


def dependent(key: PRNGKey, mu: Measure, j: UInt32[Array, "2 n"]) -> Samples:
    """Samples (n, d), of which the eight of an orbit are one sample with changed signs."""
    x = samples(key, mu, numbers.orbits(j))
    return jnp.asarray(antithetic.signs(mu.dim))[numbers.members(j)] * x

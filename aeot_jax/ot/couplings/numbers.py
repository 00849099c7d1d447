"""Numbers of draws: 64 bits in two words of 32, because JAX counts in 32 bits by default."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from aeot_jax import arguments
from aeot_jax.ot.cells import antithetic

MOST = 2**63
"""Numbers of draws are below."""

_BITS = 32
_ORBIT_BITS = antithetic.SIZE.bit_length() - 1


def words(j: int | np.ndarray) -> UInt32[np.ndarray, "2 ..."]:
    """The high and the low word of numbers below 2^64."""
    if isinstance(j, int):  # of every batch: quicker than by NumPy
        return np.array((j >> _BITS, j & (2**_BITS - 1)), np.uint32)
    wide = np.asarray(j, np.uint64)
    return np.stack([wide >> np.uint64(_BITS), wide & np.uint64(2**_BITS - 1)]).astype(np.uint32)


def later(first: UInt32[Array, "2"], by: Int[Array, " n"]) -> UInt32[Array, "2 n"]:
    """The numbers ``first + by``; ``by`` is not negative."""
    low = first[1] + jnp.asarray(by).astype(jnp.uint32)
    return jnp.stack([first[0] + (low < first[1]).astype(jnp.uint32), low])


def orbits(j: UInt32[Array, "2 n"]) -> UInt32[Array, "2 n"]:
    """The orbit of each draw: orbit o holds draws 8 o to 8 o + 7."""
    carried = j[0] << np.uint32(_BITS - _ORBIT_BITS)
    return jnp.stack([j[0] >> np.uint32(_ORBIT_BITS), carried | (j[1] >> np.uint32(_ORBIT_BITS))])


def members(j: UInt32[Array, "2 n"]) -> Int[Array, " n"]:
    """The place of each draw in its orbit."""
    return (j[1] & np.uint32(antithetic.SIZE - 1)).astype(jnp.int32)


def checked(name: str, j: Any) -> int | np.ndarray:
    """One number of a draw, or an array (n,) of them as uint64.

    Raises:
      ValueError: if they are no whole numbers from 0 to 2^63 - 1.
    """
    if not np.ndim(j):
        number = arguments.whole(name, j, "the number of a draw")
        if not 0 <= number < MOST:
            raise ValueError(f"`{name}` is {number}; pass the number of a draw, 0 to 2^63 - 1.")
        return number
    found = np.asarray(arguments.host_array(name, j))
    if found.ndim != 1 or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise ValueError(
            f"`{name}` is {arguments.shown(found)}; pass the number of a draw, or several as "
            "integers of shape (n,)."
        )
    if found.size and not (found.min() >= 0 and int(found.max()) < MOST):
        raise ValueError(
            f"`{name}` reaches from {found.min()} to {found.max()}; pass numbers of draws, 0 to "
            "2^63 - 1."
        )
    return found.astype(np.uint64)

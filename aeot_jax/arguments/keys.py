"""Random keys, typed or legacy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aeot_jax.arguments.display import shown

_RAW_KEYS = {"threefry2x32": (2,), "rbg": (4,), "unsafe_rbg": (4,)}
"""Shape of a legacy key for each of JAX's generators."""


def key(name: str, value: Any) -> Array:
    """Check that a value is one random key, typed or legacy.

    Raises:
      ValueError: for anything else, and for several keys.
    """
    way = "pass one JAX key, as `jax.random.key(0)`"
    if not isinstance(value, jax.Array | np.ndarray):
        raise ValueError(f"`{name}` is {shown(value)}; {way}.")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        if value.shape:
            raise ValueError(
                f"`{name}` holds keys of shape {value.shape}; pass one of them, as `{name}[0]`, or "
                "use `jax.vmap` for all."
            )
        return jnp.asarray(value)
    raw = _RAW_KEYS.get(str(jax.config.jax_default_prng_impl), value.shape[-1:])  # pyright: ignore[reportAttributeAccessIssue]
    if value.dtype != np.uint32 or value.shape[-1:] != raw:
        raise ValueError(f"`{name}` is {shown(value)}; {way}.")
    if value.shape != raw:
        raise ValueError(
            f"`{name}` holds legacy keys, of shape {value.shape}; pass one of them, as "
            f"`{name}[0]`, or use `jax.vmap` for all."
        )
    return jnp.asarray(value)

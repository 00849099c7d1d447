"""Values as errors show them."""

import jax
import numpy as np
from jax.core import Tracer

_SHOWN = 80
"""Most characters of a value that an error shows."""


def shown(value: object) -> str:
    """Describe a value for an error: an array by its shape and dtype, others by a short repr."""
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, Tracer):
        return f"a traced value of dtype {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."

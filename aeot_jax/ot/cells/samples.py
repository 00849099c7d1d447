"""Samples that a user passes: checked on entry, and processed a chunk at a time."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.typing import ArrayLike, Samples

_CHUNK = 4096
"""Most samples of a chunk."""

_LEAST_CHUNK = 64
"""Fewest samples of a chunk: the kernel scores multiples of it."""

_FLOATS = 1 << 21
"""Most floats that a larger chunk may hold at once: 8 MiB."""

T = TypeVar("T", bound=Array)


def check_samples(
    x: ArrayLike,
    shape: tuple[int, ...],
    ranks: tuple[int, ...] = (1, 2),
    less: Float[np.ndarray, " d"] | None = None,
) -> Float[Array, "..."]:
    """Samples as float32, of the targets' dimension.

    Args:
      x: one sample (d,) or samples (n, d).
      shape: of the targets (m, d).
      ranks: which of the two shapes is allowed.
      less: subtracted from each sample, in float64 where the samples are known.

    Raises:
      ValueError: if the shape does not fit, or a value is no real number or leaves float32.
    """
    given = arguments.array("x", x)
    if given.ndim not in ranks or given.size == 0 or given.shape[-1] != shape[1]:
        shapes = " or ".join(("(d,)", "(n, d)")[rank - 1] for rank in ranks)
        raise ValueError(
            f"`x` has shape {given.shape}, but `y` has shape {shape}; pass samples {shapes} "
            f"with d = {shape[1]}."
        )
    if less is None or not less.any():
        return arguments.real("x", given)
    if arguments.is_concrete(given):
        return arguments.real("x", np.asarray(given, np.float64) - less)
    near = less.astype(np.float32)
    return arguments.real("x", given) - near - (less - near).astype(np.float32)


def in_chunks(function: Callable[[Samples], T], x: Samples, floats: int) -> T:
    """Apply a function to chunks of samples, the last one padded.

    Args:
      function: maps samples (c, d) to an array (c, ...), each row by itself.
      x: samples (n, d).
      floats: how many it holds at once for each sample. A chunk gets so few samples that it holds
        at most 8 MiB, but no fewer than 64.
    """
    n = x.shape[0]
    fitting = _FLOATS // floats // _LEAST_CHUNK * _LEAST_CHUNK
    chunk = min(_CHUNK, max(_LEAST_CHUNK, fitting))
    if n <= chunk:
        return function(x)
    padded = jnp.pad(x, ((0, -n % chunk), (0, 0))).reshape(-1, chunk, x.shape[1])
    out = jax.lax.map(function, padded)
    return out.reshape(-1, *out.shape[2:])[:n]

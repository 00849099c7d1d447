"""Samples that a user passes: checked at the border, and carried a chunk at a time."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.typing import ArrayLike, Samples

_CHUNK = 4096
"""Samples carried together at most."""

_LEAST_CHUNK = 64
"""And at least: the kernel scores whole multiples of it."""

_FLOATS = 1 << 21
"""Floats that a chunk of more samples than that may hold at once, 8 MiB."""

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
      ranks: of these two what is taken.
      less: what is taken off each sample, before it is rounded where it is known.

    Raises:
      ValueError: if the shape does not fit, or there is no real number, or none that float32 holds.
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
      function: from samples (c, d) to an array (c, ...), row by row.
      x: samples (n, d).
      floats: how many it holds for each sample at once; chunks get so few samples that they hold
        8 MiB together, but not less than 64.
    """
    n = x.shape[0]
    fitting = _FLOATS // floats // _LEAST_CHUNK * _LEAST_CHUNK
    chunk = min(_CHUNK, max(_LEAST_CHUNK, fitting))
    if n <= chunk:
        return function(x)
    padded = jnp.pad(x, ((0, -n % chunk), (0, 0))).reshape(-1, chunk, x.shape[1])
    out = jax.lax.map(function, padded)
    return out.reshape(-1, *out.shape[2:])[:n]

"""Noise in a given cell: draws are screened by a few rivals, and what is left is scored in full."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import power
from aeot_jax.ot.couplings import noise, numbers
from aeot_jax.ot.couplings.pairing import Parts
from aeot_jax.typing import Index, Samples

_STREAM = 0xFFFFFFFF
"""Folded into the key: the high word of a draw's number is below, so these draws are others."""

_SCREENED = 4096
"""Draws that are screened together."""

_SCORED = 512
"""Draws that are scored in full together."""

_RIVALS = 256
"""Targets by which draws are screened: about one draw in so many is left."""

_SLACK = 1e-5
"""Relative rounding that the screen forgives: it must lose no sample of the cell."""

_SPARE, _LEAST = 8, 2**16
"""Draws allowed: so many times as are expected, and at least so many."""


def expected(share: float, n: int) -> int:
    """Draws after which the search for n samples of a cell ends by default.

    Args:
      share: mass that the cell should have.
      n: samples that are sought.
    """
    return min(2**62, max(_LEAST, math.ceil(_SPARE * (n + 16) / max(share, 1e-12))))


def inside(parts: Parts, i: int, n: int, max_draws: int) -> Float[np.ndarray, "n d"]:
    """The first n samples in the cell of target i, of draws that no batch makes.

    Args:
      parts: of the coupling.
      i: a target that owns a cell, or equals one that does.
      n: samples that are sought.
      max_draws: draws after which the search ends.

    Raises:
      ValueError: if fewer are found; it says how many.
    """
    own = np.asarray(_group(parts, jnp.arange(parts.h.shape[0], dtype=jnp.int32)))
    height = np.asarray(parts.h)
    active = height > -np.inf
    holders = np.flatnonzero(active & (own == own[i]))
    if not holders.size:
        raise ValueError(
            f"`i` is {i}, but its height is -inf, so that it owns no cell; pass another target."
        )
    others = np.flatnonzero(active & (own != own[i]))
    rivals = others[np.linspace(0, len(others) - 1, min(_RIVALS, len(others))).astype(int)]
    parts = parts._replace(key=jax.random.fold_in(parts.key, np.uint32(_STREAM)))
    highest = holders[height[holders].argmax()]
    chosen = jnp.asarray(np.array([highest, *rivals]), jnp.int32)
    found, waiting, drawn = [], np.zeros((0, parts.mu.dim), np.float32), 0
    while sum(map(len, found)) < n and (drawn < max_draws or len(waiting)):
        while drawn < max_draws and len(waiting) < _SCORED:
            x, kept = _screened(parts, numbers.words(drawn), chosen)
            usable = np.asarray(kept)[: max_draws - drawn]
            waiting = np.concatenate([waiting, np.asarray(x)[: len(usable)][usable]])
            drawn += len(usable)
        batch, waiting = waiting[:_SCORED], waiting[_SCORED:]
        padded = np.zeros((_SCORED, parts.mu.dim), np.float32)
        padded[: len(batch)] = batch
        winner = np.asarray(_scored(parts, padded))[: len(batch)]
        found.append(batch[own[winner] == own[i]])
    x = np.concatenate([*found, np.zeros((0, parts.mu.dim), np.float32)])[:n]
    if len(x) < n:
        raise ValueError(
            f"`n` is {n}, but of {drawn:,} draws of the source {len(x)} lie in the cell of target "
            f"{i}; pass more `max_draws`, or fewer samples."
        )
    return x


def _group(parts: Parts, index: Index) -> Index:
    """A number that equal targets share."""
    return index if parts.turns is None else parts.turns.first[index]


@jax.jit
def _screened(
    parts: Parts, first: UInt32[Array, "2"], chosen: Int[Array, " r"]
) -> tuple[Samples, Bool[Array, " n"]]:
    """Draws, and which of them the first chosen target may win."""
    j = numbers.later(first, jnp.arange(_SCREENED, dtype=jnp.int32))
    x = noise.samples(parts.key, parts.mu, j)
    rows = parts.rows.of(parts.rows.points[chosen])
    score = jnp.matmul(x, rows.T, precision=PRECISION) + parts.h[chosen][None, :]
    best = jnp.max(score, axis=1)
    return x, score[:, 0] >= best - _SLACK * (jnp.abs(score[:, 0]) + jnp.abs(best))


@jax.jit
def _scored(parts: Parts, x: Samples) -> Index:
    return power.best(x, parts.rows, parts.h)[1]

"""Brenier's potential at samples, the cells that hold them, and the highest planes above them."""

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.ot import centring
from aeot_jax.ot.cells import power, shift
from aeot_jax.typing import ArrayLike, Given


def assign(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, *, block: Given[int] = 128
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    r"""Evaluate $u_h$ at each sample and find the cell that holds it.

    Samples are streamed in chunks and targets in blocks: extra memory stays under 64 MiB at any
    size (on an accelerator 0.5 GiB), and no copy of ``y`` is made. Ties go to the lowest index.
    Composes with ``jit``, ``vmap``, ``pmap`` and ``shard_map``. Do not differentiate it: ``energy``
    and ``kantorovich`` have their gradients in closed form.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); a target at -inf owns no cell. If all are -inf, the answer is -inf and 0.
      block: targets scored together on a CPU, at most 1024; sizes above 32 are rounded down to a
        multiple of 32. An accelerator ignores it. It changes the time, not the answer.

    Returns:
      The potential (n,) and the lowest index (n,) that attains it, computed in float32 around the
      middle of the targets, so that an offset of all targets moves no cell.

    Raises:
      ValueError: if shapes disagree, ``block`` is not positive, or an argument whose values are
        known (not traced) holds a NaN, or an infinity other than a height of -inf.

    Source: Lei et al., Engineering 6(3), 2020, section 3.
    """
    samples, near = _validated(x, y, h, block)
    return _assign(samples, near, block=power.fitted(block, near.h.shape[0]))


def top_k(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, k: Given[int], *, block: Given[int] = 128
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    r"""Find the k highest planes above each sample, exactly.

    Meant for a small k: each sample scores k groups of 32 targets twice.

    Args:
      x: samples (n, d).
      y: targets (m, d).
      h: heights (m,); -inf comes last.
      k: number of planes, from 1 to m.
      block: as for :func:`assign`.

    Returns:
      Scores $\langle x, y_i\rangle + h_i$ (n, k) from the highest down, and their indices (n, k),
      all distinct; ties have the lowest index first.

    Raises:
      ValueError: as for :func:`assign`, and if k is not in 1..m.
    """
    samples, near = _validated(x, y, h, block)
    k = arguments.whole("k", k, "how many planes")
    num_targets = np.shape(h)[0]
    if not 1 <= k <= num_targets:
        raise ValueError(
            f"`k` is {k}, but `y` has {num_targets} targets; pass k from 1 to {num_targets}."
        )
    return _top_k(samples, near, k=k, block=power.fitted(block, near.h.shape[0]))


def _validated(
    x: ArrayLike, y: ArrayLike, h: ArrayLike, block: Given[int]
) -> tuple[Float[Array, "n d"], centring.Near]:
    """Check arguments; return the samples, and targets with heights near the origin."""
    arguments.count("block", block, what="how many targets are scored at once")
    near = centring.near(y, h, some=False, stored=True)
    samples = arguments.real("x", x)
    if samples.ndim != 2 or samples.size == 0:
        raise ValueError(
            f"`x` has shape {samples.shape}; pass samples of shape (n, d), n and d from 1."
        )
    if samples.shape[1] != near.y.shape[1]:
        raise ValueError(
            f"`x` has shape {samples.shape}, but `y` has shape {np.shape(y)}; pass the same "
            "dimension d."
        )
    return samples, near


def _assign_body(
    x: Float[Array, "n d"], near: centring.Near, *, block: int
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    rows, h, taken = shift.around(near.y, near.h)
    value, index = power.best(x, rows, h, block)
    return value + (taken.of(x) + near.shift.of(x)), index


_assign = jax.jit(_assign_body, static_argnames="block")


def _top_k_body(
    x: Float[Array, "n d"], near: centring.Near, *, k: int, block: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    rows, h, taken = shift.around(near.y, near.h)
    values, index = power.highest(x, rows, h, k, block)
    return values + (taken.of(x) + near.shift.of(x))[:, None], index


_top_k = jax.jit(_top_k_body, static_argnames=("k", "block"))

r"""The kernel: Brenier's potential $u_h(x) = \max_i \langle x, y_i\rangle + h_i$ and its argmax.

One pass costs about one matrix product and writes no $n \times m$ scores: samples come in chunks,
targets in blocks. How a block is scored is in ``maxima.py`` for a CPU, in ``accelerator.py``, and
for large works on a GPU in ``tensorcores``; ``benchmarks/kernel.py`` times them. All targets here
are near the origin, or come with the centre that is subtracted from them (``blocks.Rows``).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import repeat
from aeot_jax.ot.cells import accelerator, blocks, contenders, maxima
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.cells.contenders import Contenders
from aeot_jax.ot.cells.tensorcores import candidates

_SMALL_DIM = 5
"""Largest dimension in which a scan over single targets beats a product on a CPU
(``benchmarks/kernel.py``)."""

_CHUNK = 4096
"""Samples scored together; 4096 x 64 floats are 1 MiB, the second-level cache of a core."""

_CHUNK_FLOATS = 4096 * 256
"""Most floats of a chunk: in high dimension it holds fewer samples."""

_MAX_BLOCK = 1024
"""Largest block: every group of a block adds some instructions to the compiled program."""


def fitted(block: int, num_targets: int) -> int:
    """The size of a block as the kernel takes it: whole groups, not too many."""
    return blocks.whole_groups(min(block, _MAX_BLOCK), num_targets, maxima.GROUP)


def best(
    x: Float[Array, "n d"], y: Float[Array, "m d"] | Rows, h: Float[Array, " m"], block: int = 128
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    """The highest plane at each sample; arguments have been checked.

    Args:
      x: samples (n, d).
      y: targets (m, d), or from ``shift.around``.
      h: heights (m,).
      block: as for ``assign``.
    """
    return _best(x, as_rows(y), h, block=fitted(block, h.shape[0]))


def highest(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"] | Rows,
    h: Float[Array, " m"],
    k: int,
    block: int = 128,
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """The k highest planes at each sample, from the highest down; arguments as for ``best``."""
    return _highest(x, as_rows(y), h, k=k, block=fitted(block, h.shape[0]))


def leaders(x: jax.Array, y: jax.Array | Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the best of some targets, with a score to compare it to the best of others.

    These are the scores by which :func:`assign` decides; they differ from its values by rounding.
    Say that the targets are cut into parts that begin at multiples of 128. Then the part with the
    highest score, the first of equals, holds the index that ``assign`` gives for all targets.

    Args:
      x: samples (n, d), checked before.
      y: targets (m, d).
      h: heights (m,).

    Returns:
      The scores (n,), and the indices (n,) that ``assign`` gives.
    """
    block = fitted(128, h.shape[0])
    return _best(x, as_rows(y), h, block=block, kernel=maxima.leader_by_block)


def contending(x: jax.Array, y: jax.Array | Rows, h: jax.Array) -> Contenders:
    """The best plane at each sample and, on a CPU, those that may come second.

    Arguments as for ``leaders``, whose indices are among these.
    """
    y, block = as_rows(y), fitted(128, h.shape[0])

    @sequential_vmap
    def on_cpu(x: jax.Array, y: Rows, h: jax.Array) -> Contenders:
        kernel = functools.partial(maxima.contenders_by_block, block=block)
        return blocks.in_padded_chunks(kernel, x, y, h, _chunk(x.shape[1]), blocks.RESCORE)

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> Contenders:
        return contenders.alone(*leaders(x, y, h))

    return lax.platform_dependent(x, y, h, cpu=on_cpu, default=on_accelerator)


def _best(
    x: jax.Array,
    y: Rows,
    h: jax.Array,
    *,
    block: int,
    kernel: Callable[..., tuple[jax.Array, jax.Array]] | None = None,
) -> tuple[jax.Array, jax.Array]:
    kernel = functools.partial(kernel or maxima.best_by_block, block=block)

    def by_block(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(kernel, x, y, h, ())

    def by_target(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(maxima.best_by_target, x, y, h, ())

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(accelerator.best, x, y, h, (), most=accelerator.chunk_of_best(x.shape[1]))

    def on_gpu(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(candidates.best, x, y, h, (), most=candidates.CHUNK)

    # A batched product is not fused on a CPU: under `vmap`, problems take turns there.
    on_cpu = by_target if x.shape[1] <= _SMALL_DIM else sequential_vmap(by_block)
    on_cuda = on_gpu if candidates.pays(x.shape[0], *y.shape) else on_accelerator
    return lax.platform_dependent(x, y, h, cpu=on_cpu, cuda=on_cuda, default=on_accelerator)


def _highest(
    x: jax.Array, y: Rows, h: jax.Array, *, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    @sequential_vmap
    def on_cpu(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(functools.partial(maxima.top_by_block, k=k, block=block), x, y, h, (k,))

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        chunk = accelerator.chunk_of_highest(h.shape[0])
        kernel = functools.partial(accelerator.highest, k=k)
        return _in_chunks(kernel, x, y, h, (k,), most=chunk)

    return lax.platform_dependent(x, y, h, cpu=on_cpu, default=on_accelerator)


def _chunk(width: int) -> int:
    """Samples of a chunk whose rows have so many floats, a multiple of ``RESCORE``."""
    return min(_CHUNK, max(1, _CHUNK_FLOATS // (width * blocks.RESCORE)) * blocks.RESCORE)


def _in_chunks(
    kernel: Callable[..., tuple[jax.Array, jax.Array]],
    x: jax.Array,
    y: Rows,
    h: jax.Array,
    shape: tuple[int, ...],
    most: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Apply a kernel to chunks of samples and write its values and indices in place.

    Every chunk has one shape, and they are about equal: the last is a window that overlaps the one
    before it a little. Fewer samples than a chunk are padded to a multiple of ``blocks.RESCORE``.
    So the result at a sample hardly depends on how many others come with it, and ``x`` is not
    copied.
    """
    n, d = x.shape
    used = blocks.used(h)
    chunk = most or _chunk(max((d, *shape)))
    if n <= chunk:
        value, index = kernel(jnp.pad(x, ((0, -n % blocks.RESCORE), (0, 0))), y, h, used)
        return value[:n], index[:n]
    chunk = -(-n // -(-n // chunk))
    chunk += -chunk % blocks.RESCORE

    def body(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = jnp.minimum(i * chunk, n - chunk)
        value, index = kernel(lax.dynamic_slice_in_dim(x, start, chunk), y, h, used)
        return (
            lax.dynamic_update_slice_in_dim(carry[0], value, start, 0),
            lax.dynamic_update_slice_in_dim(carry[1], index, start, 0),
        )

    data = x, y.points, h
    carry = (
        blocks.full((n, *shape), 0, x.dtype, *data),
        blocks.full((n, *shape), 0, jnp.int32, *data),
    )
    return repeat(-(-n // chunk), body, carry)

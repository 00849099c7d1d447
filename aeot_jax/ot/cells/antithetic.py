r"""Samples in orbits: one matrix product scores eight samples of a symmetric source.

Split the coordinates of x and y into four parts. The products of the parts, :math:`p_1, ..., p_4`,
give the score not only of x but of every sample that is x with the signs of some parts changed:
:math:`\langle s \cdot x, y \rangle = \sum_k s_k p_k`. A source whose law such changes leave alone
thus yields eight samples for the arithmetic of one product and a few additions. The eight sign
patterns are the rows of a Hadamard matrix and their negatives. If the parts of a target have equal
norms, its scores within an orbit are uncorrelated or opposite, so that an orbit is worth eight
independent samples: steps reach the same mass error with the same number of samples.

Orbits are for steps only: a certificate draws independent samples.

Source: Hammersley and Morton 1956 (antithetic variates); the use of all signs of a partial product
is this library's.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import PRECISION, repeat, usual_dtypes
from aeot_jax.ot.cells import blocks, contenders
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.cells.tensorcores import candidates, split
from aeot_jax.ot.cells.tensorcores.leading import Leading, Scores, over_blocks
from aeot_jax.typing import Heights, Samples, Targets

_Found = TypeVar("_Found")

SIZE = 8
"""Samples of an orbit."""

LEAST_DIM = 32
"""Least dimension in which orbits are faster on a CPU: 1.25 times at d = 32, 2 at 64, 4 at 512
(``benchmarks/kernel.py``)."""

_PARTS = 4

_PATTERNS = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], np.float32)
"""Signs of the parts; the other four patterns of an orbit are their negatives."""

_NEUTRAL = (0.0,) * _PARTS + (-np.inf,)
"""Products of the parts, and a height, from which all scores are -inf."""

_CHUNK = 128
"""Orbits scored together: their scores with one block stay in the first-level cache."""

_BLOCK = 64
"""Targets of a block on a CPU."""

_GROUP = 16
"""Targets of which a CPU keeps one maximum."""

_ACCELERATOR_CHUNK = 1024
"""Orbits scored together on an accelerator."""

_CANDIDATES = candidates.Least(512, 1 << 38)
"""Where candidates are quicker for orbits (``benchmarks/kernel.py``): in fewer dimensions the
reduction of eight lists takes longer than float32's products. With 100,000 targets, 2048 orbits
take 1.07 of float32's time in d = 512 and 0.59 in 3,072; 8192 orbits take 0.75 in d = 512."""

_CANDIDATES_CHUNK = 8192
"""Orbits whose candidates are found together: targets are split into bfloat16 once for them."""

_CANDIDATES_BLOCK = 4096
"""Most targets of a block then. XLA gives a sixteenth of so many threads to an orbit, and the eight
lists of each thread fill its registers: of 14,336 targets they spill, which takes twice as long."""

_ACCELERATOR_PRODUCTS = 1 << 26
"""Most products of parts in a block on an accelerator: 256 MiB; smaller blocks are no faster
(``benchmarks/kernel.py``). In trials on an H200 in d = 32 and 64 these were slower, too: maxima of
groups of targets, whose winner is scored again (1.2 to 3 times the time), and one kernel of Triton
for products and maxima (1.3 to 1.5 times)."""


def signs(dim: int) -> Float[np.ndarray, "8 d"]:
    """Signs of the coordinates in each sample of an orbit; coordinate i belongs to part i mod 4."""
    patterns = np.concatenate([_PATTERNS, -_PATTERNS])
    return patterns[:, np.arange(dim) % _PARTS]


def members(x: Samples) -> Float[Array, "8 n d"]:
    """All samples of the orbits of x."""
    return jnp.asarray(signs(x.shape[1]), x.dtype)[:, None, :] * x[None, :, :]


def mixing(key: jax.Array, dim: int) -> Float[Array, "d d"]:
    """A random rotation after which any vector has about the same norm in every part.

    Random signs, then an orthonormal discrete cosine transform (Ailon and Chazelle 2009).
    """
    frequency, place = np.arange(dim)[:, None], np.arange(dim)[None, :] + 0.5
    transform = np.cos(np.pi / dim * frequency * place) * np.sqrt(2 / dim)
    transform[0] *= np.sqrt(0.5)
    with usual_dtypes():
        sign = jax.random.rademacher(key, (dim, 1), jnp.float32)
    return sign * jnp.asarray(transform.T, jnp.float32)


def assign_orbits(x: Samples, y: Targets | Rows, h: Heights) -> Int[Array, "8 n"]:
    """Find the cell of every sample of every orbit: ``assign`` of ``members(x)``, but faster.

    Args:
      x: one sample of each orbit (n, d).
      y: targets (m, d).
      h: heights (m,), not all -inf; checked before.

    Returns:
      The index that ``assign`` gives for each of the 8 samples of ``members(x)``. Where two planes
      differ by no more than rounding, it can be the other one's.
    """
    return leaders(x, y, h)[1]


def leaders(
    x: Samples, y: Targets | Rows, h: Heights
) -> tuple[Float[Array, "8 n"], Int[Array, "8 n"]]:
    """The scores by which ``assign_orbits`` decides (8, n), and the indices that it gives (8, n).

    Say that the targets are cut into parts, each a multiple of 128 targets. Then the part with the
    highest score, the first of equals, holds the index that ``assign_orbits`` gives for all
    targets together.
    """

    def on_cpu(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_cells_by_group, x, y, h, _CHUNK)

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_cells_by_argmax, x, y, h, _ACCELERATOR_CHUNK)

    def on_gpu(x: jax.Array, y: Rows, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _in_chunks(_cells_by_candidates, x, y, h, _CANDIDATES_CHUNK)

    y = as_rows(y)
    pays = candidates.pays(x.shape[0], *y.shape, least=_CANDIDATES)
    return lax.platform_dependent(
        x,
        y,
        h,
        cpu=sequential_vmap(on_cpu),
        cuda=on_gpu if pays else on_accelerator,
        default=on_accelerator,
    )


def contending(x: Samples, y: Targets | Rows, h: Heights) -> contenders.Contenders:
    """The best plane at every sample of every orbit and, on a CPU, those that may come second.

    The samples are all first members, then all second ones, and so on (8 n).
    """

    def on_cpu(x: jax.Array, y: Rows, h: jax.Array) -> contenders.Contenders:
        found = _in_chunks(_contenders_by_group, x, y, h, _CHUNK)
        return jax.tree.map(lambda rows: rows.reshape(rows.shape[0], -1), found)

    def on_accelerator(x: jax.Array, y: Rows, h: jax.Array) -> contenders.Contenders:
        return contenders.alone(*(part.reshape(-1) for part in leaders(x, y, h)))

    return lax.platform_dependent(
        x, as_rows(y), h, cpu=sequential_vmap(on_cpu), default=on_accelerator
    )


def _in_chunks(
    kernel: Callable[..., _Found], x: jax.Array, y: Rows, h: jax.Array, chunk: int
) -> _Found:
    """Apply a kernel to chunks of orbits; 8 orbits are 64 samples, which are scored together."""
    return blocks.in_padded_chunks(kernel, x, y, h, chunk, SIZE)


def _parts(rows: jax.Array) -> jax.Array:
    """Split coordinates into parts (4, rows, k): i into part i mod 4, zeros at the end."""
    rows = jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % _PARTS)))
    return rows.reshape(rows.shape[0], -1, _PARTS).transpose(2, 0, 1)


def _products(rows: jax.Array, columns: jax.Array) -> list[jax.Array]:
    """Scores without heights for the first four patterns, from parts of both factors.

    The patterns are ``_PATTERNS``: p_0 + p_1 + p_2 + p_3, p_0 + p_1 - p_2 - p_3, and so on.
    """
    return _scores_of_parts(jnp.einsum("pbk,pnk->pbn", rows, columns, precision=PRECISION))


def _scores_of_parts(p: jax.Array | Sequence[jax.Array]) -> list[jax.Array]:
    """Scores of the first four patterns from the products of the parts (4, b, n)."""
    near, far = (p[0] + p[1], p[0] - p[1]), (p[2] + p[3], p[2] - p[3])
    return [near[0] + far[0], near[0] - far[0], near[1] + far[1], near[1] - far[1]]


def _scores_of_all(*parts: jax.Array) -> tuple[jax.Array, ...]:
    """Scores of all members from the products of the parts, and the heights."""
    *p, heights = parts
    scores = _scores_of_parts(p)
    return (*(heights + s for s in scores), *(heights - s for s in scores))


def _cells_by_group(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Find the best group of every sample, then score that group again, as ``assign`` does."""
    n = x.shape[0]
    leading, size = _leading_groups(x, y, h, used)
    best, winner = (jnp.stack(parts) for parts in zip(*(own[0] for own in leading), strict=True))
    _, index = blocks.best_of_groups(
        members(x).reshape(SIZE * n, -1), y, h, winner.reshape(SIZE * n), size
    )
    return best, index.reshape(SIZE, n)


def _contenders_by_group(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> contenders.Contenders:
    """The same for the two best groups: arrays (rows, 8, n)."""
    found, size = _leading_groups(x, y, h, used, number=2)
    leading = jax.tree.map(lambda *of_members: jnp.concatenate(of_members), *found)
    flat = contenders.of_groups(members(x).reshape(-1, x.shape[1]), y, h, leading, size)
    return jax.tree.map(lambda rows: rows.reshape(rows.shape[0], SIZE, -1), flat)


def _leading_groups(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array, number: int = 1
) -> tuple[tuple[contenders.Leading, ...], int]:
    """For each of the eight members the leading groups (n,); and the size of a group."""
    n, m = x.shape[0], y.shape[0]
    block = blocks.whole_groups(_BLOCK, m, _GROUP)
    size = min(block, _GROUP)
    x_parts = _parts(x)

    def maxima(score: jax.Array) -> jax.Array:
        score = score.reshape(-1, size, n)
        best = score[:, 0]
        for j in range(1, size):
            best = jnp.where(score[:, j] > best, score[:, j], best)
        return best

    def body(b: jax.Array, carry: tuple) -> tuple:
        yb, hb, start = blocks.window(y, h, b, block)
        products = _products(_parts(yb), x_parts)
        scores = [hb[:, None] + p for p in products] + [hb[:, None] - p for p in products]
        state = []
        for leading, score in zip(carry, scores, strict=True):
            of_groups = maxima(score)
            for j in range(of_groups.shape[0]):
                leading = contenders.inserted(leading, of_groups[j], start + j * size)
            state.append(leading)
        return tuple(state)

    empty = contenders.empty(n, number, x, y.points, h)
    carry = repeat(blocks.number_of(used, block), body, (empty,) * SIZE)
    return carry, size


def _cells_by_argmax(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Few large blocks, as ``assign`` uses on an accelerator; targets along the last axis."""
    del used
    m = y.shape[0]
    block = blocks.equal_blocks(m, _ACCELERATOR_PRODUCTS // (_PARTS * x.shape[0]))
    x_parts = _parts(x)

    def body(b: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        best, index = carry
        yb, hb, start = blocks.window(y, h, b, block)
        p = jnp.einsum("pnk,pbk->pnb", x_parts, _parts(yb), precision=PRECISION)
        heights = jnp.broadcast_to(hb[None, :], p[0].shape).astype(p.dtype)
        found = blocks.first_best_of((*p, heights), _NEUTRAL, _scores_of_all, SIZE)
        value, place = map(jnp.stack, found)
        better = value > best
        return jnp.where(better, value, best), jnp.where(better, start + place, index)

    shape, data = (SIZE, x.shape[0]), (x, y.points, h)
    carry = (
        blocks.full(shape, -jnp.inf, x.dtype, *data),
        blocks.full(shape, 0, jnp.int32, *data),
    )
    return repeat(-(-m // block), body, carry)


def _cells_by_candidates(
    x: jax.Array, y: Rows, h: jax.Array, used: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The same, with candidates from tensor cores; float32 decides among them.

    What ``candidates`` says holds with products of a part's coordinates. Its float32 evaluation
    adds runs of so many: the four products, or four runs of the coordinates.
    """
    found, e = _looked_at(x, y, h)

    def of_members(index: jax.Array) -> jax.Array:
        rows = y.of(y.points[index.ravel()]).reshape(*index.shape, x.shape[1])
        return candidates.row_score(members(x), rows, h[index])

    index = candidates.of_few(found, of_members, h.shape[0])
    open_ = candidates.is_open(found, e[None, :]).any(axis=0)
    index = candidates.settled(
        index, open_, lambda places: _cells_by_argmax(x[places], y, h, used)[1]
    )
    return of_members(index), index


def _looked_at(x: jax.Array, y: Rows, h: jax.Array) -> tuple[Leading, Float[Array, " n"]]:
    """The list of every member (8, n), and the bound on the errors of an orbit's scores (n,)."""
    (n, d), m = x.shape, y.shape[0]
    length = -(-d // _PARTS)
    split_x = split.left(_parts(x), length)

    def parts(yb: jax.Array, hb: jax.Array) -> tuple[jax.Array, ...]:
        found = split.products(split_x, split.right(_parts(yb), length))
        heights = jnp.broadcast_to(hb[None, :], found[0].shape[1:]).astype(jnp.float32)
        return *(p for each in found for p in each), heights

    def scores(*parts: jax.Array) -> tuple[jax.Array, ...]:
        *products, heights = parts
        several = [products[i : i + _PARTS] for i in range(0, len(products), _PARTS)]
        whole = [functools.reduce(operator.add, p) for p in zip(*several, strict=True)]
        return _scores_of_all(*whole, heights)

    neutral = _NEUTRAL[:_PARTS] * len(split_x) + _NEUTRAL[_PARTS:]
    most = candidates.PRODUCTS // (_PARTS * len(split_x) * n)
    block = blocks.equal_blocks(m, min(most, _CANDIDATES_BLOCK))
    of = Scores(parts, neutral, scores, SIZE)
    return over_blocks(of, x, y, h, block, length)

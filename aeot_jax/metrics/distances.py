"""Exact nearest neighbours in bounded memory: the kernel of every distance-based metric.

Scores come from the expansion |a-b|^2 = |a|^2 + |b|^2 - 2<a,b>, which is one matrix product. It
loses digits where they matter: at copies, and where distances are much smaller than norms. So the
sets are centred first, and the expansion, with a bound of its rounding error, only selects
candidates; their distances are computed from the differences. Cases that the bound leaves open are
computed again in float64.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aeot_jax import arguments
from aeot_jax.metrics import exact
from aeot_jax.metrics.points import Rows, together
from aeot_jax.numerics import PRECISION
from aeot_jax.typing import ArrayLike, Given

MEMORY = 32 * 2**20
"""Most bytes of one chunk of a streamed computation."""

_CANDIDATE_BLOCKS = 2
_SUITED = 1e-9, 1e15
"""Range of coordinates whose squares float32 holds."""

_LEAST = 1e-36
"""Added to a rounding bound, for the underflow of float32."""


def nearest(
    x: ArrayLike, reference: ArrayLike, *, block: Given[int] = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest reference of each point, and its distance.

    Points are streamed in chunks and references ``block`` at a time; temporaries stay under 64 MiB.
    The expansion of the squared distance gives the smallest value in each block (a maximum fuses
    into the product; an argmax does not). In the two best blocks, distances are computed again from
    the differences. If more than two blocks may hold the nearest reference, the point is computed
    again in float64 on the host; so is all float64 input. The distance is accurate to a few ulp,
    and exactly 0 for a copy.

    Args:
      x: points, (n, ...), flattened to rows. Pictures, (n, h, w) or (n, h, w, c), and bytes are
        pixels in [0, 1]; rows of other numbers are taken as they are.
      reference: the reference points, (m, ...), of the same size.
      block: references scored at once.

    Returns:
      Distances (n,) float32, and indices into `reference` (n,) int32. Ties go to the lowest index,
      up to rounding.

    Raises:
      ValueError: if the sizes or the value ranges differ, a set is empty or a value is not finite.
    """
    points, references = together(x=x, reference=reference)
    block = min(arguments.count("block", block), references.shape[0])
    n = points.shape[0]
    where = exact.frame(references, points)
    index, sure = np.zeros(n, np.int64), np.zeros(n, bool)
    if _suits_float32(where, points, references):
        _nominate(points, references, where, block, index, sure)
    open_ = np.flatnonzero(~sure)
    if open_.size:
        index[open_] = exact.nearest(points[open_], references, where)
    squared = exact.squared(points, np.arange(n), references, index, where)
    return np.sqrt(squared).astype(np.float32), index.astype(np.int32)


def _suits_float32(where: exact.Frame, *sets: np.ndarray) -> bool:
    """Whether float32 holds the values and their squares."""
    low, high = _SUITED
    return low < where.scale < high and not any(x.dtype == np.float64 for x in sets)


def _nominate(
    points: Rows,
    references: Rows,
    where: exact.Frame,
    block: int,
    index: Int[np.ndarray, " n"],
    sure: Bool[np.ndarray, " n"],
) -> None:
    """Set the nearest reference of each point, and whether it is certain."""
    (n, d), m = points.shape, references.shape[0]
    on_device, centre = jnp.asarray(references), where.centre.astype(np.float32)
    for part in chunks(n, 4 * (2 * d + 2 * -(-m // block))):
        index[part], sure[part] = _nearest(points[part], on_device, centre, block=block)


def chunks(n: int, bytes_per_row: int) -> list[slice]:
    """Cover range(n) with slices of one length, so that a jitted body compiles once.

    The last slice ends at n and may overlap the one before it: no padding and no masks; some rows
    are computed twice.
    """
    size = 2 ** max(0, (MEMORY // max(bytes_per_row, 1)).bit_length() - 1)
    size = min(n, size)
    starts = [min(start, n - size) for start in range(0, n, size)]
    return [slice(start, start + size) for start in starts]


def centred(x: Array, centre: Array) -> Float[Array, "n d"]:
    """Subtract the centre from points in float32; uint8 pixels become [0, 1] first."""
    # Subtract in the original units, so that nearly equal pixels keep their digits.
    points = jnp.asarray(x)
    unit = _unit(points)
    return (points.astype(jnp.float32) - jnp.asarray(centre)[None, :] / unit) * unit


def squared_distances(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """Expand |a_i - b_j|^2 as one matrix product, with a bound of the rounding error."""
    scale = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :]
    product = jnp.dot(a, b.T, precision=PRECISION)
    return scale - 2 * product, rounding(a.shape[1]) * scale + _LEAST


def rounding(d: int) -> float:
    """Bound of the error of an expanded squared distance in `d` dimensions, over |a|^2 + |b|^2.

    It covers points rounded to float32, and sums of d terms with independent rounding errors, which
    grow like sqrt(d) (Higham, Mary, SIAM Journal on Scientific Computing 2019).
    """
    return float(np.finfo(np.float32).eps) * (4 + math.sqrt(d))


@jax.jit(static_argnames="block")
def _nearest(
    x: Array, reference: Array, centre: Array, *, block: int
) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """The nearest reference of each point, and whether no other block can hold a nearer one."""
    (n, d), m = x.shape, reference.shape[0]
    # The last block is moved back to fit; scoring a reference twice does no harm.
    starts = jnp.minimum(jnp.arange(0, m, block, dtype=jnp.int32), m - block)
    a = centred(x, centre)
    slack_a = rounding(d) / 2 * jnp.sum(a * a, axis=1) + _LEAST

    def best_score(start: Int[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
        y = centred(jax.lax.dynamic_slice_in_dim(reference, start, block), centre)
        half = jnp.sum(y * y, axis=1) / 2
        score = (jnp.dot(a, y.T, precision=PRECISION) - half[None, :]).max(axis=1)
        return score, rounding(d) * half.max()

    score, slack = jax.lax.map(best_score, starts)
    slack = slack[:, None] + slack_a[None, :]
    measured = min(_CANDIDATE_BLOCKS, starts.shape[0])
    most, best = jax.lax.top_k((score + slack).T, min(measured + 1, starts.shape[0]))
    best = jnp.sort(best[:, :measured], axis=1)
    sure = jnp.ones(n, bool)
    if most.shape[1] > measured:
        sure = most[:, measured] < (score - slack).max(axis=0)

    def measure(row: tuple[Array, Array]) -> Array:
        point, start = row
        index = (start[:, None] + jnp.arange(block, dtype=jnp.int32)[None, :]).reshape(-1)
        squared = jnp.sum(_difference(point[None, :], reference[index]) ** 2, axis=1)
        return index[jnp.argmin(squared)]

    batch = max(1, MEMORY // (16 * measured * block * d))
    index = jax.lax.map(measure, (x, starts[best]), batch_size=min(n, batch))
    return index.astype(jnp.int32), sure


def _difference(a: Array, b: Array) -> Array:
    # Scale after the subtraction: a fused multiply-add would leave a residue at copies.
    if a.dtype == b.dtype:
        return (a.astype(jnp.float32) - b.astype(jnp.float32)) * _unit(a)
    return a.astype(jnp.float32) * _unit(a) - b.astype(jnp.float32) * _unit(b)


def _unit(x: Array) -> float:
    return 1 / 255 if x.dtype == jnp.uint8 else 1.0

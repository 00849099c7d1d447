"""Exact nearest neighbours in bounded memory: the one kernel under every distance-based metric.

Scores come from the expansion |a-b|^2 = |a|^2 + |b|^2 - 2<a,b>, which is one matrix product, but
loses the last digits exactly where they matter: at copies. So both sets are centred first, the
expansion only nominates candidates, and the distance that is returned is summed from the
differences themselves.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from aeot_jax.numerics import PRECISION

MEMORY = 32 * 2**20
"""Bytes that one chunk of a streamed computation may take."""

ROUNDING = 1e-6
"""Error of a squared distance from the expansion, in units of |a|^2 + |b|^2: about 8 ulp."""

_CANDIDATE_BLOCKS = 2


def rows(x: ArrayLike, name: str) -> np.ndarray:
    """Check that `x` is a set of finite points, and flatten each point to a row.

    uint8 stays uint8: 60,000 images would take four times the memory as floats.

    Args:
      x: points, (n, ...).
      name: what the caller calls them, for the message.

    Returns:
      The points, (n, d), on the host: uint8 or float32.

    Raises:
      ValueError: if there is no point, or a value is not finite.
    """
    points = np.asarray(x)
    if points.ndim < 2 or points.size == 0:
        raise ValueError(
            f"`{name}` has shape {points.shape}; pass at least one point, (n, d) or (n, h, w, c)."
        )
    points = points.reshape(points.shape[0], -1)
    if points.dtype == np.uint8:
        return points
    points = points.astype(np.float32, copy=False)
    step = max(1, MEMORY // points.shape[1])
    for start in range(0, points.shape[0], step):
        bad = ~np.isfinite(points[start : start + step]).all(axis=1)
        if bad.any():
            raise ValueError(
                f"`{name}` holds a value that is not finite in row {start + int(bad.argmax())}; "
                "remove or repair such rows first."
            )
    return points


def same_width(a: np.ndarray, b: np.ndarray, names: tuple[str, str]) -> None:
    """Raise a ValueError unless both sets of points have the same number of dimensions."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"`{names[0]}` has {a.shape[1]} dimensions a point and `{names[1]}` has {b.shape[1]}; "
            "compute both in the same space."
        )


def nearest(
    x: ArrayLike, reference: ArrayLike, *, block: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest reference point of each point, and how far it is.

    Points are streamed in chunks and references ``block`` at a time; temporaries stay under 64 MiB.
    Two stages: the expansion of the squared distance gives the smallest value in each block (a
    maximum fuses into the product; an argmax does not), then the two best blocks are measured again
    from the differences. The distance is accurate to a few ulp: it is exactly 0 for a copy.

    Args:
      x: points, (n, ...), flattened to rows. uint8 is read as pixels in [0, 1], floats as they are.
      reference: the points searched, (m, ...), of the same size.
      block: references scored at once.

    Returns:
      Distances (n,) float32, and indices into `reference` (n,) int32; ties go to the lowest index
      among references whose scores rounding can tell apart.

    Raises:
      ValueError: if the sizes differ, a set is empty or a value is not finite.
    """
    points, references = rows(x, "x"), rows(reference, "reference")
    same_width(points, references, ("x", "reference"))
    (n, d), m = points.shape, references.shape[0]
    if block < 1:
        raise ValueError(f"`block` is {block}; pass at least 1.")
    block = min(block, m)
    centre = mean_row(references)
    on_device = jnp.asarray(references)
    distance, index = np.empty(n, np.float32), np.empty(n, np.int32)
    for part in chunks(n, 4 * (2 * d + 2 * -(-m // block))):
        distance[part], index[part] = _nearest(points[part], on_device, centre, block=block)
    return distance, index


def chunks(n: int, bytes_per_row: int) -> list[slice]:
    """Cover range(n) by slices of one length, so that a jitted body compiles once.

    The last slice ends at n and may overlap the one before it, which needs neither padding nor
    masks: rows computed twice are written twice.
    """
    size = 2 ** max(0, (MEMORY // max(bytes_per_row, 1)).bit_length() - 1)
    size = min(n, size)
    starts = [min(start, n - size) for start in range(0, n, size)]
    return [slice(start, start + size) for start in starts]


def mean_row(x: np.ndarray) -> np.ndarray:
    """Average the points, (n, d) -> (d,), in the units in which distances are measured."""
    mean = x.mean(axis=0, dtype=np.float64)
    return (mean / 255 if x.dtype == np.uint8 else mean).astype(np.float32)


def centred(x: ArrayLike, centre: ArrayLike) -> Float[Array, "n d"]:
    """Subtract the centre from points in float32; uint8 pixels become [0, 1] first."""
    points = jnp.asarray(x)
    return points.astype(jnp.float32) * _unit(points) - jnp.asarray(centre)[None, :]


def squared_distances(
    a: Float[Array, "n d"], b: Float[Array, "m d"]
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """Expand |a_i - b_j|^2 as one matrix product, and bound its rounding error."""
    scale = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :]
    return scale - 2 * jnp.dot(a, b.T, precision=PRECISION), ROUNDING * scale


@jax.jit(static_argnames="block")
def _nearest(
    x: Array, reference: Array, centre: Array, *, block: int
) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    (n, d), m = x.shape, reference.shape[0]
    # The last block is moved back to fit: a reference scored twice does no harm.
    starts = jnp.minimum(jnp.arange(0, m, block, dtype=jnp.int32), m - block)
    a = centred(x, centre)

    def best_score(start: Int[Array, ""]) -> Float[Array, " n"]:
        y = centred(jax.lax.dynamic_slice_in_dim(reference, start, block), centre)
        return (jnp.dot(a, y.T, precision=PRECISION) - jnp.sum(y * y, axis=1)[None, :] / 2).max(
            axis=1
        )

    scores = jax.lax.map(best_score, starts)
    candidates = min(_CANDIDATE_BLOCKS, starts.shape[0])
    best = jnp.sort(jax.lax.top_k(scores.T, candidates)[1], axis=1)

    def measure(row: tuple[Array, Array]) -> tuple[Array, Array]:
        point, start = row
        index = (start[:, None] + jnp.arange(block, dtype=jnp.int32)[None, :]).reshape(-1)
        squared = jnp.sum(_difference(point[None, :], reference[index]) ** 2, axis=1)
        winner = jnp.argmin(squared)
        return jnp.sqrt(squared[winner]), index[winner]

    batch = max(1, MEMORY // (16 * candidates * block * d))
    distance, index = jax.lax.map(measure, (x, starts[best]), batch_size=min(n, batch))
    return distance, index.astype(jnp.int32)


def _difference(a: Array, b: Array) -> Array:
    # Scaled after the subtraction: a fused multiply-add would leave a residue at copies.
    if a.dtype == b.dtype:
        return (a.astype(jnp.float32) - b.astype(jnp.float32)) * _unit(a)
    return a.astype(jnp.float32) * _unit(a) - b.astype(jnp.float32) * _unit(b)


def _unit(x: Array) -> float:
    return 1 / 255 if x.dtype == jnp.uint8 else 1.0

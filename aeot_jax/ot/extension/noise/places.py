"""Where cells lie in the source, how large they are, and their shapes.

Of each cell 8 samples give its mass centre and its size, and all cells of a group together the
shape, the covariance E around the centre. In up to 16 dimensions each of up to 32,768 cells has a
shape of its own, from 32 to 256 samples: there cells are slivers, each along another direction.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import add_rows, repeat, safe_ratio
from aeot_jax.ot.cells import power, shift
from aeot_jax.ot.density.kernels import MOST_NUMBERS, Kernels
from aeot_jax.ot.extension.centres import Centres, unknown, with_samples
from aeot_jax.typing import Heights, PRNGKey, Samples, Targets

_PER_CELL = 8
"""Samples per cell, for its mass centre and its size."""

_PER_SHAPE = 32, 256
"""Samples per cell, at least and at most, where each has a shape of its own."""

_SHAPES = 1 << 18
"""Samples of all cells with shapes of their own, within these limits."""

_MOST_CELLS = 1 << 15
"""Most cells with shapes of their own: they take 32 samples each."""

_MOST_DIMS = 16
"""Most dimensions of a shape of a cell, for which twice as many samples are enough."""

BATCH = 4096
"""Samples of a batch."""

_FEW = 512
"""Samples of a batch whose products of coordinates are summed; half as many samples in all."""

PRIOR = 4.0
"""What the mean size of all cells weighs in that of a cell, in samples."""


class Diagram(NamedTuple):
    """The power diagram of targets in a source.

    Attributes:
      mu: source measure.
      y: targets (m, d).
      h: heights (m,); -inf for a target without a cell.
    """

    mu: Measure
    y: Targets
    h: Heights


class Places(NamedTuple):
    """Cells in the source.

    Attributes:
      centre: mass centres (m, d).
      per_unit: one over the root mean square of a coordinate around them (m,); 0 without a sample.
      counts: samples (m,).
      squares: sums over samples of o o^T, the offset o from the centre (m, d, d); or of o o / d, if
        cells have no shape of their own (m,).
    """

    centre: Float[Array, "m d"]
    per_unit: Float[Array, " m"]
    counts: Int[Array, " m"]
    squares: Float[Array, "m d d"] | Float[Array, " m"]


def measured(key: PRNGKey, diagram: Diagram, active: int) -> tuple[Places, bool, int]:
    """Places of all cells, whether each has a shape of its own, and the batches that were drawn.

    Args:
      key: consumed.
      diagram: whose cells they are.
      active: targets that own a cell.
    """
    m, d = diagram.y.shape
    own = d <= _MOST_DIMS and m <= _MOST_CELLS
    least, most = _PER_SHAPE
    each = max(least, min(most, _SHAPES // active)) if own else _PER_CELL
    batches = max(1, -(-each * active // BATCH))
    return cells(key, diagram, jnp.int32(batches), own=own), own, batches


@partial(jax.jit, static_argnames=("own",))
def cells(key: PRNGKey, diagram: Diagram, batches: Int[Array, ""], own: bool) -> Places:
    """Places of cells; with `own` the shape of each."""
    mu, y, h = diagram
    rows, heights, _ = shift.around(y, h)
    d = y.shape[1]
    zero = jnp.zeros((*h.shape, d, d) if own else h.shape, h.dtype)

    def body(i: Int[Array, ""], sums: tuple[Centres, Array]) -> tuple[Centres, Array]:
        centres, squares = sums
        x = draw(jax.random.fold_in(key, i), mu, BATCH)
        _, index = power.best(x, rows, heights)
        offsets = x - centres.points[index]
        if own:
            squares = add_products(squares, index, offsets)
        else:
            squares = squares + add_rows(zero, index, (offsets * offsets).sum(1))
        centres, moved = with_samples(centres, index, offsets)
        step = safe_ratio(moved, centres.counts.astype(jnp.float32)[:, None])
        shift_ = moved[:, :, None] * step[:, None, :] if own else (moved * step).sum(1)
        return centres, squares - shift_

    (points, counts), squares = repeat(batches, body, (unknown(y), zero))
    traces = jnp.trace(squares, axis1=1, axis2=2) if own else squares
    n = counts.astype(jnp.float32)
    # The centre is known from n samples only: x varies around it by 1 + 1/n of the variance.
    free = jnp.maximum(n - 1, 0.0)
    pooled = traces.sum() / jnp.maximum(free.sum() * d, 1.0)
    variance = (traces / d + PRIOR * pooled) / (free + PRIOR)
    variance = variance * (1 + 1 / jnp.maximum(n, 1.0))
    known = (counts > 0) & (variance > 0)
    per_unit = jnp.where(known, jax.lax.rsqrt(jnp.where(known, variance, 1.0)), 0.0)
    return Places(points, per_unit, counts, squares)


def add_products(
    sums: Float[Array, "c d d"], index: Int[Array, " n"], rows: Samples
) -> Float[Array, "c d d"]:
    """Sums with those of o o^T over rows o (n, d) at an index each, few rows at a time."""
    n, d = rows.shape
    # A power of two, as the number of rows is. Where d is large, all products take gigabytes.
    size = 1 << (min(n, max(1, MOST_NUMBERS // d**2)).bit_length() - 1)

    def add(sums: Array, of: tuple[Array, Array]) -> tuple[Array, None]:
        o, at = of
        return add_rows(sums, at, o[:, :, None] * o[:, None, :]), None

    parts = jax.tree.map(lambda one: one.reshape(-1, size, *one.shape[1:]), (rows, index))
    return jax.lax.scan(add, sums, parts)[0]


@jax.jit
def sums_of_groups(
    key: PRNGKey, diagram: Diagram, places: Places, kernels: Kernels, batches: Int[Array, ""]
) -> tuple[Int[Array, " g"], Float[Array, "g d d"]]:
    """Samples in the cells of each group, and the sum over these of e e^T, e = o / sigma."""
    mu, y, h = diagram
    rows, heights, _ = shift.around(y, h)

    def body(i: Int[Array, ""], sums: tuple[Array, Array]) -> tuple[Array, Array]:
        counts, squares = sums
        x = draw(jax.random.fold_in(key, i), mu, _FEW)
        _, index = power.best(x, rows, heights)
        e = (x - places.centre[index]) * places.per_unit[index][:, None]
        k = kernels.group[index]
        return counts.at[k].add(1), add_products(squares, k, e)

    counts = jnp.zeros_like(kernels.counts, dtype=jnp.int32)
    none = counts, jnp.zeros_like(kernels.axes)
    return repeat(batches, body, none)


def batches_of_groups(batches: int) -> int:
    """Batches of ``sums_of_groups`` beside so many of ``cells``."""
    return batches * BATCH // (2 * _FEW)

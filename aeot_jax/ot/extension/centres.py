r"""Mass centres of the cells: :math:`c_i = E[x \mid x \in W_i]`, by Monte Carlo.

The discrete map sends all of W_i to y_i. A continuous extension takes the value y_i at one point,
c_i, which stands for W_i.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import add_rows, repeat, safe_ratio
from aeot_jax.ot import centring, checks
from aeot_jax.ot.cells import power, shift
from aeot_jax.ot.duality.assign import top_k
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import brief
from aeot_jax.typing import ArrayLike, Given, PRNGKey, Targets

_SAMPLES_PER_CELL = 64
"""Default samples per cell: the error of a centre is an eighth of its cell's standard deviation."""

_BATCH = 4096
"""Samples of a batch."""

_MOST = np.iinfo(np.int32).max // _BATCH * _BATCH
"""Most samples of a draw: whole batches, counted in int32."""


class Centres(NamedTuple):
    """Mass centres with the number of samples behind each.

    Attributes:
      points: mean of the samples in each cell (m, d); 0 if there were none.
      counts: samples in each cell (m,); where 0, the centre is unknown.
    """

    points: Float[Array, "*batch m d"]
    counts: Int[Array, "*batch m"]

    __repr__ = brief

    def merge(self, other: "Centres") -> "Centres":
        """The centres of two draws together; their order matters only to rounding.

        Raises:
          ValueError: if a known count leaves int32.
        """
        if arguments.is_concrete(self.counts, other.counts):
            most = np.add(self.counts, other.counts, dtype=np.int64).max()
            if most > np.iinfo(np.int32).max:
                raise ValueError(
                    f"`other` brings a cell to {most} samples; counts are int32: merge fewer."
                )
        counts = self.counts + other.counts
        share = safe_ratio(other.counts.astype(jnp.float32), counts.astype(jnp.float32))
        points = self.points + share[..., None] * (other.points - self.points)
        return Centres(points, counts)


def mass_centres(
    key: Given[PRNGKey],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    *,
    num_samples: Given[int | None] = None,
) -> Centres:
    """Estimate the mass centre of every cell from samples of the source.

    Samples are streamed: memory does not grow with their number. A cell that no sample reached has
    count 0, and functions of the centres leave it out. ``merge`` combines draws with other keys.

    Args:
      key: consumed.
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y and h.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      num_samples: samples, rounded up to whole batches of 4096 (all of them in one if fewer);
        None is 64 per target. The error of a centre of n samples is its cell's standard deviation
        over sqrt(n).

    Raises:
      ValueError: if shapes or values do not fit.
    """
    key = arguments.key("key", key)
    mu, y, h, _ = parts_of(mu, y, h)
    near = centring.near(y, h)
    checks.check_measure(mu, near.y)
    num_targets = np.shape(y)[0]
    wanted = _SAMPLES_PER_CELL * num_targets if num_samples is None else num_samples
    wanted = arguments.count("num_samples", wanted, 1, _MOST)
    batch = min(_BATCH, wanted)
    found = _mass_centres(key, mu, near, jnp.asarray(-(-wanted // batch), jnp.int32), batch)
    if near.y.shape[0] == num_targets:
        return found
    if not arguments.is_concrete(found.points):  # the key is traced
        return jax.tree.map(lambda leaf: leaf[:num_targets], found)
    return jax.tree.map(lambda leaf: arguments.placed(np.asarray(leaf)[:num_targets]), found)


def _mass_centres_body(
    key: PRNGKey, mu: Measure, near: centring.Near, num_batches: Int[Array, ""], batch: int
) -> Centres:
    rows, h, _ = shift.around(near.y, near.h)

    def body(i: Int[Array, ""], centres: Centres) -> Centres:
        x = draw(jax.random.fold_in(key, i), mu, batch)
        _, index = power.best(x, rows, h)
        return with_samples(centres, index, x - centres.points[index])[0]

    return repeat(num_batches, body, unknown(near.y))


def unknown(y: Targets) -> Centres:
    """The centres of cells that no sample has reached."""
    return Centres(jnp.zeros_like(y), jnp.zeros_like(y, shape=y.shape[0], dtype=jnp.int32))


def with_samples(
    centres: Centres, index: Int[Array, " n"], offsets: Float[Array, "n d"]
) -> tuple[Centres, Float[Array, "m d"]]:
    """Centres with more samples, and the sums of their offsets.

    Args:
      centres: the centres so far.
      index: the cells of the samples (n,).
      offsets: the samples, from these centres on: so float32 keeps its digits over many batches.

    Returns:
      The centres; and the sums of the offsets in each cell.
    """
    counts = centres.counts + jnp.zeros_like(centres.counts).at[index].add(1)
    sums = add_rows(jnp.zeros_like(centres.points), index, offsets)
    points = centres.points + safe_ratio(sums, counts.astype(jnp.float32)[:, None])
    return Centres(points, counts), sums


_mass_centres = jax.jit(_mass_centres_body, static_argnames=("batch",))


def nearest(
    x: Float[Array, "n d"], centres: Centres, k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """Distances (n, k) to the k nearest known centres, from the least up, and their cells (n, k).

    Where fewer than k centres are known, distances are infinite. Distances are differentiable with
    the cells held fixed; at distance 0 the derivative is 0.
    """
    # The nearest centre is the highest plane of the Voronoi heights.
    voronoi = jnp.where(centres.counts > 0, -0.5 * (centres.points**2).sum(1), -jnp.inf)
    held = jax.lax.stop_gradient((x, centres.points, voronoi))
    values, index = top_k(*held, k)
    # From differences: |x - c|^2 from the scores would lose the digits of small distances.
    square = jnp.square(x[:, None, :] - centres.points[index]).sum(-1)
    r = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    r = jnp.where(jnp.isfinite(values), r, jnp.inf)
    order = jnp.argsort(r, axis=1)
    return jnp.take_along_axis(r, order, axis=1), jnp.take_along_axis(index, order, axis=1)


def check_known(centres: Centres, least: int, why: str) -> None:
    """Raise an error if the counts are known and fewer than ``least`` cells have a centre."""
    if arguments.is_concrete(centres.counts):
        known = int((np.asarray(centres.counts) > 0).sum())
        if known < least:
            raise ValueError(
                f"`centres` holds {known} cells that a sample has reached of "
                f"{centres.counts.shape[0]}; {why} takes {least}: draw more samples for the "
                "centres."
            )

r"""Band, margin and singular threshold of an extension, learned from samples and codes.

The band reaches the fourth plane on average. The margin is a tenth of the mean distance from a
sample to the nearest face. The threshold is the angle between codes that are neighbours on the
data's own manifold, at 99 % of them: a face of a larger angle separates targets by a hole in the
data (see ``_conclude``).

Three other rules for the threshold were tried on the sets of ``benchmarks/modes.py`` and on codes
of MNIST and Fashion-MNIST. The largest logarithmic gap in the angles of crossed faces, and the
longest edge of their minimal spanning tree, leave modes joined: data in one piece has no gap, and
the longest edge is the bridge between two modes. The largest gap in the tree's edges gives the same
modes, but on data in one piece it depends on a single outlying code.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import safe_ratio
from aeot_jax.ot import frames
from aeot_jax.ot.cells import blocks, blockwise, shards, shift, sizes
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.devices.parallel import local, map_items, place, run, shard
from aeot_jax.ot.devices.placement import SHARDED, Axes, Placement
from aeot_jax.ot.extension import blend
from aeot_jax.ot.problem import Prepared
from aeot_jax.ot.solver.starts.working import normal_targets
from aeot_jax.typing import Heights, PRNGKey, Samples, Stored, Weights

_NEIGHBOURS = 3
"""Planes besides the highest that the band reaches on average."""

_NUM_SAMPLES = 4096
"""Samples for band and threshold; these then have a relative error of about 2 %."""

_CHUNK = 512
"""Samples whose highest planes are found together: an eighth of all."""

_QUANTILE = 0.99
"""Share of codes whose neighbours lie within the threshold."""

_ABOVE = 1 + 1e-4
"""Threshold over that quantile, which is the angle of two codes: rounding must not make their own
face singular."""

_UNCERTAINTY = 0.1
"""Margin over the mean distance to the nearest face: the solver's default mass error."""


class Learned(NamedTuple):
    """What an extension learns; the fields of ``Extension`` of these names."""

    band: Float[Array, ""]
    margin: Float[Array, ""]
    threshold: Float[Array, ""]
    face_angles: Float[Array, " s"]
    neighbour_angles: Float[Array, " q"]


class _Spread(NamedTuple):
    """Targets as the devices of a placement hold them: all, or each rows of its own.

    Attributes:
      y: targets, as stored (rows, d).
      h: heights (rows,).
      nu: weights (rows,).
    """

    y: Any
    h: Any
    nu: Any


def _spread(where: Placement, made: Prepared, h: Any) -> _Spread:
    """The targets of a problem and their heights where the devices want them."""
    if where.target_shards == 1:
        return _Spread(made.y, h, made.nu)
    rows = sizes.sharded(*made.y.shape)
    y, nu = (shard(where, host, rows) for host in (made.y, made.nu))
    return _Spread(y, shard(where, np.asarray(h), rows, fill=-np.inf), nu)


def learn(
    where: Placement,
    key: PRNGKey,
    made: Prepared,
    h: Any,
    num_samples: int | None = None,
) -> tuple[frames.Frame, Learned]:
    """Learn band, margin and threshold.

    Args:
      where: placement of the devices.
      key: consumed.
      made: the problem.
      h: its heights (rows,).
      num_samples: samples of the source; None is 4096.

    Returns:
      Centre and scale of the targets of the problem, and what was learned.
    """
    targets = _spread(where, made, h)
    frame = _of_targets(where, _frame, targets.y, targets.nu, specs=(SHARDED, SHARDED))
    num_samples = _NUM_SAMPLES if num_samples is None else operator.index(num_samples)
    if made.num_targets == 1:
        zero, none = jnp.zeros((), jnp.float32), jnp.zeros((0,), jnp.float32)
        return frame, Learned(zero, zero, jnp.float32(jnp.pi), none, none)
    sample_key, code_key = jax.random.split(key)
    active = _active(where, made, h)
    rows = active.shape[0]
    chosen = _chosen(code_key, active, min(rows, _NUM_SAMPLES))
    k = min(made.mu.dim + 1, rows - 1)
    x, few = _samples(sample_key, made.mu, num_samples), min(_NEIGHBOURS + 1, rows)
    values, index = _highest(where, _planes_above, x, targets, frame, few)
    unit = partial(_of_targets, where, _unit, targets.y, frame, specs=(SHARDED, P(), P()))
    of_chosen = unit(chosen)
    _, nearest = _highest(where, _nearest_to, of_chosen, targets, frame, k + 1)
    of_farthest = unit(_farthest(nearest, active))
    pairs = index[:, :2]
    codes = _of_targets(where, _codes, targets.y, pairs, specs=(SHARDED, P()))
    seen = _Seen(values, codes, unit(pairs))
    learned = _conclude(seen, of_chosen, of_farthest, chosen, active)
    if rows == made.num_targets or rows > _NUM_SAMPLES:
        return frame, learned
    # Every row was chosen, those that fill up included: drop these.
    angles = learned.neighbour_angles
    if arguments.is_concrete(angles):
        angles = arguments.placed(np.asarray(angles)[: made.num_targets])
    return frame, learned._replace(neighbour_angles=angles[: made.num_targets])


def _active(where: Placement, made: Prepared, h: Any) -> Bool[Array, " rows"]:
    """Which targets own a cell, filled up as on one device: by their number the codes are drawn."""
    if where.target_shards == 1:
        return jnp.isfinite(h)
    surplus = sizes.filled(*made.y.shape) - made.num_targets
    return jnp.asarray(np.pad(np.isfinite(h), (0, surplus)))


def _of_targets(
    where: Placement, body: Callable[..., Any], y: Any, *arguments: Any, specs: tuple[P, ...]
) -> Any:
    """A function of all targets, on the first device; where they are sharded, on all devices."""
    if where.target_shards == 1:
        return local(run(Placement("none"), body, y, *arguments))
    return local(run(where, body, *place(where, (y, *arguments)), specs=(specs, P())))


def _frame(y: Stored, nu: Weights, *, axes: Axes) -> frames.Frame:
    return frames.frame(y, nu, axes.targets)


def _codes(y: Stored, index: Int[Array, "*n"], *, axes: Axes) -> Float[Array, "*n d"]:
    return shards.take(y, index, axes.targets)


def _unit(
    y: Stored, frame: frames.Frame, index: Int[Array, "*n"], *, axes: Axes
) -> Float[Array, "*n d"]:
    return shards.take(frame.rows(y), index, axes.targets)


@partial(jax.jit, static_argnames=("num_samples",))
def _samples(key: PRNGKey, mu: Measure, num_samples: int) -> Samples:
    return draw(key, mu, num_samples)


@partial(jax.jit, static_argnames=("number",))
def _chosen(key: PRNGKey, active: Bool[Array, " rows"], number: int) -> Int[Array, " q"]:
    """Indices of the codes whose neighbours are looked at: all, or some that own a cell."""
    rows = active.shape[0]
    if number == rows:
        return jnp.arange(rows, dtype=jnp.int32)
    share = active.astype(jnp.float32) / active.sum(dtype=jnp.int32).astype(jnp.float32)
    return jax.random.choice(key, rows, (number,), replace=False, p=share)


def _highest(
    where: Placement,
    body: Callable[..., Any],
    x: Samples,
    targets: _Spread,
    frame: frames.Frame,
    k: int,
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """The k highest planes above each sample; the samples are sharded over devices in chunks."""
    n = x.shape[0]
    size = min(_CHUNK, n)
    chunks = jnp.pad(x, ((0, -n % size), (0, 0))).reshape(-1, size, x.shape[1])
    placed = place(where, (chunks, targets.y, targets.h, frame))
    options = {"k": k, "targets_axis": where.axes.targets}
    found = local(map_items(where, body, *placed, specs=(SHARDED, SHARDED, P()), **options))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, k)[:n], found)


_Found = tuple[Float[Array, "c n k"], Int[Array, "c n k"]]
"""Values and indices of the k highest planes above chunks of samples."""


def _planes_above(
    chunks: Float[Array, "c n d"],
    y: Stored | Rows,
    h: Heights,
    frame: frames.Frame | None = None,
    *,
    k: int,
    targets_axis: str | None,
) -> _Found:
    """The highest planes above chunks of samples."""
    del frame

    def own(i: Int[Array, ""], chunks: Array, y: Stored | Rows, h: Heights) -> Any:
        if not isinstance(y, Rows):  # else they are near the origin
            y, h, _ = shift.around(y, h, targets_axis)
        return shards.own_highest(chunks[i], y, h, k, targets_axis)

    found = blocks.map_range(own, chunks.shape[0], chunks, y, h)
    if targets_axis is None:
        return found
    return jax.lax.map(lambda part: shards.merged(part, k, targets_axis), found)


def _nearest_to(
    chunks: Float[Array, "c n d"],
    y: Stored,
    h: Heights,
    frame: frames.Frame,
    *,
    k: int,
    targets_axis: str | None,
) -> _Found:
    """The codes nearest to chunks of codes, all centred and scaled, as planes of these heights."""
    unit = normal_targets(y, frame, targets_axis)
    squares = blockwise.map_rows(lambda rows: (rows * rows).sum(1), unit)[: h.shape[0]]
    voronoi = jnp.where(jnp.isfinite(h), -0.5 * squares, -jnp.inf)
    return _planes_above(chunks, unit, voronoi, k=k, targets_axis=targets_axis)


@jax.jit
def _farthest(nearest: Int[Array, "q j"], active: Bool[Array, " rows"]) -> Int[Array, " q"]:
    """The last of the nearest codes, or the last that owns a cell where fewer do."""
    num_active = active.sum(dtype=jnp.int32)
    return nearest[:, jnp.minimum(nearest.shape[1] - 1, num_active - 1)]


class _Seen(NamedTuple):
    """What lies above samples.

    Attributes:
      values: of the highest planes (n, k).
      codes: of the two highest (n, 2, d).
      unit: the same codes, centred and scaled.
    """

    values: Float[Array, "n k"]
    codes: Float[Array, "n 2 d"]
    unit: Float[Array, "n 2 d"]


@jax.jit
def _conclude(
    seen: _Seen,
    of_chosen: Float[Array, "q d"],
    of_farthest: Float[Array, "q d"],
    chosen: Int[Array, " q"],
    active: Bool[Array, " rows"],
) -> Learned:
    """Learn from the highest planes above samples, and from the codes nearest to chosen codes."""
    values, codes, unit = seen
    # A plane at -inf is no neighbour.
    gaps = jnp.where(jnp.isfinite(values), values[:, :1] - values, 0.0)
    # Equal targets, which jit cannot merge, have no face between them.
    distance = safe_ratio(gaps[:, 1], jnp.linalg.norm(codes[:, 0] - codes[:, 1], axis=1))
    face_angles = blend.plane_angles(unit[:, 0], unit[:, 1])
    face_angles = jnp.where(jnp.isfinite(values[:, 1]), face_angles, jnp.nan)
    # So many neighbours as `k`, d + 1, can form a simplex around a code, which is the least that a
    # d-dimensional piece of manifold has. A face between two pieces has a larger angle than that
    # at nearly all codes.
    neighbour_angles = blend.plane_angles(of_chosen, of_farthest)
    known = active[chosen] & (active.sum(dtype=jnp.int32) > 1)
    neighbour_angles = jnp.where(known, neighbour_angles, jnp.nan)
    return Learned(
        band=gaps.max(1).mean(),
        margin=_UNCERTAINTY * jnp.where(jnp.isfinite(values[:, 1]), distance, 0.0).mean(),
        threshold=_threshold(neighbour_angles),
        face_angles=face_angles,
        neighbour_angles=neighbour_angles,
    )


def _threshold(angles: Float[Array, " q"]) -> Float[Array, ""]:
    """The ``_QUANTILE`` of the angles that are not NaN, and a little more.

    Without any it is pi: a single cell has no face, and there is nothing to separate.
    """
    count = jnp.isfinite(angles).sum(dtype=jnp.int32)
    rank = jnp.ceil(_QUANTILE * (count - 1).astype(jnp.float32)).astype(jnp.int32)
    quantile = jnp.sort(angles)[rank]  # NaN comes last
    return jnp.where(count > 0, jnp.minimum(quantile * _ABOVE, jnp.pi), jnp.pi)

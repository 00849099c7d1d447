r"""Band, margin and singular threshold of an extension, learned from samples and codes.

The band reaches the fourth plane on average. The margin is a tenth of the mean distance from a
sample to the nearest face. The threshold is the angle between codes that are neighbours on the
data's own manifold, at 99 % of them: a face of a larger angle separates targets by a hole in the
data (see ``_neighbour_angles``).

Three other rules for the threshold were tried on the sets of ``benchmarks/modes.py`` and on codes
of MNIST and Fashion-MNIST. The largest logarithmic gap in the angles of crossed faces, and the
longest edge of their minimal spanning tree, leave modes joined: data in one piece has no gap, and
the longest edge is the bridge between two modes. The largest gap in the tree's edges gives the same
modes, but on data in one piece it depends on a single outlying code.
"""

import operator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import safe_ratio
from aeot_jax.ot import frames
from aeot_jax.ot.cells import blocks, power, shift
from aeot_jax.ot.devices.parallel import local, map_items, place
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.extension import blend
from aeot_jax.ot.problem import Prepared
from aeot_jax.typing import Heights, PRNGKey, Samples, Targets

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


def learn(
    where: Placement,
    key: PRNGKey,
    made: Prepared,
    h: Heights,
    frame: frames.Frame,
    num_samples: int | None = None,
) -> Learned:
    """Learn band, margin and threshold.

    Args:
      where: placement of the devices.
      key: consumed.
      made: the problem.
      h: its heights (rows,).
      frame: centre and scale of its targets.
      num_samples: samples of the source; None is 4096.
    """
    num_samples = _NUM_SAMPLES if num_samples is None else operator.index(num_samples)
    if made.num_targets == 1:
        zero, none = jnp.zeros((), jnp.float32), jnp.zeros((0,), jnp.float32)
        return Learned(zero, zero, jnp.float32(jnp.pi), none, none)
    y, rows = made.y, made.y.shape[0]
    probes = _probes(key, made.mu, y, h, frame, num_samples)
    unit, chosen = probes.unit, probes.chosen
    k = min(made.mu.dim + 1, rows - 1)
    values, index = _highest(where, probes.x, y, h, min(_NEIGHBOURS + 1, rows))
    _, nearest = _highest(where, unit[chosen], unit, probes.voronoi, k + 1)
    learned = _conclude(y, h, probes, values, index, nearest)
    if rows == made.num_targets or rows > _NUM_SAMPLES:
        return learned
    # Every row was chosen, those that fill up included: drop these.
    angles = learned.neighbour_angles
    if arguments.is_concrete(angles):
        angles = arguments.placed(np.asarray(angles)[: made.num_targets])
    return learned._replace(neighbour_angles=angles[: made.num_targets])


class _Probes(NamedTuple):
    """Samples whose highest planes, and codes whose nearest codes, the extension is learned from.

    Attributes:
      x: samples of the source (n, d).
      chosen: indices of these codes (q,).
      unit: all codes, centred and scaled (m, d).
      voronoi: heights whose highest plane at a point is that of its nearest code (m,).
    """

    x: Samples
    chosen: Int[Array, " q"]
    unit: Targets
    voronoi: Heights


@partial(jax.jit, static_argnames=("num_samples",))
def _probes(
    key: PRNGKey, mu: Measure, y: Targets, h: Heights, frame: frames.Frame, num_samples: int
) -> _Probes:
    sample_key, code_key = jax.random.split(key)
    unit, num_targets, active = frame.normalise(y), y.shape[0], jnp.isfinite(h)
    chosen = jnp.arange(num_targets, dtype=jnp.int32)
    if num_targets > _NUM_SAMPLES:
        share = active.astype(jnp.float32) / active.sum(dtype=jnp.int32).astype(jnp.float32)
        chosen = jax.random.choice(code_key, num_targets, (_NUM_SAMPLES,), replace=False, p=share)
    voronoi = jnp.where(active, -0.5 * (unit * unit).sum(1), -jnp.inf)
    return _Probes(draw(sample_key, mu, num_samples), chosen, unit, voronoi)


def _highest(
    where: Placement, x: Samples, y: Targets, h: Heights, k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """The k highest planes above each sample; the samples are sharded over devices in chunks."""
    n = x.shape[0]
    size = min(_CHUNK, n)
    chunks = jnp.pad(x, ((0, -n % size), (0, 0))).reshape(-1, size, x.shape[1])
    found = local(map_items(where, _highest_of_chunks, *place(where, (chunks, y, h)), k=k))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, k)[:n], found)


def _highest_of_chunks(
    chunks: Float[Array, "c n d"], y: Targets, h: Heights, *, k: int
) -> tuple[Float[Array, "c n k"], Int[Array, "c n k"]]:
    return blocks.map_range(
        lambda i, chunks, y, h: _highest_of(chunks[i], y, h, k), chunks.shape[0], chunks, y, h
    )


def _highest_of(
    x: Samples, y: Targets, h: Heights, k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    rows, heights, _ = shift.around(y, h)
    return power.highest(x, rows, heights, k)


@jax.jit
def _conclude(
    y: Targets,
    h: Heights,
    probes: _Probes,
    values: Float[Array, "n k"],
    index: Int[Array, "n k"],
    nearest: Int[Array, "q j"],
) -> Learned:
    """Learn from the highest planes above samples, and from the codes nearest to chosen codes."""
    unit = probes.unit
    # A plane at -inf is no neighbour.
    gaps = jnp.where(jnp.isfinite(values), values[:, :1] - values, 0.0)
    # Equal targets, which jit cannot merge, have no face between them.
    distance = safe_ratio(gaps[:, 1], jnp.linalg.norm(y[index[:, 0]] - y[index[:, 1]], axis=1))
    face_angles = blend.plane_angles(unit[index[:, 0]], unit[index[:, 1]])
    face_angles = jnp.where(jnp.isfinite(values[:, 1]), face_angles, jnp.nan)
    neighbour_angles = _neighbour_angles(unit, h, probes.chosen, nearest)
    return Learned(
        band=gaps.max(1).mean(),
        margin=_UNCERTAINTY * jnp.where(jnp.isfinite(values[:, 1]), distance, 0.0).mean(),
        threshold=_threshold(neighbour_angles),
        face_angles=face_angles,
        neighbour_angles=neighbour_angles,
    )


def _neighbour_angles(
    unit: Targets, h: Heights, chosen: Int[Array, " q"], nearest: Int[Array, "q j"]
) -> Float[Array, " q"]:
    """Angle between chosen codes and their k-th nearest code, k = d + 1.

    So many neighbours can form a simplex around a code, which is the least that a d-dimensional
    piece of manifold has. A face between two pieces has a larger angle than that at nearly all
    codes.
    """
    active = jnp.isfinite(h)
    num_active = active.sum(dtype=jnp.int32)
    farthest = nearest[:, jnp.minimum(nearest.shape[1] - 1, num_active - 1)]
    angles = blend.plane_angles(unit[chosen], unit[farthest])
    return jnp.where(active[chosen] & (num_active > 1), angles, jnp.nan)


def _threshold(angles: Float[Array, " q"]) -> Float[Array, ""]:
    """The ``_QUANTILE`` of the angles that are not NaN, and a little more.

    Without any it is pi: a single cell has no face, and there is nothing to separate.
    """
    count = jnp.isfinite(angles).sum(dtype=jnp.int32)
    rank = jnp.ceil(_QUANTILE * (count - 1).astype(jnp.float32)).astype(jnp.int32)
    quantile = jnp.sort(angles)[rank]  # NaN comes last
    return jnp.where(count > 0, jnp.minimum(quantile * _ABOVE, jnp.pi), jnp.pi)

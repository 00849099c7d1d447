r"""The continuous extension of the transport map, and the singular set that it must not cross.

T is piecewise constant. Near a face of its cells the extension blends the targets of the planes
that come within a *band* of the highest, continuously and with the variance of the codes
(``blend.py`` says how). Where the planes meet at a large angle the map is discontinuous and a
blend would mix modes. Such a face is *singular*: its plane angle with the highest plane,

.. math:: \cos\theta_{ij} = \frac{\langle (y_i, -1), (y_j, -1)\rangle}{|(y_i, -1)| |(y_j, -1)|},

exceeds a threshold, on targets centred and scaled to unit variance, so that angles mean the same
on every data set. Planes are blended along regular faces only: on either side of a singular one
the extension follows that side alone, and jumps where the map does.

What is rejected is the singular set itself, as widely as it is uncertain: candidates nearer to a
singular face than a *margin*, a tenth of the mean distance from a sample to the nearest face. The
heights are known up to a mass error, 0.1 by the solver's default, and a cell whose mass is off by a
tenth has faces off by about a tenth of its width: nearer candidates could be on either side.

Rejecting the whole band instead, as published, takes from every mode in proportion to its singular
faces: on clusters in 32 dimensions it rejected 29 % and distorted the modes' shares to a reverse KL
of 0.023, where leaving planes out rejects 4 % at 0.0003 (``benchmarks/modes.py``); on the codes of
10,000 images half or more where this rejects 4 %.

Nothing is set by hand. The band reaches the fourth plane on average. The threshold is the angle
between codes that are neighbours on the data's own manifold, 99 % of them: a face whose angle is
larger separates targets with a hole of the data between them (see ``_neighbour_angles``). Tried on
the sets of ``benchmarks/modes.py`` and codes of MNIST and Fashion-MNIST, and not taken: the
largest logarithmic gap in the angles of crossed faces, and the longest edge of their minimal
spanning tree, which leave modes joined (no gap where the data is one piece; the longest edge is the
bridge between two modes); the largest gap in the tree's edges, which gives the same modes but, on
data in one piece, hangs on a single outlying code.

Sources: Lei et al., Engineering 6(3), 2020, section 5 (singular set, plane angles); An, Guo, Lei,
Luo, Yau, Gu, AE-OT, ICLR 2020 (extension and rejection). Both set the threshold by hand.
"""

import operator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure, draw
from aeot_jax.numerics import safe_ratio
from aeot_jax.ot import problem
from aeot_jax.ot.cells import blocks, power, shift
from aeot_jax.ot.devices.parallel import local, map_items, place
from aeot_jax.ot.devices.placement import Parallel, Placement, placement
from aeot_jax.ot.extension import blend
from aeot_jax.ot.problem import Prepared
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.reprs import number, or_brief
from aeot_jax.typing import ArrayLike, Devices, Given, Heights, PRNGKey, Samples, Targets

_NEIGHBOURS = 3
"""Planes besides the highest that the band reaches on average."""

_NUM_SAMPLES = 4096
"""Samples from which band and threshold are learned; their relative error is about 2 %."""

_CHUNK = 512
"""Samples whose highest planes are found together; an eighth of them all."""

_QUANTILE = 0.99
"""Share of codes whose nearest neighbours lie within the threshold."""

_ABOVE = 1 + 1e-4
"""Factor of the threshold above that quantile: it is the angle of two codes itself, and rounding
shall not put their own face beyond it."""

_PI = float(np.float32(np.pi))
"""Largest threshold: a little above pi, and what the extension of a single cell holds."""

_UNCERTAINTY = 0.1
"""Margin in mean distances to the nearest face: the solver's default relative error of masses."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Extension:
    """The continuous extension of a transport map, with what it takes to reject the singular set.

    Attributes:
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y, h and nu.
      y: targets (m, d).
      h: heights (m,); -inf where a target equals an earlier one, whose height is then the highest
        of the group.
      frame: centre and scale of the targets, in which angles are measured.
      band: how far below the highest plane others are blended, in units of the scores.
      margin: distance from a singular face within which candidates are rejected, in the source.
        Seen are the faces of the seventeen highest planes: where pieces lie much further apart than
        they are wide, those of the other piece come in later, and less is rejected.
      threshold: largest plane angle that is not singular, radians.
      face_angles: angle between the two highest planes over samples of the source (s,), radians;
        NaN where there is no second.
      neighbour_angles: angle between codes and their (d+1)-th nearest code (q,), radians; NaN at a
        code that owns no cell, or owns the only one.
    """

    mu: Measure
    y: Float[Array, "*batch m d"]
    h: Float[Array, "*batch m"]
    frame: problem.Frame
    band: Float[Array, "*batch"]
    margin: Float[Array, "*batch"]
    threshold: Float[Array, "*batch"]
    face_angles: Float[Array, "*batch s"]
    neighbour_angles: Float[Array, "*batch q"]

    @or_brief
    def __repr__(self) -> str:
        """What it extends, and the angle that separates the pieces."""
        m, d = np.shape(self.y)
        return (
            f"Extension({self.mu!r} onto {m:,} targets in {d} dimensions; singular above "
            f"{number(self.threshold):.3f} rad, blended within {number(self.band):.3g}, rejected "
            f"within {number(self.margin):.3g})"
        )


def extension(
    key: Given[PRNGKey],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    *,
    num_samples: Given[int | None] = None,
    threshold: Given[float | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> Extension:
    """Learn band, margin and singular threshold of a transport map from samples.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d); kept in float32, so centre yourself what lies a million spreads away.
      h: heights (m,); -inf for a target that owns no cell. Of coinciding targets one takes part
        (outside jit; inside, values cannot be compared).
      nu: weights (m,), sum 1; None is uniform.
      num_samples: samples of the source to learn band and margin from; None is 4096.
      threshold: plane angle in (0, pi] above which a face is singular; None learns it.
      parallel: how chunks of 512 samples are sharded over devices, with the same bits; as in
        ``certify``. Inside jit choose "none".
      devices: the devices to use; None is all.

    Raises:
      ValueError: if shapes or values do not fit, or the devices do not.

    Source: An et al., AE-OT, ICLR 2020, for extension and rejection by angle; band, margin and
    threshold from the data are this library's.
    """
    key = arguments.key("key", key)
    mu, y, h, nu = parts_of(mu, y, h, nu)
    made = problem.make(mu, y, nu)
    heights = made.heights(h)
    check_options(threshold, num_samples)
    concrete = problem.is_concrete(key, mu, y, h, nu)
    where = placement(parallel, devices, inside_jit=not concrete)
    frame = _frame(made.y, made.nu)
    number = _NUM_SAMPLES if num_samples is None else operator.index(num_samples)
    learned = _learn(where, key, made, heights, frame, number)
    if threshold is not None:
        learned = learned._replace(threshold=jnp.float32(threshold))
    frame = frame._replace(centre=frame.centre + jnp.asarray(made.centre, jnp.float32))
    of_users = made.heights_of_users(heights)
    targets = problem.check_targets(y)
    return Extension(mu=mu, y=targets, h=of_users, frame=frame, **learned._asdict())


_frame = jax.jit(problem.frame)


def check_options(threshold: Given[float | None], num_samples: Given[int | None]) -> None:
    """Refuse a threshold that is no angle and a number of samples below one."""
    if threshold is not None:
        what = "an angle in (0, pi], in radians"
        arguments.number("threshold", threshold, 0.0, _PI, above=True, what=what)
    if num_samples is not None:
        arguments.count("num_samples", num_samples)


def check_extension(ext: Given[Extension]) -> None:
    """Refuse what is no extension."""
    arguments.instance("ext", ext, Extension, "what `extension` returns")


class _Learned(NamedTuple):
    band: Float[Array, ""]
    margin: Float[Array, ""]
    threshold: Float[Array, ""]
    face_angles: Float[Array, " s"]
    neighbour_angles: Float[Array, " q"]


def _learn(
    where: Placement,
    key: PRNGKey,
    made: Prepared,
    h: Heights,
    frame: problem.Frame,
    num_samples: int,
) -> _Learned:
    if made.num_targets == 1:
        zero, none = jnp.zeros((), jnp.float32), jnp.zeros((0,), jnp.float32)
        return _Learned(zero, zero, jnp.float32(jnp.pi), none, none)
    y, rows = made.y, made.y.shape[0]
    x, chosen, unit, voronoi = _asked(key, made.mu, y, h, frame, num_samples)
    k = min(made.mu.dim + 1, rows - 1)
    values, index = _highest(where, x, y, h, min(_NEIGHBOURS + 1, rows))
    _, nearest = _highest(where, unit[chosen], unit, voronoi, k + 1)
    learned = _concluded(y, h, unit, values, index, chosen, nearest)
    if rows == made.num_targets or rows > _NUM_SAMPLES:
        return learned
    # All codes were asked, and those that fill up.
    angles = learned.neighbour_angles
    if problem.is_concrete(angles):
        angles = arguments.placed(np.asarray(angles)[: made.num_targets])
    return learned._replace(neighbour_angles=angles[: made.num_targets])


@partial(jax.jit, static_argnames=("num_samples",))
def _asked(
    key: PRNGKey, mu: Measure, y: Targets, h: Heights, frame: problem.Frame, num_samples: int
) -> tuple[Samples, Int[Array, " q"], Targets, Heights]:
    """Samples and codes whose highest planes are learned from; codes in their frame; heights.

    The nearest code is the highest plane of these heights, the Voronoi ones.
    """
    sample_key, code_key = jax.random.split(key)
    unit, num_targets, active = frame.normalise(y), y.shape[0], jnp.isfinite(h)
    chosen = jnp.arange(num_targets, dtype=jnp.int32)
    if num_targets > _NUM_SAMPLES:
        share = active.astype(jnp.float32) / active.sum(dtype=jnp.int32).astype(jnp.float32)
        chosen = jax.random.choice(code_key, num_targets, (_NUM_SAMPLES,), replace=False, p=share)
    voronoi = jnp.where(active, -0.5 * (unit * unit).sum(1), -jnp.inf)
    return draw(sample_key, mu, num_samples), chosen, unit, voronoi


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
def _concluded(
    y: Targets,
    h: Heights,
    unit: Targets,
    values: Float[Array, "n k"],
    index: Int[Array, "n k"],
    chosen: Int[Array, " q"],
    nearest: Int[Array, "q j"],
) -> _Learned:
    """What follows from the highest planes above samples, and from the codes nearest to codes."""
    # A plane at -inf is no neighbour.
    gaps = jnp.where(jnp.isfinite(values), values[:, :1] - values, 0.0)
    # Copies, which are not known under jit, have no face between them.
    distance = safe_ratio(gaps[:, 1], jnp.linalg.norm(y[index[:, 0]] - y[index[:, 1]], axis=1))
    face_angles = blend.plane_angles(unit[index[:, 0]], unit[index[:, 1]])
    face_angles = jnp.where(jnp.isfinite(values[:, 1]), face_angles, jnp.nan)
    neighbour_angles = _neighbour_angles(unit, h, chosen, nearest)
    return _Learned(
        band=gaps.max(1).mean(),
        margin=_UNCERTAINTY * jnp.where(jnp.isfinite(values[:, 1]), distance, 0.0).mean(),
        threshold=_threshold(neighbour_angles),
        face_angles=face_angles,
        neighbour_angles=neighbour_angles,
    )


def _neighbour_angles(
    unit: Targets, h: Heights, chosen: Int[Array, " q"], nearest: Int[Array, "q j"]
) -> Float[Array, " q"]:
    """Angle between codes and their k-th nearest code, at randomly chosen codes.

    With k = d + 1 a code and its neighbours could span a simplex around it, the least that a
    d-dimensional piece of manifold has; a face between two pieces is wider than that at nearly all
    codes.
    """
    active = jnp.isfinite(h)
    num_active = active.sum(dtype=jnp.int32)
    farthest = nearest[:, jnp.minimum(nearest.shape[1] - 1, num_active - 1)]
    angles = blend.plane_angles(unit[chosen], unit[farthest])
    return jnp.where(active[chosen] & (num_active > 1), angles, jnp.nan)


def _threshold(angles: Float[Array, " q"]) -> Float[Array, ""]:
    """Least angle that is not exceeded by ``_QUANTILE`` of those that are not NaN; pi without any.

    One cell alone has no face, and nothing is to be separated.
    """
    count = jnp.isfinite(angles).sum(dtype=jnp.int32)
    rank = jnp.ceil(_QUANTILE * (count - 1).astype(jnp.float32)).astype(jnp.int32)
    quantile = jnp.sort(angles)[rank]  # NaN comes last
    return jnp.where(count > 0, jnp.minimum(quantile * _ABOVE, jnp.pi), jnp.pi)

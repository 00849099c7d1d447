r"""The continuous extension of the transport map, and the singular set that it must not cross.

T is piecewise constant. Near a face of its cells the planes of some other targets come within a
*band* of the highest, and the extension blends their targets with weights that vanish at the edge
of the band,

.. math:: z(x) = \sum_j \lambda_j y_j, \qquad
          \lambda_j \propto (\langle x, y_j\rangle + h_j - u_h(x) + \delta)_+ ,

which is continuous in x and equal to T where nothing else is in the band. Where the planes meet at
a large angle the map is discontinuous and a blend would mix modes. Such a face is *singular*: its
plane angle with the highest plane,

.. math:: \cos\theta_{ij} = \frac{\langle (y_i, -1), (y_j, -1)\rangle}{|(y_i, -1)| |(y_j, -1)|},

exceeds a threshold, on targets centred and scaled to unit variance, so that angles mean the same
on every data set. A plane beyond a singular face is left out of the blend: on either side of it
the extension follows that side alone, and jumps where the map does. (Where of three cells that
meet two faces are regular and one is singular, the winner decides what is left out, and z may step
by less than the threshold.)

What is rejected is the singular set itself, as widely as it is uncertain: candidates nearer to a
singular face than a *margin*, a tenth of the mean distance from a sample to the nearest face. The
heights are known up to a mass error, 0.1 by the solver's default, and a cell whose mass is off by a
tenth has faces off by about a tenth of its width: nearer candidates could be on either side.

Rejecting the whole band instead, as published, takes from every mode in proportion to its singular
faces. With the clusters of ``benchmarks/modes.py`` (d = 32, m = 10,000, Gaussian source) it rejects
29 % and distorts the modes' shares to a reverse KL of 0.023; leaving planes out rejects 4 % at
0.0001, with as many codes inside their modes. On codes of 10,000 images it rejected 56 % (MNIST)
and 50 % (Fashion-MNIST) where this rejects 4 %; the Frechet distance of ``metrics.frechet`` fell
from 0.68 to 0.43 on the first and rose from 2.3 to 2.8 on the second.

Nothing is set by hand. The band reaches the fifth plane on average. The threshold is the angle
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

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, UInt32

from aeot_jax.measures import Measure
from aeot_jax.numerics import PRECISION, isolated
from aeot_jax.ot import power, problem
from aeot_jax.ot.parallel import Layout, Parallel, deal, layout, local, place
from aeot_jax.typing import Devices, Heights, PRNGKey, Samples, Targets

_NEIGHBOURS = 4
"""Planes besides the highest that the band reaches on average."""

_PLANES = 17
"""Planes looked at; the band is cut at the last of them, so that the weights stay continuous."""

_NUM_SAMPLES = 4096
"""Samples from which band and threshold are learned; their relative error is about 2 %."""

_QUANTILE = 0.99
"""Share of codes whose nearest neighbours lie within the threshold."""

_UNCERTAINTY = 0.1
"""Margin in mean distances to the nearest face: the solver's default relative error of masses."""

CHUNK = 4096
"""Candidates carried together; a chunk gathers 17 codes a candidate."""

_TINY = 1e-30
"""Weight of the highest plane where the band has no width."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Extension:
    """The continuous extension of a transport map, with what it takes to reject the singular set.

    Attributes:
      mu: source measure.
      y: targets (m, d).
      h: heights (m,); -inf where a target equals an earlier one, whose height is then the highest
        of the group.
      frame: centre and scale of the targets, in which angles are measured.
      band: how far below the highest plane others are blended, in units of the scores.
      margin: distance from a singular face within which candidates are rejected, in the source.
      threshold: largest plane angle that is not singular, radians.
      face_angles: angle between the two highest planes over samples of the source (s,), radians;
        NaN where there is no second.
      neighbour_angles: angle between codes and their (d+1)-th nearest code (q,), radians; NaN at a
        code that owns no cell.
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


class GenerateInfo(NamedTuple):
    """What ``generate`` saw at each candidate.

    Attributes:
      index: the cell that holds it (n,).
      num_blended: targets blended (n,); 1 is a code itself.
      angle: largest plane angle within the margin (n,), radians; 0 if no second plane is there.
    """

    index: Int[Array, "*batch n"]
    num_blended: Int[Array, "*batch n"]
    angle: Float[Array, "*batch n"]


def plane_angles(a: Float[Array, "*#b d"], b: Float[Array, "*#b d"]) -> Float[Array, "*b"]:
    """Angle between the planes of two normalised targets, radians; leading axes broadcast.

    Computed as 2 atan2(|u - v|, |u + v|) of the unit normals: arccos loses half of the digits at
    small angles.
    """

    def normal(y: Float[Array, "*c d"]) -> Float[Array, "*c e"]:
        lifted = jnp.concatenate([y, -jnp.ones_like(y[..., :1])], axis=-1)
        return lifted / jnp.linalg.norm(lifted, axis=-1, keepdims=True)

    u, v = normal(a), normal(b)
    return 2 * jnp.atan2(jnp.linalg.norm(u - v, axis=-1), jnp.linalg.norm(u + v, axis=-1))


def extension(
    key: PRNGKey,
    mu: Measure,
    y: ArrayLike,
    h: ArrayLike,
    nu: ArrayLike | None = None,
    *,
    num_samples: int | None = None,
    threshold: float | None = None,
) -> Extension:
    """Learn band, margin and singular threshold of a transport map from samples.

    On one device: it takes a hundredth of the time of a solve (measured at 10,000 targets in 32
    dimensions), and less where there are more targets.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell. Of coinciding targets one takes part
        (outside jit; inside, values cannot be compared).
      nu: weights (m,), sum 1; None is uniform.
      num_samples: samples of the source to learn band and margin from; None is 4096.
      threshold: plane angle in (0, pi] above which a face is singular; None learns it.

    Raises:
      ValueError: if shapes or values do not fit.

    Source: An et al., AE-OT, ICLR 2020, for extension and rejection by angle; band, margin and
    threshold from the data are this library's.
    """
    targets = problem.check_targets(y)
    heights = problem.check_heights(h, targets)
    weights = problem.check_weights(nu, targets)
    problem.check_measure(mu, targets)
    check_options(threshold, num_samples)
    if problem.is_concrete(targets, heights):
        same = problem.representatives(targets)
        if same is not None:
            # Copies would be each other's neighbours, and leave no room for those of other codes.
            heights = jnp.full_like(heights, -jnp.inf).at[same].max(heights)
    frame = problem.frame(targets, weights)
    learned = _learn(key, mu, targets, heights, frame, num_samples or _NUM_SAMPLES)
    if threshold is not None:
        learned = learned._replace(threshold=jnp.float32(threshold))
    return Extension(mu=mu, y=targets, h=heights, frame=frame, **learned._asdict())


def check_options(threshold: float | None, num_samples: int | None) -> None:
    """Refuse a threshold that is no angle and a number of samples below one."""
    if threshold is not None and not 0 < threshold <= jnp.pi:
        raise ValueError(f"`threshold` is {threshold}; pass an angle in (0, pi], in radians.")
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"`num_samples` is {num_samples}; pass at least 1.")


class _Learned(NamedTuple):
    band: Float[Array, ""]
    margin: Float[Array, ""]
    threshold: Float[Array, ""]
    face_angles: Float[Array, " s"]
    neighbour_angles: Float[Array, " q"]


@partial(jax.jit, static_argnames=("num_samples",))
def _learn(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    frame: problem.Frame,
    num_samples: int,
) -> _Learned:
    sample_key, code_key = jax.random.split(key)
    num_targets, dim = y.shape
    unit = frame.normalise(y)
    if num_targets == 1:
        zero, none = jnp.zeros(()), jnp.zeros((0,))
        return _Learned(zero, zero, jnp.float32(jnp.pi), none, none)
    x = mu.sample(sample_key, num_samples)
    values, planes = power.top_k(x, y, h, min(_NEIGHBOURS + 1, num_targets))
    # A plane at -inf is no neighbour.
    gaps = jnp.where(jnp.isfinite(values), values[:, :1] - values, 0.0)
    distance = gaps[:, 1] / jnp.linalg.norm(y[planes[:, 0]] - y[planes[:, 1]], axis=1)
    face_angles = plane_angles(unit[planes[:, 0]], unit[planes[:, 1]])
    face_angles = jnp.where(jnp.isfinite(values[:, 1]), face_angles, jnp.nan)
    neighbour_angles = _neighbour_angles(code_key, unit, h, min(dim + 1, num_targets - 1))
    return _Learned(
        band=gaps.max(1).mean(),
        margin=_UNCERTAINTY * jnp.where(jnp.isfinite(values[:, 1]), distance, 0.0).mean(),
        threshold=_quantile(neighbour_angles),
        face_angles=face_angles,
        neighbour_angles=neighbour_angles,
    )


def _neighbour_angles(key: PRNGKey, unit: Targets, h: Heights, k: int) -> Float[Array, " q"]:
    """Angle between codes and their k-th nearest code, at randomly chosen codes.

    With k = d + 1 a code and its neighbours could span a simplex around it, the least that a
    d-dimensional piece of manifold has; a face between two pieces is wider than that at nearly all
    codes.
    """
    num_targets = unit.shape[0]
    active = jnp.isfinite(h)
    num_active = active.sum()
    chosen = jnp.arange(num_targets)
    if num_targets > _NUM_SAMPLES:
        chosen = jax.random.choice(
            key, num_targets, (_NUM_SAMPLES,), replace=False, p=active / num_active
        )
    # The nearest code is the highest plane of the Voronoi heights.
    voronoi = jnp.where(active, -0.5 * (unit * unit).sum(1), -jnp.inf)
    _, nearest = power.top_k(unit[chosen], unit, voronoi, k + 1)
    farthest = nearest[:, jnp.minimum(k, num_active - 1)]
    return jnp.where(active[chosen], plane_angles(unit[chosen], unit[farthest]), jnp.nan)


def _quantile(angles: Float[Array, " q"]) -> Float[Array, ""]:
    """Least angle that is not exceeded by ``_QUANTILE`` of those that are not NaN."""
    count = jnp.isfinite(angles).sum()
    rank = jnp.ceil(_QUANTILE * (count - 1)).astype(jnp.int32)
    return jnp.sort(angles)[rank]  # NaN comes last


def generate(
    key: PRNGKey,
    ext: Extension,
    n: int,
    *,
    parallel: Parallel = "auto",
    devices: Devices | None = None,
) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """Draw n candidates from the source, carry them by the extension, and mark the singular set.

    Args:
      key: consumed.
      ext: from ``extension``.
      n: candidates; static under jit.
      parallel: how chunks of 4096 candidates are dealt to devices, with the same candidates to the
        last bit; as in ``certify``. Inside jit choose "none".
      devices: the devices to use; None is all.

    Returns:
      New codes z (n, d), whether each is accepted (n,), and what was seen.

    Raises:
      ValueError: if n is not positive, or the devices do not fit.
    """
    if n < 1:
        raise ValueError(f"`n` is {n}; pass how many candidates to draw, at least 1.")
    where = (
        layout(parallel, devices)
        if parallel != "auto" or problem.is_concrete(key, ext)
        else Layout("none")
    )
    size = min(n, CHUNK)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(-(-n // size)))
    drawn = draw(where, keys, place(where, ext), size)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], drawn)


def draw(
    where: Layout, keys: Key[Array, " c"] | UInt32[Array, "c 2"], ext: Extension, size: int
) -> tuple[Float[Array, "c n d"], Bool[Array, "c n"], GenerateInfo]:
    """Chunks of candidates, one for each key, dealt to devices; see ``generate``.

    Args:
      where: the layout of the devices.
      keys: consumed.
      ext: from ``extension``, placed in the layout.
      size: candidates of a chunk; static.

    Returns:
      As ``generate``, with the chunks in front.
    """
    return local(deal(where, _chunks, keys, ext, size=size))


def _chunks(
    keys: Key[Array, " c"] | UInt32[Array, "c 2"], ext: Extension, *, size: int
) -> tuple[Float[Array, "c n d"], Bool[Array, "c n"], GenerateInfo]:
    def chunk(_: Any, key: PRNGKey, ext: Extension) -> Any:
        return extend(ext.mu.sample(key, size), ext)

    def isolated_chunk(key: PRNGKey) -> Any:
        # A device that owns one chunk runs no loop, and its program would round in its own way.
        # Under shard_map what stands for no result must vary over devices as a result does.
        like = jax.random.key_data(key)
        none = jax.tree.map(
            lambda a: jnp.zeros_like(like, a.dtype, shape=a.shape),
            jax.eval_shape(chunk, None, key, ext),
        )
        # A band is never negative, which the compiler does not know.
        return isolated(~(ext.band < 0), chunk, none, key, ext)

    return jax.lax.map(isolated_chunk, keys)


def extend(x: Samples, ext: Extension) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """The extension at given samples of the source; see ``generate``.

    Args:
      x: samples (n, d).
      ext: from ``extension``.

    Returns:
      As ``generate``.
    """
    return blend(look(x, ext), ext)


class Planes(NamedTuple):
    """The highest planes above samples, from the highest down.

    Attributes:
      index: whose they are (n, k).
      gaps: how far each is below the highest (n, k).
      codes: their targets (n, k, d).
      angles: with the highest (n, k), radians; 0 for the highest itself.
    """

    index: Int[Array, "n k"]
    gaps: Float[Array, "n k"]
    codes: Float[Array, "n k d"]
    angles: Float[Array, "n k"]

    def within(self, band: Float[Array, ""]) -> Float[Array, "n k"]:
        """How far each is inside of a band below the highest; 0 outside, and at the last plane."""
        edge = jnp.full_like(self.gaps[:, :1], band)
        if self.gaps.shape[1] == _PLANES:  # there may be more
            edge = jnp.minimum(edge, self.gaps[:, -1:])
        return jnp.maximum(edge - self.gaps, 0.0).at[:, 0].set(jnp.maximum(edge[:, 0], _TINY))


def look(x: Samples, ext: Extension) -> Planes:
    """Find the highest planes above each sample and their angles."""
    values, index = power.top_k(x, ext.y, ext.h, min(_PLANES, ext.y.shape[0]))
    codes = ext.y[index]
    unit = (codes - ext.frame.centre[None, None, :]) / ext.frame.scale
    angles = plane_angles(unit[:, :1], unit[:, 1:])
    angles = jnp.concatenate([jnp.zeros_like(values[:, :1]), angles], axis=1)
    return Planes(index, values[:, :1] - values, codes, angles)


def blend(planes: Planes, ext: Extension) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """Blend what is not beyond a singular face, and reject what is too near to one."""
    codes = planes.codes
    weights = jnp.where(planes.angles <= ext.threshold, planes.within(ext.band), 0.0)
    share = weights / weights.sum(1, keepdims=True)
    # Offsets from the winner: where all weights but one vanish the code itself comes out exactly.
    offsets = codes - codes[:, :1]
    z = codes[:, 0] + jnp.einsum("nk,nkd->nd", share, offsets, precision=PRECISION)
    # The planes of i and j meet at a distance of their gap over |y_i - y_j|.
    near = planes.gaps < ext.margin * jnp.linalg.norm(offsets, axis=-1)
    widest = jnp.where(near, planes.angles, 0.0).max(1)
    info = GenerateInfo(planes.index[:, 0], (weights > 0).sum(1), widest)
    return z, widest <= ext.threshold, info

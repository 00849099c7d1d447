r"""The highest planes above samples, and the blend of their targets.

**Weights.** Near a face of its cells the planes of some other targets come within a *band* of the
highest plane. The blend weighs their targets by how far they are inside of it,

.. math:: \lambda_j \propto (\langle x, y_j\rangle + h_j - u_h(x) + \delta)_+ ,

with :math:`\delta` the band, or the gap to the sixth plane if that is less. So at most five targets
are blended, and each enters and leaves with weight 0. Planes that meet at more than a threshold's
plane angle meet at a *singular* face, and no weight passes such a face. A plane counts only as far
as a chain of planes of the band, each regular to the next, connects it to the highest plane: its
weight is the least weight of the chain, and of all chains the largest. Two planes that meet at a
regular face have the same chains, so the weights do not jump where the winner changes. (Two planes
that are each regular to a third may be blended even if they meet at a singular face.)

**Variance.** A mean of codes varies less than a code: if the codes are independent, their blend
keeps :math:`s = \sum_j \lambda_j^2` of their covariance. So a plain blend contracts every mode
(``benchmarks/modes.py``, cube: 97.9 % of its samples lie within three standard deviations of a
mode, of the codes 97.2 %; ``benchmarks/images.py``, Fashion-MNIST: a Frechet distance of 1.12
against 0.88). The blend therefore scales its offset from a local mean back,

.. math:: z(x) = m(x) + s^{-1/2} \Big(\sum_j \lambda_j y_j - m(x)\Big), \qquad
          m(x) = \sum_i \lambda_i m_i(x),

where :math:`m_i` is the mean of the targets of the seventeen highest planes, without those beyond a
singular face of i. Its weights are equal for the nearest planes and fall to 0 at the last of them.
All of it is continuous in x where the weights are, and z = y_i where nothing else is in the band.
(Codes around a point of a dense low-dimensional set are not independent, and s is not exact there.
Where the weights begin to fall was chosen so that three dimensions come out right, within 0.2
points on average; other dimensions hardly depend on it.)

Sources: An, Guo, Lei, Luo, Yau, Gu, AE-OT, ICLR 2020 (blending targets, plane angles); Heitz and
Neyret, "High-performance by-example noise using a histogram-preserving blending operator", 2018
(blends that keep the variance).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.numerics import PRECISION
from aeot_jax.ot.cells import shards, shift
from aeot_jax.ot.frames import Frame
from aeot_jax.typing import HeldHeights, HeldTargets, Samples

_PLANES = 17
"""Highest planes that are found: those of the local mean."""

_EDGE = 6
"""The plane at which the weights of a blend reach 0, counted from 1."""

_LEVEL = 0.75
"""Last part of the gap to the last plane, over which the weights of the local mean fall to 0."""

_TINY = 1e-30
"""Weight of a target's own plane where all weights would be 0."""


_FACES = 4096
"""Fewest faces whose angles are computed together."""


def plane_angles(a: Float[Array, "*#b d"], b: Float[Array, "*#b d"]) -> Float[Array, "*b"]:
    """Angle between the planes of two normalised targets, radians; leading axes broadcast.

    It is 2 atan2(|u - v|, |u + v|) of the unit normals u and v: arccos loses half of the digits of
    small angles.
    """
    return _angles(normals(a), normals(b))


def face_angles(
    y: HeldTargets, frame: Frame, faces: Int[np.ndarray, "f 2"]
) -> Float[np.ndarray, " f"]:
    """Plane angles of faces, given as pairs of cells, on the host, radians.

    How many faces there are is data: they are filled up, so that few programs serve all numbers.

    Args:
      y: targets (m, d).
      frame: centre and scale of the targets.
      faces: pairs of cells (f, 2).
    """
    number = len(faces)
    pairs = np.zeros((max(_FACES, 1 << max(0, number - 1).bit_length()), 2), np.int32)
    pairs[:number] = faces
    unit = frame.normalise(jnp.asarray(y))
    return np.asarray(plane_angles(unit[pairs[:, 0]], unit[pairs[:, 1]]))[:number]


def _angles(u: Float[Array, "*#b e"], v: Float[Array, "*#b e"]) -> Float[Array, "*b"]:
    return 2 * jnp.atan2(jnp.linalg.norm(u - v, axis=-1), jnp.linalg.norm(u + v, axis=-1))


def normals(unit: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
    """Unit normals of the graphs of the planes x -> <x, y> + h."""
    lifted = jnp.concatenate([unit, -jnp.ones_like(unit[..., :1])], axis=-1)
    return lifted / jnp.linalg.norm(lifted, axis=-1, keepdims=True)


class Planes(NamedTuple):
    """The highest planes above samples, from the highest down.

    Attributes:
      index: their targets (n, k).
      gaps: how far each plane is below the highest (n, k); infinite for a target without a cell.
      codes: the targets themselves (n, k, d).
      normals: unit normals of the planes, of targets centred and scaled (n, k, d + 1).
      angles: angle of each plane with the highest (n, k), radians; 0 for the highest itself.
    """

    index: Int[Array, "n k"]
    gaps: Float[Array, "n k"]
    codes: Float[Array, "n k d"]
    normals: Float[Array, "n k e"]
    angles: Float[Array, "n k"]

    def within(self, band: Float[Array, ""]) -> Float[Array, "n k"]:
        """How far each plane is inside of the band; 0 outside, and from the sixth plane on."""
        edge = jnp.full_like(self.gaps[:, :1], band)  # delta
        if self.gaps.shape[1] > _EDGE:  # else all targets of the band are blended
            edge = jnp.minimum(edge, self.gaps[:, _EDGE - 1 : _EDGE])
        return jnp.maximum(edge - self.gaps, 0.0).at[:, 0].set(jnp.maximum(edge[:, 0], _TINY))


def highest_planes(
    x: Samples,
    y: HeldTargets,
    h: HeldHeights,
    frame: Frame,
    *,
    num_targets: int | None = None,
    targets_axis: str | None = None,
) -> Planes:
    """Find the highest planes above each sample and their angles.

    Args:
      x: samples (n, d).
      y: targets of this device (m, d).
      h: heights (m,); -inf for a target without a cell.
      frame: centre and scale of the targets, in which angles are measured.
      num_targets: of all devices, without those that fill up; None is m.
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    y, h = jnp.asarray(y), jnp.asarray(h)
    rows, heights, _ = shift.around(y, h, targets_axis)
    k = min(_PLANES, y.shape[0] if num_targets is None else num_targets)
    values, index = shards.highest(x, rows, heights, k, targets_axis)
    codes = shards.take(y, index, targets_axis)
    unit = normals((codes - frame.centre[None, None, :]) / frame.scale)
    angles = _angles(unit[:, :1], unit[:, 1:])
    angles = jnp.concatenate([jnp.zeros_like(values[:, :1]), angles], axis=1)
    return Planes(index, values[:, :1] - values, codes, unit, angles)


def blend(
    planes: Planes, band: Float[Array, ""], threshold: Float[Array, ""]
) -> tuple[Samples, Int[Array, " n"]]:
    """Blend the targets of the planes within a band, not across singular faces; see the module.

    Args:
      planes: from ``highest_planes``.
      band: in units of the scores.
      threshold: plane angle above which a face is singular, radians.

    Returns:
      Codes z (n, d), and how many targets each one blends (n,).
    """
    share, regular = shares(planes, band, threshold)
    # Offsets from the winner keep their digits wherever the codes lie. `local` is m(x).
    offsets = planes.codes - planes.codes[:, :1]
    blended = _mean(share, offsets[:, :_EDGE])
    local = _mean(_local_shares(planes.gaps, share, regular), offsets)
    root = jnp.sqrt((share * share).sum(1, keepdims=True))  # s^(1/2)
    z = planes.codes[:, 0] + local + (blended - local) / root
    num_blended = (share > 0).sum(1, dtype=jnp.int32)
    # However the root is rounded, a code that is alone comes out exactly.
    return jnp.where(num_blended[:, None] == 1, planes.codes[:, 0], z), num_blended


def shares(
    planes: Planes, band: Float[Array, ""], threshold: Float[Array, ""]
) -> tuple[Float[Array, "n e"], Bool[Array, "n e k"]]:
    """Shares of the planes in the blend, and which faces between them are regular.

    Args:
      planes: from ``highest_planes``.
      band: in units of the scores.
      threshold: plane angle above which a face is singular, radians.

    Returns:
      Shares of the e highest planes (n, e), sum 1, and whether the face between each of them and
      each plane is regular (n, e, k).
    """
    regular = _regular(planes.normals, min(_EDGE, planes.gaps.shape[1]), threshold)
    share = _reached(planes.within(band)[:, :_EDGE], regular)
    return share / share.sum(1, keepdims=True), regular


def _mean(share: Float[Array, "n k"], codes: Float[Array, "n k d"]) -> Samples:
    return jnp.einsum("nk,nkd->nd", share, codes, precision=PRECISION)


def _reached(weights: Float[Array, "n e"], regular: Bool[Array, "n e k"]) -> Float[Array, "n e"]:
    """The part of each weight that reaches the winner through chains of regular faces."""
    num_blended = weights.shape[1]
    pair = jnp.minimum(weights[:, :, None], weights[:, None, :])
    pair = jnp.where(regular[:, :, :num_blended], pair, 0.0)
    reached = jnp.zeros_like(weights).at[:, 0].set(weights[:, 0])
    for _ in range(num_blended - 1):  # no chain has more links
        passed = jnp.minimum(reached[:, :, None], pair).max(1)
        reached = jnp.maximum(reached, passed)
    return reached


def _local_shares(
    gaps: Float[Array, "n k"], share: Float[Array, "n e"], regular: Bool[Array, "n e k"]
) -> Float[Array, "n k"]:
    """Weights of the local mean m = sum of lambda_i m_i.

    Each m_i leaves out what lies beyond singular faces of i. If it left out what lies beyond those
    of the winner, the mean would jump where the winner changes.
    """
    own = jnp.eye(share.shape[1], gaps.shape[1], dtype=jnp.float32)
    last = gaps[:, -1:]
    end = jnp.where(jnp.isfinite(last), last, 0.0)
    inside = jnp.clip(end - gaps, 0.0, _LEVEL * end)
    # If fewer targets than `_PLANES` have cells, all of them have equal weights.
    few = ~jnp.isfinite(last) if gaps.shape[1] == _PLANES else jnp.ones_like(last, bool)
    weights = jnp.where(few, jnp.where(jnp.isfinite(gaps), 1.0, 0.0), inside)
    weights = weights[:, None, :] * regular.astype(jnp.float32)
    weights = jnp.maximum(weights, _TINY * own[None])
    weights = weights / weights.sum(2, keepdims=True)
    return jnp.einsum("ne,nek->nk", share, weights, precision=PRECISION)


def _regular(
    normals: Float[Array, "n k d"], num_blended: int, threshold: Float[Array, ""]
) -> Bool[Array, "n e k"]:
    """Whether the face between each blended target and each plane is regular."""
    # Products of offsets from the winner's normal keep the digits of small angles.
    offsets = normals - normals[:, :1]
    squares = (offsets * offsets).sum(-1)
    products = jnp.einsum("ned,nkd->nek", offsets[:, :num_blended], offsets, precision=PRECISION)
    chords = squares[:, :num_blended, None] + squares[:, None, :] - 2 * products
    return chords <= (2 * jnp.sin(threshold / 2)) ** 2

r"""Latent walks: the images between two images, and the faces of the singular set on the way.

On a segment :math:`x(t) = (1 - t) x_0 + t x_1` Brenier's potential is an upper envelope of lines,
:math:`u_h(x(t)) = \max_i \langle x_1 - x_0, y_i\rangle t + \langle x_0, y_i\rangle + h_i`. So the
cells that a walk visits, and the times at which it enters each, are known in closed form: no cell
between two frames is missed. A walk through the codes visits their Voronoi cells, which are the
cells of the heights :math:`-|y_i|^2/2`. A face is singular if its plane angle is above the
extension's threshold.

Source: Lei et al., Engineering 6(3), 2020, section 5: a walk across the singular set gives a face
with one brown and one blue eye.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aeot_jax import arguments
from aeot_jax.model import AEOT, check_model, decode, extension_of
from aeot_jax.ot.exact.laguerre import upper_envelope
from aeot_jax.ot.extension import blend, generate
from aeot_jax.ot.extension.extension import Extension, at_novelty, check_extension
from aeot_jax.reprs import brief
from aeot_jax.trees import equal_by_numbers
from aeot_jax.typing import ArrayLike, Given, HeldHeights, HeldTargets

Along = Literal["source", "codes", "displacement"]

_MAX_FRAMES = 10_000

_extend = jax.jit(generate.extend)


class Crossings(NamedTuple):
    """Faces that a walk crosses, in order.

    Attributes:
      t: times of the crossings, in (0, 1).
      cells: the cells before and after.
      angle: plane angle of the face, radians.
      singular: whether the angle is above the threshold.
    """

    t: Float[np.ndarray, " c"]
    cells: Int[np.ndarray, "c 2"]
    angle: Float[np.ndarray, " c"]
    singular: Bool[np.ndarray, " c"]

    __repr__ = brief


@equal_by_numbers
@dataclass(frozen=True)
class Walk:
    """Images along a segment.

    Attributes:
      along: the space of the segment.
      t: times of the frames, from 0 to 1.
      z: standardised codes of the frames.
      images: the frames, in [0, 1].
      rejected: whether the extension rejects each frame; False unless the walk is in the source.
      crossings: the faces between start and end.
      threshold: plane angle above which a face is singular, radians.
    """

    along: Along
    t: Float[np.ndarray, " k"]
    z: Float[Array, "k z"]
    images: Float[Array, "k h w c"]
    rejected: Bool[np.ndarray, " k"]
    crossings: Crossings
    threshold: float

    __repr__ = brief


def interpolate(
    model: Given[AEOT],
    start: ArrayLike,
    end: ArrayLike | None = None,
    num: Given[int] = 9,
    *,
    along: Given[Along] = "source",
    label: Given[int | str | None] = None,
) -> Walk:
    r"""Walk along a straight line, and decode the points on it.

    * ``"source"``: from one point of the source to another; the continuous extension, which blends
      codes, maps x(t) to codes. The codes change where the walk crosses a face; at a singular face
      they jump, or mix two kinds of data.
    * ``"codes"``: from one standardised code (of ``encode``) to another. A straight line through
      the codes leaves the data where the manifold bends or has a hole.
    * ``"displacement"``: from a point x of the source to its code, (1 - t) x + t T(x): McCann's
      interpolation between noise and data, read as codes.

    Args:
      model: from ``fit``.
      start: a point of the source, or for "codes" a standardised code (z,).
      end: the last point, of the same kind; None for "displacement", which ends at T(start).
      num: number of frames, with both ends.
      along: the space of the segment.
      label: the class whose map is used; None for the map onto all codes.

    Returns:
      The walk, with every face that it crosses.

    Raises:
      ValueError: if a point has another shape or is not finite, both ends are the same, an option
        is out of range, or the label is unknown.
    """
    check_model(model)
    arguments.choice("along", along, ("source", "codes", "displacement"))
    num = arguments.whole("num", num, "how many frames")
    if not 2 <= num <= _MAX_FRAMES:
        raise ValueError(f"`num` is {num}; pass from 2 frames, the two ends, to {_MAX_FRAMES}.")
    ext = at_novelty(extension_of(model, label), "blend")  # kernels jump at every face
    a, b = _ends(start, end, along, ext)
    t = np.linspace(0.0, 1.0, num)
    points = jnp.asarray((1 - t)[:, None] * a + t[:, None] * b, jnp.float32)
    if along == "source":
        z, accepted, _ = _extend(points, ext)
        rejected = ~np.asarray(accepted)
        found = crossings(a, b, ext)
    else:
        z, rejected = points, np.zeros(num, bool)
        found = crossings(a, b, ext, voronoi=True)
    return Walk(along, t, z, decode(model, z), rejected, found, float(ext.threshold))


def _ends(
    start: ArrayLike, end: ArrayLike | None, along: Along, ext: Extension
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Both ends of a walk; raises unless they differ."""
    a = _point("start", start, ext)
    if along == "displacement":
        if end is not None:
            raise ValueError(
                "`end` is given, but a walk along the displacement ends at T(start); leave it out."
            )
        b = np.asarray(ext.y, np.float64)[_nearest(a, ext.y, ext.h)]
    elif end is None:
        raise ValueError(f"`end` is None; pass where a walk along {along!r} ends.")
    else:
        b = _point("end", end, ext)
    if np.array_equal(a, b):
        what = "its own target" if along == "displacement" else "`end`"
        raise ValueError(f"`start` equals {what}, {_shown(a)}; pass two different points.")
    return a, b


def crossings(
    start: ArrayLike, end: ArrayLike, ext: Given[Extension], *, voronoi: Given[bool] = False
) -> Crossings:
    """Faces that the segment from start to end crosses, exactly, in float64 on the host.

    Args:
      start: first point (d,).
      end: last point (d,).
      ext: the extension of the map.
      voronoi: use the Voronoi cells of the codes instead of the cells of the source.

    Returns:
      The faces, by increasing time; none if the segment stays in one cell.
    """
    check_extension(ext)
    voronoi = arguments.flag("voronoi", voronoi)
    a, b = _point("start", start, ext), _point("end", end, ext)
    y, h = np.asarray(ext.y, np.float64), np.asarray(ext.h, np.float64)
    if voronoi:
        h = np.where(np.isfinite(h), -np.square(y).sum(1) / 2, -np.inf)
    slope, intercept = y @ (b - a), y @ a + h
    passed = upper_envelope(slope, intercept)
    before, after = passed[:-1], passed[1:]
    t = (intercept[before] - intercept[after]) / (slope[after] - slope[before])
    inside = (t > 0) & (t < 1)
    before, after = before[inside], after[inside]
    cells = np.stack([before, after], axis=1)
    angle = blend.face_angles(ext.y, ext.frame, cells).astype(np.float64)
    return Crossings(t[inside], cells, angle, angle > float(ext.threshold))


def _point(name: str, value: ArrayLike, ext: Extension) -> Float[np.ndarray, " d"]:
    point = arguments.host_array(name, value)
    dim = ext.y.shape[-1]
    if point.shape != (dim,):
        raise ValueError(
            f"`{name}` has shape {point.shape}; pass one point of {dim} dimensions, ({dim},)."
        )
    return arguments.known(name, point)


def _nearest(x: Float[np.ndarray, " d"], y: HeldTargets, h: HeldHeights) -> int:
    return int((np.asarray(y, np.float64) @ x + np.asarray(h, np.float64)).argmax())


def _shown(point: Float[np.ndarray, " d"]) -> str:
    return np.array2string(point, precision=3, threshold=8, edgeitems=3)

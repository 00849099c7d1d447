"""Transport in the plane: cells, the weighted Delaunay triangulation, potentials, singular faces.

The ``draw`` functions draw on given axes; ``panels.py`` composes them. The geometry is exact:
float64 polygons, no raster.

A target, its cell, its plane and its samples have the same colour. Hue and saturation show the
position of the target, relative to the mean of the targets.
"""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot.duality.assign import assign
from aeot_jax.ot.exact import laguerre
from aeot_jax.ot.extension import blend
from aeot_jax.ot.extension.extension import Extension, check_extension
from aeot_jax.plot.style import BLUE, GREY, RED
from aeot_jax.plot.window import Floats, Window, frame_source, window
from aeot_jax.typing import ArrayLike, Given

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.mplot3d.axes3d import Axes3D


_DISC_SIDES = 180
"""Sides of the polygon that stands for a disc; they differ from the circle by 0.02 % of R."""


def target_colours(y: ArrayLike) -> Float[np.ndarray, "m 3"]:
    """Colours of targets (m, 2): hue is the angle, and saturation the distance, from their mean.

    Args:
      y: targets (m, 2).

    Returns:
      Red, green and blue (m, 3), in [0, 1].
    """
    from matplotlib.colors import hsv_to_rgb

    points = arguments.known("y", y)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"`y` has shape {points.shape}; pass targets of the plane, (m, 2).")
    offset = points - points.mean(0)
    radius = np.hypot(*offset.T)
    strength = radius / max(radius.max(), 1e-300)
    hue = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1
    return hsv_to_rgb(np.stack([hue, 0.12 + 0.58 * strength, 0.93 - 0.1 * strength], axis=1))


def draw_cells(
    axes: "Axes",
    mu: Given[Measure],
    y: ArrayLike,
    h: ArrayLike,
    *,
    half_width: Given[float | None] = None,
) -> None:
    """Draw the cells of the source as exact polygons, each in the colour of its target.

    Args:
      axes: axes to draw on.
      mu: source of dimension 2; it determines the window.
      y: targets (m, 2).
      h: heights (m,); -inf for a target without a cell.
      half_width: see ``window``.

    Raises:
      ValueError: if shapes or values do not fit.
    """
    from matplotlib.collections import PolyCollection

    shown = window(mu, half_width)
    polygons, owner = _polygons(y, h, shown)
    cells = PolyCollection(polygons, facecolors=target_colours(y)[owner])
    cells.set(edgecolor="white", linewidth=_line(len(owner)))
    axes.add_collection(cells)
    frame_source(axes, shown)


def draw_faces(
    axes: "Axes", ext: Given[Extension], *, half_width: Given[float | None] = None
) -> None:
    """Draw the faces between cells: the singular ones in red, the others thin and grey.

    Args:
      axes: axes to draw on.
      ext: the extension of a map in the plane.
      half_width: see ``window``.

    Raises:
      ValueError: if the map is not in the plane.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    check_extension(ext)
    shown = window(ext.mu, half_width)
    pairs, segments = _faces(ext, shown)
    above = _angles(ext, pairs) > float(ext.threshold)
    for part, colour, width in (
        (~above, GREY, 0.6 * _line(len(ext.y))),
        (above, RED, 1.5),
    ):
        lines = LineCollection(list(segments[part]), colors=colour, linewidths=width)
        lines.set(capstyle="round", zorder=2 + (colour == RED))
        axes.add_collection(lines)
        if shown.disc:
            lines.set_clip_path(Circle((0, 0), shown.half_width, transform=axes.transData))
    frame_source(axes, shown)


def draw_triangulation(
    axes: "Axes", y: ArrayLike, h: ArrayLike, *, ext: Extension | None = None
) -> None:
    """Draw the weighted Delaunay triangulation of the targets: the graph of u_h's conjugate.

    Args:
      axes: axes to draw on.
      y: targets (m, 2).
      h: heights (m,); a target at -inf is no vertex.
      ext: draws the edges across singular faces in red.

    Raises:
      ValueError: if shapes or values do not fit.
    """
    from matplotlib.collections import LineCollection

    points = arguments.known("y", y)
    corners = laguerre.triangulation(points, h)
    pairs = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]))
    pairs = np.unique(pairs, axis=0)
    above = np.zeros(len(pairs), bool)
    if ext is not None:
        above = _angles(ext, pairs) > float(ext.threshold)
    for part, colour, width, alpha in ((~above, GREY, 0.7, 0.8), (above, RED, 0.5, 0.45)):
        lines = LineCollection(list(points[pairs[part]]), colors=colour, linewidths=width)
        lines.set(alpha=alpha)
        axes.add_collection(lines)
    axes.scatter(*points.T, s=_dot(len(points)), c=target_colours(points), zorder=3, linewidth=0)
    axes.margins(0.06)
    axes.set_aspect("equal")
    axes.set_axis_off()


def draw_potential(
    axes: "Axes3D",
    mu: Given[Measure],
    y: ArrayLike,
    h: ArrayLike,
    *,
    half_width: Given[float | None] = None,
) -> None:
    """Draw u_h as a surface: the plane of each target over its cell, and the cells below.

    Args:
      axes: three-dimensional, ``figure.add_subplot(projection="3d")``.
      mu: source of dimension 2; it determines the window.
      y: targets (m, 2).
      h: heights (m,); -inf for a target without a cell.
      half_width: see ``window``.

    Raises:
      ValueError: if shapes or values do not fit.
    """
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    shown = window(mu, half_width)
    polygons, owner = _polygons(y, h, shown)
    # matplotlib reads uninitialised memory if polygons differ in length: repeat the last corners.
    most = max(map(len, polygons))
    polygons = [np.concatenate([p, np.repeat(p[-1:], most - len(p), 0)]) for p in polygons]
    points, heights = arguments.known("y", y), arguments.known("h", h, infinite_below=True)
    colours = target_colours(points)[owner]
    # Light from above: a steeper plane is darker.
    slope = np.hypot(*(points[owner] - points[owner].mean(0)).T)
    light = 1 - 0.15 * slope / max(slope.max(), 1e-300)
    values = [p @ points[i] + heights[i] for p, i in zip(polygons, owner, strict=True)]
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    floor = low - 0.55 * (high - low)
    surface = [np.column_stack([p, v]) for p, v in zip(polygons, values, strict=True)]
    shadow = [np.column_stack([p, np.full(len(p), floor)]) for p in polygons]
    width = _line(len(owner))
    for faces, shades in ((shadow, 0.5 + 0.5 * colours), (surface, colours * light[:, None])):
        collection = Poly3DCollection(
            faces, facecolors=shades, edgecolors="white", linewidths=width
        )
        # This sorts the two collections; polygons within one are sorted by depth.
        collection.set_sort_zpos(floor if faces is shadow else high)
        axes.add_collection3d(collection)
    reach = shown.half_width
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(floor, high))
    zoom: Any = 1.1  # typed as a whole number in matplotlib
    axes.set_box_aspect((1, 1, 0.95), zoom=zoom)
    axes.view_init(elev=22, azim=-62)
    axes.set_axis_off()


def draw_transport(axes: "Axes", x: ArrayLike, y: ArrayLike, h: ArrayLike) -> None:
    """Draw samples, each with the segment to its target.

    Args:
      axes: axes to draw on.
      x: samples (n, 2).
      y: targets (m, 2).
      h: heights (m,); -inf for a target without a cell.

    Raises:
      ValueError: if shapes or values do not fit.
    """
    from matplotlib.collections import LineCollection

    points, source = arguments.known("y", y), arguments.known("x", x)
    index = np.asarray(assign(x, y, h)[1])
    colours = target_colours(points)[index]
    segments = np.stack([source, points[index]], axis=1)
    axes.add_collection(LineCollection(list(segments), colors=list(colours), linewidths=0.8))
    axes.scatter(*source.T, s=7, c=colours, linewidth=0, zorder=3)
    axes.scatter(*points.T, s=2, color="black", linewidth=0, zorder=4)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.autoscale_view()


def draw_angles(axes: "Axes", ext: Given[Extension]) -> None:
    """Draw the histogram of the face angles at the samples; angles above the threshold are red.

    Args:
      axes: axes to draw on.
      ext: the extension of a map in any dimension.
    """
    check_extension(ext)
    angle = np.asarray(ext.face_angles, np.float64)
    angle = angle[np.isfinite(angle)]
    cut = float(ext.threshold)
    top = max([cut, *angle]) * 1.05 or 1.0  # all angles are 0 if the targets are equal
    # The threshold is an edge of the bins, so that no bar has two colours; below a hundredth of the
    # range it is treated as 0.
    width = max(cut / max(4, min(40, round(40 * cut / top))), top / 400)
    edges = np.arange(0, np.ceil(top / width) + 1) * (width * (1 + 1e-6))
    for part, colour in ((angle <= cut, BLUE), (angle > cut, RED)):
        axes.hist(angle[part], edges, color=colour, edgecolor="white", linewidth=0.4)
    share = (angle > cut).mean() if angle.size else 0.0
    axes.axvline(cut, color="black", linewidth=1, linestyle="--")
    if angle.size:
        axes.set_yscale("log", nonpositive="clip")
    axes.annotate(
        f" cut {cut:.2f}\n {share:.1%} above",
        (cut, 1),
        xycoords=("data", "axes fraction"),
        verticalalignment="top",
        fontsize=8,
    )
    axes.set_xlabel("plane angle of the face (rad)")
    axes.set_ylabel("samples")


def _polygons(
    y: ArrayLike, h: ArrayLike, shown: Window
) -> tuple[list[Floats], Int[np.ndarray, " k"]]:
    """The visible cells, clipped to the window, and their targets."""
    cells = laguerre.power_cells(y, h, half_width=shown.half_width)
    if shown.disc:
        cells = [laguerre.clip_to_disc(cell, shown.half_width, _DISC_SIDES) for cell in cells]
    owner = np.array([i for i, cell in enumerate(cells) if len(cell) > 2], np.intp)
    return [cells[i] for i in owner], owner


def _faces(
    ext: Extension, shown: Window
) -> tuple[Int[np.ndarray, "k 2"], Float[np.ndarray, "k 2 2"]]:
    y, h = laguerre.check_targets(ext.y, ext.h)
    diagram = laguerre.build(y, laguerre.hide_duplicates(y, h), shown.half_width)
    inner = diagram.right != laguerre.WALL
    pairs = np.stack([diagram.left, diagram.right], axis=1)[inner]
    return pairs, np.stack([diagram.start, diagram.end], axis=1)[inner]


def _angles(ext: Extension, pairs: Int[np.ndarray, "k 2"]) -> Float[np.ndarray, " k"]:
    unit = ext.frame.normalise(jnp.asarray(ext.y))
    return np.asarray(blend.plane_angles(unit[pairs[:, 0]], unit[pairs[:, 1]]), np.float64)


def _line(count: int) -> float:
    """Width of the lines between `count` cells."""
    return float(np.clip(12 / max(count, 1) ** 0.5, 0.15, 1.0))


def _dot(count: int) -> float:
    return float(np.clip(2000 / max(count, 1), 3, 30))

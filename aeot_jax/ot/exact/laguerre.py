"""Power (Laguerre) diagrams of the plane, clipped to a square: float64 geometry on the host.

The cell of a target is where its plane is the highest, W_i = {x : <x,y_i> + h_i >= <x,y_j> + h_j},
so the lower convex hull of the lifted points (y_i, -h_i) is its dual: a facet of the hull is a
vertex of the diagram (the facet's slope), an edge of the hull an edge of the diagram.

The walls of the square are made edges of the diagram, so nothing is clipped afterwards. For a wall
<x,n> = R, every target (y, h) that owns a piece of it gets a ghost (y + t n, h - t R). The bisector
of the two is the wall, for any t > 0. Ghosts moved by more than twice the size of the targets take
everything outside the square and nothing inside it. One hull then gives closed bounded cells, with
no special case for a single target, collinear targets or an edge on a wall.

Source: Aurenhammer 1987 (power diagrams from hulls); Barber, Dobkin, Huhdanpaa 1996 (Qhull).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from aeot_jax import arguments
from aeot_jax.typing import ArrayLike, Given

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_GHOST_REACH = 3.0
"""t, in sizes of the targets; at the corners of the square it must be more than 2."""

_WALL_NORMALS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])

WALL = -1
"""Stands for the outside of the square, where an edge lies on a wall."""


@dataclass(frozen=True, eq=False)
class Diagram:
    """Edges of a power diagram clipped to a square; k edges, each stored once.

    Attributes:
      num_cells: m; cells that own nothing appear in no edge.
      left: (k,) cell to the left of the edge from ``start`` to ``end``.
      right: (k,) cell to the right of it, or ``WALL``.
      start: (k, 2) first end.
      end: (k, 2) last end.
    """

    num_cells: int
    left: Ints
    right: Ints
    start: Floats
    end: Floats

    def half_edges(self) -> tuple[Ints, Floats, Floats]:
        """List the edges of every cell, counterclockwise: cell (k',), start and end (k', 2)."""
        inner = self.right != WALL
        cell = np.concatenate([self.left, self.right[inner]])
        start = np.concatenate([self.start, self.end[inner]])
        end = np.concatenate([self.end, self.start[inner]])
        return cell, start, end

    def sum_by_cell(self, cell: Ints, value: Floats) -> Floats:
        """Add up values (k',) or (k', 2) that belong to cells, in a fixed order."""
        if value.ndim == 2:
            return np.stack([self.sum_by_cell(cell, v) for v in value.T], axis=1)
        return np.asarray(np.bincount(cell, value, self.num_cells), np.float64)


def upper_envelope(slope: ArrayLike, intercept: ArrayLike) -> Ints:
    """Find which of the lines ``slope * t + intercept`` are the highest somewhere.

    Lines that are the highest at one point only may be left out, and one of equal lines is kept.

    Args:
      slope: (m,) slopes.
      intercept: (m,) intercepts; -inf is never the highest.

    Returns:
      Indices of the lines, by increasing slope: the order in which they take over.
    """
    slope, intercept = np.asarray(slope, np.float64), np.asarray(intercept, np.float64)
    finite = np.flatnonzero(np.isfinite(intercept))
    # One line per slope: the highest, of equal ones the lowest index.
    order = finite[np.lexsort((finite, -intercept[finite], slope[finite]))]
    order = order[np.r_[True, np.diff(slope[order]) > 0]]
    if order.size <= 2:
        return order
    s, z = slope[order], -intercept[order]
    s = (s - s[0]) / (s[-1] - s[0])
    z = z - (z[0] + (z[-1] - z[0]) * s)  # adding a line changes no order, and conditions the hull
    scale = np.abs(z).max() or 1.0
    # A point above all others keeps the hull from being flat.
    points = np.concatenate([np.stack([s, z / scale], axis=1), [[0.5, 2.0]]])
    hull = ConvexHull(points)
    lower = hull.simplices[hull.equations[:, 1] < 0]
    return order[np.unique(lower)]


def build(y: Floats, h: Floats, half_width: float) -> Diagram:
    """Build the power diagram of distinct targets inside the square [-R, R]^2.

    Args:
      y: (m, 2) distinct targets, m >= 1.
      h: (m,) heights; a target at -inf owns no cell.
      half_width: R.

    Returns:
      The edges of the diagram. A vertex is accurate to about 1e-16 * R * size(y) / distance to
      the next target: cells thinner than that are not seen.
    """
    m = len(y)
    alive = np.flatnonzero(np.isfinite(h))
    # A shift of y, one factor for y and h, and a constant added to h change no cell.
    centre = (y[alive].max(0) + y[alive].min(0)) / 2
    size = float(np.ptp(y[alive], axis=0).max()) or 1.0
    points, heights = (y[alive] - centre) / size, (h[alive] - h[alive].max()) / size
    owner = [alive]
    sites, lifts = [points], [heights]
    for normal in _WALL_NORMALS:
        along = np.array([-normal[1], normal[0]])
        touching = upper_envelope(points @ along, points @ normal * half_width + heights)
        owner.append(np.full(touching.size, WALL))
        sites.append(points[touching] + _GHOST_REACH * normal)
        lifts.append(heights[touching] - _GHOST_REACH * half_width)
    cell = np.concatenate(owner)
    site, lift = np.concatenate(sites), np.concatenate(lifts)

    hull = ConvexHull(np.column_stack([site, -lift]))
    normal = hull.equations[:, :3]
    # The slope of a facet comes from Qhull's plane, which is common to the triangles of a merged
    # facet. So triangles that are slivers (targets on a grid) are no problem.
    lower = np.flatnonzero(normal[:, 2] < 0)
    vertex = np.full((len(normal), 2), np.nan)
    vertex[lower] = -normal[lower, :2] / normal[lower, 2:]

    facet = np.repeat(lower, 3)
    opposite = np.tile(np.arange(3), lower.size)
    other = hull.neighbors[facet, opposite]
    i = hull.simplices[facet, (opposite + 1) % 3]
    j = hull.simplices[facet, (opposite + 2) % 3]
    # Cells of targets are bounded, so both facets at each of their edges are lower ones.
    keep = (facet < other) & (normal[other, 2] < 0) & ((cell[i] != WALL) | (cell[j] != WALL))
    facet, other, i, j = facet[keep], other[keep], i[keep], j[keep]
    swap = cell[i] == WALL
    i, j = np.where(swap, j, i), np.where(swap, i, j)
    start, end = vertex[facet], vertex[other]
    # W_i lies on the side of y_i - y_j: direct the edge so that this is its left.
    backward = (cross(end - start, site[i] - site[j]) < 0)[:, None]
    start, end = np.where(backward, end, start), np.where(backward, start, end)
    return Diagram(m, cell[i], cell[j], start, end)


def areas(diagram: Diagram) -> tuple[Floats, Floats]:
    """Measure the cells: areas (m,) and first moments, integral of x, (m, 2)."""
    cell, start, end = diagram.half_edges()
    # Triangles around a point of the cell itself: nothing large cancels.
    count = np.maximum(np.bincount(cell, minlength=diagram.num_cells), 1)[:, None]
    centre = diagram.sum_by_cell(cell, (start + end) / 2) / count
    c = centre[cell]
    area = cross(start - c, end - c) / 2
    moment = area[:, None] * (start + end - 2 * c) / 3
    area = np.maximum(diagram.sum_by_cell(cell, area), 0.0)
    return area, diagram.sum_by_cell(cell, moment) + area[:, None] * centre


def polygons(diagram: Diagram) -> list[Floats]:
    """List the corners of every cell, counterclockwise: m arrays (k_i, 2), empty for no cell."""
    cell, start, end = diagram.half_edges()
    length = np.linalg.norm(end - start, axis=1)
    seen = length > 0
    cell, start, end = cell[seen], start[seen], end[seen]
    count = np.bincount(cell, minlength=diagram.num_cells)
    centre = diagram.sum_by_cell(cell, (start + end) / 2) / np.maximum(count, 1)[:, None]
    # Order the corners by the direction, from the centre, of the middles of the edges. This works
    # even if two corners nearly agree.
    middle = (start + end) / 2 - centre[cell]
    order = np.lexsort((np.arctan2(middle[:, 1], middle[:, 0]), cell))
    return np.split(start[order], np.cumsum(count)[:-1])


def power_cells(y: ArrayLike, h: ArrayLike, *, half_width: Given[float] = 0.5) -> list[Floats]:
    """Compute the cells of Brenier's potential inside the square [-R, R]^2, as polygons.

    Args:
      y: (m, 2) targets; of equal targets, the first of the highest owns the cell.
      h: (m,) heights; a target at -inf owns no cell.
      half_width: R; 1/2 is the uniform source's own square.

    Returns:
      m arrays (k_i, 2) of corners, counterclockwise, k_i = 0 where the cell is empty.

    Raises:
      ValueError: if the shapes disagree, a number is NaN or a target or height infinite (a height
        of -inf apart).
    """
    y, h = check_targets(y, h)
    if y.shape[1] != 2:
        raise ValueError(f"`y` has shape {y.shape}; cells are drawn for targets of the plane.")
    what = "a positive number"
    half_width = arguments.number("half_width", half_width, 0.0, wide=True, above=True, what=what)
    return polygons(build(y, hide_duplicates(y, h), half_width))


def triangulation(y: ArrayLike, h: ArrayLike) -> Ints:
    """Compute the weighted Delaunay triangulation of targets of the plane.

    The lower hull of (y_i, -h_i): the graph of the convex conjugate of u_h. Its edges join the
    targets whose cells have a common face anywhere in the plane; a target of an empty cell is no
    vertex. At the heights -|y|^2/2 it is Delaunay's.

    Args:
      y: (m, 2) targets; of equal targets, the first of the highest is the vertex.
      h: (m,) heights; a target at -inf is no vertex.

    Returns:
      (k, 3) corners, counterclockwise, none if all targets lie on a line. Where the cells of more
      than three targets meet in a point, the polygon of these targets is split somehow.

    Raises:
      ValueError: if the shapes disagree, a number is NaN or a target or height infinite (a height
        of -inf apart).
    """
    y, h = check_targets(y, h)
    if y.shape[1] != 2:
        raise ValueError(f"`y` has shape {y.shape}; triangles are of targets of the plane.")
    alive = np.flatnonzero(np.isfinite(hide_duplicates(y, h)))
    points = y[alive] - y[alive].mean(0)
    size = float(np.abs(points).max())
    if np.linalg.matrix_rank(points) < 2:
        return np.zeros((0, 3), np.intp)
    points /= size
    z = -h[alive] / size
    # A linear function changes no hull; less its best fit, the heights are as flat as they can be.
    design = np.column_stack([points, np.ones(len(points))])
    z -= design @ np.linalg.lstsq(design, z, rcond=None)[0]
    # A point above all others keeps the hull from being flat.
    apex = [[0.0, 0.0, z.max() + max(np.ptp(z), 1.0)]]
    hull = ConvexHull(np.concatenate([np.column_stack([points, z]), apex]))
    corners = hull.simplices[hull.equations[:, 2] < -1e-12]
    corners = corners[(corners < len(alive)).all(1)]
    a, b, c = (points[corners[:, i]] for i in range(3))
    area = cross(b - a, c - a)
    corners = np.where((area < 0)[:, None], corners[:, ::-1], corners)[np.abs(area) > 1e-14]
    return alive[corners]


def clip_to_disc(polygon: Floats, radius: float, num_sides: int = 180) -> Floats:
    """Cut a convex polygon by the regular polygon of ``num_sides`` around the circle's inside.

    Args:
      polygon: (k, 2) corners, counterclockwise.
      radius: of the disc around 0; the corners of the cutting polygon lie on its circle.
      num_sides: of the cutting polygon.

    Returns:
      (k', 2) corners, none if nothing is left.
    """
    angle = 2 * np.pi * (np.arange(num_sides) + 0.5) / num_sides
    normals = np.column_stack([np.cos(angle), np.sin(angle)])
    reach = radius * np.cos(np.pi / num_sides)
    for normal in normals:
        if len(polygon) == 0:
            break
        outside = polygon @ normal - reach
        if outside.max() <= 0:
            continue
        following, beyond = np.roll(polygon, -1, axis=0), np.roll(outside, -1)
        kept = []
        for p, q, u, v in zip(polygon, following, outside, beyond, strict=True):
            if u <= 0:
                kept.append(p)
            if (u <= 0) != (v <= 0):
                kept.append(p + u / (u - v) * (q - p))
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def check_targets(y: ArrayLike, h: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Check and convert targets (m,) or (m, d) and heights (m,) (zero unless given) to float64."""
    y = arguments.host_array("y", y)
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or 0 in y.shape:
        raise ValueError(f"`y` has shape {y.shape}; pass at least one target, shape (m, d).")
    if y.shape[1] > 2:
        raise ValueError(
            f"`y` has dimension {y.shape[1]}, but the exact solver works for 1 and 2; "
            "use aeot_jax.solve."
        )
    y = arguments.known("y", y)
    h = np.zeros(len(y)) if h is None else arguments.host_array("h", h)
    if h.shape != (len(y),):
        raise ValueError(
            f"`h` has shape {h.shape}, but `y` has {len(y)} targets; pass one height a target."
        )
    h = arguments.known("h", h, infinite_below=True)
    if np.isneginf(h).all():
        bad = int(np.flatnonzero(~np.isfinite(h))[0])
        raise ValueError(
            f"`h` is {h[bad]} at target {bad}; heights are finite, or -inf for a target without a "
            "cell, and one at least is finite."
        )
    return y, h


def hide_duplicates(y: Floats, h: Floats) -> Floats:
    """Return the heights with -inf at all of equal targets but the first of the highest."""
    keys = tuple(y.T[::-1])
    order = np.lexsort((np.arange(len(y)), -h, *keys))
    same = np.r_[False, (np.diff(y[order], axis=0) == 0).all(1)]
    return np.where(np.isin(np.arange(len(y)), order[same]), -np.inf, h)


def cross(a: Floats, b: Floats) -> Floats:
    """Compute the signed area of the parallelogram of each row: (k, 2), (k, 2) -> (k,)."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

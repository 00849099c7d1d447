"""Figures of transport in the plane: the geometry of a map, and where it jumps."""

from typing import TYPE_CHECKING

import numpy as np

from aeot_jax import arguments
from aeot_jax.measures import Measure, draw
from aeot_jax.ot.extension import generate
from aeot_jax.ot.extension.extension import Extension, check_extension
from aeot_jax.plot.planar import (
    draw_angles,
    draw_cells,
    draw_faces,
    draw_potential,
    draw_transport,
    draw_triangulation,
)
from aeot_jax.plot.style import BLUE, RED, STYLE
from aeot_jax.plot.window import inside, window
from aeot_jax.typing import ArrayLike, Given, PRNGKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAMPLES, _ARROWS = 2000, 400
"""Number of samples drawn as points, and as lines to their targets."""


def plane(
    key: Given[PRNGKey],
    mu: Given[Measure],
    y: ArrayLike,
    h: ArrayLike,
    *,
    half_width: Given[float | None] = None,
) -> "Figure":
    """Draw transport in the plane: cells, potential, triangulation, samples and their targets.

    Args:
      key: key of the samples.
      mu: source of dimension 2.
      y: targets (m, 2).
      h: heights (m,); -inf for a target without a cell.
      half_width: see ``window``.

    Returns:
      The figure; `save` writes it.

    Raises:
      ValueError: if shapes or values do not fit.
    """
    import matplotlib
    from matplotlib.figure import Figure

    key = arguments.key("key", key)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 7.4), layout="constrained")
        cells, triangles, samples = (figure.add_subplot(2, 2, i) for i in (1, 3, 4))
        surface = figure.add_subplot(2, 2, 2, projection="3d")
        draw_cells(cells, mu, y, h, half_width=half_width)
        cells.set_title("cells of the source")
        draw_potential(surface, mu, y, h, half_width=half_width)
        surface.set_title("Brenier's potential $u_h$")
        draw_triangulation(triangles, y, h)
        triangles.set_title("weighted Delaunay triangulation of the targets")
        draw_transport(samples, draw(key, mu, _ARROWS), y, h)
        samples.set_title("samples x on their way to T(x), black")
    return figure


def singular_set(
    key: Given[PRNGKey], ext: Given[Extension], *, half_width: Given[float | None] = None
) -> "Figure":
    """Draw where the map jumps: singular faces, edges across them, rejected samples, the threshold.

    Args:
      key: key of the samples.
      ext: the extension of a map in the plane.
      half_width: see ``window``.

    Returns:
      The figure; `save` writes it.

    Raises:
      ValueError: if the map is not in the plane.
    """
    import matplotlib
    from matplotlib.figure import Figure

    key = arguments.key("key", key)
    check_extension(ext)
    x = draw(key, ext.mu, _SAMPLES)
    z, accepted, _ = generate.extend(x, ext)
    source, codes, kept = np.asarray(x), np.asarray(z), np.asarray(accepted)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 7.4), layout="constrained")
        cells, triangles, samples, angles = figure.subplots(2, 2).ravel()
        draw_cells(cells, ext.mu, ext.y, ext.h, half_width=half_width)
        draw_faces(cells, ext, half_width=half_width)
        seen = ~kept & inside(source, window(ext.mu, half_width))
        cells.scatter(*source[seen].T, s=3, color="black", linewidth=0, zorder=4)
        cells.set_title("source: singular faces, rejected samples in black")
        draw_triangulation(triangles, ext.y, ext.h, ext=ext)
        triangles.set_title("codes: edges that cross a singular face")
        samples.scatter(*codes[~kept].T, s=6, color=RED, linewidth=0, label="rejected")
        samples.scatter(*codes[kept].T, s=3, color=BLUE, linewidth=0, label="accepted")
        samples.set(xlim=triangles.get_xlim(), ylim=triangles.get_ylim(), aspect="equal")
        samples.set_axis_off()
        samples.legend(loc="best", markerscale=2)
        samples.set_title(f"extension of {_SAMPLES:,} samples, {(~kept).mean():.1%} rejected")
        draw_angles(angles, ext)
        angles.set_title("faces nearest to samples of the source")
    return figure

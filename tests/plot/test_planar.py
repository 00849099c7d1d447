"""What is drawn of the plane is the geometry: whole, in the right colours, red where it jumps."""

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from aeot_jax import Empirical, Gaussian, UniformBall, UniformCube, extension, plot, solve_exact
from aeot_jax.ot.exact.laguerre import build
from aeot_jax.ot.extension.blend import plane_angles
from aeot_jax.plot.style import RED

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
# Two clumps apart: some faces are singular, most are not.
Y = np.concatenate([RNG.normal(size=(15, 2)) * 0.2 + [side, 0] for side in (-1, 1)])
H = solve_exact(Y, source="gaussian").h


@pytest.fixture(scope="module")
def ext():
    return extension(KEY, Gaussian(2), Y, H, num_samples=256)


def area(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


def axes(**options) -> Any:
    return Figure().add_subplot(**options)


def polygons(collection):
    return [path.vertices[:-1] for path in collection.get_paths()]


@pytest.mark.parametrize(
    ("mu", "whole"), [(UniformCube(2), 1.0), (UniformBall(2), np.pi), (Gaussian(2), 9 * np.pi)]
)
def test_cells_fill_what_is_shown_of_the_source(mu, whole):
    shown = axes()
    plot.draw_cells(shown, mu, Y, H)
    cells = polygons(shown.collections[0])
    # A disc is a polygon of 180 sides.
    assert sum(map(area, cells)) == pytest.approx(whole, rel=3e-4)


def test_cells_of_exact_heights_have_equal_areas_and_the_colours_of_their_targets():
    h = solve_exact(Y, source="uniform").h
    shown = axes()
    plot.draw_cells(shown, UniformCube(2), Y, h)
    cells = polygons(shown.collections[0])
    np.testing.assert_allclose([area(cell) for cell in cells], 1 / 30, rtol=1e-6)
    colours = shown.collections[0].get_facecolor()[:, :3]
    np.testing.assert_allclose(colours, plot.target_colours(Y))


def test_a_target_without_a_cell_is_not_drawn_and_shifts_no_colour():
    h = np.where(np.arange(30) == 4, -np.inf, H)
    shown = axes()
    plot.draw_cells(shown, Gaussian(2), Y, h)
    colours = shown.collections[0].get_facecolor()[:, :3]
    np.testing.assert_allclose(colours, np.delete(plot.target_colours(Y), 4, axis=0))


def test_faces_are_red_exactly_where_their_angle_is_above_the_threshold(ext):
    shown = axes()
    plot.draw_faces(shown, ext)
    grey, red = shown.collections
    diagram = build(Y.astype(np.float32).astype(np.float64), np.asarray(ext.h, np.float64), 3.0)
    inner = diagram.right >= 0
    unit = ext.frame.normalise(ext.y)
    angle = plane_angles(unit[diagram.left[inner]], unit[diagram.right[inner]])
    above = np.asarray(angle) > float(ext.threshold)
    assert 0 < above.sum() < above.size
    assert len(red.get_segments()) == above.sum()
    assert len(grey.get_segments()) == (~above).sum()
    assert to_hex(red.get_edgecolor()[0]) == RED
    np.testing.assert_allclose(red.get_segments()[0][0], diagram.start[inner][above][0])


def test_the_triangulation_is_drawn_edge_by_edge(ext):
    from aeot_jax.ot.exact.laguerre import triangulation

    shown = axes()
    plot.draw_triangulation(shown, Y, H, ext=ext)
    drawn = sum(len(lines.get_segments()) for lines in shown.collections[:2])
    edges = {
        frozenset(map(int, pair))
        for corners in triangulation(Y, H)
        for pair in itertools.combinations(corners, 2)
    }
    assert drawn == len(edges)
    assert len(shown.collections[1].get_segments()) > 0


def test_the_surface_is_the_potential():
    shown = axes(projection="3d")
    plot.draw_potential(shown, UniformCube(2), Y, H)
    shadow, surface = shown.collections
    corners = surface._faces.reshape(-1, 3)  # there is no public way to them
    x, value = corners[:, :2], corners[:, 2]
    np.testing.assert_allclose(value, (x @ Y.T + H).max(1), atol=1e-9)
    below = shadow._faces.reshape(-1, 3)
    np.testing.assert_array_equal(below[:, :2], x)
    assert (below[:, 2] == below[0, 2]).all()


def test_bars_hold_every_face_angle_and_the_cut_parts_them(ext):
    shown = axes()
    plot.draw_angles(shown, ext)
    cut = float(ext.threshold)
    angle = np.asarray(ext.face_angles)
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in shown.patches]
    assert sum(height for _, _, height in bars) == np.isfinite(angle).sum()
    below = sum(height for left, width, height in bars if left + width <= cut * (1 + 1e-5))
    assert below == (angle <= cut).sum()
    assert shown.lines[0].get_xdata()[0] == pytest.approx(cut)


def test_samples_are_joined_to_their_targets():
    x = np.asarray(Gaussian(2).sample(KEY, 50))
    shown = axes()
    plot.draw_transport(shown, x, Y, H)
    segments = np.array(shown.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0], x)
    np.testing.assert_allclose(segments[:, 1], Y[(x @ Y.T + H).argmax(1)])


def test_whole_figures_are_written(ext, tmp_path):
    figure = plot.plane(KEY, Gaussian(2), Y, H)
    assert len(figure.axes) == 4
    plot.save(figure, tmp_path / "plane.png")
    figure = plot.singular_set(KEY, ext)
    assert "rejected" in figure.axes[2].get_title()
    plot.save(figure, tmp_path / "singular.png")


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_targets_on_a_line_are_drawn_too(count, tmp_path):
    y = np.column_stack([np.arange(1.0, count + 1) / 5, np.zeros(count)])
    ext = extension(KEY, UniformCube(2), y, solve_exact(y).h, num_samples=64)
    plot.save(plot.plane(KEY, ext.mu, ext.y, ext.h), tmp_path / "plane.png")
    plot.save(plot.singular_set(KEY, ext), tmp_path / "singular.png")


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_targets_that_all_coincide_are_drawn_too(threshold, tmp_path):
    y = np.full((2, 2), 0.3)
    ext = extension(KEY, UniformCube(2), y, np.zeros(2), num_samples=64)
    if threshold is not None:  # as learned under jit, where copies are not known
        ext = replace(ext, threshold=jnp.float32(threshold), face_angles=jnp.zeros(64))
    figure = plot.singular_set(KEY, ext)
    plot.save(figure, tmp_path / "singular.png")
    bars: Any = figure.axes[3].patches
    assert sum(bar.get_height() for bar in bars) == (0 if threshold is None else 64)


def test_a_cut_that_is_nearly_zero_leaves_the_bars_countable(ext):
    shown = axes()
    plot.draw_angles(shown, replace(ext, threshold=jnp.float32(1e-6)))
    assert len(shown.patches) < 1000


def test_near_targets_have_near_colours():
    colours = plot.target_colours(Y)
    assert ((colours >= 0) & (colours <= 1)).all()
    gap = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    same = np.equal.outer(np.arange(30) < 15, np.arange(30) < 15)
    assert gap[same].mean() < gap[~same].mean() / 2


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="`mu` has dimension 3; only transport in the plane"):
        plot.plane(KEY, Gaussian(3), Y, H)
    with pytest.raises(ValueError, match="`half_width` is None, but Empirical"):
        plot.draw_cells(axes(), Empirical(jnp.asarray(Y)), Y, H)
    with pytest.raises(ValueError, match=r"`half_width` is -1\.0"):
        plot.draw_cells(axes(), Gaussian(2), Y, H, half_width=-1.0)
    with pytest.raises(ValueError, match=r"`h` has shape \(3,\)"):
        plot.draw_triangulation(axes(), Y, H[:3])

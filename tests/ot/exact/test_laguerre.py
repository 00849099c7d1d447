"""The triangulation is dual to the diagram; discs cut exactly."""

import numpy as np
import pytest
from problems import constructed_2d
from scipy.spatial import ConvexHull, Delaunay

from aeot_jax.ot.exact.laguerre import build, clip_to_disc, power_cells, triangulation

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(60, 2))


def voronoi(y):
    return -(y**2).sum(1) / 2


def sets(triangles):
    return {frozenset(map(int, corners)) for corners in triangles}


def signed_areas(y, triangles):
    a, b, c = (y[triangles[:, i]] for i in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def test_voronoi_heights_give_delaunays_triangulation():
    assert sets(triangulation(Y, voronoi(Y))) == sets(Delaunay(Y).simplices)
    # Shifting targets and scaling all changes no triangle.
    moved = 1e3 * (Y + np.array([5.0, -3.0]))
    assert sets(triangulation(moved, voronoi(moved))) == sets(Delaunay(Y).simplices)


def test_edges_join_the_targets_of_adjacent_cells():
    problem = constructed_2d(3, 80)
    triangles = triangulation(problem.y, problem.h_exact)
    edges = {frozenset((t[i], t[i - 1])) for t in triangles.tolist() for i in range(3)}
    # In a square so large that no vertex of the diagram is outside, up to nearly parallel faces.
    diagram = build(problem.y, problem.h_exact, 1e4)
    inner = diagram.right >= 0
    faces = np.stack([diagram.left, diagram.right], axis=1)[inner]
    assert {frozenset(pair) for pair in faces.tolist()} == edges


@pytest.mark.parametrize("side", [3, 6])
def test_triangles_tile_the_hull_even_of_a_grid(side):
    grid = np.stack(np.meshgrid(*2 * [np.arange(side)]), axis=-1).reshape(-1, 2) / 1.0
    for y in (grid, Y):
        areas = signed_areas(y, triangulation(y, voronoi(y)))
        assert (areas > 0).all()
        assert areas.sum() == pytest.approx(ConvexHull(y).volume)


def test_a_target_of_an_empty_cell_is_no_vertex():
    h = voronoi(Y)
    inside = np.argmin((Y**2).sum(1))
    for lower in (h[inside] - 5, -np.inf):
        h[inside] = lower
        assert inside not in triangulation(Y, h)


def test_targets_on_a_line_have_no_triangle():
    line = np.column_stack([np.arange(5.0), 2 * np.arange(5.0)])
    assert triangulation(line, voronoi(line)).shape == (0, 3)
    assert triangulation(Y[:2], np.zeros(2)).shape == (0, 3)


def test_a_disc_cuts_cells_that_still_tile_it():
    cells = power_cells(Y, voronoi(Y), half_width=2.0)
    cut = [clip_to_disc(cell, 1.5, 64) for cell in cells]
    regular = 32 * 1.5**2 * np.sin(2 * np.pi / 64)
    total = sum(ConvexHull(cell).volume for cell in cut if len(cell) > 2)
    assert total == pytest.approx(regular, rel=1e-9)
    for cell, before in zip(cut, cells, strict=True):
        if len(before) and np.hypot(*before.T).max() < 1.49:
            np.testing.assert_array_equal(cell, before)
        if len(cell):
            assert np.hypot(*cell.T).max() <= 1.5 + 1e-9


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="triangles are of targets of the plane"):
        triangulation(np.arange(3.0), np.zeros(3))
    with pytest.raises(ValueError, match=r"`h` has shape \(2,\)"):
        triangulation(Y, np.zeros(2))

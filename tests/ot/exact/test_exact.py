"""The float64 reference, judged by construction, closed forms, sampling and invariance."""

import numpy as np
import pytest
from problems import (
    Problem,
    constructed_2d,
    duplicated,
    grid_problem,
    one_dim,
    permuted,
    product_2d,
    with_zero_weights,
)
from scipy.integrate import quad
from scipy.stats import norm

import aeot_jax as aeot
from aeot_jax.ot.exact.densities import DENSITIES
from aeot_jax.ot.exact.exact import exact_masses, mass_jacobian, solve_exact
from aeot_jax.ot.exact.laguerre import build, power_cells

SOURCES = ("uniform", "gaussian")

PROBLEMS = [
    grid_problem(7),
    *(constructed_2d(0, 300, s) for s in SOURCES),
    *(one_dim(1, 50, s) for s in SOURCES),
    *(product_2d(2, 8, s) for s in SOURCES),
]
VARIANTS = [
    variant(problem, 3)
    for variant in (permuted, duplicated, with_zero_weights)
    for problem in (grid_problem(5), constructed_2d(4, 40, "gaussian"), one_dim(5, 20, "gaussian"))
]


def draw(rng: np.random.Generator, source: str, n: int, d: int) -> np.ndarray:
    return rng.uniform(-0.5, 0.5, (n, d)) if source == "uniform" else rng.normal(size=(n, d))


def winners(x: np.ndarray, y: np.ndarray, h: np.ndarray) -> np.ndarray:
    return (x @ y.T + h).argmax(1)


def clipped_area(y: np.ndarray, h: np.ndarray, i: int) -> float:
    """Area of one cell of the unit square, cut by one half-plane after the other."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    for j in np.flatnonzero(np.arange(len(y)) != i):
        lead = corners @ (y[i] - y[j]) + h[i] - h[j]
        kept = []
        for a, b, p, q in zip(
            lead, np.roll(lead, -1), corners, np.roll(corners, -1, 0), strict=True
        ):
            kept += [p] if a >= 0 else []
            kept += [p + (q - p) * a / (a - b)] if (a >= 0) != (b >= 0) else []
        corners = np.array(kept).reshape(-1, 2)
    following = np.roll(corners, -1, axis=0)
    return float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum() / 2)


@pytest.mark.parametrize("problem", PROBLEMS + VARIANTS, ids=lambda p: p.name)
def test_heights_made_by_construction_are_found(problem: Problem):
    found = solve_exact(problem.y, problem.nu, source=problem.source, tolerance=1e-10)
    assert found.converged
    assert found.mass_error <= 1e-10
    active = problem.nu > 0
    assert problem.nu[active] @ found.h[active] == pytest.approx(0, abs=1e-12)
    assert (found.h[~active] == -np.inf).all()
    # An error of 1e-10 in the masses moves heights by about its product with the spread of y.
    spread = np.ptp(problem.y)
    np.testing.assert_allclose(found.h[active], problem.h_exact[active], atol=1e-9 * spread)
    np.testing.assert_allclose(found.masses, problem.nu, atol=1e-10)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("d", [1, 2])
def test_masses_agree_with_sampling(source: str, d: int):
    rng = np.random.default_rng(6)
    m, n = 30, 400_000
    y = rng.normal(size=(m, d))
    y[7] = y[3]
    h = 0.1 * rng.normal(size=m)
    h[[7, 9]] = h[3], -np.inf
    masses = exact_masses(y, h, source=source)
    assert masses.sum() == pytest.approx(1, abs=1e-12)
    assert (masses == 0).sum() >= 3  # the duplicate, the one at -inf and hidden ones
    counts = np.bincount(winners(draw(rng, source, n, d), y, h), minlength=m)
    error = np.sqrt(n * masses * (1 - masses))
    assert (np.abs(counts - n * masses) <= 5 * error + 1).all()


@pytest.mark.parametrize("source", SOURCES)
def test_first_moments_agree_with_sampling(source: str):
    rng = np.random.default_rng(7)
    y = rng.normal(size=(12, 2))
    h = -(y**2).sum(1) / 2
    density = DENSITIES[source]
    masses, moments = density.cell_integrals(build(y, h, density.half_width))
    np.testing.assert_allclose(moments.sum(0), 0, atol=1e-13)
    n = 200_000
    x = draw(rng, source, n, 2)
    index = winners(x, y, h)
    for axis in range(2):
        sampled = np.bincount(index, x[:, axis], 12) / n
        bound = 5 * np.sqrt(np.bincount(index, x[:, axis] ** 2, 12)) / n
        assert (np.abs(sampled - moments[:, axis]) <= bound + 1e-12).all()
    assert masses.sum() == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("source", SOURCES)
def test_the_hessian_is_the_derivative_of_the_masses(source: str):
    rng = np.random.default_rng(8)
    y = rng.uniform(-0.5, 0.5, (15, 2))
    h = -(y**2).sum(1) / 2
    density = DENSITIES[source]
    hessian = mass_jacobian(y, build(y, h, density.half_width), density).toarray()
    np.testing.assert_allclose(hessian.sum(1), 0, atol=1e-12)
    np.testing.assert_array_equal(hessian, hessian.T)
    step = 1e-6
    for i in range(15):
        bump = step * (np.arange(15) == i)
        up, down = (exact_masses(y, h + sign * bump, source=source) for sign in (1, -1))
        # Central differences: step^2 from the truncation, 1e-16 / step from rounding.
        np.testing.assert_allclose(hessian[i], (up - down) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("source", SOURCES)
def test_newton_is_quadratic(source: str):
    rng = np.random.default_rng(9)
    y = rng.uniform(size=(200, 2))
    errors = np.array(
        [solve_exact(y, source=source, tolerance=1e-13, max_steps=k).mass_error for k in range(9)]
    )
    tail = errors[(errors < 0.1) & (errors > 1e-11)]
    assert len(tail) >= 2
    assert errors.min() < 1e-11
    assert (tail[1:] <= 20 * tail[:-1] ** 2).all()


@pytest.mark.parametrize("source", SOURCES)
def test_shift_and_scale_move_no_cell(source: str):
    rng = np.random.default_rng(10)
    y, nu = rng.normal(size=(60, 2)), rng.dirichlet(np.full(60, 2.0))
    base = solve_exact(y, nu, source=source)
    for scale, shift in ((1e-12, 0.0), (1e12, 0.0), (3.0, 50.0)):
        moved = solve_exact(scale * (y + shift), nu, source=source)
        assert moved.converged
        np.testing.assert_allclose(moved.h / scale, base.h, atol=1e-8)
        second = 2 * DENSITIES[source].variance
        spread = nu @ ((y + shift) ** 2).sum(1)
        correlation = (base.w2_squared - second - nu @ (y**2).sum(1)) * scale
        expected = second + scale**2 * spread + correlation
        assert moved.w2_squared == pytest.approx(expected, rel=1e-9)


def test_rotation_leaves_the_gaussian_alone():
    rng = np.random.default_rng(11)
    y = rng.normal(size=(80, 2)) * [2.0, 0.5]
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    base, turned = (solve_exact(a, source="gaussian") for a in (y, y @ turn))
    np.testing.assert_allclose(turned.h, base.h, atol=1e-9)
    assert turned.w2_squared == pytest.approx(base.w2_squared, rel=1e-10)


@pytest.mark.parametrize("source", SOURCES)
def test_targets_on_a_coordinate_axis_are_a_problem_of_the_line(source: str):
    line = one_dim(12, 25, source)
    flat = solve_exact(line.y, line.nu, source=source)
    plane = solve_exact(np.column_stack([np.ones(25), line.y]), line.nu, source=source)
    np.testing.assert_allclose(plane.h, flat.h, atol=1e-8)
    # The other coordinate goes from the source to 1.
    expected = flat.w2_squared + DENSITIES[source].variance + 1
    assert plane.w2_squared == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("source", SOURCES)
def test_the_distance_on_the_line_is_the_integral_over_quantiles(source: str):
    problem = one_dim(13, 6, source)
    order = problem.y[:, 0].argsort()
    y, nu = problem.y[order, 0], problem.nu[order]
    law = norm if source == "gaussian" else None
    cut = np.r_[0.0, np.cumsum(nu)[:-1], 1.0]
    total = 0.0
    for target, a, b in zip(y, cut[:-1], cut[1:], strict=True):
        quantile = law.ppf if law else (lambda p: p - 0.5)
        total += quad(lambda p, t=target, q=quantile: (q(p) - t) ** 2, a, b, epsabs=1e-12)[0]
    assert solve_exact(y, nu, source=source).w2_squared == pytest.approx(total, rel=1e-8)


def test_the_distance_to_a_grid_is_the_variance_of_a_cell():
    for k in (1, 3, 10):
        found = solve_exact(grid_problem(k).y)
        assert found.w2_squared == pytest.approx(1 / (6 * k**2), rel=1e-12)


@pytest.mark.parametrize("source", SOURCES)
def test_the_distance_agrees_with_sampling(source: str):
    rng = np.random.default_rng(14)
    y, nu = rng.normal(size=(20, 2)), rng.dirichlet(np.full(20, 2.0))
    found = solve_exact(y, nu, source=source)
    x = draw(rng, source, 200_000, 2)
    cost = ((x - y[winners(x, y, found.h)]) ** 2).sum(1)
    assert abs(cost.mean() - found.w2_squared) <= 5 * cost.std() / np.sqrt(len(x))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("d", [1, 2])
def test_one_target_takes_everything(source: str, d: int):
    found = solve_exact([[2.0] * d], source=source)
    np.testing.assert_array_equal(found.h, [0.0])
    assert found.masses == pytest.approx([1.0], abs=1e-15)
    assert found.w2_squared == pytest.approx(d * (4 + DENSITIES[source].variance))


@pytest.mark.parametrize(
    "y",
    [
        [[0.0, 0.0], [1.0, 1.0]],
        [[0.0, 0.0], [1.0, 1.0], [3.0, 3.0]],
        [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]],
        [[0.0, 0.0], [0.0, 0.0], [2.0, 1.0]],
    ],
    ids=["two", "diagonal", "axis", "duplicate"],
)
@pytest.mark.parametrize("source", SOURCES)
def test_degenerate_targets_are_solved(y: list, source: str):
    nu = np.arange(1.0, len(y) + 1)
    found = solve_exact(y, nu / nu.sum(), source=source)
    assert found.converged
    np.testing.assert_allclose(found.masses, nu / nu.sum(), atol=1e-9)


def test_clusters_and_a_curve_are_solved():
    rng = np.random.default_rng(15)
    centre = np.stack(np.meshgrid([-4, 0, 4], [-4, 0, 4]), axis=-1).reshape(-1, 2)
    clusters = centre[rng.integers(9, size=300)] + 0.01 * rng.normal(size=(300, 2))
    angle = rng.uniform(3, 12, 300)
    roll = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for y in (clusters, roll):
        for source in SOURCES:
            found = solve_exact(y, source=source)
            assert found.converged
            assert found.num_steps <= 20


def test_cells_tile_the_square_and_hold_their_points():
    rng = np.random.default_rng(16)
    y = rng.normal(size=(40, 2))
    h = -(y**2).sum(1) / 2 + 0.1 * rng.normal(size=40)
    cells = power_cells(y, h)
    assert len(cells) == 40
    area = np.zeros(40)
    for i, corners in enumerate(cells):
        if len(corners):
            following = np.roll(corners, -1, axis=0)
            turn = corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]
            area[i] = turn.sum() / 2
            assert np.abs(corners).max() <= 0.5 + 1e-14
            assert winners(corners.mean(0)[None], y, h)[0] == i
    assert (area == 0).any()  # some cells are barrier, and empty polygons
    np.testing.assert_allclose(area, exact_masses(y, h), atol=1e-14)
    assert area.sum() == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("kind", ["lattice", "flat", "collinear", "circle", "thin"])
def test_areas_survive_degenerate_targets(kind: str):
    rng = np.random.default_rng(18)
    for _ in range(8):
        m = rng.integers(2, 20)
        angle = rng.integers(0, 12, m) * np.pi / 6
        y = {
            "lattice": rng.integers(-2, 3, (m, 2)) / 1.0,
            "flat": rng.integers(-3, 4, (m, 2)) / 3,
            "collinear": np.outer(rng.integers(-5, 6, m), [1.0, 2.0]) / 7,
            "circle": np.stack([np.cos(angle), np.sin(angle)], axis=1).round(14),
            "thin": rng.normal(size=(m, 2)) * [1.0, 1e-6],
        }[kind]
        y = np.unique(y, axis=0)
        h = -(y**2).sum(1) / 2
        if kind in ("lattice", "thin"):
            h = rng.choice([0.0, -0.5, -1.0, 0.25], len(y))
        expected = [clipped_area(y, h, i) for i in range(len(y))]
        np.testing.assert_allclose(exact_masses(y, h), expected, atol=1e-11)


def test_an_edge_on_a_wall_belongs_to_the_cell_inside():
    y = np.stack(np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]), axis=-1).reshape(-1, 2)
    masses = exact_masses(y, -(y**2).sum(1) / 2)  # Voronoi edges at +-1/2
    np.testing.assert_allclose(masses, np.arange(9) == 4, atol=1e-14)
    np.testing.assert_allclose(exact_masses(y, np.zeros(9))[[0, 2, 6, 8]], 0.25, atol=1e-14)


def test_a_stopped_solve_says_so():
    y = np.random.default_rng(17).uniform(size=(50, 2))
    stopped = solve_exact(y, max_steps=1)
    assert not stopped.converged
    assert stopped.num_steps == 1
    impossible = solve_exact(y, tolerance=1e-30)
    assert not impossible.converged
    assert impossible.mass_error < 1e-11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": np.zeros((4, 3))}, r"dimension 3.*aeot_jax\.solve"),
        ({"y": np.zeros((0, 2))}, r"shape \(0, 2\)"),
        ({"y": [[0.0, np.nan]]}, "`y` is nan at 0, 1"),
        ({"y": np.eye(2), "nu": [0.5, 0.6]}, r"sums to 1\.1"),
        ({"y": np.eye(2), "nu": [1.5, -0.5]}, "-0.5 at target 1"),
        ({"y": np.eye(2), "nu": [0.0, 0.0]}, r"sums to 0\.0"),
        ({"y": np.eye(2), "nu": [1.0]}, r"shape \(1,\)"),
        ({"y": np.eye(2), "source": "ball"}, "'ball'.*uniform, gaussian"),
        ({"y": np.eye(2), "tolerance": 0.0}, "`tolerance` is 0.0"),
        ({"y": np.eye(2), "max_steps": -1}, "`max_steps` is -1"),
    ],
)
def test_bad_input_is_named(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        solve_exact(**options)


@pytest.mark.parametrize(
    ("h", "message"),
    [
        ([0.0], r"shape \(1,\)"),
        ([0.0, np.nan], "nan at 1; pass finite numbers or -inf"),
        ([-np.inf] * 2, "at least"),
    ],
)
def test_bad_heights_are_named(h: list, message: str):
    for function in (exact_masses, power_cells):
        with pytest.raises(ValueError, match=message):
            function(np.eye(2), h)


def test_a_measure_says_the_source():
    y = np.random.default_rng(0).normal(size=(30, 2))
    for mu, name in ((aeot.Gaussian(2), "gaussian"), (aeot.UniformCube(2), "uniform")):
        for nu in (None, np.arange(1, 31) / 465):
            found = aeot.solve_exact(mu, y, nu)
            np.testing.assert_array_equal(found.h, aeot.solve_exact(y, nu, source=name).h)


def test_a_source_that_is_not_exact_is_refused():
    y = np.zeros((3, 2)) + np.arange(3)[:, None]
    with pytest.raises(ValueError, match=r"`mu` is UniformBall\(dim=2\); pass a Gaussian or"):
        aeot.solve_exact(aeot.UniformBall(2), y)
    with pytest.raises(ValueError, match="`mu` has dimension 1"):
        aeot.solve_exact(aeot.Gaussian(1), y)
    with pytest.raises(ValueError, match="`source` is 'gaussian' beside the measure `mu`"):
        aeot.solve_exact(aeot.Gaussian(2), y, source="gaussian")
    with pytest.raises(ValueError, match="`y` is None"):
        aeot.solve_exact(aeot.Gaussian(2))

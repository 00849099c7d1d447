"""The Wasserstein distance: its bounds, judged by exact references and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Problem, duplicated, grid_problem, one_dim, product_2d, with_zero_weights
from scipy.stats import norm

from aeot_jax.measures import Empirical, Gaussian, UniformCube
from aeot_jax.ot.duality.distance import Distance, wasserstein
from aeot_jax.ot.duality.repair import curve_order, plan_along
from aeot_jax.ot.exact.exact import exact_masses, solve_exact

SEEDS = range(20)
N = 20_000
# All have 64 targets, so that few kernels are compiled.
PROBLEMS = [
    one_dim(1, 64, "gaussian"),
    with_zero_weights(one_dim(2, 32, "gaussian"), 0),
    duplicated(one_dim(3, 32, "gaussian"), 0),
    product_2d(4, 8, "gaussian"),
]


def bounds(problem: Problem, h: np.ndarray, seed: int) -> Distance:
    mu = Gaussian(problem.y.shape[1])
    return wasserstein(jax.random.key(seed), mu, problem.y, h, problem.nu, N)


def w2_squared(problem: Problem) -> float:
    return solve_exact(problem.y, problem.nu, source=problem.source).w2_squared


def deviations(found: list[Distance], name: str, truth: float) -> np.ndarray:
    """Errors in standard errors."""
    value = np.array([getattr(d, name) for d in found], np.float64)
    return (value - truth) / np.array([getattr(d, f"{name}_se") for d in found])


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_exact_heights_give_the_exact_distance(problem: Problem):
    truth = w2_squared(problem)
    found = [bounds(problem, problem.h_exact, seed) for seed in SEEDS]
    for name, expected in (
        ("lower_squared", truth),
        ("cost", truth),
        ("residual", 0.0),
        ("lower", truth**0.5),
    ):
        z = deviations(found, name, expected)
        assert np.abs(z).max() <= 3, name
        assert 0.5 < np.sqrt((z**2).mean()) < 1.6, name  # the errors stated are the errors made


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_any_heights_enclose_the_distance(problem: Problem):
    truth = w2_squared(problem)
    rng = np.random.default_rng(0)
    for seed, size in enumerate((0.0, 0.1, 1.0, 10.0)):
        h = problem.h_exact + size * rng.normal(size=len(problem.nu))
        d = bounds(problem, h, seed)
        assert d.lower_squared - 3 * d.lower_squared_se <= truth
        assert truth <= d.upper_squared + 3 * d.upper_squared_se
        # On one draw: weak duality for the samples themselves.
        assert d.lower_squared <= d.upper_squared * (1 + 1e-5)


@pytest.mark.parametrize("problem", PROBLEMS[::3], ids=lambda p: p.name)
def test_wrong_heights_have_the_dual_value_and_the_cost_of_their_own_masses(problem: Problem):
    h = problem.h_exact + 0.3 * np.cos(np.arange(len(problem.nu)))
    masses = exact_masses(problem.y, h, source=problem.source)
    psi = h + (problem.y**2).sum(1) / 2
    # T is optimal for the masses that it makes, so their transport is solved without h.
    cost = solve_exact(problem.y, masses, source=problem.source).w2_squared
    residual = (masses - problem.nu) @ psi
    found = [bounds(problem, h, seed) for seed in SEEDS]
    for name, expected in (
        ("cost", cost),
        ("residual", residual),
        ("lower_squared", cost - 2 * residual),
    ):
        assert np.abs(deviations(found, name, expected)).max() <= 3.2, name


def test_upper_bound_holds_in_the_mean_and_its_error_is_the_spread():
    problem = PROBLEMS[3]
    truth = w2_squared(problem)
    h = problem.h_exact + 0.3 * np.cos(np.arange(64))
    found = [bounds(problem, h, seed) for seed in SEEDS]
    upper = np.array([d.upper_squared for d in found])
    assert upper.mean() >= truth
    stated = np.sqrt(np.mean([float(d.upper_squared_se) ** 2 for d in found]))
    assert 0.5 < stated / upper.std(ddof=1) < 2  # 20 draws


@pytest.mark.parametrize("offset", [2.0**10, 2.0**16])
def test_bounds_are_in_order_where_their_gap_is_below_the_rounding_of_the_distance(offset: float):
    """Far targets: the square of the offset has no digits left for what heights miss."""
    problem = PROBLEMS[3]
    h = problem.h_exact + 0.1 * np.cos(np.arange(64))
    y = np.round(problem.y * 64) / 64 + offset
    for seed in SEEDS:
        d = wasserstein(jax.random.key(seed), Gaussian(2), y, h, problem.nu, N)
        assert d.lower_squared <= d.upper_squared


def test_bounds_meet_on_the_line():
    problem = PROBLEMS[0]
    d = bounds(problem, problem.h_exact, 0)
    assert d.upper_squared - d.lower_squared < 1e-3 * d.upper_squared


def test_quantised_gaussian_has_its_closed_form():
    # y_i are the means of 64 cells of equal mass: W2^2 = 1 - mean y^2.
    cut = norm.ppf(np.linspace(0, 1, 65))
    y = 64 * (norm.pdf(cut[:-1]) - norm.pdf(cut[1:]))
    h = np.r_[0.0, -np.cumsum(cut[1:-1] * np.diff(y))]
    truth = 1 - (y**2).mean()
    found = [wasserstein(jax.random.key(s), Gaussian(1), y[:, None], h, None, N) for s in SEEDS]
    for name in ("lower_squared", "cost"):
        assert np.abs(deviations(found, name, truth)).max() <= 3
    for d in found:
        assert truth <= d.upper_squared + 3 * d.upper_squared_se


def test_uniform_source_on_a_grid_has_its_closed_form():
    problem = grid_problem(8)
    truth = 1 / (6 * 8**2)
    found = [
        wasserstein(jax.random.key(s), UniformCube(2), problem.y, problem.h_exact, None, N)
        for s in SEEDS
    ]
    for name in ("lower_squared", "cost"):
        assert np.abs(deviations(found, name, truth)).max() <= 3
    assert np.abs(deviations(found, "residual", 0.0)).max() <= 3
    for d in found:
        assert truth <= d.upper_squared + 3 * d.upper_squared_se


def test_scaling_everything_scales_the_distance():
    problem = PROBLEMS[3]
    points = np.random.default_rng(0).normal(size=(1000, 2))

    def found(scale: float) -> Distance:
        y, h = scale * problem.y, scale**2 * problem.h_exact
        mu = Empirical(jnp.asarray(scale * points, jnp.float32))
        return wasserstein(jax.random.key(0), mu, y, h, problem.nu, N)

    plain = found(1.0)
    for scale in (1e-12, 1e12):
        scaled = found(scale)
        for name in ("lower", "lower_se", "upper", "upper_se"):
            expected = scale * float(getattr(plain, name))
            assert float(getattr(scaled, name)) == pytest.approx(expected, rel=1e-3)


def test_one_target_leaves_nothing_to_choose():
    y = jnp.array([[1.0, 2.0]])
    d = wasserstein(jax.random.key(0), Gaussian(2), y, jnp.zeros(1), None, N)
    assert d.residual == 0
    assert d.lower_squared == d.upper_squared == d.cost
    assert abs(d.cost - 7) <= 3 * d.cost_se  # d + |y|^2


def test_a_target_that_cannot_be_reached_makes_the_lower_bound_trivial():
    problem = PROBLEMS[3]
    h = np.where(np.arange(64) == 5, -np.inf, problem.h_exact)
    d = bounds(problem, h, 0)
    assert d.lower_squared == -jnp.inf
    assert d.lower == 0
    assert w2_squared(problem) <= d.upper_squared + 3 * d.upper_squared_se < jnp.inf


def test_num_samples_is_rounded_up_to_whole_streams():
    problem = PROBLEMS[3]
    assert bounds(problem, problem.h_exact, 0).num_samples == 20_480


def test_a_plan_has_its_marginals_and_fills_the_line_in_order():
    rng = np.random.default_rng(0)
    a, b = (rng.dirichlet(np.ones(20)).astype(np.float32) for _ in range(2))
    y = rng.normal(size=(20, 1)).astype(np.float32)
    order = curve_order(jnp.asarray(y))
    np.testing.assert_array_equal(order, np.argsort(y[:, 0]))
    i, j, mass = plan_along(jnp.asarray(a), jnp.asarray(b), order)
    np.testing.assert_allclose(np.bincount(i, mass, 20), a, atol=1e-6)
    np.testing.assert_allclose(np.bincount(j, mass, 20), b, atol=1e-6)
    used = np.asarray(mass) > 0
    assert (np.diff(y[np.asarray(i)[used], 0]) >= 0).all()
    assert (np.diff(y[np.asarray(j)[used], 0]) >= 0).all()


def test_the_curve_keeps_neighbours_together():
    y = jax.random.uniform(jax.random.key(0), (1000, 2))
    order = np.asarray(curve_order(y))
    assert sorted(order) == list(range(1000))
    step = np.linalg.norm(np.diff(np.asarray(y)[order], axis=0), axis=1)
    assert step.mean() < 4 / np.sqrt(1000)  # random order: 0.52


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 1}, "`num_samples` is 1"),
        ({"mu": Gaussian(3)}, "`mu` has dimension 3"),
        ({"h": np.full(64, np.nan)}, "`h` is nan at 0"),
        ({"nu": np.ones(64)}, "`nu` sums to 64"),
    ],
)
def test_mistakes_are_explained(change: dict, message: str):
    problem = PROBLEMS[3]
    good = {"mu": Gaussian(2), "y": problem.y, "h": problem.h_exact, "nu": problem.nu}
    with pytest.raises(ValueError, match=message):
        wasserstein(jax.random.key(0), **{**good, **change})

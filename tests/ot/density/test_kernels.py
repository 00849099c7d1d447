import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from aeot_jax import kernels, log_density
from aeot_jax.ot.density import fit, grouping, leaving
from aeot_jax.ot.density import kernels as density
from aeot_jax.ot.density.families import families
from aeot_jax.ot.density.grouping import Groups, Planes, together
from aeot_jax.ot.density.moments import axes, moments

M = 150


def codes(d, seed=0):
    """Codes in two clusters of different shapes, far from the origin."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(M, d)) @ np.diag(np.linspace(1, 0.4, d)) + 3
    y[: M // 3] = 0.3 * y[: M // 3] - 2
    return y.astype(np.float32)


def by_hand(z, y, group, weight, s, family=None):
    """The log-density in float64 by the formulas of the modules, kernel by kernel."""
    names = np.unique(group)
    family = dict.fromkeys(names, 0) if family is None else dict(enumerate(family))
    parts = {g: y[group == g] for g in names}
    scatter = {g: (own - own.mean(0)).T @ (own - own.mean(0)) for g, own in parts.items()}
    total = np.zeros(len(z))
    for g, own in parts.items():
        kin = [k for k in names if family[k] == family[g]]
        pooled = sum(scatter[k] for k in kin) / sum(len(parts[k]) for k in kin)
        covariance = (scatter[g] + weight * pooled) / (len(own) + weight)
        for code in own:
            centre = own.mean(0) + np.sqrt(1 - s) * (code - own.mean(0))
            total += multivariate_normal(centre, s * covariance).pdf(z)
    return np.log(total / len(y))


def of_all(z, y, found):
    """``by_hand`` of learned kernels."""
    points, own, group = z.astype(float), y.astype(float), np.asarray(found.group)
    family = moments(own, group).family
    return by_hand(points, own, group, y.shape[1], float(found.width), family).ravel()


@pytest.fixture(scope="module", params=[1, 2])
def plane(request):
    y = codes(request.param)
    return y, kernels(y)


def test_the_density_integrates_to_one(plane):
    y, found = plane
    d = y.shape[1]
    # Finer than the narrowest kernel, where the trapezoid rule converges beyond all orders.
    step = 0.5 * np.sqrt(float(found.width)) * np.asarray(found.deviations).min()
    axes = [np.arange(y[:, i].min() - 4, y[:, i].max() + 4, step) for i in range(d)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, d)
    assert len(points) < 100_000
    mass = np.exp(np.asarray(log_density(points, y, found), np.float64)).sum() * step**d
    np.testing.assert_allclose(mass, 1, rtol=1e-3)


def test_the_density_equals_a_sum_over_kernels_in_float64(plane):
    y, found = plane
    z = y[:40] + 0.3
    expected = of_all(z, y, found)
    np.testing.assert_allclose(log_density(z, y, found), expected, atol=2e-4)
    alone = jax.jit(log_density)(z[0], y, found)
    np.testing.assert_allclose(alone, expected[0], atol=2e-4)


def check_left_out(y, group, made):
    """Leaving a code out equals learning without it."""
    widths = np.array([0.2, 0.7, 1.0])
    rows = np.arange(0, M, 25)
    found = leaving.left_out(y, rows, made, 2.0, widths)
    for place, row in enumerate(rows):
        others = np.delete(np.arange(M), row)
        without = y[[row]], y[others], group[others], 2.0
        expected = [by_hand(*without, s, made.family).item() for s in widths]
        np.testing.assert_allclose(found[:, place], expected, rtol=1e-9)


@pytest.mark.parametrize(("tighter", "number"), [(1.0, 1), (0.01, 2)])
def test_leaving_out_equals_learning_without(tighter, number):
    d = 3
    y = codes(d).astype(np.float64)
    y[: M // 3] = tighter * (y[: M // 3] + 2) - 2
    group = together(y, 20)
    group[0] = group.max() + 1  # a group of one vanishes with its code
    made = moments(y, group)
    assert len(made.sizes) == number
    check_left_out(y, group, made)


def test_leaving_out_equals_learning_without_among_families_of_neighbours():
    y = codes(3).astype(np.float64)
    group = together(y, 20)
    check_left_out(y, group, moments(y, group, family=np.arange(group.max() + 1) % 2))


def test_families_are_of_about_equal_spread_and_of_enough_codes():
    """Groups of twenty codes in the plane; a family needs six beyond one for each of its groups."""

    def found(deviations, counts=20):
        k = len(deviations)
        mean = np.arange(2.0 * k).reshape(k, 2)
        covariance = np.square(deviations)[:, None, None] * np.eye(2)
        return families(np.full(k, counts), mean, covariance).tolist()

    assert found([1, 2, 4, 8]) == [0, 0, 0, 0]  # however far in all, without a gap
    assert found([1, 0.1, 2, 30]) == [1, 0, 1, 2]
    assert found([1, 0.1, 2, 30], counts=4) == [0, 0, 0, 0]
    assert found([1, 1, 0.1, 0.1, 0.1], counts=3) == [0, 0, 0, 0, 0]
    assert found([1, 1, 1, 0.1, 0.1, 0.1], counts=3) == [1, 1, 1, 0, 0, 0]
    assert found([0, 1, 1, 0.1, 0]) == [1, 1, 1, 0, 0]  # copies: as the group beside them


def test_held_out_points_have_the_same_density_on_the_host(plane):
    y, found = plane
    z = y[:20].astype(np.float64) - 0.2
    np.testing.assert_allclose(log_density(z, y, found), of_all(z, y, found), atol=2e-4)


def test_groups_keep_mean_and_covariance_at_every_width():
    """Of the whole mixture, whatever the share s; the pooled part changes single groups only."""
    y = codes(3).astype(np.float64)
    made = moments(y, together(y, 40))
    pooled = np.einsum("k,kab->ab", made.counts / M, made.shrunk(0.0))
    between = np.cov((made.mean[made.group]).T, bias=True)
    np.testing.assert_allclose(between + pooled, np.cov(y.T, bias=True), rtol=1e-10)


def test_pieces_are_those_of_the_whole_matrix_of_distances():
    rng = np.random.default_rng(0)
    for n, chord in ((1, 0.1), (40, 0.0), (900, 0.03), (900, 0.06), (900, 3.0)):
        normals = rng.uniform(size=(n, 2))
        near = cdist(normals, normals) <= chord
        number, expected = connected_components(near, directed=False)
        found = grouping.pieces(normals, chord)
        assert found.max() + 1 == number
        np.testing.assert_array_equal(found, expected)


def test_a_mode_of_many_codes_is_one_group(monkeypatch):
    """Groups that hold parts of it overlap: too many new codes would lie near its middle."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(1200, 2)) + 30 * np.eye(2)[np.arange(1200) % 2]
    found = kernels(y)
    assert len(found.counts) <= 3
    assert found.width == 1
    monkeypatch.setattr(fit, "_SIZES", fit._SIZES[:3])
    parts = kernels(y)
    assert len(parts.counts) > 20
    assert parts.log_likelihood < found.log_likelihood - 0.02


def test_the_order_of_the_codes_changes_nothing():
    y = codes(2)
    order = np.random.default_rng(1).permutation(M)
    one, other = kernels(y), kernels(y[order])
    z = y[:40] + 0.1
    # 500 codes at most are left out, which here are all of them.
    np.testing.assert_allclose(
        log_density(z, y, one), log_density(z, y[order], other), rtol=1e-4, atol=1e-4
    )


def test_no_group_lies_on_both_sides_of_a_gap():
    y = codes(2).astype(np.float64)
    side = np.arange(M) < M // 3
    apart = together(y, M, Planes(np.where(side, 0.0, 1.0)[:, None], 0.5))
    assert len(np.unique(together(y, M))) == 1
    assert len(np.unique(apart)) == 2
    assert (apart[side] == apart[0]).all()


def test_copies_count_once_where_codes_are_left_out_and_each_in_the_density():
    """A code that is left out is near to its own copy, and would ask for kernels of no width."""
    y = codes(2)
    alone, twice = kernels(y), kernels(np.concatenate([y, y]))
    assert float(twice.width) == float(alone.width)
    np.testing.assert_allclose(twice.log_likelihood, alone.log_likelihood, rtol=1e-6)
    heavy = np.concatenate([y, np.repeat(y[:1], M, axis=0)])
    found = kernels(heavy)
    side = np.linspace(-6, 8, 281)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    p = np.exp(np.asarray(log_density(grid, heavy, found), np.float64)) * 0.05**2
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-3)
    np.testing.assert_allclose(p @ grid, heavy.mean(0, dtype=np.float64), atol=0.01)


def test_moments_have_the_weights_of_the_codes():
    """Integers as weights are copies."""
    y = codes(3).astype(np.float64)
    group = together(y, 40)
    times = 1 + np.arange(M) % 4
    found = moments(y, group, times / times.sum())
    copied = moments(np.repeat(y, times, axis=0), np.repeat(group, times))
    for name in ("mean", "covariance", "pooled", "family"):
        np.testing.assert_allclose(getattr(found, name), getattr(copied, name), rtol=1e-10)
    np.testing.assert_array_equal(found.counts, np.bincount(group))
    none = moments(y, group, np.where(group == 0, 0.0, 1 / (group > 0).sum()))
    np.testing.assert_allclose(none.mean[0], y[group == 0].mean(0), rtol=1e-12)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros((10, 2)), "`y` has 10 codes in 2 dimensions"),
        (np.eye(30), "`y` has 30 codes in 30 dimensions"),
        (np.full((30, 2), np.nan), "`y`"),
        (np.ones((30, 2)), "`y` holds one code 30 times"),
        (np.repeat(np.eye(2), 30, axis=0), "`y` has 2 different codes in 2 dimensions"),
        (1e8 + codes(2), r"differ by 2, up to 1e\+08 from 0, .* subtract their mean first"),
        (1e-40 * codes(2), "`y` holds codes that differ by 2e-40, .* divide them by their scale"),
    ],
)
def test_what_kernels_cannot_be_learned_from(y, words):
    with pytest.raises(ValueError, match=words):
        kernels(y)


def test_kernels_of_other_codes_are_refused():
    y = codes(2)
    with pytest.raises(ValueError, match="pass the codes that they were learned from"):
        log_density(y, y[:20], kernels(y))


def test_groups_out_of_sight_change_no_digit(monkeypatch):
    """Kernels that add less than e^-50 of what is there are passed over."""
    y = np.concatenate([codes(2, seed) + 40 * seed for seed in range(3)]).astype(np.float64)
    group = together(y, 12)
    arguments = y, np.arange(0, 3 * M, 9), moments(y, group), 2.0, np.array([0.1, 0.5, 1.0])
    found = leaving.left_out(*arguments)
    monkeypatch.setattr(leaving, "_UNSEEN", np.inf)
    np.testing.assert_allclose(leaving.left_out(*arguments), found, rtol=1e-13)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_each_code_moves_to_the_group_that_suits_it_best(offset, monkeypatch):
    y = np.concatenate([codes(2, seed) + 3 * seed for seed in range(3)]).astype(np.float64) + offset
    made = moments(y, together(y, 15))
    vectors, deviations = axes(made, 2.0)
    scores = [
        np.log(count) + multivariate_normal(mean, (v * s**2) @ v.T).logpdf(y)
        for count, mean, v, s in zip(made.counts, made.mean, vectors, deviations, strict=True)
    ]
    best = np.argmax(scores, axis=0)
    monkeypatch.setattr(grouping, "_MOVES", 1)
    moved = grouping.settled(y, Groups(made.group), 2.0)
    np.testing.assert_array_equal(moved.group, np.unique(best, return_inverse=True)[1])


def test_rows_times_the_matrices_of_their_groups_take_bounded_memory(monkeypatch):
    rng = np.random.default_rng(0)
    rows, k = rng.normal(size=(50, 8)).astype(np.float32), rng.integers(0, 3, 50)
    matrices = rng.normal(size=(3, 8, 8)).astype(np.float32)
    expected = np.einsum("nd,nde->ne", rows, matrices[k])
    for most in (1 << 24, 64 * 7, 1):  # all, seven and one at a time
        monkeypatch.setattr(density, "MOST_NUMBERS", most)
        found = density.turned(*map(jnp.asarray, (rows, matrices, k)))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    monkeypatch.undo()
    many = jax.ShapeDtypeStruct((4096, 512), jnp.float32)
    wide = jax.ShapeDtypeStruct((2, 512, 512), jnp.float32)
    program = jax.jit(lambda rows, matrices: density.turned(rows, matrices, jnp.arange(4096) % 2))
    used = program.lower(many, wide).compile().memory_analysis()
    assert used is not None
    assert used.temp_size_in_bytes < 160 << 20  # matrices of all rows would take 4 GiB

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from aeot_jax import (
    Gaussian,
    SolverConfig,
    assign,
    calibrate,
    extension,
    generate,
    load,
    log_density,
    save,
    singular_set,
    solve_classes,
    solve_exact,
    transport,
)
from aeot_jax import kernels as learned
from aeot_jax.metrics import novelty_report
from aeot_jax.ot.extension import extension as extensions
from aeot_jax.ot.extension.extension import at_novelty
from aeot_jax.ot.extension.generate import extend as extend_eagerly
from aeot_jax.ot.extension.noise import gains, places

KEY = jax.random.key(0)
SHARE = 0.3
M, N = 400, 4096
SHARES = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.98])


def targets():
    """Two far modes of different sizes and shapes."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(M, 2)) * [0.3, 0.6] + [4.0, 0.0]
    few = int(SHARE * M)
    y[:few] = rng.normal(size=(few, 2)) * [0.5, 0.2] - [4.0, 0.0]
    return y.astype(np.float32)


Y = targets()
extend = jax.jit(extend_eagerly)


@pytest.fixture(scope="module")
def plain():
    return extension(KEY, Gaussian(2), Y, solve_exact(Y, source="gaussian").h)


@pytest.fixture(scope="module")
def ext(plain):
    return calibrate(KEY, plain)


@pytest.fixture(scope="module")
def x(ext):
    return ext.mu.sample(jax.random.key(9), N)


def test_codes_are_as_new_as_codes_that_were_left_out(ext, x):
    z, _, _ = extend(x, ext)
    report = novelty_report(np.asarray(z), Y)
    assert 0 < float(ext.noise.reach) <= 1
    assert abs(report.nearer - 0.5) < 4 * report.nearer_se
    assert report.share_near < 0.15


def test_novelty_moves_from_copies_to_new_codes(ext, x):
    found = [
        novelty_report(np.asarray(extend(x, at_novelty(ext, value))[0]), Y)
        for value in (0.0, 0.3, 0.6, 1.0)
    ]
    nearer = [report.nearer for report in found]
    assert nearer[0] == 1
    assert (np.diff(nearer) < found[0].nearer_se).all()


def test_novelty_0_is_the_discrete_map_to_the_last_bit(ext, x):
    z, _, info = extend(x, at_novelty(ext, 0.0))
    np.testing.assert_array_equal(z, transport(x, ext.y, ext.h))
    assert (np.asarray(info.num_blended) == 1).all()
    _, _, info = extend(x, ext)
    assert (np.asarray(info.num_blended) > 1).all()


def test_blend_is_the_extension_without_kernels_to_the_last_bit(plain, ext):
    for found, expected in zip(
        generate(KEY, ext, 64, novelty="blend"), generate(KEY, plain, 64), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_it_is_a_map(ext, x):
    """The same x gives the same code, whatever comes with it."""
    z, _, _ = extend(x, ext)
    turned, _, _ = extend(x[::-1], ext)
    np.testing.assert_allclose(turned[::-1], z, atol=1e-6)


def test_modes_keep_their_shares_and_their_variance(ext, x):
    z, _, info = extend(x, ext)
    z, left = np.asarray(z), Y[:, 0] < 0
    side = z[:, 0] < 0
    np.testing.assert_array_equal(side, left[np.asarray(info.index)])  # nobody crossed
    for mine, codes in ((side, left), (~side, ~left)):
        now, then = np.cov(z[mine].T), np.cov(Y[codes].T)
        # Of 120 codes, drawn again 1,200 times, a variance has a spread of 4 %.
        np.testing.assert_allclose(now, then, atol=0.15 * then.max())


def test_a_tight_mode_stays_tight(x):
    """Its kernels borrow nothing of the covariance of codes that are many times as far apart."""
    y, few = targets(), int(SHARE * M)
    y[:few] = (y[:few] + 4) * [0.01, 0.02] - 4
    found = calibrate(KEY, extension(KEY, Gaussian(2), y, solve_exact(y, source="gaussian").h))
    z, _, _ = extend(x, found)
    z = np.asarray(z)
    now, then = np.cov(z[z[:, 0] < 0].T), np.cov(y[:few].T)
    np.testing.assert_allclose(now, then, atol=0.15 * then.max())


def test_it_is_one_to_one_and_continuous_on_a_cell(ext, x):
    z, _, info = extend(x, ext)
    index = np.asarray(info.index)
    cells = np.bincount(index).argsort()[-8:]
    for cell in cells:
        rows = np.flatnonzero(index == cell)
        apart, moved = (pdist(np.asarray(of)[rows].astype(np.float64)) for of in (x, z))
        ratio = moved / apart
        assert ratio.min() > 0.02 * np.median(ratio)
        assert ratio.max() < 50 * np.median(ratio)


def test_where_codes_go_inside_of_their_kernels_is_as_a_gaussian_has_it(ext, x):
    """In the plane a cell is a polygon, whose corners alone reach into the tails of a kernel."""
    noise = replace(ext.noise, reach=jnp.float32(1))
    z, _, info = extend(x, replace(ext, noise=noise))
    kernels, k = noise.kernels, np.asarray(noise.kernels.group)[np.asarray(info.index)]
    offsets = np.asarray(z) - np.asarray(kernels.mean)[k]
    along = np.einsum("nd,nde->ne", offsets, np.asarray(kernels.axes)[k])
    units = along / np.asarray(kernels.deviations)[k]
    found = np.quantile(np.linalg.norm(units, axis=1), SHARES)
    np.testing.assert_allclose(found, stats.chi.ppf(SHARES, 2), rtol=0.06)
    np.testing.assert_allclose(np.cov(units.T), np.eye(2), atol=0.06)


def test_many_cells_share_the_shapes_of_their_groups(plain, x, monkeypatch):
    monkeypatch.setattr(places, "_MOST_CELLS", M - 1)
    found = calibrate(KEY, plain).noise
    assert found is not None
    assert found.gain.shape == (len(found.kernels.counts), 2, 2)
    np.testing.assert_array_equal(found.of_cell, found.kernels.group)
    z, _, info = extend(x, replace(plain, noise=found))
    left, side = Y[:, 0] < 0, np.asarray(z)[:, 0] < 0
    np.testing.assert_array_equal(side, left[np.asarray(info.index)])
    then = np.cov(Y[~left].T)
    np.testing.assert_allclose(np.cov(np.asarray(z)[~side].T), then, atol=0.15 * then.max())


def test_a_file_of_an_earlier_version_moves_codes_as_it_did(plain, x, monkeypatch, tmp_path):
    """It knows one shape for each group, and no lengths."""
    monkeypatch.setattr(places, "_MOST_CELLS", M - 1)
    now = calibrate(KEY, plain).noise
    assert now is not None
    before = replace(plain, noise=replace(now, of_cell=None, lengths=None))
    save(before, tmp_path / "ext.npz")
    found = load(tmp_path / "ext.npz")
    assert found.noise.of_cell is None
    z, _, info = extend(x, found)
    index, noise = np.asarray(info.index), found.noise
    k, s = np.asarray(noise.kernels.group)[index], float(noise.reach)
    mean = np.asarray(noise.kernels.mean)[k]
    e = (np.asarray(x) - np.asarray(noise.centre)[index]) * np.asarray(noise.per_unit)[index, None]
    offset = np.einsum("nd,nde->ne", e, np.asarray(noise.gain)[k])
    expected = mean + np.sqrt(1 - s) * (Y[index] - mean) + np.sqrt(s) * offset
    np.testing.assert_allclose(z, expected, atol=1e-5)


@pytest.fixture(scope="module")
def unequal():
    """Codes spread evenly, with the weights of a normal distribution of variance 0.3."""
    rng = np.random.default_rng(5)
    y = rng.uniform(-2.5, 2.5, size=(M, 2)).astype(np.float32)
    nu = np.exp(-((y.astype(np.float64) ** 2).sum(1)) / 0.6)
    nu[:40] = 0
    return y, nu / nu.sum()


def moments_of(z, weights=None):
    z = np.asarray(z, np.float64)
    mean = np.average(z, axis=0, weights=weights)
    return mean, np.average((z - mean) ** 2, axis=0, weights=weights)


@pytest.mark.long
@pytest.mark.parametrize("copied", [False, True])
def test_codes_weigh_in_their_groups_what_they_weigh_in_the_data(unequal, copied):
    """Weights, and copies, whose cells have the mass of all of them."""
    y, nu = unequal
    if copied:
        times = np.ceil(400 * nu).astype(int)  # 0 where nu is 0
        y, nu = np.repeat(y, times, axis=0)[::-1], None
    kernel = calibrate(
        KEY, extension(KEY, Gaussian(2), y, solve_exact(y, nu, source="gaussian").h, nu)
    )
    z, _, _ = extend(kernel.mu.sample(jax.random.key(9), 4 * N), kernel)
    (mean, variance), (then, before) = moments_of(z), moments_of(y, nu)
    # Without the weights the variance was 1.6 times as large.
    np.testing.assert_allclose(variance, before, rtol=0.08)
    np.testing.assert_allclose(mean, then, atol=0.03)
    # The density has the same weights: its moments over a grid are those of the data.
    side = np.linspace(-4, 4, 161)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    assert kernel.noise is not None
    p = np.exp(np.asarray(log_density(grid, kernel.y, kernel.noise.kernels), np.float64))
    np.testing.assert_allclose(p.sum() * 0.05**2, 1, rtol=1e-3)
    mean, variance = moments_of(grid, p)
    np.testing.assert_allclose(mean, then, atol=0.01)
    np.testing.assert_allclose(variance, before, rtol=0.08)


def test_equal_weights_are_those_of_none(plain, ext):
    h = plain.h
    given = extension(KEY, Gaussian(2), Y, h, np.full(M, 1 / M))
    assert given.nu is None
    jax.tree.map(np.testing.assert_array_equal, calibrate(KEY, given), ext)


def test_a_file_keeps_the_weights(unequal, tmp_path):
    y, nu = unequal
    kernel = extension(KEY, Gaussian(2), y, np.where(nu > 0, 0.0, -np.inf), nu)
    for one in (kernel, calibrate(KEY, kernel)):
        save(one, tmp_path / "ext.npz")
        jax.tree.map(np.testing.assert_array_equal, load(tmp_path / "ext.npz"), one)


def test_classes_keep_their_weights():
    y, labels = Y[:120], np.arange(120) // 50  # the last class is smaller
    nu = np.where(labels == 1, 1.0, 1 + np.arange(120) % 3)
    config = SolverConfig(tolerance=0.3)  # in the plane the exact solver answers
    maps = solve_classes(KEY, Gaussian(2), y, labels, config, nu=nu / nu.sum())
    own = nu[labels == 2] / nu[labels == 2].sum()
    for label, expected in ((2, np.r_[own, np.zeros(30)]), (1, np.full(50, 1 / 50))):
        np.testing.assert_allclose(np.asarray(maps.of(label).nu), expected, rtol=1e-6)
    noise = calibrate(KEY, maps.of(2)).noise
    assert noise is not None
    assert int(noise.kernels.counts.sum()) == 20  # all of them are left out


@pytest.fixture(scope="module")
def classes():
    """The two modes as classes, and a third of few codes between them."""
    y, labels = np.concatenate([Y, 0.3 * Y[:30]]), (Y[:, 0] > 0).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extensions, "LEAST_CODES", 100)
        maps = solve_classes(
            KEY, Gaussian(2), y, np.r_[labels, np.full(30, 2)], SolverConfig(tolerance=0.3)
        )
        return maps, maps.calibrated(KEY)


def test_each_class_gets_kernels_of_its_own(classes):
    maps, found = classes
    for label in (0, 1):
        ext, own = found.of(label), Y[maps.index(label)]
        assert ext.noise is not None
        z, _, _ = generate(KEY, ext, 1024)
        report = novelty_report(np.asarray(z), own)
        assert abs(report.nearer - 0.5) < 4 * report.nearer_se
        then = np.cov(own.T)
        np.testing.assert_allclose(np.cov(np.asarray(z).T), then, atol=0.2 * then.max())
    # What fills up a class has no weight in the density of its codes: the smaller one has some.
    ext, own = found.of(0), Y[maps.index(0)]
    assert len(own) < len(ext.y)
    alone = calibrate(KEY, replace(maps.of(0), y=ext.y[: len(own)], h=ext.h[: len(own)]))
    assert alone.noise is not None
    np.testing.assert_allclose(
        log_density(own[:5], ext.y, ext.noise.kernels),
        log_density(own[:5], own, alone.noise.kernels),
        atol=1e-4,
    )


def test_a_class_of_few_codes_blends_as_before(classes):
    maps, found = classes
    assert found.of(2).noise is None
    jax.tree.map(np.testing.assert_array_equal, found.of(2), maps.of(2))
    few = jax.tree.map(lambda leaf: leaf[2:], maps)
    assert few.calibrated(KEY) is few


def test_codes_of_the_map_are_not_unseen(plain):
    with pytest.raises(ValueError, match="`unseen` has 40 codes, of which 25 are codes of the map"):
        calibrate(KEY, plain, np.concatenate([Y[:25], Y[:15] + 0.1]))


@pytest.mark.parametrize("use", [calibrate, singular_set, lambda key, ext: generate(key, ext, 8)])
def test_the_maps_of_several_classes_are_refused(plain, use):
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), plain)
    with pytest.raises(ValueError, match="`ext` holds the maps of several classes"):
        use(KEY, several)


def test_unseen_codes_may_say_how_new(plain):
    unseen = Y[::2] + np.float32(0.05)
    noise = calibrate(KEY, plain, unseen).noise
    assert noise is not None
    assert 0 < float(noise.reach) <= 1
    with pytest.raises(ValueError, match="`unseen` has shape"):
        calibrate(KEY, plain, unseen[:10])
    with pytest.raises(ValueError, match="`unseen`"):
        calibrate(KEY, plain, np.full((30, 2), np.nan))


def test_maps_carry_the_shape_of_a_cell_onto_its_kernel():
    y, mu = Y[::4], Gaussian(2)
    h = solve_exact(y, source="gaussian").h
    n = 80 * places.BATCH  # 3,300 of a cell: 4 standard errors of a variance are 14 %
    diagram = places.Diagram(mu, jnp.asarray(y), jnp.asarray(h))
    where = places.cells(KEY, diagram, jnp.int32(80), own=True)
    assert int(where.counts.sum()) == n
    x = np.asarray(mu.sample(jax.random.key(2), n), np.float64)
    index = np.asarray(assign(x.astype(np.float32), y, h)[1])
    kernels = learned(y)
    group = np.asarray(kernels.group)
    gain = gains.of_cells(kernels, where, group)
    for cell in np.bincount(index).argsort()[-3:]:
        own = x[index == cell]
        np.testing.assert_allclose(where.centre[cell], own.mean(0), atol=0.05)
        shape = np.cov(own.T)
        mean_square = where.squares[cell] / where.counts[cell]
        np.testing.assert_allclose(mean_square, shape, atol=0.15 * shape.max())
        e = (own - own.mean(0)) * float(where.per_unit[cell]) @ gain[cell].T
        axes, deviations = (np.asarray(a)[group[cell]] for a in (kernels.axes, kernels.deviations))
        kernel = axes @ np.diag(deviations**2) @ axes.T
        np.testing.assert_allclose(np.cov(e.T), kernel, atol=0.15 * kernel.max())


def test_targets_without_a_cell_have_no_kernel(plain):
    h = jnp.asarray(plain.h).at[::2].set(-jnp.inf)
    found = calibrate(KEY, replace(plain, h=h)).noise
    assert found is not None
    assert int(found.kernels.counts.sum()) == M // 2
    assert (np.asarray(found.per_unit)[::2] == 0).all()
    assert (np.asarray(found.per_unit)[1::2] > 0).mean() > 0.95


def test_a_file_keeps_the_kernels(ext, tmp_path):
    save(ext, tmp_path / "ext.npz")
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path / "ext.npz"), ext)


@pytest.mark.parametrize("novelty", [-0.1, 1.5, float("nan"), "mixture", True])
def test_a_novelty_that_was_not_learned_is_refused(ext, novelty):
    with pytest.raises((ValueError, TypeError), match="`novelty` is "):
        generate(KEY, ext, 64, novelty=novelty)


def test_a_map_without_kernels_says_how_to_get_them(plain):
    with pytest.raises(ValueError, match="learn them, by `calibrate` or by a fit"):
        generate(KEY, plain, 64, novelty=1.0)
    few = replace(plain, y=plain.y[:10], h=plain.h[:10])
    with pytest.raises(ValueError, match="`ext` has 10 codes in 2 dimensions"):
        calibrate(KEY, few)

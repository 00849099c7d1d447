"""Transport under conditions: what is kept, what leaks, and how their weight is chosen."""

import dataclasses
import math
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot

KEY = jax.random.key(0)
M, D = 120, 3
MU = aeot.Gaussian(D)
RNG = np.random.default_rng(0)
LABELS = np.repeat([4, 7], [80, 40])[RNG.permutation(M)]
Y = RNG.normal(size=(M, D)).astype(np.float32) + 2 * (LABELS == 7)[:, None].astype(np.float32)
CONFIG = aeot.SolverConfig(tolerance=0.3, start="voronoi", parallel="none")
N = 4096


def solved(z, beta, **options):
    return aeot.solve_conditional(KEY, MU, Y, z, beta, CONFIG, num_samples=N, **options)


@pytest.fixture(scope="module")
def weak():
    return solved(LABELS, 0.01)


@pytest.fixture(scope="module")
def chosen():
    return solved(LABELS, "auto")


@pytest.fixture(scope="module")
def limit():
    return solved(LABELS, math.inf)


def drawn(found, n=N):
    """Fresh pairs, as NumPy arrays."""
    return tuple(map(np.asarray, found.pairs(jax.random.key(9), n)))


def gini(labels):
    return 1 - np.square(np.unique(labels, return_counts=True)[1] / len(labels)).sum()


def test_pairs_are_rows_of_what_was_given(weak):
    assert weak.solution.converged
    x, z, y, index = drawn(weak)
    assert x.shape == (N, D)
    np.testing.assert_array_equal(y, Y[index])
    np.testing.assert_array_equal(z, LABELS[index])
    own = weak.solution.problem.mu.sample(jax.random.key(1), 8)
    split = weak.split(own, np.arange(8))
    np.testing.assert_array_equal(split.x, own[:, :D])
    np.testing.assert_array_equal(split.y, Y[:8])
    with pytest.raises(ValueError, match=r"`x` has shape \(8, 3\) and `index` \(8,\); pass .* 5\)"):
        weak.split(own[:, :D], np.arange(8))
    for bad in (np.arange(8) + M, -np.arange(8), np.ones(8)):
        with pytest.raises(ValueError, match=r"`index` is .*; pass integers from 0 to 119"):
            weak.split(own, bad)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_coupling_gives_the_pairs_of_the_augmented_one_in_the_terms_of_the_user(weak):
    c = weak.coupling(seed=3, batch_size=64, num_batches=5)
    inner = aeot.coupling(weak.solution, seed=3, batch_size=64)
    for k in (0, 4, -1):
        x, _, index = inner[k % 5]
        assert_equal(c[k], (x[:, :D], LABELS[index], Y[index], index))
    assert_equal(c[2], weak.split(inner[2].x, inner[2].index))
    assert len(c) == 5
    assert repr(c).startswith("ConditionalCoupling(Problem(Product(")
    np.testing.assert_array_equal(c.noise(np.arange(64, 70)), c[1].x[:6])
    np.testing.assert_array_equal(c.noise(64), c[1].x[0])
    assert_equal(c.table(64)[:], (np.arange(64), c[0].index))
    i = int(c[0].index[0])
    inside = c.inverse(i, 2)
    assert inside.shape == (2, D)
    np.testing.assert_array_equal(inside, inner.inverse(i, 2)[:, :D])
    with pytest.raises(IndexError, match="has 5 batches"):
        c[5]
    with pytest.raises(TypeError, match="`num_batches` is None"):
        len(weak.coupling())
    assert weak.coupling()  # true without a length
    assert weak.coupling(batch_size=64, dtype="float16")[0].x.dtype == np.float16


def test_a_coupling_goes_on_elsewhere(weak):
    c = weak.coupling(seed=3, batch_size=64)
    again = weak.coupling_from_state(c.state(2))
    assert_equal(next(again.iter()), c[2])
    assert_equal(next(iter(pickle.loads(pickle.dumps(c)))), c[0])
    with pytest.raises(ValueError, match="`state` is that of another solution"):
        weak.coupling_from_state(aeot.coupling(MU, Y, np.zeros(M)).state(0))


@pytest.mark.parametrize("kind", list(AxisType)[:2])
def test_conditions_lie_where_their_batch_lies(weak, kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))
    c = weak.coupling(seed=3, batch_size=64, sharding=NamedSharding(mesh, P("data")))
    assert_equal(c[1], weak.coupling(seed=3, batch_size=64)[1])
    for part in c[1]:
        assert {shard.data.shape[0] for shard in part.addressable_shards} == {16}
    x, y, index = c.augmented[1]
    program = c._parted.lower(x, c._z, y, index).compile().as_text()
    assert not re.search("all-gather|all-reduce|all-to-all|collective|partition-id", program)


@pytest.mark.long
def test_leakage_is_the_share_of_variance_that_the_best_predictor_explains(weak, limit):
    """The predictor by brute force: of each noise the labels that all conditions lead to."""
    for found in (weak, limit):
        mu, y = found.solution.problem.mu, np.asarray(found.solution.problem.y, np.float64)
        atoms = np.unique(np.asarray(mu.mu_b.points), axis=0)  # in the order of the labels
        share = np.array([1 / 3, 2 / 3])
        x = np.random.default_rng(5).normal(size=(20_000, D))
        expected = 0
        for atom, weight in zip(atoms, share, strict=True):
            beside = np.concatenate([x, np.broadcast_to(atom, (len(x), 2))], 1)
            index = (beside @ y.T + np.asarray(found.solution.h)).argmax(1)
            expected = expected + weight * (LABELS[index] == 7)
        explained = np.var(expected) / (np.mean(expected) * (1 - np.mean(expected)))
        # Five standard errors of a share from N pairs.
        np.testing.assert_allclose(found.leakage, explained, atol=5 * found.leakage_se + 0.02)


def test_a_weak_condition_is_ignored_and_an_infinite_one_kept(weak, limit):
    assert weak.leakage > 0.9
    assert abs(weak.kept - (1 - gini(LABELS))) < 0.1  # by chance
    assert limit.kept == 1
    assert limit.beta == math.inf
    assert abs(limit.leakage) <= 5 * limit.leakage_se
    assert limit.solution.converged
    _, z, _, index = drawn(limit)
    masses = np.bincount(index, minlength=M)
    assert abs((z == 7).mean() - 1 / 3) < 5 * 0.5 / np.sqrt(N)
    again = aeot.certify(jax.random.key(3), limit.solution)
    assert again.mass_error < 0.3
    assert masses.min() > 0


def test_each_label_is_solved_by_itself(limit):
    """Noise of one label goes where the heights of that label alone carry it."""
    x, z, y, _ = drawn(limit, 256)
    for label in (4, 7):
        own = label == LABELS
        alone = aeot.transport(x, Y[own], limit.solution.h[own])
        np.testing.assert_array_equal(np.asarray(alone)[z == label], y[z == label])


@pytest.mark.long
def test_auto_is_the_smallest_weight_that_leaks_little(chosen):
    assert chosen.leakage <= 0.05
    betas, leakages = chosen.trials.beta.astype(np.float32), chosen.trials.leakage
    below = betas[betas < chosen.beta].max()
    assert chosen.beta in betas
    assert chosen.beta <= 1.5001 * below
    # The bound that decides is two standard errors more, of a share from N pairs.
    assert leakages[betas == below] > 0.05 - 2 * 1.2 / np.sqrt(N)
    order = np.argsort(betas)
    assert (np.diff(leakages[order]) < 0.05).all()  # the more the weight, the less leaks
    assert (np.diff(chosen.trials.kept[order]) > -0.05).all()


def test_vectors_are_conditions_too():
    z = np.column_stack([LABELS == 7, RNG.normal(size=M)]).astype(np.float32)
    weak, strong = solved(z, 0.01), solved(z + 1000, 30.0)
    assert weak.leakage > 0.9 > 0.3 > strong.leakage
    assert weak.kept < 0.2
    assert strong.kept > 0.8
    _, own, _, index = drawn(strong, 64)
    np.testing.assert_array_equal(own, (z + 1000)[index])


@pytest.mark.long
def test_where_every_weight_leaks_labels_are_solved_alone_and_vectors_warn():
    found = solved(LABELS, "auto", max_leakage=1e-6)
    assert found.beta == math.inf
    assert found.kept == 1
    z = RNG.normal(size=(M, 2))
    with pytest.warns(UserWarning, match="`max_leakage` is 1e-06, but with the largest `beta`"):
        found = solved(z, "auto", max_leakage=1e-6)
    assert found.beta == np.float32(found.trials.beta.max())


@pytest.mark.parametrize("beta", [pytest.param(30.0, marks=pytest.mark.long), math.inf])
def test_targets_and_conditions_appear_by_their_weights(beta):
    nu = np.random.default_rng(1).random(M) * np.where(LABELS == 7, 3, 1)
    nu[:5] = 0
    nu /= nu.sum()
    found = solved(LABELS, beta, nu=nu)
    assert found.solution.converged
    assert (np.isneginf(found.solution.h) == (nu == 0)).all() or beta == math.inf
    _, z, _, index = drawn(found, 16_384)
    counts = np.bincount(index, minlength=M) / len(index)
    assert not counts[:5].any()
    # Of independent draws chi^2 would be M / n; the heights add at most their tolerance.
    chi2 = np.square(counts[5:] - nu[5:]) @ (1 / nu[5:])
    assert chi2 < 0.3**2 + 3 * M / len(index)
    np.testing.assert_allclose((z == 7).mean(), nu[LABELS == 7].sum(), atol=0.02)
    assert found.kept > 0.9
    source: Any = found.solution.problem
    drawn_conditions = np.asarray(source.mu.mu_b.sample(KEY, 16_384))
    np.testing.assert_allclose(
        (drawn_conditions[:, 1] > 0).mean(), nu[LABELS == 7].sum(), atol=0.02
    )


def test_a_state_of_other_conditions_is_refused(weak):
    state = weak.coupling(batch_size=8).state(3)
    renamed = dataclasses.replace(weak, z=weak.z + 1)
    for other in (state, aeot.coupling(weak.solution, batch_size=8).state(3)):
        with pytest.raises(ValueError, match="`state` is that of another solution"):
            renamed.coupling_from_state(other)
    with pytest.raises(ValueError, match="`state` is that of another solution"):
        aeot.coupling_from_state(state, weak.solution)


def test_a_label_without_weight_owns_no_cell():
    nu = np.where(LABELS == 7, 0.0, 1 / 80)
    labels = np.where((LABELS == 4) & (np.arange(M) % 2 == 0), 5, LABELS)
    found = solved(labels, math.inf, nu=nu)
    assert found.solution.converged
    assert (np.asarray(found.solution.h)[LABELS == 7] == -np.inf).all()
    assert set(drawn(found)[1].tolist()) == {4, 5}


def test_conditions_that_float32_merges_are_refused():
    seconds = 1.7e9 + 60 * np.arange(M)[:, None]
    with pytest.raises(ValueError, match=r"`z` is about 1.7e\+09 .*; subtract its mean first"):
        solved(seconds, 1.0)
    with pytest.raises(ValueError, match="in column 1, which float32 cannot tell apart"):
        solved(np.concatenate([np.full((M, 1), 2024.1), seconds], 1), 1.0)


@pytest.mark.parametrize("left_out", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_constant_column_is_no_condition(left_out):
    z = np.stack([np.full(M, 2024.1), np.arange(M) % 2], 1)  # float32 does not hold 2024.1
    assert z[:, 0].std() > 0  # by rounding
    # Without the column the dimension is another, hence all is compiled once more.
    without = z[:, 1:] if left_out else z * [0, 1]
    assert solved(z, 1.0).leakage == solved(without, 1.0).leakage


def test_what_does_not_fit_is_named():
    def call(**changes):
        arguments = {"key": KEY, "mu": MU, "y": Y, "z": LABELS, "config": CONFIG, **changes}
        return aeot.solve_conditional(**arguments)

    vectors = np.ones((M, 2)) * np.arange(M)[:, None]
    infinite = (
        jnp.asarray(math.inf),
        np.float16(math.inf),
        np.array(math.inf),
        jnp.bfloat16(math.inf),
    )
    infinity = [
        ({"beta": beta, "z": vectors}, "`beta` is inf, but `z` holds vectors") for beta in infinite
    ]
    for changes, said in (
        ({"z": LABELS[1:]}, r"`z` has shape \(119,\); pass one label for each of the 120 targets"),
        ({"z": np.ones((M, 2, 2))}, r"`z` has shape \(120, 2, 2\); pass one label"),
        ({"z": LABELS / 2}, r"`z` has shape \(120,\) and dtype float64; pass one integer"),
        ({"z": np.full((M, 2), np.nan)}, "`z` is nan at 0, 0"),
        ({"z": 0 * LABELS}, "`z` is the same for all 120 targets .* call `solve`"),
        ({"beta": 0}, "`beta` is 0; pass a number above 0, or 'auto'"),
        ({"beta": -1.0}, "`beta` is -1.0; pass a number above 0, or 'auto'"),
        ({"beta": math.nan}, "`beta` is nan; pass a number above 0, or 'auto'"),
        ({"beta": "Auto"}, "`beta` is 'Auto'"),
        ({"beta": True}, "`beta` is True"),
        ({"beta": math.inf, "z": vectors}, "`beta` is inf, but `z` holds vectors"),
        *infinity,
        ({"beta": -math.inf}, "`beta` is -inf; pass a number above 0, or 'auto'"),
        ({"max_leakage": 0.0}, "`max_leakage` is 0.0; pass a share between 0 and 1"),
        ({"mu": aeot.Gaussian(2)}, "`mu` has dimension 2"),
        ({"nu": np.ones(M)}, "`nu` sums to 120"),
        ({"nu": np.ones(3) / 3}, r"`nu` has shape \(3,\), but `y` has shape \(120, 3\)"),
        ({"nu": (LABELS == 4) / 80}, "`z` is the same for all 80 targets that count, so"),
        ({"nu": (LABELS == 4) / 80, "beta": math.inf}, "`z` is the same for all 80 targets"),
    ):
        with pytest.raises(ValueError, match=said):
            call(**changes)
    with pytest.raises(ValueError, match="`z` is traced, but `solve_conditional`"):
        jax.jit(lambda z: call(z=z))(jnp.asarray(LABELS))

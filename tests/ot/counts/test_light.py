"""What a draw cannot see: the groups of weights, the bounds and the split, against exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta

from aeot_jax.ot.counts import estimate, light
from aeot_jax.ot.counts.chi_square import samples_to_verify

certificate = jax.jit(estimate.certificate)
certificates = jax.jit(jax.vmap(estimate.certificate, (0, None, None)))


def bound_of(hits, n, level):
    log_level = jnp.full(len(hits), np.log(1 / level), jnp.float32)
    return np.asarray(light.most_mass(jnp.asarray(hits, jnp.float32), jnp.float32(n), log_level))


def test_a_group_holds_weights_within_a_factor_of_four():
    nu = 2.0 ** np.arange(-125, 1)
    group = np.asarray(light.group_of(jnp.asarray(nu, jnp.float32)))
    assert (group >= 0).all() & (group <= 63).all()
    assert (np.diff(group) >= 0).all()
    for number in np.unique(group):
        assert np.ptp(np.log2(nu[group == number])) <= 1
    border = np.float32(2 * 4.0**-5)
    below = np.nextafter(border, np.float32(0))
    assert np.diff(light.group_of(jnp.asarray([below, border]))) == 1


@pytest.mark.parametrize("level", [0.05, 1e-4])
def test_the_bound_of_a_mass_is_above_the_exact_one_and_near_it(level):
    """Clopper and Pearson's bound is the least that is valid; more costs little."""
    for n in (100, 100_000):
        hits = np.array([0, 1, 2, 5, 20, 90])
        exact = beta.ppf(1 - level, hits + 1, n - hits)
        found = bound_of(hits, n, level)
        assert (found >= exact * (1 - 1e-5)).all()
        if n > 100:  # a Poisson law is near then
            assert (found <= 1.25 * exact).all()


def test_the_bound_of_a_mass_holds_far_beyond_what_float32_counts():
    hits, n = np.array([10**7, 10**9 - 64]), 2 * 10**9
    spread = np.sqrt(hits) / n
    found = bound_of(hits, n, 0.01)
    exact = hits / n + 2.33 * spread
    assert (np.abs(found - exact) < 2 * spread + 1e-7 * found).all()


def test_the_part_of_light_targets_is_at_most_the_corner_of_a_simplex():
    """Any masses whose total is within the bound of their group."""
    rng = np.random.default_rng(0)
    nu = jnp.asarray([1e-5, 1.2e-5, 1.5e-5, 1.9e-5, 0.99994], jnp.float32)
    n, hits = 10_000, 7
    counts = jnp.asarray([hits, 0, 0, 0, n - hits])
    groups = light.grouped(counts, nu)
    first = light.group_of(nu)[-1]
    unseen = light.bound(groups, first, jnp.float32(n))
    weight = float(nu[:-1].sum())
    parts = rng.dirichlet(np.full(4, 0.2), 4000) * float(unseen.mass) * rng.uniform(size=(4000, 1))
    parts = np.r_[parts, np.eye(4) * float(unseen.mass), np.zeros((1, 4))]
    own = np.asarray(nu[:-1], float)
    part = ((parts - own) ** 2 / own).sum(1)
    assert part.max() <= float(unseen.chi2) + weight
    assert part.max() > 0.9 * (float(unseen.chi2) + weight)


def single(num_targets, sight, excess, repeats=4000):
    """Part of the draws whose pooled bound misses one target that holds too much."""
    n = int(sight * np.sqrt(num_targets / 2))
    nu = np.full(num_targets, 1 / num_targets)
    masses = nu + np.r_[excess / n, np.zeros(num_targets - 1)]
    masses /= masses.sum()
    truth = np.sqrt(((masses - nu) ** 2 / nu).sum())
    counts = np.random.default_rng(0).multinomial(n, masses, repeats)
    found = certificates(jnp.asarray(counts, jnp.int32), jnp.asarray(nu, jnp.float32), n)
    return float((np.asarray(found.upper) < truth).mean())


@pytest.mark.parametrize(
    ("num_targets", "sight"),
    [
        (4, 100),
        *(pytest.param(4, sight, marks=pytest.mark.long) for sight in (30, 300)),
        *(pytest.param(m, n, marks=pytest.mark.long) for m in (10, 60) for n in (30, 100, 300)),
    ],
)
def test_what_one_target_can_hide_is_allowed_for(num_targets, sight):
    """The constants of ``light`` are what keeps the misses of the worst single target so low."""
    missed = [single(num_targets, sight, excess) for excess in (15, 40, 90)]
    assert max(missed) < 0.065  # 0.055, and three standard errors of 4,000 draws


@pytest.mark.parametrize("num_targets", [10, 1000, 60_000, 1_000_000])
@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.25])
def test_planned_draws_see_equal_weights(num_targets, tolerance):
    n = samples_to_verify(num_targets, 0.85 * tolerance, 0.05 * tolerance)
    assert n >= light.samples_to_see_equal(num_targets)
    nu = np.full(num_targets, 1 / num_targets, np.float32)
    assert light.samples_to_bound(nu, 0.0, n, 10**9) == n


@pytest.mark.parametrize("num_targets", [2, 50, 3000, 1_000_000])
def test_the_least_draw_of_a_plan_sees_equal_weights(num_targets):
    """To the last bit: what decides is in float32."""
    n = light.samples_to_see_equal(num_targets)
    nu = np.full(num_targets, 1 / num_targets, np.float32)
    assert light.samples_to_bound(nu, 0.0, n, 10**9) == n
    groups = light.grouped(jnp.zeros(num_targets, jnp.int32), jnp.asarray(nu))
    split = light.split(groups, jnp.float32(n))
    assert split.first <= light.group_of(jnp.asarray(nu[:1]))[0]
    assert split.seen <= nu[0]


def test_where_all_is_seen_the_bound_is_the_estimate_and_two_standard_errors():
    nu = np.random.default_rng(0).uniform(1, 9, 200)
    nu /= nu.sum()
    n = 100_000
    counts = np.random.default_rng(1).multinomial(n, nu, 20)
    found = certificates(jnp.asarray(counts), jnp.asarray(nu, jnp.float32), n)
    np.testing.assert_array_equal(found.upper, found.mass_error + 2 * found.mass_error_se)
    np.testing.assert_allclose(found.total_variation, found.upper / 2, rtol=1e-6)
    assert not np.asarray(found.num_unverified).any()
    assert not np.asarray(found.unverified_weight).any()


def test_what_is_not_seen_is_counted_and_said():
    nu = np.r_[np.full(30, 1e-9), np.full(30, (1 - 3e-8) / 30)]
    counts = np.r_[np.zeros(30, int), np.full(30, 400)]
    found = certificate(jnp.asarray(counts), jnp.asarray(nu, jnp.float32), 12_000)
    assert found.num_unverified == 30
    np.testing.assert_allclose(found.unverified_weight, 3e-8, rtol=1e-5)
    assert found.worst == 0
    # Without a sample the light ones hold less than 6 / n together, so that any of them may.
    assert (3 / 12_000) ** 2 / 1e-9 < found.upper**2 < (6 / 12_000) ** 2 / 1e-9
    assert found.total_variation < 0.06  # they hardly matter there
    text = found.unverified()
    assert "30 targets of total weight 3e-08 could not be verified" in text
    assert "12,000 samples are too few" in text
    assert f"{float(found.samples_to_verify):.2g}" in text


def test_the_samples_that_are_said_verify_every_target():
    nu = np.r_[np.full(30, 1e-6), np.full(30, (1 - 3e-5) / 30)]
    few = certificate(jnp.full(60, 100), jnp.asarray(nu, jnp.float32), 6000)
    number = int(1.001 * few.samples_to_verify)
    counts = np.random.default_rng(0).multinomial(number, nu)
    enough = certificate(jnp.asarray(counts), jnp.asarray(nu, jnp.float32), number)
    assert few.num_unverified == 30
    assert enough.num_unverified == 0
    assert enough.unverified() == ""
    assert enough.upper == enough.mass_error + 2 * enough.mass_error_se


def test_the_split_does_not_look_at_the_counts():
    nu = jnp.asarray(np.geomspace(1, 1e-9, 60) / np.geomspace(1, 1e-9, 60).sum(), jnp.float32)
    rng = np.random.default_rng(0)
    splits = set()
    for _ in range(5):
        counts = jnp.asarray(rng.multinomial(5000, rng.dirichlet(np.ones(60))), jnp.int32)
        found = light.split(light.grouped(counts, nu), jnp.float32(5000))
        splits.add((int(found.first), float(found.seen)))
    assert len(splits) == 1


def test_no_bound_exceeds_what_is_possible():
    """All mass in the lightest cell is the worst that there is."""
    for nu in ([1.0], [0.5, 0.5], [0.9, 0.1]):
        counts = jnp.asarray([2] + [0] * (len(nu) - 1))
        found = certificate(counts, jnp.asarray(nu), 2)
        assert found.upper <= np.sqrt(1 / min(nu) - 1) + 1e-6
        assert found.total_variation <= 1


def test_weights_at_the_end_of_float32_leave_numbers():
    nu = jnp.asarray([1e-37, 1e-30, 0.5, 0.5], jnp.float32)
    for light_hits in (0, 1, 3):
        counts = jnp.asarray([light_hits, 0, 500, 500 - light_hits])
        found = certificate(counts, nu, 1000)
        for leaf in jax.tree.leaves(found):
            assert not np.isnan(leaf)
        assert found.upper > 1e12
        assert found.num_unverified == 2


def test_the_samples_that_a_bound_takes_are_enough():
    nu = np.r_[np.full(99, 1.0), 1e-3]
    nu = (nu / nu.sum()).astype(np.float32)
    wanted = light.samples_to_bound(nu, 5e-4, 1000, 10**9)
    assert 1000 < wanted < 10**7
    counts = np.random.default_rng(0).multinomial(
        wanted, np.asarray(nu, float) / nu.sum(dtype=float)
    )
    found = certificate(jnp.asarray(counts), jnp.asarray(nu), wanted)
    seen = found.mass_error + 2 * found.mass_error_se
    assert found.upper**2 - seen**2 < 1e-3
    assert light.samples_to_bound(nu, 5e-4, 1000, 3000) == 3000
    assert light.samples_to_bound(nu, 5e-4, 5000, 3000) == 5000

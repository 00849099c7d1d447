import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines import METHODS, Budget, adversaries, autoencoders, densities
from sklearn.neighbors import KernelDensity

KEY = jax.random.key(0)
STEP = Budget(steps=1)
SMALL = {"width": 16}


def two_clusters(n, seed=0):
    """Points (n, 2) around (90, 100) and (110, 100), of standard deviation 1."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, (n, 1)) * np.array([[20.0, 0.0]])
    points = np.array([[90.0, 100.0]]) + side + rng.normal(size=(n, 2))
    return points.astype(np.float32)


DATA = two_clusters(400)  # as many codes as the tests of kernels have


FAMILIES = (
    "PacGAN2",
    "two-stage VAE",
    "flow",
    "AE-OT",
    "mixture",
    "kernels",
    "noise",
    "resampling",
)
"""One generator of each, which runs the code of the others."""


@functools.cache
def fitted(name):
    """A family after a chunk of steps."""
    method = METHODS[name]
    own = {**method.settings, **(SMALL if method.learns else {})}
    return method.fit(KEY, DATA, STEP, own)


DEAR = "PacGAN2", "flow"
"""Those that compile most. A step of the first is below."""


def families(names):
    return [pytest.param(one, marks=[pytest.mark.long] * (one in DEAR)) for one in names]


@pytest.mark.parametrize("name", families(FAMILIES))
def test_every_generator_gives_as_many_finite_points_as_are_asked_in_the_data_s_units(name):
    made = fitted(name)
    assert made.seconds >= 0
    assert (made.half is not None) == METHODS[name].learns
    for sample in filter(None, (made.sample, made.half)):
        z = sample(KEY, 70)
        assert z.shape == (70, 2)
        assert np.isfinite(z).all()
        assert (np.abs(z - 100) < 100).all()
        np.testing.assert_array_equal(z, sample(KEY, 70))
        assert not np.array_equal(z, sample(jax.random.key(1), 70))


@pytest.mark.parametrize("name", families(name for name in FAMILIES if METHODS[name].learns))
def test_a_budget_of_steps_is_kept(name):
    assert fitted(name).about["steps"] == 100  # one chunk


def test_a_budget_is_spent_by_the_limit_that_comes_first():
    both = Budget(10.0, 100)
    assert both.spent(5.0, 10) == 0.5
    assert both.spent(1.0, 90) == 0.9
    assert both.share(0.5) == Budget(5.0, 50)
    for seconds, steps in ((None, None), (0.0, None), (None, -1)):
        with pytest.raises(ValueError, match="pass at least one"):
            Budget(seconds, steps)


def lowered(loss, params):
    """The loss before and after a small step down its slope."""

    @jax.jit
    def both(params):
        value, slope = jax.value_and_grad(loss)(params)
        return value, loss(jax.tree.map(lambda p, s: p - 1e-3 * s, params, slope))

    before, after = both(params)
    return float(before), float(after)


@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein"])
def test_a_step_lowers_the_losses_of_both_players(loss):
    rules = adversaries.Rules(loss=loss, width=16, batch=32, pack=2, penalty=1.0)
    game, graphs = adversaries.begin(rules, 2, KEY), adversaries._graphs(rules, 2)
    real = jax.random.normal(KEY, (16, 4)) + 3
    fake = jax.random.normal(jax.random.key(1), (16, 4))

    def of_critic(weights):
        return adversaries.critic_loss(rules, graphs, weights, real, fake, KEY)

    def of_generator(weights):
        return adversaries.generator_loss(rules, graphs, weights, game.critic, KEY)

    for function, params in ((of_critic, game.critic), (of_generator, game.generator)):
        before, after = lowered(function, params)
        assert after < before


@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein"])
def test_the_penalty_of_a_linear_critic_is_that_of_its_slope(loss):
    """Without hidden layers the slope is the weights, wherever it is taken."""
    rules = adversaries.Rules(loss=loss, depth=0, penalty=10.0)
    game, graphs = adversaries.begin(rules, 2, KEY), adversaries._graphs(rules, 2)
    real, fake = jax.random.normal(KEY, (64, 2)), jnp.ones((64, 2))
    kernel = np.asarray(jax.tree.leaves(game.critic)[-1]).reshape(-1)
    found = adversaries.critic_loss(rules, graphs, game.critic, real, fake, KEY)
    of_real, of_fake = (np.asarray(x) @ kernel for x in (real, fake))
    steepness = np.linalg.norm(kernel)
    if loss == "wasserstein":
        expected = of_fake.mean() - of_real.mean() + 10 * (steepness - 1) ** 2
    else:
        gain = np.logaddexp(0, -of_real).mean() + np.logaddexp(0, of_fake).mean()
        expected = gain + 5 * steepness**2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_step_lowers_the_bound_of_an_autoencoder():
    rules = autoencoders.Rules(width=16)
    params = autoencoders.begin(rules, 2, KEY).params
    x = jax.random.normal(KEY, (64, 2))
    before, after = lowered(lambda p: autoencoders.loss(rules, p, x, KEY), params)
    assert after < before


def test_held_out_likelihood_is_that_of_the_kernel_density():
    data, held_out, widths = two_clusters(50), two_clusters(9, 1), np.array([0.3, 2.0])
    data, held_out = data - 100, held_out - 100
    found = densities.held_out_likelihood(data, held_out, widths)
    expected = [KernelDensity(bandwidth=b).fit(data).score(held_out) / 9 for b in widths]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_likelihood_chooses_two_components_for_two_clusters():
    assert fitted("mixture").about["components"] == 2


def test_copies_are_data_and_noise_is_as_far_as_the_nearest_datum():
    rows = {tuple(row) for row in DATA.tolist()}
    assert {tuple(row) for row in fitted("resampling").sample(KEY, 50).tolist()} <= rows
    squared = np.square(DATA[:, None] - DATA[None]).sum(2) + 1e9 * np.eye(len(DATA))
    own = fitted("noise").about["sigma"] * np.sqrt(2 * np.log(2))  # the median of Rayleigh's law
    np.testing.assert_allclose(own, np.median(np.sqrt(squared.min(1))), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (np.zeros((5, 2), np.float32), "are all equal"),
        (np.full((5, 2), np.nan, np.float32), "not finite"),
        (np.zeros(5, np.float32), "has shape"),
        (np.zeros((1, 2), np.float32), "at least 2 points"),
    ],
)
def test_data_that_cannot_be_learned_are_refused(name, data, sentence):
    method = METHODS[name]
    with pytest.raises(ValueError, match=sentence):
        method.fit(KEY, data, STEP, method.settings)


def test_what_does_not_fit_is_refused_in_a_sentence():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="`components` is 9, but there are 5 points"):
        densities.mixture(rng, DATA[:5], 9)
    with pytest.raises(ValueError, match="`data` holds 5 points; pass at least 10"):
        densities.parted(rng, DATA[:5])
    with pytest.raises(ValueError, match="too few points for one Gaussian"):
        densities.fit_mixture(KEY, rng.normal(size=(12, 40)), STEP, {"components": None})
    with pytest.raises(ValueError, match="`batch` is 9; pass a multiple of `pack` = 2"):
        adversaries.fit(KEY, DATA, STEP, {"batch": 9, "pack": 2})

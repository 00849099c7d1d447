"""The loss: its value, its gradients against float64, and heights that go from call to call."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.machines import meshes
from aeot_jax.ot.exact import exact

KEY = jax.random.key(0)
M = 24
Y = np.random.default_rng(0).normal(size=(M, 2)).astype(np.float32) * [1.5, 0.5] + [2, 0]
ZEROS = jnp.zeros(M)
N = 2**15
QUICK = aeot.SolverConfig(start="voronoi")
"""One start instead of all: less to compile."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normal:
    """N(b, a^2 I) in the plane: a source whose arrays one can train."""

    a: Any
    b: Any

    @property
    def dim(self):
        return 2

    @property
    def variance(self):
        return None

    def sample(self, key, n):
        return self.a * jax.random.normal(key, (n, 2), jnp.float32) + self.b[None, :]

    def from_uniform(self, u):
        return self.a * jax.scipy.special.ndtri(u) + self.b[None, :]


MU = Normal(jnp.float32(1.5), jnp.array([0.5, -0.25]))


@partial(jax.jit, static_argnames="axis_name")
def value_and_grad(key, mu, y, h, axis_name=None):
    def loss(mu, y):
        return aeot.w2_loss(
            key, mu, y, h, None, QUICK, num_steps=32, num_samples=N, axis_name=axis_name
        )

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(mu, y)


@pytest.fixture(scope="module")
def near():
    """Heights after some calls."""
    h = ZEROS
    for i in range(4):
        (_, h), _ = value_and_grad(jax.random.fold_in(KEY, i), MU, jnp.asarray(Y), h)
    return h


def half_squared(a, b, y):
    """W2^2 / 2 in float64: N(b, a^2 I) is N(0, I) scaled and moved, and the targets with it."""
    return a * a * exact.solve_exact((y - b) / a, source="gaussian").w2_squared / 2


def slope(function, step=1e-4):
    return (function(step) - function(-step)) / (2 * step)


def missed_mass(y, h):
    """The exact mass error of heights for the source MU."""
    a, b = float(MU.a), np.asarray(MU.b, np.float64)
    masses = exact.exact_masses(y, (np.asarray(h, np.float64) + y @ b) / a, source="gaussian")
    return np.sqrt(len(y) * np.square(masses - 1 / len(y)).sum())


def test_value_and_gradients_are_those_of_the_exact_distance(near):
    a, b, y = 1.5, np.array([0.5, -0.25]), Y.astype(np.float64)
    (value, h), (of_mu, of_y) = value_and_grad(jax.random.key(7), MU, jnp.asarray(Y), near)
    missed = missed_mass(y, h)
    assert missed < 0.15
    expected = half_squared(a, b, y)
    # Five standard errors of means over N samples, whose summands have size |x - T(x)|, and what
    # masses that are so far off take from a gradient: that part of a cell's own pull.
    root = np.sqrt(2 * expected)
    atol = root * (5 / np.sqrt(N) + missed / 4)
    np.testing.assert_allclose(value, expected, atol=5 * root**2 / np.sqrt(N) + missed**2)
    for v in (np.ones(2), np.array([1.0, -2.0])):
        slope_in_b = slope(lambda s, v=v: half_squared(a, b + s * v, y))
        np.testing.assert_allclose((of_mu.b * v).sum(), slope_in_b, atol=2 * atol)
    np.testing.assert_allclose(of_mu.a, slope(lambda s: half_squared(a + s, b, y)), atol=atol)
    for v in (np.ones((M, 2)), np.sign(y), np.cos(7 * y)):
        slope_in_y = slope(lambda s, v=v: half_squared(a, b, y + s * v))
        np.testing.assert_allclose((of_y * v).sum(), slope_in_y, atol=2 * atol)


def known(key, n):
    """The same points whatever the key: what the loss sees is then known."""
    del key
    return jax.random.normal(KEY, (n, 2), jnp.float32)


@pytest.mark.long
def test_value_and_gradients_are_those_of_the_energy_at_the_heights_returned():
    nu = jnp.arange(1.0, M + 1) / (M * (M + 1) / 2)
    arguments = jnp.asarray(Y, jnp.float32), nu, jnp.float32(1.5)

    def loss(y, nu, scale):
        mu = aeot.FromSampler(lambda key, n: scale * known(key, n), 2)
        return aeot.w2_loss(KEY, mu, y, None, nu, QUICK, num_steps=2, num_samples=512)

    (value, h), pull = jax.vjp(loss, *arguments)
    for nothing in pull((jnp.zeros(()), jnp.ones(M))):
        np.testing.assert_array_equal(nothing, 0)  # no gradient passes through the heights
    slopes = pull((jnp.ones(()), jnp.zeros(M)))
    psi = aeot.dual(arguments[0], h)

    def semi_dual(y, nu, scale):
        x = scale * known(KEY, 64)  # those of each stream
        h = psi - jnp.square(y).sum(1) / 2
        squares = jnp.square(x).sum(1).mean() / 2 + nu @ jnp.square(y).sum(1) / 2
        return squares - aeot.energy(h, x, y, nu)

    expected, slopes_2 = jax.value_and_grad(semi_dual, (0, 1, 2))(*arguments)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slopes[0], slopes_2[0], atol=1e-5)
    level = (slopes[1] - slopes_2[1]).mean()  # a constant that weights of sum 1 do not see
    np.testing.assert_allclose(slopes[1] - level, slopes_2[1], atol=1e-4)
    np.testing.assert_allclose(slopes[2], slopes_2[2], rtol=1e-5)


@pytest.mark.long
def test_heights_from_before_a_small_move_save_most_steps():
    """Eight steps after the move beat four times as many from no start, in 8 dimensions."""
    rng = np.random.default_rng(0)
    m, d = 400, 8
    y = rng.normal(size=(8, d))[rng.integers(8, size=m)] * 2 + rng.normal(size=(m, d)) / 2
    y = y.astype(np.float32)
    moved = y + 0.03 * rng.normal(size=(m, d)).astype(np.float32)
    x = rng.normal(size=(50_000, d)).astype(np.float32)

    @jax.jit
    def call(i, y, h):
        key = jax.random.fold_in(KEY, i)
        return aeot.w2_loss(key, aeot.Gaussian(d), y, h, num_steps=8, num_samples=8)[1]

    def missed(h):  # sampling adds m / n = 0.008 to the square
        counts = np.bincount((x @ moved.T + np.asarray(h)).argmax(1), minlength=m)
        return np.sqrt(m * np.square(counts / len(x) - 1 / m).sum())

    h = cold = jnp.zeros(m)
    for i in range(12):
        h = call(i, y, h)
    for i in range(4):
        cold = call(20 + i, moved, cold)
    assert missed(call(30, moved, h)) < 0.85 * missed(cold)


def test_targets_as_far_as_squares_reach_have_a_loss(near):
    """The source is a point beside them, so that value and slopes are homogeneous."""
    y = jnp.asarray(Y, jnp.float32)
    found = []
    for scale in (2.0**40, 2.0**60):
        (value, h), (_, slope) = value_and_grad(KEY, MU, scale * y, scale * near)
        found.append((value / scale / scale, h / scale, slope / scale))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_devices_share_the_samples_and_agree(near):
    y, key = jnp.asarray(Y, jnp.float32), jax.random.key(7)
    (value, h), (of_mu, of_y) = value_and_grad(key, MU, y, near)
    mesh = meshes.row(tuple(jax.devices()[:2]), "shards")

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(), P()), out_specs=P())
    def shared(mu, y, h):
        return value_and_grad(key, mu, y, h, axis_name="shards")

    (value_2, h_2), (of_mu_2, of_y_2) = shared(MU, y, near)
    np.testing.assert_array_equal(h_2, h)
    # Sums of 2^15 float32 numbers in another order.
    np.testing.assert_allclose(value_2, value, rtol=1e-4)
    np.testing.assert_allclose(of_y_2, of_y, atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), of_mu_2, of_mu)


def test_what_has_no_gradient_says_where_there_is_one():
    def lower(y):
        return aeot.wasserstein(KEY, aeot.Gaussian(2), y, ZEROS, num_samples=64).lower

    y = jnp.asarray(Y, jnp.float32)
    with pytest.raises(TypeError, match=r"`wasserstein` .* no gradient; train on `w2_loss`"):
        jax.grad(lower)(y)
    slope, seen = jax.grad(lambda y: ((y**2).sum(), lower(y)), has_aux=True)(y)
    np.testing.assert_array_equal(slope, 2 * y)
    assert seen > 0


def test_what_does_not_fit_is_named():
    def loss(**changes):
        arguments = {"key": KEY, "mu": aeot.Gaussian(2), "y": Y, "num_steps": 2}
        return aeot.w2_loss(**{**arguments, **changes})

    for changes, said in (
        ({"h0": ZEROS[1:]}, r"`h0` has shape \(23,\), but `y` has shape \(24, 2\)"),
        ({"axis_name": "shards"}, "`axis_name` is 'shards', but no"),
        ({"config": aeot.SolverConfig(time_limit=1.0)}, "`time_limit` is 1.0, which `w2_loss`"),
        ({"mu": aeot.Gaussian(3)}, "`mu` has dimension 3"),
        ({"y": 1e19 * Y}, r"`y` reaches \S*e\+19, and float32 cannot .* by its square"),
        ({"num_samples": 0}, "`num_samples` is 0; pass a number of samples, at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            loss(**changes)
    with pytest.raises(ValueError, match="`num_steps` is a traced value"):
        jax.jit(lambda n: loss(num_steps=n))(3)

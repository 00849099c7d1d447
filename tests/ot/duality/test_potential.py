"""The energy and the potentials: values, derivatives of every kind, one answer on any devices."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from aeot_jax.measures import Gaussian
from aeot_jax.ot.duality.certify import certify
from aeot_jax.ot.duality.potential import brenier, c_transform, dual, energy, kantorovich
from aeot_jax.ot.duality.transport import transport

N, M, D = 64, 10, 3
X_KEY, Y_KEY, H_KEY = jax.random.split(jax.random.key(0), 3)
X = jax.random.normal(X_KEY, (N, D))
Y = jax.random.normal(Y_KEY, (M, D))
H = 0.1 * jax.random.normal(H_KEY, (M,))
NU = jnp.arange(1.0, M + 1) / (M * (M + 1) / 2)
ARGUMENTS = (H, X, Y, NU)
ALL = (0, 1, 2, 3)

Float64s = np.ndarray


def oracle(h, x, y, nu) -> tuple[Float64s, tuple[Float64s, ...]]:
    """Energy and its four gradients, dense and in float64."""
    h, x, y, nu = (np.asarray(a, np.float64) for a in (h, x, y, nu))
    n = len(x)
    scores = x @ y.T + h
    winner = scores.argmax(1)
    is_winner = np.eye(len(y))[winner]
    value = scores.max(1).mean() - nu @ np.where(nu > 0, h, 0)
    return value, (is_winner.sum(0) / n - nu, y[winner] / n, is_winner.T @ x / n, -h)


def close(found, expected):
    # Sums of 64 numbers of order one in float32.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), found, expected)


def test_value_and_gradients_equal_the_dense_float64_ones():
    close(jax.jit(jax.value_and_grad(energy, ALL))(*ARGUMENTS), oracle(*ARGUMENTS))


def test_gradient_in_h_is_the_integer_counts_divided_once():
    counts = np.bincount((np.asarray(X @ Y.T) + np.asarray(H)).argmax(1), minlength=M)
    expected = counts.astype(np.float32) / np.float32(N) - np.asarray(NU)
    np.testing.assert_array_equal(jax.grad(energy)(*ARGUMENTS), expected)


def test_every_transformation_gives_the_same_derivative():
    tangents = (jnp.sin(H), jnp.cos(X), jnp.sin(Y), jnp.cos(NU))
    _, gradients = oracle(*ARGUMENTS)
    slope = sum((g * np.asarray(t)).sum() for g, t in zip(gradients, tangents, strict=True))
    value, tangent = jax.jit(partial(jax.jvp, energy))(ARGUMENTS, tangents)
    close((value, tangent), (oracle(*ARGUMENTS)[0], slope))
    jitted = jax.jit(energy)
    close(jax.linearize(jitted, *ARGUMENTS)[1](*tangents), slope)
    close(jax.vjp(jitted, *ARGUMENTS)[1](jnp.float32(2)), jax.tree.map(lambda g: 2 * g, gradients))
    close(jax.jit(jax.grad(energy, ALL))(*ARGUMENTS), gradients)


def test_gradients_are_difference_quotients():
    # Steps too short to move a sample over a face: the energy is then linear along them, up to the
    # product of the steps of x and y.
    rng = np.random.default_rng(1)
    steps = [1e-4 * rng.normal(size=a.shape) for a in ARGUMENTS]
    ahead = [np.asarray(a, np.float64) + s for a, s in zip(ARGUMENTS, steps, strict=True)]
    back = [np.asarray(a, np.float64) - s for a, s in zip(ARGUMENTS, steps, strict=True)]
    change = (oracle(*ahead)[0] - oracle(*back)[0]) / 2
    gradients = jax.jit(jax.grad(energy, ALL))(*ARGUMENTS)
    predicted = sum(
        (np.asarray(g, np.float64) * s).sum() for g, s in zip(gradients, steps, strict=True)
    )
    assert change == pytest.approx(predicted, rel=1e-3)


def test_second_derivatives_are_those_of_the_held_planes():
    hessian = jax.jit(jax.hessian(energy, (0, 1, 2)))(*ARGUMENTS)
    for i in range(3):
        for j in range(3):
            if {i, j} != {1, 2}:
                np.testing.assert_array_equal(hessian[i][j], 0)
    # The mean of <x, y_winner> is bilinear in x and y.
    winner = np.asarray(jnp.argmax(X @ Y.T + H[None, :], 1))
    expected = np.einsum("nm,de->ndme", np.eye(M)[winner], np.eye(D)) / N
    close(hessian[1][2], expected)
    np.testing.assert_array_equal(jax.jit(jax.jacrev(jax.jacrev(energy)))(*ARGUMENTS), 0)


def test_a_constant_in_the_heights_changes_nothing():
    shifted = energy(H + 64.0, X, Y, NU)
    # 64 costs the scores three digits of float32.
    np.testing.assert_allclose(shifted, energy(H, X, Y, NU), atol=2e-5)


def test_inactive_targets_count_as_nothing():
    h = H.at[3].set(-jnp.inf)
    nu = NU.at[3].set(0.0) / (1 - NU[3])
    kept = np.arange(M) != 3
    value, (dh, dx, dy, dnu) = jax.jit(jax.value_and_grad(energy, ALL))(h, X, Y, nu)
    expected, (eh, ex, ey, enu) = oracle(h[kept], X, Y[kept], nu[kept])
    close((value, dh[kept], dx, dy[kept], dnu[kept]), (expected, eh, ex, ey, enu))
    np.testing.assert_array_equal((dh[3], *dy[3], dnu[3]), 0)
    assert energy(h, X, Y, NU) == jnp.inf


def gradient_in_the_map(h, x, y, nu):
    return jax.value_and_grad(energy, ALL)(h, x, y, nu, "shards")


OUT = (P(), (P(), P("shards"), P(), P()))


def under_shard_map(check_vma: bool, devices: int) -> Callable:
    mesh = jax.make_mesh(
        (devices,), ("shards",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    specs = (P(), P("shards"), P(), P())
    return jax.jit(
        jax.shard_map(
            gradient_in_the_map, mesh=mesh, in_specs=specs, out_specs=OUT, check_vma=check_vma
        )
    )


def under_pmap(devices: int) -> Callable:
    return jax.pmap(
        gradient_in_the_map,
        axis_name="shards",
        in_axes=(None, 0, None, None),
        devices=jax.devices()[:devices],
    )


def under_vmap(devices: int) -> Callable:
    del devices
    return jax.jit(jax.vmap(gradient_in_the_map, axis_name="shards", in_axes=(None, 0, None, None)))


@pytest.mark.parametrize(
    "devices", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 4, 8))]
)
def test_devices_do_not_change_value_or_gradients(devices: int):
    expected = oracle(*ARGUMENTS)
    for check_vma in (True, False) if devices == 8 else (True,):
        close(under_shard_map(check_vma, devices)(*ARGUMENTS), expected)
    for mapped in (under_pmap, under_vmap):
        value, (dh, dx, dy, dnu) = mapped(devices)(H, X.reshape(devices, -1, D), Y, NU)
        for shard in range(devices):  # h, y and nu: the whole gradient on every shard
            close((value[shard], dh[shard], dy[shard], dnu[shard]), (expected[0], *_at(expected)))
        close(dx.reshape(N, D), expected[1][1])
        np.testing.assert_array_equal(dh[0], jax.grad(energy)(*ARGUMENTS))


def _at(expected):
    dh, _, dy, dnu = expected[1]
    return dh, dy, dnu


def test_tangents_in_the_map_are_those_of_all_samples():
    tangent = jnp.cos(X)
    slope = (oracle(*ARGUMENTS)[1][1] * np.asarray(tangent)).sum()

    def slope_in_the_map(x, t):
        return jax.jvp(lambda x: energy(H, x, Y, NU, "shards"), (x,), (t,))[1]

    shards = X.reshape(4, -1, D), tangent.reshape(4, -1, D)
    batched = jax.jit(jax.vmap(slope_in_the_map, axis_name="shards"))
    close(batched(*shards), np.full(4, slope))
    mesh = jax.make_mesh((4,), ("shards",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    mapped = jax.shard_map(slope_in_the_map, mesh=mesh, in_specs=P("shards"), out_specs=P())
    close(jax.jit(mapped)(X, tangent), slope)


def test_a_checked_shard_map_can_be_differentiated_from_outside():
    mesh = jax.make_mesh((4,), ("shards",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    specs = (P(), P("shards"), P(), P())
    mapped = jax.shard_map(
        lambda *a: energy(*a, axis_name="shards"), mesh=mesh, in_specs=specs, out_specs=P()
    )
    close(jax.jit(jax.value_and_grad(mapped, ALL))(*ARGUMENTS), oracle(*ARGUMENTS))


@pytest.mark.parametrize("over", ["vmap", "map"])
def test_problems_can_be_batched(over: str):
    h, y, nu = jnp.stack([H, -H]), jnp.stack([Y, Y[::-1]]), jnp.stack([NU, NU[::-1]])

    def one(problem):
        h, y, nu = problem
        return jax.value_and_grad(energy, ALL)(h, X, y, nu)

    batched = jax.vmap(one) if over == "vmap" else partial(jax.lax.map, one)
    value, gradients = jax.jit(batched)((h, y, nu))
    for i in range(2):
        close(
            (value[i], tuple(g[i] for g in gradients)),
            oracle(h[i], X, y[i], nu[i]),
        )


def test_adam_on_the_energy_finds_the_masses():
    mu, optimizer = Gaussian(D), optax.adam(0.05)

    def update(carry, key):
        h, state = carry
        value, gradient = jax.value_and_grad(energy)(h, mu.sample(key, 512), Y, NU)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(h, change), state), value

    keys = jax.random.split(jax.random.key(2), 200)
    zero = jnp.zeros(M)
    (h, _), _ = jax.jit(partial(jax.lax.scan, update))((zero, optimizer.init(zero)), keys)
    before, after = (certify(jax.random.key(3), mu, Y, h, NU, 20_000).mass_error for h in (zero, h))
    assert after < 0.2 < 1.0 < before


@pytest.mark.optimised
def test_gradient_holds_no_matrix_of_scores():
    n, m = 4096, 4000
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((m,), (n, 16), (m, 16), (m,))]
    compiled = jax.jit(jax.grad(energy, ALL)).lower(*shapes).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    # The kernel's own bound is 64 MiB; the scores alone would be 62.5 MiB, here nothing comes near.
    assert memory.temp_size_in_bytes < 16 * 2**20


def test_potentials_equal_the_dense_ones():
    x, y, h = (np.asarray(a, np.float64) for a in (X, Y, H))
    u = (x @ y.T + h).max(1)
    psi = h + (y**2).sum(1) / 2
    close(brenier(X, Y, H), u)
    close(kantorovich(X, Y, H), (x**2).sum(1) / 2 - u)
    close(dual(Y, H), psi)
    c_transform = (((x[:, None] - y[None]) ** 2).sum(2) / 2 - psi).min(1)
    close(kantorovich(X, Y, H), c_transform)
    assert kantorovich(X[0], Y, H) == kantorovich(X, Y, H)[0]
    np.testing.assert_array_equal(dual(Y, H.at[2].set(-jnp.inf))[2], -jnp.inf)


def far_from_the_origin():
    """Samples and targets around (1000, 1000, 1000), and heights with which many cells are met."""
    x, y = (np.asarray(a, np.float32) + np.float32(1000) for a in (X, Y))
    h = np.asarray(H, np.float64) - (y.astype(np.float64) @ np.full(3, 1000.0) - 3e6)
    h = (h - np.square(np.asarray(Y, np.float64)).sum(1) / 2).astype(np.float32)
    return x, y, h


def test_far_from_the_origin_the_winners_are_those_of_float64():
    x, y, h = far_from_the_origin()
    x64, y64, h64 = (a.astype(np.float64) for a in (x, y, h))
    index = (x64 @ y64.T + h64).argmax(1)
    assert len(np.unique(index)) > 5
    np.testing.assert_array_equal(transport(x, y, h), y[index])
    gradient = jax.grad(lambda x: kantorovich(x, y, h).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(gradient, x - y[index])
    np.testing.assert_array_equal(
        jax.grad(energy)(h, x, y, NU),
        np.bincount(index, minlength=M).astype(np.float32) / np.float32(N) - np.asarray(NU),
    )


def test_the_c_transform_rounds_by_distances_and_not_by_the_offset():
    x, y, _ = far_from_the_origin()
    cost = np.square(x[:, None].astype(np.float64) - y[None]).sum(2) / 2 - np.asarray(H)
    np.testing.assert_allclose(c_transform(x, y, H), cost.min(1), rtol=1e-6, atol=1e-6)
    index = cost.argmin(1)
    dx, dpsi = jax.grad(lambda x, psi: c_transform(x, y, psi).sum(), (0, 1))(jnp.asarray(x), H)
    np.testing.assert_array_equal(dx, x - y[index])
    np.testing.assert_array_equal(dpsi, -np.bincount(index, minlength=M))
    without = H.at[index[0]].set(-jnp.inf)
    cost[:, index[0]] = np.inf
    np.testing.assert_allclose(c_transform(x, y, without), cost.min(1), rtol=1e-6, atol=1e-6)


def test_the_discriminator_gives_the_generator():
    winner = np.asarray(jnp.argmax(X @ Y.T + H[None, :], 1))
    expected = np.asarray(X) - np.asarray(Y)[winner]
    gradient = jax.grad(kantorovich)
    batched = jax.jit(jax.vmap(gradient, in_axes=(0, None, None)))(X, Y, H)
    np.testing.assert_array_equal(batched, expected)
    np.testing.assert_array_equal(jax.jit(gradient)(X[0], Y, H), expected[0])
    whole = jax.jit(jax.grad(lambda x: kantorovich(x, Y, H).sum()))(X)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(jax.jit(jax.hessian(kantorovich))(X[0], Y, H), np.eye(D))


def test_potentials_can_be_batched_over_problems():
    h = jnp.stack([H, -H])
    found = jax.jit(jax.vmap(kantorovich, in_axes=(None, None, 0)))(X, Y, h)
    close(found, jnp.stack([kantorovich(X, Y, H), kantorovich(X, Y, -H)]))


@pytest.mark.optimised
def test_a_batch_of_single_samples_costs_one_call():
    def flops(function, x):
        analysis = jax.jit(function).lower(x).compile().cost_analysis()
        assert analysis is not None
        return analysis["flops"]

    whole = flops(lambda x: kantorovich(x, Y, H), X)
    single = flops(jax.vmap(lambda x: kantorovich(x, Y, H)), X)
    assert single < 2 * whole


def test_gradients_in_y_and_h_follow_the_winner():
    weights = jnp.cos(jnp.arange(N))
    loss = jax.jit(jax.grad(lambda y, h: (weights * brenier(X, y, h)).sum(), (0, 1)))
    dy, dh = loss(Y, H)
    is_winner = np.eye(M)[np.asarray(jnp.argmax(X @ Y.T + H[None, :], 1))]
    close((dy, dh), (is_winner.T @ np.asarray(weights[:, None] * X), is_winner.T @ weights))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy(H, X[0], Y, NU), r"`x` has shape \(3,\)"),
        (lambda: energy(H, X[:, :2], Y, NU), r"`x` has shape \(64, 2\), but `y`"),
        (lambda: energy(H[:4], X, Y, NU), r"`h` has shape \(4,\)"),
        (lambda: energy(H * jnp.nan, X, Y, NU), "`h` is nan at 0"),
        (lambda: energy(H, X * jnp.nan, Y, NU), "`x` is nan at 0, 0"),
        (lambda: energy(H, X, Y, 2 * NU), "`nu` sums to 2"),
        (lambda: energy(H, X, Y.at[1, 0].set(jnp.inf), NU), "`y` is inf at 1, 0"),
        (lambda: kantorovich(X[None], Y, H), r"`x` has shape \(1, 64, 3\)"),
        (lambda: kantorovich(X[0, :2], Y, H), r"d = 3"),
        (lambda: brenier(X * 1j, Y, H), "`x` has dtype complex64"),
        (
            lambda: kantorovich(X.at[3, 1].set(jnp.inf), Y, H),
            "`x` is inf at 3, 1; pass finite numbers",
        ),
        (lambda: dual(Y, -jnp.inf * jnp.ones(M)), "`h` is -inf everywhere"),
    ],
)
def test_mistakes_are_explained(call: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        call()

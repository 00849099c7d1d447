"""OTT-JAX says the same: equal c-transforms, assignments and dual costs, by value."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ott.geometry import costs
from ott.geometry.semidiscrete_pointcloud import SemidiscretePointCloud
from ott.problems.linear.potentials import DualPotentials
from ott.problems.linear.semidiscrete_linear_problem import SemidiscreteLinearProblem
from ott.solvers.linear.semidiscrete import SemidiscreteOutput, SemidiscreteSolver

from aeot_jax.measures import Gaussian, UniformCube
from aeot_jax.ot.couplings import pairing
from aeot_jax.ot.duality.assign import assign
from aeot_jax.ot.duality.interop import (
    dual_from_heights,
    from_ott,
    from_ott_potentials,
    heights_from_dual,
    pairs,
    to_ott,
    to_ott_potentials,
)
from aeot_jax.ot.duality.potential import c_transform, dual, kantorovich
from aeot_jax.ot.duality.transport import transport

N, M, D = 512, 20, 3
KEY = jax.random.key(1)
MU = Gaussian(D)
Y = jax.random.normal(jax.random.key(2), (M, D)) + 1.0
H = 0.3 * jax.random.normal(jax.random.key(3), (M,))
NU = jnp.arange(1.0, M + 1) / (M * (M + 1) / 2)
X = MU.sample(KEY, N)
SAMPLED = np.isin(np.arange(M), np.asarray(assign(X, Y, H)[1]))
"""Targets whose cell holds one of the samples."""


@pytest.fixture(autouse=True)
def ott_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def close(found, expected):
    # Squares of norms up to 30 in float32, on either side.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def ott_problem(weights=None, epsilon=0.0, **changes):
    def sampler(key, shape, dtype=None):
        return jax.random.normal(key, shape, dtype)

    geometry = SemidiscretePointCloud(sampler, Y, epsilon=epsilon, **changes)
    return SemidiscreteLinearProblem(geometry, b=weights)


def draw(output: SemidiscreteOutput) -> Any:
    """Its hard assignment of N samples: the return type names the regularised one."""
    return output.sample(KEY, N)


def test_some_targets_have_no_sample_and_most_have():
    assert 0.5 < SAMPLED.mean() < 1


@pytest.mark.parametrize("nu", [None, NU], ids=["uniform", "weighted"])
def test_one_dual_vector_gives_equal_transforms_assignments_and_dual_cost(nu):
    output = to_ott(MU, Y, H, nu)
    close(output.g, 2 * (H + jnp.square(Y).sum(1) / 2))
    drawn = draw(output)
    np.testing.assert_array_equal(drawn.geom.x, X)
    phi = kantorovich(X, Y, H)
    close(drawn.f, 2 * phi)
    np.testing.assert_array_equal(drawn.paired_indices[1], assign(X, Y, H)[1])
    weights = jnp.full(M, 1 / M) if nu is None else nu
    close(drawn.dual_cost, 2 * phi.mean() + 2 * weights @ dual(Y, H))
    if nu is None:
        close(drawn.primal_cost, jnp.square(X - transport(X, Y, H)).sum(1).mean())


def test_the_transform_back_is_that_of_ott_and_exact_where_a_sample_is():
    phi = kantorovich(X, Y, H)
    psi = c_transform(Y, X, phi)
    drawn = draw(to_ott(MU, Y, H))
    theirs, _ = drawn.ot_prob._c_transform(2 * phi, epsilon=0.0, axis=0)
    close(2 * psi, theirs)
    close(psi[SAMPLED], dual(Y, H)[SAMPLED])
    assert (psi >= dual(Y, H) - 1e-5).all()


def test_the_transform_of_psi_is_phi():
    close(c_transform(X, Y, dual(Y, H)), kantorovich(X, Y, H))
    close(c_transform(X[0], Y, dual(Y, H)), kantorovich(X[0], Y, H))


def test_what_the_solver_of_ott_found_comes_over_with_its_problem():
    solver = SemidiscreteSolver(num_iterations=50, batch_size=64, optimizer=optax.adam(0.1))
    output = solver(jax.random.key(0), ott_problem(NU))
    mu, y, h, nu = from_ott(output)
    close(nu, NU)
    np.testing.assert_array_equal(mu.sample(KEY, N), X)
    drawn = draw(output)
    close(2 * kantorovich(X, y, h), drawn.f)
    np.testing.assert_array_equal(assign(X, y, h)[1], drawn.paired_indices[1])
    close(output.to_dual_potentials().transport(X), transport(X, y, h))


def test_there_and_back_changes_nothing():
    nu = NU.at[3].set(0.0) / (1 - NU[3])
    h = H.at[3].set(-jnp.inf)
    again = from_ott(to_ott(MU, Y, h, nu))
    np.testing.assert_array_equal(again.y, Y)
    close(again.h, h)
    close(again.nu, nu)
    np.testing.assert_array_equal(again.mu.sample(KEY, N), X)
    close(heights_from_dual(Y, dual_from_heights(Y, H)), H)


def test_a_target_without_weight_owns_no_cell():
    nu = NU.at[3].set(0.0) / (1 - NU[3])
    output = SemidiscreteOutput(g=dual_from_heights(Y, H), prob=ott_problem(nu))
    _, y, h, _ = from_ott(output)
    assert h[3] == -jnp.inf
    np.testing.assert_array_equal(assign(X, y, h)[1], draw(output).paired_indices[1])


def test_dual_functions_carry_the_map_and_its_inverse():
    potentials = to_ott_potentials(Y, H, X)
    close(potentials.transport(X), transport(X, Y, H))
    # A target goes back to a sample of its own cell.
    back = potentials.transport(Y[SAMPLED], forward=False)
    np.testing.assert_array_equal(assign(back, Y, H)[1], np.flatnonzero(SAMPLED))
    close(
        potentials.distance(X, Y[SAMPLED]),
        2 * kantorovich(X, Y, H).mean() + 2 * dual(Y, H)[SAMPLED].mean(),
    )


def test_heights_come_back_from_either_dual_function():
    both = to_ott_potentials(Y, H, X)
    close(from_ott_potentials(both, Y)[SAMPLED], H[SAMPLED])
    forward = to_ott(MU, Y, H).to_dual_potentials()
    assert forward.g is None
    h = from_ott_potentials(forward, Y, X)
    close(h[SAMPLED], H[SAMPLED])
    # Heights of c-transforms are those of the same potential on the samples.
    close(kantorovich(X, Y, h), kantorovich(X, Y, H))


def test_pairs_are_samples_with_their_targets_and_never_end():
    batches = list(itertools.islice(pairs(KEY, MU, Y, H, batch_size=64), 3))
    for x, z in batches:
        np.testing.assert_array_equal(z, transport(x, Y, H))
    drawn = np.concatenate([x for x, _ in batches])
    assert len(np.unique(drawn, axis=0)) == len(drawn)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=4 / np.sqrt(len(drawn)))
    np.testing.assert_allclose(drawn.var(0), 1, atol=4 * np.sqrt(2 / len(drawn)))
    again, _ = next(pairs(KEY, MU, Y, H, batch_size=64))
    np.testing.assert_array_equal(again, batches[0][0])
    other, _ = next(pairs(jax.random.key(9), MU, Y, H, batch_size=64))
    assert not np.array_equal(other, batches[0][0])


def test_pairs_compile_once():
    batches = pairs(KEY, MU, Y, H, batch_size=64)
    next(batches)
    program: Any = pairing.paired
    before = program._cache_size()
    for _ in range(3):
        next(batches)
    assert program._cache_size() == before


def test_mistakes_are_explained():
    g = dual_from_heights(Y, H)
    with pytest.raises(ValueError, match="`output` is regularised"):
        from_ott(SemidiscreteOutput(g=g, prob=ott_problem(epsilon=0.1)))
    with pytest.raises(ValueError, match="`cost_fn` is Euclidean"):
        from_ott(SemidiscreteOutput(g=g, prob=ott_problem(cost_fn=costs.Euclidean())))
    with pytest.raises(ValueError, match="`scale_cost` 'mean'"):
        from_ott(SemidiscreteOutput(g=g, prob=ott_problem(scale_cost="mean")))
    with pytest.raises(ValueError, match=r"`g` has shape \(3,\)"):
        heights_from_dual(Y, g[:3])
    with pytest.raises(ValueError, match="has no g; pass samples `x`"):
        from_ott_potentials(to_ott(MU, Y, H).to_dual_potentials(), Y)
    with pytest.raises(ValueError, match="`cost_fn` is Euclidean"):
        from_ott_potentials(DualPotentials(f=None, g=None, cost_fn=costs.Euclidean()), Y)
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        pairs(KEY, MU, Y, H, batch_size=0)
    with pytest.raises(ValueError, match="`mu` has dimension 2"):
        pairs(KEY, UniformCube(2), Y, H)
    with pytest.raises(ValueError, match=r"`psi` has shape \(3,\)"):
        c_transform(X, Y, H[:3])

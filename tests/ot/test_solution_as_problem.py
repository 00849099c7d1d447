"""A solution stands for its source, targets, heights and weights."""

from dataclasses import replace

import chex
import jax
import numpy as np
import pytest

import aeot_jax as aeot

KEY = jax.random.key(0)
Y = np.random.default_rng(0).normal(size=(12, 2))
NU = np.arange(1, 13) / 78
MU = aeot.UniformCube(2)
CALLS = {
    "certify": lambda *problem: aeot.certify(KEY, *problem, num_samples=2000),
    "wasserstein": lambda *problem: aeot.wasserstein(KEY, *problem, num_samples=20_000),
    "extension": lambda *problem: aeot.extension(KEY, *problem, num_samples=64),
    "mass_centres": lambda *problem: aeot.mass_centres(KEY, *problem[:3], num_samples=2000),
    "coupling": lambda *problem: aeot.coupling(*problem, batch_size=8)[5],
    "pairs": lambda *problem: next(aeot.pairs(KEY, *problem[:3], batch_size=8)),
}


@pytest.fixture(scope="module")
def solution():
    return aeot.solve(KEY, MU, Y, NU)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_solution_gives_what_its_parts_give(call, solution):
    found, expected = call(solution), call(MU, Y, solution.h, NU)
    chex.assert_trees_all_equal(found, expected)


def test_weights_are_not_forgotten(solution):
    assert float(aeot.certify(KEY, solution).mass_error) < 0.05
    assert float(aeot.certify(KEY, MU, Y, solution.h).mass_error) > 0.3


def test_the_problem_is_held_as_it_was_given(solution):
    asked = solution.problem
    assert asked.mu is MU
    assert asked.y is Y
    assert asked.nu is NU
    assert repr(solution.problem) == (
        "Problem(UniformCube(dim=2), 12 targets in 2 dimensions, weights of their own)"
    )
    lists = aeot.solve(KEY, MU, [[0.0, 1.0], [1.0, 0.0]]).problem
    assert lists is not None
    assert lists.y.shape == (2, 2)
    assert lists.nu is None


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_half_a_problem_is_refused(call, solution):
    with pytest.raises(ValueError, match="`y` is given beside a `Solution`, which holds it"):
        call(solution, Y)
    with pytest.raises(
        ValueError, match=r"`y` is None; pass the targets \(m, d\), or a `Solution`"
    ):
        call(MU)
    with pytest.raises(ValueError, match=r"`h` is None; pass the heights .*, or a `Solution`"):
        call(MU, Y)
    with pytest.raises(ValueError, match="is a `Solution` without its problem"):
        call(replace(solution, problem=None))


def test_a_solution_passes_jit_with_its_problem(solution):
    found = jax.jit(lambda s: aeot.certify(KEY, s, num_samples=2000, parallel="none"))(solution)
    expected = aeot.certify(KEY, solution, num_samples=2000)
    np.testing.assert_allclose(found.mass_error, expected.mass_error, rtol=1e-5)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_extension_is_no_problem_and_says_what_to_pass(call, solution):
    ext = aeot.extension(KEY, solution, num_samples=64)
    with pytest.raises(ValueError, match=r"`mu` is of class Extension; pass its `mu`, `y` and `h`"):
        call(ext)

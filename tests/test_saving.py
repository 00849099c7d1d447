"""Solutions and extensions on disk: the same to the last bit, or one sentence."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sources
import tiny

import aeot_jax as aeot
from aeot_jax.checkpoints import contents, trees
from aeot_jax.storage import records

KEY = jax.random.key(0)
Y = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
FEW = aeot.SolverConfig(tolerance=None, max_steps=2, start="gaussian")


@pytest.fixture(scope="module")
def solution():
    return aeot.solve(KEY, aeot.Gaussian(3), Y, config=FEW)


def extended(mu: aeot.Measure, solution: aeot.Solution) -> aeot.Extension:
    return aeot.extension(KEY, mu, Y, solution.h, num_samples=64)


def same(found, expected) -> None:
    chex.assert_trees_all_equal(found, expected, strict=True)


def test_a_solution_comes_back_to_the_last_bit(solution, tmp_path):
    aeot.save(solution, tmp_path / "s.npz")
    found = aeot.load(tmp_path / "s.npz")
    same(found, solution)
    assert isinstance(found, aeot.Solution)
    assert aeot.message(found) == aeot.message(solution)


def test_a_batch_of_solutions_comes_back_without_its_problem(solution, tmp_path):
    batch = jax.vmap(lambda _: solution)(jnp.zeros(2))
    aeot.save(batch, tmp_path / "s.npz")
    found = aeot.load(tmp_path / "s.npz")
    assert found.h.shape == (2, 20)
    assert found.problem is None


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", "bfloat16"])
def test_targets_come_back_as_they_were_given(dtype, solution, tmp_path):
    y = np.asarray(8 + Y / 3, np.float64).astype(jnp.dtype(dtype))
    nu = np.arange(1, 21) / 210
    asked = aeot.Problem(aeot.Empirical(jnp.asarray(Y)), y, nu)
    aeot.save(replace(solution, problem=asked), tmp_path / "s.npz")
    found = aeot.load(tmp_path / "s.npz").problem
    np.testing.assert_array_equal(np.asarray(found.y, np.float64), np.asarray(y, np.float64))
    assert found.y.dtype == (np.float32 if dtype == "bfloat16" else y.dtype)
    np.testing.assert_array_equal(found.nu, nu)
    np.testing.assert_array_equal(found.mu.points, Y)


def test_a_solution_of_code_comes_back_with_the_source_that_is_passed(solution, tmp_path):
    mu = aeot.FromSampler(lambda key, n: jax.random.normal(key, (n, 3)), 3)
    asked = replace(solution, problem=aeot.Problem(mu, Y))
    aeot.save(asked, tmp_path / "s.npz")
    assert aeot.load(tmp_path / "s.npz").problem is None
    assert aeot.load(tmp_path / "s.npz", mu=mu).problem.mu is mu
    with pytest.raises(ValueError, match="`mu` has dimension 2"):
        aeot.load(tmp_path / "s.npz", mu=aeot.Gaussian(2))
    aeot.save(solution, tmp_path / "t.npz")
    with pytest.raises(ValueError, match="holds its source, Gaussian; leave it out"):
        aeot.load(tmp_path / "t.npz", mu=mu)
    aeot.save(replace(solution, problem=None), tmp_path / "u.npz")
    with pytest.raises(ValueError, match="has no problem; leave it out"):
        aeot.load(tmp_path / "u.npz", mu=mu)


@pytest.mark.parametrize("mu", sources.EVERY, ids=lambda mu: type(mu).__name__)
def test_an_extension_comes_back_with_its_source(mu, solution, tmp_path):
    made = extended(mu, solution)
    aeot.save(made, tmp_path / "e.npz")
    found = aeot.load(tmp_path / "e.npz")
    same(found, made)
    np.testing.assert_array_equal(found.mu.sample(KEY, 64), mu.sample(KEY, 64))
    if isinstance(mu, aeot.Gaussian):  # what is made follows from what is the same
        for one, other in zip(
            aeot.generate(KEY, found, 64)[:2], aeot.generate(KEY, made, 64)[:2], strict=True
        ):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"holds its source, .*; leave it out"):
        aeot.load(tmp_path / "e.npz", mu=mu)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"mu_a": {"source": "Gaussian", "dim": 1}},
        {"mu_a": {"source": "Gaussian", "dim": 1}, "mu_b": {"source": "Gaussian", "dim": 1}},
        {"mu_a": {"source": "Gaussian", "dim": 4}, "mu_b": {"source": "Gaussian", "dim": -1}},
        {"mu_a": {"source": "Gaussian", "dim": 1}, "mu_b": {"source": "FromSampler", "dim": 2}},
        {"mu_a": "Gaussian", "mu_b": {"source": "Gaussian", "dim": 3}},
    ],
)
def test_a_product_of_parts_that_do_not_fit_is_refused(parts, solution):
    arrays = records.flatten(trees.arrays_of(solution))
    good = {"mu_a": {"source": "Gaussian", "dim": 1}, "mu_b": {"source": "UniformBall", "dim": 2}}
    meta = {"solution_schema": 2, "source": {"name": "Product", "parts": good}}
    contents.check_solution(meta, arrays)
    with pytest.raises(ValueError, match="source"):
        contents.check_solution({**meta, "source": {"name": "Product", "parts": parts}}, arrays)
    for _ in range(10):
        good = {**good, "mu_b": {"source": {"name": "Product", "parts": good}, "dim": 2}}
    with pytest.raises(ValueError, match="source"):
        contents.check_solution({**meta, "source": {"name": "Product", "parts": good}}, arrays)


def test_a_product_with_code_inside_is_code(solution, tmp_path):
    mu = aeot.Product(aeot.Gaussian(1), aeot.FromSampler(lambda key, n: own(key, n)[:, 1:], 2))
    aeot.save(replace(solution, problem=aeot.Problem(mu, Y)), tmp_path / "s.npz")
    assert aeot.load(tmp_path / "s.npz").problem is None
    assert aeot.load(tmp_path / "s.npz", mu=mu).problem.mu is mu


def own(key, n):
    return 2 * jax.random.normal(key, (n, 3), jnp.float32)


def test_a_source_that_is_code_is_passed_to_load(solution, tmp_path):
    mu = aeot.FromSampler(own, 3)
    made = extended(mu, solution)
    aeot.save(made, tmp_path / "e.npz")
    same(aeot.load(tmp_path / "e.npz", mu=mu), made)
    with pytest.raises(ValueError, match=r"`mu` is None, but the source .* is code"):
        aeot.load(tmp_path / "e.npz")
    with pytest.raises(ValueError, match="`mu`"):
        aeot.load(tmp_path / "e.npz", mu=aeot.Gaussian(4))


def test_a_source_of_ones_own_is_code_whatever_its_name(solution, tmp_path):
    wide = type("Gaussian", (aeot.FromSampler,), {})(own, 3)
    path = tmp_path / "e.npz"
    aeot.save(replace(extended(aeot.FromSampler(own, 3), solution), mu=wide), path)
    with pytest.raises(ValueError, match=r"the source of .* is code"):
        aeot.load(path)
    assert aeot.load(path, mu=wide).mu is wide


def test_every_record_refuses_what_it_is_not(solution, tmp_path):
    with pytest.raises(ValueError, match="`thing` is an array of shape"):
        aeot.save(solution.h, tmp_path / "x.npz")
    aeot.save(solution, tmp_path / "s.npz")
    aeot.save(tiny.model(), tmp_path / "m.npz")
    records.write(tmp_path / "t.npz", "training", {"a": np.zeros(3)}, {})
    for name in ("s", "m"):
        with pytest.raises(ValueError, match=r"`mu` is given, but .* leave it out"):
            aeot.load(tmp_path / f"{name}.npz", mu=aeot.Gaussian(3))
    with pytest.raises(ValueError, match="holds 'training', not 'model' or 'solution'"):
        aeot.load(tmp_path / "t.npz")
    with pytest.raises(FileNotFoundError):
        aeot.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda s: aeot.save(s, tmp_path / "x.npz"))(solution)


def rewritten(path, change, kind):
    arrays, meta = records.read(path, kind)
    change(arrays, meta)
    records.write(path, kind, arrays, {k: v for k, v in meta.items() if k != "sha256"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, m: m.update(solution_schema=3), "another version"),
        (lambda a, m: m.pop("solution_schema"), "damaged"),
        (lambda a, m: a.pop("h"), "no array 'h'"),
        (lambda a, m: a.update(h=np.full(20, -np.inf, np.float32)), "no target a cell"),
        (lambda a, m: a.update(h=a["h"].astype(np.float16)), "damaged"),
        (lambda a, m: a.update(num_steps=np.int32(-1)), "no fit gives"),
        (lambda a, m: a.update(more=np.zeros(2, np.float32)), "another version"),
        (lambda a, m: m.update(source="Cauchy"), "another version"),
        (lambda a, m: m.update(source="Empirical"), "no array 'mu/points'"),
        (lambda a, m: a.update({"problem/y": a["problem/y"][:5]}), "damaged"),
        (lambda a, m: a.update({"problem/y": a["problem/y"] + np.nan}), "no fit gives"),
        (lambda a, m: a.update({"problem/nu": np.full(20, -1.0)}), "negative weight"),
        (lambda a, m: a.pop("problem/y"), "no array 'problem/y'"),
    ],
)
def test_a_forged_solution_is_refused(solution, tmp_path, change, said):
    path = tmp_path / "s.npz"
    aeot.save(solution, path)
    rewritten(path, change, "solution")
    with pytest.raises(ValueError, match=said):
        aeot.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, m: m.update(source="Cauchy"), "another version"),
        (lambda a, m: m.update(source=3), "another version"),
        (lambda a, m: m.update(source="Empirical"), "no array 'mu/points'"),
        (lambda a, m: a.update(y=a["y"][:, :2]), "damaged"),
        (lambda a, m: a.update(h=a["h"][:5]), "damaged"),
        (lambda a, m: a.update(threshold=np.float32(9)), "no fit gives"),
    ],
)
def test_a_forged_extension_is_refused(solution, tmp_path, change, said):
    path = tmp_path / "e.npz"
    aeot.save(extended(aeot.Gaussian(3), solution), path)
    rewritten(path, change, "extension")
    with pytest.raises(ValueError, match=said):
        aeot.load(path)

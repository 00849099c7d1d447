"""The forms that an accelerator takes, on a CPU: the same answers as the others."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax import measures
from aeot_jax.ot.cells import blocks, blockwise
from aeot_jax.ot.counts import streams
from aeot_jax.ot.counts.ways.table import WAYS
from aeot_jax.ot.counts.ways.way import Batch, Draws
from aeot_jax.ot.devices import placement
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import config, planning, solve, stepping
from aeot_jax.ot.solver.starts import start

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)


def mapped_by_nobody(key, n):
    """A sampler with a host in it, which cannot be mapped."""
    shape = jax.ShapeDtypeStruct((n, 2), jnp.float32)

    def draw(data):
        rng = np.random.default_rng(int(np.asarray(data).ravel()[-1]))
        return rng.standard_normal((n, 2), np.float32)

    return jax.pure_callback(draw, shape, jax.random.key_data(key))


@pytest.mark.parametrize(
    ("mu", "way"),
    [
        pytest.param(measures.Gaussian(3), "independent", marks=pytest.mark.long),
        (measures.UniformCube(2), "sobol"),
        (measures.Gaussian(9), "orbits"),
        (measures.FromSampler(mapped_by_nobody, 2), "independent"),
    ],
)
def test_streams_abreast_count_what_streams_in_turn_count(mu, way, accelerator, monkeypatch):
    y = jnp.asarray(RNG.standard_normal((70, mu.dim)), jnp.float32)
    nu = jnp.full(70, 1 / 70)
    ids = jnp.arange(placement.NUM_STREAMS, dtype=jnp.int32)
    marginals, draws = Marginals(mu, y, nu), Draws(Batch(WAYS[way], 48))
    arguments = KEY, marginals, -0.5 * jnp.square(y).sum(1), ids, draws
    abreast = jax.jit(lambda: streams.stream_counts(*arguments))()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    in_turn = jax.jit(lambda: streams.stream_counts(*arguments))()
    np.testing.assert_array_equal(abreast[0], in_turn[0])
    assert abreast[1].shape == in_turn[1].shape
    np.testing.assert_allclose(abreast[1], in_turn[1], rtol=1e-5)  # float sums in another order


@pytest.mark.parametrize(("dim", "way"), [(2, "sobol"), (33, "orbits")])
def test_strict_types_and_64_bits_change_no_count(dim, way, accelerator):
    mu, y = measures.Gaussian(dim), jnp.asarray(RNG.standard_normal((70, dim)), jnp.float32)
    nu, ids = jnp.full(70, 1 / 70), jnp.arange(placement.NUM_STREAMS, dtype=jnp.int32)

    def counts():
        marginals, draws = Marginals(mu, y, nu), Draws(Batch(WAYS[way], 16))
        return jax.jit(lambda: streams.stream_counts(KEY, marginals, 0 * nu, ids, draws))()

    usual = counts()
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        strict = counts()
    assert (strict[0].dtype, strict[1].dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(usual[0], strict[0])


@pytest.mark.long
def test_devices_share_what_is_scored_together(accelerator):
    mu, y = measures.Gaussian(33), jax.random.normal(jax.random.key(1), (1024, 33))
    nu = jnp.full(1024, 1 / 1024)
    base = config.SolverConfig(tolerance=None, max_steps=4, batch_size=512, parallel="none")

    def heights(**layout):
        decisions = replace(base, **layout)
        return solve.solve(KEY, mu, y, nu, decisions)

    alone, devices = heights(), tuple(jax.devices()[:4])
    shared = heights(parallel="shard_map", devices=devices, target_shards=2)  # two rows of two
    np.testing.assert_array_equal(shared.certificate.mass_error, alone.certificate.mass_error)
    np.testing.assert_allclose(shared.h, alone.h, rtol=0, atol=1e-5)


def test_sums_over_blocks_do_not_need_their_turns(accelerator, monkeypatch):
    values = jax.random.normal(KEY, (1500,))

    def square(part, offset):
        return {"sum": ((part - offset) ** 2).sum(), "positive": (part > 0).sum(dtype=jnp.int32)}

    abreast = jax.jit(lambda: blockwise.map_blocks(square, (values,), 0.5))()
    rows = jax.jit(lambda: blockwise.map_rows(lambda y, a: y * a, values[:, None], 2.0))()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    in_turn = jax.jit(lambda: blockwise.map_blocks(square, (values,), 0.5))()
    assert abreast["sum"].shape == (blockwise.NUM_BLOCKS,)
    np.testing.assert_allclose(abreast["sum"], in_turn["sum"], rtol=1e-6)
    np.testing.assert_array_equal(abreast["positive"], in_turn["positive"])
    np.testing.assert_array_equal(rows[:1500, 0], 2 * values)


@pytest.mark.parametrize(
    ("limits", "longer"),
    [
        ({"tolerance": None, "max_samples": 8_000_000}, True),
        ({"tolerance": 0.02}, True),
        ({"tolerance": 0.2}, False),  # a thousand steps of 4096 do
        ({"tolerance": 0.5}, False),
        ({"tolerance": None, "max_steps": 5_000}, False),
        ({"tolerance": None, "time_limit": 5.0}, False),
        ({"tolerance": 0.02, "method": "adam"}, False),
        ({"tolerance": 0.02, "batch_size": 512}, False),
    ],
)
def test_long_solves_take_few_large_steps(limits, longer, accelerator, monkeypatch):
    mu, decisions = measures.Gaussian(32), config.SolverConfig(**limits)
    of_accelerator = planning.plan(60_000, mu, decisions).batch.size
    steps = planning.budget(60_000, mu, decisions).phases.end
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    of_cpu = planning.plan(60_000, mu, decisions).batch.size
    if longer:
        assert of_cpu < of_accelerator <= 65_536
        assert 700 <= steps <= 1500 or of_accelerator == 65_536
    else:
        assert of_accelerator == of_cpu


@pytest.mark.long
def test_steps_find_the_same_heights(accelerator, monkeypatch):
    mu, y = measures.Gaussian(2), jax.random.normal(jax.random.key(1), (150, 2))
    nu = jnp.full(150, 1 / 150)
    decisions = config.SolverConfig(tolerance=None, max_steps=40, batch_size=256)

    def heights():
        state = start.init(KEY, mu, y, nu, decisions)
        plan, where = planning.plan(150, mu, decisions), config.placement(decisions)
        moved, *chi2 = stepping.run_steps(state, Marginals(mu, y, nu), plan, where, 40)
        return moved.heights, chi2[0], state.spread

    on_accelerator = heights()
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    on_cpu = heights()
    # A sum of another last bit moves no sample here; forty steps keep it below a thousandth.
    spread = float(on_cpu[2])
    np.testing.assert_allclose(on_accelerator[0], on_cpu[0], atol=1e-3 * spread)
    np.testing.assert_allclose(on_accelerator[1], on_cpu[1], rtol=1e-2)


def test_the_first_of_the_best_is_found_and_differentiated():
    rng = np.random.default_rng(0)
    s = rng.integers(-3, 4, (5, 40, 70)).astype(np.float32)
    s[0, 0] = -np.inf
    s[1, 2, 3] = np.nan
    values, places = jax.jit(blocks.first_best)((s, -s))
    for value, place, given in zip(values, places, (s, -s), strict=True):
        real = np.where(np.isnan(given), -np.inf, given)
        np.testing.assert_array_equal(value, real.max(-1))
        np.testing.assert_array_equal(place, real.argmax(-1))
    slope = jax.grad(lambda s: blocks.first_best((s,))[0][0].sum())(jnp.asarray(s))
    np.testing.assert_array_equal(slope, np.eye(70)[np.asarray(places[0])])


@pytest.mark.parametrize("most", [1, 128, 1000, 8192, 10**9])
def test_blocks_are_equal_and_score_few_targets_twice(most):
    for m in (1, 100, 128, 129, 1000, 10_000, 60_001, 1_000_000):
        block = blocks.equal_blocks(m, most)
        number = -(-m // block)
        assert block == m or block % 128 == 0
        assert block <= max(128, most + 127)
        assert number * block < m + 128 * number

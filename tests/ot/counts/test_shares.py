"""Samples that count for two cells: with whom they are shared, and that devices agree on it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.measures import Gaussian
from aeot_jax.ot.cells import antithetic, contenders
from aeot_jax.ot.cells.blocks import as_rows
from aeot_jax.ot.counts import shares, streams, units
from aeot_jax.ot.counts.ways.table import WAYS
from aeot_jax.ot.counts.ways.way import Batch, Draws, Way
from aeot_jax.ot.devices.placement import Axes
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning
from aeot_jax.ot.solver.config import SolverConfig

pytestmark = pytest.mark.optimised
LONG = pytest.mark.long
KEY, DIM = jax.random.key(0), 33
WAYS_THAT_SHARE = [name for name, way in WAYS.items() if way.can_share]


def problem(m):
    """Targets, uniform weights and heights that differ; the last tenth has no weight."""
    y = jax.random.normal(jax.random.key(1), (m, DIM))
    h = 0.3 * jax.random.normal(jax.random.key(2), (m,)).at[-(m // 10 + 1) :].set(-jnp.inf)
    return Marginals(Gaussian(DIM), y, jnp.full(m, 1 / m)), h


def scale_of(width):
    """Gaps that are shared up to a width, and added up in parts of a spread of 1."""
    return shares.Scale(jnp.float32(width), jnp.float32(1), units.parts(4096))


@pytest.mark.parametrize("way", WAYS_THAT_SHARE)
@pytest.mark.parametrize("m", [*(pytest.param(m, marks=LONG) for m in (2, 48, 1024)), 1500])
def test_the_two_best_planes_are_those_of_all_scores(way, m):
    marginals, h = problem(m)
    batch = Batch(WAYS[way], 64)
    x = batch.way.drawn(KEY, marginals.mu, jnp.int32(0), 64)
    rows, heights = streams._whole(as_rows(marginals.y), h)
    found = batch.way.contending(x, rows, heights)
    index, gap = contenders.two_best(found, None, m)
    every = x
    if way == "orbits":
        every = antithetic.members(x).reshape(-1, DIM)
    scores = np.asarray(every, np.float64) @ np.asarray(marginals.y, np.float64).T + np.asarray(h)
    order = np.argsort(-scores, axis=1)[:, :2]
    highest = np.take_along_axis(scores, order, axis=1)
    cells = batch.way.owners(x, rows, heights).reshape(-1)
    np.testing.assert_array_equal(index[0], cells)
    np.testing.assert_array_equal(index[0], order[:, 0])
    np.testing.assert_allclose(gap, highest[:, 0] - highest[:, 1], rtol=1e-4, atol=1e-4)
    has_second = np.isfinite(highest[:, 1])
    np.testing.assert_array_equal(np.asarray(index[1])[has_second], order[has_second, 1])
    assert np.isinf(np.asarray(gap)[~has_second]).all()


def test_a_share_is_a_half_at_the_face_and_nothing_beyond_the_width():
    gap, width = jnp.array([0.0, 0.25, 0.5, 1.0, jnp.inf]), jnp.float32(0.5)
    share = shares.of_runner_up(gap, width)
    assert share.tolist() == [shares.UNITS // 2, shares.UNITS // 4, 0, 0, 0]
    assert not shares.of_runner_up(gap, jnp.float32(0)).any()
    added = shares.moved(jnp.array([0, 2, 3]), jnp.array([1, 0, 2]), share[:3], num_targets=3)
    assert added.tolist() == [64 - 128, 128, -64]  # the third best plane is another device's


def test_gaps_of_a_cell_are_those_of_its_samples():
    marginals, h = problem(1500)
    batch, spread = Batch(WAYS["independent"], 64), 5.0
    parts = units.parts(8 * 64)
    scale = shares.Scale(jnp.float32(0), jnp.float32(spread), parts)
    counts, shared, _ = streams.draw_shared(KEY, marginals, h, 1, scale, draws=Draws(batch))
    key = jax.random.fold_in(KEY, 0)
    drawn = [batch.way.drawn(key, marginals.mu, jnp.int32(stream), 64) for stream in range(8)]
    top, index = aeot.top_k(jnp.concatenate(drawn), marginals.y, h, 2)
    expected = np.zeros(1500)
    np.add.at(expected, np.asarray(index[:, 0]), np.asarray(top[:, 0] - top[:, 1]))
    np.testing.assert_allclose(
        units.told(shared.gaps, jnp.float32(spread), parts), expected, rtol=1e-4, atol=1e-3
    )
    assert not np.asarray(shared.added).any()
    assert np.asarray(counts).sum() == 8 * 64


def test_steps_that_share_learn_the_gaps_of_clusters_and_draw_nothing_for_it():
    rng = np.random.default_rng(0)
    tight = np.arange(2048) % 2 == 0
    centres = np.where(tight[:, None], 1.0, -1.0) * rng.standard_normal(16)
    y = centres + np.where(tight, 0.1, 1.0)[:, None] * rng.standard_normal((2048, 16))
    y, mu = jnp.asarray(y, jnp.float32), Gaussian(16)
    config = SolverConfig(tolerance=None, max_samples=80 * 2048, adam_share=0.0)
    assert planning.plan(2048, mu, config).shares
    state = aeot.init(KEY, mu, y, config=config)
    step = jax.jit(lambda state: aeot.step(state, mu, y, config=config))
    for _ in range(40):
        state = step(state)
    own = np.asarray(state.method.gaps / jnp.maximum(state.method.hits, 1))
    wide, narrow = own[~tight].mean(), own[tight].mean()
    assert 5 < wide / narrow < 20  # widths differ by 10
    assert int(state.method.drawn) == 0


@pytest.mark.long
@pytest.mark.parametrize("way", ["independent", "orbits"])
def test_shares_keep_the_counts_and_take_a_third_of_their_noise(way):
    marginals, _ = problem(1024)
    y, h = marginals.y, jnp.zeros(1024)
    batch = Batch(WAYS[way], 64)
    top = aeot.top_k(marginals.mu.sample(KEY, 512), y, h, 2)[0]
    scale = scale_of(shares.WIDTH * float((top[:, 0] - top[:, 1]).mean()))

    def draws(key):
        drawn = streams.draw_shared(key, marginals, h, 4, scale, draws=Draws(batch))
        counts, shared, within = drawn
        return counts, shares.counts_with(counts, shared.added), within

    counts, shared, within = jax.lax.map(draws, jax.random.split(KEY, 64))
    plain = streams.draw_counts(jax.random.split(KEY, 64)[0], marginals, h, 4, draws=Draws(batch))
    np.testing.assert_array_equal(counts[0], plain[0])
    np.testing.assert_array_equal(within[0], plain[1])
    np.testing.assert_allclose(shared.sum(1), counts.sum(1))
    assert (np.asarray(shared) >= 0).all()
    noise = np.asarray(shared).var(0).sum() / np.asarray(counts).var(0).sum()
    assert 0.6 < noise < 0.8  # 1 - 0.30 for exponential gaps
    # On average they count the same, but for the noise of what they move, 0.34 of the counts' own.
    moved = np.abs(np.asarray(shared).mean(0) - np.asarray(counts).mean(0)).sum()
    assert moved < 0.4 * 2048 * np.sqrt(1024 / (64 * 2048))


@pytest.mark.parametrize("way", [pytest.param("independent", marks=LONG), "orbits"])
@pytest.mark.parametrize(
    "shape", [pytest.param((8, 1), marks=LONG), (2, 4), pytest.param((1, 8), marks=LONG)]
)
def test_shares_do_not_depend_on_the_devices(way, shape):
    marginals, h = problem(2048)
    batch, scale = Batch(WAYS[way], 32), scale_of(1.0)
    alone = streams.draw_shared(KEY, marginals, h, 2, scale, draws=Draws(batch))
    names = Axes("samples", "targets" if shape[1] > 1 else None)
    mesh = jax.make_mesh(
        shape, ("samples", "targets"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )

    def draw(y, nu, h):
        rows = Marginals(marginals.mu, y, nu)
        return streams.draw_shared(KEY, rows, h, 2, scale, draws=Draws(batch, names))

    by_target = P("targets") if shape[1] > 1 else P()
    mapped = jax.shard_map(
        draw, mesh=mesh, in_specs=(by_target,) * 3, out_specs=(by_target, by_target, P())
    )
    together = jax.jit(mapped)(marginals.y, marginals.nu, h)
    chex.assert_trees_all_equal(alone, together)
    assert np.asarray(alone[1].added).any()
    assert (np.asarray(alone[1].gaps)[np.asarray(alone[0]) > 0] > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("num_targets", "dim", "changes", "shared"),
    [
        (5000, 12, {}, False),
        (5000, 13, {}, True),
        (5000, 64, {}, True),
        (3000, 24, {}, True),
        (1500, 64, {}, False),
        (5000, 64, {"method": "adam"}, False),
        (5000, 64, {"batch_size": 2**24}, False),
    ],
)
def test_steps_share_samples_where_it_pays(num_targets, dim, changes, shared):
    assert planning.plan(num_targets, Gaussian(dim), SolverConfig(**changes)).shares == shared


def test_a_way_with_owners_of_its_own_counts_whole_samples():
    class Other(Way):
        def owners(self, x, rows, h):
            return super().owners(-x, rows, h)

    assert WAYS_THAT_SHARE == ["independent", "orbits"]
    assert not Other().can_share

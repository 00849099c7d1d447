"""Far groups of targets: which they are, and solves that one scale of heights does not serve."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.solver.loop import chunks, misses
from aeot_jax.ot.solver.moves import groups, linking, nested

KEY = jax.random.key(0)
FEW = 252
"""Targets of a solve: no more than share their programs with all smaller problems."""


def normal(m, d, seed=0):
    return np.random.default_rng(seed).normal(size=(m, d))


def beside(m, d, width=1e-3):
    """Two thirds lie in a tight cluster beside a broad one."""
    y = normal(m, d)
    y[: 2 * m // 3] = width * y[: 2 * m // 3] + 10
    return y


def inside(m, d, width=1e-3):
    """Half lie in a tight cluster in the middle of a broad one."""
    y = normal(m, d)
    y[::2] *= width
    return y


def apart(m, d, distance=1e3):
    """Ten clusters of the same width, of unequal weight."""
    rng = np.random.default_rng(1)
    label = rng.choice(10, m, p=rng.dirichlet(np.full(10, 3.0)))
    return normal(m, d) + distance * rng.normal(size=(10, d))[label]


def widths(m, d):
    """Clusters of three widths."""
    label = np.arange(m) % 3
    return np.array([1, 0.01, 10])[label, None] * normal(m, d) + 100 * np.eye(3, d)[label]


def copies(m, d, noise=1e-4):
    """A third are pairs that differ by a little noise."""
    y = normal(m, d)
    y[: m // 6] = y[m // 6 : 2 * (m // 6)] + noise * y[-(m // 6) :]
    return y


def both(m, d):
    """Pairs in clusters far apart; float32 holds both scales."""
    return copies(m, d, 1e-2) + 1e3 * (np.arange(m)[:, None] // (m // 3))


HOSTILE = beside, inside, apart, widths, copies, both


def found(y, tolerance=0.3) -> Any:
    y = np.asarray(y, np.float32).astype(np.float64)
    return groups.find(y, np.full(len(y), 1 / len(y)), tolerance)


def sizes(labels):
    """Of the groups of each level with more than one target."""
    counts = [np.bincount(label) for label in labels]
    return [sorted(count[count > 1].tolist()) for count in counts]


@pytest.mark.parametrize("d", [4, 32])
def test_groups_are_what_was_put_together(d):
    assert sizes(found(beside(300, d)).labels) == [[100, 200]]
    assert sizes(found(inside(300, d)).labels) == [[150]]
    assert sizes(found(copies(300, d)).labels) == [[2] * 50]
    labels = np.arange(300) % 3
    three = found(normal(300, d) + 1e3 * normal(3, d, 5)[labels]).labels
    np.testing.assert_array_equal(three, [labels])  # each is called by its first target


@pytest.mark.parametrize("d", [4, 32])
def test_groups_lie_in_groups(d):
    y = normal(300, d) + 1e3 * normal(3, d, 5)[np.arange(300) % 3]
    y[:60] = y[60:120] + 1e-3 * normal(60, d, 6)
    of = found(y)
    assert sizes(of.labels) == [[100] * 3, [2] * 60]
    np.testing.assert_allclose(of.shares[0], 1 / 3)
    np.testing.assert_allclose(of.shares[1], np.where(np.arange(300) < 120, 2, 1) / 100)
    np.testing.assert_allclose(of.shares[2], np.where(np.arange(300) < 120, 1 / 2, 1))
    # What varies between the groups of a level inside of the one above adds up to all of it.
    assert (of.units**2).sum(0).mean() == pytest.approx(1)
    assert (of.units[2][120:] == 0).all()  # a target by itself varies by nothing


ORDINARY = {
    "normal": lambda rng, m, d: rng.normal(size=(m, d)),
    "t": lambda rng, m, d: rng.standard_t(2, size=(m, d)),
    "cauchy": lambda rng, m, d: rng.normal(size=(m, d)) / np.abs(rng.normal(size=(m, 1))),
    "lognormal": lambda rng, m, d: np.exp(2 * rng.normal(size=(m, d))),
    "clusters": lambda rng, m, d: (
        rng.normal(size=(m, d)) + 5 * rng.normal(size=(5, d))[np.arange(m) % 5]
    ),
    "uniform": lambda rng, m, d: rng.random((m, d)),
    "whole numbers": lambda rng, m, d: np.unique(rng.integers(0, 9, (m, d)), axis=0),
}


@pytest.mark.parametrize("d", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_targets_and_heavy_tails_have_none(name, d):
    for seed in range(5):
        assert found(ORDINARY[name](np.random.default_rng(seed), 500, d), 0.1) is None


@pytest.mark.parametrize("make", HOSTILE)
def test_the_order_of_the_targets_does_not_matter(make):
    y = make(240, 5)
    order = np.random.default_rng(9).permutation(len(y))
    one, two = found(y), found(y[order])
    for of_one, of_two in zip(one.labels, two.labels, strict=True):
        together = of_one[order][:, None] == of_one[order][None, :]
        np.testing.assert_array_equal(of_two[:, None] == of_two[None, :], together)
    np.testing.assert_allclose(two.shares, one.shares[:, order])
    np.testing.assert_allclose(two.units, one.units[:, order], rtol=1e-5, atol=1e-12)


def test_targets_without_weight_join_nothing():
    y, d = beside(300, 5), 5
    weighed = found(y)
    between = np.linspace(y[0], y[-1], 100)  # a bridge that owns no cell
    nu = np.concatenate([np.full(300, 1 / 300), np.zeros(100)])
    of: Any = groups.find(np.concatenate([y.astype(np.float32), between]), nu, 0.3)
    np.testing.assert_array_equal(of.labels[:, :300], weighed.labels)
    np.testing.assert_array_equal(of.labels[0, 300:], np.arange(300, 400))
    np.testing.assert_allclose(of.units[:, :300], weighed.units, rtol=1e-5)
    assert found(np.zeros((3, d))) is None


@pytest.mark.parametrize("d", [4, 20])
@pytest.mark.parametrize("make", HOSTILE)
def test_neighbours_tell_of_many_targets_what_all_distances_do(make, d, monkeypatch):
    y = make(600, d)
    exact = found(y)
    monkeypatch.setattr(linking, "_EXACT", 100)
    near = found(y)
    np.testing.assert_array_equal(near.labels, exact.labels)
    monkeypatch.setattr(linking, "BLOCK_NUMBERS", 7_000)
    np.testing.assert_array_equal(found(y).labels, exact.labels)


@pytest.mark.parametrize("m", [9, 37, 600])
def test_a_tree_and_all_distances_find_the_same_neighbours(m, monkeypatch):
    monkeypatch.setattr(linking, "_QUERIES", 100)
    monkeypatch.setattr(linking, "BLOCK_NUMBERS", 7_000)
    y = copies(m, 5)
    ways = linking._by_tree, linking._by_all_distances
    tree, every = (np.concatenate(list(by(y))) for by in ways)
    np.testing.assert_array_equal(np.sort(every, 1), np.sort(tree, 1))


def test_too_many_parts_and_too_little_weight_are_left_alone(monkeypatch):
    y = np.repeat(normal(60, 4), 10, 0) + 1e-4 * normal(600, 4, 2)
    monkeypatch.setattr(linking, "_EXACT", 20)
    assert found(y) is None  # 60 parts that no neighbours link
    y = normal(1000, 8)
    y[:2] = y[2:4] + 1e-4  # 0.4 % of the weight
    assert found(y, 0.2) is None
    assert sizes(found(y, 0.05).labels) == [[2, 2]]


SHORT = (widths, 5), (both, 5)
"""Clusters of several widths and groups in groups, by the programs of one dimension."""


@pytest.mark.parametrize(
    ("make", "d"),
    [
        pytest.param(make, d, marks=[pytest.mark.long] * ((make, d) not in SHORT))
        for d in (3, 5, 32)
        for make in HOSTILE
    ],
)
def test_a_solve_converges(make, d):
    """Steps of one scale miss by far, and the solve begins anew with steps that heed groups."""
    config = aeot.SolverConfig(0.3, start="gaussian", max_samples=1000 * FEW)
    solution = aeot.solve(KEY, aeot.Gaussian(d), make(FEW, d).astype(np.float32), config=config)
    assert solution.converged
    looks = np.asarray(solution.num_check_samples) - solution.certificate.num_samples
    assert looks >= nested.LOOK_SAMPLES  # the looks at gaps are told


def test_a_group_that_no_sample_hits_says_nothing_of_its_inside():
    every, label, each = jnp.zeros(4, jnp.int32), jnp.array([0, 0, 2, 2]), jnp.arange(4)
    counts, share = jnp.array([3, 1, 0, 0]), jnp.full(4, 0.5)
    inner = nested.relative(counts, label, each, share)
    np.testing.assert_allclose(inner, [0.5, -0.5, 0, 0])
    outer = nested.relative(counts, every, label, share)
    np.testing.assert_allclose(outer, [1, 1, -1, -1])


@pytest.fixture
def looks(monkeypatch):
    """What each look for groups finds."""
    found = []

    def noted(*arguments):
        found.append(groups.find(*arguments))
        return found[-1]

    monkeypatch.setattr(misses, "find", noted)
    return found


def test_groups_are_looked_for_once_and_only_after_a_miss(looks):
    mu, config = aeot.Gaussian(5), aeot.SolverConfig(0.3, start="gaussian", max_samples=60_000)
    assert aeot.solve(KEY, mu, normal(FEW, 5).astype(np.float32), config=config).converged
    assert not looks
    y = beside(FEW, 5).astype(np.float32)
    own = replace(config, adam_share=0.1)  # the user asks for Adam
    assert not aeot.solve(KEY, mu, y, config=own).converged
    assert not looks
    aeot.solve(KEY, mu, y, config=config)
    assert len(looks) == 1
    assert looks[0] is not None


def test_what_was_reached_before_is_not_lost(monkeypatch):
    """A limit soon after the solve began anew, from h = 0, or Ctrl-C while it looks for groups."""
    progress, looked = [], []

    def noted(*arguments):
        looked.append(progress[-1].num_samples)
        return groups.find(*arguments)

    def interrupted(*_):
        raise KeyboardInterrupt

    def solve(**limits):
        config = aeot.SolverConfig(0.3, start="gaussian", **limits)
        y = copies(FEW, 5).astype(np.float32)
        return aeot.solve(KEY, aeot.Gaussian(5), y, config=config, on_progress=progress.append)

    monkeypatch.setattr(misses, "find", noted)
    solve(max_samples=60_000)
    (drawn,) = looked
    ended = solve(max_samples=drawn + 1)
    assert len(looked) == 2
    assert ended.status == aeot.Status.SAMPLE_LIMIT
    assert ended.num_samples > drawn
    monkeypatch.setattr(misses, "find", interrupted)
    stopped = solve(max_samples=60_000)
    assert stopped.status == aeot.Status.INTERRUPTED
    assert stopped.num_samples == drawn
    np.testing.assert_array_equal(ended.h, stopped.h)
    assert ended.mass_error == stopped.mass_error


@pytest.mark.parametrize("d", [4, 20])
def test_a_look_pauses_between_the_parts_of_its_work(d, monkeypatch):
    monkeypatch.setattr(linking, "_EXACT", 100)
    monkeypatch.setattr(linking, "_QUERIES", 100)
    monkeypatch.setattr(linking, "BLOCK_NUMBERS", 60_000)
    y, pauses = copies(600, d), []
    groups.find(y, np.full(600, 1 / 600), 0.3, lambda: pauses.append(0))
    assert len(pauses) == 2 + 6


def test_the_time_limit_ends_a_look(monkeypatch):
    """As it ends the steps: with the heights reached, and the certificate that missed."""
    y, progress, late = copies(FEW, 5).astype(np.float32), [], []

    def solve(**limits):
        config = aeot.SolverConfig(0.3, start="gaussian", max_samples=60_000, **limits)
        return aeot.solve(KEY, aeot.Gaussian(5), y, config=config, on_progress=progress.append)

    def find(y, nu, tolerance, pause):
        late.append(True)
        return groups.find(y, nu, tolerance, pause)

    def found_none(*_):
        late.append(True)

    for module in (chunks, misses):
        monkeypatch.setattr(module, "is_late", lambda _: bool(late))
    monkeypatch.setattr(misses, "find", find)
    ended = solve(time_limit=9.0)
    drawn = progress[-1].num_samples
    assert late
    late.clear()
    monkeypatch.setattr(misses, "find", found_none)
    without = solve(time_limit=9.0)
    assert ended.status == without.status == aeot.Status.TIME_LIMIT
    assert ended.num_samples == without.num_samples == drawn
    np.testing.assert_array_equal(ended.h, without.h)


@pytest.mark.long
@pytest.mark.optimised
def test_devices_change_no_bit(looks):
    """Every device draws the samples of a look by itself."""
    y = widths(90, 4).astype(np.float32)
    config = aeot.SolverConfig(0.4, batch_size=512, parallel="none", start="zero")
    alone = aeot.solve(KEY, aeot.Gaussian(4), y, config=config)
    for kind, number in (("pmap", 8), ("shard_map", 2)):
        spread = replace(config, parallel=kind, devices=tuple(jax.devices()[:number]))
        other = aeot.solve(KEY, aeot.Gaussian(4), y, config=spread)
        np.testing.assert_array_equal(other.h, alone.h)
        assert other.mass_error == alone.mass_error
        assert other.num_samples == alone.num_samples
    assert [one is not None for one in looks] == [True] * 3

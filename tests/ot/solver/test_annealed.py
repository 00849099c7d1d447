"""Annealed heights: targets with all scales at once, which steps of a single scale do not serve."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.loop import misses
from aeot_jax.ot.solver.starts import annealed

KEY = jax.random.key(0)
M, D = 252, 4
MU = aeot.Gaussian(D)
CONFIG = aeot.SolverConfig(0.3, max_samples=1_000 * M)


def curve(m=M, d=D, seed=0):
    """Points of a closed curve of three harmonics, at random places."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 2 * np.pi, m))[:, None]
    waves = np.zeros((m, d))
    for j in (1, 2, 3):
        waves += (np.cos(j * t) * rng.normal(size=d) + np.sin(j * t) * rng.normal(size=d)) / j
    return waves.astype(np.float32)


Y = curve(seed=6)  # which steps alone do not solve; others of so few targets they do


@pytest.fixture
def taken(monkeypatch):
    """What each annealing was given and what it gave."""
    calls = []

    def noted(*arguments):
        calls.append((arguments, annealed.anneal(*arguments)))
        return calls[-1][1]

    monkeypatch.setattr(misses, "anneal", noted)
    return calls


def test_points_of_a_curve_are_solved(taken):
    progress = []
    solution = aeot.solve(KEY, MU, Y, config=CONFIG, on_progress=progress.append)
    assert solution.converged
    told = [one.num_samples for one in progress]
    assert told == sorted(told)
    assert len(set(told) - set(solution.history.num_samples.tolist())) > 20  # of no chunk of steps
    assert float(aeot.certify(jax.random.key(9), MU, Y, solution.h).mass_error) < 0.3
    ((_, (h, used)),) = taken
    assert np.isfinite(np.asarray(h)[:M]).all()
    assert solution.num_samples > used  # they move the heights, so they count


def test_points_that_look_like_far_groups_are_solved_too(taken, monkeypatch):
    """Steps for groups come first, and miss by far twice; then those of one scale are back."""
    groups = []
    find = misses.find
    monkeypatch.setattr(misses, "find", lambda *known: groups.append(find(*known)) or groups[-1])
    y, config = curve(M, 5), replace(CONFIG, start="gaussian", max_samples=2_000 * M)
    solution = aeot.solve(KEY, aeot.Gaussian(5), y, config=config)
    assert [one is not None for one in groups] == [True]
    assert len(taken) == 1
    assert solution.converged
    assert float(aeot.certify(jax.random.key(9), solution).mass_error) < 0.3


@pytest.mark.long
def test_steps_alone_do_not_solve_them(monkeypatch):
    monkeypatch.setattr(misses, "_may_anneal", lambda *_: False)
    without = aeot.solve(KEY, MU, Y, config=CONFIG)
    assert without.status == aeot.Status.SAMPLE_LIMIT


def problem(y, nu=None):
    nu = np.full(len(y), 1 / len(y), np.float32) if nu is None else nu
    return Marginals(aeot.Gaussian(y.shape[1]), jnp.asarray(y), jnp.asarray(nu, jnp.float32))


def annealing(y, nu=None, lacking=10_000, room=10**9, told=lambda used, planned: None):
    found = annealed.anneal(KEY, problem(y, nu), 1.0, lacking, room, told)
    return (None, None) if found is None else (np.asarray(found[0]), found[1])


def test_weights_are_met_and_targets_without_weight_stay_out():
    rng = np.random.default_rng(3)
    nu = rng.dirichlet(np.full(100, 2.0))
    nu[::7] = 0
    nu /= nu.sum()
    y = curve(100)
    y = (y - nu.astype(np.float32) @ y) / np.float32(np.sqrt(nu @ (y**2).sum(1)))
    h, _ = annealing(y, nu)
    assert h is not None
    assert (np.isneginf(h) == (nu == 0)).all()
    found = aeot.certify(KEY, aeot.Gaussian(D), y, h, nu)
    assert int(found.num_empty) == 0
    assert float(found.mass_error) < 0.2


def test_it_tells_before_every_step_how_far_it_is():
    steps = []
    _, taken = annealing(curve(60), told=lambda used, planned: steps.append((used, planned)))
    used, planned = np.array(steps).T
    assert (np.diff(used) > 0).all()
    assert (np.diff(planned) >= 0).all()
    assert (used < planned).all()
    assert used[-1] < planned[-1] == taken


def test_it_takes_no_more_samples_than_there_is_room_for():
    _, used = annealing(curve(60))
    assert used is not None
    assert annealing(curve(60), room=used)[1] == used
    assert annealing(curve(60), room=used - 1) == (None, None)


SHORT = replace(CONFIG, max_samples=500 * M)


@pytest.fixture(scope="module")
def without():
    """A solve that anneals nothing, and what it knew when it might have."""
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(misses, "_may_anneal", lambda *known: runs.append(known))
        return aeot.solve(KEY, MU, Y, config=SHORT), runs


def test_too_little_room_leaves_a_solve_as_it_would_be_without(taken, without):
    ended = aeot.solve(KEY, MU, Y, config=SHORT)
    assert ended.num_samples >= 500 * M
    assert [found for _, found in taken] == [None]
    np.testing.assert_array_equal(ended.h, without[0].h)


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, aeot.Status.INTERRUPTED), (TimeoutError, aeot.Status.TIME_LIMIT)],
)
def test_what_was_reached_before_is_not_lost(error, status, monkeypatch):
    pauses = []

    def ended(key, problem, spread, lacking, room, told):
        def stop(used, planned):
            pauses.append(told(used, planned))
            raise error

        return annealed.anneal(key, problem, spread, lacking, room, stop)

    monkeypatch.setattr(misses, "anneal", ended)
    solution = aeot.solve(KEY, MU, Y, config=CONFIG)
    assert solution.status == status
    assert len(pauses) == 1
    assert np.isfinite(solution.h).all()
    assert float(solution.mass_error) < 2


OTHERS = {"method": "adam"}, {"adam_share": 0.1}, {"plateau_steps": 20}


@pytest.mark.parametrize("change", OTHERS)
def test_heights_of_steps_that_were_asked_for_may_not_be_annealed(change, without):
    run, going = without[1][0]
    assert misses._may_anneal(run, going)
    assert not misses._may_anneal(run._replace(config=replace(run.config, **change)), going)


@pytest.mark.long
@pytest.mark.parametrize("change", OTHERS)
def test_who_asks_for_other_steps_gets_them(change, taken):
    aeot.solve(KEY, MU, Y, config=replace(CONFIG, max_samples=100 * M, **change))
    assert not taken


@pytest.mark.long
@pytest.mark.optimised
def test_devices_change_no_bit(taken):
    y = curve(400)  # fewer points are solved by large batches alone
    config = replace(CONFIG, batch_size=512, parallel="none", max_samples=400_000)
    alone = aeot.solve(KEY, MU, y, config=config)
    for kind, number in (("pmap", 8), ("shard_map", 2)):
        spread = replace(config, parallel=kind, devices=tuple(jax.devices()[:number]))
        other = aeot.solve(KEY, MU, y, config=spread)
        np.testing.assert_array_equal(other.h, alone.h)
        assert other.num_samples == alone.num_samples
    assert len(taken) == 3

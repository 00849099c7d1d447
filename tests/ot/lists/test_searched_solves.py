"""Solves that look for cells in lists: a true certificate, and one answer on any devices."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot import problem
from aeot_jax.ot.devices import parallel, placement
from aeot_jax.ot.lists import arrange, learn
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.loop import chunks, running
from aeot_jax.ot.solver.starts import start

M, D = 1_200, 5
RNG = np.random.default_rng(0)
Y = RNG.normal(size=(M, D)).astype(np.float32)
MU = aeot.Gaussian(D)
KEY = jax.random.key(0)
LISTS = {"search": "lists", "start": "gaussian", "batch_size": 2_048}
CONFIG = aeot.SolverConfig(0.3, **LISTS)


@pytest.fixture(scope="module")
def solution():
    return aeot.solve(KEY, MU, Y, config=CONFIG)


def test_a_solve_by_lists_is_certified_with_exact_cells(solution):
    assert solution.converged
    drawn = aeot.certify(jax.random.key(9), MU, Y, solution.h, None, 100_000)
    assert drawn.mass_error < 0.3
    seen = solution.search
    assert 0 < seen.probes < seen.lists
    assert 0 < seen.wrong_at_most < 0.05
    assert solution.num_check_samples > solution.certificate.num_samples


@pytest.mark.long
def test_no_samples_are_spent_on_steps_that_are_not_taken():
    """One look at the start, one at the end: also where the limit is a step to learn at."""
    for steps in (1, 8):
        config = aeot.SolverConfig(0.3, max_steps=steps, **LISTS)
        found = aeot.solve(KEY, MU, Y, config=config)
        assert found.num_steps == steps
        spent = found.num_check_samples - found.certificate.num_samples
        without = aeot.solve(KEY, MU, Y, config=replace(config, search="exact"))
        spent -= without.num_check_samples - without.certificate.num_samples
        assert spent == 2 * learn.NUM_SAMPLES
        assert found.search is not None
        assert found.search.probes > 0
        assert without.search is None
    assert aeot.SolverConfig().search == "exact"


def test_who_interrupts_the_last_check_keeps_the_heights(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    def stop(_):
        monkeypatch.setattr(chunks.stepping, "learn", interrupted)

    config = aeot.SolverConfig(0.3, max_steps=4, **LISTS)
    found = aeot.solve(KEY, MU, Y, config=config, on_progress=stop)
    assert found.num_steps == 4
    assert found.search is not None
    assert found.search.wrong_at_most == 1


def test_a_file_holds_the_solution_without_its_search(solution, tmp_path):
    aeot.save(solution, tmp_path / "solution.npz")
    found = aeot.load(tmp_path / "solution.npz")
    np.testing.assert_array_equal(found.h, solution.h)
    assert found.search is None


@pytest.fixture(scope="module")
def stepped():
    """A state, what one device makes of it in some steps, and what makes such steps."""
    config = aeot.SolverConfig(None, max_steps=9, **LISTS)
    made, lists, _ = arrange.arranged(problem.make(MU, Y, stored=True))
    marginals = Marginals(MU, made.y, made.nu)
    plan = planning.plan(M, MU, config)
    state = start.begin(KEY, marginals, plan, planning.budget(M, MU, config, plan))
    probing = plan._replace(batch=plan.batch._replace(probes=5))

    def run(where):
        found = stepping.learn(state, marginals, plan, where, lists)
        moved, *_ = stepping.run_steps(state, marginals, probing, where, 9, found.lists)
        return parallel.local((moved.h, found.ranks))

    return state, run(placement.Placement("none")), run


@pytest.mark.long
@pytest.mark.optimised
@pytest.mark.parametrize(("kind", "number"), [("shard_map", 2), ("pmap", 8)])
def test_devices_do_not_change_the_answer(stepped, kind, number):
    state, (heights, ranks), run = stepped
    found = run(placement.placement(kind, tuple(jax.devices()[:number])))
    np.testing.assert_array_equal(found[0], heights)
    np.testing.assert_array_equal(found[1], ranks)
    assert (np.asarray(heights) != np.asarray(state.h)).any()


@pytest.mark.long  # test_lists.py has the short form: heights go there and come back
def test_heights_to_start_from_go_to_their_targets(solution):
    found = aeot.solve(KEY, MU, Y, config=CONFIG, h0=solution.h)
    assert found.converged
    assert found.num_samples < 0.7 * solution.num_samples


@pytest.mark.long
def test_a_solution_of_fewer_targets_starts_a_solve_by_lists(solution):
    more = np.concatenate([RNG.normal(size=(60, D)).astype(np.float32), Y])
    grown = aeot.solve(KEY, MU, more, config=CONFIG, h0=solution)
    assert grown.converged
    assert grown.num_samples < solution.num_samples


def test_what_cannot_be_had_is_refused_in_one_sentence(monkeypatch):
    with pytest.raises(ValueError, match=r"`sampling` is 'orbits' beside `search` 'lists'"):
        aeot.SolverConfig(search="lists", sampling="orbits")
    with pytest.raises(ValueError, match=r"`search` is 'lists' beside `method` 'exact'"):
        aeot.SolverConfig(search="lists", method="exact")
    with pytest.raises(ValueError, match=r"`target_shards` is 2 beside `search` 'lists'"):
        aeot.SolverConfig(search="lists", target_shards=2)
    with pytest.raises(ValueError, match=r"`search` is 'list'; choose one of 'exact', 'lists'"):
        aeot.SolverConfig(search="list")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`search` is 'lists', which `solve_jit` cannot honour"):
        aeot.solve_jit(KEY, MU, Y, num_steps=3, config=CONFIG)
    with pytest.raises(ValueError, match=r"`y` has 900 targets.*choose 'exact'"):
        aeot.solve(KEY, MU, Y[:900], config=CONFIG)
    monkeypatch.setattr(running, "on_accelerator", lambda: True)
    with pytest.raises(ValueError, match=r"`search` is 'lists' on a CPU, which is quicker at all"):
        aeot.solve(KEY, MU, Y, config=CONFIG)

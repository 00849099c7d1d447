"""Inverted lists: rows list by list, cells by few scores, and how wrong these are."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

import aeot_jax as aeot
from aeot_jax.ot import problem
from aeot_jax.ot.cells import power
from aeot_jax.ot.cells.blocks import Rows
from aeot_jax.ot.lists import search, searching
from aeot_jax.ot.lists.arrange import Arranged, arranged, number_of_lists
from aeot_jax.ot.lists.learn import Learned, learned
from aeot_jax.ot.lists.lists import BLOCK, Lists
from aeot_jax.ot.lists.searching import Searching, probes_for, wrong_at_most

M, D = 1_500, 5
RNG = np.random.default_rng(0)
Y = (RNG.normal(size=(M, D)) * np.linspace(0.5, 2, D)).astype(np.float32)
H = (0.2 * RNG.normal(size=M) - 0.5 * np.square(Y).sum(1)).astype(np.float32)
MU = aeot.Gaussian(D)
MADE = arranged(problem.make(MU, Y, stored=True))
ROWS, HEIGHTS = Rows(jnp.asarray(MADE.made.y)), jnp.asarray(MADE.made.heights(H))
owners = jax.jit(search.owners, static_argnums=4)  # one program, as in a solve


def made_of(y, nu=None) -> tuple[problem.Prepared, Arranged]:
    before = problem.make(aeot.Gaussian(np.shape(y)[1]), y, nu, stored=True)
    return before, arranged(before)


COPIES = np.concatenate([Y[:1_100], Y[:50]])
WEIGHTS = np.where(np.arange(M) % 3 == 0, 0.0, 1.0) / 1_000


@pytest.mark.parametrize(
    ("y", "nu"),
    [
        pytest.param(Y, None, id="plain"),
        pytest.param(Y, WEIGHTS, id="weights of zero"),
        pytest.param(COPIES, None, id="copies"),
        pytest.param(RNG.integers(0, 256, (M, D)).astype(np.uint8), None, id="bytes"),
        pytest.param(1e30 * Y, None, id="large"),
        pytest.param(1e-30 * Y, None, id="small"),
        pytest.param(Y.astype(np.float64) + 1e9, None, id="far"),
        pytest.param(np.ones((M, D), np.float32), None, id="one place"),
    ],
)
def test_rows_lie_list_by_list_and_nothing_else_changes(y, nu):
    before, found = made_of(y, nu)
    begin, own = np.asarray(found.lists.begin), np.asarray(found.lists.own)
    rows = len(found.made.y)
    assert begin[0] == 0
    assert begin[-1] * BLOCK == rows == len(own)
    np.testing.assert_array_equal(own, np.repeat(np.arange(len(begin) - 1), BLOCK * np.diff(begin)))
    assert found.made.y.dtype == before.y.dtype
    # Every target has one row, and what fills up has no weight.
    held, stored = found.order >= 0, np.asarray(before.y)
    np.testing.assert_array_equal(np.sort(found.order[held]), np.arange(len(y)))
    np.testing.assert_array_equal(np.asarray(found.made.y)[held], stored[found.order[held]])
    np.testing.assert_array_equal(np.asarray(found.made.nu)[~held], 0)
    np.testing.assert_array_equal(found.made.nu, found.moved(np.asarray(before.nu), 0))
    for k, slope in enumerate(np.asarray(found.lists.slopes, np.float64)):
        members = stored[found.order[held & (own == k)]].astype(np.float64)
        if len(members):
            tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(stored).max()}
            np.testing.assert_allclose(slope, members.mean(0), **tolerance)
    # Values go to the user's targets and back.
    h = RNG.normal(size=len(y)).astype(np.float32)
    there = before.heights(h)
    np.testing.assert_array_equal(found.made.heights(h), found.moved(np.asarray(there), -np.inf))
    np.testing.assert_array_equal(
        found.made.of_users(found.made.heights(h)), before.of_users(np.asarray(there))
    )


def test_near_targets_share_a_list():
    held = MADE.order >= 0
    own, y = np.asarray(MADE.lists.own)[held], Y[MADE.order[held]]
    distances = np.square(y - np.asarray(MADE.lists.slopes)[own]).sum(1)
    assert distances.mean() < 0.4 * Y.var(0).sum()
    assert len(MADE.lists.slopes) == number_of_lists(M) == 32


def test_too_few_targets_are_told():
    with pytest.raises(ValueError, match=r"`search` is 'lists', but `y` has 900 targets.*'exact'"):
        made_of(Y[:900])


@cache
def known() -> Lists:
    return learned(jax.random.key(0), MU, ROWS, HEIGHTS, MADE.lists).lists


def test_all_lists_give_every_cell():
    x = MU.sample(jax.random.key(3), 300)
    best, index = power.best(x, ROWS, HEIGHTS)
    found = owners(x, ROWS, HEIGHTS, known(), MADE.lists.number)
    scores = (x * ROWS.points[found]).sum(1) + HEIGHTS[found]
    np.testing.assert_allclose(scores, best, rtol=1e-5, atol=1e-5)
    assert (np.asarray(found) != np.asarray(index)).mean() < 0.01  # ties, by rounding


def test_a_cell_does_not_depend_on_the_samples_beside_it(monkeypatch):
    lists, x = known(), MU.sample(jax.random.key(4), 1_100)
    whole = owners(x, ROWS, HEIGHTS, lists, 4)
    for n in (1, 64, 333):
        np.testing.assert_array_equal(owners(x[:n], ROWS, HEIGHTS, lists, 4), whole[:n])
    monkeypatch.setattr(search, "_CHUNK", 320)  # as many samples are searched in parts
    parts = jax.jit(lambda x: search.owners(x, ROWS, HEIGHTS, lists, 4))  # traced anew
    np.testing.assert_array_equal(parts(x), whole)


def test_no_pair_is_lost_where_many_lists_are_looked_at():
    for number in (16, 256, 1_024, 4_096):
        bits = (number - 1).bit_length()
        assert (search._most_pairs(number) - 1).bit_length() + bits == 32


def test_lists_learn_to_find_more_and_ranks_tell_how_many_are_wrong():
    noise = jnp.asarray(RNG.normal(size=MADE.lists.number).astype(np.float32))
    lists = MADE.lists._replace(excess=noise)
    first = learned(jax.random.key(0), MU, ROWS, HEIGHTS, lists)
    again = learned(jax.random.key(1), MU, ROWS, HEIGHTS, first.lists)
    unlearned, taught = np.asarray(first.ranks[2]), np.asarray(again.ranks[2])
    assert (taught >= 4).mean() < 0.3 * (unlearned >= 4).mean()
    x = MU.sample(jax.random.key(5), 8_192)
    right = np.asarray(power.best(x, ROWS, HEIGHTS)[1])
    for probes in (1, 2, 4):
        found = owners(x, ROWS, HEIGHTS, first.lists, probes)
        wrong = (np.asarray(found) != right).mean()
        assert wrong == pytest.approx((taught >= probes).mean(), abs=0.02)
        assert 0 < wrong < 0.9


def test_the_number_of_lists_follows_from_the_tolerance():
    ranks = np.repeat(np.arange(10), [10_000, 800, 100, 20, 5, 2, 1, 1, 1, 1])
    loose, tight = (probes_for(ranks, tolerance, 64, 0) for tolerance in (0.5, 0.1))
    assert (loose, tight) == (2, 6)
    assert (ranks >= tight).mean() <= searching._WRONG * 0.1**2
    assert probes_for(ranks, 0.1, 64, 10) == 10, "what is enough stays"
    assert probes_for(ranks, 0.5, 64, 6) == 2, "what is far more than enough goes"
    assert probes_for(ranks, 0.001, 16, 0) == 0, "then all scores are as quick"
    assert probes_for(100 * ranks, 0.001, 4_096, 0) == 0, "nor are there programs for more"


def found_wrong(taught: float, old: float, others: float, number: int = 10_000) -> Learned:
    """What says that these shares of cells are in no list of the ten highest planes."""
    shares = np.array([[taught], [old], [others]])
    place = np.random.default_rng(1).permutation(number)
    ranks = np.where(place < shares * number, 10, 0)
    return Learned(MADE.lists, jnp.asarray(ranks, jnp.int32))


def test_the_bound_weighs_each_check_by_the_samples_that_it_is_for():
    for first, last in ((0.0, 0.4), (0.4, 0.0)):
        seen = Searching(MADE.lists, 0.3)
        seen.learn(found_wrong(0, 0, 0), 0)
        seen.looked = 1_000
        seen.learn(found_wrong(0, 0, first), 8)
        seen.looked = 3_000
        seen.check(found_wrong(0, 0, last))
        share = (first + 3 * last) / 4
        assert share < seen.told().wrong_at_most < share + 0.03
        assert seen.num_samples == 3 * 20_000


def test_what_was_not_checked_may_be_wrong():
    seen = Searching(MADE.lists, 0.3)
    seen.learn(found_wrong(0, 0, 0), 0)
    assert seen.told().wrong_at_most == 0
    seen.looked = 1_000
    assert seen.told().wrong_at_most == 1
    seen.check(found_wrong(0, 0, 0))
    seen.looked = 1_000
    assert seen.told().wrong_at_most == pytest.approx(0.5, abs=0.01)


def test_a_check_does_not_change_the_search():
    seen = Searching(MADE.lists, 0.3)
    seen.learn(found_wrong(0, 0, 0), 0)
    seen.looked = 1_000
    seen.check(found_wrong(0.4, 0.4, 0.4))
    assert seen.told().probes == seen.probes == 1


def test_more_lists_are_looked_at_where_heights_leave_their_planes():
    seen = Searching(MADE.lists, 0.3)
    seen.learn(found_wrong(0, 0.3, 0.3), 0)
    assert seen.probes == 1, "nothing was learned before"
    seen.learn(found_wrong(0, 0.02, 0.3), 8)
    assert seen.probes == 1, "what decides nothing says 0.3"
    seen.learn(found_wrong(0, 0.3, 0.0), 16)
    assert seen.probes == 12


@pytest.mark.parametrize("checked", [20, 1_000])
def test_the_bound_on_wrong_cells_holds_as_often_as_it_says(checked):
    assert wrong_at_most(0, 0) == 0
    assert wrong_at_most(checked, checked) == 1
    for share in (0.001, 0.01, 0.3, 0.9):
        held = np.array([wrong_at_most(k, checked) >= share for k in range(checked + 1)])
        assert binom.pmf(np.arange(checked + 1), checked, share)[held].sum() >= 0.95 - 1e-9

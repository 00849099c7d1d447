"""Couplings: any batch at once, with the rows of its targets, the same everywhere."""

import itertools
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import aeot_jax as aeot
from aeot_jax.ot.cells import antithetic
from aeot_jax.ot.couplings import numbers, pairing

M, D, B = 40, 2, 64
MU = aeot.Gaussian(D)
Y = np.random.default_rng(0).normal(size=(M, D)) + 1.0
NU = np.arange(1.0, M + 1) / (M * (M + 1) / 2)
H = np.asarray(aeot.solve_exact(MU, Y, NU).h)
LONG = 2**40
"""A batch that nobody reaches by skipping."""


@pytest.fixture(scope="module")
def c():
    return aeot.coupling(MU, Y, H, batch_size=B)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_is_noise_with_the_targets_of_its_cells(c):
    for k in (0, 7, LONG):
        x, y, index = c[k]
        assert (x.shape, y.shape, index.shape) == ((B, D), (B, D), (B,))
        assert (x.dtype, y.dtype, index.dtype) == (np.float32, np.float32, np.int32)
        np.testing.assert_array_equal(index, aeot.assign(x, Y, H)[1])
        np.testing.assert_array_equal(y, Y.astype(np.float32)[index])
    assert repr(c[0]) == f"Pairs(x=float32[{B},{D}], y=float32[{B},{D}], index=int32[{B}])"
    assert repr(c).endswith("; endless batches of 64, seed 0)")


def test_order_and_company_do_not_matter(c):
    fresh = aeot.coupling(MU, Y, H, batch_size=B)
    backwards = [fresh[k] for k in (3, 2, 1, 0)]
    for one, other in zip(itertools.islice(c, 4), reversed(backwards), strict=True):
        assert_equal(one, other)
    assert_equal(next(c.iter(start=2)), c[2])
    assert not np.isin(c[1].x, c[0].x).any()
    other = aeot.coupling(MU, Y, H, batch_size=B, seed=2**32)
    assert not np.isin(other[0].x, c[0].x).any()


def test_one_program_serves_all_batches(c):
    program: Any = pairing.paired
    c[0]
    before = program._cache_size()
    for k in (1, 2**31, LONG):
        c[k]
    aeot.coupling(MU, Y + 1, H, batch_size=B, seed=5)[3]
    assert program._cache_size() == before


@pytest.mark.optimised
def test_the_noise_of_a_draw_is_the_same_in_any_batch(c):
    expected = np.concatenate([c[k].x for k in range(6)])
    found = aeot.coupling(MU, Y, H, batch_size=100)
    np.testing.assert_array_equal(np.concatenate([found[k].x for k in range(3)]), expected[:300])
    np.testing.assert_array_equal(c.noise(np.arange(100, 300)), expected[100:300])
    np.testing.assert_array_equal(c.noise(77), expected[77])
    assert c.noise(np.int64(77)).shape == (D,)


@pytest.mark.parametrize("first", [0, 2**32 - 30, 2**33 + 5, 2**63 - 50])
def test_a_draw_has_the_key_of_both_its_words(c, first):
    """By hand, one by one; a batch may lie across 2^32."""
    key = jax.random.fold_in(jax.random.key(0), 0)
    for j in (first, first + 49):
        own = jax.random.fold_in(jax.random.fold_in(key, j >> 32), j % 2**32)
        np.testing.assert_allclose(c.noise(j), MU.sample(own, 1)[0], rtol=1e-6, atol=1e-6)
    across = aeot.coupling(MU, Y, H, batch_size=100)
    k = first // 100
    np.testing.assert_array_equal(
        across[k].x, c.noise(np.arange(k * 100, k * 100 + 100, dtype=np.uint64))
    )


def test_words_count_as_integers_do():
    for first in (0, 5, 2**32 - 3, 2**32, 2**40 + 7, 2**63 - 20):
        j = [first + r for r in range(20)]
        counted = numbers.later(jnp.asarray(numbers.words(first)), jnp.arange(20))
        np.testing.assert_array_equal(counted, numbers.words(np.array(j, np.uint64)))
        np.testing.assert_array_equal(
            numbers.orbits(counted), numbers.words(np.array([n // 8 for n in j], np.uint64))
        )
        np.testing.assert_array_equal(numbers.members(counted), [n % 8 for n in j])


def test_draws_are_independent_with_the_law_of_the_source(c):
    x = np.concatenate([np.asarray(c[k].x) for k in (0, 1, LONG, LONG + 1)]).astype(float)
    n = len(x)
    np.testing.assert_allclose(x.mean(0), 0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose(np.cov(x.T), np.eye(D), atol=5 / np.sqrt(n))
    np.testing.assert_allclose((x[1:] * x[:-1]).mean(0), 0, atol=4 / np.sqrt(n))


def test_rows_appear_by_their_weights(c):
    n = 8192
    counts = np.bincount(c.table(n)[:][1], minlength=M)
    # Counts of n independent draws: chi^2 has mean (m - 1) / n and deviation sqrt(2 m) / n.
    assert np.sum((counts / n - NU) ** 2 / NU) < (M - 1 + 4 * np.sqrt(2 * M)) / n


def test_equal_targets_take_turns_by_their_weights():
    y, nu = Y.copy(), np.full(M, 1.0)
    y[[5, 9, 30]] = y[2]  # four alike, of weights 1, 3, 0, 2
    y[11] = y[10]
    nu[[2, 5, 9, 30]] = 1.0, 3.0, 0.0, 2.0
    nu /= nu.sum()
    h = aeot.solve_exact(MU, y, nu).h
    found = aeot.coupling(MU, y, h, nu, batch_size=B)
    index = found.table(8192)[:][1]
    counts = np.bincount(index, minlength=M)
    assert (counts > 0).tolist() == (nu > 0).tolist()
    for group in ([2, 5, 30], [10, 11]):
        share = nu[group] / nu[group].sum()
        total = counts[group].sum()
        np.testing.assert_allclose(counts[group] / total, share, atol=4 * 0.5 / np.sqrt(total))
    first_alone = np.array(h)
    first_alone[[5, 9, 30, 11]] = -np.inf  # as `solve` has it
    for c in (found, aeot.coupling(MU, y, first_alone, nu, batch_size=B)):
        batch = c[3]
        np.testing.assert_array_equal(batch.index, index[3 * B : 4 * B])
        np.testing.assert_array_equal(batch.y, y.astype(np.float32)[batch.index])


def test_targets_that_own_no_cell_are_no_copies():
    y, h = Y.copy(), H.copy()
    y[20] = y[21]
    h[[3, 8, 0]] = -np.inf
    x, _, index = aeot.coupling(MU, y, h, batch_size=B)[3]
    expected = np.asarray(aeot.assign(x, y, h)[1])
    differ = index != expected
    assert set(np.asarray(index)[differ]) <= {20, 21}


def test_two_equal_targets_alternate_evenly():
    """With one cell alone every draw counts: no run of draws is off by more than two."""
    c = aeot.coupling(aeot.Gaussian(2), np.ones((2, 2)), np.zeros(2), batch_size=B)
    index = c.table(1024)[:][1]
    drift = np.cumsum(2 * index - 1)
    assert np.abs(drift).max() <= 4


def test_length_and_borders():
    c = aeot.coupling(MU, Y, H, batch_size=B, num_batches=3)
    assert len(c) == len(list(c)) == 3
    assert_equal(c[-1], c[2])
    assert_equal(c[np.int64(1)], c[1])
    assert list(c.iter(start=3)) == []
    for k in (3, -4, 10**30):
        with pytest.raises(IndexError, match=rf"^`k` is {k}, but the coupling has 3 batches; .*"):
            c[k]
    endless = aeot.coupling(MU, Y, H, batch_size=B)
    assert endless
    with pytest.raises(TypeError, match=r"`num_batches` is None, so that .* has no length; pass"):
        len(endless)
    for k in (-1, 2**63 // B):
        with pytest.raises(IndexError, match=rf"^`k` is {k}, but"):
            endless[k]
    endless[2**63 // B - 1]


def test_other_dtypes_round_the_same_pairs(c):
    low = aeot.coupling(MU, Y, H, batch_size=B, dtype=jnp.bfloat16)[2]
    assert (low.x.dtype, low.y.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert_equal(low, (c[2].x.astype(jnp.bfloat16), c[2].y.astype(jnp.bfloat16), c[2].index))
    assert aeot.coupling(MU, Y, H, dtype="float16").noise(3).dtype == np.float16
    far = np.asarray(Y) * (65_520 / np.abs(Y).max())
    with pytest.raises(
        ValueError, match="`dtype` is float16, which holds numbers below 65,520, bu"
    ):
        aeot.coupling(MU, far, H, dtype=np.float16)
    assert np.isfinite(aeot.coupling(MU, far * 0.999, H, dtype=np.float16)[0].y).all()


PROCESS = """
import pickle, sys
import numpy as np
batch = pickle.load(open(sys.argv[1], "rb"))[5]
np.savez(sys.argv[2], *batch)
"""


def test_a_pickle_makes_the_same_bits_in_another_process(c, tmp_path):
    source, result = tmp_path / "c.pkl", tmp_path / "batch.npz"
    source.write_bytes(pickle.dumps(c))
    command = [sys.executable, "-c", PROCESS, str(source), str(result)]
    subprocess.run(command, check=True, env=os.environ)
    assert_equal(np.load(result).values(), c[5])


def test_a_state_goes_on_where_it_was_taken(c, tmp_path):
    state = c.state(6)
    assert all(type(value) is int and 0 <= value < 2**63 for value in state.values())
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(tmp_path / "state", state)
    checkpointer.wait_until_finished()
    forms = (state, json.loads(json.dumps(state)), checkpointer.restore(tmp_path / "state"))
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for form in (*forms, arrays):
        again = aeot.coupling_from_state(form, MU, Y, H)
        assert_equal(next(iter(again)), c[6])
        assert_equal(again[1], c[1])
        assert again.state(6) == state


def test_another_state_is_refused(c):
    state = c.state(6)
    for mu, y, h in (
        (MU, Y + 1, H),
        (MU, Y, H - np.arange(M)),
        (aeot.UniformBall(D), Y, H),
        (aeot.Empirical(jnp.ones((3, D))), Y, H),
    ):
        with pytest.raises(ValueError, match=r"^`state` is that of another solution: .* pass the"):
            aeot.coupling_from_state(state, mu, y, h)
    halves = aeot.Gaussian(1), aeot.UniformCube(1)
    state = aeot.coupling(aeot.Product(*halves), Y, H).state(6)
    with pytest.raises(ValueError, match="is that of another solution"):
        aeot.coupling_from_state(state, aeot.Product(*halves[::-1]), Y, H)
    state = aeot.coupling(MU, Y + 1e9, H).state(6)
    with pytest.raises(ValueError, match="is that of another solution"):
        aeot.coupling_from_state(state, MU, Y[::-1] + 1e9, H)
    state = c.state(6)
    bad = {
        "schema": ({**state, "schema": 9}, "`state` has schema 9, but"),
        "gone": ({"k": 3}, "`state` has no 'schema'; pass the dict"),
        "float": ({**state, "k": 0.5}, "`state` has 'k' 0.5, which is no integer; pass"),
        "below": ({**state, "k": -1}, "`state` is -1, but there are"),
        "dtype": ({**state, "dtype": 17}, "`state` was changed"),
        "size": ({**state, "batch_size": 0}, "`batch_size` is 0"),
    }
    for form, said in bad.values():
        with pytest.raises(ValueError, match=rf"^{said}"):
            aeot.coupling_from_state(form, MU, Y, H)
    swapped: Any = MU
    with pytest.raises(ValueError, match=r"^`state` is Gaussian.*; pass the dict"):
        aeot.coupling_from_state(swapped, MU, Y, H)


def test_dependent_draws_come_in_orbits_and_are_the_same_in_any_batch():
    c = aeot.coupling(MU, Y, H, batch_size=B, antithetic=True)
    x, y, index = c[3]
    x = np.asarray(x)
    np.testing.assert_array_equal(x, np.tile(antithetic.signs(D), (8, 1)) * x[::8].repeat(8, 0))
    np.testing.assert_array_equal(index, aeot.assign(x, Y, H)[1])
    np.testing.assert_array_equal(y, Y.astype(np.float32)[index])
    np.testing.assert_array_equal(c.noise(np.arange(3 * B, 4 * B)), x)
    other = aeot.coupling(MU, Y, H, batch_size=20, antithetic=True)[10]  # its orbits are in two
    assert_equal(other, (part[8:28] for part in c[3]))
    plain = aeot.coupling(MU, Y, H, batch_size=B).noise(np.arange(3 * B // 8, 4 * B // 8))
    np.testing.assert_array_equal(x[::8], plain)


@pytest.mark.parametrize(
    "mu",
    [
        aeot.UniformCube(D),
        aeot.UniformBall(D),
        aeot.Empirical(jnp.asarray(Y[:5], jnp.float32)),
        aeot.FromSampler(lambda key, n: jax.random.gumbel(key, (n, D)), D),
    ],
    ids=lambda mu: type(mu).__name__,
)
def test_every_source_draws_its_law(mu):
    x = np.asarray(aeot.coupling(mu, Y, H).noise(np.arange(256)))
    expected = np.asarray(mu.sample(jax.random.key(0), 4096))
    spread = expected.std(0)
    np.testing.assert_allclose(x.mean(0), expected.mean(0), atol=(4.5 / 16 * spread).max())
    np.testing.assert_allclose(x.std(0), spread, rtol=0.3)


def test_targets_far_away_keep_their_digits():
    far = Y + 1e6
    h = H - far @ np.zeros(D)
    near, c = aeot.coupling(MU, Y, h, batch_size=B)[0], aeot.coupling(MU, far, h, batch_size=B)[0]
    np.testing.assert_array_equal(c.index, near.index)
    np.testing.assert_array_equal(c.y, far.astype(np.float32)[c.index])


def test_noise_in_a_cell_leads_to_its_target(c):
    i = int(c[0].index[0])
    x = c.inverse(i, 5)
    assert x.shape == (5, D)
    assert set(np.asarray(aeot.assign(x, Y, H)[1])) == {i}
    assert len(np.unique(np.asarray(x), axis=0)) == 5
    np.testing.assert_array_equal(c.inverse(i, 3), x[:3])
    assert not np.isin(x, c.noise(np.arange(4096))).any()


def test_noise_in_a_cell_has_the_law_of_the_source_there():
    """On a line, two cells with a border at 0.5: the mean of a normal above it."""
    y = np.array([[0.0], [1.0]])
    x = aeot.coupling(aeot.Gaussian(1), y, np.array([0.0, -0.5])).inverse(1, 2000)
    assert float(x.min()) > 0.5
    density, tail = np.exp(-0.125) / np.sqrt(2 * np.pi), 0.30853753872598694
    assert abs(float(x.mean()) - density / tail) < 4 * 0.55 / np.sqrt(2000)


@pytest.mark.parametrize("lower", [1.0, np.inf])
def test_equal_targets_share_the_noise_of_their_cell(lower):
    y, h = Y.copy(), H.copy()
    y[1], h[1] = y[2], h[2] - lower  # the higher of the two is the cell's
    h[4] = -np.inf
    c = aeot.coupling(MU, y, h, batch_size=B)
    x = c.inverse(2, 3)
    assert set(np.asarray(aeot.assign(x, y, h)[1])) == {2}
    np.testing.assert_array_equal(c.inverse(1, 3), x)


def test_a_search_that_finds_too_little_says_what_it_found(c):
    i = int(c[0].index[0])
    with pytest.raises(
        ValueError, match=rf"^`n` is 4000, but of 4,100 draws of the source \d+ lie .* target {i};"
    ):
        c.inverse(i, 4000, max_draws=4100)
    h = H.copy()
    h[3] = -np.inf
    with pytest.raises(ValueError, match=r"^`i` is 3, but its height is -inf"):
        aeot.coupling(MU, Y, h, batch_size=B).inverse(3, 1)


MISTAKES = {
    "seed": ("0", 0.5, True, -1, 2**63, None),
    "batch_size": ("8", 0, 2.0, True, None),
    "num_batches": ("8", 0, 2.0, True, 2**62),
    "dtype": ("int32", np.int8, "many", 3.5, np.complex64, np.float64),
    "sharding": ("data", 3, jax.devices()[0]),
    "antithetic": ("no", None, 1),
    "nu": (np.ones(3), np.full(M, 2.0)),
    "h": (np.zeros(3), np.full(M, -np.inf), None),
    "y": (np.zeros(3), "y", None),
    "mu": ("gaussian", aeot.Gaussian(3), None),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_that_names_it(name):
    for value in MISTAKES[name]:
        options: dict[str, Any] = {"mu": MU, "y": Y, "h": H, name: value}
        with pytest.raises(ValueError, match=f"`{name}`") as caught:
            aeot.coupling(options.pop("mu"), **options)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)


def test_mistakes_in_calls_are_named(c):
    for j in (-1, 2**63, 0.5, "0", True, np.array([[1]]), np.array([0.5]), np.array([-1, 3])):
        with pytest.raises(ValueError, match=r"^`j` "):
            c.noise(j)
    for k in ("0", 0.5, True, None, slice(3)):
        with pytest.raises(ValueError, match=r"^`k` is"):
            c[k]
    with pytest.raises(ValueError, match=r"^`k` is a traced value .* pass it the batch"):
        jax.jit(lambda k: c[k])(3)
    for start in (-1, 0.5, "0", 2**63):
        with pytest.raises(ValueError, match=r"^`start` is"):
            c.iter(start=start)
    with pytest.raises(ValueError, match=r"^`k` is -1"):
        c.state(-1)
    for i in (-1, M, 0.5):
        with pytest.raises(ValueError, match=r"^`i` is"):
            c.inverse(i, 1)
    for n in (0, "3", 2.0):
        with pytest.raises(ValueError, match=r"^`n` is"):
            c.inverse(0, n)
    with pytest.raises(ValueError, match=r"^`max_draws` is 0"):
        c.inverse(0, 1, max_draws=0)
    sampler = aeot.FromSampler(lambda key, n: jax.random.normal(key, (n, D)), D)
    with pytest.raises(ValueError, match=r"^`antithetic` is True, which takes a source with"):
        aeot.coupling(sampler, Y, H, antithetic=True)
    with pytest.raises(ValueError, match=r"^`y` is traced, but `coupling` decides on the host"):
        jax.jit(lambda y: aeot.coupling(MU, y, H)[0])(jnp.asarray(Y))

"""Targets that no device holds whole: the same heights to the last bit, and the memory that was
promised."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.machines import meshes
from aeot_jax.ot import frames, problem
from aeot_jax.ot.cells import power, sizes
from aeot_jax.ot.counts.sharded import is_winner
from aeot_jax.ot.devices import parallel, placement
from aeot_jax.ot.duality.assign import assign
from aeot_jax.ot.extension import generate, learn
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.starts import start

KEY = jax.random.key(0)
DEVICES = jax.devices()
BASE = aeot.SolverConfig(tolerance=None, max_steps=12, batch_size=512, parallel="none")


def targets(m, d):
    return (np.random.default_rng(m).normal(size=(m, d)) * np.linspace(0.3, 2, d)).astype("f4")


def grid(rows, shards):
    return meshes.grid(tuple(DEVICES[: rows * shards]), ("samples", "targets"), shards)


def sharded(y, config):
    """First state, marginals and steps of a placement with target shards."""
    where = placement.placement("shard_map", None, config.target_shards)
    mu, rows = aeot.Gaussian(y.shape[1]), sizes.sharded(*y.shape)
    made = problem.make(mu, y, sharded=True)
    arrays = parallel.shard(where, made.y, rows), parallel.shard(where, made.nu, rows)
    marginals = Marginals(mu, *arrays)
    plan, budget = planning.plan(len(y), mu, config), planning.budget(len(y), mu, config)
    state = start.begin_sharded(KEY, marginals, plan, budget, None, where)
    return state, marginals, partial(stepping.run_steps, plan=plan, where=where)


PLAIN = {"sampling": "independent", "start": "gaussian"}
ADAM = {"method": "adam", "plateau_steps": 1, "start": "zero"}
LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("m", "d", "shards", "settings"),
    [
        # A net, long steps and their average.
        pytest.param(300, 3, (2, 8), {"max_steps": 24}, id="net", marks=LONG),
        pytest.param(300, 16, (4,), PLAIN, id="plain"),
        pytest.param(300, 16, (8,), PLAIN, id="plain, eight", marks=LONG),
        pytest.param(300, 16, (2, 8), ADAM, id="doubling", marks=LONG),
        pytest.param(1024, 16, (8,), ADAM, id="whole blocks", marks=LONG),  # no surplus
        pytest.param(1500, 32, (2, 8), {"batch_size": 2048}, id="orbits", marks=LONG),
        pytest.param(4100, 16, (4,), {}, id="shared", marks=LONG),
        pytest.param(4100, 32, (2, 8), {"batch_size": 2048}, id="shared orbits", marks=LONG),
    ],
)
def test_the_shape_of_the_mesh_does_not_change_the_answer(m, d, shards, settings):
    mu, y, config = aeot.Gaussian(d), targets(m, d), replace(BASE, **settings)
    alone = aeot.solve(KEY, mu, y, config=config)
    for number in shards:
        spread = replace(config, parallel="shard_map", target_shards=number)
        found = aeot.solve(KEY, mu, y, config=spread)
        assert isinstance(found.h, np.ndarray)
        same = replace(found, h=jnp.asarray(found.h))
        for one, other in zip(jax.tree.leaves(same), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shards", [4, pytest.param(8, marks=LONG)])
def test_a_device_holds_its_share_and_no_more(shards):
    """Eight devices: 2 rows of 4, each with a quarter of all that has a row a target, or 1 of 8."""
    m, d = 5000, 16
    y, config = targets(m, d), replace(BASE, parallel="auto", target_shards=shards, start="zero")
    state, marginals, run_steps = sharded(y, config)
    moved, *_ = run_steps(state, marginals, num_steps=1)
    padded = 5120  # to whole blocks of 128 targets on each device
    for state_ in (state, moved):
        vectors = [a for a in jax.tree.leaves((state_, marginals)) if a.shape[:1] == (padded,)]
        # h, its average, two moments of Adam, nu, y; of Newton deviations, gaps and hits
        assert len(vectors) == 9
        for array in vectors:
            assert len(array.addressable_shards) == 8
            for part in array.addressable_shards:
                assert part.data.shape[0] == padded // shards
        assert max(a.size for a in jax.tree.leaves(state_) if a.shape[:1] != (padded,)) <= d


@pytest.mark.long
def test_a_step_gathers_scores_over_targets_and_reduces_counts_over_samples():
    m, d = 300, 16
    config = replace(
        BASE, parallel="shard_map", target_shards=4, sampling="independent", method="adam"
    )
    state, marginals, run_steps = sharded(targets(m, d), config)
    leaves, structure = jax.tree.flatten((state, marginals))

    @jax.jit
    def program(leaves):
        return run_steps(*jax.tree.unflatten(structure, leaves), num_steps=4)

    text = program.lower(leaves).compile().as_text()
    assert text is not None
    gathers = re.findall(r"= (\S+) all-gather\(", text)
    assert [kind.partition("{")[0] for kind in gathers] == ["f32[4,64]"]  # a stream's scores
    reductions = re.findall(r"= (.+?) all-reduce\(.*?replica_groups=(\{\{.*?\}\})", text)
    samples, blocks = "{{0,4},{1,5},{2,6},{3,7}}", "{{0,1,2,3},{4,5,6,7}}"
    over_samples = [kind for kind, groups in reductions if groups == samples]
    assert len(over_samples) == 1  # the counts of this device, and the scatter of the streams
    assert set(re.findall(r"(\w+)\[", over_samples[0])) == {"s32"}
    sizes = [
        re.findall(r"(\w+)\[([\d,]*)\]", kind) for kind, groups in reductions if groups == blocks
    ]
    assert {kind for found in sizes for kind, _ in found} == {"s32"}
    # What sums over targets need: some numbers a block, never a number a target.
    numbers = [int(np.prod([int(n) for n in shape.split(",") if n])) for [(_, shape)] in sizes]
    assert max(numbers) <= 8 * 8
    assert len(numbers) <= 3


def test_ties_between_shards_go_to_the_lowest_index():
    y = targets(2048, 5)
    y[1900], y[700] = y[20], y[1300]
    h = -0.5 * (y * y).sum(1)  # the nearest target wins
    x = np.concatenate([y[[20, 1300]] + 1e-3 * shift for shift in targets(32, 5)])
    _, expected = assign(x, y, h)

    def own(x, y, h):
        scores, index = power.leaders(x, y, h)
        won = is_winner(scores, "targets")
        first = jax.lax.axis_index("targets") * y.shape[0]
        return jax.lax.psum(jnp.where(won, index + first, 0), "targets")

    for shards in (2, 8):
        specs = {"in_specs": (P(), P("targets"), P("targets")), "out_specs": P()}
        mapped = jax.shard_map(own, mesh=grid(8 // shards, shards), **specs)
        np.testing.assert_array_equal(jax.jit(mapped)(x, y, h), expected)
    assert set(np.asarray(expected).tolist()) == {20, 700}


@pytest.mark.parametrize("shards", [pytest.param(2, marks=LONG), 8])
def test_a_certificate_does_not_depend_on_the_shape_of_the_mesh(shards):
    mu, y = aeot.Gaussian(5), targets(300, 5)
    y[290] = y[3]  # one cell, in two shards
    h = -0.5 * (y * y).sum(1)
    h[7] = -np.inf
    nu = np.geomspace(1, 1e-9, 300)  # some are too light to see
    nu[7] = 0
    nu /= nu.sum()
    alone = aeot.certify(KEY, mu, y, h, nu, 20_000)
    assert 0 < alone.num_unverified < 299
    found = aeot.certify(KEY, mu, y, h, nu, 20_000, target_shards=shards)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_planes_that_nearly_meet_are_told_apart_alike():
    """Fewer targets than a block of the kernel: its products round by their shape."""
    mu, rng = aeot.Gaussian(16), np.random.default_rng(0)
    y = np.repeat(rng.normal(size=(10, 16)), 10, 0) * (1 + 1e-7 * rng.normal(size=(100, 16)))
    alone = aeot.certify(KEY, mu, y, np.zeros(100), num_samples=20_000)
    found = aeot.certify(KEY, mu, y, np.zeros(100), num_samples=20_000, target_shards=8)
    assert found.chi2 == alone.chi2


@pytest.mark.long
def test_copies_in_two_shards_share_one_cell():
    mu, y = aeot.Gaussian(16), targets(300, 16)
    y[290] = y[3]
    config = replace(BASE, sampling="independent")
    with pytest.warns(UserWarning, match="equal an earlier one"):
        alone = aeot.solve(KEY, mu, y, config=config)
    with pytest.warns(UserWarning, match="equal an earlier one"):
        found = aeot.solve(KEY, mu, y, config=replace(config, parallel="auto", target_shards=8))
    np.testing.assert_array_equal(found.h, alone.h)
    assert found.h[290] == found.h[3]


def arrays(tree):
    """All numbers of a record by name, without its source."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if "mu" not in str(path)}


@pytest.mark.long
def test_an_extension_and_its_codes_come_from_shards_alike(monkeypatch):
    """Two rows of four devices; a target without a cell, copies in two shards, two chunks.

    The compiled programs hold no array of all targets.
    """
    m, d = 300, 8
    mu, y = aeot.Gaussian(d), targets(m, d)
    y[290] = y[3]
    h = -0.5 * (y * y).sum(1)
    h[7] = -np.inf
    monkeypatch.setattr(learn, "_NUM_SAMPLES", 128)  # codes that are looked at, of many more
    monkeypatch.setattr(generate, "CHUNK", 512)
    alone = aeot.extension(KEY, mu, y, h, num_samples=600)
    codes = aeot.generate(KEY, alone, 600)
    assert 0 < np.asarray(codes[1]).mean() < 1
    texts = []

    def kept(make):
        def run(program, *values):
            compiled = program.lower(*values).compile()
            texts.append(compiled.as_text())
            return compiled(*values)

        return lambda *settings: partial(run, make(*settings))

    for name in ("_program", "_items_program"):
        monkeypatch.setattr(parallel, name, kept(getattr(parallel, name)))
    found = aeot.extension(KEY, mu, y, h, num_samples=600, target_shards=4)
    assert isinstance(found.y, np.ndarray)
    assert isinstance(found.h, np.ndarray)
    same = aeot.generate(KEY, found, 600, target_shards=4)
    for one, other in ((alone, found), (codes, same)):
        jax.tree.map(np.testing.assert_array_equal, arrays(one), arrays(other))

    assert len(texts) == 8  # frame, two searches, rows at four places, candidates
    found = re.findall(r"\w+\[([\d,]+)\]", "".join(texts))
    shapes = {tuple(map(int, shape.split(","))) for shape in found}
    own, whole = sizes.sharded(m, d) // 4, {m, sizes.filled(m, d), sizes.sharded(m, d)}
    assert (own, d) in shapes
    assert not [shape for shape in shapes if shape[-1] in (d, d + 1) and whole & set(shape)]


@pytest.mark.long
def test_targets_of_one_byte_stay_so_in_an_extension(tmp_path, monkeypatch):
    monkeypatch.setattr(learn, "_NUM_SAMPLES", 128)
    monkeypatch.setattr(generate, "CHUNK", 512)
    mu, y = aeot.Gaussian(8), np.clip(40 * targets(300, 8) + 128, 0, 255).astype(np.uint8)
    h = -0.5 * (y.astype(np.float32) ** 2).sum(1)
    wide = aeot.extension(KEY, mu, y.astype(np.float32), h, num_samples=600)
    found = aeot.extension(KEY, mu, y, h, num_samples=600, target_shards=4)
    assert found.y.dtype == np.uint8
    aeot.save(found, tmp_path / "extension")
    for held in (found, aeot.load(tmp_path / "extension")):
        same = replace(held, y=np.asarray(held.y, np.float32))
        jax.tree.map(np.testing.assert_array_equal, arrays(wide), arrays(same))
    codes, same = aeot.generate(KEY, wide, 600), aeot.generate(KEY, found, 600, target_shards=4)
    jax.tree.map(np.testing.assert_array_equal, arrays(codes), arrays(same))


def test_an_extension_of_shards_is_refused_inside_jit():
    mu, y, one = aeot.Gaussian(8), targets(300, 8), jnp.ones(())
    frame = frames.Frame(jnp.zeros(8), one)
    ext = aeot.Extension(mu, y, y[:, 0], frame, one, one, one, jnp.zeros(9), jnp.zeros(9))
    for name, call in (
        ("extension", lambda key: aeot.extension(key, mu, y, y[:, 0], target_shards=2)),
        ("generate", lambda key: aeot.generate(key, ext, 10, target_shards=2)),
    ):
        said = f"`target_shards` is 2 under jit, .*call `{name}` outside jit, or pass 1"
        with pytest.raises(ValueError, match=said):
            jax.jit(call)(KEY)
    with pytest.raises(ValueError, match="`target_shards` is 3; choose one of 1, 2, 4, 8"):
        aeot.generate(KEY, ext, 10, target_shards=3)


@pytest.mark.long
def test_a_step_inside_a_users_own_mesh_gives_the_same_heights():
    m, d = 1024, 16
    mu, y, nu = aeot.Gaussian(d), targets(m, d), np.full(m, 1 / m, np.float32)
    config = replace(BASE, sampling="independent")

    def steps(key, y, nu, **axes):
        state = aeot.init(key, mu, y, nu, config, **axes)
        return aeot.step(state, mu, y, nu, config, **axes).heights

    alone = jax.jit(steps)(KEY, y, nu)
    body = partial(steps, axis_name="samples", targets_axis="targets")
    specs = {"in_specs": (P(), P("targets"), P("targets")), "out_specs": P("targets")}
    mapped = jax.shard_map(body, mesh=grid(2, 4), **specs)
    np.testing.assert_array_equal(jax.jit(mapped)(KEY, y, nu), alone)


def test_axes_and_rows_that_do_not_fit_are_named():
    mu, y, nu = aeot.Gaussian(3), targets(1024, 3), np.full(1024, 1 / 1024, np.float32)
    with pytest.raises(ValueError, match="`nu` is None, but `targets_axis` is 'targets'; pass the"):
        aeot.init(KEY, mu, y, None, BASE, targets_axis="targets")
    with pytest.raises(ValueError, match="`targets_axis` is 'targets', but no `pmap`"):
        aeot.init(KEY, mu, y, nu, BASE, targets_axis="targets")
    with pytest.raises(ValueError, match="`axis_name` and `targets_axis` are both 'i'; samples"):
        aeot.init(KEY, mu, y, nu, BASE, axis_name="i", targets_axis="i")
    specs = {"in_specs": (P("targets"), P("targets")), "out_specs": P("targets")}
    mapped = jax.shard_map(
        lambda y, nu: aeot.init(KEY, mu, y, nu, BASE, targets_axis="targets").h,
        mesh=grid(4, 2),
        **specs,
    )
    said = "`y` has 100 targets on each of the 2 devices of `targets_axis` 'targets'; fill them up"
    with pytest.raises(ValueError, match=re.escape(said)):
        mapped(y[:200], nu[:200])


@pytest.mark.parametrize(
    ("kind", "shards", "devices", "said"),
    [
        ("none", 2, None, "`target_shards` is 2, but `parallel` is 'none', which gives every"),
        ("pmap", 2, None, "`target_shards` is 2, but `parallel` is 'pmap', which gives every"),
        ("auto", 8, tuple(DEVICES[:4]), "`target_shards` is 8, which does not divide the 4"),
        ("shard_map", 2, tuple(DEVICES[:6]), "holds 6 devices in rows of 2, over which the 8"),
    ],
)
def test_shards_that_do_not_fit_are_named_before_the_first_step(kind, shards, devices, said):
    mu, y = aeot.Gaussian(3), targets(300, 3)
    config = replace(BASE, parallel=kind, target_shards=shards, devices=devices)
    with pytest.raises(ValueError, match=re.escape(said)):
        aeot.solve(KEY, mu, y, config=config)
    options = {"parallel": kind, "devices": devices, "target_shards": shards}
    with pytest.raises(ValueError, match=re.escape(said)):
        aeot.certify(KEY, mu, y, np.zeros(300), **options)


def test_what_is_no_number_of_shards_is_named():
    with pytest.raises(ValueError, match="`target_shards` is 3; choose one of 1, 2, 4, 8"):
        aeot.SolverConfig(target_shards=3)
    with pytest.raises(ValueError, match="`target_shards` is 16; choose one of 1, 2, 4, 8"):
        aeot.certify(KEY, aeot.Gaussian(3), targets(9, 3), np.zeros(9), target_shards=16)


def test_an_optimizer_that_looks_at_all_targets_is_refused():
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    config = replace(BASE, parallel="auto", target_shards=2, optimizer=clipped)
    with pytest.raises(ValueError, match="`optimizer` moves one height by what it sees of others"):
        aeot.solve(KEY, aeot.Gaussian(3), targets(300, 3), config=config)


def test_targets_on_the_host_are_checked_as_others_are():
    mu, y = aeot.Gaussian(3), targets(300, 3)
    config = replace(BASE, parallel="auto", target_shards=2)
    for bad, nu, said in (
        (np.where(y > 1, np.nan, y), None, "`y` is nan at .*; pass finite numbers"),
        (y[:, 0], None, r"`y` has shape \(300,\); pass one point a row"),
        (y, np.ones(4) / 4, r"`nu` has shape \(4,\), but `y` has shape"),
        (y, np.ones(300), "`nu` sums to 300; divide it by its sum"),
    ):
        with pytest.raises(ValueError, match=said):
            aeot.solve(KEY, mu, bad, nu, config=config)

"""Devices make a solve shorter and change nothing else, to the last bit."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.ot.devices import parallel, placement
from aeot_jax.ot.extension import generate
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import config as solver_config
from aeot_jax.ot.solver import planning, stepping

KEY = jax.random.key(0)
DEVICES = jax.devices()
LONG = pytest.mark.long


def problem(dim, m, **settings):
    y = jax.random.normal(jax.random.key(1), (m, dim)) * jnp.linspace(0.3, 2, dim)[None, :]
    # One start, in which other devices have no part: less to compile.
    settings = {"max_steps": 40, "batch_size": 512, "start": "voronoi", **settings}
    config = aeot.SolverConfig(tolerance=None, parallel="none", **settings)
    return aeot.Gaussian(dim), y, config


PROBLEMS = {
    "plain": problem(6, 90, sampling="independent"),
    "doubling": problem(6, 90, method="adam", plateau_steps=3, sampling="independent"),
    "net": problem(3, 60),
    "orbits": problem(32, 200),
    "shared": problem(32, 4100),
}
FEW = [("pmap", 8), ("shard_map", 2)]
OTHERS = [(kind, n) for kind in ("pmap", "shard_map") for n in (1, 2, 4, 8) if (kind, n) not in FEW]
ALL = [FEW[1], *(pytest.param(*other, marks=LONG) for other in (FEW[0], *OTHERS))]
LAYOUTS = [
    pytest.param("plain", FEW[1:], id="plain"),
    # "pmap" is below, around a whole solve.
    pytest.param("plain", FEW[:1], id="plain, pmap", marks=LONG),
    pytest.param("plain", OTHERS, id="plain, the others", marks=LONG),
    pytest.param("doubling", [("shard_map", 8)], id="doubling", marks=LONG),
    pytest.param("net", FEW, id="net", marks=LONG),
    pytest.param("orbits", [("pmap", 2), ("shard_map", 8)], id="orbits", marks=LONG),
    pytest.param("shared", FEW, id="shared", marks=LONG),
]


def chunk(state, mu, y, config):
    return parallel.local(run_steps(state, mu, y, config, 40))


def run_steps(state, mu, y, config, num_steps):
    marginals = Marginals(mu, y, jnp.full(y.shape[0], 1 / y.shape[0]))
    plan, where = planning.plan(y.shape[0], mu, config), solver_config.placement(config)
    return stepping.run_steps(state, marginals, plan, where, num_steps)


@pytest.mark.parametrize(("name", "layouts"), LAYOUTS)
def test_devices_and_layouts_do_not_change_the_answer(name, layouts):
    mu, y, config = PROBLEMS[name]
    assert planning.plan(len(y), mu, config).shares == (name == "shared")
    state = aeot.init(KEY, mu, y, None, config)
    expected = chunk(state, mu, y, config)
    for kind, num_devices in layouts:
        spread = replace(config, parallel=kind, devices=tuple(DEVICES[:num_devices]))
        found = chunk(state, mu, y, spread)
        assert found[0].batches == expected[0].batches
        np.testing.assert_array_equal(found[0].h, expected[0].h)
        np.testing.assert_array_equal(found[0].average.heights, expected[0].average.heights)
        # The history is a diagnosis; its parts are gathered by stream, so it agrees as well.
        np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-5)


@pytest.mark.long
def test_a_whole_solve_does_not_depend_on_the_devices():
    mu, y, config = PROBLEMS["plain"]
    config = replace(config, tolerance=0.3, max_steps=None, start="auto")
    solutions = [
        aeot.solve(KEY, mu, y, config=replace(config, parallel=kind, devices=devices))
        for kind, devices in (
            ("none", None),
            ("none", (DEVICES[5],)),
            ("auto", (DEVICES[6], DEVICES[1])),
            ("pmap", None),
        )
    ]
    for other in solutions[1:]:
        np.testing.assert_array_equal(other.h, solutions[0].h)
        assert other.mass_error == solutions[0].mass_error
        assert other.num_samples == solutions[0].num_samples
        assert isinstance(other.h, jax.Array)
        assert len(other.h.devices()) == 1


@pytest.mark.parametrize("kind", ["shard_map", pytest.param("pmap", marks=LONG)])
def test_a_certificate_does_not_depend_on_the_devices(kind):
    mu, y, _ = PROBLEMS["net"]
    h = jnp.zeros(60)
    alone = aeot.certify(KEY, mu, y, h, num_samples=5_000)
    other = aeot.certify(KEY, mu, y, h, num_samples=5_000, parallel=kind)
    assert jax.tree.leaves(other) == jax.tree.leaves(alone)


def test_a_certificate_inside_jit_is_that_outside():
    mu, y, _ = PROBLEMS["net"]
    h = jnp.zeros(60)
    inside = jax.jit(lambda h: aeot.certify(KEY, mu, y, h, num_samples=5_000))(h)
    alone = aeot.certify(KEY, mu, y, h, num_samples=5_000)
    np.testing.assert_allclose(inside.mass_error, alone.mass_error, rtol=1e-6)
    assert inside.num_empty == alone.num_empty


def extension(**layout):
    """Of a source with points of its own, which travel to every device."""
    _, y, _ = PROBLEMS["net"]
    mu = aeot.Empirical(jax.random.normal(jax.random.key(2), (500, 3)))
    h = -0.5 * (y * y).sum(1)
    return aeot.extension(KEY, mu, y, h, num_samples=700, **layout)  # no whole number of chunks


@pytest.fixture(scope="module")
def ext():
    return extension()


@pytest.fixture
def chunks(monkeypatch):
    """Eleven chunks, which no number of devices divides."""
    monkeypatch.setattr(generate, "CHUNK", 64)
    return 700


@pytest.mark.parametrize(("kind", "num_devices"), ALL)
def test_candidates_do_not_depend_on_the_devices(ext, chunks, kind, num_devices):
    alone = aeot.generate(KEY, ext, chunks)
    devices = tuple(DEVICES[:num_devices])
    spread = aeot.generate(KEY, ext, chunks, parallel=kind, devices=devices)
    for found, expected in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        assert found.devices() == {DEVICES[0]}
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "num_devices"), [("shard_map", 8), pytest.param("pmap", 2, marks=LONG)]
)
def test_an_extension_does_not_depend_on_the_devices(ext, kind, num_devices):
    spread = extension(parallel=kind, devices=tuple(DEVICES[:num_devices]))
    for found, expected in zip(jax.tree.leaves(spread), jax.tree.leaves(ext), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_fewer_chunks_than_devices_are_the_same_candidates(ext, chunks):
    """A device that owns one chunk runs another program than one that owns them all."""
    for n in (100, 64):
        alone = aeot.generate(KEY, ext, n)
        spread = aeot.generate(KEY, ext, n, devices=tuple(DEVICES[:4]))
        for found, expected in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
            assert found.shape[0] == n
            np.testing.assert_array_equal(found, expected)


def test_a_step_is_one_reduction_of_integers():
    mu, y, config = PROBLEMS["doubling"]
    spread = replace(config, parallel="shard_map")
    state = aeot.init(KEY, mu, y, None, config)
    leaves, structure = jax.tree.flatten((state, mu, y))

    @jax.jit
    def program(leaves):
        state, mu, y = jax.tree.unflatten(structure, leaves)
        return run_steps(state, mu, y, spread, 4)

    text = program.lower(leaves).compile().as_text()
    assert text is not None
    reductions = re.findall(r"(\S+) all-reduce\(", text)
    assert [kind.partition("[")[0] for kind in reductions] == ["s32"]
    assert reductions[0].startswith(f"s32[{y.shape[0] + 8}]")


def test_auto_spreads_over_accelerators_and_not_over_the_cores_of_a_cpu(monkeypatch):
    assert placement.placement("auto") == placement.Placement("none")
    assert placement.placement("auto", (DEVICES[3],)) == placement.Placement("none", (DEVICES[3],))
    assert placement.placement("auto", tuple(DEVICES[:2])).kind == "shard_map"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 6)
    assert placement.placement("auto") == placement.Placement("shard_map", tuple(DEVICES[:4]))


@pytest.mark.parametrize(
    ("kind", "devices", "said"),
    [
        ("shard_map", tuple(DEVICES[:3]), "`devices` holds 3 devices, over which the 8 logical"),
        ("pmap", tuple(DEVICES[:5]), "pass a tuple of 1, 2, 4, 8 devices"),
        ("auto", tuple(DEVICES[:6]), "`devices` holds 6 devices"),
        ("none", tuple(DEVICES[:2]), "`devices` holds 2 devices, but `parallel` is 'none'"),
        ("pmap", (DEVICES[0], DEVICES[0]), "`devices` names a device twice"),
    ],
)
def test_devices_that_do_not_fit_are_named_before_the_first_step(ext, kind, devices, said):
    mu, y, config = PROBLEMS["net"]
    with pytest.raises(ValueError, match=re.escape(said)):
        aeot.solve(KEY, mu, y, config=replace(config, parallel=kind, devices=devices))
    with pytest.raises(ValueError, match=re.escape(said)):
        aeot.certify(KEY, mu, y, jnp.zeros(60), parallel=kind, devices=devices)
    # What has no streams is shared by as many devices as the largest number of them would be.
    said = said.replace("the 8 logical", "the 256 logical").replace("8 devices", "8, 16, 32")
    with pytest.raises(ValueError, match=re.escape(said)):
        aeot.generate(KEY, ext, 100, parallel=kind, devices=devices)


def test_all_devices_that_do_not_divide_the_streams_are_named(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: DEVICES[:7])
    with pytest.raises(ValueError, match="`devices` holds 7 devices, all that are present"):
        placement.placement("pmap")


def test_every_process_must_take_part(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"holds \[2, 0\] devices of the 2 processes"):
        placement.placement("shard_map", tuple(DEVICES[:2]))
    with pytest.raises(ValueError, match="`parallel` is 'pmap', which serves one process, but"):
        placement.placement("pmap")


def test_what_is_no_choice_of_devices_is_named():
    with pytest.raises(ValueError, match="`devices` is empty; pass a tuple of devices"):
        aeot.SolverConfig(devices=())


def test_an_axis_that_nothing_maps_is_named():
    mu, y, config = PROBLEMS["net"]
    state = aeot.init(KEY, mu, y, None, config)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    inside = jax.shard_map(
        lambda state: aeot.step(state, mu, y, None, config, axis_name="samples"),
        mesh=mesh,
        in_specs=P(),
        out_specs=P(),
    )
    for call in (jax.jit(inside), lambda s: aeot.step(s, mu, y, None, config, axis_name="samples")):
        with pytest.raises(ValueError, match="`axis_name` is 'samples', but no"):
            call(state)
    with pytest.raises(ValueError, match="`axis_name` is 'samples', but no"):
        aeot.energy(jnp.zeros(60), y, y, axis_name="samples")
    with pytest.raises(ValueError, match="`axis_name` is 'samples', but no"):
        aeot.solve_jit(KEY, mu, y, None, config, num_steps=2, axis_name="samples")


def test_a_users_axis_that_does_not_divide_the_streams_is_named():
    mu, y, config = PROBLEMS["net"]
    state = aeot.init(KEY, mu, y, None, config)
    mapped = jax.pmap(
        lambda _: aeot.step(state, mu, y, None, config, axis_name="i").h,
        axis_name="i",
        devices=DEVICES[:3],
    )
    with pytest.raises(ValueError, match="`axis_name` 'i' has size 3, which does not divide the 8"):
        mapped(jnp.arange(3))


@pytest.mark.parametrize(
    ("over", "name", "changes"),
    [
        ("pmap", "plain", {"method": "adam"}),  # the shortest program; Newton steps are below
        *(pytest.param(over, "orbits", {}, marks=LONG) for over in ("pmap", "shard_map", "vmap")),
    ],
)
def test_solve_jit_inside_a_users_map_gives_the_same_heights(over, name, changes):
    mu, y, config = PROBLEMS[name]
    config = replace(config, start="zero", **changes)

    # The targets are arguments: on constants the compiler computes, and rounds, in its own way.
    def body(y, axis_name):
        return aeot.solve_jit(KEY, mu, y, None, config, num_steps=12, axis_name=axis_name).h

    def inside(y):
        return body(y, "i")

    alone = body(y, None)
    if over == "pmap":
        maps = jax.pmap(lambda _, y: inside(y), axis_name="i", in_axes=(0, None))(jnp.arange(8), y)
    elif over == "vmap":
        mapped = jax.vmap(lambda _, y: inside(y), axis_name="i", in_axes=(0, None))
        maps = jax.jit(mapped)(jnp.arange(4), y)
    else:
        mesh = jax.make_mesh((8,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
        mapped = jax.shard_map(inside, mesh=mesh, in_specs=P(), out_specs=P())
        maps = jax.jit(mapped)(y)[None]
    for h in maps:
        np.testing.assert_array_equal(h, alone)

"""A sharded batch stays where it is made."""

import pickle
import re
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.ot.couplings import numbers, placing

D, B = 2, 64
MU = aeot.Gaussian(D)
Y = np.random.default_rng(0).normal(size=(40, D)) + 1.0
Y[7] = Y[3]
H = -(Y**2).sum(1) / 4
MESHES = {
    kind.name: jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    for kind in (AxisType.Auto, AxisType.Explicit)
}
SPECS = (P("data"), P(("data", "model"), None), P())
MOVES = r"all-gather|all-reduce|all-to-all|collective|reduce-scatter|\bsend\b|\brecv\b|partition-id"


def sharded(spec: PartitionSpec, kind: str = "Auto", **options) -> aeot.Coupling:
    return aeot.coupling(MU, Y, H, sharding=NamedSharding(MESHES[kind], spec), **options)


@pytest.mark.optimised
def test_the_layout_changes_no_bit():
    alone = aeot.coupling(MU, Y, H, batch_size=B)
    assert_equal(sharded(SPECS[1], batch_size=B)[2**45], alone[2**45])


@pytest.mark.long
def test_the_layout_changes_no_dependent_draw():
    """With 12 rows a device, orbits lie on two."""
    options = {"batch_size": 48, "antithetic": True}
    assert_equal(sharded(SPECS[0], **options)[3], aeot.coupling(MU, Y, H, **options)[3])


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_batch_lies_as_asked_and_so_does_its_index():
    assert all(part.is_fully_replicated for part in sharded(SPECS[2], batch_size=B)[3])
    for spec, kind in zip(SPECS[:2], MESHES, strict=True):
        c = sharded(spec, kind, batch_size=B)
        rows = B // placing.number_of(NamedSharding(MESHES[kind], spec))
        for part in c[3]:
            want = NamedSharding(MESHES[kind], P(spec[0]))
            assert part.sharding.is_equivalent_to(want, part.ndim)
            assert {shard.data.shape[0] for shard in part.addressable_shards} == {rows}


def test_nothing_moves_between_devices():
    """No collective is in the compiled program; ``partition-id`` says that there are partitions."""
    c = sharded(SPECS[1], batch_size=B)
    assert isinstance(c.sharding, NamedSharding)
    program = placing.program(c.sharding, B, np.dtype(np.float32), False)
    text = program.lower(c._parts, numbers.words(0)).compile().as_text()
    assert set(re.findall(MOVES, text)) == {"partition-id"}


def test_the_search_for_moves_finds_some():
    mesh = MESHES["Auto"]
    x = jax.device_put(np.zeros((8, 4), np.float32), NamedSharding(mesh, P("data")))
    gathered = jax.jit(lambda x: x + 1, out_shardings=NamedSharding(mesh, P()))
    assert re.findall(MOVES, str(gathered.lower(x).compile().as_text()))


def test_one_device_is_a_place_as_well():
    device = jax.devices()[5]
    c = aeot.coupling(MU, Y, H, batch_size=B, sharding=SingleDeviceSharding(device))
    assert {d for part in c[2] for d in part.devices()} == {device}
    np.testing.assert_array_equal(c[2].x, aeot.coupling(MU, Y, H, batch_size=B)[2].x)


@pytest.mark.parametrize("kind", [pytest.param("Auto", marks=pytest.mark.long), "Explicit"])
def test_noise_and_states_do_not_depend_on_the_layout(kind):
    alone, c = aeot.coupling(MU, Y, H, batch_size=B), sharded(SPECS[0], kind, batch_size=B)
    for j in (77, np.arange(3)):
        np.testing.assert_array_equal(c.noise(j), alone.noise(j))
    np.testing.assert_array_equal(c.inverse(2, 3), alone.inverse(2, 3))
    np.testing.assert_array_equal(c.table(100)[:], alone.table(100)[:])
    assert c.state(5) == alone.state(5)
    again = aeot.coupling_from_state(alone.state(5), MU, Y, H, sharding=c.sharding)
    np.testing.assert_array_equal(next(iter(again)).x, alone[5].x)


def test_what_cannot_be_sharded_is_one_sentence():
    with pytest.raises(ValueError, match=r"^`batch_size` is 30, which the 8 shards .* multiple of"):
        sharded(SPECS[1], batch_size=30)
    for spec in (P("data", "model"), P(P.UNCONSTRAINED)):
        with pytest.raises(ValueError, match=r"^`sharding` has spec .* rows and nothing else; p"):
            sharded(spec)
    name: Any = "data"
    where = NamedSharding(MESHES["Auto"], P("data"), memory_kind="pinned_host")
    alone = SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host")
    for other in (where, alone):
        said = r"^`sharding` has memory kind 'pinned_host', .* made in 'device'; pass it without"
        with pytest.raises(ValueError, match=said):
            aeot.coupling(MU, Y, H, batch_size=B, sharding=other)
    named = NamedSharding(MESHES["Auto"], P("data"), memory_kind="device")
    assert aeot.coupling(MU, Y, H, batch_size=B, sharding=named).sharding == named
    with pytest.raises(ValueError, match=r"^`sharding` is 'data'; pass a `NamedSharding`"):
        aeot.coupling(MU, Y, H, sharding=name)
    with pytest.raises(TypeError, match=r"^`sharding` names devices .* cannot be pickled; pickle"):
        pickle.dumps(sharded(SPECS[0]))

"""More logical streams, for more devices: the answer depends on the streams, not the devices."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.counts import sharded
from aeot_jax.ot.devices import placement
from aeot_jax.ot.solver import planning

KEY = jax.random.key(0)
DEVICES = tuple(jax.devices())
LONG = pytest.mark.long
CONFIG = aeot.SolverConfig(tolerance=None, max_steps=10, start="voronoi", streams=16)


def targets(m, d):
    return (np.random.default_rng(m).normal(size=(m, d)) * np.linspace(0.3, 2, d)).astype("f4")


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("m", "d", "layout"),
    [
        pytest.param(300, 3, {"devices": DEVICES, "method": "adam"}, id="adam", marks=LONG),
        pytest.param(300, 3, {"devices": DEVICES}, id="net", marks=LONG),
        pytest.param(300, 3, {"devices": DEVICES[:2], "parallel": "pmap"}, id="pmap", marks=LONG),
        pytest.param(300, 16, {"devices": DEVICES[:4]}, id="independent", marks=LONG),
        pytest.param(4100, 16, {"devices": DEVICES}, id="shared", marks=LONG),
        pytest.param(1500, 33, {"devices": DEVICES}, id="orbits", marks=LONG),
        pytest.param(300, 16, {"target_shards": 4}, id="shards", marks=LONG),
    ],
)
def test_sixteen_streams_give_the_same_bits_on_any_devices(m, d, layout):
    mu, y = aeot.Gaussian(d), targets(m, d)
    alone = replace(CONFIG, parallel="none", method=layout.get("method", "auto"))
    alone = aeot.solve(KEY, mu, y, config=alone)
    spread = replace(CONFIG, **{"parallel": "shard_map", **layout})
    assert_same(aeot.solve(KEY, mu, y, config=spread), alone)


def test_a_net_spans_all_streams():
    """One of them has the points that the net of all has in its place."""
    mu = aeot.UniformCube(2)
    plan = planning.plan(300, mu, replace(CONFIG, sampling="sobol"))
    way, each = plan.batch.way, plan.batch.samples_per_stream
    assert plan.batch.size == 16 * each
    points = [way.drawn(KEY, mu, jnp.int32(stream), each) for stream in range(16)]
    cells = np.floor((np.concatenate(points) + 0.5) * plan.batch.size**0.5).astype(int)
    sides = int(plan.batch.size**0.5)
    if sides**2 == plan.batch.size:  # a (0, m, 2)-net: a point in every square
        assert len({tuple(cell) for cell in cells}) == plan.batch.size
    together = [way.spanning(1).drawn(KEY, mu, jnp.int32(0), plan.batch.size)]
    np.testing.assert_array_equal(np.concatenate(points), together[0])


def test_samples_of_a_step_are_about_as_many():
    """Each stream has whole blocks of the kernel, so that many streams take more of orbits."""
    for d, most in ((3, 256), (16, 256), (64, 16)):
        for number in placement.STREAMS:
            config = replace(CONFIG, streams=number)
            size = planning.plan(10_000, aeot.Gaussian(d), config).batch.size
            assert size % number == 0
            assert number > most or 2048 <= size <= 4096


@pytest.mark.parametrize("own", [1, 3, 16])
def test_streams_of_an_axis(own):
    def ids(axis):
        return jax.vmap(lambda _: sharded.own_streams(axis, 16), axis_name="i")(jnp.arange(own))

    if own == 3:
        with pytest.raises(ValueError, match="the 16 logical streams; map over 1, 2, 4, 8 or 16"):
            ids("i")
    else:
        np.testing.assert_array_equal(ids("i").ravel(), np.arange(16))


def test_devices_beyond_the_streams_are_refused_with_the_way_out():
    placement.check_shares([16], streams=16)
    placement.check_shares([64], target_shards=4, streams=16)
    said = (
        r"holds 16 devices, .* the 8 logical .* pass a tuple of 1, 2, 4, 8 devices, or solve with"
    )
    with pytest.raises(ValueError, match=said):
        placement.check_shares([16])
    with pytest.raises(ValueError, match=r"the 256 logical streams cannot be .* 256 devices\.$"):
        placement.check_shares([300], streams=256)


@pytest.mark.parametrize("number", [0, 4, 12, 512, 8.5, "8"])
def test_other_numbers_of_streams_are_refused(number):
    with pytest.raises((ValueError, TypeError), match="`streams`"):
        aeot.SolverConfig(streams=number)


BEYOND = """
import json, sys
import jax, numpy as np
import aeot_jax as aeot
y = np.load(sys.argv[1])
config = aeot.SolverConfig(tolerance=None, max_steps=10, start="voronoi", streams=32)
mu, key = aeot.Gaussian(y.shape[1]), jax.random.key(0)
alone = aeot.solve(key, mu, y, config=config)
found = {}
for layout in ({}, {"devices": jax.devices()[:16]}, {"target_shards": 2}):
    spread = aeot.SolverConfig(
        tolerance=None, max_steps=10, start="voronoi", streams=32, parallel="shard_map", **layout
    )
    h = aeot.solve(key, mu, y, config=spread).h
    found[str(sorted(layout))] = bool((np.asarray(h) == np.asarray(alone.h)).all())
ext = aeot.extension(key, mu, y, alone.h, parallel="shard_map", num_samples=2048)
one = aeot.extension(key, mu, y, alone.h, parallel="none", num_samples=2048)
found["extension"] = all(map(np.array_equal, jax.tree.leaves(ext), jax.tree.leaves(one)))
print(json.dumps([jax.device_count(), found]))
"""


@pytest.mark.long
def test_thirty_two_devices_give_the_bits_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "32")
    np.save(tmp_path / "y.npy", targets(120, 5))
    done = subprocess.run(
        [sys.executable, "-c", BEYOND, str(tmp_path / "y.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, same = json.loads(done.stdout)
    assert number == 32
    assert all(same.values()), same

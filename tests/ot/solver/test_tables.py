"""What each way of moving heights and of sampling owes: a name, convergence, the same bits."""

from dataclasses import replace
from typing import get_args

import jax
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.counts.ways.table import WAYS, Sampling
from aeot_jax.ot.solver.moves.table import MOVES, Method, MethodName

KEY = jax.random.key(0)
Y = jax.random.normal(jax.random.key(1), (60, 8))
METHODS = [name for name in get_args(MethodName) if name not in ("auto", "exact")]
SOURCES = aeot.Gaussian(8), aeot.UniformCube(8), aeot.UniformBall(8)
CONFIG = aeot.SolverConfig(
    tolerance=0.2, batch_size=512, sampling="independent", method="newton", parallel="none"
)


def test_the_tables_agree_with_the_names_that_users_pass():
    assert set(METHODS) == {"adam", *MOVES}
    assert {method.name.lower() for method in Method} == {"exact", *METHODS}
    assert set(WAYS) == set(get_args(Sampling))


def certified(mu, config):
    """Heights on one device, which those on two target shards equal to the bit."""
    alone = aeot.solve(KEY, mu, Y, config=config)
    assert alone.converged
    found = aeot.solve(KEY, mu, Y, config=replace(config, parallel="shard_map", target_shards=2))
    np.testing.assert_array_equal(found.h, alone.h)
    return alone


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_certified_and_devices_change_no_bit_of_it(method):
    found = certified(aeot.Gaussian(8), replace(CONFIG, method=method))
    assert Method(int(found.method)).name.lower() == method


@pytest.mark.parametrize("way", [name for name in WAYS if name != "independent"])
def test_a_way_of_sampling_is_certified_and_devices_change_no_bit_of_it(way):
    mu = next(mu for mu in SOURCES if WAYS[way].lack(mu, 512) is None)
    certified(mu, replace(CONFIG, sampling=way))

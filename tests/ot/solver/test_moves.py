"""What every way of moving heights owes: a name, convergence, the same bits on all devices."""

from dataclasses import replace
from typing import get_args

import jax
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.counts.ways.table import WAYS, Sampling
from aeot_jax.ot.solver.moves.table import MOVES, Method, MethodName

pytestmark = pytest.mark.optimised

KEY = jax.random.key(0)
Y = jax.random.normal(jax.random.key(1), (60, 3))
SAMPLING = [name for name in get_args(MethodName) if name not in ("auto", "exact")]


def test_the_tables_agree_with_the_names_that_users_pass():
    assert set(SAMPLING) == {"adam", *MOVES}
    assert {method.name.lower() for method in Method} == {"exact", *SAMPLING}
    assert set(WAYS) == set(get_args(Sampling))


@pytest.mark.parametrize("method", SAMPLING)
def test_a_method_is_certified_and_devices_change_no_bit_of_it(method):
    config = aeot.SolverConfig(
        tolerance=0.2, batch_size=512, sampling="independent", method=method, parallel="none"
    )
    alone = aeot.solve(KEY, aeot.Gaussian(3), Y, config=config)
    assert alone.converged
    assert Method(int(alone.method)).name.lower() == method
    sharded = replace(config, parallel="shard_map", target_shards=2)
    found = aeot.solve(KEY, aeot.Gaussian(3), Y, config=sharded)
    np.testing.assert_array_equal(found.h, alone.h)

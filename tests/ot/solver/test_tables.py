"""What each way of moving heights and of sampling owes: a name, convergence, the same bits."""

import functools
from dataclasses import replace
from typing import Any, get_args

import jax
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.counts.ways.table import WAYS, Sampling
from aeot_jax.ot.solver.moves.table import MOVES, UNASKED, Method, MethodName

KEY = jax.random.key(0)
Y = jax.random.normal(jax.random.key(1), (60, 8))
METHODS = [name for name in get_args(MethodName) if name not in ("auto", "exact")]
SOURCES = aeot.Gaussian(8), aeot.UniformCube(8), aeot.UniformBall(8)
CONFIG = aeot.SolverConfig(
    tolerance=0.2,
    batch_size=512,
    sampling="independent",
    method="newton",
    parallel="none",
    start="gaussian",
)


def test_the_tables_agree_with_the_names_that_users_pass():
    assert set(METHODS) == {"adam", *MOVES} - set(UNASKED)
    assert {method.name.lower() for method in Method} == {"exact", *METHODS}
    assert set(WAYS) == set(get_args(Sampling))


SETTINGS = [
    *({"method": method} for method in METHODS),
    *({"sampling": way} for way in WAYS if way != "independent"),
]


@functools.cache
def solved(setting: tuple[tuple[str, Any], ...]):
    settings = dict(setting)
    way = WAYS[settings.get("sampling", "independent")]
    mu = next(mu for mu in SOURCES if way.lack(mu, 512) is None)
    return aeot.solve(KEY, mu, Y, config=replace(CONFIG, **settings))


OTHERS = {"method": "adam"}, {"method": "newton"}, {"sampling": "sobol"}, {"sampling": "orbits"}
"""Those that have tests of their own, too."""


@pytest.mark.parametrize(
    "setting",
    [pytest.param(one, marks=[pytest.mark.long] * (one in OTHERS)) for one in SETTINGS],
    ids=str,
)
def test_each_is_certified(setting):
    found = solved(tuple(setting.items()))
    assert found.converged
    if "method" in setting:
        assert Method(int(found.method)).name.lower() == setting["method"]


@pytest.mark.long
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_two_target_shards_change_no_bit(setting):
    sharded = {**setting, "parallel": "shard_map", "target_shards": 2}
    found, alone = (solved(tuple(settings.items())) for settings in (sharded, setting))
    np.testing.assert_array_equal(found.h, alone.h)

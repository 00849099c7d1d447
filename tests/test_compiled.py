"""How often things compile: a step chunk once, whatever the steps, checks and doublings."""

from typing import Any

import jax
import numpy as np
import pytest

import aeot_jax as aeot

KEY, OTHER_KEY = jax.random.key(0), jax.random.key(1)
MU = aeot.Gaussian(3)
Y = jax.random.normal(jax.random.key(1), (50, 3))

_compiled: list[str] = []


def _on_event(event: str, duration_secs: float, **kwargs: Any) -> None:
    del duration_secs, kwargs
    if "backend_compile" in event:
        _compiled.append(event)


@pytest.fixture(scope="module", autouse=True)
def listener():
    jax.monitoring.register_event_duration_secs_listener(_on_event)


def compilations(config, targets=Y):
    """Compilations of one solve in a process that has compiled nothing, and of a second one."""
    jax.clear_caches()
    _compiled.clear()
    solution = aeot.solve(KEY, MU, targets, config=config)
    first = len(_compiled)
    aeot.solve(OTHER_KEY, MU, targets, config=config)
    return solution, first, len(_compiled) - first


@pytest.mark.long
def test_the_number_of_steps_and_checks_compiles_nothing_more():
    short, few, again = compilations(aeot.SolverConfig(tolerance=0.3))
    long, many, again_long = compilations(aeot.SolverConfig(tolerance=0.02))
    assert long.num_steps > short.num_steps
    assert few == many > 0
    assert again == again_long == 0


@pytest.mark.long
def test_doubling_the_samples_compiles_nothing_more():
    settings = {"method": "adam", "tolerance": None, "max_steps": 40}
    patient, few, _ = compilations(aeot.SolverConfig(plateau_steps=1000, **settings))
    eager, many, again = compilations(aeot.SolverConfig(plateau_steps=2, **settings))
    assert eager.num_samples > 2 * patient.num_samples
    assert few == many
    assert again == 0


@pytest.mark.long
def test_a_chunk_over_devices_compiles_once():
    settings = {"tolerance": None, "parallel": "shard_map", "sampling": "independent"}
    _, few, again = compilations(aeot.SolverConfig(max_steps=40, **settings))
    _, many, again_long = compilations(aeot.SolverConfig(max_steps=200, **settings))
    assert few == many > 0
    assert again == again_long == 0


LONG_OPTIMISED = [pytest.mark.long, pytest.mark.optimised]
"""That what fills a problem up is scored by no kernel, tests/ot/cells has of such code, too."""


def every_function(m: int, seed: int, config: aeot.SolverConfig) -> list[Any]:
    """What each function answers for a problem of m targets."""
    y = np.random.default_rng(seed).standard_normal((m, 8)).astype(np.float32)
    mu, x = aeot.Gaussian(8), np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    h = aeot.solve(KEY, mu, y, config=config).h
    return [
        h,
        aeot.certify(OTHER_KEY, mu, y, h, num_samples=4096),
        aeot.extension(OTHER_KEY, mu, y, h),
        aeot.assign(x, y, h),
        aeot.top_k(x, y, h, 3),
        aeot.transport(x, y, h),
        aeot.mass_centres(OTHER_KEY, mu, y, h, num_samples=4096),
    ]


@pytest.mark.parametrize(
    "start",
    [
        "gaussian",
        *(
            pytest.param(start, id=f"{start}, optimised", marks=LONG_OPTIMISED)
            for start in ("gaussian", "auto")
        ),
    ],
)
def test_the_second_size_of_a_bucket_compiles_nothing_and_changes_no_bit(start):
    """Whatever was solved before: a problem is filled up to a size that it shares with others."""
    config = aeot.SolverConfig(max_steps=20, start=start)
    first = [np.array(leaf) for leaf in jax.tree.leaves(every_function(300, 1, config))]
    _compiled.clear()
    every_function(317, 2, config)
    every_function(258, 3, config)
    again = every_function(300, 1, config)
    assert not _compiled
    for one, other in zip(jax.tree.leaves(again), first, strict=True):
        np.testing.assert_array_equal(one, other)

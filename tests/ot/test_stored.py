"""Targets in one or two bytes a number: the answers of float32, and no float32 copy of them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax import arguments
from aeot_jax.ot import frames, merging
from aeot_jax.ot.devices.placement import Placement
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.starts import start

KEY = jax.random.key(0)
MU = aeot.Gaussian(8)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 8)).astype(np.float32)
H = (3 * RNG.standard_normal(300)).astype(np.float32)
CONFIG = aeot.SolverConfig(tolerance=None, max_samples=4096, batch_size=512, start="gaussian")

STORED = [np.uint8, np.int16, np.float16, jnp.bfloat16]


def targets(dtype):
    """Targets that the dtype holds, two of them equal."""
    y = RNG.standard_normal((300, 8)) * 40 + 128
    y[7] = y[3]
    return np.clip(y, 0, 255).astype(dtype)


@pytest.mark.parametrize(
    "dtype",
    [STORED[0], *(pytest.param(dtype, marks=pytest.mark.long) for dtype in STORED[1:])],
)
@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
def test_stored_targets_give_the_answers_of_float32(dtype, place):
    y = targets(dtype)
    wide = y.astype(np.float32)
    for own, other in zip(
        jax.tree.leaves((aeot.assign(X, place(y), H), aeot.top_k(X, place(y), H, 3))),
        jax.tree.leaves((aeot.assign(X, wide, H), aeot.top_k(X, wide, H, 3))),
        strict=True,
    ):
        np.testing.assert_array_equal(own, other)
    own = aeot.certify(KEY, MU, place(y), H, num_samples=2048)
    other = aeot.certify(KEY, MU, wide, H, num_samples=2048)
    np.testing.assert_array_equal(own.mass_error, other.mass_error)


@pytest.mark.long
def test_a_solve_of_stored_targets_is_that_of_float32(monkeypatch):
    y = targets(np.uint8)
    y[7] += 1  # no copies, of which a warning would tell
    wide = aeot.solve(KEY, MU, y.astype(np.float32), config=CONFIG)
    own = aeot.solve(KEY, MU, y, config=CONFIG)
    np.testing.assert_array_equal(own.h, wide.h)
    np.testing.assert_array_equal(own.mass_error, wide.mass_error)
    monkeypatch.setattr(frames, "_MOST_COPIED", 0)  # as for many more targets
    jax.clear_caches()
    by_blocks = aeot.solve(KEY, MU, y, config=CONFIG)
    jax.clear_caches()
    assert own.problem is not None
    assert own.problem.y.dtype == np.uint8
    known = np.isfinite(np.asarray(wide.h))
    spread = float(np.std(np.asarray(wide.h)[known]))
    # Targets that are centred elsewhere in the program may be rounded otherwise.
    np.testing.assert_allclose(
        np.asarray(by_blocks.h)[known], np.asarray(wide.h)[known], atol=1e-3 * spread
    )


def inner(jaxpr):
    """All equations of a program, those of its loops and branches included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, list | tuple) else [value]:
                held = getattr(part, "jaxpr", part)
                if hasattr(held, "eqns"):
                    yield from inner(held)


def test_no_program_of_a_solve_widens_all_targets():
    m, d = 2**25, 16  # so many that a block of an accelerator is a small part of them
    mu = aeot.Gaussian(d)
    config = aeot.SolverConfig(tolerance=None, max_steps=4, sampling="independent")
    plan, budget = planning.plan(m, mu, config), planning.budget(m, mu, config)

    def run(key, y, nu):
        marginals = Marginals(mu, y, nu)
        state = start.begin(key, marginals, plan, budget)
        return stepping.run_steps(state, marginals, plan, Placement("none"), 2)[0].h

    y, nu = jax.ShapeDtypeStruct((m, d), jnp.uint8), jax.ShapeDtypeStruct((m,), jnp.float32)
    program = jax.make_jaxpr(run)(jax.eval_shape(lambda: KEY), y, nu)
    wide = [
        (equation.primitive.name, variable.aval)
        for equation in inner(program.jaxpr)
        for variable in equation.outvars
        if getattr(variable.aval, "dtype", None) == jnp.float32
        and d in variable.aval.shape  # not scores
        and variable.aval.size > m * d / 16
    ]
    assert not wide


@pytest.mark.long
def test_the_memory_of_a_call_is_little_more_than_that_of_its_targets(tmp_path):
    """In a process of its own; a copy in float32 alone would take four times the targets."""
    script = tmp_path / "peak.py"
    script.write_text(PEAK)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "y.bin"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    size, *peaks = map(int, done.stdout.split())
    assert len(peaks) == 4
    assert max(peaks) < 1.2 * size + 256 * 2**20, peaks


PEAK = """
import re, sys, threading, time
import numpy as np, jax
import aeot_jax as aeot
from aeot_jax.ot.solver.starts import growing

growing._MOST_ROWS, growing._MOST_CENTRES = 512, 64  # what is learned takes as much whatever m is

def held():
    found = re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())
    return 1024 * int(found[1])

m, d = 250_000, 256
y = np.memmap(sys.argv[1], np.uint8, "w+", shape=(m, d))
for i in range(0, m, 10_000):
    y[i : i + 10_000] = np.random.default_rng(i).integers(0, 255, (10_000, d), np.uint8)
h, x = np.zeros(m, np.float32), np.ones((8, d), np.float32)
calls = [
    lambda: aeot.assign(x, y, h),
    lambda: aeot.top_k(x, y, h, 2),
    lambda: aeot.certify(jax.random.key(0), aeot.Gaussian(d), y, h, num_samples=8),
    lambda: aeot.extend_heights(y[10_000:], h[10_000:], y),
]
print(y.nbytes)
for call in calls:
    before, most, running = held(), 0, True
    def watch():
        global most
        while running:
            most = max(most, held())
            time.sleep(0.01)
    watcher = threading.Thread(target=watch)
    watcher.start()
    jax.block_until_ready(call())
    running = False
    watcher.join()
    print(most - before)
"""


@pytest.mark.parametrize("dtype", [np.float32, *STORED])
def test_copies_are_found_as_by_sorting(dtype):
    for m, values in ((1, 3), (400, 4), (400, 120)):
        y = RNG.integers(0, values, (m, 3)).astype(dtype)
        y[0] = 0
        if np.issubdtype(dtype, np.floating):
            y[0] = -0.0
        _, first, inverse = np.unique(
            y.astype(np.float64) + 0.0, axis=0, return_index=True, return_inverse=True
        )
        same = merging.representatives(y)
        if first.size == m:
            assert same is None
        else:
            np.testing.assert_array_equal(same, first[inverse.ravel()])


def test_the_first_bad_number_of_many_is_named():
    y = np.zeros((600, 20_000), np.float16)  # more than is looked at together
    y[590, 7] = np.nan
    for check in (arguments.check_real, arguments.real):
        with pytest.raises(ValueError, match=r"`y` is nan at 590, 7; pass finite numbers"):
            check("y", y)
    with pytest.raises(ValueError, match=r"`y` is nan at 590, 7"):
        arguments.check_real("y", jnp.asarray(y))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_file_that_has_shrunk_under_its_map_is_named(dtype, tmp_path):
    file = tmp_path / "y.bin"
    np.zeros((3000, 8), dtype).tofile(file)
    y = np.memmap(file, dtype, "r", shape=(2900, 8), offset=640)
    h = np.zeros(2900, np.float32)
    aeot.assign(X, y, h)
    os.truncate(file, 10_000)
    calls = [
        lambda: aeot.assign(X, y, h),
        lambda: aeot.certify(KEY, MU, y, h, num_samples=64),
        lambda: aeot.solve(KEY, MU, y, config=CONFIG),
        lambda: aeot.assign(X, y[10:], h[10:]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"`y` is a memory map of a file that has shrunk from"):
            call()

"""JAX as others set it: whatever its settings, the whole way runs and gives the float32 answer."""

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import aeot_jax as aeot

WHOLE_WAY = Path(__file__).with_name("whole_way.py")
FILES = sorted(Path(aeot.__file__).parent.rglob("*.py"))

CHECKS = {
    "JAX_DEBUG_INFS": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_KEY_REUSE": "1",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
}
"""Settings that look for mistakes; they must find none, alone or together."""

DTYPES = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
"""Settings of types; with both of them least is let pass."""

OTHER_NUMBERS = {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
"""Settings under which other numbers are drawn or rounded."""

UNREAD = "ignore:Error reading persistent compilation cache entry"
"""A program that another process was about to write is compiled instead."""

ALONE = pytest.mark.parametrize(
    "settings",
    [{name: value} for name, value in {**CHECKS, **DTYPES}.items()],
    ids=lambda settings: next(iter(settings)),
)


@functools.cache
def went(parts: str, *words: str, **settings: str) -> dict[str, Any]:
    """What the stages of the whole way say in a process with these settings; all must run."""
    environment = {
        # Little is computed and much compiled: so compile quickly, everywhere alike.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),  # pyright: ignore
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUM_CPU_DEVICES": "1",
        "PYTHONPATH": os.pathsep.join([str(WHOLE_WAY.parent.parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", UNREAD, str(WHOLE_WAY), parts, *words],
        env={**os.environ, **environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    failed = {name: stage["error"] for name, stage in found.items() if "error" in stage}
    assert not failed, (failed, done.stderr[-5000:])
    return found


def differing(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (expected[name], stage) for name, stage in found.items() if stage != expected[name]
    }


@pytest.mark.long
def test_settings_that_look_for_mistakes_find_none():
    assert not differing(went("main", **CHECKS), went("main"))


@pytest.mark.long
@pytest.mark.parametrize("parts", ["solve", "short"])
def test_the_strictest_settings_together_change_no_bit_of_the_transport(parts):
    assert not differing(went(parts, **CHECKS, **DTYPES), went(parts))


@pytest.mark.long
def test_legacy_keys_give_the_bits_of_typed_ones():
    assert not differing(went("main", "legacy"), went("main"))


@pytest.mark.long
def test_dtypes_are_those_of_float32():
    assert not differing(went("main", **DTYPES), went("main"))


@pytest.mark.slow
@ALONE
def test_each_setting_alone_changes_no_bit_anywhere(settings):
    parts = "all" if settings.keys() <= DTYPES.keys() else "main"
    assert not differing(went(parts, **settings), went(parts))


def converge(found: dict[str, Any]) -> None:
    for name in ("solve", "solve exactly", "solve_classes", "fit"):
        assert np.all(np.equal(found[name]["status"], aeot.Status.CONVERGED)), name


@pytest.mark.long
def test_other_numbers_converge_as_well():
    converge(went("main", **OTHER_NUMBERS))


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_NUMBERS)
def test_each_kind_of_other_numbers_converges(name):
    converge(went("main", **{name: OTHER_NUMBERS[name]}))


@pytest.mark.long
def test_without_jit_the_answer_is_nearly_the_same():
    found, expected = went("tiny", JAX_DISABLE_JIT="1"), went("tiny")
    for name, stage in found.items():
        means = expected[name]["means"]
        np.testing.assert_allclose(stage["means"], means, rtol=1e-3, atol=1e-3, err_msg=name)


DTYPE_AT = {
    **dict.fromkeys(("zeros", "ones", "empty", "array"), 1),
    **dict.fromkeys(("normal", "uniform", "bits", "rademacher", "exponential", "full"), 2),
    "randint": 4,
    "ball": 4,
    "eye": 3,
    "arange": 3,
    "linspace": 5,
    "identity": 1,
}
"""Functions whose dtype follows JAX's settings unless it is given, and its place."""


def test_every_new_array_names_its_dtype():
    left_open = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, name = ast.unparse(node.func.value), node.func.attr
            given = len(node.args) > DTYPE_AT.get(name, 0) or "dtype" in {
                keyword.arg for keyword in node.keywords
            }
            if owner in ("jnp", "jax.random") and name in DTYPE_AT and not given:
                left_open.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
            first = node.args[0] if node.args else None
            if name == "fori_loop" and isinstance(first, ast.Constant):
                left_open.append(f"{path.name}:{node.lineno} {name}: use `numerics.repeat`")
    assert not left_open

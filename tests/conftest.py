"""Strict surroundings for every test: eight CPU devices, no silent broadcasting.

What the tests cost is compilation, so most of them compile quickly, to code that is not optimised.
The rule: where a claim is about bits or rounding, the code that users run is run: in the folders of
`OPTIMISED`, and in what says so by ``pytestmark = pytest.mark.optimised``. All others look at
formulas with a tolerance, at why a solve ended, at files, words, pictures and pipelines.
"""

import os

# All are read when jax is first imported, so they come before it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import gc
import tempfile
from pathlib import Path

import jax
import pytest
from jax._src import compiler

# Many tests compile the same programs. Processes that share the work share what they compiled:
# the first makes the folder, and the others inherit its name.
if "AEOT_JAX_TEST_CACHE" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="aeot-jax-tests-")
    os.environ["AEOT_JAX_TEST_CACHE"] = _CACHE.name
CACHE = os.environ["AEOT_JAX_TEST_CACHE"]
os.environ["XDG_CACHE_HOME"] = CACHE  # of commands in processes of their own
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

jax.config.update("jax_numpy_rank_promotion", "raise")

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Options of the compiler that make it four times as quick, and what it makes slower."""

jax.devices()  # reads XLA_FLAGS, which from here on are those of processes that tests start
os.environ["XLA_FLAGS"] = " ".join(f"--{name}={value}".lower() for name, value in QUICK.items())


OPTIMISED = [Path(__file__).parent / "ot" / name for name in ("cells", "counts", "devices")]


class Compiler:
    """The compiler of this process, which is quick while `quick` is true."""

    quick = True
    original = staticmethod(compiler.get_compile_options)

    @classmethod
    def options(cls, *args, env_options_overrides=None, **kwargs):
        if cls.quick:
            env_options_overrides = {**QUICK, **(env_options_overrides or {})}
        return cls.original(*args, env_options_overrides=env_options_overrides, **kwargs)

    @classmethod
    def forget(cls):
        """Drop what was compiled; what is needed again comes from the cache on disk."""
        jax.clear_caches()
        gc.collect()


compiler.get_compile_options = Compiler.options


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``pytest -n auto``: more processes than these would compile the same programs twice."""
    return min(8, os.cpu_count() or 1)


def nearly_full() -> bool:
    """Has this process mapped half of the regions that it may? Every program takes a few."""
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        return Path("/proc/self/maps").read_bytes().count(b"\n") > limit / 2
    except OSError:
        return True  # of other systems nothing is known


def pytest_collection_finish() -> None:
    """Do not look again and again for garbage among what was imported; tracing makes much new."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def changes_constants(request: pytest.FixtureRequest) -> bool:
    """Does a test of this module change what it tests, for its own time?"""
    tests = (item for item in request.session.items if item.path == request.path)
    return any("monkeypatch" in getattr(test, "fixturenames", ()) for test in tests)


@pytest.fixture(scope="module", autouse=True)
def _compiler(request):
    """Quick or optimised, by the rule above, and with room for what a module compiles."""
    marked = request.node.get_closest_marker("optimised") is not None
    quick = not marked and request.path.parent not in OPTIMISED
    if quick != Compiler.quick or nearly_full():
        Compiler.forget()
    Compiler.quick = quick
    yield
    if {"ot", "metrics"} & set(request.path.parts) and changes_constants(request):
        Compiler.forget()  # what was traced with other constants must serve no other module

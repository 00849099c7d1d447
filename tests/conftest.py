"""Strict surroundings for every test: eight CPU devices, no silent broadcasting.

What the tests cost is compilation, so most of them compile quickly, to code that is not optimised.
The rule: where a claim is about bits, rounding or a compiled program, it is the one that users run:
in the folders of `OPTIMISED`, and where a test says ``pytest.mark.optimised``. All others look at
formulas with a tolerance, at why a solve ended, at files, words, pictures and pipelines.
"""

import os

# All are read when jax is first imported, so they come before it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of libraries that come later, and processes

import functools
import gc
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import jax
import pytest
import threadpoolctl
from jax._src import compilation_cache, compiler
from jax._src.interpreters import mlir

# Where tests keep every core busy, threads of linear algebra wait for each other: the eigenvectors
# of 400 rows take many times as long. A plugin imports NumPy before it could read the variable.
threadpoolctl.threadpool_limits(1, user_api="blas")

# Many tests compile the same programs. Processes that share the work share what they compiled:
# the first makes the folder, and the others inherit its name.
if "AEOT_JAX_TEST_CACHE" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="aeot-jax-tests-")
    os.environ["AEOT_JAX_TEST_CACHE"] = _CACHE.name
CACHE = os.environ["AEOT_JAX_TEST_CACHE"]
os.environ["XDG_CACHE_HOME"] = CACHE  # of commands in processes of their own
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

if not any(getattr(compilation_cache, name, None) for name in ("zstd", "zstandard")):
    # What is kept for minutes need not be small.
    compilation_cache.compress_executable = functools.partial(zlib.compress, level=1)

jax.config.update("jax_numpy_rank_promotion", "raise")

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Options of the compiler that make it four times as quick, and what it makes slower."""


def _is_known(option: Any) -> bool:
    """Does this compiler have the option? Versions come and go with some."""
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options=option)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


jax.devices()  # reads XLA_FLAGS, which from here on are those of processes that tests start
QUICK = {name: value for name, value in QUICK.items() if _is_known({name: value})}
os.environ["XLA_FLAGS"] = " ".join(f"--{name}={value}".lower() for name, value in QUICK.items())


OPTIMISED = [Path(__file__).parent / "ot" / name for name in ("cells", "devices")]


class Compiler:
    """The compiler of this process, and what is known of the programs that it holds.

    Attributes:
      quick: whether it compiles quickly.
      module: of the tests that run now.
      stale: whether programs were traced while a test had changed what they are made of.
    """

    quick = True
    module: Path | None = None
    stale = False
    original = staticmethod(compiler.get_compile_options)

    @classmethod
    def options(cls, *args, env_options_overrides=None, **kwargs):
        if cls.quick:
            env_options_overrides = {**QUICK, **(env_options_overrides or {})}
        return cls.original(*args, env_options_overrides=env_options_overrides, **kwargs)


compiler.get_compile_options = Compiler.options


class Contexts:
    """Contexts of MLIR: to make one takes as long as to lower a small program, so many share one.

    It keeps every type and every place in the code that it has seen, hence not all do.
    """

    uses = 200
    shared = threading.local()
    original = staticmethod(mlir.make_ir_context)

    @classmethod
    def get(cls):
        left = getattr(cls.shared, "left", 0)
        if left == 0:
            cls.shared.context, left = cls.original(), cls.uses
        cls.shared.left = left - 1
        return cls.shared.context


mlir.make_ir_context = Contexts.get


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``pytest -n auto``: more processes than these would compile the same programs twice."""
    return min(8, os.cpu_count() or 1)


def nearly_full() -> bool:
    """Does this process hold much? Every program takes memory, and a few of the regions of it that
    a process may map.
    """
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        maps = Path("/proc/self/maps").read_bytes().count(b"\n")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return True  # of other systems nothing is known
    return maps > limit / 2 or pages * os.sysconf("SC_PAGE_SIZE") > 3 * 2**30


def pytest_collection_finish() -> None:
    """Do not look again and again for garbage among what was imported; tracing makes much new."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the compiler for a test, and drop programs that must not or cannot be kept.

    Those that are needed again come from the cache on disk.
    """
    optimised = item.get_closest_marker("optimised") is not None or item.path.parent in OPTIMISED
    drop = optimised == Compiler.quick
    if item.path != Compiler.module:
        drop |= Compiler.stale or nearly_full()
        Compiler.stale = False
    if drop:
        jax.clear_caches()
        gc.collect()
    Compiler.quick, Compiler.module = not optimised, item.path
    changed = "monkeypatch" in getattr(item, "fixturenames", ())
    Compiler.stale |= changed and bool({"ot", "metrics"} & set(item.path.parts))


@pytest.fixture
def accelerator(monkeypatch):
    """Programs are traced as for an accelerator; those traced before or after are not."""
    jax.clear_caches()
    # Whatever is no CPU is one kind. It is undone after all else that is set.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    jax.clear_caches()

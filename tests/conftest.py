"""Strict surroundings for every test: eight CPU devices, no silent broadcasting."""

import os

# Both are read when jax is first imported, so they come before it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import gc
import tempfile

import jax
import pytest

# Compilation is most of the time of these tests, and many compile the same programs.
_CACHE = tempfile.TemporaryDirectory(prefix="aeot-jax-tests-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
os.environ["XDG_CACHE_HOME"] = _CACHE.name  # of commands in processes of their own
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Drop what a module compiled: a process may map only so many regions of memory, and every
    compiled program takes a few. What is needed again comes from the cache on disk.
    """
    yield
    jax.clear_caches()
    gc.collect()

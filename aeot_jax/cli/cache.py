"""A cache of compiled programs in the user's cache folder, so that the next command starts faster.

Only commands use it; a program that imports the package decides for itself. JAX's own variables
take precedence: JAX_ENABLE_COMPILATION_CACHE=false turns the cache off, JAX_COMPILATION_CACHE_DIR
names another folder, and JAX_COMPILATION_CACHE_MAX_SIZE another size.
"""

import hashlib
import os
import platform
from pathlib import Path

import platformdirs
from rich.console import Console

from aeot_jax.cli.screen import notices
from aeot_jax.storage import files

_MAX_BYTES = 512 * 2**20
"""Largest size of the folder; the least recently used programs are removed first."""

_LEAST_SECONDS = 0.1
"""Programs that compile faster are not cached."""


def folder() -> Path:
    """The folder of the cache; each kind of processor has its own, as programs differ."""
    return (
        Path(platformdirs.user_cache_dir("aeot_jax", appauthor=False)) / "programs" / _processor()
    )


def enable(err: Console) -> None:
    """Turn on JAX's cache, unless the user has set it; to be called before anything compiles.

    Args:
      err: console for a warning if the folder cannot be written.
    """
    import jax

    known = jax.config.values
    if known["jax_compilation_cache_dir"] or not known["jax_enable_compilation_cache"]:
        return
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        files.check_writable(place / "program", "cache")
    except OSError as error:
        notices.warn(
            err,
            f"compiled programs cannot be kept in {str(place)!r} "
            f"({error.strerror or 'nothing can be written there'}), so every command compiles "
            "anew; JAX_COMPILATION_CACHE_DIR names another folder, "
            "JAX_ENABLE_COMPILATION_CACHE=false keeps none.",
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    for name, value in (
        ("jax_compilation_cache_max_size", _MAX_BYTES),
        ("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def _processor() -> str:
    known = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:  # not Linux
        known += platform.processor()
    return hashlib.sha256(known.encode()).hexdigest()[:12]

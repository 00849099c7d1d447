"""What a benchmark decides before its libraries are imported: one core and one thread, or a device.

Nothing here imports JAX or NumPy, which read all of it when they are first imported.
"""

import os
from importlib.util import find_spec

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def is_for_cpu() -> bool:
    """Whether JAX will compute on a CPU: it is told to, or knows of nothing else."""
    told = os.environ.get("JAX_PLATFORMS")
    if told:
        return told.split(",")[0] == "cpu"
    return find_spec("jax_plugins") is None and find_spec("libtpu") is None


def bind(core: int | None = None) -> int | None:
    """Bind this process to one core and one thread, if a CPU is measured; else let it be.

    On an accelerator the host only launches and compiles, and memory is taken as it is needed, so
    that several processes fit.

    Args:
      core: the core; None is the first allowed one.

    Returns:
      The core, if there is one.
    """
    if not is_for_cpu():
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        return None
    for name in _THREADS:
        os.environ[name] = "1"
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = min(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {core})
    return core


def release() -> None:
    """Let all threads of this process run on any core, when the libraries' pools stand (Linux).

    A pool that was made on one core keeps its one thread, so CPU-seconds stay those of one core's
    work, and a core that others use is no obstacle.
    """
    place = "/proc/self/task"
    if is_for_cpu() and os.path.isdir(place):
        for thread in os.listdir(place):
            os.sched_setaffinity(int(thread), range(os.cpu_count() or 1))

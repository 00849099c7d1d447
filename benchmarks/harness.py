"""What every benchmark shares: clocks, peak memory, and one JSON line for each result.

Contestants take turns (A, B, C, A, B, C, ...), because a machine that others use is never twice
the same: the ratios of one round compare, milliseconds of different runs do not. CPU-seconds stand
beside wall-clock seconds for the same reason.

On an accelerator seconds are those of the wall, memory is the device's own, and several calls are
queued in a round, as in a program, so that a short one is not measured with the host's way to it.
"""

import ctypes
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import binding
import jax

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("aeot-jax", "jax", "jaxlib", "numpy", "ott-jax", "pot", "faiss-cpu")
_ROUND_SECONDS = 5e-3
"""What the calls of a round take together on an accelerator, at least."""
_MOST_QUEUED = 50


def on_cpu() -> bool:
    """Whether JAX computes on a CPU.

    Raises:
      SystemExit: if this process has not been bound to a core because an accelerator was expected.
    """
    if jax.default_backend() != "cpu":
        return False
    if not binding.is_for_cpu():
        sys.exit("JAX finds no accelerator; set JAX_PLATFORMS=cpu to measure the CPU.")
    return True


def seconds() -> float:
    """The clock of what is compared: CPU-seconds of this process, or of the wall elsewhere."""
    return time.process_time() if on_cpu() else time.perf_counter()


def unit() -> str:
    """Of ``seconds``, for names in the records."""
    return "cpu_seconds" if on_cpu() else "wall_seconds"


def device_peak() -> float | None:
    """GiB that JAX has held on the accelerator at most so far, the compiler's trials included."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / 2**30 if stats else None


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant over the rounds.

    Attributes:
      wall: wall-clock seconds of each round.
      cpu: CPU-seconds of this process, all threads together, of each round.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def work(self) -> tuple[float, ...]:
        """Seconds of the device's own work: CPU-seconds on a CPU, wall-clock elsewhere."""
        return self.cpu if on_cpu() else self.wall

    def ratio(self, other: "Timing") -> float:
        """Median over rounds of this contestant's seconds over the other's."""
        return statistics.median(a / b for a, b in zip(self.work, other.work, strict=True))

    def summary(self) -> dict[str, float]:
        """Medians and spreads (half the distance between the quartiles), for the record."""
        return {
            "wall_s": statistics.median(self.wall),
            "wall_spread_s": spread(self.wall),
            "cpu_s": statistics.median(self.cpu),
            "cpu_spread_s": spread(self.cpu),
        }


def spread(values: tuple[float, ...]) -> float:
    """Half the distance between the quartiles; 0 for one value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def interleave(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time contestants in turns, after one call each that is not counted.

    Args:
      contestants: functions without arguments; whatever arrays they return are waited for.
      rounds: counted calls of each.

    Returns:
      The timing of each contestant, by name.
    """
    queued = {name: _queued(run) for name, run in contestants.items()}
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            for _ in range(queued[name]):
                found = run()
            jax.block_until_ready(found)
            wall[name].append((time.perf_counter() - wall_start) / queued[name])
            cpu[name].append((time.process_time() - cpu_start) / queued[name])
            del found
    return {name: Timing(tuple(wall[name]), tuple(cpu[name])) for name in contestants}


def _queued(run: Callable[[], object]) -> int:
    """Warm a contestant up, and say how many of its calls make a round."""
    jax.block_until_ready(run())
    if on_cpu():
        return 1
    began = time.perf_counter()
    jax.block_until_ready(run())
    once = time.perf_counter() - began
    return max(1, min(_MOST_QUEUED, int(_ROUND_SECONDS / once)))


def compiled(function: Callable[..., object], *arguments: object) -> tuple[Callable, float]:
    """Compile a function for its arguments; also say how many seconds that took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def extra_memory(run: Callable[[], object]) -> float:
    """MiB by which resident memory peaks during one call, results included (Linux).

    Call it once, in a process of its own, after the inputs exist and the program is compiled: what
    an allocator keeps from an earlier call would hide what this one needs.
    """
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # hand back what compilation has freed
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    result = jax.block_until_ready(run())
    peak = _status("VmHWM")
    del result
    return (peak - before) / 1024


def host_peak() -> float:
    """GiB of resident memory that this process has held at most so far (Linux)."""
    return _status("VmHWM") / 2**20


def _status(field: str) -> int:
    """A line of this process's status, in KiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no line {field}; measure memory on Linux.")
    return int(found[1])


def in_fresh_process(script: str, *arguments: object) -> dict[str, float]:
    """Run a script of this folder in a new process and read the JSON object of its last line."""
    command = [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} {arguments} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def records(folder: str = "") -> Path:
    """The file of this device, of all results or of those that have a folder of their own."""
    return RESULTS / folder / f"{device()}.jsonl"


def record(name: str, row: Mapping[str, object], folder: str = "") -> None:
    """Append one result to the file of this device: what ran, on what, how fast, how good."""
    line = {"name": name, **row, "device": device(), "versions": _versions(), **_revision()}
    place = records(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        file.write(json.dumps(line) + "\n")


def device() -> str:
    """Name of the device that JAX computes on, as a file name: never the machine's own name."""
    kind = jax.devices()[0].device_kind
    if kind == "cpu":
        kind = f"cpu {_processor()}"
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")


def _processor() -> str:
    """The processor's name, family and model, or at least its architecture.

    Clouds give several generations one name, and one is twice as fast as another.
    """
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    lines = [
        re.search(rf"^{field}\s*:\s*(.+)$", text, re.M)
        for field in ("model name", "cpu family", "model")
    ]
    return " ".join(line[1] for line in lines if line) or platform.machine()


def _versions() -> dict[str, str]:
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    versions = {name: installed[name] for name in _PACKAGES if name in installed}
    return {"python": platform.python_version(), **versions}


def _revision() -> dict[str, object]:
    """Commit, and whether the working tree differs from it; results themselves do not count."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    changes = git("status", "--porcelain", "--", "..", ":(exclude)results")
    return {"commit": git("rev-parse", "--short", "HEAD") or None, "dirty": bool(changes)}

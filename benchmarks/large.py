"""A few steps of a solve whose targets, of one byte a number, lie in a large file.

    python benchmarks/large.py              # 2.5M targets, d = 3,072: 7.7 GB; an hour of a core
    python benchmarks/large.py --dim 768    # a quarter of the bytes and of the work
    python benchmarks/large.py --quick      # a smoke test, nothing recorded

The file is a NumPy memory map, made of cheap numbers where none is there, and then removed at the
end. Each line says what was held at most so far: what the process itself takes (anonymous memory;
pages of the file come and go as the system likes), also over the size of the targets. Samples are
independent, because orbits keep a float32 copy that is turned, the start is that of heights 0, and
Adam alone moves them: the steps are the same passes over the targets as any others.
"""

import argparse

import binding

_PARSER = argparse.ArgumentParser(description="A few steps with targets that stay bytes.")
_PARSER.add_argument("--quick", action="store_true", help="small, nothing recorded")
_PARSER.add_argument("--targets", type=int, default=2_500_000)
_PARSER.add_argument("--dim", type=int, default=3072)
_PARSER.add_argument("--steps", type=int, default=3)
_PARSER.add_argument("--batch", type=int, default=512, help="samples of a step")
_PARSER.add_argument("--file", default="large.npy", help="where the targets lie, or shall lie")

if __name__ == "__main__":
    ARGUMENTS = _PARSER.parse_args()
    binding.bind()

import re  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import harness  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

import aeot_jax as aeot  # noqa: E402

_QUICK = 20_000, 64
"""Targets and dimensions of a smoke test."""

_POOL = 1 << 26
"""Random bytes of which all targets are made, each part shifted by bytes of its own."""

_PART = 20_000
"""Targets that are written together."""


class Peak:
    """The most anonymous memory that this process holds, seen a hundred times a second."""

    def __init__(self) -> None:
        self.bytes = self.first = self._held()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.bytes = max(self.bytes, self._held())

    @staticmethod
    def _held() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found is None:
            raise RuntimeError("/proc/self/status has no line RssAnon; measure memory on Linux.")
        return 1024 * int(found[1])


def write(path: Path, m: int, d: int) -> None:
    """A file of m targets with d bytes each."""
    rng = np.random.default_rng(0)
    y = np.lib.format.open_memmap(path, "w+", np.uint8, (m, d))
    pool = rng.integers(0, 256, max(_POOL, _PART * d), np.uint8)
    for start in range(0, m, _PART):
        number = min(_PART, m - start)
        first = int(rng.integers(0, pool.size - number * d + 1))
        part = pool[first : first + number * d].reshape(number, d)
        y[start : start + number] = part ^ rng.integers(0, 256, (1, d), np.uint8)
    y.flush()


@contextmanager
def targets(path: Path, m: int, d: int) -> Iterator[np.ndarray]:
    """The targets as a memory map; a file that is made here is removed."""
    made = not path.exists()
    if made:
        write(path, m, d)
    try:
        y = np.load(path, mmap_mode="r")
        if y.shape != (m, d) or y.dtype != np.uint8:
            raise SystemExit(f"{path} holds {y.dtype} of shape {y.shape}; name another --file.")
        yield y
    finally:
        if made:
            path.unlink()


def run(m: int, d: int, steps: int, batch: int, path: Path, keep: bool) -> None:
    """Solve for some steps, and say at each what it took."""
    with targets(path, m, d) as y, Peak() as peak:
        size, begun, cpu = y.nbytes, time.perf_counter(), time.process_time()
        turns: list[tuple[int, float, float]] = []

        def told() -> str:
            wall, spent = time.perf_counter() - begun, time.process_time() - cpu
            held = peak.bytes - peak.first
            return (
                f"{wall:8.1f} s, {spent:8.1f} CPU-s, at most {held / 2**30:6.2f} GiB, "
                f"{held / size:5.2f} times the targets"
            )

        def progress(seen: aeot.SolveProgress) -> None:
            turns.append((seen.num_samples // batch, time.perf_counter(), time.process_time()))
            print(f"  {seen.num_samples:8,} samples {told()}; {seen}", flush=True)

        print(f"m={m} d={d} uint8, {size / 2**30:.2f} GiB, batch {batch}", flush=True)
        config = aeot.SolverConfig(
            tolerance=None,
            max_steps=steps,
            batch_size=batch,
            sampling="independent",
            start="zero",
            method="adam",
        )
        key, mu = jax.random.key(0), aeot.Gaussian(d)
        solution = aeot.solve(key, mu, y, config=config, on_progress=progress)
        print(
            f"  certificate      {told()}; mass error at most {solution.certificate.upper:.3g}",
            flush=True,
        )
    number, wall, spent = np.subtract(turns[-1], turns[0])  # the first call compiles
    row = {
        "work": f"m={m} d={d} uint8 from a file",
        "gib_of_targets": size / 2**30,
        "samples_per_step": batch,
        "num_steps": int(solution.num_steps),
        "wall_seconds_per_step": float(wall / number) if number else None,
        "cpu_seconds_per_step": float(spent / number) if number else None,
        "num_check_samples": int(solution.num_check_samples),
        "anonymous_peak_gib": (peak.bytes - peak.first) / 2**30,
        "peak_over_targets": (peak.bytes - peak.first) / size,
        "mass_error": float(solution.mass_error),
        "mass_error_upper": float(solution.certificate.upper),
    }
    print(row)
    if keep:
        harness.record("large", row)


def main(arguments: argparse.Namespace) -> None:
    m, d = _QUICK if arguments.quick else (arguments.targets, arguments.dim)
    keep = not arguments.quick
    run(m, d, arguments.steps, arguments.batch, Path(arguments.file), keep)


if __name__ == "__main__":
    main(ARGUMENTS)

"""One command for a machine that is new: kernel, step, solve and devices, on whatever is present.

    python benchmarks/accelerator.py             # writes this device's results file; 10 minutes
    python benchmarks/accelerator.py --quick     # small works, nothing is recorded; a minute
    python benchmarks/accelerator.py --headline  # hours for 2.56M targets in d = 3,072: projected
    python benchmarks/accelerator.py --parts kernel step
    python benchmarks/accelerator.py --float32   # without candidates from a GPU's tensor cores

Ratios are to the device's own product of matrices, at full float32 precision and at the precision
that JAX takes by default (TF32 on a GPU, bfloat16 on a TPU, float32 on a CPU). Memory and the
quality reached stand beside every time. Sizes of blocks are tried and the quickest printed; all
else is measured with those that the package has. ``JAX_PLATFORMS=cpu`` measures the CPU, one core.
"""

import argparse
import sys

import binding

PARTS = ("kernel", "blocks", "step", "solve", "devices")

_PARSER = argparse.ArgumentParser(description="Benchmark of a device: all parts in one command.")
_PARSER.add_argument("--quick", action="store_true", help="small works, nothing recorded")
_PARSER.add_argument("--headline", action="store_true", help="project the largest work, no more")
_PARSER.add_argument("--float32", action="store_true", help="every score in float32")
_PARSER.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="by default all")
_PARSER.add_argument("--rounds", type=int, default=7, help="turns of each contestant")

ARGUMENTS = _PARSER.parse_args(None if __name__ == "__main__" else [])
if __name__ == "__main__":
    binding.bind()

import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import replace  # noqa: E402
from functools import partial  # noqa: E402
from types import ModuleType  # noqa: E402

import devices  # noqa: E402
import harness  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import kernel  # noqa: E402
import numpy as np  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.ot.cells import accelerator, power  # noqa: E402
from aeot_jax.ot.cells.tensorcores import candidates as tensorcores  # noqa: E402
from aeot_jax.ot.counts.law import samples_to_reach  # noqa: E402
from aeot_jax.ot.solver import planning  # noqa: E402

STEP = {"quick": (2_000, 64, 512), "cpu": (10_000, 64, 4096), "accelerator": (100_000, 512, 4096)}
"""Targets, dimensions and samples of a step, by how much is asked of which device."""

SOLVE = {"quick": (500, 16, 0.3), "cpu": (10_000, 64, 0.1), "accelerator": (100_000, 64, 0.1)}
"""Targets, dimensions and tolerance of a solve."""

CLASS = (1_300, 4_096, 0.22)
"""Targets, dimensions and tolerance of one class of ImageNet's latents."""

HEADLINE = (2_560_000, 3_072, 0.22)
"""Targets, dimensions and mass error of the largest published work."""

QUICK_DIM = 64
"""Dimensions of ``--headline --quick``, which only shows that the command works."""

PUBLISHED_HOURS = 96.0
"""GPU-hours that were published for it, on H100s (arXiv 2509.25519)."""

HEADLINE_SIZES = {"quick": (1_000, 2_000), "cpu": (2_000, 8_000), "accelerator": (50_000, 200_000)}
"""Numbers of targets at which steps are measured, to be extended to those of the headline."""

HEADLINE_STEPS = 2
"""Steps of a call there: one takes up to a second."""

HEADLINE_BATCHES = {"quick": (512,), "cpu": (4096,), "accelerator": (16_384, 65_536)}
"""Samples of a step among which the one with most samples a second is taken."""


def kind(quick: bool) -> str:
    """Which sizes fit."""
    return "quick" if quick else "cpu" if harness.on_cpu() else "accelerator"


def say_and_keep(name: str, row: dict[str, object], keep: bool) -> None:
    """Print a result, and append it to the file of this device."""
    print(name)
    for key, value in row.items():
        print(f"  {key:32} {f'{value:.4g}' if isinstance(value, float) else value}", flush=True)
    if keep:
        harness.record(name, {**row, "kernel": "float32" if ARGUMENTS.float32 else "package"})


def measure_kernel(rounds: int, quick: bool) -> None:
    """The kernel, the older ones and the products, on every work."""
    large = () if harness.on_cpu() else kernel.LARGE
    for work in kernel.QUICK if quick else (*kernel.TIMES, *large):
        kernel.time_work(*work, rounds=rounds, keep=not quick)


@contextmanager
def changed(module: ModuleType, **values: int) -> Iterator[None]:
    """A module with other constants for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def candidates() -> dict[str, tuple[ModuleType, dict[str, int], int]]:
    """Sizes of blocks to try: by name the module, its constants, and targets scored together."""
    if harness.on_cpu():
        return {
            f"{chunk} samples x {block} targets": (power, {"_CHUNK": chunk}, block)
            for chunk in (1024, 4096)
            for block in (64, 128, 512)
        }
    return {
        f"{chunk} samples, 2^{bits} scores": (
            accelerator,
            {"_CHUNK": chunk, "_SCORES": 1 << bits},
            128,
        )
        for chunk in (4096, 16_384, 65_536)
        for bits in (22, 24, 26, 28)
    }


def measure_blocks(rounds: int, quick: bool) -> None:
    """Which sizes of blocks are quickest here, and what those of the package cost beside them."""
    n, m, d = (
        (512, 2_000, 64)
        if quick
        else (4096, 60_000, 64)
        if harness.on_cpu()
        else (
            65_536,
            100_000,
            512,
        )
    )
    arrays = tuple(map(jnp.asarray, kernel.problem(n, m, d)))
    runs: dict[str, Callable[[], object]] = {}
    answers: dict[str, np.ndarray] = {}
    for name, (module, constants, block) in candidates().items():
        with changed(module, **constants):
            # A function of its own for each: programs are remembered by theirs.
            program, _ = harness.compiled(lambda x, y, h, b=block: power.best(x, y, h, b), *arrays)
        runs[name] = partial(program, *arrays)
        answers[name] = np.asarray(program(*arrays)[1])
    usual, _ = harness.compiled(lambda x, y, h: power.best(x, y, h), *arrays)
    runs["as in the package"] = partial(usual, *arrays)
    indices = np.asarray(usual(*arrays)[1])
    timings = harness.interleave(runs, rounds)
    package = timings["as in the package"]
    for name, timing in timings.items():
        print(
            f"  {name:32} {1e3 * float(np.median(timing.work)):9.3f} ms"
            f"  over the package's {timing.ratio(package):5.2f}",
            flush=True,
        )
    best = min(answers, key=lambda name: timings[name].ratio(package))
    row = {
        "work": f"{n} x {m} x {d}",
        "quickest": best,
        "over_package": timings[best].ratio(package),
        "same_indices": float(np.mean(answers[best] == indices)),
        **timings[best].summary(),
    }
    say_and_keep("blocks", row, not quick)


def measure_step(rounds: int, quick: bool) -> None:
    """Steps of a solve, beside the product of their samples with their targets."""
    m, d, batch = STEP[kind(quick)]
    run = devices.chunk(_config(batch), m, d)
    x = jax.random.normal(jax.random.key(2), (batch, d))
    _, y, h = devices.problem(m, d)
    contestants: dict[str, Callable[[], object]] = {"steps": run}
    for name in ("product", "default_product"):
        program, _ = harness.compiled(getattr(kernel, name), x, y, h)
        contestants[name] = partial(program, x, y, h)
    timings = harness.interleave(contestants, rounds)
    seconds = float(np.median(timings["steps"].work)) / devices.STEPS
    _, chi2, chi2_se = run()
    row = {
        "work": f"m={m} d={d}",
        "samples_per_step": batch,
        f"{harness.unit()}_per_step": seconds,
        "over_product": timings["steps"].ratio(timings["product"]) / devices.STEPS,
        "over_default_product": timings["steps"].ratio(timings["default_product"]) / devices.STEPS,
        "samples_per_s": batch / seconds,
        "teraflops": 2e-12 * batch * m * d / seconds,
        "chi2_of_these_steps": float(chi2),
        "chi2_se": float(chi2_se),
        **_memory(),
    }
    say_and_keep("step", row, not quick)


def measure_solve(quick: bool) -> None:
    """Solves to their tolerance with the defaults, once compiled."""
    solve_work(*SOLVE[kind(quick)], quick)
    if not quick:
        solve_work(*CLASS, quick)


def solve_work(m: int, d: int, tolerance: float, quick: bool) -> None:
    """One problem, solved twice: the first time compiles."""
    y = np.random.default_rng(0).standard_normal((m, d)).astype(np.float32)
    config = aeot.SolverConfig(tolerance=tolerance)
    for key in (jax.random.key(0), jax.random.key(1)):  # the first one compiles
        began, wall = harness.seconds(), time.perf_counter()
        solution = jax.block_until_ready(aeot.solve(key, aeot.Gaussian(d), y, config=config))
        spent, wall = harness.seconds() - began, time.perf_counter() - wall
    row = {
        "work": f"m={m} d={d}",
        "tolerance": tolerance,
        harness.unit(): spent,
        "wall_seconds": wall,
        "solves_a_minute": 60 / wall,
        "num_steps": int(solution.num_steps),
        "num_samples": int(solution.num_samples),
        "num_check_samples": int(solution.num_check_samples),
        "mass_error": float(solution.mass_error),
        "mass_error_se": float(solution.mass_error_se),
        "converged": bool(solution.converged),
        **_memory(),
    }
    say_and_keep("accelerator solve", row, not quick)


def measure_devices(rounds: int, quick: bool) -> None:
    """Scaling over the devices present, and what the parallel path costs on one of them."""
    m, d, batch = STEP[kind(quick)]
    if jax.device_count() > 1:
        devices.scaling(m, d, batch, rounds, keep=not quick)
    devices.one_device(m, d, batch, rounds, keep=not quick)


def headline(rounds: int, quick: bool) -> None:
    """Hours of the largest work on one device of this kind, from steps that are measured here.

    Seconds of a step are a line in the number of targets; the samples follow the solver's own law,
    ``mass_error^2 * num_samples / m = cost``. Certificate and start are counted by their samples.
    """
    m, d, tolerance = HEADLINE
    d = QUICK_DIM if quick else d
    sizes, rates = HEADLINE_SIZES[kind(quick)], {}
    for batch in HEADLINE_BATCHES[kind(quick)]:
        config, steps = _config(batch), HEADLINE_STEPS
        runs = {str(size): devices.chunk(config, size, d, steps) for size in sizes}
        timings = harness.interleave(runs, rounds)
        seconds = [float(np.median(timings[str(size)].work)) / steps for size in sizes]
        slope, fixed = np.polyfit(sizes, seconds, 1)
        rates[batch] = batch / (max(fixed, 0.0) + slope * m)
        del runs
    batch = max(rates, key=rates.__getitem__)
    mu, config = aeot.Gaussian(d), aeot.SolverConfig(tolerance=tolerance, batch_size=batch)
    budget = planning.budget(m, mu, config)
    samples = samples_to_reach(m, d, tolerance) + budget.begun
    # A certificate draws independent samples, of which a step's orbits are eight for one product.
    independent = _config(batch, sampling="independent")
    run = devices.chunk(independent, sizes[0], d, HEADLINE_STEPS)
    timing = harness.interleave({"": run}, rounds)[""]
    per_sample = float(np.median(timing.work)) / HEADLINE_STEPS / batch * m / sizes[0]
    row = {
        "work": f"m={m} d={d} to mass error {tolerance}",
        "measured_at": [f"m={size} d={d}" for size in sizes],
        "samples_per_step": batch,
        "samples_per_s_projected": rates[batch],
        "num_samples_by_law": samples,
        "num_check_samples": budget.check_samples,
        "hours_of_steps": samples / rates[batch] / 3600,
        "hours_of_certificate": budget.check_samples * per_sample / 3600,
        "hours": (samples / rates[batch] + budget.check_samples * per_sample) / 3600,
        "published_gpu_hours": PUBLISHED_HOURS,
        "gib_of_targets": 4 * m * d / 2**30,
        "gib_with_those_turned_for_orbits": 8 * m * d / 2**30,
    }
    say_and_keep("headline, a projection", row, not quick)
    print(
        f"A PROJECTION, not a run: about {row['hours']:.3g} hours of one {harness.device()} for "
        f"{row['work']}, if a step's time stays a line in m beyond {sizes[-1]:,} targets, the law "
        f"of the samples holds, and {row['gib_with_those_turned_for_orbits']:.0f} GiB fit. "
        f"Published at d = {HEADLINE[1]:,}: {PUBLISHED_HOURS:g} GPU-hours of H100s."
    )


def _config(batch: int, **decisions: str) -> aeot.SolverConfig:
    """Steps without end from a start that costs nothing."""
    base = aeot.SolverConfig(tolerance=None, max_steps=10_000, start="zero", parallel="none")
    return replace(base, batch_size=batch, **decisions)


def _memory() -> dict[str, float | None]:
    """The most that was held so far: of the device, and of this process."""
    peak = {"device_peak_gib": harness.device_peak()}
    if sys.platform == "linux":
        peak["host_peak_gib"] = harness.host_peak()
    return peak


def main(arguments: argparse.Namespace) -> None:
    quick, rounds = arguments.quick, 2 if arguments.quick else arguments.rounds
    if arguments.float32:
        tensorcores.pays = lambda *_: False
    print(f"{harness.device()}: {jax.device_count()} device(s), JAX {jax.__version__}", flush=True)
    if arguments.headline:
        headline(rounds, quick)
        return
    if "kernel" in arguments.parts:
        measure_kernel(rounds, quick)
    if "blocks" in arguments.parts:
        measure_blocks(rounds, quick)
    if "step" in arguments.parts:
        measure_step(rounds, quick)
    if "solve" in arguments.parts:
        measure_solve(quick)
    if "devices" in arguments.parts:
        measure_devices(rounds, quick)
    if not quick:
        print(f"Recorded in {harness.RESULTS.name}/{harness.device()}.jsonl")


if __name__ == "__main__":
    main(ARGUMENTS)

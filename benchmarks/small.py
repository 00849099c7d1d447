"""Small problems and many of them: samples a target, and seconds of classes, at mass error 0.22.

    python benchmarks/small.py                  # all but the thousand classes: five minutes
    python benchmarks/small.py --works classes-1000x1300-64     # minutes of two cores
    python benchmarks/small.py --quick          # a smoke test, nothing recorded

Samples are those that move the heights, and with those of checks and certificates, over the number
of targets: the limit of sampling is 1 / 0.22^2 = 21. Seconds are of a second call, which compiles
nothing: CPU-seconds, and those of the wall, of all cores that the process may use.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import harness
import jax
import numpy as np
from laws import anisotropic, normal

import aeot_jax as aeot

_Found = TypeVar("_Found")

CONFIG = aeot.SolverConfig(tolerance=0.22)

_JUDGES = 100_000
"""Samples that judge the heights, which nobody else has drawn."""

_TURNS = 5
"""Times that classes and separate solves take turns."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """Classes of some sizes, each with codes of its own."""

    sizes: tuple[int, ...]
    dim: int
    separately: bool = False
    """Whether separate calls of ``solve`` are timed beside."""


WORKS: dict[str, tuple[int, int] | Classes] = {
    "200-64": (200, 64),
    "1300-512": (1300, 512),
    "classes-200x200-64": Classes((200,) * 200, 64, separately=True),
    "classes-19x20-and-1000-64": Classes((20,) * 19 + (1000,), 64, separately=True),
    "classes-1000x1300-64": Classes((1300,) * 1000, 64),
}


def timed(call: Callable[[], _Found]) -> tuple[_Found, float, float]:
    """What a call gives, its CPU-seconds and its seconds of the wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = jax.block_until_ready(call())
    return found, time.process_time() - cpu, time.perf_counter() - wall


def report(row: dict[str, object], keep: bool) -> None:
    """Print a row, and keep it."""
    if keep:
        harness.record("small", row)
    shown = (f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())
    print(" ".join(shown), flush=True)


def one(name: str, m: int, d: int, keep: bool) -> None:
    """One problem of each kind of codes, three seeds: the mean."""
    for kind, draw in (("normal", normal), ("anisotropic", anisotropic)):
        y = draw(np.random.default_rng(m), m, d).astype(np.float32)
        mu = aeot.Gaussian(d)
        found = [aeot.solve(jax.random.key(seed), mu, y, config=CONFIG) for seed in range(3)]
        _, cpu, wall = timed(partial(aeot.solve, jax.random.key(0), mu, y, config=CONFIG))
        judged = [
            aeot.certify(jax.random.key(99), mu, y, each.h, num_samples=_JUDGES) for each in found
        ]
        moved = np.array([int(each.num_samples) for each in found]) / m
        checked = np.array([int(each.num_check_samples) for each in found]) / m
        row = {
            "work": name,
            "codes": kind,
            "converged": sum(bool(each.converged) for each in found),
            "samples_per_target": float(moved.mean()),
            "with_checks": float((moved + checked).mean()),
            "largest_error": max(float(each.mass_error) for each in judged),
            "cpu_s": cpu,
            "wall_s": wall,
        }
        report(row, keep)


def classes(name: str, work: Classes, keep: bool) -> None:
    """Many problems by one call, and perhaps one after the other by calls of their own."""
    rng, mu = np.random.default_rng(len(work.sizes)), aeot.Gaussian(work.dim)
    codes = [anisotropic(rng, size, work.dim).astype(np.float32) for size in work.sizes]
    labels = np.repeat(np.arange(len(codes)), work.sizes)
    together = np.concatenate(codes)
    # One class of each size compiles all.
    few = np.isin(labels, np.unique(work.sizes, return_index=True)[1])
    solve = partial(aeot.solve_classes, config=CONFIG, extension=False)
    solve(jax.random.key(1), mu, together[few], labels[few])
    key = jax.random.key(2)
    found, cpu, wall = timed(partial(solve, key, mu, together, labels))
    solution = found.solution
    row: dict[str, object] = {
        "work": name,
        "classes": len(codes),
        "converged": int((np.asarray(solution.status) == aeot.Status.CONVERGED).sum()),
        "samples_per_target": float(np.sum(solution.num_samples) / len(labels)),
        "with_checks": float(
            np.sum(np.asarray(solution.num_samples) + np.asarray(solution.num_check_samples))
            / len(labels)
        ),
        "largest_error": float(np.max(solution.certificate.mass_error)),
        "cpu_s": cpu,
        "wall_s": wall,
    }
    if work.separately:

        def solve_each() -> list[aeot.Solution]:
            keys = jax.random.split(jax.random.split(key)[0], len(codes))  # as the classes have
            return [
                aeot.solve(key, mu, y, config=CONFIG) for key, y in zip(keys, codes, strict=True)
            ]

        # The same samples, so that only what the call adds makes a difference; by turns.
        ratios = [cpu / timed(solve_each)[1]]
        for _ in range(_TURNS - 1):
            ratios.append(
                timed(partial(solve, key, mu, together, labels))[1] / timed(solve_each)[1]
            )
        row["over_separate_solves"] = float(np.median(ratios))
        row["ratios"] = [round(min(ratios), 3), round(max(ratios), 3)]
    report(row, keep)


def main() -> None:
    parser = argparse.ArgumentParser(description="Small problems, and many of them.")
    parser.add_argument("--quick", action="store_true", help="small works, nothing recorded")
    parser.add_argument("--works", nargs="*", choices=WORKS, help="all but the last")
    arguments = parser.parse_args()
    for name in arguments.works or list(WORKS)[:-1]:
        work = WORKS[name]
        if isinstance(work, Classes):
            if arguments.quick:
                work = dataclasses.replace(work, sizes=work.sizes[-3:])
            classes(name, work, not arguments.quick)
        else:
            one(name, *work, not arguments.quick)


if __name__ == "__main__":
    main()

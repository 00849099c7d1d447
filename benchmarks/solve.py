"""Solve the benchmark works with this library and its peers; one certificate judges all.

    python benchmarks/solve.py                              # every work; half an hour of one core
    python benchmarks/solve.py --quick                      # small copies of the works: minutes
    python benchmarks/solve.py --works normal-10k-64 --peers ott
    python benchmarks/solve.py --works million-32           # 1,000,000 targets: memory and seconds
    python benchmarks/solve.py --works student-3k-24 --search   # settings of the peers: ten minutes
    python benchmarks/solve.py --works compilations

Every process is bound to one core and reports CPU-seconds; on an accelerator seconds are those of
the wall, and peers get a twelfth of their budget. Compilation is left out for all (peers
are compiled ahead; our solve is warmed up by one of the same configuration, interrupted after its
first chunk), and so is the judge: ``certify`` with a key that nobody has used and enough samples
for a standard error of 0.005. Each work is

* solved by each peer, at its best settings (``peers.py``), for the work's budget of CPU-seconds;
* solved by ``aeot_jax.solve`` with the fewest samples that reach the best peer's mass error, every
  other field of the configuration at its default on every work;
* solved by ``aeot_jax.solve`` at the default configuration to the end, to read the cost
  ``mass_error^2 * num_samples / m``: 1 is the limit of sampling;
* in the plane, where that default answers exactly, solved once more by sampling.
"""

import argparse

import binding

_PARSER = argparse.ArgumentParser(description="Benchmark of the solver.")
_PARSER.add_argument("--quick", action="store_true", help="small works and budgets")
_PARSER.add_argument("--works", nargs="*", help="names from works.py, or 'compilations'")
_PARSER.add_argument("--peers", nargs="*", default=["ott", "pot"], choices=["ott", "pot"])
_PARSER.add_argument("--search", action="store_true", help="try settings of the peers")
_PARSER.add_argument("--core", type=int, help="the core to use; by default the first allowed one")
_PARSER.add_argument("--measure-million", action="store_true", help=argparse.SUPPRESS)
ARGUMENTS = _PARSER.parse_args()

# Before the first import that starts threads.
_CORE = binding.bind(ARGUMENTS.core)

import dataclasses  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import harness  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import peers  # noqa: E402
from numpy.typing import ArrayLike  # noqa: E402
from works import WORKS, Work  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.ot.counts.words import in_words  # noqa: E402

_JUDGE_KEY = 987_654_321
_JUDGE_ERROR = 0.005
_JUDGE_LEAST = 100_000
_JUDGE_MOST = 8_000_000
_TRIES = 6
_BEGIN = 0.1
"""Part of the limit of sampling at which the search for the fewest samples begins."""
_CLOSE = 1.05
"""Where too few and enough are as close as this, the search ends."""
_LEAST_PART = 0.25
"""Part of what was enough that is tried next, at least."""
_EXTRA = 1.03
"""Samples above the law of a first try, so that noise of the judge seldom asks for a second."""

_QUICKER = 12
"""Part of their budget that peers get on an accelerator."""

_MILLION_STEPS = 50
_MILLION_CHECK = 100_000


def judge(work: Work, h: ArrayLike) -> tuple[float, float]:
    """Mass error of heights and its standard error: at most 0.005, or what 8M samples give.

    A draw whose standard error is too large is thrown away for a larger one with a key of its own.
    """
    y, h = work.targets(), np.asarray(h, np.float32)
    num_samples = _JUDGE_LEAST
    while True:
        key = jax.random.fold_in(jax.random.key(_JUDGE_KEY), num_samples)
        found = aeot.certify(key, work.mu, y, h, num_samples=num_samples)
        error, error_se = float(found.mass_error), float(found.mass_error_se)
        if error_se <= _JUDGE_ERROR or num_samples >= _JUDGE_MOST:
            return error, error_se
        num_samples = min(4 * num_samples, _JUDGE_MOST)


@dataclasses.dataclass(frozen=True)
class Timed:
    """A solution of ours with what it took.

    Attributes:
      solution: the answer.
      seconds: of the call, by the harness's clock.
      certificate_seconds: those after the last step: of its own certificate.
    """

    solution: aeot.Solution
    seconds: float
    certificate_seconds: float


def solve(work: Work, config: aeot.SolverConfig, seed: int = 2) -> Timed:
    """Time ``aeot_jax.solve`` without compilation."""
    y = work.targets()

    def interrupt(_: aeot.SolveProgress) -> None:
        raise KeyboardInterrupt

    aeot.solve(jax.random.key(1), work.mu, y, config=config, on_progress=interrupt)
    began = harness.seconds()
    last_step = [began]  # an exact solve takes none

    def note(_: aeot.SolveProgress) -> None:
        last_step[0] = harness.seconds()

    solution = aeot.solve(jax.random.key(seed), work.mu, y, config=config, on_progress=note)
    jax.block_until_ready(solution)
    ended = harness.seconds()
    return Timed(solution, ended - began, ended - last_step[0])


def cost(error: float, num_samples: int, num_targets: int) -> float:
    """``mass_error^2 * samples / m``; 1 is the limit of sampling."""
    return error**2 * num_samples / num_targets


def full_solve(
    work: Work, solver: str, config: aeot.SolverConfig, error_wanted: float, peer_seconds: float
) -> None:
    """A configuration to its end; beside the better peer where it is no worse.

    A start may be nearer than any count of as many samples.
    """
    timed = solve(work, config)
    error, error_se = judge(work, timed.solution.h)
    num_samples = int(timed.solution.num_samples)
    report(
        work,
        solver,
        error,
        error_se,
        timed.seconds,
        num_samples,
        certificate_seconds=timed.certificate_seconds,
        num_check_samples=int(timed.solution.num_check_samples),
        status=aeot.Status(int(timed.solution.status)).name,
        certified=float(timed.solution.mass_error),
        method=aeot.Method(int(timed.solution.method)).name,
        **({"times_fewer": peer_seconds / timed.seconds} if error <= error_wanted else {}),
    )


def solve_to(work: Work, error_wanted: float, peer_seconds: float) -> None:
    """The fewest samples that were tried whose judged mass error is at most a peer's.

    The cost's law says what to try next, between what was too few and what was enough.
    """
    few, many = 0.0, math.inf  # samples: too few, enough
    tries: list[tuple[float, float, Timed]] = []
    wanted = _BEGIN * work.num_targets / error_wanted**2
    while len(tries) < _TRIES and few * _CLOSE < many:
        config = aeot.SolverConfig(tolerance=None, max_samples=max(2, round(_EXTRA * wanted)))
        timed = solve(work, config)
        error, error_se = judge(work, timed.solution.h)
        tries.append((error, error_se, timed))
        by_law = wanted * (error / error_wanted) ** 2
        if error <= error_wanted:
            if by_law * _CLOSE >= wanted:
                break  # the fewest, as far as the judge can tell
            many, by_law = wanted, max(by_law, wanted * _LEAST_PART)
        else:
            few = wanted
        wanted = by_law if few < by_law < many else math.sqrt(few * many)
    enough = [one for one in tries if one[0] <= error_wanted]
    # The last of those that were enough has the fewest samples, and of the others the most.
    error, error_se, timed = (enough or tries)[-1]
    report(
        work,
        "equal error",
        error,
        error_se,
        timed.seconds,
        int(timed.solution.num_samples),
        certificate_seconds=timed.certificate_seconds,
        error_wanted=error_wanted,
        reached=bool(enough),
        tries=len(tries),
        times_fewer=peer_seconds / timed.seconds,
    )


def run_peer(
    work: Work, name: str, settings: peers.Settings, seconds: float, record: str = "solve"
) -> tuple[float, float]:
    """One peer; its judged error and CPU-seconds."""
    run: Callable[..., peers.Run] = {"ott": peers.run_ott, "pot": peers.run_pot}[name]
    found = run(work, settings, seconds)
    error, error_se = judge(work, found.h)
    report(
        work,
        name,
        error,
        error_se,
        found.seconds,
        found.num_samples,
        record,
        settings=found.settings,
        version=found.version,
    )
    return error, found.seconds


def search(work: Work) -> None:
    """Every setting that is tried, a quarter of the budget each; the best is said at the end."""
    for name in ARGUMENTS.peers:
        found = [
            (run_peer(work, name, tried, work.peer_seconds / 4, "solve search")[0], tried)
            for tried in peers.tried(name)
        ]
        error, best = min(found, key=lambda one: one[0])
        print(f"{work.name}, {name}: {error:.3f} with {best}", flush=True)


def report(
    work: Work,
    solver: str,
    error: float,
    error_se: float,
    seconds: float,
    num_samples: int,
    record: str = "solve",
    /,
    **more: object,
) -> None:
    """Print a row of the table and append it to the results."""
    m = work.num_targets
    row = {
        "work": work.name,
        "num_targets": m,
        "dim": work.dim,
        "solver": solver,
        "mass_error": error,
        "mass_error_se": error_se,
        harness.unit(): seconds,
        "num_samples": num_samples,
        "samples_per_target": num_samples / m,
        "cost": cost(error, num_samples, m),
    }
    harness.record(record, row | more)
    extra = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in more.items()
    )
    print(
        f"{work.name:15} {solver:12} error {in_words(error, error_se):17}"
        f"  {seconds:7.2f} {harness.unit()}"
        f"  {num_samples / m:7.1f} a target  cost {row['cost']:.2f}  {extra}",
        flush=True,
    )


def compilations() -> None:
    """Count what one solve compiles: short, long, with many checks, with doublings."""
    events: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        del duration_secs, kwargs
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    work = dataclasses.replace(WORKS["uniform-1k-2"], num_targets=256)
    y, base = work.targets(), aeot.SolverConfig(tolerance=0.1, batch_size=256, method="newton")
    variants = {
        "30 steps": dataclasses.replace(base, max_steps=30),
        "3000 steps": dataclasses.replace(base, max_steps=3000, max_samples=2**30, tolerance=1e-2),
        "until certified": base,
        "Adam with doublings": dataclasses.replace(
            base, method="adam", plateau_steps=8, max_steps=400
        ),
    }
    for name, config in variants.items():
        jax.clear_caches()
        events.clear()
        solution = aeot.solve(jax.random.key(0), work.mu, y, config=config)
        first = len(events)
        aeot.solve(jax.random.key(1), work.mu, y, config=config)
        row = {
            "variant": name,
            "num_steps": int(solution.num_steps),
            "num_samples": int(solution.num_samples),
            "compilations": first,
            "compilations_of_a_second_solve": len(events) - first,
        }
        harness.record("compilations", row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)


def measure_million(work: Work) -> None:
    """Fifty steps and a certificate, in this process; one JSON object on stdout."""
    y = work.targets()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = aeot.SolverConfig(tolerance=None, max_steps=_MILLION_STEPS)
    began = harness.seconds()
    solution = jax.block_until_ready(aeot.solve(jax.random.key(2), work.mu, y, config=config))
    solved = harness.seconds()
    certificate = aeot.certify(
        jax.random.key(_JUDGE_KEY), work.mu, y, solution.h, num_samples=_MILLION_CHECK
    )
    jax.block_until_ready(certificate)
    ended = harness.seconds()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps = None
    if not harness.on_cpu():  # once more, without compilation
        again = harness.seconds()
        jax.block_until_ready(aeot.solve(jax.random.key(3), work.mu, y, config=config))
        steps = harness.seconds() - again
    row = {
        "num_steps": int(solution.num_steps),
        f"{harness.unit()}_with_compilation": solved - began,
        f"certify_{harness.unit()}": ended - solved,
        f"steps_{harness.unit()}": steps,
        "peak_gib": peak / 2**20,
        "device_peak_gib": harness.device_peak(),
        "gib_before_the_solve": resident / 2**20,
        "mass_error": float(certificate.mass_error),
        "mass_error_se": float(certificate.mass_error_se),
    }
    print(json.dumps(row))


def million(work: Work, quick: bool) -> None:
    """The largest work, in a process of its own so that its peak memory is its own."""
    command = [sys.executable, __file__, "--measure-million"]
    command += [] if _CORE is None else ["--core", str(_CORE)]
    output = subprocess.run(
        command + ["--quick"] * quick, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    row = {"work": work.name, "num_targets": work.num_targets, "dim": work.dim}
    row |= json.loads(output.splitlines()[-1])
    harness.record("million", row)
    print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)


def for_accelerator(work: Work) -> Work:
    """A copy whose peers get seconds of a quicker machine."""
    return dataclasses.replace(work, peer_seconds=work.peer_seconds / _QUICKER)


def shrunk(work: Work) -> Work:
    """A copy that takes seconds."""
    return dataclasses.replace(
        work, num_targets=max(200, work.num_targets // 20), peer_seconds=work.peer_seconds / 20
    )


def main() -> None:
    works = {n: shrunk(w) if ARGUMENTS.quick else w for n, w in WORKS.items()}
    if not harness.on_cpu():
        works = {n: for_accelerator(w) for n, w in works.items()}
    if ARGUMENTS.measure_million:
        measure_million(works["million-32"])
        return
    for name in ARGUMENTS.works or [*works, "compilations"]:
        if name == "compilations":
            compilations()
            continue
        work = works[name]
        if name == "million-32":
            million(work, ARGUMENTS.quick)
            continue
        if ARGUMENTS.search:
            search(work)
            continue
        of_peers = [
            run_peer(work, peer, peers.settings(peer, work.name), work.peer_seconds)
            for peer in (ARGUMENTS.peers if work.peer_seconds else ())
        ]
        error, seconds = min(of_peers, default=(float("nan"), float("nan")))
        if of_peers:
            solve_to(work, error, seconds)
        full_solve(work, "default", aeot.SolverConfig(), error, seconds)
        if work.dim == 2:
            sampling = aeot.SolverConfig(method="newton")
            full_solve(work, "by sampling", sampling, error, seconds)


if __name__ == "__main__":
    main()

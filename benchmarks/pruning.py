"""Fewer scores: may a sample skip most of the targets?

    python benchmarks/pruning.py mnist.npz fashion_mnist.npz    # half an hour of one core
    python benchmarks/pruning.py                                # normal targets alone
    python benchmarks/pruning.py --quick                        # a smoke test, nothing recorded

Targets are codes of all images, training and test: whitened principal components, and codes of an
autoencoder that has learned from some. Heights are those of a few steps of the solver. Five works:

* bounds: what exact pruning must score at least (``bounds.py``).
* lists: what inverted lists score, by the share of wrong cells (``inverted.py``); and the mass
  error that wrong cells make, which no number of samples removes.
* time: the kernel against inverted lists, with a bound on the share of wrong cells.
* heights: the same stochastic Newton steps with cells of either kind, and with a correction: a
  sixteenth of the samples is assigned both ways, and what that changes counts sixteen times, so
  that the counts have no bias. One certificate, with exact cells, judges all.
* solve: the package's solver with ``search="exact"`` and ``search="lists"``, as users call it, by
  as many samples, and what its certificate says. Only the seconds of the steps are compared too:
  starts and certificates are the same in both.
"""

import argparse

import binding

WORKS = ("time", "lists", "bounds", "heights", "solve")

_PARSER = argparse.ArgumentParser(description="Exact pruning and inverted lists.")
_PARSER.add_argument("data", nargs="*", help="files of images; without any, normal targets")
_PARSER.add_argument("--quick", action="store_true", help="small works, nothing recorded")
_PARSER.add_argument("--works", nargs="*", choices=WORKS, default=WORKS, help="by default all")
_PARSER.add_argument("--sets", nargs="*", help="names of sets of targets; by default all")
_PARSER.add_argument("--per-target", type=int, help="samples of the heights of whole sets alone")
_PARSER.add_argument("--run-dir", default="runs/pruning", help="where codes and heights are kept")
ARGUMENTS = _PARSER.parse_args()
binding.bind()

import time  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NamedTuple  # noqa: E402

import bounds  # noqa: E402
import harness  # noqa: E402
import inverted  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.data.images import load  # noqa: E402
from aeot_jax.nn.encode import encode_all  # noqa: E402
from aeot_jax.nn.train import fit  # noqa: E402
from aeot_jax.ot.lists.searching import wrong_at_most  # noqa: E402

QUICK = ARGUMENTS.quick
BATCH = 1_024 if QUICK else 16_384
"""Samples that are assigned together."""
SMALL, PER_TARGET = (500, 8) if QUICK else (20_000, 128)
"""A part of the targets that can be solved with many samples each."""
START = 5
"""Samples a target from which the solver makes heights."""
LISTS = (16, 32) if QUICK else (256, 1024)
LEVELS = (0.1, 0.01, 0.001)
"""Shares of wrong cells."""
SOLVED = 40 if QUICK else 20
"""Samples a target of a whole solve."""
CHECKED = 16
"""One sample in so many is assigned both ways."""


@dataclass(frozen=True, eq=False)
class Targets:
    """A set of targets (m, d) with heights, and what the solver said of these."""

    name: str
    y: np.ndarray
    h: np.ndarray
    mass_error: float

    @property
    def work(self) -> str:
        """Its name in the records."""
        return f"{self.name} m={self.y.shape[0]} d={self.y.shape[1]}"


def codes() -> dict[str, np.ndarray]:
    """Targets by name, at unit variance a coordinate."""
    rng = np.random.default_rng(0)
    found = {"normal 16": rng.normal(size=(2_000 if QUICK else 100_000, 16))}
    if not ARGUMENTS.data:
        return found
    images = np.concatenate(
        [load(place, split=split).images for place in ARGUMENTS.data for split in ("train", "test")]
    )
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    flat -= flat.mean(0)
    axes = np.linalg.eigh(flat.T @ flat)[1][:, ::-1]
    found |= {f"principal {d}": flat @ axes[:, :d] for d in (8, 16, 32)}
    del flat
    own = aeot.AutoencoderConfig(latent_dim=16)
    some = images[rng.permutation(len(images))[:20_000]]
    training = aeot.TrainConfig(epochs=1 if QUICK else 20, refine_epochs=0)
    state, _ = fit(jax.random.key(0), some, own, training)
    auto = np.array(encode_all(state.params, images, own))
    found = {name: (y - y.mean(0)) / y.std(0) for name, y in found.items()}
    auto -= auto.mean(0)
    return found | {"autoencoder 16": auto / np.sqrt(np.square(auto).mean())}


def targets() -> list[Targets]:
    """All sets with their heights, from the folder of the run where they are there."""
    folder = Path(ARGUMENTS.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / ("quick.npz" if QUICK else "codes.npz")
    if QUICK or not kept.exists():
        np.savez(kept, **codes())  # pyright: ignore[reportArgumentType]
    with np.load(kept) as file:
        names = [name for name in file if not ARGUMENTS.sets or name in ARGUMENTS.sets]
        return [solved(name, np.asarray(file[name], np.float32), folder) for name in names]


def solved(name: str, y: np.ndarray, folder: Path) -> Targets:
    """Heights of a few steps."""
    kept = folder / f"heights {name} {len(y)}.npz"
    if QUICK or not kept.exists():
        config = aeot.SolverConfig(tolerance=None, max_samples=START * len(y))
        solution = aeot.solve(jax.random.key(0), aeot.Gaussian(y.shape[1]), y, config=config)
        np.savez(kept, h=np.asarray(solution.h), mass_error=float(solution.mass_error))
    with np.load(kept) as file:
        return Targets(name, y, file["h"], float(file["mass_error"]))


def samples(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def keep(work: str, row: Mapping[str, object]) -> None:
    if not QUICK:
        harness.record(f"pruning, {work}", row)
    print(work, row, flush=True)


def measure_bounds(given: Targets) -> None:
    y, h = given.y, given.h
    x = samples(1, 256 if QUICK else 2_048, y.shape[1])
    best, winner = map(np.array, inverted.exact(x, y, h))
    order = bounds.side_by_side(y[winner])
    for size in (16, 64, 256):
        own = inverted.kmeans(np.random.default_rng(0), y, len(y) // size)
        stays = bounds.exclusions(x[order], best[order], y, h, own)
        shares = {name: [shares[g] for g in bounds.GROUPS] for name, shares in stays.items()}
        row = {"work": given.work, "block": size, "samples_together": bounds.GROUPS}
        keep("bounds", row | {"mass_error": given.mass_error, "stays": shares})


class Trial(NamedTuple):
    """Lists of some targets, with learned planes."""

    own: np.ndarray
    sizes: np.ndarray
    slopes: np.ndarray
    total: np.ndarray
    weight: np.ndarray
    planes: np.ndarray


def trial(y: np.ndarray, h: np.ndarray, number: int) -> Trial:
    own = inverted.kmeans(np.random.default_rng(0), y, number)
    slopes = inverted.means(y, own, number)
    total, weight = inverted.learned(y, h, own, number, samples(2, 4 * BATCH, y.shape[1]))
    mean = inverted.offsets(y, h, own, number)["mean height"]
    planes = np.c_[slopes, mean + total / weight]
    return Trial(own, np.bincount(own, minlength=number), slopes, total, weight, planes)


def probes_for(given: Targets, found: Trial, planes: np.ndarray) -> list[int]:
    """Lists to probe for each share of wrong cells, from samples that decide nothing else."""
    x = samples(3, min(8_192, BATCH), given.y.shape[1])
    winner = np.array(inverted.exact(x, given.y, given.h)[1])
    ranks = inverted.ranks(x, planes, found.own[winner])
    return [1 + int(np.quantile(ranks, 1 - level, method="higher")) for level in LEVELS]


def measure_lists(given: Targets) -> None:
    y, h = given.y, given.h
    x = samples(4, min(8_192, BATCH), y.shape[1])
    for number in LISTS:
        found = trial(y, h, number)
        plain = inverted.offsets(y, h, found.own, number)
        kinds = {name: np.c_[found.slopes, offset] for name, offset in plain.items()}
        for name, planes in (kinds | {"learned": found.planes}).items():
            probes = probes_for(given, found, planes)
            shares = [number / len(y) + inverted.scored(x, planes, found.sizes, p) for p in probes]
            row = {"work": given.work, "lists": number, "planes": name, "wrong": LEVELS}
            keep("lists", row | {"probes": probes, "share_of_scores": shares})
    measure_bias(given)


def measure_bias(given: Targets) -> None:
    """The mass error that wrong cells alone make: from differences of counts in two halves."""
    y, h = given.y, given.h
    m, d = y.shape
    found = trial(y, h, LISTS[0])
    lists = inverted.build(y, h, found.own, found.planes)
    turns = 2 if QUICK else 32
    probes = probes_for(given, found, found.planes)
    halves, wrong = np.zeros((len(LEVELS), 2, m)), np.zeros(len(LEVELS), np.int64)
    for turn in range(turns):
        x = samples(100 + turn, BATCH, d)
        right = np.array(inverted.exact(x, y, h)[1])
        counts = np.bincount(right, minlength=m)
        for k, number in enumerate(probes):
            seen = np.array(inverted.assign(jnp.asarray(x), lists, number)[1])
            halves[k, turn % 2] += np.bincount(seen, minlength=m) - counts
            wrong[k] += (seen != right).sum()
    n = turns * BATCH
    for k, number in enumerate(probes):
        chi2 = m * float((halves[k, 0] * halves[k, 1]).sum()) / (n / 2) ** 2
        row = {"work": given.work, "lists": LISTS[0], "probes": number, "samples": n}
        row |= {"wrong": wrong[k] / n, "wrong_at_most": wrong_at_most(int(wrong[k]), n)}
        keep("bias", row | {"systematic_chi2": chi2})


def measure_time(given: Targets) -> None:
    y, h = given.y, given.h
    x = jnp.asarray(samples(5, BATCH, y.shape[1]))
    right = np.array(inverted.exact(x, y, h)[1])
    for lists in LISTS:
        found = trial(y, h, lists)
        data = inverted.build(y, h, found.own, found.planes)
        contestants = {"exact": partial(inverted.exact, x, jnp.asarray(y), jnp.asarray(h))}
        every = probes_for(given, found, found.planes)
        contestants |= {f"{p}": partial(inverted.assign, x, data, p) for p in every}
        timings = harness.interleave(contestants, 1 if QUICK else 7)
        for p in every:
            wrong = int((np.array(contestants[f"{p}"]()[1]) != right).sum())
            row = {"work": given.work, "samples": BATCH, "lists": lists, "probes": p}
            row |= {"wrong": wrong / BATCH, "wrong_at_most": wrong_at_most(wrong, BATCH)}
            row |= {"exact_s": timings["exact"].summary()["cpu_s"]}
            row |= timings[f"{p}"].summary()
            keep("time", row | {"times": timings["exact"].ratio(timings[f"{p}"])})


def newton(h: jax.Array, counts: jax.Array, t: int, gap: float) -> jax.Array:
    """A step of the solver's second phase, at its first setting: 1 / t in units of the gap."""
    missing = counts * (h.shape[0] / BATCH) - 1
    return h - gap * jnp.clip(1.5 / (6 + t) * missing, -4, 4)


class Climb(NamedTuple):
    """Heights on their way, and what is learned about lists."""

    h: jax.Array
    total: jax.Array
    weight: jax.Array


@partial(jax.jit, static_argnames=("probes", "checked"))
def climb(now: Climb, x, y, own, slopes, sizes, laid, t, gap, probes: int, checked: int):
    """A step with cells from lists; of so many samples with exact ones as well."""
    number = sizes.shape[0]
    mean = jnp.zeros(number).at[own].add(now.h) / jnp.maximum(sizes, 1)
    lists = laid.lists._replace(excess=now.total / now.weight)
    laid = laid._replace(h=laid.h.at[laid.slot].set(now.h), lists=lists)
    value, index = inverted.assign(x, laid, probes)
    counts = jnp.zeros_like(now.h).at[index].add(1.0)
    if checked:
        right = inverted.exact(x[:checked], y, now.h)[1]
        scale = BATCH / checked
        counts = counts.at[right].add(scale).at[index[:checked]].add(-scale)
    winner = own[index]
    excess = value - jnp.sum(x * slopes[winner], axis=1) - mean[winner]
    # What has been learned fades, since heights move.
    total = (0.9 * now.total).at[winner].add(excess)
    weight = (0.9 * now.weight).at[winner].add(1.0)
    return Climb(newton(now.h, counts, t, gap), total, weight)


@jax.jit
def climb_exactly(now: Climb, x, y, t, gap):
    counts = jnp.zeros_like(now.h).at[inverted.exact(x, y, now.h)[1]].add(1.0)
    return now._replace(h=newton(now.h, counts, t, gap))


def measure_heights(given: Targets, number: int, per_target: int) -> None:
    """Steps from the same heights on the same samples, with cells of each kind."""
    m, d = given.y.shape
    found = trial(given.y, given.h, number)
    laid = inverted.build(given.y, given.h, found.own, found.planes)
    y, own = jnp.asarray(given.y), jnp.asarray(found.own)
    slopes, sizes = (jnp.asarray(part, jnp.float32) for part in (found.slopes, found.sizes))
    two = aeot.top_k(samples(6, 512, d), given.y, given.h, 2)[0]
    gap = float((two[:, 0] - two[:, 1]).mean())
    by_lists = partial(climb, own=own, slopes=slopes, sizes=sizes, laid=laid, gap=gap)
    _, one, tenth = probes_for(given, found, found.planes)
    contestants = {
        "exact": partial(climb_exactly, gap=gap),
        "lists, 1 %": partial(by_lists, probes=one, checked=0),
        "lists, 0.1 %": partial(by_lists, probes=tenth, checked=0),
        "lists, 1 %, corrected": partial(by_lists, probes=one, checked=BATCH // CHECKED),
    }
    begin = Climb(
        *(jnp.asarray(part, jnp.float32) for part in (given.h, found.total, found.weight))
    )
    steps = max(2, per_target * m // BATCH)
    for name, step in contestants.items():
        jax.block_until_ready(step(begin, x=jnp.asarray(samples(7, BATCH, d)), y=y, t=0))
        now, spent = begin, 0.0
        for t in range(steps):
            x = jnp.asarray(samples(1_000 + t, BATCH, d))
            before = time.process_time()
            now = jax.block_until_ready(step(now, x=x, y=y, t=t))
            spent += time.process_time() - before
        draw = 5 * SMALL if m > SMALL else 10 * SMALL
        seen = aeot.certify(jax.random.key(8), aeot.Gaussian(d), given.y, now.h, None, draw)
        row = {"work": given.work, "lists": number, "cells": name, "samples": steps * BATCH}
        row |= {"cpu_s": spent, "start_error": given.mass_error}
        row |= {"mass_error": float(seen.mass_error), "se": float(seen.mass_error_se)}
        keep("heights", row)


def measure_all_heights(given: Targets) -> None:
    """With few samples for each target, and with many for a part of the targets."""
    measure_heights(given, LISTS[0], ARGUMENTS.per_target or START)
    if ARGUMENTS.per_target:
        return
    part = np.random.default_rng(0).permutation(len(given.y))[:SMALL]
    few = solved(given.name, given.y[part], Path(ARGUMENTS.run_dir))
    measure_heights(few, LISTS[0] // 4, PER_TARGET)


def measure_solve(given: Targets) -> None:
    """Whole solves by as many samples: their seconds, and their certificates."""
    m, d = given.y.shape
    for search in ("exact", "lists"):
        config = aeot.SolverConfig(None, max_samples=SOLVED * m, search=search)
        seen: list[tuple[float, int]] = []

        def note(progress: aeot.SolveProgress, seen: list = seen) -> None:
            seen.append((time.process_time(), progress.num_samples))

        began = time.process_time()
        found = aeot.solve(
            jax.random.key(1), aeot.Gaussian(d), given.y, None, config, on_progress=note
        )
        spent = time.process_time() - began
        # The first chunks compile: the last half of the samples tells what a sample costs.
        (at, n), (end, last) = seen[len(seen) // 2], seen[-1]
        row = {"work": given.work, "search": search, "samples": int(found.num_samples)}
        row |= {"cpu_s": spent, "step_us_a_sample": 1e6 * (end - at) / (last - n)}
        row |= {"mass_error": float(found.mass_error), "se": float(found.mass_error_se)}
        if found.search is not None:
            row |= {"lists": found.search.lists, "probes": found.search.probes}
            row |= {"wrong_at_most": found.search.wrong_at_most}
        keep("solve", row)


if __name__ == "__main__":
    measures = {
        "time": measure_time,
        "lists": measure_lists,
        "bounds": measure_bounds,
        "heights": measure_all_heights,
        "solve": measure_solve,
    }
    every = targets()
    for work in ARGUMENTS.works:
        for some in every:
            measures[work](some)

"""Mode collapse on toy densities: what is captured, in what shares, and what falls outside.

    python benchmarks/modes.py                      # every set, ten seeds: about half an hour
    python benchmarks/modes.py --quick              # a smoke test: few codes, nothing is recorded
    python benchmarks/modes.py --works sets --sets ring grid --seeds 3
    python benchmarks/modes.py --works forms cost
    python benchmarks/modes.py --works baselines                 # beside other generators
    python benchmarks/modes.py --works baselines --search        # their settings, on other seeds
    python benchmarks/modes.py --works baselines --table         # of the records, with pictures

Default settings on every set: ``solve``, which answers exactly in the plane, ``extension``,
``generate``. Cells of the baselines (set, method, seed) that are on record are left out.
"""

import argparse
from pathlib import Path

import binding

_PARSER = argparse.ArgumentParser(description="Mode collapse on toy densities.")
_PARSER.add_argument("--quick", action="store_true", help="few codes, nothing recorded")
_WORKS = ("sets", "forms", "cost", "baselines")
_PARSER.add_argument("--works", nargs="*", default=_WORKS[:3], choices=_WORKS)
_PARSER.add_argument("--sets", nargs="*", help="by default all")
_PARSER.add_argument("--seeds", type=int, help="by default ten, three of the baselines")
_PARSER.add_argument("--rounds", type=int, default=3, help="turns of each contestant of the cost")
_AGAINST = _PARSER.add_argument_group("baselines")
_AGAINST.add_argument("--methods", nargs="*", help="by default all")
_AGAINST.add_argument("--seconds", type=float, default=60, help="CPU-seconds of each that learns")
_AGAINST.add_argument("--search", action="store_true", help="try settings, on other seeds")
_AGAINST.add_argument("--trials", type=int, default=6, help="combinations of a search")
_AGAINST.add_argument("--again", nargs="*", default=[], help="methods to run again")
_AGAINST.add_argument("--table", action="store_true", help="tables and pictures of the records")
_AGAINST.add_argument("--run-dir", type=Path, default=Path("runs/baselines"), help="of samples")
ARGUMENTS = _PARSER.parse_args()
if "baselines" in ARGUMENTS.works:
    binding.bind()  # one core and one thread: CPU-seconds are what is compared

import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402

import forms  # noqa: E402
import harness  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.data import toy  # noqa: E402
from aeot_jax.metrics import modes  # noqa: E402
from aeot_jax.metrics.distances import nearest  # noqa: E402

NUM_CODES = 1_000 if ARGUMENTS.quick else 10_000
NUM_GENERATED = 5_000 if ARGUMENTS.quick else 100_000
COST = (4_096, 1_000, 32) if ARGUMENTS.quick else (1_000_000, 60_000, 32)
"""Generated codes, codes, dimensions."""

GOALS = {"inside": 0.995, "three_sigma_gap": 0.005, "reverse_kl": 0.005, "far": 0.005}


@dataclass(frozen=True)
class Set:
    """A toy density and its parts.

    Attributes:
      draw: ``draw(key, n)`` gives a sample.
      parts: for curves, the part of the curve that each point belongs to; None for modes.
      num_parts: modes, or parts of a curve.
      num_pieces: connected pieces of the support.
    """

    draw: Callable[..., toy.Toy]
    parts: Callable[[np.ndarray], np.ndarray] | None
    num_parts: int
    num_pieces: int


def half_moon(points: np.ndarray) -> np.ndarray:
    """0 on the upper half circle, 1 on the lower."""
    upper = np.asarray(toy._half_circle_distance(jnp.asarray(points)))
    lower = np.asarray(toy._half_circle_distance(jnp.array([[1.0, 0.5]]) - points))
    return (lower < upper).astype(int)


def tenth_of_the_roll(points: np.ndarray) -> np.ndarray:
    """Ten parts of equal mass: along the spiral the radius is uniform on [1/3, 1]."""
    radius = np.linalg.norm(points, axis=1)
    return np.clip(15 * (radius - 1 / 3), 0, 9).astype(int)


SETS = {
    "ring": Set(toy.ring, None, 8, 8),
    "grid": Set(toy.grid, None, 25, 25),
    "cube": Set(toy.cube, None, 27, 27),
    "moons": Set(toy.moons, half_moon, 2, 2),
    "swiss roll": Set(toy.swiss_roll, tenth_of_the_roll, 10, 1),
    "clusters": Set(toy.clusters, None, 10, 10),
}


def measure(source: str, dim: int) -> aeot.Measure:
    return aeot.Gaussian(dim) if source == "gaussian" else aeot.UniformCube(dim)


def scores(name: str, codes: toy.Toy, real: toy.Toy, z: np.ndarray) -> dict[str, float]:
    """How good generated codes are, beside fresh samples of the density."""
    fresh, parts = np.asarray(real.points), SETS[name].parts
    if codes.modes is not None:
        dim = codes.modes.shape[1]
        labels = np.asarray(codes.labels)
        share = np.bincount(labels, minlength=len(codes.modes)) / len(labels)
        radius = modes.gaussian_radius(0.997, dim)
        centres = np.asarray(codes.modes)
        report, of_real = (
            modes.mode_report(points, centres, codes.sigma, share, radius) for points in (z, fresh)
        )
        three, three_real, three_codes = (
            modes.mode_report(points, centres, codes.sigma, share, 3.0)
            for points in (z, fresh, np.asarray(codes.points))
        )
        result = {
            "captured": report.num_captured,
            "inside": report.high_quality_share,
            "inside_real": of_real.high_quality_share,
            "three_sigma": three.high_quality_share,
            "three_sigma_real": three_real.high_quality_share,
            "three_sigma_codes": three_codes.high_quality_share,
            "reverse_kl": report.reverse_kl,
        }
        distance, distance_real = (nearest(points, centres)[0] for points in (z, fresh))
    else:
        assert codes.distance is not None
        assert parts is not None
        distance, distance_real = (
            np.asarray(codes.distance(jnp.asarray(points))) for points in (z, fresh)
        )
        counts, own = (
            np.bincount(parts(points), minlength=SETS[name].num_parts)
            for points in (z, np.asarray(codes.points))
        )
        result = {
            "captured": int((counts > 0).sum()),
            "inside": modes.covered_share(distance, 3 * codes.sigma),
            "inside_real": modes.covered_share(distance_real, 3 * codes.sigma),
            "reverse_kl": modes.reverse_kl(counts, own / own.sum()),
        }
    return result | {"far": float((distance > np.quantile(distance_real, 0.999)).mean())}


def setup(name: str, source: str, seed: int) -> tuple[toy.Toy, toy.Toy, aeot.Extension, float]:
    """Codes, fresh samples, the extension and the heights' mass error."""
    keys = jax.random.split(jax.random.key(seed), 4)
    codes = SETS[name].draw(keys[0], NUM_CODES)
    real = SETS[name].draw(keys[1], NUM_GENERATED)
    mu = measure(source, codes.points.shape[1])
    solution = aeot.solve(keys[2], mu, codes.points)
    aeot.raise_if_failed(solution)
    ext = aeot.extension(keys[3], mu, codes.points, solution.h)
    return codes, real, ext, float(solution.mass_error)


def set_work(name: str, source: str, seeds: int, keep: bool) -> None:
    """One set from one source, over all seeds."""
    rows = []
    start, cpu = time.perf_counter(), time.process_time()
    for seed in range(seeds):
        codes, real, ext, mass_error = setup(name, source, seed)
        key = jax.random.key(1000 + seed)
        z, rejected = forms.accepted(key, ext, NUM_GENERATED)
        seen = aeot.singular_set(jax.random.key(2000 + seed), ext)
        row = scores(name, codes, real, z)
        rows.append(
            row
            | {"rejected": rejected, "mass_near": seen.mass_near, "pieces": seen.num_pieces}
            | {"threshold": seen.threshold, "mass_error": mass_error}
        )
    columns = {field: [row[field] for row in rows] for field in rows[0]}
    worst = {
        "captured_in_all": int(np.sum(np.equal(columns["captured"], SETS[name].num_parts))),
        "right_pieces": int(np.sum(np.equal(columns["pieces"], SETS[name].num_pieces))),
        "inside_least": min(columns["inside"]),
        "reverse_kl_most": max(columns["reverse_kl"]),
        "far_most": max(columns["far"]),
        "rejected_most": max(columns["rejected"]),
    }
    if "three_sigma" in columns:
        for other in ("real", "codes"):  # 10,000 codes differ from the law by chance, too
            gaps = np.abs(np.subtract(columns["three_sigma"], columns[f"three_sigma_{other}"]))
            worst[f"three_sigma_gap_to_{other}_most"] = float(gaps.max())
    passed = (
        worst["captured_in_all"] == seeds
        and worst["inside_least"] >= GOALS["inside"]
        and worst["reverse_kl_most"] <= GOALS["reverse_kl"]
        and worst["far_most"] < GOALS["far"]
        and worst.get("three_sigma_gap_to_real_most", 0.0) <= GOALS["three_sigma_gap"]
    )
    text = "  ".join(f"{field} {value:.5g}" for field, value in worst.items())
    print(f"{name:10} {source:9} {'passed' if passed else 'FAILED'}  {text}", flush=True)
    print(f"{'':20} inside, real {np.mean(columns['inside_real']):.4f}", flush=True)
    if keep:
        row = {"work": f"{name}, {source}", "set": name, "source": source, "seeds": seeds}
        row |= {"m": NUM_CODES, "d": codes.points.shape[1], "n": NUM_GENERATED, "passed": passed}
        row |= {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        harness.record("modes", row | worst | columns)


def forms_work(name: str, source: str, keep: bool) -> None:
    """Every form of the extension on one seed."""
    codes, real, ext, _ = setup(name, source, 0)
    for form, z, rejected in forms.forms(jax.random.key(1), ext, NUM_GENERATED):
        if len(z) == 0:
            print(f"{name:10} {source:9} {form:40} rejects everything", flush=True)
            continue
        row = scores(name, codes, real, z)
        print(
            f"{name:10} {source:9} {form:40} inside {row['inside']:.4f} (real "
            f"{row['inside_real']:.4f})  far {row['far']:.4f}  reverse KL {row['reverse_kl']:.5f}  "
            f"rejected {rejected:.4f}",
            flush=True,
        )
        if keep:
            sizes = {"set": name, "source": source, "m": NUM_CODES, "d": z.shape[1], "n": len(z)}
            harness.record("modes forms", {"form": form, **sizes, **row, "rejected": rejected})


def cost_work(keep: bool) -> None:
    """Seconds of a number of accepted codes, over the plain assignment of as many samples."""
    n, m, dim = COST
    codes = toy.clusters(jax.random.key(0), m, dim=dim)
    mu = aeot.Gaussian(dim)
    config = aeot.SolverConfig(tolerance=0.2)  # coarse: the time hardly depends on the heights
    h = aeot.solve(jax.random.key(1), mu, codes.points, config=config).h
    ext = aeot.extension(jax.random.key(2), mu, codes.points, h)
    _, rejected = forms.accepted(jax.random.key(3), ext, 50_000)
    candidates = int(np.ceil(n / (1 - rejected)))
    x = mu.sample(jax.random.key(4), candidates)
    key = jax.random.key(5)
    timings = harness.interleave(
        {
            "assign": lambda: aeot.assign(x[:n], ext.y, ext.h),
            "assign, all candidates": lambda: aeot.assign(x, ext.y, ext.h),
            "generate": lambda: aeot.generate(key, ext, candidates),
        },
        ARGUMENTS.rounds,
    )
    _, accepted, _ = aeot.generate(key, ext, candidates)
    for contestant, timing in timings.items():
        row = {"n": n, "m": m, "d": dim, "contestant": contestant, "rounds": ARGUMENTS.rounds}
        row |= timing.summary() | {"over_assign": timing.ratio(timings["assign"])}
        row |= {"over_assign_of_all": timing.ratio(timings["assign, all candidates"])}
        row |= {"candidates": candidates, "accepted": int(accepted.sum()), "rejected": rejected}
        print(
            f"cost  {contestant:22} CPU {row['cpu_s']:8.2f} s  over assign {row['over_assign']:.2f}"
            f"  of all candidates {row['over_assign_of_all']:.2f}  accepted {row['accepted']} of "
            f"{candidates}",
            flush=True,
        )
        if keep:
            harness.record("modes cost", row)


def baselines_work(keep: bool) -> None:
    """This library beside other generators; or a search of their settings, or the tables."""
    import cells
    import toys

    jax.block_until_ready(jnp.ones((256, 256)) @ jnp.ones((256, 256)))  # the pool stands
    binding.release()
    place, folder = harness.records(toys.FOLDER), ARGUMENTS.run_dir
    sets = cells.chosen("sets", ARGUMENTS.sets, list(toys.DENSITIES))
    methods = cells.chosen("methods", ARGUMENTS.methods, [toys.FLOOR, *toys.METHODS])
    if not keep:  # one of each family, on one set
        sets = ARGUMENTS.sets or ["few of the roll"]
        methods = ARGUMENTS.methods or ["AE-OT", "GAN", "mixture", "noise"]
    sizes, seconds = (None, ARGUMENTS.seconds) if keep else (toys.QUICK, 0.1)
    if ARGUMENTS.table:
        print(toys.search_table(place) if ARGUMENTS.search else toys.tables(place))
        for name in [name for name in ARGUMENTS.sets or () if not ARGUMENTS.search]:
            target = folder / f"{name.replace(' ', '_')}.png"
            cells.draw(partial(toys.picture, place, folder, name, target))
    elif ARGUMENTS.search:
        todo = toys.searched(sets, methods, seconds, sizes or toys.Sizes(), ARGUMENTS.trials)
        toys.run(todo, "baselines search", keep, ARGUMENTS.again, folder)
    else:
        seeds = range((ARGUMENTS.seeds or 3) if keep else 1)
        todo = toys.reported(sets, methods, seeds, seconds, sizes)
        toys.run(todo, "baselines of toys", keep, ARGUMENTS.again, folder)


def main() -> None:
    keep = not ARGUMENTS.quick
    if "baselines" in ARGUMENTS.works:
        baselines_work(keep)
    seeds = 1 if ARGUMENTS.quick else ARGUMENTS.seeds or 10
    names = ARGUMENTS.sets or list(SETS)
    if "sets" in ARGUMENTS.works:
        for name in names:
            for source in ("gaussian", "uniform"):
                set_work(name, source, seeds, keep)
    if "forms" in ARGUMENTS.works:
        for name in names:
            forms_work(name, "gaussian", keep)
    if "cost" in ARGUMENTS.works:
        cost_work(keep)


if __name__ == "__main__":
    main()

"""All generators on toy densities: PacGAN's protocol, and few data of a density that is known.

What ``modes.py --works baselines`` runs. The sets of PacGAN's protocol have 100,000 points to learn
from. The few sets have 50 points a mode, and are judged by fresh points of the density: a copy
covers what its datum covers, and no more.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import cells
import harness
import jax
import jax.numpy as jnp
import numpy as np
from baselines import METHODS, Budget, Fitted, Method, copies
from baselines.tuned import LONG, TRIED_LONG, TUNED, TUNED_LONG
from cells import Cell

from aeot_jax.data import toy
from aeot_jax.metrics import mode_report, novelty_report, prdc
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.modes import gaussian_radius

FOLDER = "baselines"
"""Of the records."""
FLOOR = "fresh samples"
"""The density itself in the place of a generator: what chance leaves."""
SEARCH_SEED = 1_000
"""The seeds of a search begin here: none of them is reported."""
PACGAN = 2_500
"""Samples in which PacGAN's authors count modes."""


@dataclass(frozen=True)
class Density:
    """A toy density, and how many points of it are known.

    Attributes:
      draw: ``draw(key, n)`` gives a sample.
      known: points to learn from.
      few: whether unseen points are what is to be covered.
      parts: modes or, of a curve, 1.
    """

    draw: Callable[..., toy.Toy]
    known: int
    few: bool
    parts: int


DENSITIES = {
    "ring": Density(toy.ring, 100_000, False, 8),
    "grid": Density(toy.grid, 100_000, False, 25),
    "cube": Density(toy.cube, 100_000, False, 27),
    "few of the ring": Density(toy.ring, 8 * 50, True, 8),
    "few of the grid": Density(toy.grid, 25 * 50, True, 25),
    "few of the cube": Density(toy.cube, 27 * 50, True, 27),
    "few of the roll": Density(toy.swiss_roll, 10 * 50, True, 1),
}


@dataclass(frozen=True)
class Sizes:
    """How many points are drawn, fitted and compared; small ones for a smoke test.

    Attributes:
      known: points to learn from, at most.
      generated: points that are judged.
      of_half: points that are judged at half of the budget.
    """

    known: int = 100_000
    generated: int = 20_000
    of_half: int = 10_000


FEW = Sizes(generated=6_000, of_half=3_000)
"""Where all pairs are compared."""
QUICK = Sizes(500, 1_000, 500)


@lru_cache(maxsize=2)
def points_of(name: str, seed: int, sizes: Sizes) -> tuple[toy.Toy, toy.Toy]:
    """Points to learn from, and fresh ones."""
    density, keys = DENSITIES[name], jax.random.split(jax.random.key(seed))
    known = density.draw(keys[0], min(density.known, sizes.known))
    return known, density.draw(keys[1], sizes.generated)


def quality(known: toy.Toy, fresh: toy.Toy, z: np.ndarray, few: bool) -> dict[str, float]:
    """The scores of generated points (n, d) beside fresh ones; n may be less."""
    z = z.astype(np.float32)
    row = modes_of(known, z) if known.modes is not None else {}
    if few:
        real = np.asarray(fresh.points)[: len(z)]
        found = prdc(real, z)
        new = novelty_report(z, np.asarray(known.points), real)
        row |= {"inside": inside(known, z), "inside_real": inside(known, real)}
        row |= {"precision": found.precision, "recall": found.recall}
        row |= {"density": found.density, "coverage": found.coverage}
        row |= {"z5": new.share_near, "nearer": new.nearer}
    row["missed"] = missed(row)
    return row


def modes_of(known: toy.Toy, z: np.ndarray) -> dict[str, float]:
    """PacGAN's scores."""
    assert known.modes is not None
    centres = np.asarray(known.modes)
    few = mode_report(z[:PACGAN], centres, known.sigma)
    all_ = mode_report(z, centres, known.sigma)
    distance, index = nearest(z, centres)
    counts = np.bincount(index[distance <= 3 * known.sigma], minlength=len(centres))
    overlap = np.minimum(counts / len(z), all_.expected_share / len(centres)).sum()
    return {
        "captured": few.num_captured,
        "high_quality": all_.high_quality_share,
        "high_quality_real": all_.expected_share,
        "reverse_kl": min(all_.reverse_kl, 99.0),
        "overlap": float(overlap / all_.expected_share),
    }


def missed(row: Mapping[str, float]) -> float:
    """The one number that a search lowers: 0 for samples of the density itself.

    With few data what it misses of coverage and of the inside; else the share of the modes' mass
    that no sample of high quality covers, which counts modes lost, wrong shares and samples between
    modes.
    """
    if "coverage" in row:
        return (1 - row["coverage"]) + abs(row["inside"] - row["inside_real"])
    return 1 - row["overlap"]


def inside(known: toy.Toy, z: np.ndarray) -> float:
    """Share of points where 99.7 % of the density is, or within three sigma of its curve."""
    if known.modes is not None:
        radius = gaussian_radius(0.997, z.shape[1])
        distance = nearest(z, np.asarray(known.modes))[0]
    else:
        assert known.distance is not None
        radius, distance = 3.0, np.asarray(known.distance(jnp.asarray(z)))
    return float((distance <= radius * known.sigma).mean())


def make(cell: Cell, folder: Path | None = None) -> dict[str, Any]:
    """Learn, sample and judge."""
    sizes, budget = Sizes(**cell.settings["sizes"]), Budget(**cell.settings["budget"])
    known, fresh = points_of(cell.data, cell.seed, sizes)
    few = DENSITIES[cell.data].few
    fit_key, key, half_key = jax.random.split(jax.random.key(10_000 + cell.seed), 3)
    data = np.asarray(known.points)
    if cell.method == FLOOR:
        fitted = Fitted(lambda k, n: np.asarray(DENSITIES[cell.data].draw(k, n).points), 0.0)
    else:
        fitted = METHODS[cell.method].fit(fit_key, data, budget, cell.settings["settings"])
    began = time.process_time()
    z = fitted.sample(key, sizes.generated)
    row: dict[str, Any] = {"seconds": fitted.seconds, "sampling_s": time.process_time() - began}
    row |= quality(known, fresh, z, few)
    if fitted.half is not None:
        row["half"] = quality(known, fresh, fitted.half(half_key, sizes.of_half), few)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / f"{cell.digest}.npz", z=z[:PACGAN])
    shown = {name: value for name, value in row.items() if isinstance(value, int | float)}
    words = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
    print(f"{cell.data:16} {cell.method:20} {cell.seed:4}  {words}", flush=True)
    return row | {"m": len(data), "d": data.shape[1], "about": dict(fitted.about)}


def cell(
    data: str, method: str, seed: int, seconds: float, sizes: Sizes, own: Mapping[str, Any]
) -> Cell:
    """A cell with the settings of a method, and others in the place of some."""
    of = METHODS.get(method, Method(copies.resample))
    budget = {"seconds": seconds, "steps": None} if of.learns else {"seconds": None, "steps": 1}
    settings = {**of.settings, **own}
    held = {"sizes": vars(sizes), "budget": budget, "settings": settings}
    return Cell(data, method, seed, held)


def tuned(data: str, method: str, seconds: float) -> Mapping[str, Any]:
    """What a search has chosen for this budget, on this set or, if there was none, on the grid."""
    if seconds >= LONG and method in TUNED_LONG:
        return TUNED_LONG[method]
    of = TUNED.get(method, {})
    return of.get(data, of.get("grid", {}))


def reported(
    sets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    sizes: Sizes | None = None,
) -> Iterator[Cell]:
    """The cells of the tables: seed by seed, so that a run cut off has all methods."""
    for data, seed, method in product(sets, seeds, methods):
        own = sizes or (FEW if DENSITIES[data].few else Sizes())
        yield cell(data, method, seed, seconds, own, tuned(data, method, seconds))


def searched(
    sets: Sequence[str], methods: Sequence[str], seconds: float, sizes: Sizes, trials: int
) -> Iterator[Cell]:
    """Random combinations of what the methods say is to be tried, on seeds that are not reported.

    The same combinations are drawn every time; all of them if there are no more than ``trials``. A
    long budget has a list of its own.
    """
    for data, method in product(sets, methods):
        if seconds >= LONG:
            for way in TRIED_LONG.get(method, ()):
                yield cell(data, method, SEARCH_SEED, seconds, sizes, way)
            continue
        names = METHODS[method].tried if method in METHODS else {}
        ways = [dict(zip(names, values, strict=True)) for values in product(*names.values())]
        order = np.random.default_rng(SEARCH_SEED).permutation(len(ways))
        for k in order[:trials] if names else ():
            yield cell(data, method, SEARCH_SEED, seconds, sizes, ways[int(k)])


def run(todo: Iterator[Cell], name: str, keep: bool, again: Sequence[str], folder: Path) -> None:
    """Run the cells that are not on record."""
    known = cells.lines(harness.records(FOLDER), name) if keep else []
    write = partial(harness.record, name, folder=FOLDER) if keep else lambda line: None
    cells.run(todo, partial(make, folder=folder if keep else None), known, write, again)


COLUMNS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "modes in 2,500": lambda line: line["captured"],
    "high quality, %": lambda line: 100 * line["high_quality"],
    "real, %": lambda line: 100 * line["high_quality_real"],
    "reverse KL": lambda line: line["reverse_kl"],
    "modes' mass missed, %": lambda line: 100 * line["missed"],
    "at half budget, %": lambda line: 100 * line["half"]["missed"] if "half" in line else None,
    "CPU-s": lambda line: line["seconds"],
}
FEW_COLUMNS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "coverage, %": lambda line: 100 * line["coverage"],
    "at half budget, %": lambda line: 100 * line["half"]["coverage"] if "half" in line else None,
    "inside, %": lambda line: 100 * line["inside"],
    "precision, %": lambda line: 100 * line["precision"],
    "recall, %": lambda line: 100 * line["recall"],
    "z5, %": lambda line: 100 * line["z5"],
    "nearer": lambda line: line["nearer"],
    "CPU-s": lambda line: line["seconds"],
}
DIGITS = dict.fromkeys((*COLUMNS, *FEW_COLUMNS), 1)
DIGITS |= {"reverse KL": 4, "nearer": 3, "CPU-s": 0, "modes in 2,500": 1, "real, %": 1}


def tables(place: Path) -> str:
    """All tables of a file of records."""
    known = cells.newest(cells.lines(place, "baselines of toys"))
    parts = []
    for data, density in DENSITIES.items():
        own = [line for line in known if line["data"] == data]
        if own:
            columns = FEW_COLUMNS if density.few else COLUMNS
            made = cells.table(own, columns, DIGITS, [FLOOR, *METHODS])
            parts.append(f"{data}: {own[0]['m']:,} points known\n\n{made}")
    return "\n\n".join(parts) or cells.NOTHING


def search_table(place: Path) -> str:
    """Every trial of the searches, the best of each first."""
    rows = ["| set | method | tried | missed, % | CPU-s |", "| --- | --- | --- | --- | --- |"]
    known = cells.newest_of(cells.lines(place, "baselines search"))
    for line in sorted(known, key=lambda at: (at["data"], at["method"], at["missed"])):
        own = line["settings"]["settings"]
        tried = TRIED_LONG if line["seconds"] >= LONG else {}
        names = tried.get(line["method"], (METHODS[line["method"]].tried,))[0]
        own = {name: own[name] for name in names if name in own}  # older trials had fewer settings
        words = ", ".join(f"{name} {value:g}" for name, value in own.items())
        rows.append(
            f"| {line['data']} | {line['method']} | {words} | {100 * line['missed']:.1f} | "
            f"{line['seconds']:.0f} |"
        )
    return "\n".join(rows)


def picture(place: Path, folder: Path, data: str, target: Path, seed: int = 0) -> None:
    """Samples of all methods side by side, of the cells whose samples are at hand."""
    from matplotlib.figure import Figure

    known = cells.newest(cells.lines(place, "baselines of toys"))
    found = {line["method"]: line for line in known if (line["data"], line["seed"]) == (data, seed)}
    found = {name: found[name] for name in METHODS if name in found}
    shown = {name: folder / f"{line['digest']}.npz" for name, line in found.items()}
    shown = {name: place for name, place in shown.items() if place.exists()}
    if not shown:
        raise cells.MissingError(
            f"`folder` {folder} holds no samples of {data}; run its cells here first."
        )
    sizes = Sizes(**next(iter(found.values()))["settings"]["sizes"])
    real = np.asarray(points_of(data, seed, sizes)[1].points)[:PACGAN]
    clouds = {"fresh samples": real} | {name: np.load(at)["z"] for name, at in shown.items()}
    columns = 5
    rows = -(-len(clouds) // columns)
    figure = Figure((2.2 * columns, 2.4 * rows), dpi=110, layout="constrained")
    span = 1.25 * np.abs(real[:, :2]).max()
    axes = figure.subplots(rows, columns, squeeze=False)
    for at in axes.flat:
        at.set_axis_off()
    for at, (name, z) in zip(axes.flat, clouds.items(), strict=False):
        at.set_axis_on()
        at.scatter(z[:, 0], z[:, 1], s=1.5, alpha=0.4, linewidths=0, color="#20508a")
        at.set(xlim=(-span, span), ylim=(-span, span), xticks=[], yticks=[], aspect="equal")
        at.set_title(name, fontsize=9)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)

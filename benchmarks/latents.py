"""Generators of codes on one and the same decoder: images, and a thousand modes of stacked digits.

What ``images.py --works baselines`` and ``images.py --works stacked`` run. One autoencoder a data
set; every generator learns its codes and is judged by the images that its own become. Beside them
stand what a perfect generator of codes would reach, unseen images encoded and decoded, and what no
decoder is needed for, other real images.

Stacked digits: three digits as the channels of one image, a thousand modes; a classifier of single
digits sees how many of them there are in 25,600 samples.

Sources: Dai, Wipf 2019 (a generator of another autoencoder's codes); Srivastava et al., VEEGAN,
2017, and Lin et al., PacGAN, 2018 (stacked digits).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import cells
import harness
import jax
import numpy as np
from baselines import METHODS, Budget, Fitted
from cells import Cell
from scores import Features, digest, featurizer, frechet_infinite, kernel_of_all, named

import aeot_jax as aeot
from aeot_jax.data.images import ImageSet, load
from aeot_jax.metrics import FeatureMap, fit_features, novelty_report, prdc
from aeot_jax.metrics.features import predict
from aeot_jax.metrics.modes import reverse_kl, total_variation
from aeot_jax.plot import image_grid

FOLDER, NAME = "baselines", "baselines of codes"
"""Of the records."""
REAL, DECODED = "other real images", "unseen images, decoded"
"""The floors: rows of the table that no generator makes."""
TUNED: Mapping[str, Mapping[str, Any]] = {
    "AE-OT": {"targets": 60_000},
    "AE-OT, blending": {"targets": 60_000},
    "two-stage VAE": {"latent": 8, "width": 128},
    "flow": {"width": 256},
    "flow, semi-discrete": {"width": 256},
}
"""Settings on codes: what ``images.py mnist.npz --works baselines --search`` chose."""
TRIED: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "two-stage VAE": {"width": (128, 256, 512), "latent": (8, 16)},
    "flow": {"width": (128, 256, 512)},
}
"""What a search tries. The semi-discrete flow takes the settings of the independent one."""
SEARCH_SEED = 1000
"""Is not reported."""
LATENT = (
    *("AE-OT", "AE-OT, blending", "two-stage VAE", "flow", "flow, semi-discrete"),
    *("mixture", "kernels", "noise", "resampling"),
)
"""Generators that are tried on codes. The second stage of a two-stage VAE is a VAE of the codes."""
_SECOND = "two-stage VAE"


@dataclass(frozen=True)
class Sizes:
    """How many images are fitted and compared.

    Attributes:
      fitted: the autoencoder and the generators learn from these.
      compared: generated, unseen, and other unseen ones for the floors.
      neighbours: of each set in the comparisons of neighbours.
      epochs: of the autoencoder.
      latent: dimensions of the codes; None is the library's choice.
    """

    fitted: int = 10_000
    compared: int = 5_000
    neighbours: int = 3_000
    epochs: int = 40
    latent: int | None = None


QUICK = Sizes(600, 520, 300, 2)
STACKED = Sizes(20_000, 25_600, 0, 10, 48)
STACKED_QUICK = Sizes(600, 500, 0, 2, 12)


@dataclass(frozen=True, eq=False)
class Bench:
    """A data set with its autoencoder and its judge.

    Attributes:
      data: its name.
      decode: from codes (n, z) to images (n, h, w, c) in [0, 1].
      codes: of the fitted images (m, z).
      unseen: codes of unseen images (n, z).
      judge: from images, the seed of a comparison and codes or None to scores.
      others: images for the floor of real ones.
      about: for the records: the judge's digest, seconds of the autoencoder.
    """

    data: str
    decode: Callable[[np.ndarray], np.ndarray]
    codes: np.ndarray
    unseen: np.ndarray
    judge: Callable[[np.ndarray, int, np.ndarray | None], dict[str, float]]
    others: np.ndarray
    about: Mapping[str, Any]


def autoencoder(
    images: np.ndarray, sizes: Sizes, folder: Path | None, kind: str = "auto"
) -> tuple[aeot.AEOT, float | None]:
    """The autoencoder of a data set and its CPU-seconds, or None if it is read from a folder."""
    began = time.process_time()
    config = aeot.Config(
        autoencoder=aeot.AutoencoderConfig(kind=kind, latent_dim=sizes.latent),
        training=aeot.TrainConfig(epochs=sizes.epochs),
        solver=aeot.SolverConfig(max_steps=1),  # the map is another cell's work
    )
    there = folder is not None and folder.exists()
    model = aeot.fit(jax.random.key(0), images, config, run_dir=folder, resume=there)
    return model, None if there else time.process_time() - began


def decoded(model: aeot.AEOT, z: np.ndarray) -> np.ndarray:
    """Images of standardised codes."""
    return np.asarray(aeot.decode(model, z))


def image_bench(source: str, sizes: Sizes, folder: Path | None, features: str | None) -> Bench:
    """Images with labels, judged by features of a classifier, or of the user's function.

    Raises:
      ValueError: if there are too few images, or no labels.
    """
    data = load(source)
    needed = sizes.fitted + 2 * sizes.compared
    if data.labels is None or len(data) < needed:
        has = "no labels" if data.labels is None else f"{len(data)} images"
        raise ValueError(f"`data` {data.name} has {has}; pass at least {needed} with labels.")
    order = np.random.default_rng(0).permutation(len(data))
    fitted, rest = order[: sizes.fitted], order[sizes.fitted :]
    unseen, other = rest[: sizes.compared], rest[sizes.compared :][: sizes.compared]
    model, seconds = autoencoder(data.images[fitted], sizes, folder)
    classifier = fit_features(jax.random.key(1), data.images[fitted], data.labels[fitted])
    extract = featurizer(classifier) if features is None else named(features)
    held_out = np.asarray(aeot.encode(model, data.images[unseen]))
    real = extract(data.images[unseen])
    through = extract(decoded(model, held_out))
    codes = np.asarray(aeot.encode(model, data.images[fitted]))
    shares = np.bincount(data.labels[fitted]) / sizes.fitted

    def judge(images: np.ndarray, seed: int, z: np.ndarray | None) -> dict[str, float]:
        row = image_scores(extract(images), real, through, seed, sizes.neighbours)
        counts = np.bincount(predict(classifier, images), minlength=len(shares))
        row["classes_tv"] = total_variation(counts, shares)
        if z is not None:
            new = novelty_report(z[: sizes.neighbours], codes, held_out)
            row |= {"z5": new.share_near, "nearer": new.nearer}
        return row

    about = {"judge": real.network, "autoencoder_s": seconds}
    return Bench(
        data.name,
        partial(decoded, model),
        codes,
        np.asarray(aeot.encode(model, data.images[other])),
        judge,
        data.images[other],
        about,
    )


def image_scores(
    made: Features, real: Features, through: Features, seed: int, neighbours: int
) -> dict[str, float]:
    """Distances to real images and to decoded unseen ones, and scores of neighbours."""
    rng = np.random.default_rng(seed)
    to_real, to_decoded = frechet_infinite(rng, made, real), frechet_infinite(rng, made, through)
    found = prdc(real.values[:neighbours], made.values[:neighbours])
    return {
        "frechet": to_real.value,
        "frechet_se": to_real.standard_error,
        "frechet_of_all": to_real.of_all,
        "frechet_to_decoded": to_decoded.value,
        "frechet_to_decoded_se": to_decoded.standard_error,
        "kernel_x1000": 1000 * kernel_of_all(made, real),
        "precision": found.precision,
        "recall": found.recall,
        "density": found.density,
        "coverage": found.coverage,
    }


def stacked(rng: np.random.Generator, digits: ImageSet, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of three digits each, as channels, and their modes, 0 to 999."""
    if digits.labels is None or digits.images.shape[3] != 1 or digits.labels.max() > 9:
        raise ValueError(
            f"`data` {digits.name} has shape {digits.images.shape} and labels "
            f"{'missing' if digits.labels is None else 'to ' + str(digits.labels.max())}; pass "
            "digits of one channel with labels 0 to 9."
        )
    rows = rng.integers(0, len(digits), (n, 3))
    images = np.concatenate([digits.images[rows[:, k]] for k in range(3)], axis=3)
    return images, digits.labels[rows] @ np.array([100, 10, 1])


def modes_seen(classifier: FeatureMap, images: np.ndarray) -> np.ndarray:
    """The mode of each image (n,): a digit a channel, as a classifier of digits sees them."""
    digits = [predict(classifier, images[..., k : k + 1]) for k in range(3)]
    return np.stack(digits, axis=1) @ np.array([100, 10, 1])


def stacked_bench(source: str, sizes: Sizes, folder: Path | None) -> Bench:
    """Stacked digits, judged by how many of a thousand modes are seen, and in which shares."""
    digits = load(source)
    rng = np.random.default_rng(0)
    images, _ = stacked(rng, digits, sizes.fitted)
    others, labels = stacked(rng, digits, sizes.compared)
    assert digits.labels is not None
    some = np.random.default_rng(1).permutation(len(digits))[:20_000]
    classifier = fit_features(jax.random.key(1), digits.images[some], digits.labels[some])
    # Convolutions, the default of this size, take ten times as long.
    model, seconds = autoencoder(images, sizes, folder, "mlp")

    def judge(images: np.ndarray, seed: int, z: np.ndarray | None) -> dict[str, float]:
        del seed, z
        counts = np.bincount(modes_seen(classifier, images), minlength=1000)
        return {"captured": int((counts > 0).sum()), "reverse_kl": reverse_kl(counts)}

    right = float((modes_seen(classifier, others) == labels).mean())
    about = {"judge": digest(classifier), "judge_right": right, "autoencoder_s": seconds}
    codes = np.asarray(aeot.encode(model, images))
    unseen = np.asarray(aeot.encode(model, others))
    decode = partial(decoded, model)
    return Bench(f"stacked {digits.name}", decode, codes, unseen, judge, others, about)


def make(bench: Bench, cell: Cell, folder: Path | None = None) -> dict[str, Any]:
    """Learn the codes, decode what was generated, and judge it."""
    n, key = cell.settings["sizes"]["compared"], jax.random.key(cell.seed)
    fit_key, sample_key, half_key = jax.random.split(key, 3)
    if cell.method == REAL:
        images, z, row = bench.others, None, {}
    else:
        fitted = Fitted(lambda key, n: bench.unseen[:n], 0.0)
        if cell.method != DECODED:
            method = METHODS["VAE" if cell.method == _SECOND else cell.method]
            budget = Budget(**cell.settings["budget"])
            fitted = method.fit(fit_key, bench.codes, budget, cell.settings["settings"])
        z = fitted.sample(sample_key, n)
        images = bench.decode(z)
        row: dict[str, Any] = {"seconds": fitted.seconds, "fitted": dict(fitted.about)}
        if fitted.half is not None:
            at_half = fitted.half(half_key, n)
            row["half"] = bench.judge(bench.decode(at_half), 0, at_half)
    row |= bench.judge(images, cell.seed, z)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        some = images[:64] if images.dtype == np.uint8 else (255 * images[:64]).round()
        np.savez_compressed(folder / f"{cell.digest}.npz", images=some.astype(np.uint8))
    shown = {name: value for name, value in row.items() if isinstance(value, int | float)}
    words = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
    print(f"{cell.data:16} {cell.method:22} {cell.seed:3}  {words}", flush=True)
    return row | {"about": dict(bench.about)}


def reported(
    data: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    sizes: Sizes,
    features: str | None,
) -> Iterator[Cell]:
    """The cells of a table: the floors, then seed by seed all methods."""
    held = {"sizes": vars(sizes), "features": features}
    for name in (REAL, DECODED):
        yield Cell(data, name, 0, held)
    for seed, method in product(seeds, methods):
        yield _cell(data, method, seed, seconds, held, TUNED.get(method, {}))


def searched(
    data: str, methods: Sequence[str], seconds: float, sizes: Sizes, features: str | None
) -> Iterator[Cell]:
    """All that is tried of the methods, with a seed that is not reported."""
    held = {"sizes": vars(sizes), "features": features}
    for method in methods:
        names = TRIED.get(method, {})
        for values in product(*names.values()) if names else ():
            own = {**TUNED[method], **dict(zip(names, values, strict=True))}
            yield _cell(data, method, SEARCH_SEED, seconds, held, own)


def _cell(
    data: str,
    method: str,
    seed: int,
    seconds: float,
    held: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Cell:
    of = METHODS["VAE" if method == _SECOND else method]
    budget = {"seconds": seconds if of.learns else None, "steps": None if of.learns else 1}
    return Cell(data, method, seed, {**held, "budget": budget, "settings": {**of.settings, **own}})


def run(
    bench: Bench,
    todo: Iterator[Cell],
    keep: bool,
    again: Sequence[str],
    folder: Path,
    name: str = NAME,
) -> list[dict[str, Any]]:
    """Run the cells that are not on record under a name."""
    known = cells.lines(harness.records(FOLDER), name) if keep else []
    write = partial(harness.record, name, folder=FOLDER)
    work = partial(make, bench, folder=folder if keep else None)
    return cells.run(todo, work, known, write if keep else lambda line: None, again)


Column = Callable[[Mapping[str, Any]], float | None]


def _value(name: str, times: float = 1) -> Column:
    return lambda line: None if line.get(name) is None else times * line[name]


COLUMNS: dict[str, Column] = {
    "Fréchet": _value("frechet"),
    "to decoded": _value("frechet_to_decoded"),
    "at half budget": lambda line: line["half"]["frechet_to_decoded"] if "half" in line else None,
    "kernel, x 1000": _value("kernel_x1000"),
    "precision": _value("precision"),
    "recall": _value("recall"),
    "density": _value("density"),
    "coverage": _value("coverage"),
    "classes": _value("classes_tv"),
    "z5, %": _value("z5", 100),
    "nearer": _value("nearer"),
    "CPU-s": _value("seconds"),
}
STACKED_COLUMNS: dict[str, Column] = {
    "modes of 1,000": _value("captured"),
    "KL": _value("reverse_kl"),
    "KL at half budget": lambda line: line["half"]["reverse_kl"] if "half" in line else None,
    "CPU-s": _value("seconds"),
}
DIGITS = dict.fromkeys((*COLUMNS, *STACKED_COLUMNS), 2)
DIGITS |= {"z5, %": 1, "CPU-s": 0, "modes of 1,000": 0, "nearer": 3, "Fréchet": 3}
DIGITS |= {"to decoded": 3, "at half budget": 3, "classes": 3, "KL": 3, "KL at half budget": 3}
ORDER = (REAL, DECODED, *LATENT)


def sets(place: Path) -> list[str]:
    """The data sets of a file of records."""
    return list(dict.fromkeys(line["data"] for line in cells.lines(place, NAME)))


def _problems(place: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """The records by data set and number of fitted images."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in cells.lines(place, NAME):
        found.setdefault((line["data"], line["settings"]["sizes"]["fitted"]), []).append(line)
    return found


def tables(place: Path) -> str:
    """All tables of a file of records."""
    parts = []
    for (data, _), known in _problems(place).items():
        own = cells.newest(known)
        columns = STACKED_COLUMNS if data.startswith("stacked") else COLUMNS
        judge, sizes = own[0]["about"]["judge"], own[0]["settings"]["sizes"]
        spent = [line["about"]["autoencoder_s"] for line in own]
        seconds = max((s for s in spent if s is not None), default=None)
        trained = "kept from another run" if seconds is None else f"{seconds:.0f} CPU-s"
        words = f"{data}: {sizes['fitted']:,} images fitted, autoencoder {trained}, judge {judge}"
        parts.append(f"{words}\n\n{cells.table(own, columns, DIGITS, ORDER)}")
    return "\n\n".join(parts) or cells.NOTHING


def search_table(place: Path) -> str:
    """Every trial of the searches, the nearest to decoded unseen images first."""
    rows = ["| set | method | tried | to decoded | CPU-s |", "| --- | --- | --- | --- | --- |"]
    known = cells.newest_of(cells.lines(place, f"{NAME} search"))
    for line in sorted(known, key=lambda at: (at["data"], at["method"], at["frechet_to_decoded"])):
        own = line["settings"]["settings"]
        words = ", ".join(f"{name} {own[name]}" for name in TRIED[line["method"]])
        rows.append(
            f"| {line['data']} | {line['method']} | {words} | {line['frechet_to_decoded']:.2f} | "
            f"{line['seconds']:.0f} |"
        )
    return "\n".join(rows)


def picture(place: Path, folder: Path, data: str, target: Path, seed: int = 0) -> None:
    """Images of all methods side by side, 32 of each, of the cells whose images are at hand."""
    from matplotlib.figure import Figure

    of_sizes = [lines for (name, _), lines in _problems(place).items() if name == data]
    known = cells.newest(max(of_sizes, key=len, default=[]))
    found = {line["method"]: line for line in known if line["seed"] == seed}
    shown = {name: folder / f"{found[name]['digest']}.npz" for name in ORDER if name in found}
    shown = {name: at for name, at in shown.items() if at.exists()}
    if not shown:
        raise cells.MissingError(
            f"`folder` {folder} holds no images of {data}; run its cells here first."
        )
    columns = 5
    rows = -(-len(shown) // columns)
    figure = Figure((2.3 * columns, 1.5 * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for at in axes.flat:
        at.set_axis_off()
    for at, (name, kept) in zip(axes.flat, shown.items(), strict=False):
        grid = image_grid(np.load(kept)["images"][:32], columns=8, scale=2)
        at.imshow(np.asarray(grid), cmap="gray", interpolation="antialiased")
        at.set_title(name, fontsize=9)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)

"""Decoders: what the dimension of the codes and the training are worth, one decision at a time.

    python benchmarks/decoders.py mnist.npz fashion_mnist.npz    # an hour of one core
    python benchmarks/decoders.py photographs emoji64_noto.npz   # colour; an hour of one core
    python benchmarks/decoders.py digits --quick                 # a smoke test, nothing recorded
    python benchmarks/decoders.py --table                        # what is recorded, as tables

Each data set is anything that ``aeot-jax fit --data`` takes, with labels; ``photographs`` are
squares of 32 pixels of the two photographs that come with scikit-learn, eight classes by photograph
and quarter. The judge is a classifier of the fitted images. Distances are Fréchet distances in its
features, extrapolated to infinitely many images: of unseen images that were encoded and decoded to
other unseen ones ("decoded", which no sampler can do better than on average), of samples to the
same ("samples"), and of samples to decoded unseen images ("gap", which leaves the decoder out).
Samples are drawn five times, and their scores averaged. The grain of plain areas is recorded too,
and of colours their speckle (``speckle.py``), of decoded unseen images and of new ones, beside that
of real ones.
Seconds are CPU-seconds of one thread, compilation in them: of the networks alone, and of the whole
fit. Cells (data, setting, seed) that are on record are left out.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import binding

_PARSER = argparse.ArgumentParser(description="What decoders are worth.")
_PARSER.add_argument("data", nargs="*", help="data sets with labels, or photographs")
_PARSER.add_argument("--settings", nargs="*", help="some of them")
_PARSER.add_argument("--fitted", type=int, default=10_000, help="images to learn from at most")
_PARSER.add_argument("--seeds", type=int, nargs="+", default=[0])
_PARSER.add_argument("--core", type=int, help="the core to run on")
_PARSER.add_argument("--run-dir", type=Path, default=Path("runs/decoders"))
_PARSER.add_argument("--quick", action="store_true", help="few images, nothing recorded")
_PARSER.add_argument("--table", action="store_true", help="print what is recorded")
ARGUMENTS = _PARSER.parse_args()
if not (ARGUMENTS.data or ARGUMENTS.table):
    _PARSER.error("`data` names no data set; pass some, such as digits, or --table.")
binding.bind(ARGUMENTS.core)

from dataclasses import dataclass, replace  # noqa: E402
from functools import lru_cache, partial  # noqa: E402

import cells  # noqa: E402
import harness  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
from cells import Cell  # noqa: E402
from scores import Features, featurizer, frechet_infinite  # noqa: E402
from speckle import grain, speckle  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.data.images import load  # noqa: E402
from aeot_jax.fitting.events import Event  # noqa: E402
from aeot_jax.metrics import fit_features, novelty_report  # noqa: E402
from aeot_jax.plot import image_grid  # noqa: E402

DRAWS = 5
"""Sets of samples, each as large as the unseen images; their scores are averaged."""

BLENDED = {"patches": "blended"}
SHARP = {"chroma": "sharp"}
TILED = {"patches": "tiled"} | SHARP
GRAINY = {"fine_weight": 0.0}
SETTINGS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "default": ({}, {}),
    "cosines": ({}, GRAINY),
    "blended": (BLENDED, GRAINY),
    "blended, sharp chroma": (BLENDED | SHARP, GRAINY),
    **{f"{dim} dimensions": ({"latent_dim": dim}, {}) for dim in (8, 12, 16, 24, 32, 48, 64)},
    "not refined": ({}, {"refine_epochs": 0}),
    "5 epochs refine": ({}, {"refine_epochs": 5}),
    "10 epochs refine": ({}, {"refine_epochs": 10}),
    "20 epochs refine": ({}, {"refine_epochs": 20}),
    "40 epochs, 20 refine": ({}, {"epochs": 40, "refine_epochs": 20}),
    "twice the rate": ({}, {"learning_rate": 6e-3}),
    "half the noise": ({}, {"noise": 0.05}),
    "twice the width": ({"width": 1024}, {}),
    "weight decay 0.1": ({}, {"weight_decay": 0.1}),
    "weight decay 0.5": ({}, {"weight_decay": 0.5}),
    **{
        f"{dim} dimensions, weight decay 0.5": ({"latent_dim": dim}, {"weight_decay": 0.5})
        for dim in (24, 32)
    },
    "weight decay 0.5, not refined": ({}, {"weight_decay": 0.5, "refine_epochs": 0}),
    "weight decay 0.5, 10 epochs refine": ({}, {"weight_decay": 0.5, "refine_epochs": 10}),
    "tiled": (TILED, GRAINY),
    "tiled, not refined": (TILED, {"refine_epochs": 0} | GRAINY),
    "tiled, weight decay 0.5": (TILED, {"weight_decay": 0.5} | GRAINY),
    "tiled, weight decay 0.5, not refined": (
        TILED,
        {"weight_decay": 0.5, "refine_epochs": 0} | GRAINY,
    ),
}
"""Options of the networks and of the training, by name."""
_UNSEEN, _LEAST = (520, 520) if ARGUMENTS.quick else (10_000, 600)
"""Unseen images, and as many others, at most and at least."""
_SEEN = 1_000
"""Images whose speckle and grain are measured."""
_SIDE = 32
"""Of photographs, in pixels, each the mean of four."""


@dataclass(frozen=True, eq=False)
class Split:
    """A data set: images to learn from with their classes, unseen ones, and others."""

    name: str
    fitted: np.ndarray
    labels: np.ndarray
    unseen: np.ndarray
    other: np.ndarray


def photographs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares at random places of two photographs, and eight classes by photograph and quarter."""
    from sklearn.datasets import load_sample_images

    rng, images, labels = np.random.default_rng(0), [], []
    both = load_sample_images().images
    room = np.array(both[0].shape[:2]) - 2 * _SIDE
    middle = room // 2
    for number in range(n):
        photograph = both[number % 2]
        top, left = rng.integers(room)
        square = photograph[top : top + 2 * _SIDE, left : left + 2 * _SIDE].astype(np.float32)
        images.append(square.reshape(_SIDE, 2, _SIDE, 2, 3).mean((1, 3)).round())
        lower, right = top > middle[0], left > middle[1]
        labels.append(4 * (number % 2) + 2 * lower + right)
    return np.array(images, np.uint8), np.array(labels)


def split(source: str) -> Split:
    """Fitted, unseen and other images of a data set, the same for all settings and seeds."""
    fitted = 600 if ARGUMENTS.quick else ARGUMENTS.fitted
    if source == "photographs":
        name, (images, labels) = source, photographs(fitted + 2 * _UNSEEN)
    else:
        data = load(source)
        name, images, labels = data.name, data.images, data.labels
        if labels is None:
            raise ValueError(f"`data` {name} has no labels; pass images with labels.")
    order = np.random.default_rng(0).permutation(len(images))
    fitted = min(fitted, len(images) - 2 * _LEAST)
    learned, rest = order[:fitted], order[fitted:]
    unseen, other = np.array_split(rest[: 2 * _UNSEEN], 2)
    return Split(name, images[learned], labels[learned], images[unseen], images[other])


class Judge:
    """Distances in the features of a classifier of the fitted images."""

    def __init__(self, own: Split):
        self.features = featurizer(fit_features(jax.random.key(1), own.fitted, own.labels))
        self.real, self.others = self.features(own.unseen), self.features(own.other)
        self.floor = self.distance(self.others, self.real)

    def distance(self, made: Features, to: Features) -> float:
        """Extrapolated to infinitely many images."""
        return frechet_infinite(np.random.default_rng(0), made, to).value


@lru_cache(maxsize=1)
def fitted(own: Split, config: aeot.Config, seed: int) -> tuple[aeot.AEOT, float, float]:
    """A model, with the CPU-seconds of its networks and of the whole fit."""
    trained, began = [0.0], time.process_time()

    def note(event: Event) -> None:
        if event.kind == "loss":
            trained[0] = time.process_time() - began

    model = aeot.fit(jax.random.key(seed), own.fitted, config, on_event=note)
    return model, trained[0], time.process_time() - began


def make(own: Split, judge: Judge, cell: Cell) -> dict[str, Any]:
    """Fit one setting, and judge what it decodes and what it samples."""
    networks = aeot.AutoencoderConfig(**cell.settings["networks"])
    training = aeot.TrainConfig(**cell.settings["training"])
    # How colours are shown changes nothing in a fit, so that one fit serves both.
    config = aeot.Config(replace(networks, chroma="sharp"), training)
    model, trained, seconds = fitted(own, config, cell.seed)
    model = replace(model, config=replace(model.config, autoencoder=networks))
    codes = [np.asarray(aeot.encode(model, some)) for some in (own.other, own.unseen)]
    through, back = (np.asarray(aeot.decode(model, z)) for z in codes)
    possible, draws = judge.features(back), []
    for key in jax.random.split(jax.random.key(1000 + cell.seed), DRAWS):
        raw = aeot.sample_codes(key, model, len(own.unseen))
        z = np.asarray((raw - model.centre) / model.scale)
        made = np.asarray(aeot.decode(model, z))
        features, new = judge.features(made), novelty_report(z, model.extension.y, codes[0])
        gap = judge.distance(features, possible)
        draws.append((judge.distance(features, judge.real), gap, new.share_near, new.nearer))
    samples, gap, share_near, nearer = np.mean(draws, axis=0).tolist()
    row = {
        "d": z.shape[1],
        "squared_error_x1000": 1000 * float(np.square(through - own.other / 255.0).mean()),
        "decoded": judge.distance(judge.features(through), judge.real),
        "samples": samples,
        "samples_spread": float(np.std(draws, axis=0, ddof=1)[0]),
        "gap": gap,
        "floor": judge.floor,
        "z5": share_near,
        "nearer": nearer,
        "mass_error": float(model.solution.mass_error),
        "network_s": trained,
        "seconds": seconds,
    }
    row |= textures(own.other, np.rint(255 * through), np.rint(255 * made))
    named = [*COLUMNS.values(), *(name for name in row if name.startswith(("speckle", "grain")))]
    words = "  ".join(f"{name} {row[name]:.3f}" for name in named)
    print(f"{cell.data:16} {cell.method:24} {cell.seed:3}  {words}", flush=True)
    if not ARGUMENTS.quick:
        folder = ARGUMENTS.run_dir / cell.data
        folder.mkdir(parents=True, exist_ok=True)
        for name, images in (("decoded", through), ("samples", made), ("real", own.other)):
            picture = image_grid(images[:64], columns=8, scale=2)
            picture.save(folder / f"{cell.method.replace(' ', '-')}-{name}.png")
    return row


def textures(real: np.ndarray, through: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Of decoded images where their originals are plain, and of new ones by themselves."""
    real, through, made = real[:_SEEN], through[:_SEEN], made[:_SEEN]
    measures = {"speckle": speckle, "grain": grain} if real.shape[3] == 3 else {"grain": grain}
    found = {}
    for name, measure in measures.items():
        found[f"{name}_decoded"] = measure(through, real)
        found[f"{name}_originals"] = measure(real, real)
        found[f"{name}_new"] = measure(made)
        found[f"{name}_real"] = measure(real)
    return found


COLUMNS = {
    "squared error, x 1000": "squared_error_x1000",
    "decoded": "decoded",
    "samples": "samples",
    "gap": "gap",
    "z5": "z5",
    "networks, CPU-s": "network_s",
    "CPU-s": "seconds",
}
DIGITS = {"squared error, x 1000": 1, "networks, CPU-s": 0, "CPU-s": 0, "z5": 3}
DIGITS |= dict.fromkeys(("decoded", "samples", "gap"), 3)


def table() -> None:
    """Means over the seeds, each as it was measured last, a table a data set (Markdown)."""
    known = cells.lines(harness.records(), "decoders")
    if not known:
        raise SystemExit(cells.NOTHING)
    columns = {head: lambda line, name=name: line[name] for head, name in COLUMNS.items()}
    for data, fitted in dict.fromkeys(map(_problem, known)):
        own = cells.newest(line for line in known if _problem(line) == (data, fitted))
        words = f"{data}: {fitted:,} images fitted, floor {own[-1]['floor']:.3f}"
        print(f"{words}\n\n{cells.table(own, columns, DIGITS, list(SETTINGS))}\n")


def _problem(line: Mapping[str, Any]) -> tuple[str, int]:
    return line["data"], line["settings"]["fitted"]


def main() -> None:
    names = cells.chosen("settings", ARGUMENTS.settings, list(SETTINGS))
    if ARGUMENTS.table:
        table()
        return
    if ARGUMENTS.quick:
        names = ["default"]
    known = [] if ARGUMENTS.quick else cells.lines(harness.records(), "decoders")
    for source in ARGUMENTS.data:
        own = split(source)
        judge = Judge(own)
        print(f"{own.name}: {len(own.fitted)} images fitted, floor {judge.floor:.3f}", flush=True)
        todo = []
        for seed in ARGUMENTS.seeds:
            for name in names:
                networks, training = SETTINGS[name]
                if ARGUMENTS.quick:
                    training = {"epochs": 2}
                # The version: other releases have other defaults.
                held = {"fitted": len(own.fitted), "version": aeot.__version__}
                held |= {"networks": networks, "training": training, "draws": DRAWS}
                todo.append(Cell(own.name, name, seed, held))
        keep = (lambda line: None) if ARGUMENTS.quick else partial(harness.record, "decoders")
        cells.run(todo, partial(make, own, judge), known, keep)


if __name__ == "__main__":
    main()

"""Generated images: what each form of the extension makes of one and the same model.

    python benchmarks/images.py mnist.npz fashion_mnist.npz    # some minutes a data set on one core
    python benchmarks/images.py digits --quick                 # a smoke test, nothing recorded
    python benchmarks/images.py mnist.npz --works baselines    # beside other generators of codes
    python benchmarks/images.py mnist.npz --works baselines --search   # their settings
    python benchmarks/images.py mnist.npz --works stacked      # the same of three digits an image
    python benchmarks/images.py mnist.npz --works baselines --table    # of the records

Each data set is anything that ``aeot-jax fit --data`` takes, with labels. A model is fitted to the
first images with default settings; all forms share its autoencoder, codes and heights. Distances
are taken between features of a small classifier, to images that the model has not seen; "test
codes" are such images encoded and decoded, what a perfect law of the codes would give. Cells of
the baselines (set, method, seed) that are on record are left out.
"""

import argparse
from pathlib import Path

import binding

_PARSER = argparse.ArgumentParser(description="Generated images.")
_PARSER.add_argument("data", nargs="+", help="data sets with labels")
_PARSER.add_argument("--quick", action="store_true", help="few images, nothing recorded")
_PARSER.add_argument("--seed", type=int, default=0)
_WORKS = ("forms", "baselines", "stacked")
_PARSER.add_argument("--works", nargs="*", default=["forms"], choices=_WORKS)
_AGAINST = _PARSER.add_argument_group("baselines and stacked")
_AGAINST.add_argument("--methods", nargs="*", help="by default all that make codes")
_AGAINST.add_argument("--search", action="store_true", help="try settings, on another seed")
_AGAINST.add_argument("--seeds", type=int, default=3)
_AGAINST.add_argument("--seconds", type=float, default=30, help="CPU-seconds of each that learns")
_AGAINST.add_argument("--epochs", type=int, help="of the autoencoder")
_AGAINST.add_argument("--fitted", type=int, help="images to learn from")
_AGAINST.add_argument("--features", help="module:function, images to rows; else a classifier's")
_AGAINST.add_argument("--again", nargs="*", default=[], help="methods to run again")
_AGAINST.add_argument("--table", action="store_true", help="tables and pictures of the records")
_AGAINST.add_argument("--run-dir", type=Path, default=Path("runs/baselines"), help="of samples")
ARGUMENTS = _PARSER.parse_args()
if set(ARGUMENTS.works) != {"forms"}:
    binding.bind()  # one core and one thread: CPU-seconds are what is compared

from dataclasses import replace  # noqa: E402
from functools import partial  # noqa: E402

import forms  # noqa: E402
import harness  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.data.images import load  # noqa: E402
from aeot_jax.metrics.features import FeatureMap, extract, fit_features, predict  # noqa: E402
from aeot_jax.metrics.frechet import frechet_distance  # noqa: E402
from aeot_jax.metrics.modes import total_variation  # noqa: E402
from aeot_jax.metrics.newness.memory import memory_report  # noqa: E402
from aeot_jax.metrics.prdc import prdc  # noqa: E402
from aeot_jax.ot.counts.words import in_words  # noqa: E402

NUM_FITTED = 800 if ARGUMENTS.quick else 10_000
NUM_COMPARED = 400 if ARGUMENTS.quick else 10_000
"""Images in each of the sets compared: generated, unseen, and unseen others for the floor."""

_NUM_NEIGHBOURS = 5_000
"""Images of each set in the comparisons of neighbours."""


def work(source: str, keep: bool) -> None:
    """All forms on one data set."""
    data = load(source)
    assert data.labels is not None, f"{source} has no labels"
    order = np.random.default_rng(ARGUMENTS.seed).permutation(len(data))
    fitted, rest = order[:NUM_FITTED], order[NUM_FITTED:]
    unseen, other = rest[:NUM_COMPARED], rest[NUM_COMPARED : 2 * NUM_COMPARED]
    key, feature_key, form_key = jax.random.split(jax.random.key(ARGUMENTS.seed), 3)
    model = aeot.fit(key, data.images[fitted])
    of_labels = fit_features(feature_key, data.images[fitted], data.labels[fitted])
    real = extract(of_labels, data.images[unseen])
    floor = frechet_distance(extract(of_labels, data.images[other]), real)
    shares = np.bincount(data.labels[fitted]) / NUM_FITTED
    codes = np.asarray(model.extension.y)
    test_codes = np.asarray(aeot.encode(model, data.images[other]))
    error = in_words(model.solution.mass_error, model.solution.mass_error_se)
    print(f"{data.name}: floor {floor:.3f}, mass error {error}", flush=True)
    sizes = {"data": data.name, "m": NUM_FITTED, "d": codes.shape[1], "seed": ARGUMENTS.seed}
    sizes |= {"floor": floor, "mass_error": float(model.solution.mass_error)}
    for form, z, rejected in (
        ("codes", codes, 0.0),
        ("test codes", test_codes, 0.0),
        *forms.forms(form_key, model.extension, NUM_COMPARED),
    ):
        if len(z) < NUM_COMPARED // 10:
            print(f"  {form:40} rejects {rejected:.4f}", flush=True)
            row: dict[str, float] = {}
        else:
            row = scores(model, of_labels, real, shares, z, test_codes)
            text = "  ".join(f"{name} {value:.3f}" for name, value in row.items())
            print(f"  {form:40} {text}  rejected {rejected:.3f}", flush=True)
        if keep:
            harness.record("images", {"form": form, **sizes, **row, "rejected": rejected})


def scores(
    model: aeot.AEOT,
    feature_map: FeatureMap,
    real: np.ndarray,
    shares: np.ndarray,
    z: np.ndarray,
    test_codes: np.ndarray,
) -> dict[str, float]:
    """Judge codes by their images, their law and their distance from the data's own codes."""
    images = np.asarray(aeot.decode(model, z))
    features = extract(feature_map, images)
    some = slice(_NUM_NEIGHBOURS)
    neighbours = prdc(real[some], features[some])
    near = memory_report(z[some], model.extension.y, test_codes[some])
    counts = np.bincount(predict(feature_map, images), minlength=len(shares))
    return {
        "frechet": frechet_distance(features, real),
        "precision": neighbours.precision,
        "recall": neighbours.recall,
        "density": neighbours.density,
        "coverage": neighbours.coverage,
        "classes_tv": total_variation(counts, shares),
        "variance": float(z.var(0).mean()),
        "distance_to_codes_over_test": near.median_ratio,
        "copies": near.num_copies / near.num_generated,
    }


def against(work_name: str, source: str, keep: bool) -> None:
    """This library beside other generators of codes, on one decoder; or the tables."""
    import cells
    import latents

    methods = cells.chosen("methods", ARGUMENTS.methods, latents.LATENT)
    folder, place = ARGUMENTS.run_dir, harness.records(latents.FOLDER)
    of_stacked = work_name == "stacked"
    if ARGUMENTS.table and ARGUMENTS.search:
        print(latents.search_table(place))
        return
    if ARGUMENTS.table:
        print(latents.tables(place))
        for data in latents.sets(place):
            target = folder / f"{data.replace(' ', '_')}.png"
            cells.draw(partial(latents.picture, place, folder, data, target))
        return
    binding.release()
    large = latents.STACKED if of_stacked else latents.Sizes()
    small = latents.STACKED_QUICK if of_stacked else latents.QUICK
    given = {"epochs": ARGUMENTS.epochs, "fitted": ARGUMENTS.fitted}
    given = {name: value for name, value in given.items() if value is not None}
    sizes = replace(large if keep else small, **given)
    fit = f"{work_name}-{Path(source).stem}-{sizes.fitted}-{sizes.epochs}-{sizes.latent}"
    run_dir = folder / fit if keep else None
    if of_stacked:
        bench = latents.stacked_bench(source, sizes, run_dir)
    else:
        bench = latents.image_bench(source, sizes, run_dir, ARGUMENTS.features)
    seeds = range(ARGUMENTS.seeds if keep else 1)
    seconds = ARGUMENTS.seconds if keep else 0.1
    name = latents.NAME
    if ARGUMENTS.search:
        name = f"{name} search"
        todo = latents.searched(bench.data, methods, seconds, sizes, ARGUMENTS.features)
    else:
        todo = latents.reported(bench.data, methods, seeds, seconds, sizes, ARGUMENTS.features)
    latents.run(bench, todo, keep, ARGUMENTS.again, folder, name)


def main() -> None:
    for source in ARGUMENTS.data:
        path = Path(source)
        named = str(path) if path.exists() else source
        for name in ARGUMENTS.works:
            if name == "forms":
                work(named, keep=not ARGUMENTS.quick)
            else:
                against(name, named, keep=not ARGUMENTS.quick)


if __name__ == "__main__":
    main()

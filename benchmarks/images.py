"""Generated images: what each form of the extension makes of one and the same model.

    python benchmarks/images.py mnist.npz fashion_mnist.npz    # some minutes a data set on one core
    python benchmarks/images.py digits --quick                 # a smoke test, nothing recorded

Each data set is anything that ``aeot-jax fit --data`` takes, with labels. A model is fitted to the
first images with default settings; all forms share its autoencoder, codes and heights. Distances
are taken between features of a small classifier, to images that the model has not seen; "test
codes" are such images encoded and decoded, what a perfect law of the codes would give.
"""

import argparse
from pathlib import Path

import forms
import harness
import jax
import numpy as np

import aeot_jax as aeot
from aeot_jax.data.images import load
from aeot_jax.metrics.features import FeatureMap, extract, fit_features, predict
from aeot_jax.metrics.frechet import frechet_distance
from aeot_jax.metrics.memory import memory_report
from aeot_jax.metrics.modes import total_variation
from aeot_jax.metrics.prdc import prdc
from aeot_jax.ot.counts.words import in_words

_PARSER = argparse.ArgumentParser(description="Generated images.")
_PARSER.add_argument("data", nargs="+", help="data sets with labels")
_PARSER.add_argument("--quick", action="store_true", help="few images, nothing recorded")
_PARSER.add_argument("--seed", type=int, default=0)
ARGUMENTS = _PARSER.parse_args()

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


def main() -> None:
    for source in ARGUMENTS.data:
        path = Path(source)
        work(str(path) if path.exists() else source, keep=not ARGUMENTS.quick)


if __name__ == "__main__":
    main()

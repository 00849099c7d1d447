"""Novelty against distance: what kernels of local covariance make, beside mixtures and copies.

    python benchmarks/novelty.py mnist.npz fashion_mnist.npz    # ten minutes a data set on one core
    python benchmarks/novelty.py digits --quick                 # a smoke test, nothing recorded
    python benchmarks/novelty.py --bridge                       # what rejection does, in the plane

Each data set is anything that ``aeot-jax fit --data`` takes, with labels. A model of 16 dimensions
is fitted to the first images. All samplers share its decoder. Distances are Frechet distances
between features of a small classifier to images that the model has not seen, encoded and decoded,
which gives copies no credit; novelty is that of ``metrics.novelty_report`` against the codes of the
same images. The likelihood of unseen codes stands beside that of the best Gaussian mixture, with
the standard error of their difference. ``frontier.png`` in the folder of the runs draws all of it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture

import aeot_jax as aeot
from aeot_jax.data.images import load
from aeot_jax.metrics import extract, fit_features, frechet_distance, novelty_report, prdc
from aeot_jax.metrics.features import FeatureMap

_PARSER = argparse.ArgumentParser(description="Novelty against distance.")
_PARSER.add_argument("data", nargs="*", help="data sets with labels")
_PARSER.add_argument("--quick", action="store_true", help="few images, nothing recorded")
_PARSER.add_argument("--bridge", action="store_true", help="two far modes with a bridge")
_PARSER.add_argument("--runs", type=Path, default=Path("runs/novelty"), help="folder of models")
_PARSER.add_argument("--seed", type=int, default=0)
_PARSER.add_argument("--draws", type=int, default=5)
_PARSER.add_argument("--mixtures", type=int, nargs="+", default=[50, 100, 200])
ARGUMENTS = _PARSER.parse_args()
if not (ARGUMENTS.data or ARGUMENTS.bridge):
    _PARSER.error("`data` names no data set; pass some, such as digits, or --bridge.")

NUM_FITTED = 800 if ARGUMENTS.quick else 15_000
NUM_COMPARED = 400 if ARGUMENTS.quick else 10_000
"""Images in each of the sets compared."""

_MIXTURES = (5, 10) if ARGUMENTS.quick else tuple(ARGUMENTS.mixtures)
_NUM_NEIGHBOURS = 3_000
"""Images of each set in the comparisons of neighbours, of the first draw."""

Sampler = Callable[[int], np.ndarray]
"""From the number of a draw to standardised codes."""


def fitted(name: str, images: np.ndarray) -> aeot.AEOT:
    """The model of an earlier run of this script, or a new one; with kernels."""
    path = ARGUMENTS.runs / f"{name}.npz"
    if path.exists():
        model = aeot.load(path)
    else:
        latent = 8 if ARGUMENTS.quick else 16
        config = aeot.Config(autoencoder=aeot.AutoencoderConfig(latent_dim=latent))
        model = aeot.fit(jax.random.key(ARGUMENTS.seed), images, config)
        ARGUMENTS.runs.mkdir(parents=True, exist_ok=True)
        aeot.save(model, path)
    return model


def samplers(
    ext: aeot.Extension, other: np.ndarray, mixtures: dict[int, GaussianMixture]
) -> Iterator[tuple[str, Sampler]]:
    """All that make codes, by name."""
    y, n = np.asarray(ext.y), NUM_COMPARED
    rng = np.random.default_rng(ARGUMENTS.seed)
    yield "unseen codes", lambda i: other
    yield "codes, drawn again", lambda i: y[rng.integers(0, len(y), n)]
    for novelty in (0.0, 0.5, 0.8, 1.0, "blend"):

        def drawn(i: int, novelty: float | str = novelty) -> np.ndarray:
            return np.asarray(aeot.generate(jax.random.key(100 + i), ext, n, novelty=novelty)[0])

        yield f"novelty {novelty}", drawn
    for k, mixture in mixtures.items():

        def from_mixture(i: int, mixture: GaussianMixture = mixture) -> np.ndarray:
            mixture.random_state = i
            return mixture.sample(n)[0]

        yield f"mixture of {k}", from_mixture


def mixtures_of(y: np.ndarray) -> dict[int, GaussianMixture]:
    found = {}
    for k in _MIXTURES:
        began = time.process_time()
        found[k] = GaussianMixture(k, reg_covar=1e-3, random_state=ARGUMENTS.seed).fit(y)
        print(f"  mixture of {k}: {time.process_time() - began:.0f} CPU-s", flush=True)
    return found


def scores(
    make: Sampler,
    model: aeot.AEOT,
    feature_map: FeatureMap,
    test: np.ndarray,
    decoded: np.ndarray,
) -> dict[str, float]:
    """Means over draws, with standard errors."""
    rows = []
    for i in range(ARGUMENTS.draws):
        z = np.asarray(make(i), np.float32)
        features = extract(feature_map, np.asarray(aeot.decode(model, jnp.asarray(z))))
        new = novelty_report(z, model.extension.y, test)
        rows.append((frechet_distance(features, decoded), new.share_near, new.nearer))
        if i == 0:
            some = slice(_NUM_NEIGHBOURS)
            near = prdc(decoded[some], features[some])
    table = np.array(rows)
    errors = table.std(0, ddof=1) / np.sqrt(len(table)) if len(table) > 1 else np.zeros(3)
    names = ("frechet_decoded", "share_near", "nearer")
    found = dict(zip(names, table.mean(0).tolist(), strict=True))
    found |= {f"{name}_se": float(e) for name, e in zip(names, errors, strict=True)}
    return {**found, "density": near.density, "coverage": near.coverage}


def likelihoods(
    ext: aeot.Extension, test: np.ndarray, mixtures: dict[int, GaussianMixture]
) -> dict[str, float]:
    """Of unseen codes, nats: kernels, the best mixture, and their difference with its error."""
    assert ext.noise is not None
    own = np.asarray(aeot.log_density(test, ext.y, ext.noise.kernels), np.float64)
    each = {k: mixture.score_samples(test) for k, mixture in mixtures.items()}
    best = max(each, key=lambda k: each[k].mean())
    ahead = own - each[best]
    return {
        "kernels": float(own.mean()),
        "left_out": float(ext.noise.kernels.log_likelihood),
        "mixture": float(each[best].mean()),
        "components": best,
        "ahead": float(ahead.mean()),
        "ahead_se": float(ahead.std(ddof=1) / np.sqrt(len(ahead))),
    }


def work(source: str) -> dict[str, dict[str, float]]:
    """All samplers on one data set."""
    data = load(source)
    assert data.labels is not None, f"{source} has no labels"
    order = np.random.default_rng(ARGUMENTS.seed).permutation(len(data))
    first, rest = order[:NUM_FITTED], order[NUM_FITTED:]
    unseen, others = rest[:NUM_COMPARED], rest[NUM_COMPARED : 2 * NUM_COMPARED]
    model = fitted(data.name, data.images[first])
    began = time.process_time()
    ext = model.extension
    if ext.noise is None:  # a model of an earlier version
        ext = aeot.calibrate(jax.random.key(ARGUMENTS.seed + 1), ext)
        print(f"  kernels: {time.process_time() - began:.0f} CPU-s", flush=True)
    key = jax.random.fold_in(jax.random.key(ARGUMENTS.seed), 1)
    of_labels = fit_features(key, data.images[first], data.labels[first])
    test, other = (np.asarray(aeot.encode(model, data.images[i])) for i in (unseen, others))
    decoded = extract(of_labels, np.asarray(aeot.decode(model, test)))
    mixtures = mixtures_of(np.asarray(ext.y))
    sizes = {"data": data.name, "m": NUM_FITTED, "d": test.shape[1], "seed": ARGUMENTS.seed}
    likely = likelihoods(ext, test, mixtures)
    print(f"{data.name}: {ext.noise!r}\n  {likely}", flush=True)
    keep("novelty likelihood", {**sizes, **likely})
    table = {}
    for name, make in samplers(ext, other, mixtures):
        table[name] = row = scores(make, model, of_labels, test, decoded)
        text = "  ".join(f"{key} {value:.4f}" for key, value in row.items())
        print(f"  {name:20} {text}", flush=True)
        keep("novelty", {"sampler": name, **sizes, "draws": ARGUMENTS.draws, **row})
    return table


def keep(name: str, row: dict[str, object]) -> None:
    if not ARGUMENTS.quick:
        harness.record(name, row)


def bridge() -> None:
    """Two far modes with a thin bridge: what rejection and form change in the shares of each."""
    rng = np.random.default_rng(ARGUMENTS.seed)
    m = 300 if ARGUMENTS.quick else 2_000
    side = rng.choice([-1.0, 0.0, 1.0], m, p=[0.39, 0.02, 0.59])
    y = np.where(
        side[:, None] == 0, rng.uniform(-3, 3, (m, 1)) * [1.0, 0.0], side[:, None] * [3, 0]
    )
    y = (y + rng.normal(size=(m, 2)) * np.where(side == 0, 0.05, 0.4)[:, None]).astype(np.float32)
    h = aeot.solve_exact(y, source="gaussian").h
    key = jax.random.key(ARGUMENTS.seed)
    ext = aeot.calibrate(key, aeot.extension(key, aeot.Gaussian(2), y, h))
    known = {"left": (y[:, 0] < -1.5).mean(), "between": (np.abs(y[:, 0]) < 1.5).mean()}
    print("codes", known)
    for novelty in (0.0, 1.0, "blend"):
        made, safe, _ = aeot.generate(jax.random.key(9), ext, 100_000, novelty=novelty)
        z, accepted = np.asarray(made), np.asarray(safe)
        for name, kept in (("all", np.ones(len(z), bool)), ("accepted", accepted)):
            some = z[kept]
            row = {
                "left": float((some[:, 0] < -1.5).mean()),
                "between": float((np.abs(some[:, 0]) < 1.5).mean()),
                "far": float((np.abs(some[:, 1]) > 2).mean()),
                "rejected": float(1 - kept.mean()),
            }
            print(f"  novelty {novelty} {name:10} {row}", flush=True)
            keep("novelty bridge", {"novelty": str(novelty), "kept": name, "m": m, **row})


def draw(tables: dict[str, dict[str, dict[str, float]]]) -> None:
    """The frontier of each data set: distance against novelty."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(6 * len(tables), 4.5), squeeze=False)
    for axis, (source, table) in zip(axes[0], tables.items(), strict=True):
        line = [
            row for name, row in table.items() if name.startswith("novelty") and "b" not in name
        ]
        axis.plot(
            [r["share_near"] for r in line], [r["frechet_decoded"] for r in line], "k-", lw=0.8
        )
        for name, row in table.items():
            at = row["share_near"], row["frechet_decoded"]
            axis.errorbar(*at, yerr=2 * row["frechet_decoded_se"], fmt="o", capsize=2)
            axis.annotate(name, at, textcoords="offset points", xytext=(5, 4), fontsize=8)
        axis.axvline(0.05, color="grey", ls=":")
        axis.set(title=Path(source).stem, xlabel="share near (unseen: 0.05)")
        axis.set_ylabel("Frechet distance to decoded unseen images")
    figure.tight_layout()
    ARGUMENTS.runs.mkdir(parents=True, exist_ok=True)
    figure.savefig(ARGUMENTS.runs / "frontier.png", dpi=120)
    print(ARGUMENTS.runs / "frontier.png")


def main() -> None:
    if ARGUMENTS.bridge:
        bridge()
    tables = {source: work(source) for source in ARGUMENTS.data}
    if tables:
        draw(tables)


if __name__ == "__main__":
    main()

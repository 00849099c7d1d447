"""What chooses the defaults: one decision is changed at a time, all else stays at its default.

    python benchmarks/ablations.py                       # digits, three seeds; 20 minutes of CPU
    python benchmarks/ablations.py mnist --fitted 10000  # anything that `aeot-jax fit --data` takes
    python benchmarks/ablations.py --axes source --quick # a smoke test, nothing recorded
    python benchmarks/ablations.py --table               # what is recorded, as tables

Axes: the networks (dimension of the codes, activation), the unit of the codes, the source, the mass
error, the form of the extension and its threshold. Images are compared with images that the model
has not seen, in features of a small classifier: with real ones, and with decoded ones, which leaves
the decoder out. "near" is the share of new codes nearer to a training code than all but the
nearest 5 % of unseen ones, "nearer" the probability to be nearer than an unseen one: 5 % and 0.5
are as new as unseen images are.

A row that is recorded is not measured again, so that a run that was interrupted goes on.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import forms
import harness
import jax
import jax.numpy as jnp
import numpy as np

import aeot_jax as aeot
from aeot_jax.data.images import load
from aeot_jax.metrics.features import FeatureMap, extract, fit_features
from aeot_jax.metrics.frechet import frechet_distance
from aeot_jax.metrics.newness.novelty import novelty_report

AXES = ("source", "error", "units", "threshold", "extension", "networks")
THRESHOLDS = {"half of it": 0.5, "twice": 2.0}

_PARSER = argparse.ArgumentParser(description="One decision at a time.")
_PARSER.add_argument("data", nargs="?", default="digits", help="a data set with labels")
_PARSER.add_argument("--fitted", type=int, default=1_200, help="images to learn from")
_PARSER.add_argument("--seeds", type=int, default=3)
_PARSER.add_argument("--axes", nargs="*", choices=AXES, default=AXES)
_PARSER.add_argument("--quick", action="store_true", help="few images, nothing recorded")
_PARSER.add_argument("--table", action="store_true", help="print what is recorded")
ARGUMENTS = _PARSER.parse_args()

DATA = Path(ARGUMENTS.data).stem
DIMS = (4,) if ARGUMENTS.quick else (4, 16, 24)
ERRORS = (1.0,) if ARGUMENTS.quick else (1.0, 0.5, 0.22, 0.05)
NUM_FITTED = 200 if ARGUMENTS.quick else ARGUMENTS.fitted
NUM_SAMPLES = 500 if ARGUMENTS.quick else 5_000
TRAINING = aeot.TrainConfig(epochs=2, batch_size=50) if ARGUMENTS.quick else aeot.TrainConfig()
SCORES = ("frechet", "decoded", "near", "nearer", "rejected", "mass_error")


@dataclass(frozen=True)
class Judge:
    """What new images are compared with.

    Attributes:
      features: of a classifier of the training images.
      unseen: images that the model has not learned from.
    """

    features: FeatureMap
    unseen: np.ndarray


@dataclass(frozen=True)
class Setting:
    """One decision.

    Attributes:
      axis: what is decided.
      name: how.
      codes: draws standardised codes, with the share rejected and the mass error.
      model: encodes and decodes.
    """

    axis: str
    name: str
    codes: Callable[[jax.Array], tuple[np.ndarray, float, float]]
    model: aeot.AEOT


def settings(seed: int, images: np.ndarray) -> Iterator[Setting]:
    """All that is compared, the default first."""
    base = fitted(seed, images, "default", aeot.AutoencoderConfig())
    key = jax.random.fold_in(jax.random.key(seed), 1)
    yield Setting("default", "default", lambda k: drawn(k, base.extension, base), base)
    yield Setting("floor", "training codes", lambda k: (some(k, base), 0.0, 0.0), base)
    for axis in ARGUMENTS.axes:
        yield from _OF_AXIS[axis](key, seed, images, base)


def _networks(key, seed, images, base) -> Iterator[Setting]:
    del key, base
    made = {f"{dim} dimensions": aeot.AutoencoderConfig(latent_dim=dim) for dim in DIMS}
    made["ReLU"] = aeot.AutoencoderConfig(activation="relu")
    for name, config in made.items():
        if not done(DATA, seed, "networks", name):
            model = fitted(seed, images, name.replace(" ", "-"), config)
            yield Setting("networks", name, lambda k, m=model: drawn(k, m.extension, m), model)


def _units(key, seed, images, base) -> Iterator[Setting]:
    """The unit of the codes in which the transport is solved, the source being N(0, I)."""
    del seed, images
    y = np.asarray(base.extension.y, np.float64)
    raw = y * np.asarray(base.scale, np.float64)
    unit = np.eye(y.shape[1]) * np.asarray(base.scale) / raw.std()
    values, vectors = np.linalg.eigh(np.cov(y.T))
    for name, to in (
        ("one scale for all", unit),
        ("whitened", vectors @ np.diag(values**-0.5) @ vectors.T),
    ):
        ways = jnp.asarray(y @ to, jnp.float32), np.linalg.inv(to)
        yield Setting("units", name, lambda k, w=ways: solved(k, key, base, *w), base)


def _source(key, seed, images, base) -> Iterator[Setting]:
    del seed, images
    d, y = base.extension.y.shape[1], base.extension.y
    for mu in (aeot.UniformCube(d), aeot.UniformBall(d)):
        name = type(mu).__name__
        yield Setting("source", name, lambda k, mu=mu: solved(k, key, base, y, mu=mu), base)


def _error(key, seed, images, base) -> Iterator[Setting]:
    """Heights that stopped where an error was reached; the error is what was certified."""
    del seed, images
    y = base.extension.y
    for error in ERRORS:
        config = aeot.SolverConfig(tolerance=error)
        yield Setting(
            "error", f"{error}", lambda k, c=config: solved(k, key, base, y, config=c), base
        )


def _extension(key, seed, images, base) -> Iterator[Setting]:
    del seed, images
    error = float(base.solution.mass_error)
    for name, z, rejected in forms.forms(key, base.extension, NUM_SAMPLES):
        if name != "default" and len(z) > NUM_SAMPLES // 10:
            yield Setting("extension", name, lambda k, z=z, r=rejected: (z, r, error), base)


def _threshold(key, seed, images, base) -> Iterator[Setting]:
    del key, seed, images
    learned = float(base.extension.threshold)
    made = {name: min(np.pi, factor * learned) for name, factor in THRESHOLDS.items()}
    for name, angle in {**made, "none": np.pi}.items():
        ext = replace(base.extension, threshold=jnp.float32(angle))
        yield Setting("threshold", name, lambda k, e=ext: drawn(k, e, base), base)


_OF_AXIS = {
    "networks": _networks,
    "units": _units,
    "source": _source,
    "error": _error,
    "extension": _extension,
    "threshold": _threshold,
}


def fitted(seed: int, images: np.ndarray, name: str, networks: aeot.AutoencoderConfig) -> aeot.AEOT:
    """A model, from the file of an interrupted run if there is one."""
    path = Path("runs/ablations") / f"{DATA}-{NUM_FITTED}-{seed}-{name}.npz"
    if path.exists() and not ARGUMENTS.quick:
        return aeot.load(path)
    model = aeot.fit(jax.random.key(seed), images, aeot.Config(networks, TRAINING))
    if not ARGUMENTS.quick:
        path.parent.mkdir(parents=True, exist_ok=True)
        aeot.save(model, path)
    return model


def drawn(key: jax.Array, ext: aeot.Extension, model: aeot.AEOT) -> tuple[np.ndarray, float, float]:
    z, rejected = forms.accepted(key, ext, NUM_SAMPLES)
    return z, rejected, float(model.solution.mass_error)


def some(key: jax.Array, model: aeot.AEOT) -> np.ndarray:
    """Training codes again: what remembers everything."""
    rows = jax.random.randint(key, (NUM_SAMPLES,), 0, len(model.extension.y))
    return np.asarray(model.extension.y[rows])


def solved(
    key: jax.Array,
    solve_key: jax.Array,
    model: aeot.AEOT,
    y: jax.Array,
    back: np.ndarray | None = None,
    mu: aeot.Measure | None = None,
    config: aeot.SolverConfig = aeot.SolverConfig(),  # noqa: B008 - frozen
) -> tuple[np.ndarray, float, float]:
    """Codes of a transport that is solved anew, in the unit of the model."""
    keys = jax.random.split(solve_key)
    solution = aeot.solve(keys[0], mu or model.extension.mu, y, config=config)
    z, rejected = forms.accepted(key, aeot.extension(keys[1], solution), NUM_SAMPLES)
    return z if back is None else z @ back, rejected, float(solution.mass_error)


def scores(judge: Judge, setting: Setting, key: jax.Array) -> dict[str, float]:
    """One row."""
    z, rejected, error = setting.codes(key)
    model = setting.model
    unseen = np.asarray(aeot.encode(model, judge.unseen))
    made = extract(judge.features, np.asarray(aeot.decode(model, z)))
    real = extract(judge.features, judge.unseen)
    decoded = extract(judge.features, np.asarray(aeot.decode(model, unseen)))
    new = novelty_report(z, np.asarray(model.extension.y), unseen)
    return {
        "d": z.shape[1],
        "frechet": frechet_distance(made, real),
        "decoded": frechet_distance(made, decoded),
        "near": new.share_near,
        "nearer": new.nearer,
        "rejected": rejected,
        "mass_error": error,
    }


def recorded() -> list[dict]:
    """Rows of this benchmark on this device."""
    path = harness.RESULTS / f"{harness.device()}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines if '"ablations"' in line]
    return [row for row in rows if row["name"] == "ablations"]


def done(data: str, seed: int, axis: str, setting: str) -> bool:
    """Whether a row is there."""
    if ARGUMENTS.quick:
        return False
    wanted = {"data": data, "fitted": NUM_FITTED, "seed": seed, "axis": axis, "setting": setting}
    return any(wanted.items() <= row.items() for row in recorded())


def work(seed: int) -> None:
    """All settings with one seed: of the split, the networks, and the samples."""
    data = load(ARGUMENTS.data)
    assert data.labels is not None, f"{ARGUMENTS.data} has no labels"
    order = np.random.default_rng(seed).permutation(len(data))
    learned, rest = order[:NUM_FITTED], order[NUM_FITTED : NUM_FITTED + 10_000]
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2), 3)
    features = fit_features(keys[0], data.images[learned], data.labels[learned])
    judge = Judge(features, data.images[rest])
    for setting in settings(seed, data.images[learned]):
        if done(DATA, seed, setting.axis, setting.name):
            continue
        row = scores(judge, setting, keys[2])
        text = "  ".join(f"{name} {row[name]:.3f}" for name in SCORES)
        print(f"{seed} {setting.axis:10} {setting.name:38} {text}", flush=True)
        if not ARGUMENTS.quick:
            about = {"data": DATA, "fitted": NUM_FITTED, "unseen": len(rest)}
            about |= {"seed": seed, "axis": setting.axis, "setting": setting.name}
            harness.record("ablations", {**about, **row})


def table() -> None:
    """Mean and half the range over the seeds, a row each (Markdown)."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in recorded():
        if (row["data"], row["fitted"]) == (DATA, NUM_FITTED):
            found.setdefault((row["axis"], row["setting"]), []).append(row)
    if not found:
        sys.exit(f"Nothing is recorded of {NUM_FITTED} images of {DATA}; run without --table.")
    before = {row["seed"]: row["frechet"] for row in found["default", "default"]}
    columns = [*SCORES[:1], "over the default's", *SCORES[1:]]
    print("| axis | setting | seeds |", " | ".join(columns), "|")
    print("| --- | --- | --- |", " --- |" * len(columns), sep="")
    for (axis, setting), rows in found.items():
        values = {name: [row[name] for row in rows] for name in SCORES}
        values["over the default's"] = [row["frechet"] - before[row["seed"]] for row in rows]
        cells = " | ".join(_in_words(values[name]) for name in columns)
        print(f"| {axis} | {setting} | {len(rows)} | {cells} |")


def _in_words(values: list[float]) -> str:
    half = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.2f} ± {half:.2f}"


def main() -> None:
    if ARGUMENTS.table:
        table()
        return
    for seed in range(1 if ARGUMENTS.quick else ARGUMENTS.seeds):
        work(seed)


if __name__ == "__main__":
    main()

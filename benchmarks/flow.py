"""Flow matching on pairs: independent, of optimal minibatches, and semi-discrete.

    python benchmarks/flow.py mnist.npz             # all of it: about half an hour of one core
    python benchmarks/flow.py mnist.npz --resume    # go on: runs on record are left out
    python benchmarks/flow.py --quick               # a smoke test on 8 x 8 digits, nothing recorded

One network is trained on pairs of each coupling, with the same seeds, and judged twice: after the
same number of steps, and after the same CPU-seconds of one thread, the work of the coupling
included: the assignment of each minibatch, the solution of the transport and its products. How many
steps these seconds are follows from what a step, a batch and the solution take when all take turns.
Quality is that of images after 1, 2, 4 and 8 steps of Euler's method, in features of a classifier,
beside the floor of unseen images. "codes" are those of this library's autoencoder, "pixels" images
of 7 x 7. Under a condition the network knows the digit; minibatches are then assigned class by
class, and the semi-discrete pairs are those of `solve_conditional`. Compilation is left out.

Sources: Lipman et al. 2023 (flow matching); Pooladian et al. 2023, Tong et al. 2024 (minibatches);
arXiv 2509.25519 (semi-discrete pairs); Cheng, Schwing 2025 (conditions).
"""

import argparse

import binding

OTHER_TOLERANCES = {"tolerances": (1.0, 0.5, 0.1, 0.05), "tolerances-by-label": (0.1,)}
"""Mass errors by which it is seen where quality stops improving."""
WORKS = (
    *("codes", "tolerances", "codes-by-label", "tolerances-by-label"),
    *("pixels", "pixels-by-label"),
)

_PARSER = argparse.ArgumentParser(description="Flow matching on pairs of three couplings.")
_PARSER.add_argument("data", nargs="?", default="digits", help="images with labels")
_PARSER.add_argument("--quick", action="store_true", help="few digits, nothing recorded")
_PARSER.add_argument("--resume", action="store_true", help="leave out what is on record")
_PARSER.add_argument("--works", nargs="*", choices=WORKS, help="by default all")
_PARSER.add_argument("--seeds", type=int, default=3)
_PARSER.add_argument("--steps", type=int, default=2000, help="what the dearest coupling makes")
_PARSER.add_argument("--run-dir", default="runs/flow", help="where the autoencoder is kept")
ARGUMENTS = _PARSER.parse_args()
binding.bind()

import json  # noqa: E402
import statistics  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import harness  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import velocity  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from velocity import Batch  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.data.images import ImageSet, load  # noqa: E402
from aeot_jax.metrics import extract, fit_features, frechet_distance, memory_report, prdc  # noqa: E402
from aeot_jax.metrics.components import leading_directions  # noqa: E402
from aeot_jax.metrics.features import FeatureMap, predict  # noqa: E402

QUICK = ARGUMENTS.quick
BATCH = 256
EULER_STEPS = (1, 2, 4, 8)
TOLERANCE = 0.22
"""Mass error to solve to: more did not help where it was looked for (arXiv 2509.25519)."""
NUM_FITTED = 600 if QUICK else 10_000
NUM_COMPARED = 400 if QUICK else 5_000
"""Images in each of the sets compared: generated, unseen, and unseen others for the floor."""
NUM_NEIGHBOURS = 400 if QUICK else 2_000
NUM_STEPS = min(ARGUMENTS.steps, 40) if QUICK else ARGUMENTS.steps
SEEDS = 1 if QUICK else ARGUMENTS.seeds
WIDTH = 256
"""Of the network."""
_EPOCHS = 40
"""Of the autoencoder."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be generated, and how it is judged.

    Attributes:
      name: in the records.
      y: targets (m, d); their coordinates have unit variance on average.
      labels: their digits (m,).
      images: from points (n, d) to images.
      features: of a classifier of images.
      real: features of unseen images.
      held_out: other unseen images, as points.
      floors: scores of unseen images, and of those that have gone through codes.
    """

    name: str
    y: np.ndarray
    labels: np.ndarray
    images: Callable[[np.ndarray], np.ndarray]
    features: FeatureMap
    real: np.ndarray
    held_out: np.ndarray
    floors: dict[str, float]


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1], of large ones the means over 4 x 4 pixels."""
    pixels = images.astype(np.float32) / 255
    n, h, w, c = pixels.shape
    return pixels if h < 28 else pixels.reshape(n, h // 4, 4, w // 4, 4, c).mean((2, 4))


def work(name: str, data: ImageSet) -> Work:
    """The targets of a name, and their judge."""
    assert data.labels is not None, f"{data.name} has no labels"
    order = np.random.default_rng(0).permutation(len(data))
    fitted, rest = order[:NUM_FITTED], order[NUM_FITTED:]
    unseen, other = rest[:NUM_COMPARED], rest[NUM_COMPARED : 2 * NUM_COMPARED]
    if name.startswith("pixels"):
        pictures = shrunk(data.images)
        to_points, to_images = flattened(pictures[fitted])
    elif QUICK:
        pictures = shrunk(data.images)
        to_points, to_images = principal(pictures[fitted])
    else:
        pictures = data.images
        config = aeot.Config(training=aeot.TrainConfig(epochs=_EPOCHS))
        folder = Path(ARGUMENTS.run_dir)
        key = jax.random.key(0)
        model = aeot.fit(key, pictures[fitted], config, run_dir=folder, resume=folder.exists())
        to_points = lambda x: np.asarray(aeot.encode(model, x))  # noqa: E731
        to_images = lambda z: np.asarray(aeot.decode(model, z))  # noqa: E731
    features = fit_features(jax.random.key(1), pictures[fitted], data.labels[fitted])
    real, held_out = extract(features, pictures[unseen]), to_points(pictures[other])
    floors = {
        "floor": frechet_distance(extract(features, pictures[other]), real),
        "floor_through_codes": frechet_distance(extract(features, to_images(held_out)), real),
    }
    y = np.ascontiguousarray(to_points(pictures[fitted]), np.float32)
    labels = data.labels[fitted]
    return Work(name, y, labels, to_images, features, real, held_out, floors)


def flattened(pictures: np.ndarray) -> tuple[Callable, Callable]:
    """Pixels as points of unit variance, and back."""
    centre, scale = pictures.mean(0), pictures.std(0).mean()

    def to_points(x: np.ndarray) -> np.ndarray:
        return ((x - centre) / scale).reshape(len(x), -1)

    def to_images(z: np.ndarray) -> np.ndarray:
        return np.clip(np.asarray(z).reshape(-1, *centre.shape) * scale + centre, 0, 1)

    return to_points, to_images


def principal(pictures: np.ndarray, dim: int = 10) -> tuple[Callable, Callable]:
    """Principal components as points of unit variance, and back."""
    shape, flat = pictures.shape[1:], pictures.reshape(len(pictures), -1)
    axes, centre = np.asarray(leading_directions(jax.random.key(0), flat, dim)), flat.mean(0)
    scale = ((flat - centre) @ axes).std(0)

    def to_points(x: np.ndarray) -> np.ndarray:
        return (x.reshape(len(x), -1) - centre) @ axes / scale

    def to_images(z: np.ndarray) -> np.ndarray:
        return np.clip((np.asarray(z) * scale) @ axes.T + centre, 0, 1).reshape(-1, *shape)

    return to_points, to_images


@dataclass(frozen=True, eq=False)
class Contestant:
    """A coupling.

    Attributes:
      name: in the records.
      setup: CPU-seconds before the first batch.
      batch: from a seed to a function that makes batch k.
      mass_error: of its heights; None without.
      tolerance: what it was solved to.
    """

    name: str
    setup: float
    batch: Callable[[int], Callable[[int], Batch]]
    mass_error: float | None = None
    tolerance: float | None = None
    about: tuple[tuple[str, float], ...] = ()


@partial(jax.jit, static_argnums=(0, 1))
def _independent(dim: int, m: int, seed: int, k: int) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(jax.random.key(seed), k)
    noise_key, index_key = jax.random.split(key)
    index = jax.random.randint(index_key, (BATCH,), 0, m, jnp.int32)
    return jax.random.normal(noise_key, (BATCH, dim)), index


@jax.jit
def _rows(y: jax.Array, labels: jax.Array, x: jax.Array, index: jax.Array) -> Batch:
    return x, y[index], labels[index]


def independent(y: jax.Array, labels: jax.Array) -> Contestant:
    """Noise with any target: what flow matching does by itself."""

    def batch(seed: int) -> Callable[[int], Batch]:
        return lambda k: _rows(y, labels, *_independent(y.shape[1], len(y), seed, k))

    return Contestant("independent", 0.0, batch)


def minibatch(y: jax.Array, labels: jax.Array, conditional: bool) -> Contestant:
    """Independent pairs, assigned anew so that distances are least; by classes, if conditional."""
    host, own = np.asarray(y), np.asarray(labels)

    def batch(seed: int) -> Callable[[int], Batch]:
        def made(k: int) -> Batch:
            x, drawn = map(np.asarray, _independent(y.shape[1], len(y), seed, k))
            index = drawn.copy()
            classes = own[drawn] if conditional else np.zeros(BATCH, int)
            for label in np.unique(classes):
                rows = np.flatnonzero(classes == label)
                gain = x[rows] @ host[drawn[rows]].T
                index[rows] = drawn[rows][linear_sum_assignment(gain, maximize=True)[1]]
            return _rows(y, labels, jnp.asarray(x), jnp.asarray(index))

        return made

    return Contestant("minibatch", 0.0, batch)


def semidiscrete(work: Work, labels: jax.Array, tolerance: float, conditional: bool) -> Contestant:
    """Pairs of the solved transport; the first solution of all is not counted, as it compiles."""
    mu = aeot.Gaussian(work.y.shape[1])
    start = "voronoi" if QUICK else "auto"  # one start is half to compile
    config = aeot.SolverConfig(tolerance=tolerance, start=start, parallel="none")

    def solved() -> Any:
        key = jax.random.key(0)
        if conditional:
            beta = 4.0 if QUICK else "auto"
            return aeot.solve_conditional(key, mu, work.y, work.labels, beta, config)
        return aeot.solve(key, mu, work.y, None, config)

    if tolerance == TOLERANCE:
        solved()
    began = harness.seconds()
    found = jax.block_until_ready(solved())
    setup = harness.seconds() - began
    if not conditional:

        def batch(seed: int) -> Callable[[int], Batch]:
            c = aeot.coupling(found, seed=seed, batch_size=BATCH)
            return lambda k: _labelled(labels, *c[k])

        error = float(found.mass_error)
        return Contestant("semi-discrete", setup, batch, error, tolerance)

    def batch_of_classes(seed: int) -> Callable[[int], Batch]:
        c = found.coupling(seed=seed, batch_size=BATCH)
        return lambda k: _given(*c[k])

    about = tuple((n, float(getattr(found, n))) for n in ("beta", "leakage", "kept"))
    error = float(found.solution.mass_error)
    return Contestant("semi-discrete", setup, batch_of_classes, error, tolerance, about)


@jax.jit
def _labelled(labels: jax.Array, x: jax.Array, y: jax.Array, index: jax.Array) -> Batch:
    return x, y, labels[index]


def _given(x: jax.Array, z: jax.Array, y: jax.Array, index: jax.Array) -> Batch:
    return x, y, z


def judged(
    work: Work, graph: Any, params: Any, seed: int, conditional: bool
) -> Iterator[tuple[str, Any]]:
    """Straightness of a trained flow, and quality by the steps of Euler's method."""
    rng = np.random.default_rng(1_000 + seed)
    x = jnp.asarray(rng.standard_normal((NUM_COMPARED, work.y.shape[1]), np.float32))
    asked = rng.choice(work.labels, NUM_COMPARED) if conditional else np.zeros(NUM_COMPARED, int)
    label = jnp.asarray(asked)
    some = slice(NUM_NEIGHBOURS)
    yield from velocity.straightness(graph, params, x[some], label[some]).items()
    for num_steps in EULER_STEPS:
        z = np.asarray(velocity.flow(graph, params, x, label, num_steps))
        pictures = work.images(z)
        found = extract(work.features, pictures)
        yield f"frechet_{num_steps}", frechet_distance(found, work.real)
        if conditional:
            right = predict(work.features, pictures) == asked
            yield f"right_labels_{num_steps}", float(right.mean())
    near = prdc(work.real[some], found[some])
    yield "precision", near.precision
    yield "recall", near.recall
    memory = memory_report(z[some], work.y, work.held_out[some])
    yield "distance_to_targets_over_unseen", memory.median_ratio


def seconds_of(contestants: list[Contestant], shape: tuple[int, int, int]) -> dict[str, float]:
    """CPU-seconds of a step and of a batch of each coupling; all take turns."""
    runs = {}
    for contestant in contestants:
        make = contestant.batch(0)
        numbers = iter(range(10**9))
        runs[contestant.name] = lambda make=make, numbers=numbers: [
            make(next(numbers)) for _ in range(4)
        ]
    given = contestants[0].batch(0)(0)
    held = {}
    held["graph"], held["training"] = velocity.begin(0, *shape)

    def steps() -> object:
        for _ in range(4):
            held["training"] = velocity.step(
                held["graph"], held["training"], jax.random.key(0), given
            )
        return held["training"]

    timings = harness.interleave({"step": steps, **runs}, 3 if QUICK else 25)
    return {name: statistics.median(timing.work) / 4 for name, timing in timings.items()}


def compare(
    work: Work,
    contestants: list[Contestant],
    seconds: dict[str, float],
    conditional: bool,
    last: str,
) -> None:
    """Train on every coupling with every seed, and judge after equal steps, or seconds, too."""
    shape = shape_of(work, conditional)
    for seed in range(SEEDS):
        for contestant in contestants:
            cost = seconds["step"] + seconds[contestant.name]
            steps = max(1, int((seconds["budget"] - contestant.setup) / cost))
            row = named(work, conditional, contestant.name, contestant.tolerance, seed)
            if row in on_record("flow", row):
                continue
            began = harness.seconds()
            marks = {"equal steps": NUM_STEPS, "equal seconds": steps}
            marks = {name: marks[name] for name in ("equal steps", last)}
            graph, kept = velocity.train(seed, shape, contestant.batch(seed), marks)
            spent = harness.seconds() - began
            more = {"mass_error": contestant.mass_error, "setup_s": contestant.setup}
            more |= {"step_s": seconds["step"], "batch_s": seconds[contestant.name]}
            more |= {"budget_s": seconds["budget"], "steps_of_budget": steps, "spent_s": spent}
            more |= dict(contestant.about) | work.floors
            for name, params in kept.items():
                if steps == NUM_STEPS and name == "equal seconds":
                    more[name] = more["equal steps"]
                else:
                    more[name] = dict(judged(work, graph, params, seed, conditional))
            more["judged_s"] = harness.seconds() - began - spent
            shown(row, more)
            if not QUICK:
                harness.record("flow", row | more)


def shown(row: dict, more: dict) -> None:
    for name in ("equal steps", "equal seconds"):
        if name not in more:
            continue
        found = more[name]
        values = " ".join(f"{found[f'frechet_{k}']:7.3f}" for k in EULER_STEPS)
        steps = row["steps"] if name == "equal steps" else more["steps_of_budget"]
        print(
            f"{row['work']:7}{row['kind']:14} {row['coupling']:13} {row['tolerance'] or '':4} "
            f"seed {row['seed']} {steps:6} steps, bent {found['bent']:.4f}, Frechet {values} "
            f"(floors {more['floor']:.3f}, {more['floor_through_codes']:.3f})",
            flush=True,
        )


def shape_of(work: Work, conditional: bool) -> tuple[int, int, int]:
    """Dimension, labels and width of the network."""
    return work.y.shape[1], int(work.labels.max()) + 1 if conditional else 1, WIDTH


def named(
    work: Work, conditional: bool, coupling: str, tolerance: float | None, seed: int
) -> dict[str, Any]:
    """What determines a run."""
    kind = "conditional" if conditional else "unconditional"
    row = {"work": work.name, "kind": kind, "coupling": coupling, "tolerance": tolerance}
    row |= {"seed": seed, "steps": NUM_STEPS, "m": len(work.y), "d": work.y.shape[1]}
    return row | {"width": WIDTH, "batch": BATCH}


def on_record(name: str, like: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a name that a run to be resumed need not make again, by the keys of another."""
    place = harness.RESULTS / f"{harness.device()}.jsonl"
    if not ARGUMENTS.resume or not place.exists():
        return []
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    return [{key: line[key] for key in like} for line in lines if line["name"] == name]


def costs(
    work: Work, conditional: bool, contestants: list[Contestant], setup: float
) -> dict[str, float]:
    """CPU-seconds of a step and of each batch, and what the dearest contestant takes in all."""
    row = named(work, conditional, "all", TOLERANCE, 0)
    for found in on_record("flow seconds", row | {"seconds": {}}):
        if found | {"seconds": {}} == row | {"seconds": {}}:
            return found["seconds"]
    seconds = seconds_of(contestants, shape_of(work, conditional))
    totals = [c.setup + NUM_STEPS * (seconds["step"] + seconds[c.name]) for c in contestants]
    seconds |= {"budget": max(totals), "solve": setup}
    if not QUICK:
        harness.record("flow seconds", row | {"seconds": seconds})
    return seconds


def table(work: Work, conditional: bool, tolerances: tuple[float, ...] = ()) -> None:
    """All contestants of a work; further tolerances, if any, have the seconds of the first."""
    y, judged_at = jnp.asarray(work.y), "equal steps" if tolerances else "equal seconds"
    labels = jnp.asarray(work.labels if conditional else np.zeros(len(work.y), int))
    default = semidiscrete(work, labels, TOLERANCE, conditional)
    contestants = [independent(y, labels), minibatch(y, labels, conditional), default]
    seconds = costs(work, conditional, contestants, default.setup)
    told = ", ".join(f"{name} {value:.4g}" for name, value in seconds.items())
    print(f"{work.name}, CPU-seconds: {told}", flush=True)
    if tolerances:
        contestants = [semidiscrete(work, labels, t, conditional) for t in tolerances]
    compare(work, contestants, seconds, conditional, judged_at)


def main() -> None:
    data = load(ARGUMENTS.data)
    works: dict[str, Work] = {}
    for name in ARGUMENTS.works or (("codes", "codes-by-label") if QUICK else WORKS):
        of = "pixels" if name.startswith("pixels") else "codes"
        if of not in works:
            works[of] = work(of, data)
        table(works[of], name.endswith("by-label"), OTHER_TOLERANCES.get(name, ()))


if __name__ == "__main__":
    main()

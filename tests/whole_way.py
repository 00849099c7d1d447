"""The whole way in a process of its own, whose JAX is set by environment variables.

``python whole_way.py PARTS [legacy]`` prints a line of JSON: for each stage a hash of the bits of
its results with the mean of each array, or what it raised; and the status of a solve. PARTS is
"main"; "all", which walks the rest of the package, too; "short", the transport alone; "solve", its
heights and its map; or "tiny", the main way with so few steps that it need not be compiled. Keys
are typed or legacy. The stages share sizes and options, so that little is traced twice.
"""

import hashlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tiny

import aeot_jax as aeot
from aeot_jax.numerics import is_typed_key
from aeot_jax.ot.counts.ways.table import Sampling

M = 50
RNG = np.random.default_rng(0)
Y = RNG.normal(size=(M, 7)).astype(np.float32)
NU = RNG.uniform(0.5, 1.5, M)
NU = (NU / NU.sum()).astype(np.float32)
POINTS: Any = RNG.normal(size=(400, 3))

TINY, ALL = (sys.argv[1:2] == [parts] for parts in ("tiny", "all"))
D = 6 if TINY else 4  # beyond 5 dimensions the kernel takes few operations, if large ones
Z, Y3, Y2 = Y[:, :D], Y[:, :3], Y[:, :2]
X = Z[:5] / 2
MU = aeot.Gaussian(D)
IMAGES, LABELS = tiny.images(M), np.arange(M) % 2
SOLVER = aeot.SolverConfig(tolerance=0.3)
if sys.argv[1:2] == ["solve"]:
    SOLVER = replace(SOLVER, start="gaussian")  # without a choice of starts, which compiles longest
if TINY:
    SOLVER = aeot.SolverConfig(
        tolerance=None, max_steps=1, sampling="independent", start="voronoi", batch_size=4096
    )
CONFIG = aeot.Config(
    aeot.AutoencoderConfig(kind="mlp", latent_dim=D, width=8),
    aeot.TrainConfig(epochs=1, batch_size=25),
    solver=SOLVER,
    extension=aeot.ExtensionConfig(num_samples=512),
)

made: dict[str, Any] = {}
"""What each stage has made, for those after it."""


def few_steps(sampling: Sampling, **settings: Any) -> aeot.SolverConfig:
    settings = {"max_steps": 12, "batch_size": 256, "tolerance": None, **settings}
    return aeot.SolverConfig(sampling=sampling, **settings)


def own_loop(key: jax.Array) -> aeot.SolverState:
    state = aeot.init(key, MU, Z, NU)
    return aeot.step(aeot.step(state, MU, Z, NU), MU, Z, NU)


def potentials(_: jax.Array) -> Any:
    h = made["solve"].h
    psi = aeot.dual(Z, h)
    slopes = jax.grad(aeot.energy, (0, 1, 2, 3))(h, X, Z, NU)
    slope = jax.grad(aeot.kantorovich)(X[0], Z, h)
    return psi, aeot.kantorovich(X, Z, h), aeot.c_transform(X, Z, psi), slopes, slope


def fit(key: jax.Array) -> aeot.AEOT:
    model = aeot.fit(key, IMAGES, CONFIG, labels=LABELS if ALL else None)
    return replace(model, seconds=dict.fromkeys(model.seconds, np.float32(0)))


def saved_and_loaded(_: jax.Array) -> aeot.AEOT:
    with tempfile.TemporaryDirectory() as folder:
        aeot.save(made["fit"], Path(folder) / "model.npz")
        return aeot.load(Path(folder) / "model.npz")


MAIN: dict[str, Callable[[jax.Array], Any]] = {
    "solve": lambda key: aeot.solve(key, MU, Z, NU, SOLVER),
    "solve exactly": lambda key: aeot.solve(key, aeot.Gaussian(2), Y2, NU),
    "certify": lambda key: aeot.certify(key, MU, Z, made["solve"].h, NU, num_samples=1000),
    "transport": lambda _: aeot.transport(X, Z, made["solve"].h),
    "wasserstein": lambda key: aeot.wasserstein(key, MU, Z, made["solve"].h, NU, 1000),
    "extension": lambda key: aeot.extension(key, MU, Z, made["solve"].h, NU, num_samples=512),
    "generate": lambda key: aeot.generate(key, made["extension"], 64),
    "pairs": lambda key: list(islice(aeot.pairs(key, MU, Z, made["solve"].h, batch_size=64), 2)),
    "solve_classes": lambda key: aeot.solve_classes(key, MU, Z, LABELS, SOLVER, num_samples=512),
    "fit": fit,
    "save and load": saved_and_loaded,
    "sample": lambda key: aeot.sample(key, made["save and load"], 20),
}

PARTS = {
    "solve": ["solve", "certify", "transport"],
    "short": [*list(MAIN)[:4], "wasserstein", "extension", "generate"],
}


def features(key: jax.Array) -> Any:
    from aeot_jax.metrics import features

    config = features.ClassifierConfig(num_features=8, width=8, epochs=1, batch_size=20)
    images = IMAGES[..., None]
    maps = [features.fit_features(key, images, labels, config) for labels in (None, LABELS)]
    return [features.extract(one, images) for one in maps], features.predict(maps[1], images)


def distances(key: jax.Array) -> Any:
    from aeot_jax.metrics import distances, frechet, prdc

    scores = prdc(Y[:30], Y[20:]), frechet.kernel_distance(key, Y[:25], Y[25:], num_blocks=2)
    return distances.nearest(Y[:9], Y[9:]), [list(vars(score).values()) for score in scores]


def extensions(key: jax.Array) -> Any:
    from aeot_jax.ot.extension import barycentric

    centres = aeot.mass_centres(key, aeot.Gaussian(3), Y3, -(Y3**2).sum(1) / 2, num_samples=4096)
    x = Y3[:6] / 2
    return (
        centres.merge(centres),
        aeot.barycentric(x, Y3, centres),
        barycentric.inverse_distance(x, Y3, centres, 3),
        aeot.simplicial(x, Y3, aeot.triangulate(centres)),
        aeot.smooth_brenier(X, Z, made["solve"].h, 0.3),
        aeot.smooth_transport(X, Z, made["solve"].h, 0.3),
    )


def toys(key: jax.Array) -> Any:
    from aeot_jax.data import toy

    sets = [make(key, 20) for make in (toy.moons, toy.swiss_roll, toy.ring)]
    return [(one.points, one.labels, one.distance and one.distance(one.points)) for one in sets]


def drawn(key: jax.Array) -> Any:
    laws = aeot.UniformBall(3), aeot.UniformCube(3), aeot.Empirical(POINTS)
    return [law.sample(key, 20) for law in laws]


def walk(_: jax.Array) -> Any:
    made_of = vars(aeot.interpolate(made["fit"], np.full(D, -1.0), np.full(D, 1.0)))
    return [made_of[name] for name in ("z", "images", "rejected", "crossings")]


REST: dict[str, Callable[[jax.Array], Any]] = {
    "orbits": lambda key: aeot.solve(
        key, aeot.UniformBall(4), Z, NU, few_steps("orbits", method="adam", plateau_steps=4)
    ),
    "blocks": lambda key: aeot.solve(key, aeot.UniformCube(7), Y, None, few_steps("independent")),
    "sample of a class": lambda key: aeot.sample(key, made["fit"], 20, label=1),
    "a cloud": lambda key: aeot.solve(
        key, aeot.Empirical(POINTS), Y3, NU, few_steps("independent")
    ),
    "published": lambda key: aeot.solve(
        key, aeot.UniformCube(4), Z, NU, aeot.SolverConfig.paper(M, tolerance=None, max_steps=8)
    ),
    "shard_map": lambda key: aeot.solve(
        key, MU, Z, NU, few_steps("independent", parallel="shard_map")
    ),
    "pmap": lambda key: aeot.solve(key, MU, Z, NU, few_steps("independent", parallel="pmap")),
    "solve_jit": lambda key: aeot.solve_jit(key, MU, Z, NU, num_steps=12),
    "own loop": own_loop,
    "top_k": lambda _: aeot.top_k(X, Z, made["solve"].h, 3),
    "potentials": potentials,
    "singular_set": lambda key: list(aeot.singular_set(key, made["extension"])),
    "extensions": extensions,
    "one target": lambda key: aeot.extension(key, MU, Z[:1], np.zeros(1)),
    "codes": lambda _: aeot.decode(made["fit"], aeot.encode(made["fit"], IMAGES / 255)),
    "walk": walk,
    "drawn": drawn,
    "toys": toys,
    "features": features,
    "distances": distances,
}


def leaves(tree: Any) -> Iterator[np.ndarray]:
    for leaf in jax.tree.leaves(tree):
        yield np.asarray(jax.random.key_data(leaf) if is_typed_key(leaf) else leaf)


def told(result: Any) -> dict[str, Any]:
    """A hash of the bits and dtypes, the mean of what is finite, and of a solve its status."""
    found, means = hashlib.sha256(), []
    for array in leaves(result):
        found.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        known = np.asarray(array, np.float64)
        means.append(float(known[np.isfinite(known)].sum() / max(1, known.size)))
    words: dict[str, Any] = {"bits": found.hexdigest()[:16], "means": means}
    solution = getattr(result, "solution", result)
    if isinstance(solution, aeot.Solution):
        words["status"] = np.asarray(solution.status).tolist()
    return words


def main(parts: str, legacy: bool) -> None:
    stages = MAIN | REST if parts == "all" else MAIN
    if parts in PARTS:
        stages = {name: MAIN[name] for name in PARTS[parts]}
    if parts == "tiny":  # each class is a solve
        stages = {name: stage for name, stage in stages.items() if name != "solve_classes"}
    make_key = jax.random.PRNGKey if legacy else jax.random.key
    found: dict[str, Any] = {}
    for number, (name, function) in enumerate(stages.items()):
        started = time.process_time()
        try:
            made[name] = function(make_key(number))
            found[name] = told(made[name])
        except Exception as error:  # what follows is tried, too
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(name, round(time.process_time() - started, 2), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], "legacy" in sys.argv[2:])

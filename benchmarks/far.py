"""Targets at more than one scale: samples until a solve is certified, with far groups and without.

    python benchmarks/far.py            # all sets, three seeds: half an hour of a core
    python benchmarks/far.py --quick    # a smoke test, nothing recorded

Clusters a hundred and more widths apart, a tight cluster beside or inside of a broad one, clusters
of unequal width, pairs that are nearly copies, pairs in clusters far apart, and points of a curve.
"nested" is the default, which looks for such groups after a far miss, or anneals heights; "one
scale" does neither: Adam, then Newton steps (``adam_share=0.1`` asks for it). Both may draw
``--most`` samples a target.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import harness
import jax
import numpy as np
from numpy.typing import NDArray

import aeot_jax as aeot

_Points = NDArray[np.floating]
_Rng = np.random.Generator


def apart(rng: _Rng, m: int, d: int, distance: float) -> _Points:
    """Ten clusters of width 1 and random weights, their centres a normal law of this width."""
    centres = distance * rng.normal(size=(10, d))
    return centres[rng.choice(10, m, p=rng.dirichlet(np.ones(10)))] + rng.normal(size=(m, d))


def tight(rng: _Rng, m: int, d: int, width: float, distance: float) -> _Points:
    """Two thirds in a cluster of this width, a third in one of width 1 at this distance."""
    is_tight = np.arange(m)[:, None] % 3 > 0
    y = rng.normal(size=(m, d)) * np.where(is_tight, width, 1.0)
    y[:, 0] += distance * is_tight[:, 0]
    return y


def widths(rng: _Rng, m: int, d: int, distance: float) -> _Points:
    """Three clusters of widths 1, 0.01 and 10 at this distance from each other."""
    label = np.arange(m) % 3
    y = rng.normal(size=(m, d)) * np.array([1, 0.01, 10])[label][:, None]
    return y + distance * np.eye(3, d)[label]


def copies(rng: _Rng, m: int, d: int, noise: float) -> _Points:
    """A third are pairs that differ by so much noise."""
    y, pairs = rng.normal(size=(m, d)), m // 6
    y[:pairs] = y[pairs : 2 * pairs] + noise * rng.normal(size=(pairs, d))
    return y


def nested(rng: _Rng, m: int, d: int) -> _Points:
    """The same with noise 0.01, in three clusters a thousand widths apart."""
    return copies(rng, m, d, 0.01) + 1000 * rng.normal(size=(3, d))[np.arange(m) // 6 % 3]


def curve(rng: _Rng, m: int, d: int, noise: float) -> _Points:
    """Random places on a closed curve of three harmonics, of size 1, and noise."""
    t = rng.uniform(0, 2 * np.pi, (m, 1))
    y = noise * rng.normal(size=(m, d))
    for j in (1, 2, 3):
        y += (np.cos(j * t) * rng.normal(size=d) + np.sin(j * t) * rng.normal(size=d)) / j
    return y


SETS: dict[str, Callable[[_Rng, int, int], _Points]] = {
    "ten clusters 30 widths apart": partial(apart, distance=30),
    "ten clusters 1,000 apart": partial(apart, distance=1000),
    "a tight cluster (0.01) inside": partial(tight, width=0.01, distance=0),
    "a tight cluster (0.001) inside": partial(tight, width=0.001, distance=0),
    "a tight cluster (0.01) beside": partial(tight, width=0.01, distance=10),
    "widths 1, 0.01, 10": partial(widths, distance=100),
    "pairs, noise 0.0001": partial(copies, noise=0.0001),
    "pairs, noise 0.01": partial(copies, noise=0.01),
    "pairs in clusters far apart": nested,
    "points of a curve": partial(curve, noise=0.0),
    "points of a curve, noise 0.01": partial(curve, noise=0.01),
}
DIMS = 3, 5, 16, 64


def solved(y: NDArray[np.float32], seed: int, config: aeot.SolverConfig) -> aeot.Solution:
    """One solve."""
    return aeot.solve(jax.random.key(seed), aeot.Gaussian(y.shape[1]), y, config=config)


def row(name: str, m: int, d: int, seeds: int, most: int, tolerance: float) -> dict[str, object]:
    """Both ways on one set, one draw of the targets and one key a seed."""
    found: dict[str, object] = {"set": name, "m": m, "d": d, "seeds": seeds, "most": most}
    found |= {"tolerance": tolerance}
    for way, share in (("nested", None), ("one scale", 0.1)):
        config = aeot.SolverConfig(
            tolerance, method="newton", max_samples=most * m, adam_share=share
        )
        samples, converged, errors = [], 0, []
        started = time.process_time()
        for seed in range(seeds):
            y = SETS[name](np.random.default_rng(seed), m, d).astype(np.float32)
            solution = solved(y, seed, config)
            samples.append(int(solution.num_samples) / m)
            errors.append(float(solution.mass_error))
            converged += bool(solution.converged)
        cpu = (time.process_time() - started) / seeds
        found[way] = {
            "converged": converged,
            "samples_per_target": samples,
            "mass_error": errors,
            "cpu_s": cpu,
        }
    return found


def main() -> None:
    """Every set in every dimension."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small set, nothing recorded")
    parser.add_argument("--targets", type=int, default=1200, help="m; default: 1200")
    parser.add_argument("--most", type=int, default=2000, help="samples a target; default: 2000")
    parser.add_argument("--seeds", type=int, default=3, help="default: 3")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS), help="default: all")
    parser.add_argument("--dims", type=int, nargs="*", default=DIMS, help="default: 3 5 16 64")
    arguments = parser.parse_args()
    if arguments.quick:
        print(row("widths 1, 0.01, 10", 120, 4, 1, 300, 0.3))
        return
    for d in arguments.dims:
        for name in arguments.sets:
            found = row(name, arguments.targets, d, arguments.seeds, arguments.most, 0.3)
            harness.record("far", found)
            print(found, flush=True)


if __name__ == "__main__":
    main()

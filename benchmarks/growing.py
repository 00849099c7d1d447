"""A tenth of new targets: what extended heights are worth, and what a warm solve saves.

    python benchmarks/growing.py            # five kinds of codes, m = 4,000; about ten minutes
    python benchmarks/growing.py --quick    # a smoke test, nothing recorded

For each kind of codes and each seed: the mass error of the old heights on the old targets, of
extended heights and of the own start of the solver on all targets, and the samples of a cold and of
a warm solve, those that check beside those that move the heights.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import harness
import jax
import laws
import numpy as np

import aeot_jax as aeot

_SEEDS = 3
_SAMPLES = 400_000
"""Samples that measure a mass error."""


def normal(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d)) * np.linspace(0.3, 2, d)


def clusters(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    centres, widths = 2 * rng.normal(size=(10, d)), rng.uniform(0.1, 1, 10)
    own = rng.integers(0, 10, m)
    return centres[own] + rng.normal(size=(m, d)) * widths[own][:, None]


def surface(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    flat, bent = rng.normal(size=(2, 3, d))
    u = rng.normal(size=(m, 3))
    return np.tanh(u @ flat) + 0.1 * np.sin(u @ bent) + 0.02 * rng.normal(size=(m, d))


KINDS: dict[str, tuple[Callable[[np.random.Generator, int, int], np.ndarray], int]] = {
    "normal": (normal, 16),
    "student": (partial(laws.student, freedom=4), 24),
    "lognormal": (laws.radial, 16),
    "clusters": (clusters, 16),
    "surface": (surface, 32),
}


def grow(name: str, m: int, seed: int, keep: bool) -> None:
    """Solve for m targets, then for a tenth more, cold and warm."""
    sample, d = KINDS[name]
    y = sample(np.random.default_rng(seed), m + m // 10, d).astype(np.float32)
    mu = aeot.Gaussian(d)
    keys = jax.random.split(jax.random.key(seed), 5)
    old, cold = aeot.solve(keys[0], mu, y[:m]), aeot.solve(keys[1], mu, y)
    warm = aeot.solve(keys[2], mu, y, h0=old)
    h0, begun = aeot.extend_heights(y[:m], old.h, y), aeot.init(keys[3], mu, y).heights

    def error(h: jax.Array) -> float:
        return float(aeot.certify(keys[4], mu, y, h, None, _SAMPLES).mass_error)

    row = {
        "work": f"{name} m={m} d={d}",
        "seed": seed,
        "old_error": float(old.mass_error),
        "extended_error": error(h0),
        "own_start_error": error(begun),
        "cold_samples": int(cold.num_samples),
        "warm_samples": int(warm.num_samples),
        "ratio": int(warm.num_samples) / int(cold.num_samples),
        "cold_checks": int(cold.num_check_samples),
        "warm_checks": int(warm.num_check_samples),
        "cold_error": float(cold.mass_error),
        "warm_error": float(warm.mass_error),
    }
    if keep:
        harness.record("growing", row)
    print(row, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Heights for new targets.")
    parser.add_argument("--quick", action="store_true", help="small works, nothing recorded")
    arguments = parser.parse_args()
    size, seeds = (400, 1) if arguments.quick else (4_000, _SEEDS)
    for kind, own_seed in itertools.product(KINDS, range(seeds)):
        grow(kind, size, own_seed, not arguments.quick)

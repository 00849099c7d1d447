"""A tenth of new targets: what extended heights are worth, and what a warm solve saves.

    python benchmarks/growing.py            # five kinds of codes, m = 4,000; about ten minutes
    python benchmarks/growing.py --quick    # a smoke test, nothing recorded

For each kind of codes: the mass error of the old heights on the old targets, of extended heights
and of the own start of the solver on all targets, and the samples of a cold and of a warm solve.
"""

import argparse
from collections.abc import Callable

import harness
import jax
import numpy as np

import aeot_jax as aeot

_KEY = jax.random.key(1)
_SAMPLES = 400_000
"""Samples that measure a mass error."""


def normal(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d)) * np.linspace(0.3, 2, d)


def student(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    return rng.standard_t(4, size=(m, d))


def lognormal(rng: np.random.Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d)) * np.exp(0.7 * rng.normal(size=(m, 1)))


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
    "student": (student, 24),
    "lognormal": (lognormal, 16),
    "clusters": (clusters, 16),
    "surface": (surface, 32),
}


def grow(name: str, m: int, keep: bool) -> None:
    """Solve for m targets, then for a tenth more, cold and warm."""
    sample, d = KINDS[name]
    y = sample(np.random.default_rng(0), m + m // 10, d).astype(np.float32)
    mu = aeot.Gaussian(d)
    old = aeot.solve(_KEY, mu, y[:m])
    h0 = aeot.extend_heights(y[:m], old.h, y)
    cold, warm = aeot.solve(_KEY, mu, y), aeot.solve(_KEY, mu, y, h0=h0)
    begun = aeot.init(_KEY, mu, y).heights

    def error(h: jax.Array) -> float:
        return float(aeot.certify(jax.random.key(3), mu, y, h, None, _SAMPLES).mass_error)

    row = {
        "work": f"{name} m={m} d={d}",
        "old_error": float(old.mass_error),
        "extended_error": error(h0),
        "own_start_error": error(begun),
        "cold_samples": int(cold.num_samples),
        "warm_samples": int(warm.num_samples),
        "ratio": int(warm.num_samples) / int(cold.num_samples),
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
    for kind in KINDS:
        grow(kind, 400 if arguments.quick else 4_000, not arguments.quick)

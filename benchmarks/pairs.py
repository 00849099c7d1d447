"""Pairs of a coupling against the matrix product, and against ott-jax's loader, on one thread.

    python benchmarks/pairs.py            # every work; about ten minutes
    python benchmarks/pairs.py --quick    # a smoke test: small works, nothing is recorded

In every turn each contestant makes 4,096 pairs, in batches. All have the same targets and heights.
"""

import argparse
import os

import binding

_PARSER = argparse.ArgumentParser(description="Benchmark of couplings.")
_PARSER.add_argument("--quick", action="store_true", help="small works, nothing recorded")
_PARSER.add_argument("--works", nargs="*", help="as 10000x64; by default all")
_PARSER.add_argument("--batches", nargs="*", type=int, default=(256, 4096), help="their sizes")
_PARSER.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
ARGUMENTS = _PARSER.parse_args()

# One core and one thread for everybody, and OpenBLAS with the kernel of its own choice: all of it
# is read when the libraries are first imported.
binding.bind()
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import itertools  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

import harness  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

import aeot_jax as aeot  # noqa: E402

WORKS = ((10_000, 64), (50_000, 784))
QUICK = ((1_000, 64),)
PAIRS = 4096
"""Pairs of a turn."""
FAR = 1_000_000
"""The batch that is asked for at once."""
MOST_OVER_PRODUCT, MOST_OVER_NEAR = 1.05, 1.05
LEAST_OVER_OTT = {(10_000, 256): 8, (10_000, 4096): 8, (50_000, 256): 3, (50_000, 4096): 3}
"""Pairs per CPU-second over ott-jax's, of dependent pairs."""


def problem(m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets from N(0, I), heights that leave most cells their share."""
    y = np.random.default_rng(0).standard_normal((m, d), dtype=np.float32)
    return y, -0.5 * np.sum(y * y, axis=1) / np.sqrt(np.float32(d))


def products(y: np.ndarray, batch: int) -> Callable[[], object]:
    """NumPy's product of a batch with all targets, alone."""
    x = np.random.default_rng(1).standard_normal((batch, y.shape[1]), dtype=np.float32)
    out = np.empty((batch, len(y)), np.float32)

    def turn() -> None:
        for _ in range(PAIRS // batch):
            np.matmul(x, y.T, out=out)

    return turn


def batches(source: Iterator[object], batch: int) -> Callable[[], object]:
    """The next batches of an iterator, each waited for."""

    def turn() -> object:
        found = None
        for _ in range(PAIRS // batch):
            found = jax.block_until_ready(next(source))
        return found

    return turn


def loader_of_ott(y: np.ndarray, h: np.ndarray, batch: int) -> Iterator[object]:
    """ott-jax's loader, with the same heights, and with indices."""
    from ott.neural.data.semidiscrete_dataloader import SemidiscreteDataloader

    output = aeot.to_ott(aeot.Gaussian(y.shape[1]), y, h)
    loader: Iterator[object] = iter(
        SemidiscreteDataloader(jax.random.key(0), output, batch, return_indices=True)
    )
    return loader


def time_work(m: int, d: int, batch: int, rounds: int, keep: bool) -> None:
    """All contestants at one size."""
    y, h = problem(m, d)
    mu = aeot.Gaussian(d)
    independent = aeot.coupling(mu, y, h, batch_size=batch)
    dependent = aeot.coupling(mu, y, h, batch_size=batch, antithetic=True)
    expected = np.asarray(aeot.assign(independent[FAR].x[:256], y, h)[1])
    right = float((np.asarray(independent[FAR].index)[:256] == expected).mean())
    far = (independent[FAR + k] for k in itertools.count())
    timings = harness.interleave(
        {
            "product": products(y, batch),
            "independent": batches(independent.iter(), batch),
            "far": batches(far, batch),
            "antithetic": batches(dependent.iter(), batch),
            "ott-jax": batches(loader_of_ott(y, h, batch), batch),
        },
        rounds,
    )
    product, ott = timings["product"], timings["ott-jax"]
    for name, timing in timings.items():
        row = {"work": f"{m} x {d}", "m": m, "d": d, "batch": batch, "contestant": name}
        row |= {"over_product": timing.ratio(product), "times_ott": 1 / timing.ratio(ott)}
        row |= {"over_near": timing.ratio(timings["independent"]), "right_indices": right}
        row["pairs_per_second"] = PAIRS / float(np.median(timing.work))
        row["passed"] = passed(row)
        print(
            f"{row['work']:12} batch {batch:5} {name:12} {row['pairs_per_second']:10.0f} pairs/s "
            f"{row['over_product']:6.2f} of the product, {row['times_ott']:6.2f} times ott-jax, "
            f"{row['over_near']:5.2f} of batches 0, 1, ...",
            flush=True,
        )
        if keep:
            harness.record("pairs", row | timing.summary() | {"rounds": rounds})


def passed(row: dict) -> bool | None:
    """Whether a contestant reaches its goal; None where it has none."""
    if row["contestant"] == "independent":
        return row["over_product"] <= MOST_OVER_PRODUCT
    if row["contestant"] == "far":
        return row["over_near"] <= MOST_OVER_NEAR
    if row["contestant"] == "antithetic" and (row["m"], row["batch"]) in LEAST_OVER_OTT:
        return row["times_ott"] >= LEAST_OVER_OTT[row["m"], row["batch"]]
    return None


def main() -> None:
    quick = ARGUMENTS.quick
    for m, d in QUICK if quick else WORKS:
        if not ARGUMENTS.works or f"{m}x{d}" in ARGUMENTS.works:
            for batch in ARGUMENTS.batches:
                time_work(m, d, batch, 2 if quick else ARGUMENTS.rounds, keep=not quick)


if __name__ == "__main__":
    main()

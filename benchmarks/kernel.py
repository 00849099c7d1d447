"""The kernel against the matrix product, the fused maximum and older kernels, on one thread.

    python benchmarks/kernel.py            # every work; about five minutes
    python benchmarks/kernel.py --quick    # a smoke test: small works, nothing is recorded

An older kernel stays a contestant until it is beaten on record. On an accelerator the same command
runs the accelerator forms, in wall-clock seconds, against the device's own product.
"""

import argparse
import os
import sys

import binding

_PARSER = argparse.ArgumentParser(description="Benchmark of the kernel.")
_PARSER.add_argument("--quick", action="store_true", help="small works, nothing recorded")
_PARSER.add_argument("--works", nargs="*", help="time, large, memory, slopes; by default all")
_PARSER.add_argument("--rounds", type=int, default=15, help="turns of each contestant")
_PARSER.add_argument("--measure-memory", nargs=4, metavar=("FORM", "N", "M", "D"))
ARGUMENTS = _PARSER.parse_args(None if __name__ == "__main__" else [])

# One core and one thread for everybody, and OpenBLAS with the kernel of its own choice: all of it
# is read when the libraries are first imported.
binding.bind()
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import importlib  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib.util import find_spec  # noqa: E402

import harness  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402
from threadpoolctl import threadpool_info  # noqa: E402

from aeot_jax.numerics import PRECISION  # noqa: E402
from aeot_jax.ot.cells import accelerator, antithetic, blocks, power  # noqa: E402
from aeot_jax.ot.cells.tensorcores import candidates, split  # noqa: E402
from aeot_jax.ot.duality.assign import assign as assign_checked  # noqa: E402

Works = tuple[tuple[int, int, int], ...]

TIMES: Works = ((4096, 10_000, 64), (4096, 60_000, 64), (65_536, 1_000, 2))
LARGE: Works = ((16_384, 100_000, 512), (16_384, 100_000, 3_072), (16_384, 100_000, 64))
"""For accelerators alone."""
MEMORIES: Works = (*TIMES, (4096, 1_000_000, 32), (1_000_000, 60_000, 32))
QUICK: Works = ((512, 1_000, 64), (2048, 200, 2))
GOALS = {
    (4096, 10_000, 64): (1.05, 1.3),
    (4096, 60_000, 64): (1.05, 1.3),
    (65_536, 1_000, 2): (0.4, None),
}
"""Seconds of `assign` over the product's, and over the fused maximum's."""


def problem(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples and targets from N(0, I), heights that leave most cells their share."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d), dtype=np.float32)
    y = rng.standard_normal((m, d), dtype=np.float32)
    return x, y, -0.5 * np.sum(y * y, axis=1) / np.sqrt(np.float32(d))


def assign(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The kernel of this package, without its eager checks."""
    return power.best(x, y, h)


def fused_maximum(x: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """The floor: block maxima alone, (m / 64, n), without any index; ragged tails left out."""
    m = y.shape[0] - y.shape[0] % 64
    return lax.map(
        lambda b: jnp.max(jnp.matmul(x, b[0].T, precision=PRECISION) + b[1][None, :], axis=1),
        (y[:m].reshape(-1, 64, y.shape[1]), h[:m].reshape(-1, 64)),
    )


def product(x: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """The product alone, on the device that JAX uses."""
    del h
    return jnp.matmul(x, y.T, precision=PRECISION)


def default_product(x: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """The product at JAX's default precision: TF32 on a GPU, bfloat16 on a TPU."""
    del h
    return jnp.matmul(x, y.T)


def product_maximum(x: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """The product and its maximum, without any index."""
    return jnp.max(product(x, y, h) + h[None, :], axis=1)


def naive(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All scores at once, then their argmax."""
    score = product(x, y, h) + h[None, :]
    return jnp.max(score, axis=1), jnp.argmax(score, axis=1)


def small_blocks(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first accelerator form: 4096 samples by blocks of 1024, whose number the device finds."""
    rows, used = blocks.Rows(y), blocks.used(h)
    block = min(1024, y.shape[0])

    def of_chunk(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def body(b, carry):
            best, index = carry
            yb, hb, start = blocks.window(rows, h, b, block)
            value, place = naive(x, yb, hb)
            return jnp.maximum(best, value), jnp.where(value > best, start + place, index)

        carry = jnp.full_like(x[:, 0], -jnp.inf), jnp.zeros(x.shape[0], jnp.int32)
        return lax.fori_loop(0, blocks.number_of(used, block), body, carry)

    chunk = min(4096, x.shape[0])
    value, index = lax.map(of_chunk, x.reshape(-1, chunk, x.shape[1]))
    return value.reshape(-1), index.reshape(-1)


def block_argmax(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Blocks of targets with a maximum and an argmax each."""

    def body(b, carry):
        best, index = carry
        yb, hb, start = blocks.window(blocks.Rows(y), h, b, 64)
        value, place = naive(x, yb, hb)
        return jnp.maximum(best, value), jnp.where(value > best, start + place, index)

    carry = jnp.full_like(x[:, 0], -jnp.inf), jnp.zeros(x.shape[0], jnp.int32)
    return lax.fori_loop(0, -(-y.shape[0] // 64), body, carry)


def kept_maxima(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first two-stage kernel: keep all block maxima, take their argmax, score one block."""
    n, m = x.shape[0], y.shape[0]

    def maximum(b):
        yb, hb, _ = blocks.window(blocks.Rows(y), h, b, 64)
        return jnp.max(jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :], axis=1)

    maxima = lax.map(maximum, jnp.arange(-(-m // 64)))
    start = jnp.minimum(jnp.argmax(maxima, axis=0).astype(jnp.int32) * 64, m - 64)

    def rescore(part):
        score = blocks.group_scores(part[0], blocks.Rows(y), h, part[1][:, None], 64)[:, 0]
        return jnp.max(score, axis=1), part[1] + jnp.argmax(score, axis=1).astype(jnp.int32)

    value, index = lax.map(rescore, (x.reshape(-1, 64, x.shape[1]), start.reshape(-1, 64)))
    return value.reshape(n), index.reshape(n)


def orbits(x: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """As many samples, in orbits of eight: what moves the heights of a symmetric source."""
    return antithetic.assign_orbits(x[: x.shape[0] // antithetic.SIZE], y, h)


def float32(x: jax.Array, y: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The accelerator form that scores every target in float32, without tensor cores."""
    rows, used = blocks.Rows(y), blocks.used(h)
    chunk = min(accelerator.chunk_of_best(x.shape[1]), x.shape[0])
    parts = x.reshape(-1, chunk, x.shape[1])
    value, index = lax.map(lambda part: accelerator.best(part, rows, h, used), parts)
    return value.reshape(-1), index.reshape(-1)


def orbits_float32(x: jax.Array, y: jax.Array, h: jax.Array) -> jax.Array:
    """``orbits`` without tensor cores."""
    x, cells = x[: x.shape[0] // antithetic.SIZE], antithetic._cells_by_argmax
    chunk = antithetic._ACCELERATOR_CHUNK
    return antithetic._in_chunks(cells, x, blocks.Rows(y), h, chunk)[1]


def faiss_search(x: np.ndarray, y: np.ndarray, h: np.ndarray) -> Callable[[], object]:
    """Exact inner-product search, with the height as a coordinate more."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(x.shape[1] + 1)
    index.add(np.concatenate([y, h[:, None]], axis=1))
    queries = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    return lambda: index.search(queries, 1)


FORMS = {
    "assign": assign,
    "orbits": orbits,
    "fused maximum": fused_maximum,
    "XLA product": product,
    "default product": default_product,
    "naive": naive,
    "block argmax": block_argmax,
    "kept maxima": kept_maxima,
}
ACCELERATOR_FORMS = {
    "assign": assign,
    "orbits": orbits,
    "XLA product": product,
    "default product": default_product,
    "product and maximum": product_maximum,
    "naive": naive,
    "small blocks": small_blocks,
}
"""Those that were built for a CPU are left out."""
LARGE_FORMS = {
    "assign": assign,
    "assign float32": float32,
    "orbits": orbits,
    "orbits float32": orbits_float32,
    "XLA product": product,
    "default product": default_product,
    "product and maximum": product_maximum,
}
"""On large works."""


def quality(x: np.ndarray, y: np.ndarray, h: np.ndarray) -> dict[str, float]:
    """How far the kernel is from float64 on 256 samples."""
    value, index = assign_checked(x[:256], y, h)
    score = x[:256].astype(np.float64) @ y.T.astype(np.float64) + h
    own = np.take_along_axis(score, np.asarray(index)[:, None], axis=1)[:, 0]
    return {
        "index_agrees": float(np.mean(np.asarray(index) == score.argmax(axis=1))),
        "value_error": float(np.max(np.abs(np.asarray(value) - score.max(axis=1)))),
        "score_lost": float(np.max(score.max(axis=1) - own)),
    }


def beside_float32(x: jax.Array, y: jax.Array, h: jax.Array) -> dict[str, float]:
    """Whether tensor cores change a cell, and how many samples their candidates leave open."""
    if x.shape[0] > candidates.CHUNK:
        x = x[: candidates.CHUNK]
    found, e = jax.jit(lambda x, y, h: candidates.looked_at(x, blocks.Rows(y), h))(x, y, h)
    index, wanted = (jax.jit(form)(x, y, h)[1] for form in (assign, float32))
    rows = np.asarray(x[:256], np.float64), np.asarray(y[:4096], np.float64)
    split_x, split_y = (split.left(x[:256], x.shape[1]), split.right(y[:4096], x.shape[1]))
    near = sum(np.asarray(p, np.float64) for p in split.products(split_x, split_y))
    return {
        "indices_that_differ": int((index != wanted).sum()),
        "share_open": float(candidates.is_open(found, e).mean()),
        "share_of_two_within_the_bound": float((found.values[0] - found.values[1] <= 2 * e).mean()),
        "largest_error_over_bound": float(
            np.max(np.abs(near - rows[0] @ rows[1].T) / np.asarray(e[:256], np.float64)[:, None])
        ),
    }


def time_work(n: int, m: int, d: int, rounds: int, keep: bool) -> None:
    """Time all contestants on one work."""
    x, y, h = problem(n, m, d)
    arrays = tuple(map(jnp.asarray, (x, y, h)))
    on_cpu = harness.on_cpu()
    runs: dict[str, Callable[[], object]] = {}
    if on_cpu:
        out = np.empty((n, m), np.float32)
        runs["NumPy product"] = lambda: np.matmul(x, y.T, out=out)
    compile_s: dict[str, float] = {}
    temporary: dict[str, float] = {}
    is_large = (n, m, d) in LARGE
    for name, form in (FORMS if on_cpu else LARGE_FORMS if is_large else ACCELERATOR_FORMS).items():
        program, compile_s[name] = harness.compiled(form, *arrays)
        temporary[name] = program.memory_analysis().temp_size_in_bytes / 2**20
        runs[name] = lambda program=program: program(*arrays)
    if on_cpu and find_spec("faiss") is not None:
        runs["faiss"] = faiss_search(x, y, h)
    timings = harness.interleave(runs, rounds)
    yardstick = timings["NumPy product" if on_cpu else "XLA product"]
    floor = timings["fused maximum" if on_cpu else "product and maximum"]
    reached = quality(x, y, h)
    if is_large:
        reached |= beside_float32(*arrays)
    goal, goal_floor = GOALS.get((n, m, d), (None, None))
    print(f"{n} x {m} x {d}   {reached}")
    for name, timing in timings.items():
        row = {"work": f"{n} x {m} x {d}", "n": n, "m": m, "d": d, "contestant": name}
        row |= timing.summary() | {"compile_s": compile_s.get(name), "rounds": rounds}
        row |= {"over_product": timing.ratio(yardstick)}
        row |= {"over_default_product": timing.ratio(timings["default product"])}
        row |= {"over_fused_maximum": timing.ratio(floor), "temporary_mib": temporary.get(name)}
        row |= reached if name == "assign" else {}
        goals = f"  goals {goal}, {goal_floor}" if name == "assign" and on_cpu else ""
        print(
            f"  {name:19} wall {1e3 * row['wall_s']:8.3f} +- {1e3 * row['wall_spread_s']:6.3f} ms"
            f"  CPU {1e3 * row['cpu_s']:8.1f} +- {1e3 * row['cpu_spread_s']:5.1f} ms"
            f"  over product {row['over_product']:5.2f}"
            f"  over default product {row['over_default_product']:5.2f}"
            f"  over maximum {row['over_fused_maximum']:5.2f}{goals}",
            flush=True,
        )
        if keep:
            harness.record("kernel time", row)


def measure_memory(form: str, n: int, m: int, d: int) -> None:
    """In this process: MiB that one call needs beyond inputs and outputs, as JSON."""
    arrays = tuple(map(jnp.asarray, problem(n, m, d)))
    program, _ = harness.compiled(FORMS[form], *arrays)
    outputs = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.out_info))
    jax.block_until_ready(arrays)
    peak = harness.extra_memory(lambda: program(*arrays))
    print(json.dumps({"extra_mib": peak - outputs / 2**20, "outputs_mib": outputs / 2**20}))


def memory_work(form: str, n: int, m: int, d: int, keep: bool) -> None:
    """Peak memory of one contestant, in a process of its own."""
    measured = harness.in_fresh_process("kernel.py", "--measure-memory", form, n, m, d)
    work = f"{n} x {m} x {d}"
    print(f"memory {work:24} {form:14} {measured['extra_mib']:8.1f} MiB extra", flush=True)
    if keep:
        row = {"work": work, "n": n, "m": m, "d": d, "contestant": form}
        harness.record("kernel memory", row | measured)


def slopes(rounds: int, keep: bool) -> None:
    """Log-log slope of the kernel's seconds over n, m and d."""
    works = {
        "n": [(2048 << i, 4_000, 64) for i in range(4)],
        "m": [(4096, 2_000 << i, 64) for i in range(4)],
        "d": [(4096, 4_000, 32 << i) for i in range(5)],
    }
    for axis, sizes in works.items():
        runs = {}
        for size in sizes:
            arrays = tuple(map(jnp.asarray, problem(*size)))
            program, _ = harness.compiled(assign, *arrays)
            runs[str(size)] = lambda program=program, arrays=arrays: program(*arrays)
        timings = harness.interleave(runs, rounds)
        seconds = [float(np.median(timing.work)) for timing in timings.values()]
        slope = float(np.polyfit(np.arange(len(seconds)), np.log2(seconds), 1)[0])
        print(f"slope over {axis}: {slope:.2f}  {[round(1e3 * s, 1) for s in seconds]} ms")
        if keep:
            row = {"axis": axis, "sizes": sizes, "seconds": seconds, "slope": slope}
            harness.record("kernel slope", row)


def main() -> None:
    if ARGUMENTS.measure_memory:
        form, *sizes = ARGUMENTS.measure_memory
        measure_memory(form, *map(int, sizes))
        return
    quick = ARGUMENTS.quick
    parts = ARGUMENTS.works or ["time", "large", "memory", "slopes"]
    print({info["internal_api"]: info.get("architecture") for info in threadpool_info()})
    rounds = 3 if quick else ARGUMENTS.rounds
    works = (QUICK if quick else TIMES) if "time" in parts else ()
    if "large" in parts and not quick and not harness.on_cpu():
        works += LARGE
    for work in works:
        time_work(*work, rounds=rounds, keep=not quick)
    if "memory" in parts and sys.platform == "linux" and harness.on_cpu():
        for work in QUICK if quick else MEMORIES:
            memory_work("assign", *work, keep=not quick)
        memory_work("naive", *(QUICK if quick else TIMES)[0], keep=not quick)
    if "slopes" in parts and not quick:
        slopes(min(5, ARGUMENTS.rounds), keep=True)


if __name__ == "__main__":
    main()

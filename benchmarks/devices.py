r"""Scaling over the devices present, what the parallel path costs, and a model of a step's time.

Run it as ``python benchmarks/devices.py`` (``JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8`` gives eight
devices that share the machine's cores: identity is tested there, speed is not), and with
``--target-shards`` for targets that no device holds whole.

**The model.** One step of n samples in d dimensions over m targets, on R rows of T devices each:
every row draws n / R samples, every device of a row holds m / T targets. In rings,

.. math:: t = \frac{2 n m d}{R T F r} + \frac{R-1}{R}\frac{2 \cdot 4 (m / T + 8)}{B}
              + (T-1)\frac{4 n / R}{B}
              + (2 (R-1) + \frac{S}{R} (T-1) + 4 (T-1)) \lambda + \frac{4 m p}{T M}

the kernel (F FLOP/s of one device that the kernel reaches at full float32 precision, r = 1, or
about 2 to 4 for orbits); the one all-reduce of m / T + 8 int32 over the rows (B bytes/s of a link
in one direction, :math:`\lambda` seconds a hop); within a row, one gather of a float a sample and
device for each of its S / R streams, and two reductions of some numbers a block; and the update of
the heights, which every row repeats (p about 20 passes over m / T floats at M bytes/s of memory).
T = 1 is the placement without target shards.

Kernel and reduction both grow like m, so no *large* m makes the reduction win: what decides is
the samples and dimensions of a device. The reduction outweighs the kernel where

.. math:: (n / R)\, d < 4 r\,\frac{F}{B}\,\frac{R-1}{R}

at any m, and where latency rules, below :math:`m = R T F r (R-1) \lambda / (n d)`. The gather
outweighs the kernel where a device's targets are few: (m / T) d < 2 r (F / B) (T - 1).
``predict`` evaluates it.
"""

import argparse
import collections
from dataclasses import replace
from functools import partial

import harness
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.machines import meshes
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.devices import parallel
from aeot_jax.ot.devices.placement import placement
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.starts import start
from aeot_jax.typing import Devices

STEPS = 32
"""Steps of a timed chunk."""


def predict(
    m: int,
    d: int,
    n: int,
    rows: int,
    flops: float,
    bandwidth: float,
    target_shards: int = 1,
    latency: float = 2e-6,
    memory: float = 1e12,
    gain: float = 1.0,
    passes: float = 20.0,
    streams: int = 8,
) -> dict[str, float]:
    """Seconds of a step by the model of this file's docstring, and m where latency ceases to rule.

    Args:
      m: targets.
      d: dimensions.
      n: samples of a step, of all devices together.
      rows: R, devices among which the samples are sharded.
      flops: F, of one device, as the kernel reaches them.
      bandwidth: B, bytes/s of a link in one direction.
      target_shards: T, devices among which the targets are sharded.
      latency: seconds a hop.
      memory: M, bytes/s.
      gain: r, of orbits.
      passes: p.
      streams: S.
    """
    own, others = m / target_shards, target_shards - 1
    kernel = 2.0 * n * own * d / (rows * flops * gain)
    reduction = (rows - 1) / rows * 8.0 * (own + 8) / bandwidth + 2 * (rows - 1) * latency
    gather = others * 4.0 * n / rows / bandwidth + (streams / rows + 4) * others * latency
    update = 4.0 * own * passes / memory
    per_target = 2.0 * n * d / (rows * flops * gain) - (rows - 1) / rows * 8.0 / bandwidth
    hops = 2 * (rows - 1) * latency * target_shards
    crossing = hops / per_target if per_target > 0 else float("inf")
    step = kernel + reduction + gather + update
    return {
        "kernel_s": kernel,
        "reduction_s": reduction,
        "gather_s": gather,
        "update_s": update,
        "step_s": step,
        "reduction_share": reduction / step,
        "gather_share": gather / step,
        "m_above_which_the_kernel_outweighs_the_reduction": crossing,
    }


def problem(m: int, d: int) -> tuple[aeot.Gaussian, jax.Array, jax.Array]:
    y = jax.random.normal(jax.random.key(1), (m, d))
    return aeot.Gaussian(d), y, jnp.full(m, 1 / m)


def reduction_alone(m: int, devices: Devices):
    """The all-reduces of a chunk with nothing else in it."""
    mesh = meshes.row(devices, "i")

    def body(counts: jax.Array) -> jax.Array:
        def add(i: jax.Array, total: jax.Array) -> jax.Array:
            own = counts + i + jax.lax.axis_index("i")
            return total + jax.lax.psum(own, "i")

        return jax.lax.fori_loop(0, STEPS, add, counts)

    function = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=P(), out_specs=P()))
    return partial(function, jnp.zeros(m + 8, jnp.int32))


def chunk(config: aeot.SolverConfig, m: int, d: int, steps: int = STEPS):
    """A chunk of steps with its data where the devices want it."""
    mu, y, nu = problem(m, d)
    state = aeot.init(jax.random.key(0), mu, y, nu, replace(config, parallel="none", devices=None))
    where = placement(config.parallel, config.devices)
    state, marginals = parallel.place(where, (state, Marginals(mu, y, nu)))
    plan = planning.plan(m, mu, config)
    return partial(stepping.run_steps, state, marginals, plan, where, steps)


def scaling(m: int, d: int, batch: int, rounds: int, keep: bool = True) -> None:
    """Strong scaling (the same batch) and weak scaling (the same samples a device)."""
    present = tuple(jax.devices())
    numbers = [n for n in (1, 2, 4, 8) if n <= len(present)]
    base = aeot.SolverConfig(tolerance=None, max_steps=10_000, start="zero", parallel="none")
    contestants, batches, reductions = {}, {}, {}
    for kind, size in (("strong", lambda _: batch), ("weak", lambda n: batch // 8 * n)):
        for n in numbers:
            name = f"{kind} {n}"
            spread = replace(base, parallel="shard_map", devices=present[:n], batch_size=size(n))
            contestants[name], batches[name] = chunk(spread, m, d), size(n)
    contestants["none"], batches["none"] = chunk(replace(base, batch_size=batch), m, d), batch
    for n in numbers:
        reductions[n] = f"reduction {n}"
        contestants[reductions[n]] = reduction_alone(m, present[:n])
    heights = np.asarray(contestants["none"]()[0].h)
    timings = harness.interleave(contestants, rounds)
    for name, size in batches.items():
        number = int(name.split()[-1]) if name != "none" else 1
        wall = timings[name].summary()["wall_s"]
        row = {
            "work": f"m={m} d={d}",
            "way": name,
            "devices": number,
            "samples_per_step": size,
            "steps": STEPS,
            "samples_per_s": size * STEPS / wall,
            "bytes_reduced_per_step": 4 * (m + 8) if number > 1 else 0,
            "reduction_share": timings[reductions[number]].summary()["wall_s"] / wall
            if number > 1
            else 0.0,
            "over_none": timings[name].ratio(timings["none"]) if size == batch else None,
            "same_heights_as_none": bool((np.asarray(contestants[name]()[0].h) == heights).all())
            if size == batch
            else None,
            **timings[name].summary(),
        }
        if keep:
            harness.record("devices", row)
        print({key: row[key] for key in row if not key.endswith("spread_s")})


def one_device(m: int, d: int, batch: int, rounds: int, keep: bool = True) -> None:
    """What the parallel path costs with nothing to share; "none again" shows the noise."""
    base = aeot.SolverConfig(
        tolerance=None, max_steps=10_000, start="zero", parallel="none", batch_size=batch
    )
    one = (jax.devices()[0],)
    ways = {
        "none": base,
        "shard_map": replace(base, parallel="shard_map", devices=one),
        "pmap": replace(base, parallel="pmap", devices=one),
        "none again": replace(base, devices=one),
    }
    contestants = {name: chunk(config, m, d) for name, config in ways.items()}
    heights = {name: np.asarray(run()[0].h) for name, run in contestants.items()}
    timings = harness.interleave(contestants, rounds)
    for name, timing in timings.items():
        # On a machine that others use, the quickest quarter of the rounds of both compares best.
        quick, none = (np.quantile(t.work, 0.25) for t in (timing, timings["none"]))
        row = {
            "work": f"m={m} d={d}, one device",
            "way": name,
            "devices": 1,
            "samples_per_step": batch,
            "steps": STEPS,
            "rounds": rounds,
            "over_none": timing.ratio(timings["none"]),
            "quartile_over_none": float(quick / none),
            "same_heights_as_none": bool((heights[name] == heights["none"]).all()),
            **timing.summary(),
        }
        if keep:
            harness.record("devices", row)
        print({key: row[key] for key in row if not key.endswith("spread_s")})


def shards(m: int, d: int, batch: int, steps: int) -> None:
    """Steps over targets that no device holds whole, and what each device holds of them."""
    mu = aeot.Gaussian(d)
    y = np.random.default_rng(1).standard_normal((m, d), np.float32)
    nu = np.full(m, 1 / m, np.float32)
    base = aeot.SolverConfig(tolerance=None, max_steps=10_000, start="zero", batch_size=batch)
    first = None
    for number in (n for n in (8, 4, 2) if jax.device_count() % n == 0):
        config = replace(base, parallel="shard_map", target_shards=number)
        where = placement("shard_map", None, number)
        rows = sizes.sharded(m, d)
        own_y, own_nu = parallel.shard(where, y, rows), parallel.shard(where, nu, rows)
        marginals = Marginals(mu, own_y, own_nu)
        plan, budget = planning.plan(m, mu, config), planning.budget(m, mu, config)
        state = start.begin_sharded(jax.random.key(0), marginals, plan, budget, None, where)
        run = jax.jit(partial(stepping.run_steps, plan=plan, where=where, num_steps=steps))
        compiled = run.lower(state, marginals).compile()
        call = partial(compiled, state, marginals)
        timing = harness.interleave({"": call}, 1)[""]
        moved, *_ = call()
        h = parallel.collect(moved.h, m)
        first = h if first is None else first
        vectors = {
            "y": [own_y],
            "heights": [moved.h, moved.average.heights],
            "optimizer": jax.tree.leaves(moved.adam),
        }
        rows = jax.device_count() // number
        row = {
            "work": f"m={m} d={d}",
            "way": f"{rows} x {number}",
            "devices": jax.device_count(),
            "samples_per_step": batch,
            "steps": steps,
            "samples_per_s": batch * steps / timing.summary()["wall_s"],
            "device_mib": {name: _most(arrays) / 2**20 for name, arrays in vectors.items()},
            "whole_mib": {
                name: sum(array.nbytes for array in arrays) / 2**20
                for name, arrays in vectors.items()
            },
            "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,  # pyright: ignore
            "bytes_reduced_per_step": 4 * (len(h) // number + 8) if rows > 1 else 0,
            "bytes_gathered_per_step": 4 * (number - 1) * batch // rows,
            "same_heights_as_first": bool((h == first).all()),
            **timing.summary(),
        }
        harness.record("devices", row)
        print({key: row[key] for key in row if not key.endswith("spread_s")})


def _most(arrays: list[jax.Array]) -> int:
    """Bytes of the arrays on the device that holds most of them."""
    held = collections.Counter()
    for array in arrays:
        for part in array.addressable_shards:
            held[part.device] += part.data.nbytes
    return max(held.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Scaling over devices.")
    parser.add_argument("--target-shards", action="store_true", help="targets in shards instead")
    parser.add_argument("--targets", type=int, help="10,000, or 1,000,000 in shards")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="timed, with targets in shards")
    options = parser.parse_args()
    if options.target_shards:
        shards(options.targets or 1_000_000, options.dim, options.batch, options.steps)
    else:
        sizes = options.targets or 10_000, options.dim, options.batch
        scaling(*sizes, options.rounds)
        one_device(*sizes, 6 * options.rounds)


if __name__ == "__main__":
    main()

r"""Scaling over the devices present, what the parallel path costs, and a model of a step's time.

Run it as ``python benchmarks/devices.py`` (``JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8`` gives eight
devices that share the machine's cores: identity is tested there, speed is not).

**The model.** One step of n samples in d dimensions over m targets, on G devices in a ring:

.. math:: t = \frac{2 n m d}{G F r} + \frac{G-1}{G}\frac{2 \cdot 4 (m + 8)}{B} + 2 (G-1) \lambda
              + \frac{4 m p}{M}

the kernel (F FLOP/s of one device that the kernel reaches at full float32 precision, r = 1, or
about 2 to 4 for orbits), the one all-reduce of m + 8 int32 (B bytes/s of a link in one direction,
:math:`\lambda` seconds a hop), and the update of the heights, which every device repeats (p about
20 passes over m floats at M bytes/s of memory).

Kernel and reduction both grow like m, so no *large* m makes the reduction win: what decides is
the samples and dimensions of a device. The reduction outweighs the kernel where

.. math:: (n / G)\, d < 4 r\,\frac{F}{B}\,\frac{G-1}{G}

at any m, and where latency rules, below :math:`m = G F r (G-1) \lambda / (n d)`.
``predict`` evaluates it.
"""

import argparse
from dataclasses import replace
from functools import partial

import harness
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.ot import parallel, solver
from aeot_jax.ot.layouts import layout
from aeot_jax.typing import Devices

_STEPS = 32
"""Steps of a timed chunk."""


def predict(
    m: int,
    d: int,
    n: int,
    devices: int,
    flops: float,
    bandwidth: float,
    latency: float = 2e-6,
    memory: float = 1e12,
    gain: float = 1.0,
    passes: float = 20.0,
) -> dict[str, float]:
    """Seconds of a step by the model of this file's docstring, and m where latency ceases to rule.

    Args:
      m: targets.
      d: dimensions.
      n: samples of a step, of all devices together.
      devices: G.
      flops: F, of one device, as the kernel reaches them.
      bandwidth: B, bytes/s of a link in one direction.
      latency: seconds a hop.
      memory: M, bytes/s.
      gain: r, of orbits.
      passes: p.
    """
    kernel = 2.0 * n * m * d / (devices * flops * gain)
    reduction = (devices - 1) / devices * 8.0 * (m + 8) / bandwidth + 2 * (devices - 1) * latency
    update = 4.0 * m * passes / memory
    per_target = 2.0 * n * d / (devices * flops * gain) - (devices - 1) / devices * 8.0 / bandwidth
    crossing = 2 * (devices - 1) * latency / per_target if per_target > 0 else float("inf")
    return {
        "kernel_s": kernel,
        "reduction_s": reduction,
        "update_s": update,
        "step_s": kernel + reduction + update,
        "reduction_share": reduction / (kernel + reduction + update),
        "m_above_which_the_kernel_outweighs_the_reduction": crossing,
    }


def problem(m: int, d: int) -> tuple[aeot.Gaussian, jax.Array, jax.Array]:
    y = jax.random.normal(jax.random.key(1), (m, d))
    return aeot.Gaussian(d), y, jnp.full(m, 1 / m)


def reduction_alone(m: int, devices: Devices):
    """The all-reduces of a chunk with nothing else in it."""
    mesh = jax.make_mesh((len(devices),), ("i",), axis_types=(AxisType.Auto,), devices=devices)

    def body(counts: jax.Array) -> jax.Array:
        def add(i: jax.Array, total: jax.Array) -> jax.Array:
            own = counts + i + jax.lax.axis_index("i")
            return total + jax.lax.psum(own, "i")

        return jax.lax.fori_loop(0, _STEPS, add, counts)

    function = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=P(), out_specs=P()))
    return partial(function, jnp.zeros(m + 8, jnp.int32))


def chunk(config: aeot.SolverConfig, m: int, d: int):
    """A chunk of steps with its data where the devices want it."""
    mu, y, nu = problem(m, d)
    state = aeot.init(jax.random.key(0), mu, y, nu, replace(config, parallel="none", devices=None))
    where = layout(config.parallel, config.devices)
    state, mu, y, nu = parallel.place(where, (state, mu, y, nu))
    return partial(solver.run_steps, state, mu, y, nu, _STEPS, config)


def scaling(m: int, d: int, batch: int, rounds: int) -> None:
    """Strong scaling (the same batch), weak scaling (the same samples a device), and one device."""
    present = tuple(jax.devices())
    numbers = [n for n in (1, 2, 4, 8) if n <= len(present)]
    base = aeot.SolverConfig(tolerance=None, max_steps=10_000, start="zero", parallel="none")
    contestants, batches, reductions = {}, {}, {}
    for kind, size in (("strong", lambda _: batch), ("weak", lambda n: batch // 8 * n)):
        for n in numbers:
            name = f"{kind} {n}"
            spread = replace(base, parallel="shard_map", devices=present[:n], batch_size=size(n))
            contestants[name], batches[name] = chunk(spread, m, d), size(n)
    for name, kind, devices in (("none", "none", None), ("pmap 1", "pmap", present[:1])):
        config = replace(base, parallel=kind, devices=devices, batch_size=batch)
        contestants[name], batches[name] = chunk(config, m, d), batch
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
            "steps": _STEPS,
            "samples_per_s": size * _STEPS / wall,
            "bytes_reduced_per_step": 4 * (m + 8) if number > 1 else 0,
            "reduction_share": timings[reductions[number]].summary()["wall_s"] / wall
            if number > 1
            else 0.0,
            "over_none": timings[name].ratio(timings["none"]) if size == batch else None,
            # On a machine that others use, the quickest rounds of both compare best.
            "least_over_none": min(timings[name].work) / min(timings["none"].work)
            if size == batch
            else None,
            "same_heights_as_none": bool((np.asarray(contestants[name]()[0].h) == heights).all())
            if size == batch
            else None,
            **timings[name].summary(),
        }
        harness.record("devices", row)
        print({key: row[key] for key in row if not key.endswith("spread_s")})


def main() -> None:
    parser = argparse.ArgumentParser(description="Scaling over devices.")
    parser.add_argument("--targets", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    scaling(options.targets, options.dim, options.batch, options.rounds)


if __name__ == "__main__":
    main()

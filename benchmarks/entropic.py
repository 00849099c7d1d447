"""Decreasing entropic regularisation (DRAG) against hard counts: samples and seconds.

    python benchmarks/entropic.py            # about two minutes of one core
    python benchmarks/entropic.py --quick    # a smoke test, nothing recorded

DRAG replaces the cell of a sample by a soft assignment at a temperature that falls with the
samples: the masses of cells are smoother in the heights, and a sample informs every cell near it.
Here it takes the place of the counts in this library's own steps (Adam, then stochastic Newton, or
long steps that are averaged, in few dimensions), so that nothing else differs; the temperature is
``scale * gap * (1 + tau)^(-power)`` with the mean gap at the start and tau the samples per target
so far. Beside it stands what the solver does with many targets in many dimensions: a sample is
shared with the runner-up alone (``counts/shares.py``). Reported for all: the cost
``mass_error^2 * samples / m`` after the same samples, and the CPU-seconds of a step's counts.

Source: Genans, Godichon-Baggioni, Vialard, Wintenberger, NeurIPS 2025 (decreasing entropic
regularisation, averaged gradient descent).
"""

import argparse
import os

_PARSER = argparse.ArgumentParser(description="Soft counts against hard ones.")
_PARSER.add_argument("--quick", action="store_true", help="small works, nothing recorded")
_PARSER.add_argument("--per-target", type=int, default=100, help="samples a target")
ARGUMENTS = _PARSER.parse_args()

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import dataclasses  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402

import harness  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402
from works import WORKS, Work  # noqa: E402

import aeot_jax as aeot  # noqa: E402
from aeot_jax.numerics import PRECISION  # noqa: E402
from aeot_jax.ot.cells import contenders, power  # noqa: E402
from aeot_jax.ot.counts import shares  # noqa: E402
from aeot_jax.ot.devices.placement import ALONE  # noqa: E402
from aeot_jax.ot.duality.assign import assign, top_k  # noqa: E402
from aeot_jax.ot.problem import Marginals  # noqa: E402
from aeot_jax.ot.solver import planning  # noqa: E402
from aeot_jax.ot.solver.moves.seen import Seen  # noqa: E402
from aeot_jax.ot.solver.state import SolverState  # noqa: E402
from aeot_jax.ot.solver.stepping import updated  # noqa: E402
from aeot_jax.typing import Heights, Samples, Targets  # noqa: E402

TEMPERATURES = ((1.0, 0.5), (1.0, 1 / 3), (4.0, 0.5))
"""Scale and power."""

_BLOCK = 512


def soft_counts(x: Samples, y: Targets, h: Heights, temperature: jax.Array) -> jax.Array:
    """Sum over samples of softmax(score / temperature), targets in blocks; two products."""
    highest, _ = assign(x, y, h)
    m = y.shape[0]
    blocks = -(-m // _BLOCK)

    def weights(b: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = jnp.minimum(b * _BLOCK, m - _BLOCK)
        yb = lax.dynamic_slice_in_dim(y, start, _BLOCK)
        hb = lax.dynamic_slice_in_dim(h, start, _BLOCK)
        owned = start + jnp.arange(_BLOCK) >= b * _BLOCK
        score = jnp.matmul(x, yb.T, precision=PRECISION) + hb[None, :] - highest[:, None]
        return jnp.where(owned[None, :], jnp.exp(score / temperature), 0.0), start

    total = lax.fori_loop(
        0, blocks, lambda b, total: total + weights(b)[0].sum(1), jnp.zeros_like(highest)
    )

    def add(b: jax.Array, counts: jax.Array) -> jax.Array:
        share, start = weights(b)
        new = (share / total[:, None]).sum(0)
        return lax.dynamic_update_slice_in_dim(
            counts, lax.dynamic_slice_in_dim(counts, start, _BLOCK) + new, start, 0
        )

    return lax.fori_loop(0, blocks, add, jnp.zeros_like(h))


def shared_counts(x: Samples, y: Targets, h: Heights, temperature: jax.Array) -> jax.Array:
    """What the solver does: a sample is shared with the runner-up; the temperature is the width."""
    found = power.contending(x, y, h)
    (best, second), gap = contenders.two_best(found, None, h.shape[0])
    share = shares.of_runner_up(gap, temperature)
    counts = jnp.zeros(h.shape[0], jnp.int32).at[best].add(1)
    return shares.counts_with(counts, shares.moved(best, second, share, num_targets=h.shape[0]))


def hard_counts(x: Samples, y: Targets, h: Heights, temperature: jax.Array) -> jax.Array:
    """Samples in each cell."""
    del temperature
    return jnp.zeros_like(h).at[assign(x, y, h)[1]].add(1.0)


COUNTS = {"hard": hard_counts, "shared": shared_counts, "soft": soft_counts}


def run(
    state: SolverState,
    mu: aeot.Measure,
    y: Targets,
    num_steps: int,
    temperature: tuple[float, float],
    config: aeot.SolverConfig,
    count: Callable[..., jax.Array],
    n: int,
) -> Heights:
    """The solver's own steps, their draw replaced; the answer's heights."""
    m = y.shape[0]
    scale, exponent = temperature
    top, _ = top_k(mu.sample(state.key, 512), state.frame.normalise(y), state.h, 2)
    gap = (top[:, 0] - top[:, 1]).mean()

    working = Marginals(mu, state.frame.normalise(y), jnp.full(m, 1 / m))
    plan = planning.plan(m, mu, config)

    def step(_: int, state: SolverState) -> SolverState:
        sample_key, own_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        warmth = scale * gap * (1 + state.step * n / m) ** -exponent
        counts = count(mu.sample(sample_key, n), working.y, state.h, warmth)
        return updated(state, Seen(counts, jnp.float32(n), own_key), working, plan, ALONE)

    return jax.jit(lambda state: lax.fori_loop(0, num_steps, step, state))(state).heights


def compare(work: Work, keep: bool) -> None:
    """One work: cost at equal samples, and seconds of the counts."""
    y, mu, m = jnp.asarray(work.targets()), work.mu, work.num_targets
    config = aeot.SolverConfig(
        method="newton",
        sampling="independent",
        tolerance=None,
        max_samples=ARGUMENTS.per_target * m,
    )
    batch, phases = planning.plan(m, mu, config).batch.size, planning.budget(m, mu, config).phases
    state = aeot.init(jax.random.key(0), mu, y, None, config)
    x, h = mu.sample(jax.random.key(1), batch), state.h
    normalised = state.frame.normalise(y)
    warmth = jnp.float32(0.1)
    programs = {
        name: harness.compiled(count, x, normalised, h, warmth)[0] for name, count in COUNTS.items()
    }
    timings = harness.interleave(
        {name: partial(program, x, normalised, h, warmth) for name, program in programs.items()},
        5,
    )
    contestants = [("hard", (0.0, 0.0)), ("shared", (shares.WIDTH, 0.0))]
    contestants += [("soft", temperature) for temperature in TEMPERATURES]
    for name, temperature in contestants:
        heights = run(
            state,
            mu,
            y,
            phases.end,
            temperature,
            config,
            COUNTS[name],
            batch,
        )
        found = aeot.certify(jax.random.key(2), mu, y, heights, num_samples=400 * m)
        num_samples = phases.end * batch
        row = {
            "work": work.name,
            "num_targets": m,
            "dim": work.dim,
            "counts": name,
            "scale": temperature[0],
            "power": temperature[1],
            "samples_per_target": num_samples / m,
            "cost": float(found.chi2) * num_samples / m,
            "cost_se": float(found.chi2_se) * num_samples / m,
            "count_cpu_s": timings[name].summary()["cpu_s"],
            "times_slower": timings[name].ratio(timings["hard"]),
        }
        print(
            f"{work.name:15} m={m} {name} scale {temperature[0]:g} power {temperature[1]:.2f}"
            f"  cost {row['cost']:5.2f} +- {row['cost_se']:.2f}  counts {row['times_slower']:.1f}"
            " times as slow",
            flush=True,
        )
        if keep:
            harness.record("entropic", row)


def main() -> None:
    num_targets = 512 if ARGUMENTS.quick else 2000
    for name in ("uniform-1k-2", "clusters-1k-2", "codes-10k-64", "classes-60k-32"):
        compare(dataclasses.replace(WORKS[name], num_targets=num_targets), not ARGUMENTS.quick)


if __name__ == "__main__":
    main()

"""Adapters to other solvers, with the best settings that a bounded search found for each work.

Every adapter takes the same targets, draws its own samples of the same source, and answers heights
of u_h(x) = max <x, y_i> + h_i, so that one certificate judges all. Only the optimisation is timed:
what is compiled is compiled before, and a short run finds how many iterations fit the budget.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from works import Points, Work

Heights = NDArray[np.floating]

_TRIAL_SECONDS = 0.8
"""Seconds of the run that measures how long an iteration takes."""


@dataclass(frozen=True)
class Run:
    """What a solver did.

    Attributes:
      h: heights (m,).
      seconds: of the optimisation, by the harness's clock.
      num_samples: samples of the source that it drew.
      settings: what it was told.
      version: of the package.
    """

    h: Heights
    seconds: float
    num_samples: int
    settings: dict[str, Any]
    version: str


@dataclass(frozen=True)
class OTTSettings:
    """What is tuned of ott-jax's ``SemidiscreteSolver``.

    Attributes:
      learning_rate: of the first iteration; potentials are of the cost |x - y|^2.
      optimizer: ``optax.sgd`` or ``optax.adam``.
      decay: cosine to zero, or 1/t after 5 % of the iterations.
      batch_size: samples of an iteration.
      average: the solver's ``potential_ema``: share of the newest iterate.
      epsilon: entropic regularisation; 0 is none.
      start: "zero" or "norms" (g = |y|^2, the heights 0).
    """

    learning_rate: float
    optimizer: Literal["adam", "sgd"] = "adam"
    decay: Literal["cosine", "inverse"] = "cosine"
    batch_size: int = 1024
    average: float = 0.02
    epsilon: float = 0.0
    start: Literal["zero", "norms"] = "zero"


@dataclass(frozen=True)
class POTSettings:
    """What is tuned of POT's ``ot.semidiscrete.solve_semidiscrete``.

    Attributes:
      learning_rate: its ``lr0``; None is its default, sqrt(m * batch).
      batch_size: samples of an iteration.
      exponent: the step falls like t^-exponent.
      epsilon: first entropic regularisation, which falls like t^(-1/2) (DRAG); 0 is none.
      average: the mean of all iterates, or the last.
      start: "zero" or "norms", see ``OTTSettings``.
    """

    learning_rate: float | None
    batch_size: int = 64
    exponent: float = 2 / 3
    epsilon: float = 0.0
    average: bool = True
    start: Literal["zero", "norms"] = "zero"


Settings = OTTSettings | POTSettings

# Heavy tails: ``solve.py --search``, whose trials are on record ("solve search").
# The scan of the others, at a quarter of the budget or less: mass errors of what was tried.
# ott-jax: g starts at 0, cosine decay, average 0.02, batches of 512 (1024 in the plane); a
# batch of 256 draws as many samples a second. POT: batches of 64 (per second: 1.0 and 1.2 times
# as many samples as with 256 and 1024), rates falling like t^(-2/3), no entropy: epsilon = 0.1
# draws 0.6 times as many samples a second and is worse at equal rate (0.76 against 0.66 after 4
# s on normal-10k-64).
#
# normal-10k-64, 30 s: ott adam 0.3: 0.217, 0.1: 0.202, 0.1 with average 0.005: 0.222;
#   sgd (batch 256) 1000: 0.270, 300: 0.211, 100: 0.352.
#   POT, last iterate, 1000: 0.219, 3000: 0.212, 10000 with t^(-0.8): 0.282; mean, 10000: 0.297.
# codes-10k-64, 30 s: ott adam 0.02: 0.695, 0.05: 0.238. POT (20 s), last, 600: 0.247.
# classes-60k-32, 15 to 20 s: ott adam 0.3: 14.6, 1: 4.56, 1 from the norms: 2.12.
#   POT, last, 20000: 1.81.
# uniform-1k-2, 10 s: ott adam 0.005 with average 0.02: 0.101, with 0.005: 0.065; 0.02 with 0.005:
#   0.124; 0.001 with 0.005: 0.056; 0.002 with 0.002: 0.056; sgd 3 (batch 256): 0.103.
#   POT, mean, 1: 0.092, 3: 0.140, 30: 0.570; last, 3: 0.314.
# clusters-1k-2, 10 s: ott adam 0.005 with average 0.02: 0.113, with 0.002: 0.451; 0.02 with 0.005:
#   0.529; 0.002 with 0.005: 0.082. POT, mean, 1: 0.221, 3: 0.366.
OTT = {
    "uniform-1k-2": OTTSettings(learning_rate=0.001, average=0.002),
    "clusters-1k-2": OTTSettings(learning_rate=0.002, average=0.002),
    "normal-10k-64": OTTSettings(learning_rate=0.1, batch_size=512),
    "codes-10k-64": OTTSettings(learning_rate=0.05, batch_size=512),
    "classes-60k-32": OTTSettings(learning_rate=1.0, batch_size=512, start="norms"),
    "student-3k-24": OTTSettings(learning_rate=1.0, batch_size=512),
    "radial-3k-16": OTTSettings(learning_rate=1.0, batch_size=512),
    "outlying-3k-32": OTTSettings(learning_rate=0.1, batch_size=512),
    "unequal-3k-32": OTTSettings(learning_rate=0.3, batch_size=512),
}
# On one NVIDIA H200, after 4 s. normal-10k-64: batches of 512, rates 0.1 and 0.3: 0.043, 0.053;
#   of 2048, 0.03, 0.1, 0.3: 0.026, 0.030, 0.036; of 8192, the same: 0.016, 0.021, 0.029;
#   of 32,768, 0.03, 0.1: 0.021, 0.021. classes-60k-32: 512, 1 and 3: 0.226, 0.275;
#   2048, 1: 0.185; 8192, 0.3, 1: 0.133, 0.164. codes-10k-64: 2048, 0.015: 0.033;
#   8192, 0.005, 0.015, 0.05: 0.034, 0.028, 0.033; 32,768, 0.015: 0.101.
OTT_ON_ACCELERATOR = OTT | {
    "normal-10k-64": OTTSettings(learning_rate=0.03, batch_size=8192),
    "codes-10k-64": OTTSettings(learning_rate=0.015, batch_size=8192),
    "classes-60k-32": OTTSettings(learning_rate=0.3, batch_size=8192, start="norms"),
}
POT = {
    "uniform-1k-2": POTSettings(learning_rate=1.0),
    "clusters-1k-2": POTSettings(learning_rate=1.0),
    "normal-10k-64": POTSettings(learning_rate=3000.0, average=False),
    "codes-10k-64": POTSettings(learning_rate=600.0, average=False),
    "classes-60k-32": POTSettings(learning_rate=20000.0, average=False, start="norms"),
    "student-3k-24": POTSettings(learning_rate=1000.0, average=False, start="norms"),
    "radial-3k-16": POTSettings(learning_rate=1000.0, average=False, start="norms"),
    "outlying-3k-32": POTSettings(learning_rate=1000.0, average=False, start="norms"),
    "unequal-3k-32": POTSettings(learning_rate=1000.0, average=False, start="norms"),
}


def settings(name: str, work: str) -> Settings:
    """What a peer is told for a work on what JAX computes on."""
    ott = OTT if harness.on_cpu() else OTT_ON_ACCELERATOR
    return {"ott": ott, "pot": POT}[name][work]


def tried(name: str) -> Sequence[Settings]:
    """What a search tries: rates by factors of three, from both starts.

    For ott-jax Adam with a cosine in batches of 512, and for POT the last heights: these were best
    wherever else they were compared. On student-3k-24 rates below these were tried, too, and lost.
    """
    if name == "ott":
        norms = [OTTSettings(rate, batch_size=512, start="norms") for rate in (0.3, 1.0, 3.0, 10.0)]
        return norms + [OTTSettings(rate, batch_size=512) for rate in (0.1, 0.3, 1.0, 3.0)]
    norms = [POTSettings(rate, average=False, start="norms") for rate in (300.0, 1000.0, 3000.0)]
    return norms + [POTSettings(rate, average=False) for rate in (1000.0, 3000.0)]


def _iterations(timed: Callable[[int], float], seconds: float) -> int:
    """Iterations that fit the budget, by a linear law through short runs."""
    count, spent = 4, timed(4)
    while spent < _TRIAL_SECONDS:
        count = max(2 * count, int(count * 1.2 * _TRIAL_SECONDS / max(spent, 1e-3)))
        spent = timed(count)
    return max(1, round(count * seconds / spent))


def _schedule(decay: str, rate: float, iterations: int) -> optax.Schedule:
    """The step sizes of a run: a cosine to zero, or 1/t after a knee at 5 % of it."""
    if decay == "cosine":
        return optax.cosine_decay_schedule(rate, iterations)
    knee = 0.05 * iterations
    return lambda count: rate * knee / (knee + count)


def run_ott(work: Work, settings: OTTSettings, seconds: float) -> Run:
    """ott-jax: ``jax.jit(solver)(key, problem)``, compiled ahead of the timed call.

    Its own check of convergence is asked for once, at the end, from one batch, and it never stops.
    """
    from ott.geometry import semidiscrete_pointcloud
    from ott.problems.linear import semidiscrete_linear_problem
    from ott.solvers.linear import semidiscrete

    y = jnp.asarray(work.targets())
    norms = (y * y).sum(1)
    mu = work.mu

    def sampler(key, shape, dtype=None):
        return mu.sample(key, shape[0])

    problem = semidiscrete_linear_problem.SemidiscreteLinearProblem(
        semidiscrete_pointcloud.SemidiscretePointCloud(sampler, y, epsilon=settings.epsilon)
    )
    start = norms if settings.start == "norms" else jnp.zeros_like(norms)
    key = jax.random.key(1)

    def run(iterations: int) -> tuple[float, jax.Array]:
        rate = _schedule(settings.decay, settings.learning_rate, iterations)
        optimizer = optax.adam(rate) if settings.optimizer == "adam" else optax.sgd(rate)
        solver = semidiscrete.SemidiscreteSolver(
            num_iterations=iterations,
            batch_size=settings.batch_size,
            optimizer=optimizer,
            error_eval_every=iterations,
            error_num_repeats=1,
            threshold=-1.0,
            potential_ema=settings.average,
        )
        compiled = jax.jit(lambda key, g: solver(key, problem, g).g).lower(key, start).compile()
        began = harness.seconds()
        g = jax.block_until_ready(compiled(key, start))
        return harness.seconds() - began, g

    iterations = _iterations(lambda n: run(n)[0], seconds)
    spent, g = run(iterations)
    return Run(
        h=np.asarray((g - norms) / 2),
        seconds=spent,
        num_samples=iterations * settings.batch_size,
        settings=vars(settings) | {"iterations": iterations},
        version=metadata.version("ott-jax"),
    )


def run_pot(work: Work, settings: POTSettings, seconds: float) -> Run:
    """POT: NumPy float32; the cost -<x, y> is one matrix product and its potentials are heights."""
    # The extra `bench` installs it; nothing else needs it.
    solve_semidiscrete = importlib.import_module("ot.semidiscrete").solve_semidiscrete

    y = work.targets()
    norms = (y * y).sum(1)
    start = np.zeros_like(norms) if settings.start == "norms" else -norms / 2

    def run(iterations: int) -> tuple[float, Points]:
        rng = np.random.default_rng(1)

        def sampler(n):
            if work.source == "gaussian":
                return rng.standard_normal((n, work.dim), dtype=np.float32)
            return rng.random((n, work.dim), dtype=np.float32) - np.float32(0.5)

        began = harness.seconds()
        h = solve_semidiscrete(
            y,
            sampler,
            metric=lambda x, y: -(x @ y.T),
            max_iter=iterations,
            batch_size=settings.batch_size,
            lr0=settings.learning_rate,
            lr_exponent=settings.exponent,
            init_potential=start,
            decreasing_reg=settings.epsilon > 0,
            decreasing_reg_initial_eps=settings.epsilon,
            polyak_average=settings.average,
        )
        return harness.seconds() - began, h

    iterations = _iterations(lambda n: run(n)[0], seconds)
    spent, h = run(iterations)
    return Run(
        h=np.asarray(h),
        seconds=spent,
        num_samples=iterations * settings.batch_size,
        settings=vars(settings) | {"iterations": iterations},
        version=metadata.version("pot"),
    )

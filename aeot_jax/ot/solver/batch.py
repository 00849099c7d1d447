"""How the samples of a step are drawn, and how many they are."""

import math

from aeot_jax.measures import Measure
from aeot_jax.numerics import on_accelerator
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.counts.law import samples_to_reach
from aeot_jax.ot.counts.ways.table import WAYS, choose
from aeot_jax.ot.counts.ways.way import Batch
from aeot_jax.ot.solver.config import SolverConfig
from aeot_jax.ot.solver.plan import FEW_DIMS

LEAST_STEPS = 200
"""Steps of a solve with a tolerance, at least: few targets need few samples, but as many steps."""

BATCHES = (256, 4096)
"""Samples of a step, at least and at most, where the user names none."""

_SMALL_BATCH = 128
"""Samples of a step, at least, of a small problem."""

_STEPS, _MOST_AT_ONCE = 1000, 65_536
"""About how many steps an accelerator takes, and samples of a step at most: a step costs a quarter
of a millisecond of an H200 beside its scores. Fewer steps cost more samples: 5 % at 900, half as
many again at 250 (``benchmarks/README.md``, "A GPU")."""

_MOST_IN_LISTS = 16_384
"""The same at most, where lists are looked at."""


def batch_of(num_targets: int, mu: Measure, config: SolverConfig) -> Batch:
    """Samples of a step, whole for the kernel."""
    name = choose(mu, config.sampling, config.batch_size)
    small = _is_small(num_targets, mu, config)
    if small and config.sampling == "auto":
        name = "independent"
    if config.search == "lists" and name == "orbits":
        name = "independent"
    streams, way = config.streams, WAYS[name].spanning(config.streams)
    if config.batch_size:
        per_stream = -(-config.batch_size // (streams * way.least)) * way.least
        return Batch(way, per_stream, streams)
    least, most = _SMALL_BATCH if small else BATCHES[0], BATCHES[1]
    size = min(most, max(least, sizes.padded(num_targets, mu.dim) // 4))
    if on_accelerator() or config.search == "lists":
        size = max(size, _for_few_steps(num_targets, mu.dim, config))
    return Batch(way, max(1, round(size / (streams * way.whole))) * way.whole, streams)


def _for_few_steps(num_targets: int, dim: int, config: SolverConfig) -> int:
    """Samples of a step with which a long solve takes about ``_STEPS``: a power of two.

    An accelerator is quick on many samples, and many fill a list. There are few such numbers, so
    that few programs serve. Whoever limits the steps counts in the usual ones, and in few
    dimensions, and under pure Adam, they are what they were.
    """
    if config.max_steps or config.method == "adam" or dim <= FEW_DIMS:
        return 0
    if config.tolerance is None:
        wanted = config.max_samples or 0
    else:
        wanted = samples_to_reach(sizes.padded(num_targets, dim), dim, config.tolerance)
        wanted = min(wanted, config.max_samples or wanted)
    most = _MOST_IN_LISTS if config.search == "lists" else _MOST_AT_ONCE
    return min(most, 1 << round(math.log2(max(1.0, wanted / _STEPS))))


def _is_small(num_targets: int, mu: Measure, config: SolverConfig) -> bool:
    """Whether the least steps of orbits would cost more than the samples that the tolerance takes.

    Then steps are smaller. In few dimensions, and under pure Adam, they are what they were.
    """
    if config.tolerance is None or config.batch_size:
        return False
    if config.method == "adam" or mu.dim <= FEW_DIMS:
        return False
    wanted = samples_to_reach(num_targets, mu.dim, config.tolerance)
    # An orbit's sample costs half an independent one.
    return 2 * wanted < LEAST_STEPS * config.streams * WAYS["orbits"].whole

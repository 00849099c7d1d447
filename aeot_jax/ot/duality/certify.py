"""``certify``: what fresh samples say about any heights."""

import numpy as np

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import problem
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.counts.certificate import draw
from aeot_jax.ot.counts.estimate import Certificate
from aeot_jax.ot.devices.parallel import place, shard
from aeot_jax.ot.devices.placement import NUM_STREAMS, Parallel, placement_outside_jit
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey


def certify(
    key: Given[PRNGKey],
    mu: Given[Measure | Solution],
    y: ArrayLike | None = None,
    h: ArrayLike | None = None,
    nu: ArrayLike | None = None,
    num_samples: Given[int] = 100_000,
    *,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
    target_shards: Given[int] = 1,
) -> Certificate:
    """Measure the mass error of heights on samples that nothing else has used.

    Equal targets count as one, with the sum of their weights. Inside jit values cannot be compared:
    there the whole mass of a group of equal targets counts for the lowest index.

    Args:
      key: consumed; must not be a key that led to ``h``.
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y, h and nu.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      nu: weights (m,), sum 1; None is uniform. Weights may be 0.
      num_samples: samples, at least 2; rounded up to whole batches of the logical streams. A mass
        error e is measured with standard error s by about sqrt(m / 2) / (e s) of them.
      parallel: how the samples are sharded over devices; see ``SolverConfig``. Inside jit choose
        "none".
      devices: the devices to use; None is all.
      target_shards: devices over which the targets are sharded; see ``SolverConfig``.

    Returns:
      The certificate; its ``num_samples`` says how many were drawn.

    Raises:
      ValueError: if shapes, weights, heights, the source's dimension or the devices do not fit.
    """
    key = arguments.key("key", key)
    source, y, h, nu = parts_of(mu, y, h, nu)
    num_samples = arguments.count("num_samples", num_samples, 2)
    target_shards = arguments.whole("target_shards", target_shards)
    concrete = arguments.is_concrete(key, source, y, h, nu)
    spread = parallel, devices, target_shards
    where = placement_outside_jit("certify", *spread, concrete, NUM_STREAMS)
    made = problem.make(source, y, nu, sharded=target_shards != 1, stored=True)
    heights = made.heights(h)
    if target_shards != 1:
        rows = sizes.sharded(*made.y.shape)
        key, source = place(where, (key, source))
        targets, weights = (shard(where, np.asarray(a), rows) for a in (made.y, made.nu))
        heights = shard(where, np.asarray(heights), rows, fill=-np.inf)  # these own no cell
    else:
        arrays = key, source, made.y, heights, made.nu
        key, source, targets, heights, weights = place(where, arrays)
    return draw(key, problem.Marginals(source, targets, weights), heights, num_samples, where=where)

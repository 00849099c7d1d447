"""The last draw of a solve: fresh samples counted in the cells, a few batches a call."""

import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax.arguments import is_concrete
from aeot_jax.numerics import on_accelerator
from aeot_jax.ot.cells import shift
from aeot_jax.ot.counts.estimate import (
    Certificate,
    CertificateSums,
    certificate_of,
    certificate_sums,
)
from aeot_jax.ot.counts.streams import draw_counts
from aeot_jax.ot.counts.ways.table import INDEPENDENT
from aeot_jax.ot.counts.ways.way import Batch, Draws
from aeot_jax.ot.devices.parallel import local, run
from aeot_jax.ot.devices.placement import OF_MARGINALS, SHARDED, Axes, Placement
from aeot_jax.ot.problem import Marginals
from aeot_jax.typing import Counts, Heights, PRNGKey, Weights

_BATCH = Batch(INDEPENDENT, 512)
"""A draw is a whole number of batches."""

_CHUNK_WORK = 2e11
"""Floating-point operations of one call: about a second of two cores."""

_ACCELERATOR_CHUNK_WORK = 1e13
"""The same on an accelerator: about half a second of one H200."""


def draw(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    num_samples: int,
    where: Placement = Placement("none"),  # noqa: B008 - a tuple
    batch: Batch = _BATCH,
) -> Certificate:
    """``certify`` of a problem that ``problem.make`` has made.

    Args:
      key: consumed.
      marginals: source, targets and weights.
      h: heights (m,).
      num_samples: samples at least.
      where: placement of the devices; the arrays are placed in it, or sharded over it.
      batch: its streams, and the samples of each; the solver passes its own, so that one kernel is
        compiled. Samples are independent, and all targets are looked at, whatever it says.
    """
    per_stream = min(batch.samples_per_stream, -(-num_samples // batch.streams))
    batch = Batch(INDEPENDENT, per_stream, batch.streams)
    batches = -(-num_samples // batch.size)
    total = batches * batch.size
    if total > np.iinfo(np.int32).max:
        raise ValueError(
            f"`num_samples` is {num_samples}; counts are int32, so pass less than 2^31."
        )
    specs = (P(), OF_MARGINALS, SHARDED, P()), SHARDED
    at_once = most_at_once(batch.size, *marginals.y.shape)
    if not is_concrete(key, marginals, h):
        at_once = batches  # each call would be traced again
    counts = None
    for first in range(0, batches, at_once):
        numbers = np.int32(first), np.int32(min(at_once, batches - first))
        arguments = key, marginals, h, numbers
        own = run(where, fresh_counts, *arguments, specs=specs, batch=batch)
        counts = own if counts is None else counts + own
    assert counts is not None  # there is a batch
    specs = (SHARDED, SHARDED, P()), P()
    sums = run(where, _sums, counts, marginals.nu, np.float32(total), specs=specs)
    return _certificate(local(sums), total)


def most_at_once(num_samples: int, num_targets: int, dim: int) -> int:
    """Batches of one call: a second of two cores, so that limits and Ctrl-C work."""
    work = _ACCELERATOR_CHUNK_WORK if on_accelerator() else _CHUNK_WORK
    return max(1, int(work / (2 * num_samples * num_targets * dim)))


def fresh_counts(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    numbers: tuple[Int[Array, ""], Int[Array, ""]],
    *,
    batch: Batch,
    axes: Axes,
) -> Counts:
    """Counts of some batches of fresh samples over all devices.

    Args:
      key: of the draw.
      marginals: source, targets (m, d) and weights.
      h: heights (m,).
      numbers: of the first batch, and how many.
      batch: how it is drawn.
      axes: over which samples and targets are sharded.
    """
    rows, heights, _ = shift.around(marginals.y, h, axes.targets)
    first, batches = numbers
    near = marginals._replace(y=rows)
    return draw_counts(key, near, heights, batches, first, draws=Draws(batch, axes))[0]


def _sums(
    counts: Counts, nu: Weights, num_samples: Float[Array, ""], *, axes: Axes
) -> CertificateSums:
    """What the certificate needs to know of all targets; every row of devices does the same."""
    return certificate_sums(counts, nu, num_samples, axes.targets)


_certificate = jax.jit(certificate_of)
"""A program of its own, so that its floats are rounded alike in every placement."""

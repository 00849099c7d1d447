"""The certificate: what fresh samples say about any heights."""

import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.measures import Measure
from aeot_jax.ot import problem
from aeot_jax.ot.cells import shift, sizes
from aeot_jax.ot.counts.estimate import (
    Certificate,
    CertificateSums,
    certificate_of,
    certificate_sums,
)
from aeot_jax.ot.counts.streams import draw_counts
from aeot_jax.ot.devices.parallel import local, place, run, shard
from aeot_jax.ot.devices.placement import NUM_STREAMS, SHARDED, Parallel, Placement, placement
from aeot_jax.ot.solver.config import most_at_once
from aeot_jax.ot.solver.solution import Solution, parts_of
from aeot_jax.typing import ArrayLike, Counts, Devices, Given, Heights, PRNGKey, Targets, Weights

_SAMPLES_PER_STREAM = 512
"""Samples of a stream in one batch; a draw is a whole number of batches."""


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

    Coinciding targets count as one, with the sum of their weights (outside jit; inside, values
    cannot be compared and each group's mass is found at its lowest index).

    Args:
      key: consumed; must not be a key that led to ``h``.
      mu: source measure; or a ``Solution`` of ``solve``, which stands for all of mu, y, h and nu.
      y: targets (m, d).
      h: heights (m,); -inf for a target that owns no cell.
      nu: weights (m,), sum 1; None is uniform. Weights may be 0.
      num_samples: samples, at least 2; rounded up to whole batches of the logical streams. A mass
        error e is measured with standard error s by about sqrt(m / 2) / (e s) of them.
      parallel: how the samples are spread over devices; see ``SolverConfig``. Inside jit choose
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
    concrete = problem.is_concrete(key, source, y, h, nu)
    if target_shards != 1 and not concrete:
        raise ValueError(
            f"`target_shards` is {target_shards} under jit, where targets cannot be sharded "
            "over devices; call `certify` outside jit, or pass 1."
        )
    where = placement(parallel, devices, target_shards, inside_jit=not concrete)
    made = problem.make(source, y, nu, sharded=target_shards != 1)
    heights = made.heights(h)
    if target_shards != 1:
        rows = sizes.sharded(*made.y.shape)
        key, source = place(where, (key, source))
        targets, weights = (shard(where, np.asarray(a), rows) for a in (made.y, made.nu))
        heights = shard(where, np.asarray(heights), rows, fill=-np.inf)  # these own no cell
    else:
        arrays = key, source, made.y, heights, made.nu
        key, source, targets, heights, weights = place(where, arrays)
    return draw(key, source, targets, heights, weights, num_samples, where=where)


def draw(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    nu: Weights,
    num_samples: int,
    samples_per_stream: int = _SAMPLES_PER_STREAM,
    where: Placement = Placement("none"),  # noqa: B008 - a tuple
) -> Certificate:
    """``certify`` of a problem that ``problem.make`` has made.

    Args:
      key: consumed.
      mu: source measure.
      y: targets (m, d).
      h: heights (m,).
      nu: weights (m,).
      num_samples: samples at least.
      samples_per_stream: samples of a stream in one batch; the solver passes its own, so that one
        kernel is compiled.
      where: placement of the devices; the arrays are placed in it, or sharded over it.
    """
    samples_per_stream = min(samples_per_stream, -(-num_samples // NUM_STREAMS))
    batches = -(-num_samples // (samples_per_stream * NUM_STREAMS))
    total = batches * samples_per_stream * NUM_STREAMS
    if total > np.iinfo(np.int32).max:
        raise ValueError(
            f"`num_samples` is {num_samples}; counts are int32, so pass less than 2^31."
        )
    specs = (P(), P(), SHARDED, SHARDED, SHARDED, P(), P()), SHARDED
    at_once = most_at_once(samples_per_stream * NUM_STREAMS, *y.shape)
    if not problem.is_concrete(key, mu, y, h, nu):
        at_once = batches  # each call would be traced again
    counts = None
    for first in range(0, batches, at_once):
        numbers = np.int32(first), np.int32(min(at_once, batches - first))
        arguments = key, mu, y, h, nu, *numbers
        own = run(where, _counts, *arguments, specs=specs, samples_per_stream=samples_per_stream)
        counts = own if counts is None else counts + own
    assert counts is not None  # there is a batch
    specs = (SHARDED, SHARDED, P()), P()
    sums = run(where, _sums, counts, nu, np.float32(total), specs=specs)
    return _certificate(local(sums), total)


def _counts(
    key: PRNGKey,
    mu: Measure,
    y: Targets,
    h: Heights,
    nu: Weights,
    first: Int[Array, ""],
    batches: Int[Array, ""],
    *,
    samples_per_stream: int,
    axis_name: str | None,
    targets_axis: str | None,
) -> Counts:
    """Counts of some batches of fresh independent samples over all devices of the axes."""
    rows, heights, _ = shift.around(y, h, targets_axis)
    return draw_counts(
        key,
        mu,
        rows,
        heights,
        nu,
        batches,
        first,
        samples_per_stream=samples_per_stream,
        axis_name=axis_name,
        targets_axis=targets_axis,
    )[0]


def _sums(
    counts: Counts,
    nu: Weights,
    num_samples: Float[Array, ""],
    *,
    axis_name: str | None,
    targets_axis: str | None,
) -> CertificateSums:
    """What the certificate needs to know of all targets; every row of devices does the same."""
    del axis_name
    return certificate_sums(counts, nu, num_samples, targets_axis)


_certificate = jax.jit(certificate_of)
"""A program of its own, so that its floats are rounded alike in every placement."""

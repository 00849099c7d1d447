"""Which cells the samples of a stream lie in, whatever the way to draw them (``ways/``)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.measures import is_centred
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.counts.ways.way import Way
from aeot_jax.ot.devices.placement import NUM_STREAMS
from aeot_jax.ot.problem import Marginals
from aeot_jax.typing import Heights, Index, PRNGKey, Samples


class Batch(NamedTuple):
    """How a batch of samples is drawn; static.

    Attributes:
      way: of drawing.
      samples_per_stream: samples of each logical stream; a multiple of ``way.least``.
    """

    way: Way
    samples_per_stream: int

    @property
    def size(self) -> int:
        """Samples of all streams."""
        return self.samples_per_stream * NUM_STREAMS


def cells(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    stream: Int[Array, ""],
    batch: Batch,
    targets_axis: str | None = None,
) -> Index:
    """Cells that hold the samples of one logical stream of a batch.

    Args:
      key: key of the batch.
      marginals: its targets (rows, d) are prepared by the way, or come from ``shift.around``; rows
        beyond the heights own no cell.
      h: heights (m,).
      stream: id of the stream.
      batch: how it is drawn.
      targets_axis: a mapped axis over whose devices the targets are sharded, m to each.

    Returns:
      Indices (n,), m where the cell is another device's. Streams are independent of each other, but
      for a net, which spans them all.
    """
    rows, heights = _whole(as_rows(marginals.y), h)
    x = batch.way.drawn(key, marginals.mu, stream, batch.samples_per_stream)
    owners = _owners(x, rows, heights, h.shape[0], batch.way, targets_axis)
    return owners.reshape(batch.samples_per_stream)


def cells_abreast(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    streams: Int[Array, " s"],
    batch: Batch,
    targets_axis: str | None = None,
) -> Int[Array, "s n"]:
    """``cells`` of several streams, all scored together: what an accelerator wants."""

    def drawn(stream: Int[Array, ""]) -> Samples:
        return batch.way.drawn(key, marginals.mu, stream, batch.samples_per_stream)

    # Of a law of one's own nobody knows whether its sampler can be mapped.
    x = jax.vmap(drawn)(streams) if is_centred(marginals.mu) else jax.lax.map(drawn, streams)
    rows, heights = _whole(as_rows(marginals.y), h)
    flat = x.reshape(-1, x.shape[2])
    index = _owners(flat, rows, heights, h.shape[0], batch.way, targets_axis)
    of_streams = index.reshape(-1, x.shape[0], x.shape[1])  # a member of every orbit in front
    return jnp.swapaxes(of_streams, 0, 1).reshape(x.shape[0], batch.samples_per_stream)


def _whole(rows: Rows, h: Heights) -> tuple[Rows, Float[Array, " rows"]]:
    """Targets and heights filled up to a block of the kernel.

    It has the same shape however few targets there are: a product of matrices may round by its
    shape, and where planes nearly meet, rounding decides.
    """
    number = max(rows.shape[0], blockwise.ALIGNMENT)
    points = jnp.pad(rows.points, ((0, number - rows.shape[0]), (0, 0)))
    heights = jnp.pad(h, (0, number - h.shape[0]), constant_values=-jnp.inf)
    return rows._replace(points=points), heights


def _owners(
    x: Samples,
    rows: Rows,
    heights: Heights,
    num_targets: int,
    way: Way,
    targets_axis: str | None,
) -> Int[Array, "*n"]:
    """Cells of the samples that x stands for; ``num_targets`` where another device owns it."""
    if targets_axis is None:
        return way.owners(x, rows, heights)
    scores, index = way.leaders(x, rows, heights)
    winner = is_winner(scores.reshape(-1), targets_axis).reshape(index.shape)
    return jnp.where(winner, index, num_targets)


def is_winner(scores: Float[Array, " n"], targets_axis: str) -> Bool[Array, " n"]:
    """Whether this device's best score of each sample is the best of all devices.

    Of equals the first wins, as among the targets of one device. Four bytes a sample and device
    travel: whoever wins knows the index.
    """
    everyone = jax.lax.all_gather(scores, targets_axis)
    shards = jnp.arange(everyone.shape[0], dtype=jnp.int32)[:, None]
    best = jnp.max(everyone, axis=0)
    winner = jnp.min(jnp.where(everyone == best[None, :], shards, everyone.shape[0]), axis=0)
    return winner == jax.lax.axis_index(targets_axis)

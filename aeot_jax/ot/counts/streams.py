"""Counts of samples in the cells, by logical streams that devices share.

The streams of a batch are eight, or as many as the user asks for: each draws by the key and its own
id, so that their sum is the same integers in whatever way they are sharded over devices. How a
stream is drawn, and which cells its samples lie in, is the way's (``ways/``).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from aeot_jax.measures import is_centred
from aeot_jax.numerics import isolated, on_accelerator
from aeot_jax.ot.cells import blockwise, contenders
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.counts import shares
from aeot_jax.ot.counts.chi_square import scatter
from aeot_jax.ot.counts.sharded import is_winner, over_axes, own_streams
from aeot_jax.ot.counts.shares import Scale, Shared
from aeot_jax.ot.counts.ways.way import Batch, Draws, Way
from aeot_jax.ot.lists import search
from aeot_jax.ot.problem import Marginals
from aeot_jax.typing import Counts, Heights, Index, PRNGKey, Samples


def stream_counts(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    streams: Int[Array, " s"],
    draws: Draws,
    scale: Scale | None = None,
) -> tuple[Int[Array, "r m"], Float[Array, "s k"]]:
    r"""Count the samples of some logical streams that fall into each cell.

    Every stream draws by the key and its own id, so that the total over all streams is the same
    however they are sharded over devices: integers add exactly in any order.

    Args:
      key: key of the draw.
      marginals: source, targets and weights; see ``cells``.
      h: heights (m,).
      streams: ids of the streams to draw (s,).
      draws: how they are drawn. Where the targets are sharded, y, h, nu and the counts are those of
        this device.
      scale: of the gaps, where samples are shared with the runner-up (``shares.py``).

    Returns:
      Counts (1, m), int32, with sum s * samples_per_stream over all devices; with a scale two more
      rows (3, m), what shares add to the counts and the sums of the gaps. And for each stream
      :math:`\sum_i (c_i - n \nu_i)^2 / \nu_i` of its own counts and samples, by the k logical
      blocks of targets of this device, which ``chi_square_between`` takes off.
    """
    batch, axes = draws
    n = jnp.float32(batch.samples_per_stream)

    def counted(
        index: Int[Array, " n"], *shared: Int[Array, "*n"]
    ) -> tuple[Int[Array, "r m"], Float[Array, " k"]]:
        """Counts of one stream and their scatter, from the cells of its samples."""
        nu = marginals.nu
        own = jnp.zeros_like(h, dtype=jnp.int32).at[index].add(1)  # m is another device's
        within = blockwise.map_blocks(scatter, (own, nu), n, targets_axis=axes.targets)
        rows = [own]
        if shared:
            second, share, gaps = shared
            rows.append(shares.moved(index, second, share, num_targets=h.shape[0]))
            rows.append(shares.summed(index, gaps, num_targets=h.shape[0]))
        return jnp.stack(rows), within

    if scale is None and (on_accelerator() or batch.probes):
        index = cells_abreast(key, marginals, h, streams, draws)
        counts, within = jax.vmap(counted)(index)
        return counts.sum(0, dtype=jnp.int32), within

    def add(
        counts: Int[Array, "r m"], stream: Int[Array, ""]
    ) -> tuple[Int[Array, "r m"], Float[Array, " k"]]:
        if scale is None:
            found = (cells(key, marginals, h, stream, draws),)
        else:
            found = shared_cells(key, marginals, h, stream, draws, scale)
        own, within = counted(*found)
        return counts + own, within

    # Under shard_map the carry must vary over devices as the counts will: derive it from both.
    return jax.lax.scan(add, _no_counts(h, streams, scale), streams)


def _no_counts(h: Heights, streams: Int[Array, " s"], scale: Scale | None) -> Int[Array, "r m"]:
    """What a loop over streams begins with; it varies over the same mesh axes as what is added."""
    none = jnp.zeros_like(h, dtype=jnp.int32) + 0 * streams[:1]
    return jnp.stack([none] * (1 if scale is None else 3))


def batch_counts(
    key: PRNGKey, marginals: Marginals, h: Heights, draws: Draws
) -> tuple[Counts, Float[Array, " all"]]:
    """Counts (m,) of one batch, all logical streams of it.

    Args:
      key: key of the batch.
      marginals: source, targets and weights; see ``cells``.
      h: heights (m,).
      draws: how it is drawn; the counts are summed over the axis of the samples, so that every
        device gets the counts of the whole batch.

    Returns:
      Counts, and the scatter of every stream (all,); see ``stream_counts``.

    Raises:
      ValueError: if the size of the axis does not divide the number of streams.
    """
    streams = own_streams(draws.axes.samples, draws.batch.streams)
    drawn = stream_counts(key, marginals, h, streams, draws)
    counts, within = over_axes(*drawn, streams, draws)
    return counts[0], within


def draw_counts(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    num_batches: ArrayLike,
    first: ArrayLike = 0,
    *,
    draws: Draws,
) -> tuple[Counts, Float[Array, " all"]]:
    """Counts (m,) of so many batches of fresh samples.

    The number of batches, at least 1, is traced: any amount of samples costs one compilation. They
    are numbered from ``first`` on, and each is drawn by the key and its number.

    Returns:
      Counts, and the scatter of every stream (all,), summed over the batches. All batches together
      are one reduction over the axis.
    """
    counts, within = _draw(key, marginals, h, (first, num_batches), None, draws=draws)
    return counts[0], within


def draw_shared(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    num_batches: ArrayLike,
    scale: Scale,
    *,
    draws: Draws,
) -> tuple[Counts, Shared, Float[Array, " all"]]:
    """The same, and what the samples tell beyond their cells; see ``shares.py``.

    Returns:
      Counts (m,), what shares add to them and the sums of the gaps, and the scatter of every
      stream (all,).
    """
    counts, within = _draw(key, marginals, h, (0, num_batches), scale, draws=draws)
    return counts[0], Shared(counts[1], counts[2]), within


@partial(jax.jit, static_argnames=("draws",))
def _draw(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    numbers: tuple[ArrayLike, ArrayLike],
    scale: Scale | None,
    *,
    draws: Draws,
) -> tuple[Int[Array, "r m"], Float[Array, " all"]]:
    """Counts of some batches; ``numbers`` are that of the first, and how many they are."""
    axes = draws.axes
    streams = own_streams(axes.samples, draws.batch.streams)

    def body(
        i: Int[Array, ""], carry: tuple[Int[Array, "r m"], Float[Array, "s k"]]
    ) -> tuple[Int[Array, "r m"], Float[Array, "s k"]]:
        batch_key = jax.random.fold_in(key, i)
        drawn = stream_counts(batch_key, marginals, h, streams, draws, scale)
        return carry[0] + drawn[0], carry[1] + drawn[1]

    # Under shard_map a carry must vary over devices as what is added to it does.
    own = blockwise.NUM_BLOCKS // blockwise.num_shards(axes.targets)
    none = 0.0 * streams[:, None].astype(jnp.float32) + jnp.zeros_like(h, shape=(1, own))
    first, number = (jnp.asarray(one, jnp.int32) for one in numbers)
    empty = _no_counts(h, streams, scale), none
    counts, within = jax.lax.fori_loop(first, first + number, body, empty)
    return over_axes(counts, within, streams, draws)


def cells(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    stream: Int[Array, ""],
    draws: Draws,
) -> Index:
    """Cells that hold the samples of one logical stream of a batch.

    Args:
      key: key of the batch.
      marginals: its targets (rows, d) are prepared by the way, or come from ``shift.around``; rows
        beyond the heights own no cell.
      h: heights (m,).
      stream: id of the stream.
      draws: how it is drawn, and over which devices the targets are sharded, m to each.

    Returns:
      Indices (n,), m where the cell is another device's. Streams are independent of each other, but
      for a net, which spans them all.
    """
    batch, axes = draws
    x, rows, heights = _drawn(key, marginals, h, stream, batch)
    owners = _owners(x, rows, heights, h.shape[0], batch.way, axes.targets)
    return owners.reshape(batch.samples_per_stream)


def shared_cells(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    stream: Int[Array, ""],
    draws: Draws,
    scale: Scale,
) -> tuple[Index, Index, Int[Array, " n"], Int[Array, " n"]]:
    """``cells``, the runners-up (n,), the shares that these have in the samples, and the gaps (n,).

    Other arguments are those of ``cells``; how gaps are read is told in ``shares.py``.
    """
    x, rows, heights = _drawn(key, marginals, h, stream, draws.batch)
    found = draws.batch.way.contending(x, rows, heights)
    (best, second), gap = contenders.two_best(found, draws.axes.targets, h.shape[0])
    return best, second, *isolated(shares.read, gap, scale)


def _drawn(
    key: PRNGKey, marginals: Marginals, h: Heights, stream: Int[Array, ""], batch: Batch
) -> tuple[Samples, Rows, Float[Array, " rows"]]:
    """Samples of a stream, with targets and heights that fill a block of the kernel."""
    rows, heights = _whole(as_rows(marginals.y), h)
    return batch.way.drawn(key, marginals.mu, stream, batch.samples_per_stream), rows, heights


def cells_abreast(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    streams: Int[Array, " s"],
    draws: Draws,
) -> Int[Array, "s n"]:
    """``cells`` of several streams, all scored together: what accelerators and lists want."""
    batch, axes = draws

    def drawn(stream: Int[Array, ""]) -> Samples:
        return batch.way.drawn(key, marginals.mu, stream, batch.samples_per_stream)

    # The sampler of a user's own source may not work under `vmap`.
    x = jax.vmap(drawn)(streams) if is_centred(marginals.mu) else jax.lax.map(drawn, streams)
    rows, heights = _whole(as_rows(marginals.y), h)
    flat = x.reshape(-1, x.shape[2])
    if batch.probes:
        index = search.owners(flat, rows, heights, rows.lists, batch.probes)
    else:
        index = _owners(flat, rows, heights, h.shape[0], batch.way, axes.targets)
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

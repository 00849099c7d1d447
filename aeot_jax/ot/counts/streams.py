"""Counts of samples in the cells, by logical streams that devices share.

The streams of a batch are eight, or as many as the user asks for: each draws by the key and its own
id, so that their sum is the same integers in whatever way they are sharded over devices. How a
stream is drawn, and which cells its samples lie in, is the way's (``ways/``).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from aeot_jax.measures import is_centred
from aeot_jax.numerics import axis_size, isolated, on_accelerator
from aeot_jax.ot.cells import blockwise, contenders
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.counts import shares
from aeot_jax.ot.counts.chi_square import scatter
from aeot_jax.ot.counts.ways.way import Batch, Way
from aeot_jax.ot.devices.placement import ALONE, NUM_STREAMS, Axes, divisors
from aeot_jax.ot.lists import search
from aeot_jax.ot.problem import Marginals
from aeot_jax.typing import Counts, Heights, Index, PRNGKey, Samples


def stream_counts(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    streams: Int[Array, " s"],
    batch: Batch,
    targets_axis: str | None = None,
    width: Float[Array, ""] | None = None,
) -> tuple[Int[Array, "r m"], Float[Array, "s k"]]:
    r"""Count the samples of some logical streams that fall into each cell.

    Every stream draws by the key and its own id, so that the total over all streams is the same
    however they are sharded over devices: integers add exactly in any order.

    Args:
      key: key of the draw.
      marginals: source, targets and weights; see ``cells``.
      h: heights (m,).
      streams: ids of the streams to draw (s,).
      batch: how it is drawn.
      targets_axis: a mapped axis over whose devices the targets are sharded: y, h, nu and the
        counts are those of this device.
      width: gap up to which a sample is shared with the runner-up (``shares.py``); None shares
        nothing.

    Returns:
      Counts (1, m), int32, with sum s * samples_per_stream over all devices; with a width a second
      row (2, m), what shares add to the counts. And for each stream
      :math:`\sum_i (c_i - n \nu_i)^2 / \nu_i` of its own counts and samples, by the k logical
      blocks of targets of this device, which ``chi_square_between`` takes off.
    """
    n = jnp.float32(batch.samples_per_stream)

    def counted(
        index: Int[Array, " n"], *shared: Int[Array, "*n"]
    ) -> tuple[Int[Array, "r m"], Float[Array, " k"]]:
        """Counts of one stream and their scatter, from the cells of its samples."""
        nu = marginals.nu
        own = jnp.zeros_like(h, dtype=jnp.int32).at[index].add(1)  # m is another device's
        within = blockwise.map_blocks(scatter, (own, nu), n, targets_axis=targets_axis)
        rows = [own]
        if shared:
            rows.append(shares.moved(index, *shared, num_targets=h.shape[0]))
        return jnp.stack(rows), within

    if width is None and (on_accelerator() or batch.probes):
        index = cells_abreast(key, marginals, h, streams, batch, targets_axis)
        counts, within = jax.vmap(counted)(index)
        return counts.sum(0, dtype=jnp.int32), within

    def add(
        counts: Int[Array, "r m"], stream: Int[Array, ""]
    ) -> tuple[Int[Array, "r m"], Float[Array, " k"]]:
        if width is None:
            found = (cells(key, marginals, h, stream, batch, targets_axis),)
        else:
            found = shared_cells(key, marginals, h, stream, batch, width, targets_axis)
        own, within = counted(*found)
        return counts + own, within

    # Under shard_map the carry must vary over devices as the counts will: derive it from both.
    return jax.lax.scan(add, _no_counts(h, streams, width), streams)


def _no_counts(
    h: Heights, streams: Int[Array, " s"], width: Float[Array, ""] | None
) -> Int[Array, "r m"]:
    """What a loop over streams begins with; it varies over the same mesh axes as what is added."""
    none = jnp.zeros_like(h, dtype=jnp.int32) + 0 * streams[:1]
    return jnp.stack([none] * (1 if width is None else 2))


def batch_counts(
    key: PRNGKey, marginals: Marginals, h: Heights, batch: Batch, axes: Axes = ALONE
) -> tuple[Counts, Float[Array, " all"]]:
    """Counts (m,) of one batch, all logical streams of it.

    Args:
      key: key of the batch.
      marginals: source, targets and weights; see ``cells``.
      h: heights (m,).
      batch: how it is drawn.
      axes: mapped axes; the counts are summed over that of the samples, so that every device gets
        the counts of the whole batch.

    Returns:
      Counts, and the scatter of every stream (all,); see ``stream_counts``.

    Raises:
      ValueError: if the size of the axis does not divide the number of streams.
    """
    streams = own_streams(axes.samples, batch.streams)
    drawn = stream_counts(key, marginals, h, streams, batch, axes.targets)
    counts, within = _over_axes(*drawn, streams, batch.streams, axes)
    return counts[0], within


def draw_counts(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    num_batches: ArrayLike,
    first: ArrayLike = 0,
    *,
    batch: Batch,
    axes: Axes = ALONE,
) -> tuple[Counts, Float[Array, " all"]]:
    """Counts (m,) of so many batches of fresh samples.

    The number of batches, at least 1, is traced: any amount of samples costs one compilation. They
    are numbered from ``first`` on, and each is drawn by the key and its number.

    Returns:
      Counts, and the scatter of every stream (all,), summed over the batches. All batches together
      are one reduction over the axis.
    """
    counts, within = _draw(key, marginals, h, num_batches, first, None, batch=batch, axes=axes)
    return counts[0], within


def draw_shared(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    num_batches: ArrayLike,
    width: Float[Array, ""],
    *,
    batch: Batch,
    axes: Axes = ALONE,
) -> tuple[Counts, Counts, Float[Array, " all"]]:
    """The same, with what shares of the samples add to the counts; see ``shares.py``.

    Returns:
      Counts (m,), what shares add to them (m,) in units of ``1 / shares.UNITS``, and the scatter of
      every stream (all,).
    """
    counts, within = _draw(key, marginals, h, num_batches, 0, width, batch=batch, axes=axes)
    return counts[0], counts[1], within


@partial(jax.jit, static_argnames=("batch", "axes"))
def _draw(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    num_batches: ArrayLike,
    first: ArrayLike,
    width: Float[Array, ""] | None,
    *,
    batch: Batch,
    axes: Axes,
) -> tuple[Int[Array, "r m"], Float[Array, " all"]]:
    streams = own_streams(axes.samples, batch.streams)

    def body(
        i: Int[Array, ""], carry: tuple[Int[Array, "r m"], Float[Array, "s k"]]
    ) -> tuple[Int[Array, "r m"], Float[Array, "s k"]]:
        batch_key = jax.random.fold_in(key, i)
        drawn = stream_counts(batch_key, marginals, h, streams, batch, axes.targets, width)
        return carry[0] + drawn[0], carry[1] + drawn[1]

    # Under shard_map a carry must vary over devices as what is added to it does.
    own = blockwise.NUM_BLOCKS // blockwise.num_shards(axes.targets)
    none = 0.0 * streams[:, None].astype(jnp.float32) + jnp.zeros_like(h, shape=(1, own))
    begin = jnp.asarray(first, jnp.int32)
    last = begin + jnp.asarray(num_batches, jnp.int32)
    empty = _no_counts(h, streams, width), none
    counts, within = jax.lax.fori_loop(begin, last, body, empty)
    return _over_axes(counts, within, streams, batch.streams, axes)


def own_streams(axis_name: str | None, streams: int = NUM_STREAMS) -> Int[Array, " s"]:
    """Ids of the streams that this device draws, of so many."""
    if axis_name is None:
        return jnp.arange(streams, dtype=jnp.int32)
    num_devices = axis_size(axis_name)
    if streams % num_devices:
        *others, most = divisors(streams)
        raise ValueError(
            f"`axis_name` {axis_name!r} has size {num_devices}, which does not divide the "
            f"{streams} logical streams; map over {', '.join(map(str, others))} or {most} devices."
        )
    own = streams // num_devices
    return jax.lax.axis_index(axis_name) * own + jnp.arange(own, dtype=jnp.int32)


def _over_axes(
    counts: Int[Array, "r m"],
    within: Float[Array, "s k"],
    streams: Int[Array, " s"],
    number: int,
    axes: Axes,
) -> tuple[Int[Array, "r m"], Float[Array, " all"]]:
    """Counts of all devices and the scatter of all streams, by a reduction of integers.

    The bits of each float travel in a place of their own, to which the other devices add 0: a sum
    of floats would depend on the order of the devices.
    """
    within = blockwise.add_blocks(within.T, axes.targets)
    if axes.samples is None:
        return counts, within
    bits = jax.lax.bitcast_convert_type(within, jnp.int32)
    places = jnp.zeros_like(bits, shape=number) + 0 * streams[:1]
    places = places.at[streams].set(bits)
    if axes.targets is not None:  # the scatter is the same over that axis, the counts are not
        counts, places = (jax.lax.psum(part, axes.samples) for part in (counts, places))
    else:
        both = jax.lax.psum(jnp.concatenate([counts.ravel(), places]), axes.samples)
        counts, places = both[: counts.size].reshape(counts.shape), both[counts.size :]
    return counts, jax.lax.bitcast_convert_type(places, jnp.float32)


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
    x, rows, heights = _drawn(key, marginals, h, stream, batch)
    owners = _owners(x, rows, heights, h.shape[0], batch.way, targets_axis)
    return owners.reshape(batch.samples_per_stream)


def shared_cells(
    key: PRNGKey,
    marginals: Marginals,
    h: Heights,
    stream: Int[Array, ""],
    batch: Batch,
    width: Float[Array, ""],
    targets_axis: str | None = None,
) -> tuple[Index, Index, Int[Array, " n"]]:
    """``cells``, the runners-up (n,), and the shares that these have in the samples (n,).

    Other arguments are those of ``cells``; samples are shared where the gap between their two best
    scores is below ``width``, see ``shares.py``.
    """
    x, rows, heights = _drawn(key, marginals, h, stream, batch)
    found = batch.way.contending(x, rows, heights)
    (best, second), gap = contenders.two_best(found, targets_axis, h.shape[0])
    return best, second, isolated(shares.of_runner_up, gap, width)


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
    batch: Batch,
    targets_axis: str | None = None,
) -> Int[Array, "s n"]:
    """``cells`` of several streams, all scored together: what accelerators and lists want."""

    def drawn(stream: Int[Array, ""]) -> Samples:
        return batch.way.drawn(key, marginals.mu, stream, batch.samples_per_stream)

    # The sampler of a user's own source may not work under `vmap`.
    x = jax.vmap(drawn)(streams) if is_centred(marginals.mu) else jax.lax.map(drawn, streams)
    rows, heights = _whole(as_rows(marginals.y), h)
    flat = x.reshape(-1, x.shape[2])
    if batch.probes:
        index = search.owners(flat, rows, heights, rows.lists, batch.probes)
    else:
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
    winner = contenders.first_shard(jax.lax.all_gather(scores, targets_axis))
    return winner == jax.lax.axis_index(targets_axis)

"""What devices do together: which streams each draws, whose target wins, the sum of counts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.numerics import axis_size
from aeot_jax.ot.cells import blockwise, contenders
from aeot_jax.ot.counts.ways.way import Draws
from aeot_jax.ot.devices.placement import NUM_STREAMS, divisors


def is_winner(scores: Float[Array, " n"], targets_axis: str) -> Bool[Array, " n"]:
    """Whether this device's best score of each sample is the best of all devices.

    Of equals the first wins, as among the targets of one device. Four bytes a sample and device
    travel: whoever wins knows the index.
    """
    winner = contenders.first_shard(jax.lax.all_gather(scores, targets_axis))
    return winner == jax.lax.axis_index(targets_axis)


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


def over_axes(
    counts: Int[Array, "r m"],
    within: Float[Array, "s k"],
    streams: Int[Array, " s"],
    draws: Draws,
) -> tuple[Int[Array, "r m"], Float[Array, " all"]]:
    """Counts of all devices and the scatter of all streams, by a reduction of integers.

    The bits of each float travel in a place of their own, to which the other devices add 0: a sum
    of floats would depend on the order of the devices.
    """
    axes = draws.axes
    within = blockwise.add_blocks(within.T, axes.targets)
    if axes.samples is None:
        return counts, within
    bits = jax.lax.bitcast_convert_type(within, jnp.int32)
    places = jnp.zeros_like(bits, shape=draws.batch.streams) + 0 * streams[:1]
    places = places.at[streams].set(bits)
    if axes.targets is not None:  # the scatter is the same over that axis, the counts are not
        counts, places = (jax.lax.psum(part, axes.samples) for part in (counts, places))
    else:
        both = jax.lax.psum(jnp.concatenate([counts.ravel(), places]), axes.samples)
        counts, places = both[: counts.size].reshape(counts.shape), both[counts.size :]
    return counts, jax.lax.bitcast_convert_type(places, jnp.float32)

"""The best plane at each sample, and those that may come second.

A kernel keeps the two groups of targets with the highest maxima. The best plane is in the first of
them; the second best is in the first, too, or it is the best of the second group.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from aeot_jax.ot.cells import blocks
from aeot_jax.ot.cells.blocks import Rows

Leading = tuple[tuple[jax.Array, jax.Array], ...]
"""Maxima over a group and where the group begins (n,), from the highest maximum down."""


class Contenders(NamedTuple):
    """Planes at each sample (n,) among which the best is and the second best.

    Attributes:
      maxima: of the two leading groups, by which they lead (2, n); -inf where there is no such
        group, and for the second where the kernel knows the best plane only.
      scores: of the best plane of either group, and of the second best of the first (3, n).
      index: of these planes (3, n).
    """

    maxima: Float[Array, "2 n"]
    scores: Float[Array, "3 n"]
    index: Int[Array, "3 n"]


def empty(n: int, number: int, *data: jax.Array) -> Leading:
    """So many leading groups of n samples before any was seen; ``data`` as for ``blocks.full``."""
    none = blocks.full((n,), -jnp.inf, jnp.float32, *data), blocks.full((n,), 0, jnp.int32, *data)
    return (none,) * number


def inserted(leading: Leading, score: jax.Array, place: jax.Array | int) -> Leading:
    """The leading groups after one more, which comes after its equals."""
    kept = []
    for rank, (best, winner) in enumerate(leading):
        better = score > best
        kept.append((jnp.where(better, score, best), jnp.where(better, place, winner)))
        if rank + 1 < len(leading):
            score, place = jnp.where(better, best, score), jnp.where(better, winner, place)
    return tuple(kept)


def of_groups(x: jax.Array, y: Rows, h: jax.Array, leading: Leading, size: int) -> Contenders:
    """Score the two leading groups of ``size`` targets again; n is a multiple of ``RESCORE``."""
    (first, begin), (second, other) = leading
    own, own_index = blocks.leading_of_groups(x, y, h, begin, size, 2)
    rival, rival_index = blocks.best_of_groups(x, y, h, other, size)
    # The windows over the last targets overlap: the second group may hold the best plane again.
    rival = jnp.where((second > -jnp.inf) & (rival_index != own_index[0]), rival, -jnp.inf)
    return Contenders(
        jnp.stack([first, second]),
        jnp.stack([own[0], rival, own[1]]),
        jnp.stack([own_index[0], rival_index, own_index[1]]),
    )


def alone(score: jax.Array, index: jax.Array) -> Contenders:
    """The best plane, where a kernel knows no other."""
    none = jnp.full_like(score, -jnp.inf)
    zero = jnp.zeros_like(index)
    return Contenders(
        jnp.stack([score, none]), jnp.stack([score, none, none]), jnp.stack([index, zero, zero])
    )


def two_best(
    found: Contenders, targets_axis: str | None, num_targets: int
) -> tuple[Int[Array, "2 n"], Float[Array, " n"]]:
    """The best and the second best plane, and how much the best is higher.

    Args:
      found: by this device.
      targets_axis: a mapped axis over whose devices the targets are sharded, in their order.
      num_targets: m of this device.

    Returns:
      Indices (2, n), ``num_targets`` where another device holds the target; and the gap (n,), the
      same on all devices, inf where there is no second plane.
    """
    if targets_axis is None:
        rival_leads = found.scores[1] > found.scores[2]
        second = jnp.where(rival_leads, found.index[1], found.index[2])
        gap = found.scores[0] - jnp.maximum(found.scores[1], found.scores[2])
        return jnp.stack([found.index[0], second]), jnp.maximum(gap, 0.0)
    maxima, of_all = lax.all_gather((found.maxima, found.scores), targets_axis)  # (shards, ...)
    shard = lax.axis_index(targets_axis)
    shards = jnp.arange(maxima.shape[0], dtype=jnp.int32)[:, None]
    leader = first_shard(maxima[:, 0])
    leads = shards == leader[None, :]
    # Of the shard that leads its second group runs, of all others their first.
    rivals = jnp.where(leads, maxima[:, 1], maxima[:, 0])
    scores = jnp.where(leads, of_all[:, 1], of_all[:, 0])
    rival = first_shard(rivals)

    def of(values: jax.Array, owner: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values, owner[None, :], axis=0)[0]

    rival_score, next_score = of(scores, rival), of(of_all[:, 2], leader)
    rival_leads = rival_score > next_score
    own_rival = jnp.where(leader == shard, found.index[1], found.index[0])
    owner = jnp.where(rival_leads, rival, leader)
    second = jnp.where(rival_leads, own_rival, found.index[2])
    gap = of(of_all[:, 0], leader) - jnp.maximum(rival_score, next_score)
    index = jnp.stack([found.index[0], second])
    held = jnp.stack([leader, owner]) == shard
    return jnp.where(held, index, num_targets), jnp.maximum(gap, 0.0)


def first_shard(values: Float[Array, "s n"]) -> Int[Array, " n"]:
    """The first of s shards with the highest value."""
    number = values.shape[0]
    shards = jnp.arange(number, dtype=jnp.int32)[:, None]
    highest = jnp.max(values, axis=0)
    return jnp.min(jnp.where(values == highest[None, :], shards, number), axis=0)

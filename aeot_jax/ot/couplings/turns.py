"""Equal targets take turns: each of them gets its part of the draws in their common cell."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from aeot_jax import arguments
from aeot_jax.ot import merging
from aeot_jax.typing import Index

_GOLDEN = 0x9E3779B9
"""2^32 over the golden ratio: its multiples modulo 2^32 fill the range evenly from the first on."""


class Turns(NamedTuple):
    """Groups of equal targets, and which part of the draws belongs to each of a group.

    Attributes:
      first: where the group of each target begins in ``members`` (rows,).
      size: members of that group (rows,).
      members: targets of positive weight, those of a group together (k,).
      begin: where the part of each member begins, on a scale from 0 to 2^32 (k,).
      strides: powers of two below the size of the largest group, from the highest down.
    """

    first: Int[Array, " rows"]
    size: Int[Array, " rows"]
    members: Int[Array, " k"]
    begin: UInt32[Array, " k"]
    strides: Int[Array, " bits"]


def of_copies(
    y: Float[np.ndarray, "m d"], nu: Float[np.ndarray, " m"] | None, rows: int
) -> Turns | None:
    """The turns of equal targets by their weights; None where all targets differ.

    Args:
      y: targets (m, d).
      nu: weights (m,); None is uniform.
      rows: targets with those that fill up; each of these is alone.
    """
    same = merging.representatives(y)
    if same is None:
        return None
    m = len(same)
    weight = np.ones(m) if nu is None else np.asarray(nu, np.float64)
    weight = np.where(np.bincount(same, weight, m)[same] > 0, weight, 1.0)
    order = np.argsort(same, kind="stable")
    members = order[weight[order] > 0]
    group = same[members]
    before = np.cumsum(weight[members]) - weight[members]
    first = np.searchsorted(group, np.arange(m))
    total = np.bincount(same, weight, m)
    part = (before - before[first[group]]) / total[group]
    begin = np.minimum(part * 2.0**32, 2.0**32 - 1).astype(np.uint32)
    size = np.bincount(group, minlength=m)
    strides = 1 << np.arange((int(size.max()) - 1).bit_length())[::-1]
    alone = np.arange(len(members), len(members) + rows - m)
    return Turns(
        _placed(np.concatenate([first[same], alone])),
        _placed(np.concatenate([size[same], np.ones(rows - m)])),
        _placed(np.concatenate([members, np.arange(m, rows)])),
        arguments.placed(np.concatenate([begin, np.zeros(rows - m, np.uint32)])),
        _placed(strides),
    )


def _placed(values: np.ndarray) -> Array:
    return arguments.placed(values.astype(np.int32))


def taken(turns: Turns, index: Index, j: UInt32[Array, "2 n"]) -> Index:
    """The target of each draw whose turn it is.

    Args:
      turns: of all targets.
      index: a target of the group of each draw (n,).
      j: numbers of the draws, in two words: they alone decide.
    """
    place = j[1] * np.uint32(_GOLDEN)
    first, size = turns.first[index], turns.size[index]
    turn = jnp.zeros_like(first)
    for bit in range(turns.strides.shape[0]):
        beyond = turn + turns.strides[bit]
        at = jnp.minimum(first + beyond, turns.begin.shape[0] - 1)
        turn = jnp.where((beyond < size) & (turns.begin[at] <= place), beyond, turn)
    return turns.members[first + turn]

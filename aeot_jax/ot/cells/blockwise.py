"""Sums over targets with the same bits however the targets are sharded over devices.

A sum of floats depends on its order, hence on how many devices hold the targets. So the targets are
divided into ``NUM_BLOCKS`` logical blocks of one width, and a device owns whole blocks. Every block
is reduced by a computation of one shape, isolated from the program around it. The results of the
blocks are added in their order, on one device or over several.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from aeot_jax.numerics import axis_size, repeat, traced_once
from aeot_jax.ot.cells import blocks
from aeot_jax.ot.cells.blocks import Rows

NUM_BLOCKS = 8
"""Logical blocks of targets; devices own whole blocks."""

ALIGNMENT = 128
"""The width of a logical block is a multiple of it, so that the kernels' own blocks fit into it."""

_MOST_UNITS = 32
"""Most times ``ALIGNMENT`` targets of a block that are widened together."""

_Tree = TypeVar("_Tree")


def width(num_targets: int) -> int:
    """Targets of a logical block."""
    return ALIGNMENT * -(-num_targets // (NUM_BLOCKS * ALIGNMENT))


def padded(num_targets: int) -> int:
    """Targets of all logical blocks together."""
    return NUM_BLOCKS * width(num_targets)


def num_shards(targets_axis: str | None) -> int:
    """Number of devices over which the targets are sharded.

    Raises:
      ValueError: if nothing maps the axis, or its size does not divide the number of blocks.
    """
    if targets_axis is None:
        return 1
    shards = axis_size(targets_axis, "targets_axis")
    if NUM_BLOCKS % shards:
        raise ValueError(
            f"`targets_axis` {targets_axis!r} has size {shards}, which does not divide the "
            f"{NUM_BLOCKS} logical blocks of targets; map over 1, 2, 4 or 8 devices."
        )
    return shards


def num_targets(rows: int, targets_axis: str | None) -> int:
    """Number of targets of all devices, with those of weight 0 that fill up the blocks.

    Raises:
      ValueError: as ``num_shards``, or if a device does not hold whole logical blocks.
    """
    shards = num_shards(targets_axis)
    if targets_axis is not None and rows * shards != padded(rows * shards):
        raise ValueError(
            f"`y` has {rows} targets on each of the {shards} devices of `targets_axis` "
            f"{targets_axis!r}; fill them up with targets of weight 0 to a multiple of "
            f"{NUM_BLOCKS * ALIGNMENT // shards}."
        )
    return rows * shards


def sum_blocks(
    function: Callable[..., _Tree],
    arrays: tuple[jax.Array | Rows, ...],
    *operands: Any,
    targets_axis: str | None = None,
) -> _Tree:
    """Evaluate a function on each logical block and add up the results.

    Args:
      function: maps the block's part of each array, and the operands, to a tree of float32 or
        int32 arrays. Beyond the last target the parts are 0, as they are stored.
      arrays: one row per target of this device, (m,) or (m, d); the part of ``Rows`` is ``Rows``.
      *operands: what else the function reads, trees of arrays.
      targets_axis: a mapped axis over whose devices the targets are sharded.

    Returns:
      The sum over all targets of all devices, the same on each.
    """
    if any(isinstance(array, Rows) for array in arrays):
        function = functools.partial(_summed_by_pieces, function, len(arrays))
    return add_blocks(
        map_blocks(function, arrays, *operands, targets_axis=targets_axis), targets_axis
    )


def _summed_by_pieces(function: Callable[..., Any], number: int, *operands: Any) -> Any:
    """A function of a block, summed over pieces of it: only one is ever widened to float32.

    Args:
      function: as for ``sum_blocks``.
      number: how many of the operands are arrays of the block.
      *operands: the block's part of each array, then what else the function reads.
    """
    parts, others = operands[:number], operands[number:]
    units = parts[0].shape[0] // ALIGNMENT
    size = ALIGNMENT * max(n for n in range(1, _MOST_UNITS + 1) if units % n == 0)

    @traced_once
    def of_piece(i: jax.Array) -> Any:
        def cut(array: jax.Array) -> jax.Array:
            return lax.dynamic_slice_in_dim(array, i * size, size)

        def piece(array: Any) -> Any:
            stored = isinstance(array, Rows)
            return array._replace(points=cut(array.points)) if stored else cut(array)

        return function(*map(piece, parts), *others)

    none = jax.tree.map(
        lambda s: blocks.full(s.shape, 0, s.dtype, *jax.tree.leaves(operands)),
        jax.eval_shape(of_piece, jnp.int32(0)),
    )
    return repeat(
        parts[0].shape[0] // size,
        lambda i, total: jax.tree.map(operator.add, total, of_piece(i)),
        none,
    )


def count(mask: jax.Array, targets_axis: str | None) -> jax.Array:
    """How many entries of a mask (m,) are true, or the sum of integers, over all devices."""
    own = mask.sum(dtype=jnp.int32)
    return own if targets_axis is None else lax.psum(own, targets_axis)


def add_blocks(tree: _Tree, targets_axis: str | None) -> _Tree:
    """Add up the results of ``map_blocks`` over the blocks of all devices, in their order."""
    stacked = gather_blocks(tree, targets_axis)
    return jax.tree.map(lambda leaf: functools.reduce(operator.add, list(leaf)), stacked)


def map_blocks(
    function: Callable[..., _Tree],
    arrays: tuple[jax.Array | Rows, ...],
    *operands: Any,
    targets_axis: str | None = None,
) -> _Tree:
    """Evaluate a function on each logical block of this device and stack the results.

    Arguments as for ``sum_blocks``.
    """
    own = NUM_BLOCKS // num_shards(targets_axis)
    rows = max(array.shape[0] for array in arrays)
    size = width(rows * NUM_BLOCKS // own)

    def part(array: Any, block: jax.Array) -> Any:
        if isinstance(array, Rows):
            return array._replace(points=part(array.points, block))
        if array.shape[0] == own * size:
            return lax.dynamic_slice_in_dim(array, block * size, size)
        places = block * size + jnp.arange(size, dtype=jnp.int32)
        return array.at[places].get(mode="fill", fill_value=0)

    def one(block: jax.Array, arrays: tuple[Any, ...], *operands: Any) -> Any:
        return function(*(part(array, block) for array in arrays), *operands)

    # It is cheaper to fill up vectors beforehand than block by block.
    arrays = tuple(
        array
        if isinstance(array, Rows) or array.ndim > 1
        else jnp.pad(array, (0, own * size - array.shape[0]))
        for array in arrays
    )
    return blocks.map_abreast(one, own, arrays, *operands)


def map_rows(function: Callable[..., jax.Array], y: jax.Array | Rows, *operands: Any) -> jax.Array:
    """Apply a function of whole rows to ``ALIGNMENT`` targets at a time.

    The last bits of a matrix product depend on the number of rows and on a row's place among them.
    Here both are the same in every placement of the devices.

    Args:
      function: maps targets (128, d), and the operands, to an array (128, ...).
      y: targets (m, d); of ``Rows`` the function gets them as they are scored.
      *operands: trees of arrays.

    Returns:
      An array with m rows, rounded up to a multiple of 128; rows from m on mean nothing.
    """
    num_chunks = -(-y.shape[0] // ALIGNMENT)

    def one(chunk: jax.Array, y: jax.Array | Rows, *operands: Any) -> jax.Array:
        places = chunk * ALIGNMENT + jnp.arange(ALIGNMENT, dtype=jnp.int32)
        stored = y.points if isinstance(y, Rows) else y
        rows = stored.at[places].get(mode="fill", fill_value=0)
        return function(y.of(rows) if isinstance(y, Rows) else rows, *operands)

    made = blocks.map_abreast(one, num_chunks, y, *operands)
    return made.reshape(num_chunks * ALIGNMENT, *made.shape[2:])


def gather_bits(own: jax.Array, axis: str) -> jax.Array:
    """Rows of integers (r, w) of all devices of an axis, in their order, by one sum of integers.

    Each device writes its numbers into its own places and 0 into all others, so that the sum over
    devices changes no bit.
    """
    rows, width = own.shape
    places = jnp.zeros_like(own, shape=(lax.axis_size(axis) * rows, width))
    first = lax.axis_index(axis) * rows
    return lax.psum(lax.dynamic_update_slice_in_dim(places, own, first, 0), axis)


def gather_blocks(tree: _Tree, targets_axis: str | None) -> _Tree:
    """Gather the results of ``map_blocks`` from all devices (8, ...), as their bits."""
    if targets_axis is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    own = leaves[0].shape[0]
    bits = [lax.bitcast_convert_type(leaf.reshape(own, -1), jnp.int32) for leaf in leaves]
    everyone = gather_bits(jnp.concatenate(bits, axis=1), targets_axis)
    found, start = [], 0
    for leaf, own_bits in zip(leaves, bits, strict=True):
        part = everyone[:, start : start + own_bits.shape[1]]
        start += own_bits.shape[1]
        shape = (NUM_BLOCKS, *leaf.shape[1:])
        found.append(lax.bitcast_convert_type(part, leaf.dtype).reshape(shape))
    return jax.tree.unflatten(structure, found)

"""Samples and targets sharded over devices: one body, and thin wrappers for each placement.

A body is a pure function ``body(*arguments, axes=..., **options)`` that sums its counts over
``axes.samples`` and returns what is the same on every device. It runs alone, under ``pmap`` or
under ``shard_map``, and gives the same bits in each: streams draw by their own ids, counts are
integers, and the arithmetic of floats is isolated from the program around it
(``numerics.isolated``).

Under ``shard_map`` the targets may be sharded, too, over a second axis ``axes.targets``: then each
device holds its own rows of every array with one row per target, and sums over targets are added up
in one order (``blockwise.py``).

Several processes, each started with ``jax.distributed.initialize``, are one mesh of all their
devices; every process calls the same functions with the same arguments.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from aeot_jax.numerics import key_like, key_numbers
from aeot_jax.ot.cells import blockwise
from aeot_jax.ot.devices.placement import SAMPLES, SHARDED, Placement


def run(
    where: Placement,
    body: Callable[..., Any],
    *arguments: Any,
    specs: tuple[Any, Any] = (P(), P()),
    **options: Hashable,
) -> Any:
    """Evaluate a body, compiled once for each placement and set of options.

    Args:
      where: the placement.
      body: a function of a module, not a closure: programs are remembered by it.
      *arguments: trees of arrays, the same for all devices.
      specs: where targets are sharded, how arguments and results lie on the mesh: trees, or
        beginnings of trees, of ``P()`` and ``SHARDED``. Elsewhere they lie alike on all devices.
      **options: static.

    Returns:
      What the body returns, the same on every device, or sharded.
    """
    leaves, structure = jax.tree.flatten(specs if where.target_shards > 1 else (P(), P()))
    return _program(where, body, tuple(sorted(options.items())), tuple(leaves), structure)(
        *arguments
    )


@functools.lru_cache(maxsize=256)
def _program(
    where: Placement,
    body: Callable[..., Any],
    options: tuple[tuple[str, Hashable], ...],
    specs: tuple[P, ...],
    structure: Any,
) -> Callable[..., Any]:
    body = functools.partial(body, axes=where.axes, **dict(options))
    if where.kind == "none":
        return jax.jit(body)
    if where.kind == "shard_map":
        of_arguments, of_results = jax.tree.unflatten(structure, specs)
        return jax.jit(
            jax.shard_map(body, mesh=where.mesh, in_specs=of_arguments, out_specs=of_results)
        )
    mapped = jax.pmap(
        lambda _, arguments: body(*arguments),
        axis_name=SAMPLES,
        in_axes=(0, None),
        out_axes=None,
        devices=where.devices,
    )
    own = sum(device.process_index == jax.process_index() for device in where.devices)
    return lambda *arguments: mapped(np.arange(own), arguments)


def map_items(
    where: Placement,
    body: Callable[..., Any],
    items: Array,
    *arguments: Any,
    specs: tuple[P, ...] = (),
    **options: Hashable,
) -> Any:
    """Evaluate a body over items that are sharded over the devices, compiled as in ``run``.

    Args:
      where: the placement.
      body: ``body(items, *arguments, **options)``, a function of a module, whose results have the
        items in front and follow each from its own item alone.
      items: an array with the items in front; their number need not divide by that of the devices.
      *arguments: trees of arrays, the same for all devices.
      specs: where targets are sharded, how each argument lies on the mesh, ``P()`` or ``SHARDED``.
      **options: static.

    Returns:
      The results in the order of the items, a copy on every device of several processes or under
      "shard_map", else on the first device.
    """
    count = items.shape[0]
    surplus = -count % max(1, len(where.devices) // where.target_shards)
    if surplus:  # the last shares are filled up with items whose results are dropped
        items = items[jnp.arange(count + surplus, dtype=jnp.int32) % count]
    specs = specs if where.target_shards > 1 else ()
    results = _items_program(where, body, tuple(sorted(options.items())), specs)(items, arguments)
    return jax.tree.map(lambda leaf: leaf[:count], results) if surplus else results


@functools.lru_cache(maxsize=64)
def _items_program(
    where: Placement,
    body: Callable[..., Any],
    options: tuple[tuple[str, Hashable], ...],
    specs: tuple[P, ...],
) -> Callable[[Array, tuple[Any, ...]], Any]:
    def apply(items: Array, arguments: tuple[Any, ...]) -> Any:
        return body(items, *arguments, **dict(options))

    if where.kind == "none":
        return jax.jit(apply)
    if where.kind == "shard_map":
        mesh, of_items = where.mesh, P(SAMPLES)
        of_arguments = specs or P()
        mapped = jax.shard_map(
            apply, mesh=mesh, in_specs=(of_items, of_arguments), out_specs=of_items
        )
        return jax.jit(mapped, out_shardings=NamedSharding(mesh, P()))
    pmapped = jax.pmap(apply, axis_name=SAMPLES, in_axes=(0, None), devices=where.devices)

    def gathered(items: Array, arguments: tuple[Any, ...]) -> Any:
        results = pmapped(items.reshape(len(where.devices), -1, *items.shape[1:]), arguments)
        results = jax.device_put(results, where.devices[0])
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)

    return gathered


def place(where: Placement, tree: Any) -> Any:
    """Copy a tree of arrays to every device of the placement, once, so that no chunk does it again.

    What lies on the placement's mesh already, sharded or not, stays as it is.
    """
    if where.kind == "shard_map":
        return _mapped(functools.partial(_put, NamedSharding(where.mesh, P())), tree)
    if where.kind == "none" and where.devices:
        return jax.device_put(tree, where.devices[0])
    return tree


def shard(where: Placement, host: np.ndarray, rows: int, fill: float = 0.0) -> jax.Array:
    """Shard an array with one row per target, where a placement has target shards.

    It is filled up to so many rows, whole blocks, and every device is given its own, straight from
    the host: none ever holds all.
    """
    shape = (rows, *host.shape[1:])

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(shape[0])
        own = host[start:stop]
        beyond = stop - start - own.shape[0]
        around = ((0, beyond),) + ((0, 0),) * (host.ndim - 1)
        return np.pad(own, around, constant_values=fill) if beyond else own

    return jax.make_array_from_callback(shape, NamedSharding(where.mesh, SHARDED), part)


def collect(array: jax.Array, num_targets: int) -> np.ndarray:
    """The rows of a sharded array on the host of every process, without what fills up."""
    if array.is_fully_addressable:
        return np.array(array)[:num_targets]
    # What processes gather passes through their devices: a block at a time, lest one hold all.
    blocks = jnp.split(array, blockwise.NUM_BLOCKS)
    gathered = [multihost_utils.process_allgather(block, tiled=True) for block in blocks]
    return np.concatenate(gathered)[:num_targets]


def local(tree: Any) -> Any:
    """The arrays as this process holds them, for what it does by itself."""

    def held(leaf: Any) -> jax.Array:
        known = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
        return leaf.addressable_data(0) if known else jnp.asarray(leaf)

    return _mapped(held, tree)


def _put(sharding: NamedSharding, value: Any) -> jax.Array:
    if isinstance(value, jax.Array) and getattr(value.sharding, "mesh", None) == sharding.mesh:
        return value
    return _laid(sharding, value)


def lay(sharding: Sharding, tree: Any) -> Any:
    """A tree of arrays as a sharding says, in one process or in several that hold the same."""
    return _mapped(functools.partial(_laid, sharding), tree)


def _laid(sharding: Sharding, value: Any) -> jax.Array:
    if jax.process_count() == 1:
        return jax.device_put(value, sharding)
    host = np.asarray(value)  # no process can see the others' devices
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _mapped(function: Callable[[Any], jax.Array], tree: Any) -> Any:
    """Apply a function to every leaf, to typed keys by way of their numbers."""
    return jax.tree.map(lambda leaf: key_like(leaf, function(key_numbers(leaf))), tree)

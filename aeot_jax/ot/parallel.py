"""Samples spread over devices: one body, and thin wrappers that deal the logical streams.

A body is a pure function ``body(*arguments, axis_name=..., **options)`` that sums its counts over
``axis_name`` and returns what is the same on every device. It runs alone, under ``pmap`` or under
``shard_map``, and gives the same bits in each: streams draw by their own ids, counts are integers,
and the arithmetic of floats is isolated from the program around it (``numerics.isolated``).

Several processes, each started with ``jax.distributed.initialize``, are one mesh of all their
devices; every process calls the same functions with the same arguments.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from aeot_jax import meshes
from aeot_jax.ot.estimate import NUM_STREAMS
from aeot_jax.typing import Devices

Parallel = Literal["auto", "none", "pmap", "shard_map"]
"""Ways to spread samples over devices."""

NAMES: tuple[Parallel, ...] = ("auto", "none", "pmap", "shard_map")

SAMPLES = "samples"
"""Name of the mapped axis over which the streams are dealt."""


class Layout(NamedTuple):
    """Where a body runs; static.

    Attributes:
      kind: "none", "pmap" or "shard_map".
      devices: over which the streams are dealt; one or none of them under "none", where none is
        JAX's default device.
    """

    kind: Literal["none", "pmap", "shard_map"]
    devices: Devices = ()


def layout(
    parallel: Parallel, devices: Devices | None = None, *, inside_jit: bool = False
) -> Layout:
    """Resolve what the user asked for.

    "auto" is ``shard_map`` over the devices given; where none are, over all devices of several
    processes, over as many accelerators as streams can be dealt to, and "none" on a CPU, whose
    devices share the same cores.

    Args:
      parallel: as asked for.
      devices: as given; None is all that are present.
      inside_jit: whether a trace is under way, in which "auto" leaves all where it is.

    Raises:
      ValueError: if the streams cannot be dealt to these devices.
    """
    if inside_jit and parallel == "auto":
        return Layout("none")
    several = jax.process_count() > 1
    if several and parallel == "pmap":
        raise ValueError(
            f"`parallel` is 'pmap', which serves one process, but there are {jax.process_count()}; "
            "choose 'shard_map' or 'auto'."
        )
    if parallel == "none":
        if devices is not None and len(devices) != 1:
            raise ValueError(
                f"`devices` holds {len(devices)} devices, but `parallel` is 'none', which runs on "
                "one; choose 'shard_map' or 'pmap', or pass one device."
            )
        return Layout("none", devices or ())
    if parallel == "auto" and devices is None and not several:
        accelerators = 1 if jax.default_backend() == "cpu" else jax.device_count()
        fitting = max(n for n in _numbers() if n <= accelerators)
        if fitting == 1:
            return Layout("none")
        devices = tuple(jax.devices()[:fitting])
    elif parallel == "auto" and devices is not None and len(devices) == 1 and not several:
        return Layout("none", devices)
    present = "" if devices is not None else ", all that are present"
    devices = tuple(jax.devices()) if devices is None else devices
    owners = [device.process_index for device in devices]
    meshes.check_distinct(devices)
    check_shares([owners.count(p) for p in range(jax.process_count())], present)
    return Layout("pmap" if parallel == "pmap" else "shard_map", devices)


def _numbers() -> list[int]:
    """Numbers of devices to which whole streams can be dealt."""
    return [n for n in range(1, NUM_STREAMS + 1) if NUM_STREAMS % n == 0]


def check_shares(shares: list[int], present: str = "") -> None:
    """Refuse numbers of devices, one a process, over which the streams cannot be dealt."""
    number = sum(shares)
    if number not in _numbers():
        listed = ", ".join(map(str, _numbers()))
        raise ValueError(
            f"`devices` holds {number} devices{present}, over which the {NUM_STREAMS} logical "
            f"streams cannot be dealt evenly; pass a tuple of {listed} devices."
        )
    if len(set(shares)) > 1:
        raise ValueError(
            f"`devices` holds {shares} devices of the {len(shares)} processes; pass equally many "
            "of each, because every process takes part."
        )


def run(where: Layout, body: Callable[..., Any], *arguments: Any, **options: Hashable) -> Any:
    """Evaluate a body, compiled once for each layout and set of options.

    Args:
      where: the layout.
      body: a function of a module, not a closure: programs are remembered by it.
      *arguments: trees of arrays, the same for all devices.
      **options: static.

    Returns:
      What the body returns, the same on every device.
    """
    return _program(where, body, tuple(sorted(options.items())))(*arguments)


@functools.lru_cache(maxsize=256)
def _program(
    where: Layout, body: Callable[..., Any], options: tuple[tuple[str, Hashable], ...]
) -> Callable[..., Any]:
    axis_name = None if where.kind == "none" else SAMPLES
    body = functools.partial(body, axis_name=axis_name, **dict(options))
    if where.kind == "none":
        return jax.jit(body)
    if where.kind == "shard_map":
        mesh = meshes.row(where.devices, SAMPLES)
        return jax.jit(jax.shard_map(body, mesh=mesh, in_specs=P(), out_specs=P()))
    mapped = jax.pmap(
        lambda _, arguments: body(*arguments),
        axis_name=SAMPLES,
        in_axes=(0, None),
        out_axes=None,
        devices=where.devices,
    )
    own = sum(device.process_index == jax.process_index() for device in where.devices)
    return lambda *arguments: mapped(np.arange(own), arguments)


def deal(
    where: Layout, body: Callable[..., Any], items: Array, *arguments: Any, **options: Hashable
) -> Any:
    """Evaluate a body over items that are dealt to the devices, compiled as in ``run``.

    Args:
      where: the layout.
      body: ``body(items, *arguments, **options)``, a function of a module, whose results have the
        items in front and follow each from its own item alone.
      items: an array with the items in front; their number need not divide by that of the devices.
      *arguments: trees of arrays, the same for all devices.
      **options: static.

    Returns:
      The results in the order of the items, a copy on every device of several processes or under
      "shard_map", else on the first device.
    """
    count = items.shape[0]
    surplus = -count % max(1, len(where.devices))
    if surplus:  # the last shares are filled up with items whose results are dropped
        items = items[jnp.arange(count + surplus) % count]
    results = _dealing_program(where, body, tuple(sorted(options.items())))(items, arguments)
    return jax.tree.map(lambda leaf: leaf[:count], results) if surplus else results


@functools.lru_cache(maxsize=64)
def _dealing_program(
    where: Layout, body: Callable[..., Any], options: tuple[tuple[str, Hashable], ...]
) -> Callable[[Array, tuple[Any, ...]], Any]:
    def apply(items: Array, arguments: tuple[Any, ...]) -> Any:
        return body(items, *arguments, **dict(options))

    if where.kind == "none":
        return jax.jit(apply)
    if where.kind == "shard_map":
        mesh = meshes.row(where.devices, SAMPLES)
        mapped = jax.shard_map(apply, mesh=mesh, in_specs=(P(SAMPLES), P()), out_specs=P(SAMPLES))
        return jax.jit(mapped, out_shardings=NamedSharding(mesh, P()))
    pmapped = jax.pmap(apply, axis_name=SAMPLES, in_axes=(0, None), devices=where.devices)

    def gathered(items: Array, arguments: tuple[Any, ...]) -> Any:
        results = pmapped(items.reshape(len(where.devices), -1, *items.shape[1:]), arguments)
        results = jax.device_put(results, where.devices[0])
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)

    return gathered


def place(where: Layout, tree: Any) -> Any:
    """Copy a tree of arrays to every device of the layout, once, so that no chunk does it again."""
    if where.kind == "shard_map":
        everywhere = NamedSharding(meshes.row(where.devices, SAMPLES), P())
        return _mapped(functools.partial(_put, everywhere), tree)
    if where.kind == "none" and where.devices:
        return jax.device_put(tree, where.devices[0])
    return tree


def local(tree: Any) -> Any:
    """The arrays as this process holds them, for what it does by itself."""

    def held(leaf: Any) -> jax.Array:
        known = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
        return leaf.addressable_data(0) if known else jnp.asarray(leaf)

    return _mapped(held, tree)


def _put(sharding: NamedSharding, value: Any) -> jax.Array:
    if isinstance(value, jax.Array) and value.sharding == sharding:
        return value
    if jax.process_count() == 1:
        return jax.device_put(value, sharding)
    host = np.asarray(value)  # no process can see the others' devices
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _mapped(function: Callable[[Any], jax.Array], tree: Any) -> Any:
    """Apply a function to every leaf, to typed keys by way of their numbers."""

    def on_leaf(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = function(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return function(leaf)

    return jax.tree.map(on_leaf, tree)

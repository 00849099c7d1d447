"""Where a batch lies: every device draws and pairs its own rows, and nothing moves."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from aeot_jax import arguments
from aeot_jax.ot.couplings import numbers, pairing
from aeot_jax.ot.couplings.pairing import Pairs, Parts
from aeot_jax.ot.devices import parallel

_WAY = "a `NamedSharding` whose spec shards the rows alone, as `NamedSharding(mesh, P('data'))`"


def check(sharding: Any, batch_size: int) -> Sharding | None:
    """Check where a batch shall lie.

    Raises:
      ValueError: if that is no sharding of rows over devices, or does not divide the batch.
    """
    if sharding is None:
        return None
    if isinstance(sharding, SingleDeviceSharding):
        return _in_default_memory(sharding)
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        raise ValueError(f"`sharding` is {arguments.shown(sharding)}; pass {_WAY}, or None.")
    known = P.UNCONSTRAINED not in sharding.spec
    if not known or any(axes not in (None, ()) for axes in sharding.spec[1:]):
        raise ValueError(
            f"`sharding` has spec {sharding.spec}, which must shard rows and nothing else; pass "
            f"{_WAY}."
        )
    shards = number_of(sharding)
    if batch_size % shards:
        raise ValueError(
            f"`batch_size` is {batch_size}, which the {shards} shards of `sharding` do not divide; "
            f"pass a multiple of {shards}."
        )
    return _in_default_memory(sharding)


def _in_default_memory(sharding: Sharding) -> Sharding:
    """Refuse another memory than that in which a device computes."""
    kind = sharding.memory_kind
    own = {device.default_memory().kind for device in sharding.addressable_devices}
    if kind is not None and own and kind not in own:
        raise ValueError(
            f"`sharding` has memory kind {kind!r}, but a batch is made in {own.pop()!r}; pass it "
            "without a memory kind, and move each batch by `jax.device_put`."
        )
    return sharding


def axes_of(sharding: NamedSharding) -> tuple[str, ...]:
    """The axes of the mesh over which rows are sharded."""
    first = sharding.spec[0] if len(sharding.spec) else None
    if first is None:
        return ()
    return first if isinstance(first, tuple) else (first,)


def number_of(sharding: NamedSharding) -> int:
    """Parts of a batch."""
    return int(np.prod([sharding.mesh.shape[axis] for axis in axes_of(sharding)], dtype=int))


def placed(sharding: Sharding | None, tree: Any) -> Any:
    """A copy of a tree of arrays on every device that makes a part of the batch."""
    if sharding is None:
        return tree
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, P())
    return parallel.lay(sharding, tree)


def axes_in_use(sharding: Sharding | None) -> contextlib.AbstractContextManager[Any]:
    """For programs that are not mapped over the devices, from what ``placed`` gave.

    If the axes of the mesh are explicit, they are part of the types that such a program is traced
    with, and the arrays that it makes itself have them only where the mesh is in use.
    """
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    if isinstance(mesh, Mesh) and mesh.explicit_axes:
        return jax.set_mesh(mesh)
    return contextlib.nullcontext()


@functools.lru_cache(maxsize=64)
def program(sharding: NamedSharding, count: int, dtype: Any, dependent: bool) -> Any:
    """``pairing.make`` over the devices of a mesh: from parts on all of them and the first number.

    Each device counts on from the first number to that of its own rows. No device needs anything of
    another.
    """
    axes = axes_of(sharding)
    own = count // number_of(sharding)

    def body(parts: Parts, first: jax.Array) -> Pairs:
        at = lax.axis_index(axes).astype(jnp.int32) if axes else jnp.int32(0)
        begin = numbers.later(first, at[None] * own)[:, 0]
        return pairing.make(parts, begin, count=own, dtype=dtype, dependent=dependent)

    mapped = jax.shard_map(
        body, mesh=sharding.mesh, in_specs=(P(), P()), out_specs=P(axes if axes else None)
    )
    return jax.jit(mapped)

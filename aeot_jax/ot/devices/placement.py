"""Devices that share the work: which they are, what is sharded over them, and what cannot be."""

from typing import Any, Literal, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from aeot_jax import arguments
from aeot_jax.machines import meshes
from aeot_jax.ot.problem import Marginals
from aeot_jax.typing import Devices, Given

Parallel = Literal["auto", "none", "pmap", "shard_map"]
"""Ways to shard samples over devices."""

NAMES: tuple[Parallel, ...] = ("auto", "none", "pmap", "shard_map")

NUM_STREAMS = 8
"""Logical sample streams of a draw, unless the user asks for more; devices own whole streams, so
that no draw depends on them."""

STREAMS = (8, 16, 32, 64, 128, 256)
"""Numbers of streams that a user can ask for."""

MOST_STREAMS = STREAMS[-1]
"""The same, at most; so many devices can share what has no streams, such as chunks of a draw."""

SAMPLES = "samples"
"""Name of the mapped axis over which the streams are sharded."""

TARGETS = "targets"
"""Name of the mapped axis over which the targets are sharded, where they are."""

SHARDED = P(TARGETS)
"""PartitionSpec of an array with one row per target, on a mesh that shards targets."""

OF_MARGINALS = Marginals(cast(Any, P()), SHARDED, SHARDED)
"""PartitionSpecs of the marginals of a problem on such a mesh."""

SHARDS = (1, 2, 4, 8)
"""Numbers of devices over which targets can be sharded."""


class Axes(NamedTuple):
    """Mapped axes of the program that runs; static.

    Attributes:
      samples: the axis over whose devices the streams are sharded; None where one device draws all.
      targets: the axis over whose devices the targets are sharded; None where each holds all.
    """

    samples: str | None = None
    targets: str | None = None


ALONE = Axes()
"""One device draws all streams and holds all targets."""


class Placement(NamedTuple):
    """Where a body runs; static.

    Attributes:
      kind: "none", "pmap" or "shard_map".
      devices: over which the streams are sharded; one or none of them under "none", where none is
        JAX's default device.
      target_shards: devices over which the targets are sharded, under "shard_map"; each row of so
        many devices draws streams of its own.
    """

    kind: Literal["none", "pmap", "shard_map"]
    devices: Devices = ()
    target_shards: int = 1

    @property
    def axes(self) -> Axes:
        """Mapped axes of a body that runs here."""
        samples = None if self.kind == "none" else SAMPLES
        return Axes(samples, TARGETS if self.target_shards > 1 else None)

    @property
    def mesh(self) -> Mesh:
        """The devices as a mesh, under "shard_map"."""
        if self.target_shards > 1:
            return meshes.grid(self.devices, (SAMPLES, TARGETS), self.target_shards)
        return meshes.row(self.devices, SAMPLES)


def placement(
    parallel: Given[Parallel],
    devices: Given[Devices | None] = None,
    target_shards: Given[int] = 1,
    streams: Given[int] = NUM_STREAMS,
    *,
    inside_jit: bool = False,
) -> Placement:
    """Resolve what the user asked for.

    "auto" is ``shard_map`` over the devices given; where none are, over all devices of several
    processes, over as many accelerators as streams can be sharded over, and "none" on a CPU, whose
    devices share the same cores. Where targets are to be sharded, it is ``shard_map`` anyway.

    Args:
      parallel: as asked for.
      devices: as given; None is all that are present.
      target_shards: devices over which the targets are sharded.
      streams: logical streams of samples, of which devices own whole ones.
      inside_jit: whether a trace is under way, in which "auto" leaves all where it is.

    Raises:
      ValueError: if streams and targets cannot be sharded over these devices.
    """
    arguments.choice("parallel", parallel, NAMES)
    arguments.choice("target_shards", target_shards, SHARDS)
    devices = checked_devices(devices)
    if target_shards > 1:
        return _with_target_shards(parallel, devices, target_shards, streams)
    if inside_jit and parallel == "auto":
        return Placement("none")
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
        return Placement("none", devices or ())
    if parallel == "auto" and devices is None and not several:
        accelerators = 1 if jax.default_backend() == "cpu" else jax.device_count()
        fitting = max(n for n in divisors(streams) if n <= accelerators)
        if fitting == 1:
            return Placement("none")
        devices = tuple(jax.devices()[:fitting])
    elif parallel == "auto" and devices is not None and len(devices) == 1 and not several:
        return Placement("none", devices)
    present = "" if devices is not None else ", all that are present"
    devices = tuple(jax.devices()) if devices is None else devices
    _check_devices(devices, present, streams=streams)
    return Placement("pmap" if parallel == "pmap" else "shard_map", devices)


def placement_outside_jit(
    what: str,
    parallel: Given[Parallel],
    devices: Given[Devices | None],
    target_shards: Given[int],
    concrete: bool,
    streams: int = MOST_STREAMS,
) -> Placement:
    """``placement`` for a public function, which cannot shard targets under a trace.

    Args:
      what: name of the function, for the error.
      parallel: as asked for.
      devices: as given.
      target_shards: as asked for.
      concrete: whether no trace is under way.
      streams: as of ``placement``.

    Raises:
      ValueError: as ``placement``, or if targets shall be sharded under a trace.
    """
    if target_shards != 1 and not concrete:
        raise ValueError(
            f"`target_shards` is {target_shards} under jit, where targets cannot be sharded "
            f"over devices; call `{what}` outside jit, or pass 1."
        )
    return placement(parallel, devices, target_shards, streams, inside_jit=not concrete)


def _with_target_shards(
    parallel: Parallel, devices: Devices | None, target_shards: int, streams: int
) -> Placement:
    """``placement`` where the targets are sharded."""
    if parallel not in ("auto", "shard_map"):
        raise ValueError(
            f"`target_shards` is {target_shards}, but `parallel` is {parallel!r}, which gives "
            "every device all targets; choose 'shard_map' or 'auto'."
        )
    present = "" if devices is not None else ", all that are present"
    devices = tuple(jax.devices()) if devices is None else devices
    if len(devices) % target_shards:
        raise ValueError(
            f"`target_shards` is {target_shards}, which does not divide the {len(devices)} "
            f"`devices`{present}; choose fewer shards, or pass a multiple of {target_shards} "
            "devices."
        )
    _check_devices(devices, present, target_shards, streams)
    return Placement("shard_map", devices, target_shards)


def checked_devices(devices: Given[Devices | None]) -> tuple[Any, ...] | None:
    """A sequence of devices as a tuple; None passes.

    Raises:
      ValueError: if it is something else, or empty.
    """
    if devices is None:
        return None
    found = tuple(devices) if isinstance(devices, list | tuple | np.ndarray) else (None,)
    if not all(isinstance(device, jax.Device) for device in found):
        raise ValueError(
            f"`devices` is {arguments.shown(devices)}; pass a tuple or list of `jax.devices()`, or "
            "None for all."
        )
    if not found:
        raise ValueError("`devices` is empty; pass a tuple of devices, or None for all.")
    return found


def _check_devices(
    devices: Devices, present: str, target_shards: int = 1, streams: int = NUM_STREAMS
) -> None:
    """Refuse devices over which the streams cannot be sharded."""
    meshes.check_distinct(devices)
    owners = [device.process_index for device in devices]
    shares = [owners.count(p) for p in range(jax.process_count())]
    check_shares(shares, present, target_shards, streams)


def divisors(streams: int) -> list[int]:
    """Numbers of devices, or rows of devices, over which whole streams can be sharded."""
    return [n for n in range(1, streams + 1) if streams % n == 0]


def check_shares(
    shares: list[int], present: str = "", target_shards: int = 1, streams: int = NUM_STREAMS
) -> None:
    """Refuse numbers of devices, one a process, over which the streams cannot be sharded."""
    number = sum(shares)
    if number // target_shards not in divisors(streams):
        listed = ", ".join(str(n * target_shards) for n in divisors(streams))
        rows = f" in rows of {target_shards}" if target_shards > 1 else ""
        more = ", or solve with more `streams`" if streams < MOST_STREAMS else ""
        raise ValueError(
            f"`devices` holds {number} devices{present}{rows}, over which the {streams} "
            f"logical streams cannot be sharded evenly; pass a tuple of {listed} devices{more}."
        )
    if len(set(shares)) > 1:
        raise ValueError(
            f"`devices` holds {shares} devices of the {len(shares)} processes; pass equally many "
            "of each, because every process takes part."
        )

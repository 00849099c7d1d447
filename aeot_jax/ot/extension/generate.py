"""New codes: candidates from the source, mapped by the extension; the singular set is marked."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from aeot_jax import arguments, measures
from aeot_jax.numerics import isolated
from aeot_jax.ot.cells import sizes
from aeot_jax.ot.devices.parallel import local, map_items, place, shard
from aeot_jax.ot.devices.placement import SHARDED, Parallel, Placement, placement_outside_jit
from aeot_jax.ot.extension import blend
from aeot_jax.ot.extension.extension import Extension, at_novelty, check_extension
from aeot_jax.ot.extension.noise.moving import moved
from aeot_jax.reprs import brief
from aeot_jax.typing import Devices, Given, PRNGKey, Samples

CHUNK = 4096
"""Candidates of a chunk, which gathers 17 codes for each."""


class GenerateInfo(NamedTuple):
    """What ``generate`` saw at each candidate.

    Attributes:
      index: the cell that holds it (n,).
      num_blended: targets that made the candidate (n,): those blended, or those of its group; if
        1, the candidate is a code.
      angle: largest plane angle within the margin (n,), radians, of the seventeen highest planes;
        0 if there is no second plane.
    """

    index: Int[Array, "*batch n"]
    num_blended: Int[Array, "*batch n"]
    angle: Float[Array, "*batch n"]

    __repr__ = brief


def generate(
    key: Given[PRNGKey],
    ext: Given[Extension],
    n: Given[int],
    *,
    novelty: Given[int | float | str | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
    target_shards: Given[int] = 1,
) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """Draw n candidates from the source, map them by the extension, and mark the singular set.

    Args:
      key: consumed.
      ext: from ``extension``, or from ``calibrate``.
      n: candidates; static under jit.
      novelty: how new the codes are, for an extension from ``calibrate``: 0 is the discrete map,
        1 as new as unseen codes, and the noise between them is in proportion. "blend" blends codes
        as an extension does that is not calibrated. None is 1 if it is calibrated, else "blend".
      parallel: how chunks of 4096 candidates are sharded over devices, with the same candidates to
        the last bit; as in ``certify``. Inside jit choose "none".
      devices: the devices to use; None is all.
      target_shards: devices over which the targets are sharded, with the same candidates on a
        CPU; see ``SolverConfig``. Every call sends them to the devices: draw many candidates.

    Returns:
      New codes z (n, d) of all candidates, whether each is accepted (n,), and details of each:
      samples of the model are ``z[accepted]``.

    Raises:
      ValueError: if n is not positive, the devices do not fit, the novelty is not one that was
        learned, or the targets of an extension with kernels are to be sharded.
    """
    key = arguments.key("key", key)
    check_extension(ext)
    ext = at_novelty(ext, novelty)
    n = arguments.count("n", n, what="how many candidates to draw")
    concrete = arguments.is_concrete(key, ext)
    target_shards = arguments.whole("target_shards", target_shards)
    where = placement_outside_jit("generate", parallel, devices, target_shards, concrete)
    if target_shards != 1 and ext.noise is not None:
        raise ValueError(
            f"`target_shards` is {target_shards}, but kernels lie whole on every device; pass "
            "novelty='blend', or leave `target_shards` out."
        )
    size = min(n, CHUNK)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(-(-n // size), dtype=jnp.int32))
    if target_shards == 1:
        drawn = draw(where, keys, place(where, ext), size)
    else:
        drawn = _draw_sharded(where, keys, ext, size)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], drawn)


def draw(
    where: Placement, keys: Key[Array, " c"] | UInt32[Array, "c 2"], ext: Extension, size: int
) -> tuple[Float[Array, "c n d"], Bool[Array, "c n"], GenerateInfo]:
    """Chunks of candidates, one for each key, sharded over devices; see ``generate``.

    Args:
      where: the placement of the devices.
      keys: consumed.
      ext: from ``extension``, copied to all these devices.
      size: candidates of a chunk; static.

    Returns:
      As ``generate``, with chunks along the first axis.
    """
    return local(map_items(where, _chunks, keys, ext, size=size))


def _draw_sharded(
    where: Placement, keys: Key[Array, " c"] | UInt32[Array, "c 2"], ext: Extension, size: int
) -> tuple[Float[Array, "c n d"], Bool[Array, "c n"], GenerateInfo]:
    """``draw`` where no device holds all targets."""
    y, h = np.asarray(ext.y), np.asarray(ext.h)
    rows = sizes.sharded(*y.shape)
    keys, rest = place(where, (keys, replace(ext, y=y[:0], h=h[:0], nu=None)))
    own = shard(where, y, rows), shard(where, h, rows, fill=-np.inf)
    options = {"size": size, "num_targets": len(h), "targets_axis": where.axes.targets}
    specs = P(), SHARDED, SHARDED
    return local(map_items(where, _chunks, keys, rest, *own, specs=specs, **options))


def _chunks(
    keys: Key[Array, " c"] | UInt32[Array, "c 2"],
    ext: Extension,
    *own: Array,
    size: int,
    num_targets: int | None = None,
    targets_axis: str | None = None,
) -> tuple[Float[Array, "c n d"], Bool[Array, "c n"], GenerateInfo]:
    """``draw`` on one device.

    Args:
      keys: of its chunks.
      ext: from ``extension``.
      *own: targets and heights of this device, where they are sharded; ``ext`` then holds none.
      size: candidates of a chunk.
      num_targets: of all devices, where they are sharded.
      targets_axis: the mapped axis over which they are.
    """
    if own:
        ext = replace(ext, y=own[0], h=own[1])

    def chunk(key: PRNGKey, ext: Extension) -> Any:
        place = {"num_targets": num_targets, "targets_axis": targets_axis}
        x = measures.draw(key, ext.mu, size)
        return _new(x, blend.highest_planes(x, ext.y, ext.h, ext.frame, **place), ext)

    # A device that owns one chunk runs no loop, and its program would round in its own way.
    return jax.lax.map(lambda key: isolated(chunk, key, ext), keys)


def extend(x: Samples, ext: Extension) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """The extension at given samples of the source; see ``generate``.

    Args:
      x: samples (n, d).
      ext: from ``extension``.

    Returns:
      As ``generate``.
    """
    return _new(x, blend.highest_planes(x, ext.y, ext.h, ext.frame), ext)


def _new(
    x: Samples, seen: blend.Planes, ext: Extension
) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """New codes by kernels, if they were learned, else by blending."""
    z, accepted, info = resolve(seen, ext)
    if ext.noise is not None:
        z, made_of = moved(x, seen.index[:, 0], seen.codes[:, 0], ext.noise)
        info = info._replace(num_blended=made_of)
    return z, accepted, info


def resolve(seen: blend.Planes, ext: Extension) -> tuple[Samples, Bool[Array, " n"], GenerateInfo]:
    """Blend planes within the band, and reject samples that are too near to a singular face.

    Args:
      seen: the highest planes at the samples.
      ext: from ``extension``.

    Returns:
      As ``generate``.
    """
    z, num_blended = blend.blend(seen, ext.band, ext.threshold)
    # The planes of i and j meet at a distance of their gap over |y_i - y_j|.
    widths = jnp.linalg.norm(seen.codes - seen.codes[:, :1], axis=-1)
    widest = jnp.where(seen.gaps < ext.margin * widths, seen.angles, 0.0).max(1)
    return z, widest <= ext.threshold, GenerateInfo(seen.index[:, 0], num_blended, widest)

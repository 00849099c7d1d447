"""Records of classes of different sizes as one record, filled up to the largest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.extension.noise.moving import Noise
from aeot_jax.typing import ArrayLike


def weighed(maps: Sequence[Extension]) -> Sequence[Extension]:
    """Maps that all know the weights of their targets, if one of them does."""
    if all(one.nu is None for one in maps):
        return maps
    equal = [jnp.full(len(one.y), 1 / len(one.y), jnp.float32) for one in maps]
    known = [nu if one.nu is None else one.nu for one, nu in zip(maps, equal, strict=True)]
    return [replace(one, nu=nu) for one, nu in zip(maps, known, strict=True)]


def completed(noises: Sequence[Noise | None]) -> list[Noise]:
    """Noise of all classes, with the weights of their kernels; without a code where there is none.

    Args:
      noises: at least one is not None.
    """
    like = next(noise for noise in noises if noise is not None)
    none = jax.tree_util.tree_map_with_path(_of_nothing, _with_weights(like))
    return [none if noise is None else _with_weights(noise) for noise in noises]


def _of_nothing(path: tuple[Any, ...], leaf: ArrayLike) -> np.ndarray:
    """An array of kernels where there are none."""
    whole = path[-1].name in ("deviations", "width")  # no fit gives 0
    return (np.ones_like if whole else np.zeros_like)(np.asarray(leaf))


def _with_weights(noise: Noise) -> Noise:
    """The same noise; the weights of its kernels are there even if all are equal."""
    kernels = noise.kernels
    if kernels.log_weight is not None:
        return noise
    equal = np.full(kernels.group.shape, -np.log(kernels.group.shape[-1]), np.float32)
    return replace(noise, kernels=replace(kernels, log_weight=jnp.asarray(equal)))


def stacked(records: Sequence[Any]) -> Any:
    """Records of all classes as one, by NumPy: for every set of sizes JAX would compile anew."""
    return jax.tree_util.tree_map_with_path(_joined, *records)


def _joined(path: tuple[Any, ...], *leaves: ArrayLike) -> Array:
    """One array of the arrays of all classes."""
    name, hosts = path[-1], [np.asarray(leaf) for leaf in leaves]
    if len({host.shape for host in hosts}) == 1:
        return jnp.asarray(np.stack(hosts))
    return jnp.asarray(filled(hosts, _FILLS[name.name]))


_FILLS: dict[str, float | None] = {
    "y": None,
    "h": -np.inf,
    "nu": 0.0,
    "face_angles": np.nan,
    "neighbour_angles": np.nan,
    **dict.fromkeys(("counts", "mean", "axes", "gain"), 0.0),  # of groups of codes, or cells
    "deviations": 1.0,
}
"""What fills up an array by its name; None is its first row."""


def filled(rows: Sequence[np.ndarray], fill: int | float | None) -> np.ndarray:
    """Arrays of different lengths as one, filled up to the longest."""
    longest = max(map(len, rows))
    parts = []
    for own in rows:
        surplus = (longest - len(own), *own.shape[1:])
        rest = np.broadcast_to(own[:1], surplus) if fill is None else np.full(surplus, fill)
        parts.append(np.concatenate([own, rest.astype(own.dtype)]))
    return np.stack(parts)

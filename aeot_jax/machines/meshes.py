"""Devices in a row or a grid, over which work is sharded."""

import jax
from jax.sharding import AxisType, Mesh

from aeot_jax.typing import Devices


def check_distinct(devices: Devices) -> None:
    """Refuse devices of which one is named twice."""
    if len(set(devices)) != len(devices):
        raise ValueError(f"`devices` names a device twice, {devices}; pass each once.")


def row(devices: Devices, axis: str) -> Mesh:
    """A mesh of one axis of that name."""
    return _mesh((len(devices),), (axis,), devices)


def grid(devices: Devices, axes: tuple[str, str], width: int) -> Mesh:
    """A mesh of two axes of those names, the second of that width."""
    return _mesh((len(devices) // width, width), axes, devices)


def _mesh(shape: tuple[int, ...], axes: tuple[str, ...], devices: Devices) -> Mesh:
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, axes, axis_types=types, devices=devices)

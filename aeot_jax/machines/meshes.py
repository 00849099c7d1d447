"""Meshes of devices, of one axis or two."""

import jax
from jax.sharding import AxisType, Mesh

from aeot_jax.typing import Devices


def check_distinct(devices: Devices) -> None:
    """Raise a ValueError if a device is named twice."""
    if len(set(devices)) != len(devices):
        raise ValueError(f"`devices` names a device twice, {devices}; pass each once.")


def row(devices: Devices, axis: str) -> Mesh:
    """A mesh with one axis."""
    return _mesh((len(devices),), (axis,), devices)


def grid(devices: Devices, axes: tuple[str, str], width: int) -> Mesh:
    """A mesh with two axes; the second has `width` devices."""
    return _mesh((len(devices) // width, width), axes, devices)


def _mesh(shape: tuple[int, ...], axes: tuple[str, ...], devices: Devices) -> Mesh:
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, axes, axis_types=types, devices=devices)

"""Devices in a row, to which work is dealt."""

import jax
from jax.sharding import AxisType, Mesh

from aeot_jax.typing import Devices


def check_distinct(devices: Devices) -> None:
    """Refuse devices of which one is named twice."""
    if len(set(devices)) != len(devices):
        raise ValueError(f"`devices` names a device twice, {devices}; pass each once.")


def row(devices: Devices, axis: str) -> Mesh:
    """A mesh of one axis of that name."""
    return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices)

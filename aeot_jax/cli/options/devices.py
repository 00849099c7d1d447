"""The option --devices: from a number to devices."""

from typing import Annotated

import jax
import tyro

from aeot_jax.typing import Devices

Number = Annotated[
    int | None,
    tyro.conf.arg(help_behavior_hint="(default: all accelerators, or one CPU)", metavar="NUMBER"),
]
"""Type of the option."""


def first(number: int | None) -> Devices | None:
    """The first `number` devices of each process; None for the default.

    Raises:
      ValueError: if there are fewer devices.
    """
    if number is None:
        return None
    present = jax.devices()
    own = [
        [device for device in present if device.process_index == process]
        for process in range(jax.process_count())
    ]
    fewest = min(map(len, own))
    if not 1 <= number <= fewest:
        hint = "; JAX_NUM_CPU_DEVICES makes more of a CPU" if present[0].platform == "cpu" else ""
        raise ValueError(
            f"`--devices` is {number}, but JAX finds {fewest} ({present[0].platform}); pass from 1 "
            f"to {fewest}{hint}."
        )
    return tuple(device for devices in own for device in devices[:number])

"""Arguments of a fit, checked: key, configuration, data, labels, functions, devices."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Shaped

from aeot_jax import arguments
from aeot_jax.data.images import from_arrays
from aeot_jax.data.pictures.convert import to_labels
from aeot_jax.inputs import columns, networks
from aeot_jax.inputs.networks import Networks
from aeot_jax.model import Config
from aeot_jax.nn import train
from aeot_jax.nn.train import TrainConfig
from aeot_jax.ot.devices.placement import checked_devices
from aeot_jax.ot.solver.config import SolverConfig, placement
from aeot_jax.typing import ArrayLike, Devices, Given, PRNGKey

_TRIED = 2
"""Rows on which the user's decoder is tried before any work."""


def check_config(
    key: Given[PRNGKey], config: Given[Config], devices: Given[Devices | None]
) -> tuple[PRNGKey, SolverConfig]:
    """The key, and the configuration of the solver with the devices to use."""
    found = arguments.key("key", key)
    arguments.instance("config", config, Config, "an `aeot_jax.Config(...)`")
    solver = config.solver
    devices = checked_devices(devices)
    if devices is not None:
        if solver.devices not in (None, devices):
            raise ValueError(
                f"`devices` is {devices} and `config.solver.devices` is {solver.devices}; give one."
            )
        solver = replace(solver, devices=devices)
    return found, solver


def check_data(
    images: ArrayLike, labels: ArrayLike | None
) -> tuple[Shaped[np.ndarray, "n ..."], Int32[np.ndarray, " n"] | None, tuple[str, ...] | None]:
    """Images as bytes, or a table unchanged; the labels, and their names if they were strings."""
    if not isinstance(images, list | tuple):  # `from_arrays` compares the shapes of a list
        images = arguments.host_array("images", images)
    if _is_table(images):
        table = columns.check("images", images, "rows")
        return table, *class_labels(labels, len(table))
    if labels is not None:
        arguments.refuse_containers("labels", labels)
    image_set = from_arrays(images, labels)
    return image_set.images, image_set.labels, image_set.label_names


def class_labels(
    labels: ArrayLike | None, n: int
) -> tuple[Int32[np.ndarray, " n"] | None, tuple[str, ...] | None]:
    """The labels, and their names if they were strings."""
    if labels is None:
        return None, None
    arguments.refuse_containers("labels", labels)
    return to_labels(labels, n)


def _is_table(images: ArrayLike) -> bool:
    """Whether the data are a table: floats with two axes. Integers with two axes are one image."""
    if isinstance(images, list | tuple) and (not len(images) or np.ndim(images[0]) != 1):
        return False
    found = arguments.host_array("images", images)
    return found.ndim == 2 and jnp.issubdtype(found.dtype, jnp.floating)


def check_rows(data: ArrayLike) -> np.ndarray:
    """The rows that the user's encoder gets in batches."""
    found = np.asarray(arguments.host_array("images", data))
    if found.ndim < 2 or len(found) < 2:
        raise ValueError(
            f"`images` has shape {found.shape}; pass at least 2 rows, (n, ...), for `encode`."
        )
    return found


def try_decoder(own: Networks, codes: np.ndarray, images: ArrayLike) -> None:
    """Refuse a decoder that does not belong to the encoder before the transport is solved."""
    if own.decode is None:
        return
    shape = np.shape(networks.data_of(own.decode, codes[:_TRIED]))[1:]
    if shape != np.shape(images)[1:]:
        raise ValueError(
            f"`decode` makes rows of shape {shape}, but `images` has rows of shape "
            f"{np.shape(images)[1:]}; pass the decoder of `encode`."
        )


def devices_for(num_images: int, training: TrainConfig, solver: SolverConfig) -> Devices:
    """The devices of the training; empty for the default device.

    If the user named none, the number of devices is one that divides a batch.

    Raises:
      ValueError: if a batch cannot be sharded over the devices.
    """
    found = placement(solver).devices
    if solver.devices is None and jax.process_count() == 1:
        found = found[: math.gcd(train.batch_size(num_images, training), len(found))]
    train.batch_size(num_images, training, max(1, len(found)))
    return found

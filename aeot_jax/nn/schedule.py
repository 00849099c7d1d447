"""The schedule of a training: epochs, batches, and the learning rate."""

import dataclasses
import math

import numpy as np
import optax

from aeot_jax import arguments

_EPOCHS_A_REFINING = 8
"""Epochs for each epoch of the second stage, which takes two to three times as long."""

_MOST_REFINED = 64 * 64 * 3
"""Most pixel values of images that are refined by default; larger ones were not measured. Decoded
test images come nearer to real ones by 18 % of the Fréchet distance on MNIST, 59 % on Fashion-MNIST
and 38 % on photographs of 32x32 pixels in colour; on drawings of 64x64 the distance beyond that of
real images to others falls by two thirds (`benchmarks/decoders.py`)."""


@arguments.known_fields
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of the training; None is chosen from the number of images.

    Attributes:
      epochs: passes over the images.
      batch_size: images per step, over all devices together.
      learning_rate: peak learning rate, between the warm-up and the cosine decay to zero.
      weight_decay: weight decay of AdamW, per unit of learning rate.
      warmup: share of the steps in which the learning rate rises from zero.
      noise: standard deviation of the Gaussian noise on the codes, in units of the codes' own.
      whitening: weight of the penalty on the distance of the codes' covariance from I.
      refine_epochs: more passes over the images, after `epochs`, in which the decoder alone learns
        to make patches that are distributed like real ones (see `nn.refine`). 0 is none; None is
        one for each 8 of `epochs`; none for a table, nor for images of more than 12,288 values.
      refine_weight: how hard the distribution of patches pulls at the pixels in these passes, over
        how hard the reconstruction does.
      fine_weight: how hard the error of fine detail alone pulls in these passes, over the same; it
        makes plain areas plain. None is 10 for convolutions and 0 for the MLP.
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    noise: float = 0.1
    whitening: float = 1e-3
    refine_epochs: int | None = None
    refine_weight: float = 10.0
    fine_weight: float | None = None

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is not None:
                what = "a number, or None for the default"
                arguments.replace_field(self, name, arguments.count, what=what)
        if self.refine_epochs is not None:
            what = "a number, 0 for none, or None for the default"
            arguments.replace_field(self, "refine_epochs", arguments.count, 0, what=what)
        positive = {"above": True, "what": "a positive number"}
        arguments.replace_field(self, "learning_rate", arguments.number, 0.0, **positive)
        below_one = math.nextafter(1.0, 0.0)
        share = "a share of the steps in [0, 1)"
        arguments.replace_field(self, "warmup", arguments.number, 0.0, below_one, what=share)
        for name in ("weight_decay", "noise", "whitening", "refine_weight"):
            arguments.replace_field(self, name, arguments.number, 0.0, what="0 or more")
        if self.fine_weight is not None:
            arguments.replace_field(self, "fine_weight", arguments.number, 0.0, what="0 or more")


def num_epochs(num_images: int, config: TrainConfig) -> int:
    """Passes over the images: the user's choice, or one that follows from the number of images."""
    if config.epochs is not None:
        return config.epochs
    return int(np.clip(2_400_000 // num_images, 20, 80))


def refine_epochs(shape: tuple[int, ...], config: TrainConfig) -> int:
    """Passes over data of this shape that refine the decoder: the user's choice, or the default.

    Raises:
      ValueError: if the user wants some for a table.
    """
    if len(shape) == 2 and config.refine_epochs:
        raise ValueError(
            f"`refine_epochs` is {config.refine_epochs}, but the data are a table, which has no "
            "patches of pixels; pass 0 or None."
        )
    if config.refine_epochs is not None:
        return config.refine_epochs
    if len(shape) == 2 or math.prod(shape[1:]) > _MOST_REFINED:
        return 0
    return num_epochs(shape[0], config) // _EPOCHS_A_REFINING


def total_epochs(shape: tuple[int, ...], config: TrainConfig) -> int:
    """Passes over data of this shape in both stages; raises as ``refine_epochs``."""
    return num_epochs(shape[0], config) + refine_epochs(shape, config)


def refined(num_images: int, config: TrainConfig, done: int) -> int:
    """How many of the `done` epochs of a fit were of the second stage."""
    return max(0, done - num_epochs(num_images, config))


def batch_size(num_images: int, config: TrainConfig, num_devices: int = 1) -> int:
    """Images per step: the user's choice, or at most 256 and few enough for 32 steps per epoch.

    The default is rounded down to a multiple of the number of devices.

    Raises:
      ValueError: if there are fewer than two images, or fewer than the user's batch size; if the
        devices do not divide it, or outnumber the images.
    """
    if num_images < 2:
        raise ValueError(
            f"`images` holds {num_images} image(s); pass at least 2, and hundreds to learn from."
        )
    if config.batch_size is None:
        size = int(np.clip(num_images // 32, min(32, num_images), 256))
        if size < num_devices:
            raise ValueError(
                f"`devices` holds {num_devices} devices, but a batch of {num_images} images has "
                f"{size}; pass at most {size} devices."
            )
        return size // num_devices * num_devices
    if config.batch_size > num_images:
        raise ValueError(
            f"`batch_size` is {config.batch_size}, but there are only {num_images} images; pass at "
            f"most {num_images}, or None for the default."
        )
    if config.batch_size % num_devices:
        raise ValueError(
            f"`batch_size` is {config.batch_size}, which {num_devices} devices cannot share "
            f"evenly; pass a multiple of {num_devices}, or other `devices`."
        )
    return config.batch_size


def optimizer(num_images: int, config: TrainConfig) -> optax.GradientTransformation:
    """AdamW with a linear warm-up and a cosine decay that ends with the last epoch."""
    steps = num_epochs(num_images, config) * (num_images // batch_size(num_images, config))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, int(config.warmup * steps), steps
    )
    return optax.adamw(schedule, weight_decay=config.weight_decay)

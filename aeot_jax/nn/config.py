"""The configuration of the networks, and the sizes that follow from the data."""

import dataclasses
import math

from aeot_jax import arguments

_MOST_TABLE_DIMS = 16
"""Largest default dimension of the codes of a table."""

ACTIVATIONS = ("silu", "relu")

PATCHES = ("cosines", "blended", "tiled")

CHROMA = ("smooth", "sharp")

MIN_SIDE, MAX_SIDE = 4, 128

MLP_MAX_VALUES = 2048
"""Up to this many pixel values, "auto" is the MLP: on Fashion-MNIST it reconstructs better than
convolutions with five times its CPU time. Above, its first and last layers become too large."""


@arguments.known_fields
@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Options of the networks; None is chosen from the image size.

    Attributes:
      kind: "mlp", "conv", or "auto": the MLP for at most 2048 pixel values (28x28x1), else
        convolutions.
      latent_dim: dimensions of the code.
      width: channels of the coarsest convolutions (halved on each finer grid), or hidden units
        of the MLP.
      depth: number of residual blocks in each network.
      activation: of the hidden units: "silu", which is smooth, or "relu", with which an MLP is
        affine on each of finitely many cells; `aeot_jax.manifold` counts them.
      patches: how the convolutional decoder makes pixels: "cosines", of overlapping patches whose
        borders are faded out, sums of cosines of which the fine ones count for less; "blended", of
        the same patches, pixel by pixel; or "tiled", of patches side by side.
      chroma: how images of three channels from the convolutional decoder are shown: "smooth",
        their differences from grey averaged over neighbouring pixels, which takes coloured speckle
        away, or "sharp", every channel as it is. The training does not depend on it.
    """

    kind: str = "auto"
    latent_dim: int | None = None
    width: int | None = None
    depth: int = 1
    activation: str = "silu"
    patches: str = "cosines"
    chroma: str = "smooth"

    def __post_init__(self):
        arguments.choice("kind", self.kind, ("auto", "conv", "mlp"))
        for name in ("latent_dim", "width"):
            if getattr(self, name) is not None:
                what = "a number, or None for the default"
                arguments.replace_field(self, name, arguments.count, what=what)
        arguments.replace_field(self, "depth", arguments.count, 0, what="residual blocks")
        arguments.choice("activation", self.activation, ACTIVATIONS)
        arguments.choice("patches", self.patches, PATCHES)
        arguments.choice("chroma", self.chroma, CHROMA)


def is_table(image_shape: tuple[int, ...]) -> bool:
    """Whether the data are rows of a table, of shape (D,)."""
    return len(image_shape) == 1


def check_image_shape(image_shape: tuple[int, ...]) -> None:
    """Refuse image sizes that the networks do not support.

    Raises:
      ValueError: unless the shape is (height, width, channels) with sides from 4 to 128 pixels, or
        (D,) for a table.
    """
    if is_table(image_shape) and image_shape[0] > 0:
        return
    if len(image_shape) != 3 or image_shape[2] < 1:
        raise ValueError(
            f"`image_shape` is {image_shape}; pass (height, width, channels), with one channel for "
            "grey images."
        )
    if min(image_shape[:2]) < MIN_SIDE or max(image_shape[:2]) > MAX_SIDE:
        raise ValueError(
            f"`image_shape` is {image_shape}; sides from {MIN_SIDE} to {MAX_SIDE} pixels are "
            "supported, so resize or crop the images first."
        )


def kind(image_shape: tuple[int, ...], config: AutoencoderConfig) -> str:
    """The kind of network for images of this size, or for a table: "mlp" or "conv"."""
    if is_table(image_shape) and config.kind == "conv":
        raise ValueError(
            "`kind` is 'conv', but the data are a table, which has no pixels; choose 'mlp'."
        )
    if config.kind != "auto" or is_table(image_shape):
        return config.kind.replace("auto", "mlp")
    return "mlp" if math.prod(image_shape) <= MLP_MAX_VALUES else "conv"


def smooths_chroma(image_shape: tuple[int, ...], config: AutoencoderConfig) -> bool:
    """Whether differences from grey are averaged when a decoded image is shown."""
    colours = len(image_shape) == 3 and image_shape[2] == 3
    return colours and config.chroma == "smooth" and kind(image_shape, config) == "conv"


def latent_dim(image_shape: tuple[int, ...], config: AutoencoderConfig) -> int:
    """Dimension of the codes: the user's choice, or one that follows from the size of the data."""
    if config.latent_dim is not None:
        return config.latent_dim
    if is_table(image_shape):
        return min(image_shape[0], _MOST_TABLE_DIMS)
    if min(image_shape[:2]) < 12:
        return 10
    return 16 if math.prod(image_shape) <= MLP_MAX_VALUES else 32


def hidden_units(image_shape: tuple[int, ...], config: AutoencoderConfig) -> int:
    """Hidden units of the MLP: the user's choice, or 128 for tiny images and 512 for others."""
    return config.width or (128 if math.prod(image_shape) <= 256 else 512)

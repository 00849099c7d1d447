"""Encoders and decoders, as Flax NNX modules: an MLP and a convolutional network.

Strided and transposed convolutions are slow in XLA on a CPU. So resolution changes only by moving
pixels between space and channels (space-to-depth, pixel shuffle), and every convolution is 3x3 with
stride 1.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from aeot_jax.nn.config import AutoencoderConfig, hidden_units, latent_dim
from aeot_jax.nn.layers import (
    ACTIVATIONS,
    Conv,
    ConvBlock,
    DenseBlock,
    blended,
    depth_to_space,
    from_cosines,
    space_to_depth,
)


class MLPEncoder(nnx.Module):
    """Pixels or columns -> hidden -> residual blocks -> code."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.activation]
        width = hidden_units(image_shape, config)
        self.stem = nnx.Linear(math.prod(image_shape), width, rngs=rngs)
        self.blocks = nnx.Dict(
            {str(i): DenseBlock(width, self.activation, rngs=rngs) for i in range(config.depth)}
        )
        self.head = nnx.Linear(width, latent_dim(image_shape, config), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        x = self.stem(x.reshape(x.shape[0], -1))
        for block in self.blocks.values():
            x = block(x)
        return self.head(self.activation(x))


class MLPDecoder(nnx.Module):
    """Code -> hidden -> residual blocks -> pixel logits, or the columns of a table."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.activation]
        width = hidden_units(image_shape, config)
        self.image_shape = image_shape
        self.stem = nnx.Linear(latent_dim(image_shape, config), width, rngs=rngs)
        self.blocks = nnx.Dict(
            {str(i): DenseBlock(width, self.activation, rngs=rngs) for i in range(config.depth)}
        )
        self.head = nnx.Linear(width, math.prod(image_shape), rngs=rngs)

    def __call__(self, z: Array) -> Array:
        """Decode a batch of codes into pixel logits."""
        x = self.stem(z)
        for block in self.blocks.values():
            x = block(x)
        return self.head(self.activation(x)).reshape(z.shape[0], *self.image_shape)


class _Grid(NamedTuple):
    """How an image is reduced: first to patches, then by halvings to a coarse grid."""

    padded: tuple[int, int]
    patch: int
    halvings: int
    coarse: tuple[int, int]
    channels: int


def _grid(image_shape, config: AutoencoderConfig) -> _Grid:
    """Cut into patches of 4 (2 if small), then halve until the longer side is at most 8."""
    longest = max(image_shape[:2])
    # Most of the arithmetic is on the finest grid: patches of 2 cost four times as much.
    patch = 4 if longest >= 20 else 2
    halvings = max(0, math.ceil(math.log2(longest / (8 * patch))))
    unit = patch << halvings
    coarse = (math.ceil(image_shape[0] / unit), math.ceil(image_shape[1] / unit))
    padded = (coarse[0] * unit, coarse[1] * unit)
    return _Grid(padded, patch, halvings, coarse, config.width or 64)


def _margins(side: int, padded: int) -> tuple[int, int]:
    before = (padded - side) // 2
    return before, padded - side - before


class ConvEncoder(nnx.Module):
    """Patches -> (3x3, space to depth) per halving -> 3x3 -> residual blocks -> code."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.activation]
        self.image_shape, self.grid = image_shape, (grid := _grid(image_shape, config))
        inputs = grid.patch**2 * image_shape[2]
        stages = {}
        for i in range(grid.halvings):
            outputs = max(1, grid.channels >> (grid.halvings - i))
            stages[str(i)] = Conv(inputs, outputs, rngs=rngs)
            inputs = 4 * outputs
        self.stages = nnx.Dict(stages)
        self.stem = Conv(inputs, grid.channels, rngs=rngs)
        self.blocks = nnx.Dict(
            {
                str(i): ConvBlock(grid.channels, self.activation, rngs=rngs)
                for i in range(config.depth)
            }
        )
        flat = math.prod(grid.coarse) * grid.channels
        self.head = nnx.Linear(flat, latent_dim(image_shape, config), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        rows, columns = (
            _margins(s, p) for s, p in zip(self.image_shape, self.grid.padded, strict=False)
        )
        # Pad with the edge pixels: the border of a photograph is not black.
        x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)), mode="edge")
        x = space_to_depth(x, self.grid.patch)
        for stage in self.stages.values():
            x = space_to_depth(self.activation(stage(x)), 2)
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(x)
        return self.head(self.activation(x).reshape(x.shape[0], -1))


class ConvDecoder(nnx.Module):
    """Code -> coarse grid -> residual blocks -> (3x3, pixel shuffle) per halving -> patches.

    The patches are the pixels' logits: side by side, or twice as long and blended. Sums of cosines
    have the parameters of blended ones, as coefficients.
    """

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.activation]
        self.image_shape, self.grid = image_shape, (grid := _grid(image_shape, config))
        flat = math.prod(grid.coarse) * grid.channels
        self.stem = nnx.Linear(latent_dim(image_shape, config), flat, rngs=rngs)
        self.blocks = nnx.Dict(
            {
                str(i): ConvBlock(grid.channels, self.activation, rngs=rngs)
                for i in range(config.depth)
            }
        )
        inputs = grid.channels
        stages = {}
        for i in range(grid.halvings):
            outputs = max(1, grid.channels >> (i + 1))
            stages[str(i)] = Conv(inputs, 4 * outputs, rngs=rngs)
            inputs = outputs
        self.stages = nnx.Dict(stages)
        values = grid.patch**2 * image_shape[2]
        self.blends, self.cosines = config.patches != "tiled", config.patches == "cosines"
        self.head = Conv(inputs, inputs if self.blends else values, rngs=rngs)
        if self.blends:
            self.last = nnx.Linear(inputs, 4 * values, rngs=rngs)

    def __call__(self, z: Array) -> Array:
        """Decode a batch of codes into pixel logits."""
        x = self.stem(z).reshape(z.shape[0], *self.grid.coarse, self.grid.channels)
        for block in self.blocks.values():
            x = block(x)
        for stage in self.stages.values():
            x = depth_to_space(stage(self.activation(x)), 2)
        made = self.head(self.activation(x))
        if self.blends:
            x = blended(self._drawn(self.activation(x + made)), self.grid.patch)
        else:
            x = depth_to_space(made, self.grid.patch)
        height, width = self.image_shape[:2]
        (top, _), (left, _) = (
            _margins(s, p) for s, p in zip(self.image_shape, self.grid.padded, strict=False)
        )
        return x[:, top : top + height, left : left + width]

    def _drawn(self, features: Array) -> Array:
        """The patches of the cells, not yet faded."""
        if not self.cosines:
            return self.last(features)
        # The few kernels are transformed, not the many patches: it costs next to nothing.
        side, channels = 2 * self.grid.patch, self.image_shape[2]
        kernel, bias = self.last.kernel[...], self.last.bias[...]  # pyright: ignore[reportOptionalSubscript]
        kernel, bias = (from_cosines(x, side, channels) for x in (kernel, bias[None]))
        return features @ kernel + bias[None, None]

"""Encoder and decoder: Flax NNX modules inside, pure functions of plain parameters outside.

Strided and transposed convolutions are the slow path of XLA on a CPU, so resolution changes only by
moving pixels between space and channels (space-to-depth, pixel shuffle), and every convolution is
3x3 with stride 1.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.typing import ArrayLike, PRNGKey

_MOST_TABLE_DIMS = 16
"""Dimensions of the code of a table at most, unless the user says."""

Params = dict[str, Any]
"""Nested dicts of float32 arrays, keyed by strings alone, so that they can be saved as an npz."""

MIN_SIDE, MAX_SIDE = 4, 128
MLP_MAX_VALUES = 2048
"""Up to this many pixel values "auto" takes the MLP: on Fashion-MNIST it reconstructs better than
convolutions do in five times its CPU time. Beyond, its first and last layers grow too large."""


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """What the user decides about the networks; None is chosen from the image size.

    Attributes:
      kind: "mlp", "conv", or "auto": the MLP for at most 2048 pixel values (28x28x1), else
        convolutions.
      latent_dim: dimensions of the code.
      width: channels of the coarsest convolutions (halved on each finer grid), or hidden units
        of the MLP.
      depth: residual blocks of each network.
    """

    kind: str = "auto"
    latent_dim: int | None = None
    width: int | None = None
    depth: int = 1

    def __post_init__(self):
        arguments.choice("kind", self.kind, ("auto", "conv", "mlp"))
        for name in ("latent_dim", "width"):
            if getattr(self, name) is not None:
                what = "a number, or None for the default"
                arguments.replace_field(self, name, arguments.count, what=what)
        arguments.replace_field(self, "depth", arguments.count, 0, what="residual blocks")


DEFAULT = AutoencoderConfig()


class Functions(NamedTuple):
    """The autoencoder as pure functions; hashable, so static under jit.

    Attributes:
      init: key -> {"encoder": ..., "decoder": ...}.
      encode: (params, x (n, h, w, c), uint8 or float in [0, 1]; or (n, D), standardised columns of
        a table) -> codes (n, latent); reads params["encoder"] alone.
      decode: (params, z (n, latent)) -> images (n, h, w, c), float32 in [0, 1]; or (n, D); reads
        params["decoder"] alone.
    """

    init: Callable[[PRNGKey], Params]
    encode: Callable[[Params, ArrayLike], Float[Array, "n z"]]
    decode: Callable[[Params, ArrayLike], Float[Array, "n ..."]]


def is_table(image_shape: tuple[int, ...]) -> bool:
    """Whether the data are rows of D numbers, of shape (D,), and no images."""
    return len(image_shape) == 1


def check_image_shape(image_shape: tuple[int, ...]) -> None:
    """Refuse sizes that the networks are not made for.

    Raises:
      ValueError: unless the shape is (height, width, channels) with sides from 4 to 128 pixels, or
        that of a table, (D,).
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
    """The kind of network that the configuration means for images of this size, or for a table."""
    if is_table(image_shape) and config.kind == "conv":
        raise ValueError(
            "`kind` is 'conv', but the data are a table, which has no pixels; choose 'mlp'."
        )
    if config.kind != "auto" or is_table(image_shape):
        return config.kind.replace("auto", "mlp")
    return "mlp" if math.prod(image_shape) <= MLP_MAX_VALUES else "conv"


def latent_dim(image_shape: tuple[int, ...], config: AutoencoderConfig) -> int:
    """Dimensions of the code: the user's, or a number chosen from the size of the data."""
    if config.latent_dim is not None:
        return config.latent_dim
    if is_table(image_shape):
        return min(image_shape[0], _MOST_TABLE_DIMS)
    if min(image_shape[:2]) < 12:
        return 10
    return 16 if math.prod(image_shape) <= MLP_MAX_VALUES else 32


def _hidden(image_shape: tuple[int, ...], config: AutoencoderConfig) -> int:
    """Hidden units of the MLP: the user's, or 128 for tiny images and 512 beyond."""
    return config.width or (128 if math.prod(image_shape) <= 256 else 512)


@jax.custom_vjp
def conv3x3(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "n h w o"]:
    """A 3x3 convolution with stride 1 and zero padding.

    Its gradient is written out for one reason: inside a `lax.scan` on a CPU, XLA takes a slow path
    for the kernel's gradient as a convolution, more than ten times slower than the nine matrix
    products below.
    """
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv3x3_forward(x, kernel):
    return conv3x3(x, kernel), (x, kernel)


def _conv3x3_backward(saved, g):
    x, kernel = saved
    _, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = g.reshape(-1, g.shape[-1])
    taps = [
        padded[:, i : i + h, j : j + w].reshape(-1, c).T @ flat for i in range(3) for j in range(3)
    ]
    return conv3x3(g, kernel[::-1, ::-1].swapaxes(2, 3)), jnp.stack(taps).reshape(kernel.shape)


conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)


class _Conv(nnx.Module):
    """`conv3x3` with a bias; `_initial` draws the values."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        del rngs
        self.kernel = nnx.Param(jnp.zeros((3, 3, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        return conv3x3(x, self.kernel[...]) + self.bias[...][None, None, None]


class _ConvBlock(nnx.Module):
    """x + conv(silu(conv(silu(x)))); starts as the identity, so no normalisation is needed."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.first = _Conv(channels, channels, rngs=rngs)
        self.second = _Conv(channels, channels, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        return x + self.second(nnx.silu(self.first(nnx.silu(x))))


class _DenseBlock(nnx.Module):
    """x + dense(silu(dense(silu(x)))); starts as the identity."""

    def __init__(self, units: int, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(units, units, rngs=rngs)
        self.second = nnx.Linear(units, units, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        return x + self.second(nnx.silu(self.first(nnx.silu(x))))


class MLPEncoder(nnx.Module):
    """Pixels or columns -> hidden -> residual blocks -> code."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        width = _hidden(image_shape, config)
        self.stem = nnx.Linear(math.prod(image_shape), width, rngs=rngs)
        self.blocks = nnx.Dict({str(i): _DenseBlock(width, rngs=rngs) for i in range(config.depth)})
        self.head = nnx.Linear(width, latent_dim(image_shape, config), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        x = self.stem(x.reshape(x.shape[0], -1))
        for block in self.blocks.values():
            x = block(x)
        return self.head(nnx.silu(x))


class MLPDecoder(nnx.Module):
    """Code -> hidden -> residual blocks -> pixel logits, or the columns of a table."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        width = _hidden(image_shape, config)
        self.image_shape = image_shape
        self.stem = nnx.Linear(latent_dim(image_shape, config), width, rngs=rngs)
        self.blocks = nnx.Dict({str(i): _DenseBlock(width, rngs=rngs) for i in range(config.depth)})
        self.head = nnx.Linear(width, math.prod(image_shape), rngs=rngs)

    def __call__(self, z: Array) -> Array:
        """Decode a batch of codes into pixel logits."""
        x = self.stem(z)
        for block in self.blocks.values():
            x = block(x)
        return self.head(nnx.silu(x)).reshape(z.shape[0], *self.image_shape)


class _Grid(NamedTuple):
    """How an image is cut: first into patches, then by halvings down to a coarse grid."""

    padded: tuple[int, int]
    patch: int
    halvings: int
    coarse: tuple[int, int]
    channels: int


def _grid(image_shape, config: AutoencoderConfig) -> _Grid:
    """Cut into patches of 4 (2 if small), then halve until the longer side is at most 8."""
    longest = max(image_shape[:2])
    # Most of the arithmetic happens on the finest grid: patches of 2 cost four times as much.
    patch = 4 if longest >= 20 else 2
    halvings = max(0, math.ceil(math.log2(longest / (8 * patch))))
    unit = patch << halvings
    coarse = (math.ceil(image_shape[0] / unit), math.ceil(image_shape[1] / unit))
    padded = (coarse[0] * unit, coarse[1] * unit)
    return _Grid(padded, patch, halvings, coarse, config.width or 64)


def space_to_depth(x: Float[Array, "n h w c"], factor: int) -> Float[Array, "n h2 w2 c2"]:
    """Move factor x factor pixels into channels; the inverse of `depth_to_space`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Float[Array, "n h w c"], factor: int) -> Float[Array, "n h2 w2 c2"]:
    """Move channels into factor x factor pixels (the pixel shuffle)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * factor, w * factor, c // factor**2)


def _margins(side: int, padded: int) -> tuple[int, int]:
    before = (padded - side) // 2
    return before, padded - side - before


class ConvEncoder(nnx.Module):
    """Patches -> (3x3, space to depth) per halving -> 3x3 -> residual blocks -> code."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.image_shape, self.grid = image_shape, (grid := _grid(image_shape, config))
        inputs = grid.patch**2 * image_shape[2]
        stages = {}
        for i in range(grid.halvings):
            outputs = max(1, grid.channels >> (grid.halvings - i))
            stages[str(i)] = _Conv(inputs, outputs, rngs=rngs)
            inputs = 4 * outputs
        self.stages = nnx.Dict(stages)
        self.stem = _Conv(inputs, grid.channels, rngs=rngs)
        self.blocks = nnx.Dict(
            {str(i): _ConvBlock(grid.channels, rngs=rngs) for i in range(config.depth)}
        )
        flat = math.prod(grid.coarse) * grid.channels
        self.head = nnx.Linear(flat, latent_dim(image_shape, config), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        rows, columns = (
            _margins(s, p) for s, p in zip(self.image_shape, self.grid.padded, strict=False)
        )
        # Repeated edges, not zeros: the border of a photograph is not black.
        x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)), mode="edge")
        x = space_to_depth(x, self.grid.patch)
        for stage in self.stages.values():
            x = space_to_depth(nnx.silu(stage(x)), 2)
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(x)
        return self.head(nnx.silu(x).reshape(x.shape[0], -1))


class ConvDecoder(nnx.Module):
    """Code -> coarse grid -> residual blocks -> (3x3, pixel shuffle) per halving -> logits."""

    def __init__(self, image_shape, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.image_shape, self.grid = image_shape, (grid := _grid(image_shape, config))
        flat = math.prod(grid.coarse) * grid.channels
        self.stem = nnx.Linear(latent_dim(image_shape, config), flat, rngs=rngs)
        self.blocks = nnx.Dict(
            {str(i): _ConvBlock(grid.channels, rngs=rngs) for i in range(config.depth)}
        )
        inputs = grid.channels
        stages = {}
        for i in range(grid.halvings):
            outputs = max(1, grid.channels >> (i + 1))
            stages[str(i)] = _Conv(inputs, 4 * outputs, rngs=rngs)
            inputs = outputs
        self.stages = nnx.Dict(stages)
        self.head = _Conv(inputs, grid.patch**2 * image_shape[2], rngs=rngs)

    def __call__(self, z: Array) -> Array:
        """Decode a batch of codes into pixel logits."""
        x = self.stem(z).reshape(z.shape[0], *self.grid.coarse, self.grid.channels)
        for block in self.blocks.values():
            x = block(x)
        for stage in self.stages.values():
            x = depth_to_space(stage(nnx.silu(x)), 2)
        x = depth_to_space(self.head(nnx.silu(x)), self.grid.patch)
        height, width = self.image_shape[:2]
        (top, _), (left, _) = (
            _margins(s, p) for s, p in zip(self.image_shape, self.grid.padded, strict=False)
        )
        return x[:, top : top + height, left : left + width]


def _as_float(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    if x.dtype == jnp.uint8:
        return x.astype(jnp.float32) / 255
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"`x` has dtype {x.dtype}; pass uint8 in 0..255 or floats in [0, 1].")
    return x.astype(jnp.float32)


def _initial(key: PRNGKey, shapes: Params) -> Params:
    """He-normal kernels and zero biases, from one draw: a draw for each shape is compiled for each.

    The last kernel of a residual block starts at zero, so that the block starts as the identity and
    needs no normalisation.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(shapes)
    sizes = [math.prod(leaf.shape) for _, leaf in leaves]
    draws = jax.random.normal(key, (sum(sizes),), jnp.float32)
    values, start = [], 0
    for (path, leaf), size in zip(leaves, sizes, strict=True):
        draw = draws[start : start + size].reshape(leaf.shape)
        start += size
        layer, name = (entry.key for entry in path[-2:])
        zero = name == "bias" or layer == "second"
        gain = 0.0 if zero else math.sqrt(2 / math.prod(leaf.shape[:-1]))
        values.append(gain * draw)
    return jax.tree.unflatten(treedef, values)


@functools.cache
def functions(image_shape: tuple[int, ...], config: AutoencoderConfig = DEFAULT) -> Functions:
    """The autoencoder for images of one shape, or for a table, as pure functions.

    The same arguments give the same object, so that what is compiled for it is compiled once.

    Args:
      image_shape: (height, width, channels), or (D,).
      config: the networks.

    Returns:
      Functions `init`, `encode` and `decode`.

    Raises:
      ValueError: if the size is not supported.
    """
    check_image_shape(image_shape)
    encoder_type, decoder_type = {
        "mlp": (MLPEncoder, MLPDecoder),
        "conv": (ConvEncoder, ConvDecoder),
    }[kind(image_shape, config)]
    latent = latent_dim(image_shape, config)

    def build(module):
        return module(image_shape, config, rngs=nnx.Rngs(0))

    def structure(module):
        graphdef, state = nnx.split(nnx.eval_shape(lambda: build(module)))
        return graphdef, nnx.to_pure_dict(state)

    encoder_def, encoder_shapes = structure(encoder_type)
    decoder_def, decoder_shapes = structure(decoder_type)

    def init(key):
        return _initial(key, {"encoder": encoder_shapes, "decoder": decoder_shapes})

    def encode(params, x):
        x = _as_float(x)
        if x.shape[1:] != image_shape:
            raise ValueError(
                f"`x` has shape {x.shape}, but the encoder takes batches of shape "
                f"(n, *{image_shape}); add the missing axes, or resize the images."
            )
        return nnx.merge(encoder_def, params["encoder"])(x)

    def decode(params, z):
        z = jnp.asarray(z, jnp.float32)
        if z.ndim != 2 or z.shape[1] != latent:
            raise ValueError(
                f"`z` has shape {z.shape}, but the decoder takes codes of shape (n, {latent})."
            )
        found = nnx.merge(decoder_def, params["decoder"])(z)
        return found if is_table(image_shape) else nnx.sigmoid(found)

    return Functions(jax.jit(init), encode, decode)

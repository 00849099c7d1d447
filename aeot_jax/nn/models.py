"""The autoencoder as pure functions of plain parameters."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aeot_jax.nn.config import AutoencoderConfig as AutoencoderConfig
from aeot_jax.nn.config import check_image_shape as check_image_shape
from aeot_jax.nn.config import is_table as is_table
from aeot_jax.nn.config import kind as kind
from aeot_jax.nn.config import latent_dim as latent_dim
from aeot_jax.nn.config import smooths_chroma
from aeot_jax.nn.layers import smooth_chroma
from aeot_jax.nn.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from aeot_jax.typing import ArrayLike, PRNGKey

Params = dict[str, Any]
"""Nested dicts of float32 arrays; all keys are strings, so that an npz file can hold them."""


DEFAULT = AutoencoderConfig()


class Functions(NamedTuple):
    """The autoencoder as pure functions; hashable, and hence static under jit.

    Attributes:
      init: key -> {"encoder": ..., "decoder": ...}.
      encode: (params, x (n, h, w, c), uint8 or float in [0, 1]; or (n, D), standardised columns of
        a table) -> codes (n, latent); reads only params["encoder"].
      decode: (params, z (n, latent)) -> images (n, h, w, c), float32 in [0, 1]; or (n, D); reads
        only params["decoder"]. This is what is trained.
      show: the same, as users see it: with ``chroma="smooth"``, colours are averaged. A decoder
        that is trained through the average makes up for a part of it.
    """

    init: Callable[[PRNGKey], Params]
    encode: Callable[[Params, ArrayLike], Float[Array, "n z"]]
    decode: Callable[[Params, ArrayLike], Float[Array, "n ..."]]
    show: Callable[[Params, ArrayLike], Float[Array, "n ..."]]


def _as_float(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    if x.dtype == jnp.uint8:
        return x.astype(jnp.float32) / 255
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"`x` has dtype {x.dtype}; pass uint8 in 0..255 or floats in [0, 1].")
    return x.astype(jnp.float32)


def _initial(key: PRNGKey, shapes: Params) -> Params:
    """He-normal kernels and zero biases, from one draw: a draw per shape would compile each time.

    The last kernel of a residual block is 0 at first, so that the block is the identity and needs
    no normalisation.
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

    Equal arguments return the same object, so that functions of it compile once.

    Args:
      image_shape: (height, width, channels), or (D,).
      config: the networks.

    Returns:
      Functions `init`, `encode`, `decode` and `show`.

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

    def show(params, z):
        return smooth_chroma(decode(params, z))

    smooths = smooths_chroma(image_shape, config)
    return Functions(jax.jit(init), encode, decode, show if smooths else decode)

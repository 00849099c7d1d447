"""Layers of the networks: 3x3 convolution, residual blocks, space-to-depth, activations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]

ACTIVATIONS: dict[str, Activation] = {"silu": nnx.silu, "relu": nnx.relu}


@jax.custom_vjp
def conv3x3(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c o"]) -> Float[Array, "n h w o"]:
    """A 3x3 convolution with stride 1 and zero padding.

    Its gradient is explicit for one reason: inside a `lax.scan` on a CPU, XLA computes the gradient
    of the kernel as a convolution, more than ten times slower than the nine matrix products below.
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


class Conv(nnx.Module):
    """`conv3x3` with a bias; `models.functions` initialises the values."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        del rngs
        self.kernel = nnx.Param(jnp.zeros((3, 3, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        return conv3x3(x, self.kernel[...]) + self.bias[...][None, None, None]


class ConvBlock(nnx.Module):
    """x + conv(act(conv(act(x)))); initially the identity, so it needs no normalisation."""

    def __init__(self, channels: int, activation: Activation, *, rngs: nnx.Rngs):
        self.activation = activation
        self.first = Conv(channels, channels, rngs=rngs)
        self.second = Conv(channels, channels, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        return x + self.second(self.activation(self.first(self.activation(x))))


class DenseBlock(nnx.Module):
    """x + dense(act(dense(act(x)))); initially the identity."""

    def __init__(self, units: int, activation: Activation, *, rngs: nnx.Rngs):
        self.activation = activation
        self.first = nnx.Linear(units, units, rngs=rngs)
        self.second = nnx.Linear(units, units, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Transform a batch of features or images."""
        return x + self.second(self.activation(self.first(self.activation(x))))


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


def blended(x: Float[Array, "n h w c"], factor: int) -> Float[Array, "n h2 w2 c2"]:
    """Add up overlapping patches: each cell draws a square of twice ``factor`` around its middle.

    Where `depth_to_space` puts patches side by side, so that the borders between them show, here
    every pixel is a mean of four patches. Their weights are squares of sines, which sum to 1. The
    cells at the border count for those beyond it.

    Args:
      x: the patches (n, h, w, 4 factor^2 channels), by rows, columns and channels.
      factor: pixels from one cell to the next, even.

    Returns:
      Pixels (n, factor h, factor w, channels).
    """
    n, h, w, c = x.shape
    side = 2 * factor
    window = jnp.sin(jnp.pi / side * (jnp.arange(side, dtype=jnp.float32) + 0.5)) ** 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    x = x.reshape(n, h + 2, w + 2, side, side, c // side**2)
    x = x * (window[:, None, None] * window[None, :, None])[None, None, None]
    upper, lower = jnp.split(x, 2, axis=3)
    x = upper[:, 1:] + lower[:, :-1]
    left, right = jnp.split(x, 2, axis=4)
    x = left[:, :, 1:] + right[:, :, :-1]
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, (h + 1) * factor, (w + 1) * factor, -1)
    half = factor // 2
    return x[:, half : half + h * factor, half : half + w * factor]


def cosines(side: int) -> Float[np.ndarray, "k p"]:
    r"""The cosines of a square patch, as (side^2 frequencies, side^2 pixels).

    Row (a, b) is $A_{ab} \cos(\pi a (i + 1/2) / side) \cos(\pi b (j + 1/2) / side)$, normalised for
    $A_{ab}$ proportional to $1 / \sqrt{1 + a^2 + b^2}$; a column's squares add up to 1 in the mean.
    So independent coefficients of variance 1 make pixels of variance 1, and one step of an
    optimiser that moves all of them alike moves what is coarse by more than what is fine.

    Args:
      side: of the patch, in pixels.
    """
    i = np.arange(side)
    rows = np.cos(np.pi / side * i[:, None] * (i + 0.5)) * np.sqrt(2 / side)
    rows[0] /= np.sqrt(2)
    sizes = 1 / np.sqrt(1 + i[:, None] ** 2 + i**2)
    sizes *= side / np.linalg.norm(sizes)
    waves = np.einsum("ai,bj->abij", rows, rows) * sizes[:, :, None, None]
    return waves.reshape(side**2, side**2).astype(np.float32)


def from_cosines(x: Float[Array, "n k"], side: int, channels: int) -> Float[Array, "n k"]:
    """Pixels of patches (side, side, channels), from coefficients of `cosines`."""
    x = x.reshape(x.shape[0], side**2, channels)
    return jnp.einsum("nkc,kp->npc", x, cosines(side)).reshape(x.shape[0], -1)


def smooth_chroma(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Average differences from grey over neighbouring pixels; the grey of each pixel stays.

    Weights are 1/4, 1/2, 1/4 along rows and along columns, and the border is continued. A network
    leaves its speckle in colour most of all, where photographs have the least detail: that is why
    pictures are stored with half as many pixels in colour as in grey.

    Args:
      x: images, values in [0, 1].

    Returns:
      Images; the few values that leave [0, 1] are clipped.
    """
    grey = x.mean(axis=3, keepdims=True)
    chroma = jnp.pad(x - grey, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    chroma = (chroma[:, :-2] + 2 * chroma[:, 1:-1] + chroma[:, 2:]) / 4
    chroma = (chroma[:, :, :-2] + 2 * chroma[:, :, 1:-1] + chroma[:, :, 2:]) / 4
    return jnp.clip(grey + chroma, 0, 1)

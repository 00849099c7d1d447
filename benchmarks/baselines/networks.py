"""The networks of adversaries and autoencoders: perceptrons of one width, and their average."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


class Perceptron(nnx.Module):
    """Hidden layers of equal width, the last layer without activation."""

    def __init__(
        self,
        sizes: tuple[int, int],
        width: int,
        depth: int,
        rngs: nnx.Rngs,
        activation: Activation = nnx.relu,
        norm: bool = False,
    ):
        dim_in, dim_out = sizes
        widths = [dim_in, *[width] * depth]
        self.hidden = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairwise(widths)])
        self.last = nnx.Linear(widths[-1], dim_out, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(depth * norm)])
        self.activation = activation

    def __call__(self, x: Float[Array, "n a"]) -> Float[Array, "n b"]:
        """Outputs, one row an input."""
        for k, layer in enumerate(self.hidden):
            x = layer(x)
            x = self.norms[k](x) if len(self.norms) else x
            x = self.activation(x)
        return self.last(x)


def leaky(x: Array) -> Array:
    """A ReLU of slope 0.2 below 0, as in DCGAN's critic."""
    return nnx.leaky_relu(x, 0.2)


def averaged(average: Any, params: Any, kept: float, step: Array) -> Any:
    """The running average of weights; it follows closely at first."""
    keep = jnp.minimum(kept, (1 + step) / (10 + step))
    return optax.incremental_update(params, average, 1 - keep)


def falling(progress: Float[Array, ""], decay: bool) -> Float[Array, ""]:
    """What multiplies the learning rate: 1, or from half of the budget on a cosine down to 0.02."""
    if not decay:
        return jnp.float32(1)
    past = jnp.clip(2 * progress - 1, 0, 1)
    return 0.02 + 0.98 * (1 + jnp.cos(jnp.pi * past)) / 2


def scaled(updates: Any, factor: Float[Array, ""]) -> Any:
    """An optimiser's updates, for a learning rate that is multiplied."""
    return jax.tree.map(lambda update: factor * update, updates)

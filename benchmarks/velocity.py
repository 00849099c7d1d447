"""The velocity network of flow matching that the couplings are compared by, and its flow.

Nothing here knows which coupling made the pairs. Weights are averaged over steps at a constant
learning rate, so that the same training can be judged after any number of steps.
"""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

_LEARNING_RATE, _WARMUP = 1e-3, 100
_KEPT = 0.998
"""What the average of the weights keeps of itself in a step."""
_FREQUENCIES = 4
_LABEL_FEATURES = 32
_FINE = 64
"""Steps of Euler's method that stand for the flow itself."""

Batch = tuple[Array, Array, Array]
"""Noise (b, d), targets (b, d) and labels (b,)."""


class Velocity(nnx.Module):
    """v(x, t, label): a perceptron with residual layers; one label where there is no condition."""

    def __init__(self, dim: int, num_labels: int, width: int, rngs: nnx.Rngs):
        self.label = nnx.Embed(num_labels, _LABEL_FEATURES, rngs=rngs)
        self.first = nnx.Linear(dim + 2 * _FREQUENCIES + _LABEL_FEATURES, width, rngs=rngs)
        self.hidden = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.last = nnx.Linear(width, dim, rngs=rngs)

    def __call__(self, x: Array, t: Array, label: Array) -> Array:
        """Velocities (b, d) at points x (b, d), times t (b, 1) and labels (b,)."""
        turns = jnp.pi * t * 2.0 ** jnp.arange(_FREQUENCIES)[None, :]
        given = [x, jnp.cos(turns), jnp.sin(turns), self.label(label)]
        z = nnx.silu(self.first(jnp.concatenate(given, 1)))
        for layer in self.hidden:
            z = z + nnx.silu(layer(z))
        return self.last(z)


class Training(NamedTuple):
    """Where a training stands.

    Attributes:
      params: weights.
      averaged: their average over the last steps.
      memory: of the optimiser.
      step: steps made.
    """

    params: Any
    averaged: Any
    memory: Any
    step: Int[Array, ""]


_OPTIMISER = optax.adam(optax.linear_schedule(0.0, _LEARNING_RATE, _WARMUP))


def begin(seed: int, dim: int, num_labels: int, width: int) -> tuple[Any, Training]:
    """A network, as the graph that `step` takes, and a training that has made no step."""
    graph, params = nnx.split(Velocity(dim, num_labels, width, nnx.Rngs(seed)))
    own = jax.tree.map(jnp.copy, params)
    return graph, Training(params, own, _OPTIMISER.init(params), jnp.int32(0))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def step(graph: Any, training: Training, key: Array, batch: Batch) -> Training:
    """One step of flow matching: on the segment from x to y the velocity is y - x."""
    x, y, label = batch
    t = jax.random.uniform(jax.random.fold_in(key, training.step), (x.shape[0], 1))

    def loss(params: Any) -> Float[Array, ""]:
        found = nnx.merge(graph, params)((1 - t) * x + t * y, t, label)
        return jnp.square(found - (y - x)).mean()

    slope = jax.grad(loss)(training.params)
    updates, memory = _OPTIMISER.update(slope, training.memory)
    params = optax.apply_updates(training.params, updates)
    kept = jnp.minimum(_KEPT, (1 + training.step) / (10 + training.step))
    averaged = optax.incremental_update(params, training.averaged, 1 - kept)
    return Training(params, averaged, memory, training.step + 1)


def train(
    seed: int,
    shape: tuple[int, int, int],
    batch: Callable[[int], Batch],
    marks: Mapping[str, int],
) -> tuple[Any, dict[str, Any]]:
    """Train, and keep the averaged weights after some numbers of steps.

    Args:
      seed: of the weights and the times.
      shape: dimension, labels, width.
      batch: from the number of a step to its pairs.
      marks: numbers of steps by name.

    Returns:
      The network's graph, and the weights by name.
    """
    graph, training = begin(seed, *shape)
    key, kept = jax.random.key(seed), {}
    for k in itertools.count(1):
        training = step(graph, training, key, batch(k - 1))
        for name in [name for name, steps in marks.items() if steps == k]:
            kept[name] = jax.tree.map(jnp.copy, training.averaged)
        if len(kept) == len(marks):
            return graph, kept
    raise AssertionError


@partial(jax.jit, static_argnums=0)
def flow(graph: Any, params: Any, x: Array, label: Array, num_steps: int | Int[Array, ""]) -> Array:
    """Euler's method from noise x (n, d): where it ends (n, d)."""
    network = nnx.merge(graph, params)

    def move(k: Array, x: Array) -> Array:
        t = jnp.full((x.shape[0], 1), k / num_steps)
        return x + network(x, t, label) / num_steps

    return jax.lax.fori_loop(0, num_steps, move, x)


@partial(jax.jit, static_argnums=0)
def _bent(graph: Any, params: Any, x: Array, label: Array) -> tuple[Array, Array, Array]:
    network = nnx.merge(graph, params)

    def move(carry: tuple[Array, Array, Array], k: Array) -> tuple[Any, None]:
        at, squares, length = carry
        v = network(at, jnp.full((x.shape[0], 1), k / _FINE), label)
        speed = jnp.square(v).sum(1)
        return (at + v / _FINE, squares + speed / _FINE, length + jnp.sqrt(speed) / _FINE), None

    zero = jnp.zeros(x.shape[0])
    (end, squares, length), _ = jax.lax.scan(move, (x, zero, zero), jnp.arange(_FINE))
    return jnp.square(end - x).sum(1), squares, length


def straightness(graph: Any, params: Any, x: Array, label: Array) -> dict[str, float]:
    r"""How far the flow's paths are from straight lines at a constant speed; 0 where they are.

    Returns:
      ``bent``: :math:`E\int|v_t - (x_1 - x_0)|^2 dt / E|x_1 - x_0|^2`; ``detour``: the mean length
      of a path over the mean distance of its ends, less 1.

    Source: Liu, Gong, Liu, Flow straight and fast, ICLR 2023 (the integral).
    """
    chord, squares, length = map(np.asarray, _bent(graph, params, x, label))
    bent = float((squares - chord).mean() / chord.mean())
    return {"bent": bent, "detour": float(length.mean() / np.sqrt(chord).mean() - 1)}

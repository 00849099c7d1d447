"""The variational autoencoder, and its second stage.

The decoder's variance is learned, one number for all coordinates, and samples have its noise: that
is the density that is fitted. The second stage is another such autoencoder, of the first one's
codes.

Sources: Kingma, Welling, Auto-Encoding Variational Bayes, ICLR 2014; Dai, Wipf, Diagnosing and
Enhancing VAE Models, ICLR 2019 (the learned variance and the second stage).
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from baselines.method import (
    CHUNK,
    DRAW,
    Budget,
    Fitted,
    Method,
    Points,
    Sample,
    in_draws,
    learn,
    units,
)
from baselines.networks import Perceptron, averaged, falling, scaled

_DEPTH = 2
_START = -3.0
"""Of the logarithm of the decoder's standard deviation: from 0 on, no code is ever used."""
_LEAST = -7.0
"""Its least value: beyond, rounding rules."""


class Rules(NamedTuple):
    """The settings of an autoencoder, hashable, so that equal ones compile once.

    Attributes:
      latent: dimensions of the codes; 0 is the dimensions of the data.
      width: of the hidden layers.
      batch: samples a step.
      learning_rate: of Adam.
      kept: what the average of the weights keeps of itself in a step.
      decay: whether the rate falls in the second half of the budget.
    """

    latent: int = 0
    width: int = 256
    batch: int = 128
    learning_rate: float = 1e-3
    kept: float = 0.999
    decay: bool = True


class Coder(nnx.Module):
    """Encoder, decoder, and the logarithm of the decoder's standard deviation."""

    def __init__(self, dim: int, latent: int, width: int, rngs: nnx.Rngs):
        self.encoder = Perceptron((dim, 2 * latent), width, _DEPTH, rngs)
        self.decoder = Perceptron((latent, dim), width, _DEPTH, rngs)
        self.log_sigma = nnx.Param(jnp.full((), _START))

    def encode(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n z"], Float[Array, "n z"]]:
        """Mean and logarithm of the standard deviation of the codes."""
        mean, log_deviation = jnp.split(self.encoder(x), 2, axis=1)
        return mean, jnp.clip(log_deviation, -10, 5)

    def deviation(self) -> Float[Array, ""]:
        """The decoder's standard deviation."""
        return jnp.exp(jnp.maximum(self.log_sigma[...], _LEAST))


class Training(NamedTuple):
    """Where a training stands: weights, their average, the optimiser's memory, steps made."""

    params: Any
    average: Any
    memory: Any
    step: Array


def _coder(rules: Rules, dim: int, key: Array) -> tuple[Any, Any]:
    latent = rules.latent or dim
    return nnx.split(Coder(dim, latent, rules.width, nnx.Rngs(key)))


@lru_cache(maxsize=8)
def _graph(rules: Rules, dim: int) -> Any:
    return _coder(rules, dim, jax.random.key(0))[0]


def begin(rules: Rules, dim: int, key: Array) -> Training:
    """A training that has made no step."""
    params = _coder(rules, dim, key)[1]
    own = jax.tree.map(jnp.copy, params)
    memory = optax.adam(rules.learning_rate).init(params)
    return Training(params, own, memory, jnp.float32(0))


def loss(rules: Rules, params: Any, x: Float[Array, "n d"], key: Array) -> Float[Array, ""]:
    """The negative evidence bound of a batch, without its constant, in nats a sample."""
    coder = nnx.merge(_graph(rules, x.shape[1]), params)
    mean, log_deviation = coder.encode(x)
    z = mean + jnp.exp(log_deviation) * jax.random.normal(key, mean.shape)
    divergence = (jnp.exp(2 * log_deviation) + mean**2 - 1) / 2 - log_deviation
    sigma = coder.deviation()
    error = jnp.square((coder.decoder(z) - x) / sigma) / 2 + jnp.log(sigma)
    return error.sum(1).mean() + divergence.sum(1).mean()


@partial(jax.jit, static_argnums=0)
def _chunk(rules: Rules, data: Array, at: Training, key: Array, progress: Array) -> Training:
    adam, factor = optax.adam(rules.learning_rate), falling(progress, rules.decay)

    def move(at: Training, k: Array) -> tuple[Training, None]:
        rows_key, noise_key = jax.random.split(jax.random.fold_in(key, k))
        x = data[jax.random.randint(rows_key, (rules.batch,), 0, len(data))]
        slope = jax.grad(partial(loss, rules))(at.params, x, noise_key)
        slope = jax.tree.map(lambda s: jnp.clip(s, -100, 100), slope)  # a narrow decoder's
        updates, memory = adam.update(slope, at.memory)
        params = optax.apply_updates(at.params, scaled(updates, factor))
        average = averaged(at.average, params, rules.kept, at.step)
        return Training(params, average, memory, at.step + 1), None

    return jax.lax.scan(move, at, jnp.arange(CHUNK))[0]


@partial(jax.jit, static_argnums=(0, 1))
def _decoded(rules: Rules, dim: int, params: Any, z: Array, key: Array) -> Array:
    coder = nnx.merge(_graph(rules, dim), params)
    return coder.decoder(z) + coder.deviation() * jax.random.normal(key, (len(z), dim))


@partial(jax.jit, static_argnums=0)
def _coded(rules: Rules, params: Any, x: Array, key: Array) -> Array:
    mean, log_deviation = nnx.merge(_graph(rules, x.shape[1]), params).encode(x)
    return mean + jnp.exp(log_deviation) * jax.random.normal(key, mean.shape)


def _sampler(rules: Rules, dim: int, at: Training) -> Sample:
    def draw(key: Array) -> Array:
        first, other = jax.random.split(key)
        z = jax.random.normal(first, (DRAW, rules.latent or dim))
        return _decoded(rules, dim, at.average, z, other)

    return in_draws(draw)


def fit(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Learn until the budget is spent."""
    rules, frame, dim = Rules(**settings), units(data), data.shape[1]
    first, other = jax.random.split(key)
    points = jnp.asarray(frame.enter(data))
    found = learn(other, begin(rules, dim, first), partial(_chunk, rules, points), budget)
    ends = [frame.leave(_sampler(rules, dim, at)) for at in (found.state, found.half)]
    sigma = nnx.merge(_graph(rules, dim), found.state.average).deviation() * frame.scale
    about = {"steps": found.steps, "sigma": float(sigma)}
    return Fitted(ends[0], found.seconds, ends[1], about)


def fit_two_stages(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Half of the budget for each stage; at "half" the second stage has half of its own."""
    rules, frame, dim = Rules(**settings), units(data), data.shape[1]
    first, other, code_key, second = jax.random.split(key, 4)
    points = jnp.asarray(frame.enter(data))
    part = budget.share(0.5)
    stage = learn(other, begin(rules, dim, first), partial(_chunk, rules, points), part)
    codes = np.asarray(_coded(rules, stage.state.average, points, code_key))
    of_codes = fit(second, codes, part, {**settings, "latent": codes.shape[1]})
    assert of_codes.half is not None

    def decoded(sample: Sample) -> Sample:
        def draw(key: Array) -> Array:
            own, noise = jax.random.split(key)
            z = jnp.asarray(sample(own, DRAW))
            return _decoded(rules, dim, stage.state.average, z, noise)

        return frame.leave(in_draws(draw))

    about = {"steps": stage.steps, "steps_of_codes": of_codes.about["steps"]}
    seconds = stage.seconds + of_codes.seconds
    return Fitted(decoded(of_codes.sample), seconds, decoded(of_codes.half), about)


_SEARCHED = {"width": (64, 128, 256), "learning_rate": (3e-3, 1e-3), "latent": (2, 8)}
_FOUND = {"width": 64, "learning_rate": 3e-3, "latent": 2}

VAE = Method(fit, _FOUND, _SEARCHED, learns=True)
TWO_STAGE_VAE = Method(fit_two_stages, _FOUND, _SEARCHED, learns=True)

"""Adversaries: the non-saturating GAN, WGAN-GP, and PacGAN with two samples a pack.

The sources' two-dimensional experiments have normal noise, perceptrons with ReLU and leaky ReLU,
and Adam; sizes and rates are settings, for a search. Samples are those of averaged weights of the
generator, as is usual since progressive growing.

Sources: Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014 (the non-saturating loss);
Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017; Lin, Khetan, Fanti, Oh,
PacGAN, NeurIPS 2018 (the critic sees a pack of samples side by side); Mescheder, Geiger, Nowozin,
Which Training Methods for GANs do actually Converge?, ICML 2018 (the penalty of the critic's slope
at real samples).
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from baselines.method import CHUNK, DRAW, Budget, Fitted, Method, Points, in_draws, learn, units
from baselines.networks import Perceptron, averaged, falling, leaky, scaled


class Game(NamedTuple):
    """Where the game stands.

    Attributes:
      generator: its weights.
      critic: its weights.
      average: of the generator's weights.
      memories: of the two optimisers, the generator's first.
      step: steps made.
    """

    generator: Any
    critic: Any
    average: Any
    memories: tuple[Any, Any]
    step: Array


class Rules(NamedTuple):
    """The settings of an adversary, hashable, so that equal ones compile once.

    Attributes:
      loss: "non-saturating" or "wasserstein".
      pack: samples that the critic sees side by side.
      noise: dimensions of the noise.
      width: of the hidden layers.
      depth: hidden layers of each network.
      batch: samples a step; packs times ``pack``.
      learning_rate: of the generator.
      critic_rate: times as fast the critic learns.
      critic_steps: of the critic in a step.
      beta: Adam's memory of the slope.
      penalty: weight of the gradient penalty: Wasserstein's between samples, or that of the slope
        at real ones.
      kept: what the average of the weights keeps of itself in a step.
      decay: whether the rates fall in the second half of the budget.
      norm: whether the generator's layers are normalised.
    """

    loss: str = "non-saturating"
    pack: int = 1
    noise: int = 2
    width: int = 128
    depth: int = 2
    batch: int = 128
    learning_rate: float = 1e-3
    critic_rate: float = 1.0
    critic_steps: int = 1
    beta: float = 0.5
    penalty: float = 0.0
    kept: float = 0.999
    decay: bool = True
    norm: bool = False


def _networks(rules: Rules, dim: int, seed: Array) -> tuple[Any, Any, Any, Any]:
    rngs = nnx.Rngs(seed)
    generator = Perceptron((rules.noise, dim), rules.width, rules.depth, rngs, norm=rules.norm)
    critic = Perceptron((rules.pack * dim, 1), rules.width, rules.depth, rngs, leaky)
    return *nnx.split(generator), *nnx.split(critic)


@lru_cache(maxsize=8)
def _graphs(rules: Rules, dim: int) -> tuple[Any, Any]:
    generator, _, critic, _ = _networks(rules, dim, jax.random.key(0))
    return generator, critic


def _optimisers(rules: Rules) -> tuple[optax.GradientTransformation, ...]:
    rates = rules.learning_rate, rules.learning_rate * rules.critic_rate
    return tuple(optax.adam(rate, b1=rules.beta, b2=0.99) for rate in rates)


def begin(rules: Rules, dim: int, key: Array) -> Game:
    """A game in which nobody has moved."""
    _, generator, _, critic = _networks(rules, dim, key)
    one, other = _optimisers(rules)
    memories = one.init(generator), other.init(critic)
    own = jax.tree.map(jnp.copy, generator)
    return Game(generator, critic, own, memories, jnp.float32(0))


def _fakes(graph: Any, rules: Rules, weights: Any, key: Array, n: int) -> Float[Array, "n d"]:
    return nnx.merge(graph, weights)(jax.random.normal(key, (n, rules.noise)))


def critic_loss(
    rules: Rules, graphs: tuple[Any, Any], weights: Any, real: Array, fake: Array, key: Array
) -> Float[Array, ""]:
    """What the critic lowers; real and fake are packs, (b, pack * d)."""
    critic = nnx.merge(graphs[1], weights)
    of_real, of_fake = critic(real)[:, 0], critic(fake)[:, 0]
    if rules.loss == "non-saturating":
        own = jax.nn.softplus(-of_real).mean() + jax.nn.softplus(of_fake).mean()
        if rules.penalty == 0:
            return own
        slope = jax.grad(lambda x: critic(x).sum())(real)
        return own + 0.5 * rules.penalty * jnp.square(slope).sum(1).mean()
    share = jax.random.uniform(key, (len(real), 1))
    slope = jax.grad(lambda x: critic(x).sum())(share * real + (1 - share) * fake)
    steepness = jnp.sqrt(jnp.square(slope).sum(1) + 1e-12)
    return of_fake.mean() - of_real.mean() + rules.penalty * jnp.square(steepness - 1).mean()


def generator_loss(
    rules: Rules, graphs: tuple[Any, Any], weights: Any, critic: Any, key: Array
) -> Float[Array, ""]:
    """What the generator lowers."""
    fake = _fakes(graphs[0], rules, weights, key, rules.batch).reshape(
        rules.batch // rules.pack, -1
    )
    judged = nnx.merge(graphs[1], critic)(fake)[:, 0]
    return jax.nn.softplus(-judged).mean() if rules.loss == "non-saturating" else -judged.mean()


def step(rules: Rules, data: Array, game: Game, key: Array, factor: Array) -> Game:
    """The critic moves, some times, then the generator."""
    graphs = _graphs(rules, data.shape[1])
    one, other = _optimisers(rules)
    own, *keys = jax.random.split(key, 1 + rules.critic_steps)
    packs = rules.batch // rules.pack
    critic, memory = game.critic, game.memories[1]
    for move in keys:
        rows_key, noise_key, share_key = jax.random.split(move, 3)
        rows = jax.random.randint(rows_key, (rules.batch,), 0, len(data))
        real = data[rows].reshape(packs, -1)
        fake = _fakes(graphs[0], rules, game.generator, noise_key, rules.batch).reshape(packs, -1)
        slope = jax.grad(partial(critic_loss, rules, graphs))(critic, real, fake, share_key)
        updates, memory = other.update(slope, memory)
        critic = optax.apply_updates(critic, scaled(updates, factor))
    slope = jax.grad(partial(generator_loss, rules, graphs))(game.generator, critic, own)
    updates, first = one.update(slope, game.memories[0])
    generator = optax.apply_updates(game.generator, scaled(updates, factor))
    average = averaged(game.average, generator, rules.kept, game.step)
    return Game(generator, critic, average, (first, memory), game.step + 1)


@partial(jax.jit, static_argnums=0)
def _chunk(rules: Rules, data: Array, game: Game, key: Array, progress: Array) -> Game:
    factor = falling(progress, rules.decay)

    def move(game: Game, k: Array) -> tuple[Game, None]:
        return step(rules, data, game, jax.random.fold_in(key, k), factor), None

    return jax.lax.scan(move, game, jnp.arange(CHUNK))[0]


@partial(jax.jit, static_argnums=(0, 1))
def _draw(rules: Rules, dim: int, weights: Any, key: Array) -> Array:
    return _fakes(_graphs(rules, dim)[0], rules, weights, key, DRAW)


def fit(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Play until the budget is spent."""
    rules, frame, dim = Rules(**settings), units(data), data.shape[1]
    if rules.batch % rules.pack:
        raise ValueError(f"`batch` is {rules.batch}; pass a multiple of `pack` = {rules.pack}.")
    first, other = jax.random.split(key)
    points = jnp.asarray(frame.enter(data))
    found = learn(other, begin(rules, dim, first), partial(_chunk, rules, points), budget)

    def sampler(game: Game):
        return frame.leave(in_draws(lambda key: _draw(rules, dim, game.average, key)))

    about = {"steps": found.steps}
    return Fitted(sampler(found.state), found.seconds, sampler(found.half), about)


_FOUND = {"width": 64, "depth": 2, "noise": 8, "kept": 0.99}
"""What the search of the plain GAN found; the other two start from it."""

GAN = Method(
    fit,
    {**_FOUND, "learning_rate": 2e-3},
    {
        "width": (64, 128),
        "depth": (2, 3),
        "learning_rate": (2e-3, 1e-3, 3e-4),
        "noise": (2, 8),
        "kept": (0.99, 0.999),
        "penalty": (0.0, 0.01, 0.1, 1.0),
    },
    learns=True,
)
PACGAN2 = Method(
    fit,
    {**_FOUND, "pack": 2, "learning_rate": 2e-3},
    {"learning_rate": (2e-3, 1e-3)},
    learns=True,
)
WGAN_GP = Method(
    fit,
    {
        **_FOUND,
        "loss": "wasserstein",
        "learning_rate": 1e-3,
        "penalty": 0.1,
        "critic_steps": 5,
        "beta": 0.0,
    },
    {
        "learning_rate": (2e-3, 5e-4),
        "penalty": (0.1, 1.0),
        "critic_steps": (1, 2, 5),
        "beta": (0.0, 0.5),
    },
    learns=True,
)

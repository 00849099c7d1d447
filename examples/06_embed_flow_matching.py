"""Train a flow on optimal pairs."""

# %% [markdown]
# # Train a flow on optimal pairs
#
# Flow matching learns a velocity field whose flow carries noise to data. Which noise belongs to
# which data point is free: pairs drawn independently cross, and the flow bends to keep them apart;
# optimal pairs (x, T(x)) do not cross, and a few Euler steps follow it. `benchmarks/flow.py` does
# it with images, and beside optimal minibatches.

# %%
import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import toy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few points, few steps of training")
parser.add_argument("--out", type=Path, default=Path("runs/06_flow.png"), help="the figure")
options = parser.parse_args()

num_points, num_train_steps = (200, 200) if options.quick else (1000, 6000)
keys = jax.random.split(jax.random.key(0), 6)

# %% [markdown]
# ## Couple
# The transport from noise to the points is solved once; `aeot.pairs` then draws from the coupling
# without end. (In the plane `solve_exact` is exact; `solve` does it in any dimension.)

# %%
y = toy.moons(keys[0], num_points).points
y = (y - y.mean(0)[None, :]) / y.std(0)[None, :]
mu = aeot.Gaussian(dim=2)
h = aeot.solve_exact(aeot.Gaussian(2), y).h
optimal = aeot.pairs(keys[1], mu, y, h)


def independent(key: jax.Array, batch: int = 256) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Pairs of noise with any data point: what flow matching does by itself."""
    for step in itertools.count():
        noise_key, index_key = jax.random.split(jax.random.fold_in(key, step))
        index = jax.random.randint(index_key, (batch,), 0, num_points)
        yield mu.sample(noise_key, batch), y[index]


# %% [markdown]
# ## Train
# A small network v(x, t), the same for both couplings; on the segment from x to z its velocity
# should be z - x.


# %%
def init(key: jax.Array, width: int = 128) -> list[tuple[jax.Array, jax.Array]]:
    sizes = [2 + 1, width, width, width, 2]
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = itertools.pairwise(sizes)
    return [
        (jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), jnp.zeros(b))
        for k, (a, b) in zip(keys, pairs, strict=True)
    ]


def velocity(params: list[tuple[jax.Array, jax.Array]], x: jax.Array, t: jax.Array) -> jax.Array:
    z = jnp.concatenate([x, jnp.broadcast_to(t, (*x.shape[:-1], 1))], axis=-1)
    for weight, bias in params[:-1]:
        z = jax.nn.silu(z @ weight + bias[None, :])
    weight, bias = params[-1]
    return z @ weight + bias[None, :]


optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, num_train_steps))


@jax.jit
def train_step(params, state, key, x, z):
    def loss(params):
        t = jax.random.uniform(key, (x.shape[0], 1))
        return jnp.square(velocity(params, (1 - t) * x + t * z, t) - (z - x)).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, value


def train(key: jax.Array, pairs: Iterator[tuple[jax.Array, jax.Array]]):
    init_key, time_key = jax.random.split(key)
    params = init(init_key)
    state, value = optimizer.init(params), jnp.zeros(())
    for step, (x, z) in enumerate(itertools.islice(pairs, num_train_steps)):
        params, state, value = train_step(params, state, jax.random.fold_in(time_key, step), x, z)
    return params, float(value)


@partial(jax.jit, static_argnames="num_steps")
def flow(params, x, num_steps: int) -> jax.Array:
    """Euler's method from noise x (n, 2): all positions (num_steps + 1, n, 2)."""

    def step(x, t):
        x = x + velocity(params, x, t) / num_steps
        return x, x

    _, path = jax.lax.scan(step, x, jnp.arange(num_steps) / num_steps)
    return jnp.concatenate([x[None], path])


couplings = {"independent pairs": independent(keys[1]), "optimal pairs": optimal}
trained = {name: train(keys[2], pairs) for name, pairs in couplings.items()}

# %% [markdown]
# ## Look
# How far the flow's paths are from straight, and where one and four Euler steps lead.

# %%
draw = mu.sample(keys[3], 2000)
few = 300
figure = Figure(figsize=(8, 5.4), layout="constrained")
grid = figure.subplots(2, 3, sharex=True, sharey=True)
for row, (name, (params, loss)) in zip(grid, trained.items(), strict=True):
    path = np.asarray(flow(params, draw, 50))
    length = np.linalg.norm(np.diff(path, axis=0), axis=-1).sum(0)
    chord = np.linalg.norm(path[-1] - path[0], axis=-1)
    detour = length.mean() / chord.mean() - 1
    print(f"{name}: loss {loss:.3f}, paths {detour:.1%} longer than straight")
    row[0].plot(*path[:, :few].transpose(2, 0, 1), color="#1f5fa8", linewidth=0.4, alpha=0.6)
    row[0].scatter(*path[0, :few].T, s=2, color="#6b6b6b", zorder=3)
    row[0].set_ylabel(name, fontsize=10)
    row[0].set_title(f"paths, {detour:.1%} longer than straight", fontsize=9)
    for axes, num_steps in zip(row[1:], (1, 4), strict=True):
        end = np.asarray(flow(params, draw, num_steps)[-1])
        nearest = np.linalg.norm(end[:, None] - np.asarray(y)[None], axis=-1).min(1)
        print(f"  {num_steps} steps end {nearest.mean():.3f} from the nearest point, in the mean")
        axes.scatter(*np.asarray(y).T, s=4, color="#c8551b", linewidth=0, alpha=0.5)
        axes.scatter(*end.T, s=2, color="#1f5fa8", linewidth=0)
        axes.set_title(f"{num_steps} Euler step{'s' if num_steps > 1 else ''}", fontsize=9)
    for axes in row:
        axes.set_aspect("equal")
        axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
print(f"figure in {plot.save(figure, options.out)}")

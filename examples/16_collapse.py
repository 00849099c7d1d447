"""See why a continuous generator paints a gap, and where the optimal map is cut instead."""

# %% [markdown]
# # Why a continuous generator paints the gap
#
# The target is two half discs with a gap between them; the source is a Gaussian, in one piece. The
# image of a connected set under a continuous map is connected, so a continuous generator that
# reaches both halves has to cross the gap, or give one of them up: mixture or collapse of modes.
# The optimal map does neither, because it jumps: Brenier's potential has a crease, the singular
# set, and its gradient is not defined there.

# %%
import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import aeot_jax as aeot
from aeot_jax import plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few targets, few steps")
parser.add_argument("--out", type=Path, default=Path("runs/16_collapse.png"), help="the figure")
options = parser.parse_args()

num_targets, steps = (200, 200) if options.quick else (2000, 2000)
SHIFT, EDGE = 0.4, 0.02
keys = jax.random.split(jax.random.key(0), 6)

# %% [markdown]
# ## The target
# A disc of radius 1, cut in half and drawn apart by 0.4 on each side.

# %%
inside = np.asarray(aeot.UniformBall(2).sample(keys[0], num_targets))
y = inside + SHIFT * np.sign(inside) * [1, 0]
mu = aeot.Gaussian(2)


def in_gap(points: np.ndarray) -> np.ndarray:
    """Whether points are between the halves, by more than an edge of 0.02."""
    return np.abs(points[:, 0]) < SHIFT - EDGE


# %% [markdown]
# ## The optimal map, and the equation that it solves
# Monge and Ampere ask that the mass of every part of the source is the mass of its image. For
# finitely many targets these parts are cells; here samples are counted in them.

# %%
solution = aeot.solve_exact(mu, y)
n = 50 * num_targets
_, index = aeot.assign(mu.sample(keys[1], n), y, solution.h)
counts = np.bincount(np.asarray(index), minlength=num_targets)
pearson = ((counts - n / num_targets) ** 2 / (n / num_targets)).sum()
print(f"counts of {n:,} samples: Pearson's statistic {pearson:.0f}, expected {num_targets - 1}")
left = y[:, 0] < 0
print(f"left half: {counts[left].sum() / n:.4f} of the samples, {left.mean():.4f} of the targets")

# %% [markdown]
# ## Continuous generators
# One network of two hidden layers, trained twice: to have the law of the target, by sliced
# Wasserstein distances of batches; and to be the optimal map, by regression on it.

# %%
SIZES = (2, 64, 64, 2)


def initial(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    layers = zip(jax.random.split(key, 3), SIZES, SIZES[1:], strict=False)
    return [(jax.random.normal(k, (i, o)) / i**0.5, jnp.zeros(o)) for k, i, o in layers]


def generator(layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    for weight, bias in layers[:-1]:
        x = jax.nn.silu(x @ weight + bias[None, :])
    return x @ layers[-1][0] + layers[-1][1][None, :]


targets = jnp.asarray(y, jnp.float32)
h = jnp.asarray(solution.h, jnp.float32)


def of_law(layers, key):
    """The sliced Wasserstein distance of 512 samples and 512 targets, in 16 directions."""
    key_x, key_y, key_w = jax.random.split(key, 3)
    made = generator(layers, mu.sample(key_x, 512))
    real = targets[jax.random.randint(key_y, (512,), 0, num_targets)]
    angle = jax.random.uniform(key_w, (16,), maxval=jnp.pi)
    ways = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    return ((jnp.sort(made @ ways, 0) - jnp.sort(real @ ways, 0)) ** 2).mean()


def of_map(layers, key):
    """The mean squared distance to the optimal map."""
    x = mu.sample(key, 512)
    return ((generator(layers, x) - aeot.transport(x, targets, h)) ** 2).sum(1).mean()


def train(key: jax.Array, loss) -> list[tuple[jax.Array, jax.Array]]:
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(i, carry):
        layers, state = carry
        gradient = jax.grad(loss)(layers, jax.random.fold_in(key, i))
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(layers, updates), state

    layers = initial(key)
    return jax.lax.fori_loop(0, steps, step, (layers, optimiser.init(layers)))[0]


x = mu.sample(keys[2], 20_000)
made = {}
for name, loss in (("continuous, of the law", of_law), ("continuous, of the map", of_map)):
    layers = jax.jit(train, static_argnums=1)(keys[3], loss)
    made[name] = np.asarray(generator(layers, x))

# %% [markdown]
# ## The extension, cut at the singular set
# It rejects the samples near the crease, and is continuous on either side.

# %%
ext = aeot.extension(keys[4], mu, y, solution.h)
z, accepted, _ = aeot.generate(keys[5], ext, 20_000)
made["cut at the crease"] = np.asarray(z)[np.asarray(accepted)]
for name, points in made.items():
    far = in_gap(points)
    print(f"{name}: {far.mean():.2%} in the gap, {(points[:, 0] < 0).mean():.1%} on the left")
print(f"the extension rejects {1 - np.asarray(accepted).mean():.2%}")

# %% [markdown]
# ## Look
# Left, the source: light where the optimal map goes left, and orange where the network that learned
# it paints the gap, along the singular set. Then what each generator makes, with what falls into
# the gap in orange.

# %%
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.75"
figure = Figure(figsize=(13, 3.4), layout="constrained")
first, *others = figure.subplots(1, 4)
index = np.asarray(aeot.assign(x, y, solution.h)[1])
first.scatter(*np.asarray(x).T, s=1, c=np.where(left[index], GREY, "0.45"), linewidth=0)
painted = in_gap(made["continuous, of the map"])
first.scatter(*np.asarray(x)[painted].T, s=4, c=ORANGE, linewidth=0)
first.set(xlim=(-3, 3), ylim=(-3, 3))
first.set_title("source: orange is sent into the gap", fontsize=9)
for axes, (name, points) in zip(others, made.items(), strict=True):
    far = in_gap(points)
    axes.scatter(*points[~far].T, s=1, c=BLUE, linewidth=0)
    axes.scatter(*points[far].T, s=4, c=ORANGE, linewidth=0)
    axes.set(xlim=(-1.7, 1.7), ylim=(-1.3, 1.3))
    axes.set_title(f"{name}: {far.mean():.1%} in the gap", fontsize=9)
for axes in (first, *others):
    axes.set(aspect="equal", xticks=[], yticks=[])
print(f"figure in {plot.save(figure, options.out)}")

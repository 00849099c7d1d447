"""Train a model under conditions: pairs of noise and data whose labels come along."""

# %% [markdown]
# # Pairs under conditions
#
# A model that makes data of a kind that is asked for learns from pairs (noise, data) and the kind z
# of each. If every kind were coupled with all the noise, paths would be long; if kinds were not
# looked at, the noise would tell the kind, and at the end, where the kind is asked for, most noise
# would be such as the model never saw with it. `solve_conditional` lies between: the cost of a pair
# is |x - y|²/2 + beta |z - z'|²/2, with z drawn apart from the noise, and beta the smallest with
# which the noise tells little of the kind. `coupling` of its answer gives the pairs, any batch at
# once, as `aeot.coupling` does.

# %%
import argparse
import itertools
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
parser.add_argument("--out", type=Path, default=Path("runs/12_conditions.png"), help="the figure")
options = parser.parse_args()

num_points, num_steps, tolerance = (100, 60, 0.4) if options.quick else (500, 3000, 0.15)
beta = 2.0 if options.quick else "auto"
keys = jax.random.split(jax.random.key(0), 4)

# %% [markdown]
# ## Couple
# Two moons, each with its label. The leakage is the share of the labels' variance that the noise
# explains; `kept` is how often the target has the label that was drawn.

# %%
moons = toy.moons(keys[0], num_points)
y = np.asarray(moons.points - moons.points.mean(0)[None]) / np.asarray(moons.points.std(0))[None]
labels = np.asarray(moons.labels)
mu = aeot.Gaussian(2)
found = aeot.solve_conditional(keys[1], mu, y, labels, beta, aeot.SolverConfig(tolerance=tolerance))
print(f"beta {float(found.beta):.2f}: the noise tells {100 * float(found.leakage):.1f} % of")
print(f"the labels' variance, and {100 * float(found.kept):.0f} % have the label that was drawn")
c = found.coupling(seed=0, batch_size=256)
x, z, targets, index = c[0]
assert (z == labels[index]).all()
print(c)


# %% [markdown]
# ## Train
# A small network v(x, t, z) learns the velocity y - x along the segment from x to y, for its label.


# %%
def init(key: jax.Array, width: int = 64) -> list[tuple[jax.Array, jax.Array]]:
    sizes = [2 + 1 + 2, width, width, 2]
    layers = zip(jax.random.split(key, len(sizes) - 1), itertools.pairwise(sizes), strict=True)
    return [(jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b)) for k, (a, b) in layers]


def velocity(params, x: jax.Array, t: jax.Array, z: jax.Array) -> jax.Array:
    """Velocities (n, 2) at points x (n, 2), times t (n, 1) and labels z (n,)."""
    *hidden, (weight, bias) = params
    seen = jnp.concatenate([x, t, jax.nn.one_hot(z, 2)], axis=1)
    for a, b in hidden:
        seen = jax.nn.silu(seen @ a + b[None])
    return seen @ weight + bias[None]


optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, num_steps))


@jax.jit
def train_step(params, memory, k, pairs: aeot.ConditionalPairs):
    def loss(params):
        t = jax.random.uniform(jax.random.fold_in(keys[2], k), (len(pairs.x), 1))
        between = (1 - t) * pairs.x + t * pairs.y
        return jnp.square(velocity(params, between, t, pairs.z) - (pairs.y - pairs.x)).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    updates, memory = optimizer.update(gradient, memory)
    return optax.apply_updates(params, updates), memory, value


params = init(keys[3])
memory, value = optimizer.init(params), jnp.nan
for k in range(num_steps):
    params, memory, value = train_step(params, memory, k, c[k])
print(f"{num_steps} steps: loss {float(value):.3f}")

# %% [markdown]
# ## Ask for a kind
# The same noise, once with each label, in four Euler steps.


# %%
@jax.jit
def flow(params, x: jax.Array, z: jax.Array) -> jax.Array:
    for k in range(4):
        x = x + velocity(params, x, jnp.full((len(x), 1), k / 4), z) / 4
    return x


noise = mu.sample(jax.random.key(1), 600)
ends = [np.asarray(flow(params, noise, jnp.full(len(noise), kind))) for kind in range(2)]
for kind, end in enumerate(ends):
    distance = np.linalg.norm(end[:, None] - y[None], axis=-1)
    right = 100 * (labels[distance.argmin(1)] == kind).mean()
    print(f"label {kind}: {right:.0f} % end nearest to a point of their moon")

# %% [markdown]
# ## Look

# %%
COLOURS = np.array(["#0072B2", "#E69F00"])
figure = Figure(figsize=(9, 3.2), layout="constrained")
left, *right = figure.subplots(1, 3, sharex=True, sharey=True)
few = 120
lines = np.stack([np.asarray(x[:few]), np.asarray(targets[:few])])
for k, colour in enumerate(COLOURS[np.asarray(z[:few])]):
    left.plot(*lines[:, k].T, color=colour, linewidth=0.6)
    left.plot(*lines[0, k], ".", color=colour, markersize=3)
left.set_title("pairs: noise (dots) to points, by label", fontsize=10)
for kind, (axes, end) in enumerate(zip(right, ends, strict=True)):
    axes.scatter(*y.T, s=5, color="#6b6b6b", alpha=0.3, linewidth=0)
    axes.scatter(*end.T, s=4, color=COLOURS[kind], linewidth=0)
    axes.set_title(f"asked for label {kind}", fontsize=10)
for axes in (left, *right):
    axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
print(f"figure in {plot.save(figure, options.out)}")

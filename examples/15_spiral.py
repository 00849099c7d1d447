"""Wind a spiral until a fixed network stops encoding it."""

# %% [markdown]
# # Wind a spiral until a network stops encoding it
#
# An encoder with rectified linear units is affine on pieces. On one piece it can tell the points of
# an arc apart only if some linear function grows along the arc, so in the plane an arc may turn by
# less than half a turn: a spiral of w turns needs about 2 w pieces. A network has finitely many, so
# there are curves that it cannot encode, whatever its weights; and training fails long before that.

# %%
import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from aeot_jax import manifold, plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="two spirals, few steps")
parser.add_argument("--out", type=Path, default=Path("runs/15_spiral.png"), help="the figure")
options = parser.parse_args()

TURNS = (0.5, 2.0) if options.quick else (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SEEDS, STEPS = (1, 300) if options.quick else (3, 4000)
WIDTH, POINTS = 16, 400

# %% [markdown]
# ## Spirals of one size
# All have radii from 0.3 to 1, so that a winding more leaves less room between two arms.


# %%
def spiral(turns: float) -> np.ndarray:
    share = np.linspace(0, 1, 8 * POINTS)
    radius, angle = 0.3 + 0.7 * share, 2 * np.pi * turns * share
    curve = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    place = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    even = np.linspace(0, place[-1], POINTS)  # evenly along the curve
    return np.stack([np.interp(even, place, column) for column in curve.T], axis=1)


curves = np.stack([spiral(turns) for turns in TURNS])

# %% [markdown]
# ## Train one autoencoder for each, to one number and back
# Two hidden layers of 16 on either side, trained by Adam on all points at once; the networks of all
# spirals and seeds in one program.

# %%
SIZES = (2, WIDTH, WIDTH, 1, WIDTH, WIDTH, 2)


def initial(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    keys = jax.random.split(key, len(SIZES) - 1)
    pairs = zip(keys, SIZES, SIZES[1:], strict=False)
    return [(jax.random.normal(k, (i, o)) * (2 / i) ** 0.5, jnp.zeros(o)) for k, i, o in pairs]


def through(layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight + bias[None, :]
        x = x if i in (2, 5) else jax.nn.relu(x)  # the code and the output are not rectified
    return x


def train(key: jax.Array, curve: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))

    def loss(layers):
        return ((through(layers, curve) - curve) ** 2).sum(1).mean()

    def step(_, carry):
        layers, state = carry
        updates, state = optimiser.update(jax.grad(loss)(layers), state)
        return optax.apply_updates(layers, updates), state

    layers = initial(key)
    return jax.lax.fori_loop(0, STEPS, step, (layers, optimiser.init(layers)))[0]


keys = jax.random.split(jax.random.key(0), SEEDS)
every = jax.vmap(jax.vmap(train, (0, None)), (None, 0))
trained = jax.jit(every)(keys, jnp.asarray(curves, jnp.float32))

# %% [markdown]
# ## What was encoded
# `encoding` follows the curve from cell to cell, in float64. The curve is encoded if no two of its
# points have one code; else `confused` says how far apart they are along the curve. Of the seeds
# the best reconstruction counts.


# %%
def networks(spiral: int, seed: int) -> tuple[manifold.ReLUNetwork, manifold.ReLUNetwork]:
    layers = [tuple(np.asarray(part)[spiral, seed] for part in pair) for pair in trained]
    return manifold.network(layers[:3]), manifold.network(layers[3:])


rows, best = [], []
bound = manifold.piece_bound(networks(0, 0)[0])
print(f"the encoder has at most {bound:,} pieces in the plane")
for i, turns in enumerate(TURNS):
    found = []
    for seed in range(SEEDS):
        encoder, decoder = networks(i, seed)
        both = manifold.compose(encoder, decoder)
        error = np.linalg.norm(manifold.apply(both, curves[i]) - curves[i], axis=1)
        found.append((np.sqrt((error**2).mean()) * max(turns, 1) / 0.7, encoder, both))
    error, encoder, both = min(found, key=lambda one: one[0])
    code = manifold.encoding(encoder, curves[i])
    rows.append((turns, error, code.confused))
    best.append(both)
    print(
        f"{turns} turns: {code.needed} arcs needed, {code.pieces} pieces along the curve, error "
        f"{error:.3f} of the gap between arms, codes shared over {code.confused:.1%} of the way"
    )

# %% [markdown]
# ## Look
# Grey is the spiral, blue what comes back, dots are where the two networks bend.

# %%
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.6"
shown = [0, len(TURNS) - 1] if options.quick else [1, 3, 5]
figure = Figure(figsize=(3 * (len(shown) + 1), 3), layout="constrained")
axes = figure.subplots(1, len(shown) + 1)
for panel, i in zip(axes, shown, strict=False):
    pieces = manifold.along(best[i], curves[i])
    panel.plot(*curves[i].T, color=GREY, lw=4, alpha=0.6)
    panel.plot(*pieces.values.T, color=BLUE, lw=1.2)
    bends = 1 + np.flatnonzero(np.diff(pieces.cell))
    panel.plot(*pieces.values[bends].T, ".", color=ORANGE, ms=4)
    panel.set(title=f"turns: {TURNS[i]:g}, pieces: {pieces.num_pieces}", aspect="equal")
    panel.set_axis_off()
turns, error, confused = np.array(rows, float).T
axes[-1].plot(turns, error, "o-", color=BLUE, label="error / gap between arms")
axes[-1].plot(turns, confused, "s--", color=ORANGE, label="way between equal codes / length")
axes[-1].set(xlabel="turns", ylim=(-0.03, 1.35))
axes[-1].legend(fontsize=8)
print(f"figure in {plot.save(figure, options.out)}")

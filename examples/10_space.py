"""Carry noise onto two linked rings in space."""

# %% [markdown]
# # Carry noise onto two linked rings
#
# Data lie on manifolds: here on two rings in space that pass through each other. No continuous map
# of a ball covers both and nothing between them. The transport is solved by samples (three
# dimensions have no exact solver here), its singular faces cut the noise in two, and each side is
# extended continuously along its ring.

# %%
import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import aeot_jax as aeot
from aeot_jax import plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few points, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/10_space.png"), help="the figure")
options = parser.parse_args()

num_points, tolerance = (300, 0.3) if options.quick else (1500, 0.1)
keys = jax.random.split(jax.random.key(0), 5)
SIGMA = 0.05

# %% [markdown]
# ## The rings
# One lies flat around the origin, the other stands upright around (1, 0, 0).


# %%
def rings(key: jax.Array, n: int) -> jax.Array:
    angle_key, noise_key = jax.random.split(key)
    angle = jax.random.uniform(angle_key, (n,), maxval=2 * jnp.pi)
    cos, sin, zero = jnp.cos(angle), jnp.sin(angle), jnp.zeros(n)
    flat, upright = jnp.stack([cos, sin, zero], 1), jnp.stack([1 + cos, zero, sin], 1)
    points = jnp.where((jnp.arange(n) % 2 == 0)[:, None], flat, upright)
    return points + SIGMA * jax.random.normal(noise_key, (n, 3))


def distance(z: np.ndarray) -> np.ndarray:
    """Distance (n,) from the nearer ring."""
    flat = np.hypot(np.hypot(z[:, 0], z[:, 1]) - 1, z[:, 2])
    upright = np.hypot(np.hypot(z[:, 0] - 1, z[:, 2]) - 1, z[:, 1])
    return np.minimum(flat, upright)


y = rings(keys[0], num_points)
mu = aeot.Gaussian(3)
solution = aeot.solve(keys[1], mu, y, config=aeot.SolverConfig(tolerance=tolerance))
print(aeot.message(solution))

# %% [markdown]
# ## What the map has found
# Without its singular faces the graph of the points should fall into the two rings.

# %%
ext = aeot.extension(keys[2], solution)
seen = aeot.singular_set(keys[3], ext)
print(f"{seen.num_pieces} pieces, masses {np.round(seen.component_mass[: seen.num_pieces], 3)}")

# %% [markdown]
# ## With and without the cut
# With a threshold of pi nothing is singular, and blends fill the space between the rings.

# %%
everywhere = aeot.extension(keys[2], solution, threshold=np.pi)
shown = {}
for name, some in (("without a cut", everywhere), ("with the cut", ext)):
    z, accepted, _ = aeot.generate(keys[4], some, 4096)
    shown[name] = np.asarray(z)[np.asarray(accepted)]
    far = distance(shown[name]) > 4 * SIGMA
    share = 1 - np.asarray(accepted).mean()
    print(f"{name}: {share:.1%} rejected, {far.mean():.2%} of the rest beyond 4 sigma")

# %% [markdown]
# ## Look

# %%
figure = Figure(figsize=(9, 2.9), layout="constrained")
blue, orange, grey = "#0072B2", "#E69F00", "0.6"
piece = np.asarray(seen.component)
colours = np.select([piece == 0, piece == 1], [blue, orange], grey)
panels = {"points, by the pieces that the map found": (np.asarray(y), colours)}
panels |= {f"new points, {name}": (z, "#1f1f1f") for name, z in shown.items()}
for place, (title, (points, colour)) in enumerate(panels.items()):
    axes: Any = figure.add_subplot(1, 3, place + 1, projection="3d")
    axes.scatter(*points.T, s=2, c=colour, linewidth=0, depthshade=False)
    axes.set_title(title, fontsize=9)
    axes.set_box_aspect((3, 2, 2), zoom=1.55)
    axes.set_axis_off()
print(f"figure in {plot.save(figure, options.out)}")

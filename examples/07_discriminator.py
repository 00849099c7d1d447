"""Derive the generator from the discriminator."""

# %% [markdown]
# # Derive the generator from the discriminator
#
# In a Wasserstein GAN two networks compete: a discriminator learns Kantorovich's potential, a
# generator the map. For the squared cost one determines the other,
#
# $$T(x) = x - \nabla\varphi(x),$$
#
# so there is nothing to compete about: differentiate the discriminator and subtract.

# %%
import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import toy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few targets")
parser.add_argument(
    "--out", type=Path, default=Path("runs/07_discriminator.png"), help="the figure"
)
options = parser.parse_args()

data_key, draw_key = jax.random.split(jax.random.key(0))
num_targets = 100 if options.quick else 500

# %%
y = toy.swiss_roll(data_key, num_targets).points
y = (y - y.mean(0)[None, :]) / y.std(0)[None, :]
mu = aeot.Gaussian(dim=2)
h = jnp.asarray(aeot.solve_exact(aeot.Gaussian(2), y).h, jnp.float32)


def discriminator(x: jax.Array) -> jax.Array:
    return aeot.kantorovich(x, y, h)


@jax.jit
def generator(x: jax.Array) -> jax.Array:
    return x - jax.vmap(jax.grad(discriminator))(x)


# %% [markdown]
# ## Compare
# The generator derived from the discriminator is the transport map.

# %%
x = mu.sample(draw_key, 2000)
derived, direct = generator(x), aeot.transport(x, y, h)
print(f"largest difference from the transport map: {float(jnp.abs(derived - direct).max()):.1e}")

# %% [markdown]
# ## Look
# On the left the discriminator, with its gradient, reversed, at samples of the source; on the right
# where these arrows lead: the samples that are generated. Colours tell which came from where.

# %%
line = jnp.linspace(-3, 3, 301)
square = jnp.stack(jnp.meshgrid(line, line), axis=-1)
phi = discriminator(square.reshape(-1, 2)).reshape(square.shape[:2])
few = 250
start, way = np.asarray(x[:few]), np.asarray(derived - x)[:few]
colours = plot.target_colours(derived)

figure = Figure(figsize=(8, 4.1), layout="constrained")
left, right = figure.subplots(1, 2)
shown = np.asarray(phi)[np.asarray(jnp.linalg.norm(square, axis=-1)) < 2.6]
levels = np.linspace(shown.min(), shown.max(), 16)
left.contourf(line, line, phi, levels, cmap="Greys", alpha=0.6)
arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.0035, "headwidth": 4}
left.quiver(*start.T, *way.T, color=colours[:few], **arrows)
left.set_title(r"discriminator $\varphi$ and $-\nabla\varphi$")
right.scatter(*np.asarray(x).T, s=2, color="0.8", linewidth=0)
right.scatter(*np.asarray(derived).T, s=6, c=colours, linewidth=0)
right.set_title(r"generator $x - \nabla\varphi(x)$")
for axes in (left, right):
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    axes.set_axis_off()
print(f"figure in {plot.save(figure, options.out)}")

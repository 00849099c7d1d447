"""See the geometry of transport in the plane."""

# %% [markdown]
# # See the geometry of transport in the plane
#
# Semi-discrete transport is a picture: one plane over each target, the highest of them Brenier's
# potential, its pieces the cells, its conjugate a triangulation of the targets. Two problems, a
# uniform source onto scattered points and a Gaussian onto two moons, solved exactly.

# %%
import argparse
from pathlib import Path

import jax
import numpy as np

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import toy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few targets")
parser.add_argument("--out", type=Path, default=Path("runs/01_cells.png"), help="the figure")
options = parser.parse_args()

keys = jax.random.split(jax.random.key(0), 4)
num_targets = 30 if options.quick else 120

# %% [markdown]
# ## From a square onto scattered points
# All cells have the same area, wherever their targets lie: heights make room for targets that have
# many neighbours.

# %%
y = np.asarray(0.25 * jax.random.normal(keys[0], (num_targets, 2)))
solution = aeot.solve_exact(aeot.UniformCube(2), y)
print(f"{len(y)} cells, mass error {solution.mass_error:.1e}")
print(f"W2 {solution.w2_squared**0.5:.4f}")
figure = plot.plane(keys[1], aeot.UniformCube(dim=2), y, solution.h)
print(f"figure in {plot.save(figure, options.out)}")

# %% [markdown]
# ## From a Gaussian onto two moons
# The potential now has creases: faces between targets that lie far apart. There the map jumps, from
# one moon to the other; 03_singular_set.py finds them by their angle.

# %%
y = np.asarray(toy.moons(keys[2], 3 * num_targets).points)
solution = aeot.solve_exact(aeot.Gaussian(2), y)
print(f"{len(y)} cells, mass error {solution.mass_error:.1e}")
figure = plot.plane(keys[3], aeot.Gaussian(dim=2), y, solution.h)
path = options.out.with_stem(f"{options.out.stem}_moons")
print(f"figure in {plot.save(figure, path)}")

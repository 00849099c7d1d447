"""Transport noise onto points of the plane."""

# %% [markdown]
# # Transport noise onto points of the plane
#
# Solve a semi-discrete problem, certify the answer on fresh samples, and look at the map: every
# sample of the source goes to the target whose cell it lies in, and all cells have the same mass.
# (For a Gaussian or a square the same call answers exactly in the plane, and `solution.method` says
# so. The disc here shows what the solver does in any dimension, where it can be drawn.)

# %%
import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import aeot_jax as aeot
from aeot_jax import plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a small problem, in a few seconds")
parser.add_argument("--out", type=Path, default=Path("runs/02_solve.png"), help="the figure")
options = parser.parse_args()

num_targets, tolerance = 100, 0.2 if options.quick else 0.1
data_key, solve_key, check_key, draw_key = jax.random.split(jax.random.key(0), 4)

# %% [markdown]
# ## Solve
# The targets are scattered over a square; the source is the uniform law on a disc. The solver stops
# when the mass error is certified to be within the tolerance.

# %%
y = jax.random.uniform(data_key, (num_targets, 2))
mu = aeot.UniformBall(dim=2)
config = aeot.SolverConfig(tolerance=tolerance)
solution = aeot.solve(solve_key, mu, y, config=config)
print(aeot.message(solution))
print(f"{int(solution.num_samples):,} samples moved the heights")

# %% [markdown]
# ## Certify
# Any heights can be certified, by samples that nothing else has used.

# %%
certificate = aeot.certify(check_key, mu, y, solution.h, num_samples=2000 * num_targets)
print(certificate)
print(f"{int(certificate.num_empty)} empty cells")

# %% [markdown]
# ## Look
# Samples of the source on the left, targets on the right; a sample has the colour of its target.

# %%
x = mu.sample(draw_key, 10 * num_targets)
_, index = aeot.assign(x, y, solution.h)
points, targets, cell = np.asarray(x), np.asarray(y), np.asarray(index)
angle = np.arctan2(*(targets - targets.mean(0)).T)

figure = Figure(figsize=(8, 4), layout="constrained")
left, right = figure.subplots(1, 2)
left.scatter(*points.T, c=angle[cell], cmap="twilight", s=2)
left.set_title("source, coloured by T(x)")
right.scatter(*targets.T, c=angle, cmap="twilight", s=4)
right.set_title("targets")
for axes in (left, right):
    axes.set_aspect("equal")
    axes.set_axis_off()
print(f"figure in {plot.save(figure, options.out)}")

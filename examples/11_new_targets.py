"""Go on from a solution where new targets came."""

# %% [markdown]
# # Go on where new targets came
#
# A data set grows, and the transport onto it was solved before. `solve(..., h0=solution)` keeps the
# heights of the targets that were there, and learns heights for the new ones from them
# (`extend_heights`). The certificate of the solution tells how good the old heights are, so that
# steps move them little, and new ones much: most of the samples are spared.

# %%
import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import aeot_jax as aeot
from aeot_jax import plot

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few targets, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/11_new_targets.png"), help="the figure")
options = parser.parse_args()

num_targets, tolerance = (290, 0.3) if options.quick else (1800, 0.2)
keys = jax.random.split(jax.random.key(0), 4)
config = aeot.SolverConfig(tolerance=tolerance)
mu = aeot.Gaussian(16)

# %% [markdown]
# ## Before
# Codes of very unequal spread: the third coordinate is a third as wide as the first, and so on.

# %%
rng = np.random.default_rng(0)
y = (rng.normal(size=(num_targets, 16)) / np.arange(1, 17)).astype(np.float32)
old = aeot.solve(keys[0], mu, y, config=config)
print(f"before: {int(old.num_samples):,} samples, mass error {old.mass_error:.3f}")

# %% [markdown]
# ## A tenth more, from anew and from the solution

# %%
added = (rng.normal(size=(num_targets // 10, 16)) / np.arange(1, 17)).astype(np.float32)
more = np.concatenate([y, added])
h0 = aeot.extend_heights(y, old.h, more)
start = aeot.certify(keys[1], mu, more, h0, num_samples=20 * len(more))
print(f"extended heights miss {start.mass_error:.3f} before the first step")
anew = aeot.solve(keys[2], mu, more, config=config)
warm = aeot.solve(keys[3], mu, more, config=config, h0=old)
for name, found in (("anew", anew), ("from the solution", warm)):
    print(f"{name}: {int(found.num_samples):,} samples, mass error {found.mass_error:.3f}")

# %% [markdown]
# ## Look
# What each solve drew to come within the tolerance.

# %%
solves = {"before": old, "anew": anew, "from the solution": warm}
figure = Figure(figsize=(6, 2), layout="constrained")
axes = figure.subplots()
for name, found in reversed(solves.items()):
    drawn = int(found.num_samples) / len(found.h)
    bars = axes.barh(name, drawn, color="#0072B2", height=0.6)
    axes.bar_label(bars, [f" {drawn:.1f}, error {found.mass_error:.3f}"])
axes.margins(x=0.3)
axes.set_xlabel("samples a target that moved the heights")
axes.spines[["top", "right"]].set_visible(False)
print(f"figure in {plot.save(figure, options.out)}")

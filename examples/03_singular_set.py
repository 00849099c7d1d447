"""Find where the transport map jumps."""

# %% [markdown]
# # Find where the transport map jumps
#
# Between two moons there is nothing, but a continuous source must be cut somewhere to cover both.
# The cut is the singular set: the faces of the cells whose planes meet at a large angle. A
# continuous generator has to cross it and paints the gap; here its samples are known, and rejected.

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
parser.add_argument("--out", type=Path, default=Path("runs/03_singular_set.png"), help="the figure")
options = parser.parse_args()

data_key, map_key, draw_key, look_key = jax.random.split(jax.random.key(0), 4)
num_targets = 150 if options.quick else 1000

# %% [markdown]
# ## Solve, and learn the threshold
# No angle is set by hand: the threshold is learned from the codes themselves.

# %%
data = toy.moons(data_key, num_targets)
mu = aeot.Gaussian(dim=2)
h = aeot.solve_exact(aeot.Gaussian(2), data.points).h
ext = aeot.extension(map_key, mu, data.points, h)
print(f"faces above {float(ext.threshold):.3f} rad are singular")

# %% [markdown]
# ## Generate
# With a threshold of pi no face is singular, and the extension is continuous everywhere: it fills
# the gap. Noise of the data itself stays within a few sigma of the two half circles.

# %%
everywhere = aeot.extension(map_key, mu, data.points, h, threshold=np.pi)
for name, some in (("without a cut", everywhere), ("with the cut", ext)):
    z, accepted, _ = aeot.generate(draw_key, some, 20_000)
    kept = np.asarray(accepted)
    far = np.asarray(toy.moons_distance(z))[kept] > 4 * data.sigma
    print(f"{name}: {(~kept).mean():.1%} rejected, {far.mean():.2%} of the rest beyond 4 sigma")

# %% [markdown]
# ## Look
# Singular faces in red; the edges between codes that cross them; what the extension makes of
# samples; and the angles, with the cut.

# %%
figure = plot.singular_set(look_key, ext)
print(f"figure in {plot.save(figure, options.out)}")

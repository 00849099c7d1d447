"""Learn digits and draw new ones."""

# %% [markdown]
# # New images from real ones
#
# Fit AE-OT to the 1,797 handwritten digits that come with scikit-learn, and draw new ones. What
# `aeot-jax fit --data digits` does, in Python.

# %%
import argparse
from pathlib import Path

import jax
import numpy as np

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import images

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few images, few epochs, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/05_images.png"), help="the grid")
options = parser.parse_args()

fit_key, sample_key, class_key, walk_key = jax.random.split(jax.random.key(0), 4)

# %% [markdown]
# ## Fit
# The autoencoder learns codes for the images; then the transport from a Gaussian onto the codes is
# solved until its mass error is certified. Labels are not needed; with them, each class gets a
# transport of its own as well.

# %%
data = images.load("digits")
digits, labels = data.images, data.labels
assert labels is not None
config = aeot.Config()
if options.quick:
    digits, labels = digits[:300], labels[:300]
    config = aeot.Config(
        training=aeot.TrainConfig(epochs=3), solver=aeot.SolverConfig(tolerance=0.4)
    )
model = aeot.fit(fit_key, digits, config, labels=labels)
solution = model.solution
print(aeot.message(solution))
print(solution.certificate)
print(f"singular above {float(model.extension.threshold):.2f} rad")

# %% [markdown]
# ## Sample
# Noise is transported to codes and decoded. Codes are blended with their neighbours, but not
# across the singular set, where that would mix two kinds of digits; what is too near to it to tell
# the side is drawn again.

# %%
new, info = aeot.sample_with_info(sample_key, model, 64)
print(f"{100 * info.share_rejected:.0f} % of the candidates were singular")
print(f"grid in {plot.save(plot.image_grid(new), options.out)}")

# %% [markdown]
# ## Sample a class
# One row for each digit, each from the transport onto the codes of this digit alone.

# %%
rows = [aeot.sample(jax.random.fold_in(class_key, d), model, 12, label=d) for d in range(10)]
path = options.out.with_stem(f"{options.out.stem}_classes")
print(f"grid in {plot.save(plot.image_grid(np.concatenate(rows), columns=12), path)}")

# %% [markdown]
# ## Walk
# From noise to noise the codes follow the data, and jump where the walk crosses a singular face;
# from the code of a zero straight to that of a one they do not; from noise to its own code.

# %%
start, end = model.extension.mu.sample(walk_key, 2)
zero, one = aeot.encode(model, digits[:2])
walks = [
    aeot.interpolate(model, start, end, 11),
    aeot.interpolate(model, zero, one, 11, along="codes"),
    aeot.interpolate(model, start, num=11, along="displacement"),
]
for walk in walks:
    crossed = walk.crossings
    print(f"{walk.along}: {len(crossed.t)} faces, {int(crossed.singular.sum())} singular")
path = options.out.with_stem(f"{options.out.stem}_walks")
print(f"film strips in {plot.save(plot.film_strip(*walks), path)}")

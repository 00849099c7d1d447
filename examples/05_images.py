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

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import images

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few images, few epochs, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/05_images.png"), help="the grid")
options = parser.parse_args()

fit_key, sample_key = jax.random.split(jax.random.key(0))

# %% [markdown]
# ## Fit
# The autoencoder learns codes for the images; then the transport from a Gaussian onto the codes is
# solved until its mass error is certified.

# %%
digits = images.load("digits").images
config = aeot.Config()
if options.quick:
    digits = digits[:300]
    config = aeot.Config(
        training=aeot.TrainConfig(epochs=3), solver=aeot.SolverConfig(tolerance=0.4)
    )
model = aeot.fit(fit_key, digits, config)
solution = model.solution
print(aeot.message(solution.status))
print(f"mass error {float(solution.mass_error):.3f} ± {2 * float(solution.mass_error_se):.3f}")
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

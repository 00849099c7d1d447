"""Transport onto codes of an encoder of one's own, and decode what it gives."""

# %% [markdown]
# # An encoder and a decoder of one's own
#
# The transport needs codes, not our autoencoder. Here the encoder is the projection on the first
# principal components of the digits, and the decoder its transpose, written out below. With others
# it goes the same way:
#
# * the VAE of Stable Diffusion: `encode = lambda x: vae.encode(x).latent.reshape(len(x), -1)`, and
#   `decode` shapes the codes back before it decodes; call the VAE on batches that fit your device
#   (`batch=`). Such codes have thousands of dimensions: give many more images than that;
# * DINO or CLIP features have no decoder: `fit_codes` and `sample_codes` give new features.

# %%
import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.data import images

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="few images, loose tolerance")
parser.add_argument("--out", type=Path, default=Path("runs/04_own_networks.png"), help="the grid")
options = parser.parse_args()

digits = images.load("digits").images[: 300 if options.quick else None] / np.float32(255)
flat = digits.reshape(len(digits), -1)
mean = flat.mean(0)
axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:16]

# %% [markdown]
# Two pure functions of a batch. They are called as they are, outside of any jit of the library, and
# are never saved.


# %%
def encode(x):
    return (x.reshape(len(x), -1) - mean) @ axes.T


def decode(z):
    return np.clip(z @ axes + mean, 0, 1).reshape(-1, *digits.shape[1:])


# %% [markdown]
# ## From codes to new codes, and to images
# `fit_codes` standardises, solves, certifies and learns the extension; `sample_codes` gives new
# codes in the units that these came in, `sample(..., decode=)` what the decoder makes of them.

# %%
fit_key, sample_key = jax.random.split(jax.random.key(0))
config = aeot.Config(solver=aeot.SolverConfig(tolerance=0.4 if options.quick else 0.1))
model = aeot.fit_codes(fit_key, encode(digits), config)
print(model)
with tempfile.TemporaryDirectory() as folder:
    aeot.save(model, Path(folder) / "model.npz")
    loaded = aeot.load(Path(folder) / "model.npz")  # in another process as well
codes = aeot.sample_codes(sample_key, loaded, 64)
new = aeot.sample(sample_key, loaded, 64, decode=decode)
np.testing.assert_allclose(new, decode(np.asarray(codes)), atol=1e-6)
print(f"grid in {plot.save(plot.image_grid(new), options.out)}")

# %% [markdown]
# The same in one call, which asks for the functions alone: `encode` and `decode` then belong to the
# model until it is saved. It encodes in batches of 64, which rounds otherwise in the last digits.

# %%
if not options.quick:
    whole = aeot.fit(fit_key, digits, config, encode=encode, decode=decode)
    np.testing.assert_allclose(aeot.sample(sample_key, whole, 64), new, atol=1e-4)

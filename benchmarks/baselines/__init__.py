"""Generators that the library is compared with, one file a family, behind one interface.

    fitted = METHODS[name].fit(key, data, budget)
    fitted.sample(key, n)                       # n new points, in the units of the data

Everything takes and gives arrays (n, d). The code is this project's own, written from the papers
that each file names; velocity networks are those of ``velocity.py``, mixtures scikit-learn's.
"""

from baselines import adversaries, autoencoders, copies, densities, matching, transport
from baselines.method import Budget as Budget
from baselines.method import Fitted as Fitted
from baselines.method import Method as Method

METHODS = {
    "AE-OT": transport.AE_OT,
    "AE-OT, blending": transport.BLENDING,
    "GAN": adversaries.GAN,
    "WGAN-GP": adversaries.WGAN_GP,
    "PacGAN2": adversaries.PACGAN2,
    "VAE": autoencoders.VAE,
    "two-stage VAE": autoencoders.TWO_STAGE_VAE,
    "flow": matching.INDEPENDENT,
    "flow, semi-discrete": matching.SEMI_DISCRETE,
    "mixture": densities.MIXTURE,
    "kernels": densities.KERNELS,
    "noise": copies.NOISE,
    "resampling": copies.RESAMPLING,
}
"""All generators by name, in the order of the tables."""

"""Semi-discrete optimal transport and AE-OT generative models in JAX."""

__version__ = "0.1.0"

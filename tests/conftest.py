"""Strict surroundings for every test: eight CPU devices, no silent broadcasting."""

import os

# Both are read when jax is first imported, so they come before it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

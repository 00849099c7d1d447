"""How the records of this package pass through JAX's transformations."""

from aeot_jax.trees.records import register as register

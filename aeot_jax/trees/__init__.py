"""How the records of this package pass through JAX's transformations."""

from aeot_jax.trees.distinct import check_distinct as check_distinct
from aeot_jax.trees.records import equal_by_numbers as equal_by_numbers
from aeot_jax.trees.records import register as register

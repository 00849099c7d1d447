"""Pictures: decoded, converted to bytes, and brought to one size."""

from aeot_jax.data.pictures.shaping import Pictures as Pictures

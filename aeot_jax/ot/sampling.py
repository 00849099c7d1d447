"""The old name of ``aeot_jax.ot.counts.sampling``."""

from aeot_jax.ot.counts.sampling import NAMES as NAMES
from aeot_jax.ot.counts.sampling import Sampling as Sampling
from aeot_jax.ot.counts.sampling import cells as cells
from aeot_jax.ot.counts.sampling import choose as choose
from aeot_jax.ot.counts.sampling import prepared as prepared

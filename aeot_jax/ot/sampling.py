"""The old name of ``aeot_jax.ot.counts.ways.table``."""

from aeot_jax.ot.counts.ways.table import WAYS
from aeot_jax.ot.counts.ways.table import Sampling as Sampling
from aeot_jax.ot.counts.ways.table import choose as choose

NAMES: tuple[Sampling, ...] = tuple(WAYS)

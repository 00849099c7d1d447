"""Source measures: what the noise is drawn from.

Every measure is a pytree with ``dim`` and ``sample(key, n)``. Arrays inside it, as the points of
``Empirical``, are leaves, so that a measure crosses ``jit`` as an argument and not as a constant.
"""

from aeot_jax.measures.centring import around as around
from aeot_jax.measures.centring import is_centred as is_centred
from aeot_jax.measures.measure import Measure as Measure
from aeot_jax.measures.measure import Symmetry as Symmetry
from aeot_jax.measures.moments import MOMENT_SAMPLES as MOMENT_SAMPLES
from aeot_jax.measures.moments import draw as draw
from aeot_jax.measures.moments import moments as moments
from aeot_jax.measures.moments import num_moment_samples as num_moment_samples
from aeot_jax.measures.moments import parts as parts
from aeot_jax.measures.public import *  # noqa: F403

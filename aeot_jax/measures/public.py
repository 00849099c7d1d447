"""The sources of this package: a source that is imported here is public.

If ``dim`` alone determines it and its class has the attribute ``option``, it is also a choice of
``Config.source`` and of ``--source``. If its fields are ``dim``, arrays and other sources, files
can hold it.
"""

from aeot_jax.measures.sources.ball import UniformBall as UniformBall
from aeot_jax.measures.sources.cube import UniformCube as UniformCube
from aeot_jax.measures.sources.empirical import Empirical as Empirical
from aeot_jax.measures.sources.gaussian import Gaussian as Gaussian
from aeot_jax.measures.sources.product import Product as Product
from aeot_jax.measures.sources.sampler import FromSampler as FromSampler
from aeot_jax.measures.sources.weighted import Weighted as Weighted

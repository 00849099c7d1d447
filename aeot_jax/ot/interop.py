"""The old name of ``aeot_jax.ot.duality.interop``; these functions are public names now."""

from aeot_jax.ot.duality.interop import Imported as Imported
from aeot_jax.ot.duality.interop import dual_from_heights as dual_from_heights
from aeot_jax.ot.duality.interop import from_ott as from_ott
from aeot_jax.ot.duality.interop import from_ott_potentials as from_ott_potentials
from aeot_jax.ot.duality.interop import heights_from_dual as heights_from_dual
from aeot_jax.ot.duality.interop import pairs as pairs
from aeot_jax.ot.duality.interop import to_ott as to_ott
from aeot_jax.ot.duality.interop import to_ott_potentials as to_ott_potentials

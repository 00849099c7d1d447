"""What a ReLU network does to the data manifold: its cells, how many there can be, what it encodes.

The first half of the paper: an encoder whose hidden units are rectified is affine on each of
finitely many polyhedra, and can encode a manifold only if it has pieces enough to unfold it. All is
computed on the host in float64.

Source: Lei, Luo, Yau, Gu, "Geometric Understanding of Deep Learning", arXiv 1805.10451, sections 3
and 4; Lei et al., Engineering 6(3), 2020, section 2.
"""

from aeot_jax.manifold.bounds import piece_bound as piece_bound
from aeot_jax.manifold.bounds import regions as regions
from aeot_jax.manifold.counting import Cells as Cells
from aeot_jax.manifold.counting import affine as affine
from aeot_jax.manifold.counting import cells as cells
from aeot_jax.manifold.counting import patterns as patterns
from aeot_jax.manifold.curves import Complexity as Complexity
from aeot_jax.manifold.curves import Encoding as Encoding
from aeot_jax.manifold.curves import complexity as complexity
from aeot_jax.manifold.curves import encoding as encoding
from aeot_jax.manifold.networks import Layer as Layer
from aeot_jax.manifold.networks import Network as Network
from aeot_jax.manifold.networks import ReLUNetwork as ReLUNetwork
from aeot_jax.manifold.networks import apply as apply
from aeot_jax.manifold.networks import compose as compose
from aeot_jax.manifold.networks import decoder as decoder
from aeot_jax.manifold.networks import encoder as encoder
from aeot_jax.manifold.networks import network as network
from aeot_jax.manifold.polygons import Polygons as Polygons
from aeot_jax.manifold.polygons import plane as plane
from aeot_jax.manifold.segments import Pieces as Pieces
from aeot_jax.manifold.segments import along as along

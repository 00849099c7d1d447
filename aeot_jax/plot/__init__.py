"""Pictures: grids of images, histories of a run, and the geometry of transport in the plane.

Grids are pillow images, so that the pixels of tiny images stay crisp squares; everything with axes
is a matplotlib ``Figure``, made without pyplot: no window, no global state, any thread. Both
libraries are imported where they are used.
"""

from aeot_jax.plot.film import film_strip as film_strip
from aeot_jax.plot.run import history as history
from aeot_jax.plot.run import image_grid as image_grid
from aeot_jax.plot.run import reconstructions as reconstructions
from aeot_jax.plot.style import SUFFIXES as SUFFIXES
from aeot_jax.plot.style import save as save

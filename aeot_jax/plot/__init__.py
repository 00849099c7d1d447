"""Pictures: grids of images, histories of a run, walks, and the geometry of transport in the plane.

Grids are pillow images, so that the pixels of tiny images stay sharp squares. Everything with axes
is a matplotlib ``Figure``, made without pyplot: no window, no global state, any thread. Both
libraries are imported where they are used.
"""

from aeot_jax.plot.clouds import clouds as clouds
from aeot_jax.plot.film import film_strip as film_strip
from aeot_jax.plot.panels import plane as plane
from aeot_jax.plot.panels import singular_set as singular_set
from aeot_jax.plot.planar import draw_angles as draw_angles
from aeot_jax.plot.planar import draw_cells as draw_cells
from aeot_jax.plot.planar import draw_faces as draw_faces
from aeot_jax.plot.planar import draw_potential as draw_potential
from aeot_jax.plot.planar import draw_transport as draw_transport
from aeot_jax.plot.planar import draw_triangulation as draw_triangulation
from aeot_jax.plot.planar import target_colours as target_colours
from aeot_jax.plot.run import draw_losses as draw_losses
from aeot_jax.plot.run import draw_mass_error as draw_mass_error
from aeot_jax.plot.run import history as history
from aeot_jax.plot.run import image_grid as image_grid
from aeot_jax.plot.run import reconstructions as reconstructions
from aeot_jax.plot.style import SUFFIXES as SUFFIXES
from aeot_jax.plot.style import save as save

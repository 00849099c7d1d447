"""Reports: the quality of a run in words and pictures, on one self-contained page."""

from aeot_jax.report.comparison import Entry as Entry
from aeot_jax.report.comparison import compare as compare
from aeot_jax.report.comparison import write_comparison as write_comparison
from aeot_jax.report.page import check_libraries as check_libraries
from aeot_jax.report.page import write as write
from aeot_jax.report.parts import Material as Material

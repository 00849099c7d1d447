"""Per-class transport: one problem for each label."""

from aeot_jax.classes.labels import check_labels as check_labels
from aeot_jax.classes.labels import refuse_texts as refuse_texts
from aeot_jax.classes.maps import ClassMaps as ClassMaps
from aeot_jax.classes.solving import solve_classes as solve_classes

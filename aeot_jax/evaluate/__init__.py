"""Scores of fitted models."""

from aeot_jax.evaluate.few import few_images as few_images
from aeot_jax.evaluate.few import too_few as too_few
from aeot_jax.evaluate.newness import KEEP_TOGETHER as KEEP_TOGETHER
from aeot_jax.evaluate.newness import near_copies as near_copies
from aeot_jax.evaluate.newness import novelty as novelty
from aeot_jax.evaluate.newness import such_as as such_as
from aeot_jax.evaluate.scores import STAGES as STAGES
from aeot_jax.evaluate.scores import evaluate as evaluate
from aeot_jax.evaluate.trips import mean_image as mean_image
from aeot_jax.evaluate.trips import nothing_learned as nothing_learned
from aeot_jax.evaluate.trips import reconstruction as reconstruction

"""Scores of generated samples: arrays in, numbers out."""

from aeot_jax.metrics.comparison import compare as compare
from aeot_jax.metrics.features import ClassifierConfig as ClassifierConfig
from aeot_jax.metrics.features import FeatureMap as FeatureMap
from aeot_jax.metrics.features import extract as extract
from aeot_jax.metrics.features import fit_features as fit_features
from aeot_jax.metrics.frechet import FrechetReport as FrechetReport
from aeot_jax.metrics.frechet import KernelDistance as KernelDistance
from aeot_jax.metrics.frechet import frechet_distance as frechet_distance
from aeot_jax.metrics.frechet import frechet_report as frechet_report
from aeot_jax.metrics.frechet import gaussian_frechet_distance as gaussian_frechet_distance
from aeot_jax.metrics.frechet import kernel_distance as kernel_distance
from aeot_jax.metrics.modes import ModeReport as ModeReport
from aeot_jax.metrics.modes import mode_report as mode_report
from aeot_jax.metrics.newness.memory import MemoryReport as MemoryReport
from aeot_jax.metrics.newness.memory import memory_report as memory_report
from aeot_jax.metrics.newness.novelty import NoveltyReport as NoveltyReport
from aeot_jax.metrics.newness.novelty import novelty_report as novelty_report
from aeot_jax.metrics.prdc import PRDC as PRDC
from aeot_jax.metrics.prdc import prdc as prdc

"""A pipeline small enough to fit many times: its images, its configuration, its model."""

from dataclasses import replace
from functools import cache

import chex
import jax
import numpy as np

from aeot_jax import AEOT, AutoencoderConfig, Config, SolverConfig, TrainConfig, fit

KEY = jax.random.key(0)

CONFIG = Config(
    AutoencoderConfig(kind="mlp", latent_dim=3, width=16),
    TrainConfig(epochs=2, batch_size=20),
    solver=SolverConfig(tolerance=0.3, start="gaussian"),  # one start: less to compile
)


def images(n: int = 60, seed: int = 0, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    """Bytes (n, *shape), no two alike: a bright row and a bright column on black."""
    rng = np.random.default_rng(seed)
    result = np.zeros((n, *shape), np.uint8)
    for image in result:
        image[rng.integers(shape[0])] = rng.integers(100, 255)
        image[:, rng.integers(shape[1])] = rng.integers(100, 255)
    return result


@cache
def model() -> AEOT:
    """The model of all defaults above; one for all tests, so do not change it in place."""
    return fit(KEY, images(), CONFIG)


def assert_same(found: AEOT, expected: AEOT) -> None:
    """The same to the last bit, but for the seconds that the stages took."""
    found, expected = (replace(model, seconds={}) for model in (found, expected))
    chex.assert_trees_all_equal(found, expected)

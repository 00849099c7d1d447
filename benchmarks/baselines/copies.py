"""The two baselines that know nothing: data drawn again, and data with noise."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array
from scipy.spatial import KDTree
from scipy.stats import chi

from baselines.densities import generator
from baselines.method import Budget, Fitted, Method, Points, units

_MOST_ASKED = 2_000
"""Data whose nearest others decide how strong the noise is."""


def resample(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Draw the data again: the memoriser."""
    del key, budget, settings
    units(data)  # refuses what the others refuse
    return Fitted(lambda key, n: data[generator(key).integers(0, len(data), n)], 0.0)


def with_noise(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Data with normal noise whose median length is the median distance to the nearest datum.

    So the typical sample is as far from its datum as an unseen datum is from the nearest one.
    """
    del budget
    began, frame, rng = time.process_time(), units(data), generator(key)
    points = frame.enter(data)
    asked = points[rng.permutation(len(points))[:_MOST_ASKED]]
    distance = KDTree(points).query(asked, k=2)[0][:, 1]
    sigma = settings["times"] * float(np.median(distance) / chi(data.shape[1]).median())

    def sample(key: Array, n: int) -> Points:
        rng = generator(key)
        noise = rng.standard_normal((n, data.shape[1]))
        return (points[rng.integers(0, len(points), n)] + sigma * noise).astype(np.float32)

    about = {"sigma": sigma * frame.scale}
    return Fitted(frame.leave(sample), time.process_time() - began, None, about)


RESAMPLING = Method(resample)
NOISE = Method(with_noise, {"times": 1.0})

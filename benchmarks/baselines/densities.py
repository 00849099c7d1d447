"""Densities in closed form: mixtures of Gaussians, and kernels around the data.

What they have to choose, the number of components and the bandwidth, is what gives data that were
held out the highest likelihood. Then the kernels stand on all data, and the mixture is fitted to
40,000 at most.
"""

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from baselines.method import Budget, Fitted, Method, Points, units

_COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MOST_FITTED, _MOST_HELD_OUT = 20_000, 4_000
"""Data from which the choice is made."""
_WORSE = 3
"""Numbers of components that may be worse in a row before the search ends."""


def generator(key: Array) -> np.random.Generator:
    """NumPy's random numbers from JAX's key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def parted(rng: np.random.Generator, data: Points) -> tuple[Points, Points]:
    """Some data to fit, and others to choose by.

    Raises:
      ValueError: if there are fewer than 10 points.
    """
    if len(data) < 10:
        raise ValueError(f"`data` holds {len(data)} points; pass at least 10 to hold some out.")
    order, held_out = rng.permutation(len(data)), min(_MOST_HELD_OUT, len(data) // 5)
    return data[order[held_out:][:_MOST_FITTED]], data[order[:held_out]]


def mixture(rng: np.random.Generator, data: Points, components: int) -> GaussianMixture:
    """A mixture of Gaussians with full covariances.

    Raises:
      ValueError: if there are more components than points.
    """
    if components > len(data):
        raise ValueError(
            f"`components` is {components}, but there are {len(data)} points; pass at most as many."
        )
    seed = int(rng.integers(2**31))
    made = GaussianMixture(components, reg_covar=1e-7, max_iter=200, random_state=seed)
    return made.fit(data.astype(np.float64))


def fit_mixture(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """The number of components is chosen; it takes what it takes, whatever the budget.

    Args:
      key: of the parting and the starts.
      data: points.
      budget: not read: a mixture takes seconds.
      settings: ``components``, a number, or None to choose by likelihood.
    """
    del budget
    began, frame, rng = time.process_time(), units(data), generator(key)
    points = frame.enter(data)
    about: dict[str, Any] = {}
    components = settings["components"]
    if components is None:
        fitted, held_out = parted(rng, points)
        tried: dict[int, float] = {}
        for number in _COMPONENTS:
            if number > len(fitted) // (2 * data.shape[1]):
                break
            tried[number] = float(mixture(rng, fitted, number).score(held_out))
            components = max(tried, key=lambda name: tried[name])
            if len([name for name in tried if name > components]) == _WORSE:
                break
        if components is None:
            raise ValueError(
                f"`data` has shape {data.shape}, too few points for one Gaussian; pass at least "
                f"{3 * data.shape[1]}."
            )
        about["held_out"] = tried[components]
    found = mixture(rng, points[rng.permutation(len(points))[: 2 * _MOST_FITTED]], components)
    roots = np.linalg.cholesky(np.asarray(found.covariances_))
    shares, means = np.asarray(found.weights_), np.asarray(found.means_)

    def sample(key: Array, n: int) -> Points:
        rng = generator(key)
        at = rng.choice(components, n, p=shares / shares.sum())
        noise = rng.standard_normal((n, data.shape[1]))
        return (means[at] + np.einsum("nij,nj->ni", roots[at], noise)).astype(np.float32)

    about |= {"components": components}
    return Fitted(frame.leave(sample), time.process_time() - began, None, about)


def held_out_likelihood(data: Points, held_out: Points, bandwidths: np.ndarray) -> np.ndarray:
    """Mean log-likelihood of held-out points under Gaussian kernels around the data, in nats.

    Args:
      data: centres (m, d).
      held_out: points (n, d).
      bandwidths: standard deviations (b,).

    Returns:
      One value a bandwidth (b,).
    """
    (m, dim), sums = data.shape, np.zeros(len(bandwidths))
    centres, rows = data.astype(np.float64), max(1, 4_000_000 // m)
    for start in range(0, len(held_out), rows):
        some = held_out[start : start + rows].astype(np.float64)
        squared = (some**2).sum(1)[:, None] + (centres**2).sum(1)[None, :] - 2 * some @ centres.T
        for k, s in enumerate(bandwidths):
            sums[k] += logsumexp(-np.maximum(squared, 0) / (2 * s * s), axis=1).sum()
    normal = -dim / 2 * np.log(2 * np.pi * bandwidths**2) - np.log(m)
    return sums / len(held_out) + normal


def fit_kernels(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Gaussian kernels; a bandwidth is chosen coarsely, then finely.

    Args:
      key: of the parting.
      data: points.
      budget: not read.
      settings: ``held_out``, how many points decide at most.
    """
    del budget
    began, frame, rng = time.process_time(), units(data), generator(key)
    points = frame.enter(data)
    fitted, held_out = parted(rng, points)
    held_out = held_out[: settings["held_out"]]
    bandwidths = np.geomspace(1e-3, 1, 10)
    for _ in range(2):
        values = held_out_likelihood(fitted, held_out, bandwidths)
        best = bandwidths[values.argmax()]
        ratio = bandwidths[1] / bandwidths[0]
        bandwidths = best * np.geomspace(1 / ratio, ratio, 7)
    # Silverman's rate: more data than were used for the choice take narrower kernels.
    bandwidth = best * (len(fitted) / len(points)) ** (1 / (4 + data.shape[1]))

    def sample(key: Array, n: int) -> Points:
        rng = generator(key)
        noise = rng.standard_normal((n, data.shape[1]))
        return (points[rng.integers(0, len(points), n)] + bandwidth * noise).astype(np.float32)

    about = {"bandwidth": float(bandwidth * frame.scale), "held_out": float(values.max())}
    return Fitted(frame.leave(sample), time.process_time() - began, None, about)


MIXTURE = Method(fit_mixture, {"components": None})
KERNELS = Method(fit_kernels, {"held_out": 500})

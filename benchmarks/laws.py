"""Laws of targets that benchmarks share: ``law(rng, m, d)`` draws m points of d coordinates."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]


def normal(rng: np.random.Generator, m: int, d: int) -> Points:
    """Draws of N(0, I)."""
    return rng.standard_normal((m, d))


def anisotropic(rng: np.random.Generator, m: int, d: int) -> Points:
    """Skewed codes off the origin: standard deviations fall like k^(-1/2), axes rotated.

    The tails are bent by tanh, so that no closed form knows the heights.
    """
    scale = np.arange(1, d + 1) ** -0.5
    codes = rng.standard_normal((m, d))
    codes = scale * (np.tanh(codes) + 0.3 * codes**2)
    rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return codes @ rotation + rng.standard_normal(d)


def clusters(rng: np.random.Generator, m: int, d: int) -> Points:
    """Codes of ten classes: centres of N(0, 4 I), each class an ellipsoid of its own."""
    centres = 2 * rng.standard_normal((10, d))
    label = rng.integers(0, 10, m)
    scale = np.exp(0.5 * rng.standard_normal((10, d)))
    return centres[label] + 0.7 * scale[label] * rng.standard_normal((m, d))


def uniform(rng: np.random.Generator, m: int, d: int) -> Points:
    """Draws of the uniform law on the cube of side 1 centred at 0."""
    return rng.random((m, d)) - 0.5


def grid_clusters(rng: np.random.Generator, m: int, d: int) -> Points:
    """25 tight clusters of equal size on a 5 x 5 grid: spacing 0.2, standard deviation 0.01."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.4, 0.4, 5)] * d), -1).reshape(-1, d)
    return grid[np.arange(m) % len(grid)] + 0.01 * rng.standard_normal((m, d))


def student(rng: np.random.Generator, m: int, d: int, freedom: int) -> Points:
    """Coordinates of Student's t: moments of the order ``freedom`` and above are infinite."""
    return rng.standard_t(freedom, (m, d))


def radial(rng: np.random.Generator, m: int, d: int) -> Points:
    """Normal directions, times a log-normal radius."""
    return rng.standard_normal((m, d)) * np.exp(0.7 * rng.standard_normal((m, 1)))


def outlying(rng: np.random.Generator, m: int, d: int) -> Points:
    """Draws of N(0, I), of which one in fifty is ten times as far out."""
    return rng.standard_normal((m, d)) * np.where(rng.random((m, 1)) < 0.02, 10, 1)


def unequal(rng: np.random.Generator, m: int, d: int) -> Points:
    """Ten clusters whose widths go from 0.1 to 1, at centres of N(0, 4 I)."""
    centres, label = 2 * rng.standard_normal((10, d)), rng.integers(0, 10, m)
    widths = np.geomspace(0.1, 1, 10)[label][:, None]
    return centres[label] + widths * rng.standard_normal((m, d))


def pareto(rng: np.random.Generator, m: int, d: int) -> Points:
    """Points of a sphere, times a radius of Pareto's law with exponent 2.5."""
    directions = rng.standard_normal((m, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.sqrt(d) * directions * (1 + rng.pareto(2.5, (m, 1)))

"""The transport problems that the solver's benchmarks share: targets, source, and what peers get.

Every problem has weights 1/m and is drawn by NumPy from a fixed seed, so every solver gets the
same float32 targets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aeot_jax import Gaussian, Measure, UniformCube

Points = NDArray[np.float32]


@dataclass(frozen=True)
class Work:
    """One problem.

    Attributes:
      name: on the command line and in the records.
      description: one line for people.
      num_targets: m.
      dim: d.
      source: "gaussian" (N(0, I)) or "uniform" (the cube of side 1 centred at 0).
      draw: ``draw(rng, m, d)`` gives the targets.
      peer_seconds: CPU-seconds that a peer gets.
    """

    name: str
    description: str
    num_targets: int
    dim: int
    source: str
    draw: Callable[[np.random.Generator, int, int], NDArray[np.floating]]
    peer_seconds: float

    @property
    def mu(self) -> Measure:
        """The source measure."""
        return Gaussian(self.dim) if self.source == "gaussian" else UniformCube(self.dim)

    def targets(self) -> Points:
        """Targets (m, d), float32."""
        rng = np.random.default_rng(20_000 + self.dim)
        return self.draw(rng, self.num_targets, self.dim).astype(np.float32)


def normal(rng: np.random.Generator, m: int, d: int) -> NDArray[np.floating]:
    """Draws of N(0, I)."""
    return rng.standard_normal((m, d))


def anisotropic(rng: np.random.Generator, m: int, d: int) -> NDArray[np.floating]:
    """Skewed codes off the origin: standard deviations fall like k^(-1/2), axes rotated.

    The tails are bent by tanh, so that no closed form knows the heights.
    """
    scale = np.arange(1, d + 1) ** -0.5
    codes = rng.standard_normal((m, d))
    codes = scale * (np.tanh(codes) + 0.3 * codes**2)
    rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return codes @ rotation + rng.standard_normal(d)


def clusters(rng: np.random.Generator, m: int, d: int) -> NDArray[np.floating]:
    """Codes of ten classes: centres of N(0, 4 I), each class an ellipsoid of its own."""
    centres = 2 * rng.standard_normal((10, d))
    label = rng.integers(0, 10, m)
    scale = np.exp(0.5 * rng.standard_normal((10, d)))
    return centres[label] + 0.7 * scale[label] * rng.standard_normal((m, d))


def uniform(rng: np.random.Generator, m: int, d: int) -> NDArray[np.floating]:
    """Draws of the uniform law on the cube of side 1 centred at 0."""
    return rng.random((m, d)) - 0.5


def grid_clusters(rng: np.random.Generator, m: int, d: int) -> NDArray[np.floating]:
    """25 tight clusters of equal size on a 5 x 5 grid: spacing 0.2, standard deviation 0.01."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.4, 0.4, 5)] * d), -1).reshape(-1, d)
    return grid[np.arange(m) % len(grid)] + 0.01 * rng.standard_normal((m, d))


WORKS = {
    work.name: work
    for work in (
        Work("uniform-1k-2", "uniform to uniform", 1_000, 2, "uniform", uniform, 40.0),
        Work("clusters-1k-2", "uniform to 25 clusters", 1_000, 2, "uniform", grid_clusters, 40.0),
        Work("normal-10k-64", "N(0,I) to N(0,I)", 10_000, 64, "gaussian", normal, 120.0),
        Work("codes-10k-64", "to anisotropic codes", 10_000, 64, "gaussian", anisotropic, 120.0),
        Work("classes-60k-32", "to codes of 10 classes", 60_000, 32, "gaussian", clusters, 120.0),
        Work("million-32", "codes of 10 classes", 1_000_000, 32, "gaussian", clusters, 0.0),
    )
}
"""By name, in the order of the table."""

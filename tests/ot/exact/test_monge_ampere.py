r"""The Monge-Ampere equation, det D^2 u(x) = f(x) / g(Du(x)), in the form that a discrete g allows.

For every set B of targets, mu(Du in B) = nu(B): in the plane by areas, which nothing estimates, and
by counting samples, which knows nothing of the diagram.
"""

import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.ot.exact.laguerre import power_cells

M = 40
RNG = np.random.default_rng(0)
Y = RNG.normal(size=(M, 2)) * [1.0, 0.3]
NU = RNG.dirichlet(np.full(M, 3.0))


def area(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_areas_of_the_cells_are_the_weights():
    h = aeot.solve_exact(aeot.UniformCube(2), Y, NU).h
    areas = np.array([area(polygon) for polygon in power_cells(Y, h, half_width=0.5)])
    np.testing.assert_allclose(areas, NU, atol=1e-9)


@pytest.mark.parametrize("source", [aeot.UniformCube(2), aeot.Gaussian(2)])
def test_counts_of_samples_are_binomial_with_the_weights(source):
    """Pearson's statistic has mean m - 1 whatever n is: the mass error falls like 1 / sqrt(n)."""
    h = aeot.solve_exact(source, Y, NU).h
    rng = np.random.default_rng(1)
    for n in (4_000, 64_000):
        uniform = isinstance(source, aeot.UniformCube)
        x = rng.random((n, 2)) - 0.5 if uniform else rng.normal(size=(n, 2))
        index = np.argmax(x @ Y.T + h, axis=1)
        statistic = ((np.bincount(index, minlength=M) - n * NU) ** 2 / (n * NU)).sum()
        assert abs(statistic - (M - 1)) < 4 * np.sqrt(2 * (M - 1))
        left = Y[:, 0] < 0  # a set B of targets
        share, mass = left[index].mean(), NU[left].sum()
        assert abs(share - mass) < 4 * np.sqrt(mass * (1 - mass) / n)

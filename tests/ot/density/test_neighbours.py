"""Small groups that borrow their covariance from their neighbours."""

import numpy as np
from scipy.spatial.distance import cdist

from aeot_jax import kernels, log_density
from aeot_jax.ot.density import neighbours
from aeot_jax.ot.density.grouping import Planes
from aeot_jax.ot.density.moments import moments


def bent(n, d=8, seed=0):
    """Codes near a surface of two dimensions that bends in all of d."""
    rng = np.random.default_rng(seed)
    frequencies = np.random.default_rng(9).permutation(np.linspace(0.3, 0.6, 2 * d))
    flat = rng.uniform(-3, 3, size=(n, 2))
    on_it = np.sin(flat @ frequencies.reshape(2, d) + np.arange(d))
    return on_it + 0.02 * rng.normal(size=(n, d))


def test_groups_borrow_from_neighbours_where_codes_lie_on_a_surface(monkeypatch):
    """Unseen codes are likelier: a group takes the direction of the surface beside it."""
    y, unseen = bent(2000), bent(500, seed=1)
    found = kernels(y)
    likely = np.asarray(log_density(unseen, y, found)).mean()
    monkeypatch.setattr(neighbours, "may_pay", lambda m, d: False)
    by_spread = kernels(y)
    assert found.log_likelihood > by_spread.log_likelihood + 0.05
    assert likely > np.asarray(log_density(unseen, y, by_spread)).mean() + 0.05
    assert abs(likely - found.log_likelihood) < 4 * found.log_likelihood_se


def test_families_of_neighbours_have_enough_codes_and_lie_apart():
    y = np.concatenate([bent(1500), 40 + bent(4, seed=2)])  # four codes far from all others
    group, family = neighbours.neighbourhoods(y)
    assert family is not None
    free, of_code = np.bincount(group) - 1, family[group]
    assert np.bincount(family, free).min() >= 2 * (y.shape[1] + 1)
    np.testing.assert_array_equal(np.unique(group), np.arange(family.size))
    centres = np.stack([y[of_code == f].mean(0) for f in np.unique(family)])
    nearest = cdist(y, centres).argmin(1)
    assert (nearest == of_code)[:1500].mean() > 0.6  # likelihood decides, not distance


def test_families_of_neighbours_keep_their_groups_on_one_side_of_a_gap():
    y = bent(1500)
    side = np.arange(1500) < 700
    group, family = neighbours.neighbourhoods(y, Planes(np.where(side, 0.0, 1.0)[:, None], 0.5))
    of_side = np.bincount(group, side) / np.bincount(group)
    assert set(np.unique(of_side)) == {0.0, 1.0}
    assert family is not None
    assert family.size == group.max() + 1


def test_a_tight_mode_beside_broad_groups_is_a_family_of_its_own():
    """It would become as broad if it borrowed from neighbours."""
    d, tight = 6, 0.02
    y = np.random.default_rng(0).normal(size=(1000, d))
    y[:150] = 0.5 + tight * y[:150]
    group, family = neighbours.neighbourhoods(y)
    made = moments(y, group, family=family)
    spread = np.sqrt(np.trace(made.shrunk(neighbours.weight(d)), axis1=1, axis2=2) / d)
    in_mode = spread[group[:150]]
    assert np.mean(in_mode < 2 * tight) > 0.95

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax import UniformCube, extension, generate, singular_set, solve_exact
from aeot_jax.ot.extension.blend import plane_angles

KEY = jax.random.key(0)
LABELS = np.repeat([0, 1], [30, 70])
Y = np.array([[-5.0, 0.0], [5.0, 0.0]])[LABELS] + 0.3 * np.random.default_rng(0).normal(
    size=(100, 2)
)


@pytest.fixture(scope="module")
def h():
    return solve_exact(Y, source="uniform").h


@pytest.fixture(scope="module")
def ext(h):
    return extension(KEY, UniformCube(2), Y, h)


@pytest.fixture(scope="module")
def seen(ext):
    """The samples that ``found`` looks at."""
    keys = [jax.random.fold_in(KEY, i) for i in range(10)]
    return np.concatenate([ext.mu.sample(key, 4096) for key in keys], dtype=np.float64)


@pytest.fixture(scope="module")
def found(ext):
    return singular_set(KEY, ext, num_samples=40_000)


def test_faces_are_the_winners_and_runners_up_of_samples(found, ext, seen, h):
    order = np.sort(np.argsort(-(seen @ Y.T + h), axis=1)[:, :2], axis=1)
    faces, counts = np.unique(order, axis=0, return_counts=True)
    assert found.num_samples == found.counts.sum() == len(seen)
    expected, counted = (
        dict(zip(map(tuple, f.tolist()), c, strict=True))
        for f, c in (
            (faces, counts),
            (found.faces, found.counts),
        )
    )
    # float32 may exchange second and third, or two samples of a rare face.
    assert sum(abs(expected.get(f, 0) - counted.get(f, 0)) for f in expected | counted) <= 6
    unit = ext.frame.normalise(ext.y)
    np.testing.assert_allclose(
        found.angles, plane_angles(unit[found.faces[:, 0]], unit[found.faces[:, 1]]), atol=1e-6
    )
    np.testing.assert_array_equal(found.singular, found.angles > found.threshold)


def test_cutting_singular_faces_leaves_the_clusters(found):
    assert found.num_pieces == 2
    assert found.component_mass[:2] == pytest.approx([0.7, 0.3], abs=0.03)
    assert found.component_mass.sum() == pytest.approx(1)
    pieces = found.component < 2
    np.testing.assert_array_equal(found.component[pieces], 1 - LABELS[pieces])
    across = np.diff(LABELS[found.faces], axis=1)[:, 0] != 0
    assert found.singular[across].all()


def test_with_no_face_cut_all_is_one_component(ext):
    whole = singular_set(KEY, replace(ext, threshold=jnp.float32(np.pi)), num_samples=40_000)
    assert whole.num_components == whole.num_pieces == 1
    assert whole.mass_near == whole.share_rejected == 0
    assert not whole.singular.any()


def test_shares_are_those_of_generate(found, ext):
    _, accepted, _ = generate(jax.random.key(1), ext, 40_000)
    rejected = 1 - float(accepted.mean())
    # Two draws of 40,000: three standard errors of their difference.
    error = 3 * np.sqrt(2 * rejected / 40_000)
    assert found.share_rejected == pytest.approx(rejected, abs=error)


def test_mass_near_is_that_of_samples_with_a_plane_of_the_other_cluster_in_their_band(
    found, ext, seen, h
):
    scores = seen @ Y.T + h
    left, right = scores[:, LABELS == 0].max(1), scores[:, LABELS == 1].max(1)
    near = abs(left - right) < float(ext.band)
    # Within a cluster a few faces are singular, too.
    assert near.mean() <= found.mass_near + 1e-4
    assert found.mass_near < near.mean() + 0.01
    assert near.any()


def test_codes_without_a_cell_belong_to_no_component(h):
    some = np.where(np.arange(100) < 7, -np.inf, h)
    cut = singular_set(KEY, extension(KEY, UniformCube(2), Y, some), num_samples=40_000)
    assert (cut.component[:7] == -1).all()
    assert (cut.component[7:] >= 0).all()
    assert cut.faces.min() >= 7


def test_one_cell_has_no_face(h):
    alone = singular_set(KEY, extension(KEY, UniformCube(2), Y[:1], h[:1]), num_samples=10)
    assert alone.faces.shape == (0, 2)
    assert alone.num_components == 1
    assert alone.mass_near == alone.share_rejected == 0


def test_a_number_of_samples_below_one_is_refused(ext):
    with pytest.raises(ValueError, match="`num_samples` is 0; pass at least 1"):
        singular_set(KEY, ext, num_samples=0)


def test_a_traced_key_is_refused(ext):
    with pytest.raises(ValueError, match="`key` is traced, but `singular_set` decides on the host"):
        jax.jit(lambda key: singular_set(key, ext).share_rejected)(KEY)

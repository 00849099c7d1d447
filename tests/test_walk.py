"""Walks: the faces crossed are those that a fine walk meets, the frames are those of the map."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from aeot_jax import decode, encode, interpolate, transport
from aeot_jax.ot.extension import blend, generate
from aeot_jax.walk import crossings

A = np.array([-1.3, 0.4, 0.9])
B = np.array([1.1, -0.6, -0.8])
FINE = np.linspace(0, 1, 20_001)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def cells_met(a, b, y, h):
    """Cells on a fine walk, in float64, and the times between which each gives way to the next."""
    y, h = np.asarray(y, np.float64), np.asarray(h, np.float64)
    points = (1 - FINE)[:, None] * a + FINE[:, None] * b
    cell = (points @ y.T + h).argmax(1)
    change = np.flatnonzero(np.diff(cell))
    return np.stack([cell[change], cell[change + 1]], axis=1), FINE[change], FINE[change + 1]


def voronoi(y):
    return -np.square(np.asarray(y, np.float64)).sum(1) / 2


@pytest.mark.parametrize("along", ["source", "codes"])
def test_the_faces_are_those_that_a_fine_walk_meets(model, along):
    ext = model.extension
    found = interpolate(model, A, B, along=along).crossings
    heights = ext.h if along == "source" else voronoi(ext.y)
    cells, since, until = cells_met(A, B, ext.y, heights)
    assert len(cells) >= 2
    np.testing.assert_array_equal(found.cells, cells)
    assert ((since <= found.t) & (found.t <= until)).all()
    unit = ext.frame.normalise(ext.y)
    angle = blend.plane_angles(unit[cells[:, 0]], unit[cells[:, 1]])
    np.testing.assert_allclose(found.angle, angle, rtol=1e-6)
    np.testing.assert_array_equal(found.singular, angle > ext.threshold)


def test_frames_of_the_source_are_those_of_the_extension(model):
    walk = interpolate(model, A, B, 5)
    t = np.linspace(0, 1, 5)[:, None]
    points = jnp.asarray((1 - t) * A + t * B, jnp.float32)
    z, accepted, _ = jax.jit(generate.extend)(points, model.extension)
    np.testing.assert_array_equal(walk.z, z)
    np.testing.assert_array_equal(walk.rejected, ~np.asarray(accepted))
    np.testing.assert_array_equal(walk.images, decode(model, z))
    np.testing.assert_allclose(walk.t, t[:, 0])


def test_a_walk_between_images_begins_and_ends_with_their_reconstructions(model):
    z = np.asarray(encode(model, tiny.images()[:2]))
    walk = interpolate(model, z[0], z[1], 5, along="codes")
    np.testing.assert_allclose(walk.images[jnp.array([0, 4])], decode(model, z), atol=1e-5)
    np.testing.assert_allclose(walk.z[2], z.mean(0), atol=1e-6)
    # Two codes of the data lie in different cells.
    assert walk.crossings.cells[0, 0] == 0
    assert walk.crossings.cells[-1, 1] == 1
    assert not walk.rejected.any()


def test_the_displacement_leads_to_the_target_of_the_start(model):
    ext = model.extension
    walk = interpolate(model, A, num=3, along="displacement")
    target = np.asarray(transport(jnp.asarray(A, jnp.float32), ext.y, ext.h))
    np.testing.assert_allclose(walk.z, [A, (A + target) / 2, target], atol=1e-6)


def test_a_walk_back_crosses_the_same_faces(model):
    there, back = crossings(A, B, model.extension), crossings(B, A, model.extension)
    np.testing.assert_array_equal(there.cells, back.cells[::-1, ::-1])
    np.testing.assert_allclose(there.t, 1 - back.t[::-1], atol=1e-12)


def test_a_walk_inside_a_cell_crosses_nothing(model):
    ext = model.extension
    near = crossings(A, A + 1e-9, ext)
    assert near.t.size == near.angle.size == near.singular.size == 0
    assert near.cells.shape == (0, 2)


def test_a_target_without_a_cell_is_never_met(model):
    ext = model.extension
    met = crossings(A, B, ext).cells[0, 1]
    without = replace(ext, h=ext.h.at[met].set(-jnp.inf))
    for voronoi in (False, True):
        assert met not in crossings(A, B, without, voronoi=voronoi).cells


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((A, A), {}, r"`start` equals `end`, \[-1\.3"),
        ((A,), {}, "`end` is None; pass where a walk along 'source' ends"),
        ((A[:2], B), {}, r"`start` has shape \(2,\); pass one point of 3 dimensions"),
        ((A, B[None]), {}, r"`end` has shape \(1, 3\)"),
        ((A, B * np.nan), {}, "`end` is nan at 0; pass finite"),
        ((A, B), {"num": 1}, "`num` is 1; pass from 2 frames"),
        ((A, B), {"along": "displacement"}, "`end` is given, but a walk along the displacement"),
    ],
)
def test_mistakes_are_explained(model, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        interpolate(model, *arguments, **options)


def test_a_target_has_no_displacement(model):
    y = np.zeros((60, 3))
    y[0] = A
    ext = replace(model.extension, y=jnp.asarray(y, jnp.float32), h=jnp.zeros(60))
    ext = replace(ext, h=ext.h.at[0].set(9.0))
    start = np.asarray(ext.y[0], np.float64)
    with pytest.raises(ValueError, match="`start` equals its own target"):
        interpolate(replace(model, extension=ext), start, along="displacement")

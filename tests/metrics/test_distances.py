import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aeot_jax.metrics import distances
from aeot_jax.metrics.distances import _nearest, nearest


def dense(x, y):
    return np.sqrt(((x[:, None].astype(np.float64) - y[None].astype(np.float64)) ** 2).sum(-1))


def points(seed, n, d=5):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize(("m", "block"), [(1, 64), (63, 64), (200, 64), (200, 7)])
def test_streaming_equals_dense(m, block):
    x, y = points(0, 130), points(1, m)
    distance, index = nearest(x, y, block=block)
    oracle = dense(x, y)
    np.testing.assert_array_equal(index, oracle.argmin(1))
    np.testing.assert_allclose(distance, oracle.min(1), rtol=1e-6)


def test_chunks_do_not_change_the_answer(monkeypatch):
    x, y = points(0, 130), points(1, 200)
    whole = nearest(x, y)
    monkeypatch.setattr(distances, "MEMORY", 2**13)
    assert len(distances.chunks(130, 4 * (2 * 5 + 2 * 4))) > 1
    distance, index = nearest(x, y)
    np.testing.assert_array_equal(index, whole[1])
    np.testing.assert_allclose(distance, whole[0], rtol=3e-7)


def test_a_distance_far_from_the_origin_keeps_its_digits():
    # |a|^2 + |b|^2 - 2<a,b> at 1e3 from the origin would be wrong by about 0.5 in the square.
    x, y = points(0, 130), points(1, 200)
    near, _ = nearest(x, y)
    far, _ = nearest(x + 1000, y + 1000)
    np.testing.assert_allclose(far, near, atol=1e-3)


CROWDS = {
    "near duplicates": (1e-3, 1.0, 0.0, np.float32),
    "far apart": (1e-2, 1e2, 0.0, np.float32),
    "far from the origin": (1.0, 3.0, 1e9, np.float64),
    "tiny": (1e-23, 1e-20, 0.0, np.float32),
    "huge": (1e27, 1e30, 0.0, np.float32),
}


@pytest.mark.parametrize("case", CROWDS)
def test_crowded_references_hide_no_neighbour(case):
    """Within two tight groups the expansion's rounding is larger than what tells points apart."""
    spread, apart, offset, dtype = CROWDS[case]
    rng = np.random.default_rng(0)
    middles = apart * rng.normal(size=(2, 1, 5)) + offset
    y, x = ((middles + spread * rng.normal(size=(2, n, 5))).reshape(-1, 5) for n in (300, 65))
    x, y = x.astype(dtype), y.astype(dtype)
    distance, index = nearest(x, y)
    oracle = dense(x, y)
    np.testing.assert_array_equal(index, oracle.argmin(1))
    np.testing.assert_allclose(distance, oracle.min(1), rtol=1e-6)
    distance, index = nearest(y, y)
    np.testing.assert_array_equal(distance, 0)
    np.testing.assert_array_equal(y[index], y)


def test_ties_among_crowded_references_go_to_the_lowest_index():
    """Many copies of one reference must not take long either."""
    y = np.repeat(points(0, 2, d=50), [3, 20_000], axis=0)
    near = (y[::5000] + 1e-7).astype(np.float32)
    np.testing.assert_array_equal(nearest(near, y)[1], [0, 3, 3, 3, 3])


def test_a_copy_is_at_distance_zero():
    y = points(0, 300) + 100
    distance, index = nearest(y[::-1], y)
    np.testing.assert_array_equal(distance, 0)
    np.testing.assert_array_equal(index, np.arange(300)[::-1])


def test_a_copy_of_an_image_is_at_distance_zero():
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(nearest(images, images)[0], 0)


def test_a_picture_is_a_copy_of_itself_as_bytes_and_as_floats():
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    for dtype in (np.int32, np.int64, np.float32, np.float64):
        other = images.astype(dtype) if dtype().dtype.kind == "i" else images / dtype(255)
        np.testing.assert_array_equal(nearest(other, images)[0], 0)
        np.testing.assert_array_equal(nearest(images, other)[0], 0)


def test_pictures_that_hardly_differ_keep_their_digits():
    rng = np.random.default_rng(0)
    images = (200 + rng.integers(0, 2, (200, 10))).astype(np.uint8)
    oracle = dense(images[:40], images[40:]) / 255
    np.testing.assert_allclose(nearest(images[:40], images[40:])[0], oracle.min(1), rtol=1e-6)


def test_ties_go_to_the_lowest_index():
    y = np.tile(points(0, 40), (3, 1))
    np.testing.assert_array_equal(nearest(y[:40], y, block=16)[1], np.arange(40))


def test_pixels_and_floats_agree():
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 1), dtype=np.uint8)
    from_pixels = nearest(images[:20], images[20:])
    from_floats = nearest(jnp.asarray(images[:20] / np.float32(255)), images[20:] / np.float32(255))
    np.testing.assert_allclose(from_pixels[0], from_floats[0], rtol=1e-5)
    np.testing.assert_array_equal(from_pixels[1], from_floats[1])


def test_chunks_cover_every_row_with_one_shape():
    for n, row in [(1, 10), (1000, 2**16), (1000, 2**30), (1024, 1)]:
        parts = distances.chunks(n, row)
        assert {part.stop - part.start for part in parts} == {parts[0].stop}
        assert set().union(*(range(part.start, part.stop) for part in parts)) == set(range(n))


@pytest.mark.optimised
def test_temporaries_stay_bounded_for_sixty_thousand_images():
    m, d, block = 60_000, 784, 64
    rows = distances.chunks(10_000, 4 * (2 * d + 2 * -(-m // block)))[0].stop
    x, reference = (jax.ShapeDtypeStruct((k, d), np.uint8) for k in (rows, m))
    centre = jax.ShapeDtypeStruct((d,), np.float32)
    analysis = _nearest.lower(x, reference, centre, block=block).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 64 * 2**20


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (points(0, 3, 2), points(0, 3, 4), "`x` has 2 dimensions"),
        (np.zeros((0, 2)), points(0, 3, 2), "`x` has shape"),
        (points(0, 3, 2), np.full((3, 2), np.nan), "`reference` .* row 0"),
        (np.zeros(3), points(0, 3, 2), "`x` has shape"),
    ],
)
def test_bad_points_are_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        nearest(x, y)


def test_bad_block_is_refused():
    with pytest.raises(ValueError, match="`block` is 0"):
        nearest(points(0, 3), points(0, 3), block=0)

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from aeot_jax.metrics.classifier import functions, overlapping_patches
from aeot_jax.metrics.features import (
    ClassifierConfig,
    extract,
    fit_components,
    fit_features,
    predict,
)
from aeot_jax.metrics.frechet import frechet_distance

KEY = jax.random.key(0)
CONFIG = ClassifierConfig(epochs=12, batch_size=64, num_features=32)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    images = (np.asarray(x).reshape(-1, 8, 8, 1) * 255 / 16).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], np.asarray(y)[order].astype(np.int32)


@pytest.fixture(scope="module")
def learned(digits):
    images, labels = digits
    return fit_features(KEY, images[:1197], labels[:1197], CONFIG)


@pytest.fixture(scope="module")
def components(digits):
    return fit_features(KEY, digits[0][:1197], config=CONFIG)


@pytest.mark.long
def test_classifier_generalises(digits, learned):
    images, labels = digits
    assert (predict(learned, images[1197:]) == labels[1197:]).mean() > 0.95


def test_features_are_standardised_as_one_space(digits, learned, components):
    images, _ = digits
    for space in (learned, components):
        features = extract(space, images[:1197])
        assert features.shape == (1197, 32)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features.mean(0), 0, atol=1e-4)
        assert features.var(axis=0).mean() == pytest.approx(1, rel=1e-4)


def test_the_same_key_gives_the_same_features(digits, learned):
    images, labels = digits
    again = fit_features(KEY, images[:1197], labels[:1197], CONFIG)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(learned), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("labelled", [True, False])
def test_damage_is_seen_in_proportion(digits, learned, components, labelled):
    images, labels = digits
    space = learned if labelled else components
    real = extract(space, images[:600])

    def distance(damaged):
        return frechet_distance(extract(space, damaged), real)

    rng = np.random.default_rng(0)
    missing = images[597:][labels[597:] != 3][:600]
    mixed = ((images[597:1197].astype(int) + images[1197:]) // 2).astype(np.uint8)
    noise = rng.integers(0, 256, real.shape[:1] + images.shape[1:], dtype=np.uint8)
    scores = [distance(x) for x in (images[597:1197], missing, mixed, noise)]
    assert scores == sorted(scores)


def test_components_are_the_leading_eigenvectors(digits):
    images, _ = digits
    space = fit_components(KEY, images, num_features=6)
    flat = images.reshape(len(images), -1) / 255.0
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    aligned = np.abs(np.asarray(space.params["components"]).T @ vectors[:, ::-1][:, :6])
    np.testing.assert_allclose(aligned, np.eye(6), atol=1e-2)
    variance = (extract(space, images) * float(space.scale)).var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, values[::-1][:6], rtol=1e-3)


def test_components_find_what_hardly_differs():
    """Two kinds of bright image, apart by a 10,000th in one pixel of four."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200)
    images = np.full((200, 8, 8, 1), 0.9, np.float32)
    images[kind == 1, :4, :4] += 1e-4
    space = fit_components(KEY, images, num_features=1)
    features = extract(space, images)[:, 0]
    assert features[kind == 0].std() < 1e-2
    assert abs(features[kind == 0].mean() - features[kind == 1].mean()) > 1


def test_pixels_and_floats_agree(digits, learned):
    images, _ = digits
    floats = images[:600].astype(np.float32) / 255
    np.testing.assert_allclose(extract(learned, floats), extract(learned, images[:600]), atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (9, 13, 2), (64, 64, 3)])
def test_patches_hold_every_pixel(shape):
    images = np.random.default_rng(0).integers(1, 256, (2, *shape), dtype=np.uint8)
    patches = np.asarray(overlapping_patches(jax.numpy.asarray(images)))
    assert max(patches.shape[1:3]) <= 8
    # A window shows its own patch and half of each neighbour: inner pixels appear four times.
    assert set(np.unique(images)) <= set(np.rint((patches + 1) * 127.5).astype(int).ravel())


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 13, 2), (28, 28, 1), (32, 32, 3), (64, 64, 3)])
def test_every_image_size_has_a_classifier(shape):
    network = functions(shape, 7, ClassifierConfig())
    params = jax.eval_shape(network.init, KEY)
    images = jax.ShapeDtypeStruct((5, *shape), np.uint8)
    features = jax.eval_shape(network.features, params, images)
    assert features.shape == (5, 128)
    assert jax.eval_shape(network.logits, params, features).shape == (5, 7)
    # Small enough that it costs seconds, not minutes, to learn.
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 500_000


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((5, 8, 8)), None, r"`images` has shape \(5, 8, 8\)"),
        (np.zeros((1, 8, 8, 1)), None, "one image"),
        (np.zeros((5, 8, 8, 1)), None, "all equal"),
        (np.full((5, 8, 8, 1), np.nan), None, "image 0 of `images` has NaN"),
        (np.full((5, 8, 8, 1), 7.0), None, "float pixels of `images` span 7 to 7, outside"),
        (np.full((5, 8, 8, 1), 700), None, "integer pixels of `images` span 700..700, outside"),
        (np.full((5, 8, 8, 1), 7), None, "all equal"),
        (np.zeros((5, 8, 8, 1)), np.zeros(4, int), "`labels` has shape"),
        (np.zeros((5, 8, 8, 1)), np.zeros(5, int), "`labels` runs from 0 to 0"),
        (np.zeros((5, 8, 8, 1)), np.arange(5) * 10**9, "`labels` runs to 4000000000, but"),
    ],
)
def test_bad_input_is_refused(images, labels, words):
    with pytest.raises(ValueError, match=words):
        fit_features(KEY, images, labels)


def test_other_images_and_missing_labels_are_refused(digits, learned, components):
    images, _ = digits
    with pytest.raises(ValueError, match="was learned from"):
        extract(learned, images[:, :4])
    with pytest.raises(ValueError, match="without labels"):
        predict(components, images)
    with pytest.raises(ValueError, match="`epochs` is 0"):
        ClassifierConfig(epochs=0)

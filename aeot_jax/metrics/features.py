"""A feature space to compare images in, learned from the data, without a download.

With labels it is the last hidden layer of a small classifier, which separates the classes. Without
labels it is the principal components of the pixels. (The features of an untrained network hardly
change when a class is missing.)
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.inputs import pixels
from aeot_jax.metrics.classifier import GRID, fit_network, functions
from aeot_jax.metrics.classifier import ClassifierConfig as ClassifierConfig
from aeot_jax.metrics.components import leading_directions
from aeot_jax.metrics.distances import chunks
from aeot_jax.numerics import PRECISION
from aeot_jax.reprs import brief
from aeot_jax.trees import register
from aeot_jax.typing import ArrayLike, Given, PRNGKey


@register
@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """A learned map from images to features.

    On the images it was learned from, features have mean 0 and, averaged over dimensions, variance
    1. There is one scale for the whole space, so that distances have the same size for different
    data sets.

    Attributes:
      params: the classifier's parameters; or ``components``, (h * w * c, d), and ``mean``, the mean
        image, (h * w * c,).
      shift: subtracted from raw features, (d,).
      scale: then divides them, ().
      image_shape: (height, width, channels).
      num_classes: classes of the classifier; 0 for principal components.
      config: options of the classifier; None for principal components.
    """

    params: Any
    shift: Array
    scale: Array
    image_shape: tuple[int, int, int] = dataclasses.field(metadata={"static": True})
    num_classes: int = dataclasses.field(metadata={"static": True})
    config: ClassifierConfig | None = dataclasses.field(metadata={"static": True})

    __repr__ = brief


def fit_features(
    key: Given[PRNGKey],
    images: ArrayLike,
    labels: ArrayLike | None = None,
    config: Given[ClassifierConfig | None] = None,
) -> FeatureMap:
    """Learn a feature space: a classifier if there are labels, else principal components.

    Args:
      key: initialises and shuffles; the same key gives the same features.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).
      labels: integer classes, (n,), or None.
      config: options of the classifier; None for the defaults.

    Returns:
      The map; see `extract`.

    Raises:
      ValueError: if images and labels do not fit, or there are fewer than 2.
    """
    config = ClassifierConfig() if config is None else config
    arguments.instance("config", config, ClassifierConfig, "a `ClassifierConfig`")
    if labels is None:
        return fit_components(key, images, num_features=config.num_features)
    return fit_classifier(key, images, labels, config)


def fit_classifier(
    key: Given[PRNGKey], images: ArrayLike, labels: ArrayLike, config: Given[ClassifierConfig]
) -> FeatureMap:
    """Train the classifier with AdamW under a cosine schedule, one jitted scan per epoch.

    Args:
      key: initialises and shuffles.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).
      labels: integer classes, (n,), counted from 0.
      config: how to build and train it.

    Returns:
      The map onto the last hidden layer.

    Raises:
      ValueError: if images and labels do not fit each other or there is one class only.
    """
    key = arguments.key("key", key)
    arguments.instance("config", config, ClassifierConfig, "a `ClassifierConfig`")
    x = _images(images)
    y = _labels(labels, len(x))
    params, num_classes = fit_network(key, x, y, config)
    none, one = jnp.zeros(config.num_features, jnp.float32), jnp.ones((), jnp.float32)
    return _standardised(FeatureMap(params, none, one, x.shape[1:], num_classes, config), x)


def _labels(labels: ArrayLike, n: int) -> Int[np.ndarray, " n"]:
    """The labels of n images, if they are two classes or more, counted from 0."""
    y = np.asarray(arguments.host_array("labels", labels))
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"`labels` has shape {y.shape} and type {y.dtype}; "
            f"pass one integer for each of {n} images."
        )
    if y.min() < 0 or y.min() == y.max():
        raise ValueError(
            f"`labels` runs from {y.min()} to {y.max()}; pass two classes or more, counted from 0."
        )
    if y.max() >= n:
        raise ValueError(
            f"`labels` runs to {y.max()}, but there are {n} images; number the classes from 0, for "
            "instance with np.unique(labels, return_inverse=True)[1]."
        )
    return y


def fit_components(
    key: Given[PRNGKey], images: ArrayLike, *, num_features: Given[int] = 128
) -> FeatureMap:
    """Project pixels on their leading principal components: the feature space without labels.

    Mean and covariance of the pixels change when a class is missing or images are averaged; the
    activations of an untrained network hardly do. A classifier is much more sensitive: use it if
    there are labels.

    Args:
      key: starts the subspace iteration.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).
      num_features: components; fewer if there are fewer pixels or images.

    Returns:
      The map onto the components.

    Raises:
      ValueError: if there are fewer than 2 images, all are equal or per pixel is not finite.
    """
    key = arguments.key("key", key)
    num_features = arguments.count("num_features", num_features)
    x = _images(images)
    n, *image_shape = x.shape
    k = min(num_features, math.prod(image_shape), n - 1)
    flat = x.reshape(n, -1)
    mean = flat.mean(axis=0, dtype=np.float64) / (255 if x.dtype == np.uint8 else 1)
    params = {
        "components": leading_directions(key, flat, k),
        "mean": jnp.asarray(mean, jnp.float32),
    }
    none, one = jnp.zeros(k, jnp.float32), jnp.ones((), jnp.float32)
    raw = FeatureMap(params, none, one, tuple(image_shape), 0, None)
    return _standardised(raw, x)


def extract(feature_map: Given[FeatureMap], images: ArrayLike) -> np.ndarray:
    """Compute features in chunks; memory beyond images and features stays under 64 MiB.

    Args:
      feature_map: from `fit_features`.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).

    Returns:
      Features, (n, d) float32.

    Raises:
      ValueError: if the images have another size than those of the map, or per pixel is not finite.
    """
    return _stream(_features, feature_map, images)


def predict(feature_map: Given[FeatureMap], images: ArrayLike) -> np.ndarray:
    """Classify images, (n, h, w, c) -> (n,) int32.

    Raises:
      ValueError: if the map was learned without labels or the images do not fit it.
    """
    arguments.instance("feature_map", feature_map, FeatureMap, "what `fit_features` returned")
    if feature_map.num_classes == 0:
        raise ValueError("`feature_map` was learned without labels; pass labels to `fit_features`.")
    return _stream(_classes, feature_map, images)


@jax.jit
def _features(feature_map: FeatureMap, images: Array) -> Float[Array, "n d"]:
    if feature_map.config is None:
        scale = 1 / 255 if images.dtype == jnp.uint8 else 1.0
        pixels = images.reshape(images.shape[0], -1).astype(jnp.float32) * scale
        # Centre first: the product would lose small differences between images.
        pixels = pixels - feature_map.params["mean"][None, :]
        raw = jnp.dot(pixels, feature_map.params["components"], precision=PRECISION)
    else:
        network = functions(feature_map.image_shape, feature_map.num_classes, feature_map.config)
        raw = network.features(feature_map.params, images)
    return (raw - feature_map.shift[None, :]) / feature_map.scale


@jax.jit
def _classes(feature_map: FeatureMap, images: Array) -> Int[Array, " n"]:
    assert feature_map.config is not None
    network = functions(feature_map.image_shape, feature_map.num_classes, feature_map.config)
    hidden = network.features(feature_map.params, images)
    return network.logits(feature_map.params, hidden).argmax(axis=1).astype(jnp.int32)


def _standardised(raw: FeatureMap, images: np.ndarray) -> FeatureMap:
    features = extract(raw, images)
    shift = features.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.mean((features - shift.astype(np.float32)) ** 2, dtype=np.float64))
    if scale == 0:
        raise ValueError(
            "`images` are all equal, so nothing distinguishes them; pass different images."
        )
    return dataclasses.replace(
        raw, shift=jnp.asarray(shift, jnp.float32), scale=jnp.asarray(scale, jnp.float32)
    )


def _stream(function: Callable, feature_map: Given[FeatureMap], images: ArrayLike) -> np.ndarray:
    arguments.instance("feature_map", feature_map, FeatureMap, "what `fit_features` returned")
    x = _images(images, feature_map.image_shape)
    width = 64 if feature_map.config is None else feature_map.config.width
    parts = chunks(x.shape[0], 16 * (math.prod(feature_map.image_shape) + GRID**2 * width))
    first = np.asarray(function(feature_map, x[parts[0]]))
    out = np.empty((x.shape[0], *first.shape[1:]), first.dtype)
    out[parts[0]] = first
    for part in parts[1:]:
        out[part] = function(feature_map, x[part])
    return out


def _images(images: ArrayLike, image_shape: tuple[int, int, int] | None = None) -> np.ndarray:
    x = arguments.host_array("images", images)
    if not isinstance(x, np.ndarray):
        raise ValueError("`images` is traced, but features are learned on the host; pass values.")
    if x.ndim != 4 or x.size == 0:
        raise ValueError(f"`images` has shape {x.shape}; pass (n, height, width, channels).")
    if image_shape is None and x.shape[0] < 2:
        raise ValueError("`images` holds one image; pass at least 2.")
    if image_shape is not None and x.shape[1:] != image_shape:
        raise ValueError(
            f"`images` are of size {x.shape[1:]}, but `feature_map` was learned from "
            f"{image_shape}; resize them or learn another map."
        )
    x = pixels.checked(x, "`images`")
    return x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)

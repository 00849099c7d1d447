"""A feature space for judging images, learned from the data at hand, without a download.

With labels: a small classifier, whose last hidden layer knows what distinguishes the classes.
Without: principal components of the pixels. A randomly initialised network, the usual makeshift,
barely notices that a class is missing.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from aeot_jax import arguments, pixels
from aeot_jax.metrics.distances import chunks
from aeot_jax.numerics import PRECISION, usual_dtypes
from aeot_jax.typing import ArrayLike, Given, PRNGKey

_CHUNK_BYTES = 16 * 2**20
_GRID = 8
"""Patches along the longer side of an image, at most."""

_PASSES = 6
"""Passes over the images that find the principal components."""


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is built and trained.

    The defaults reach 99.1 % of MNIST's test digits.

    Attributes:
      num_features: width of the last hidden layer, the dimension of the feature space.
      width: channels of a patch.
      epochs: passes over the images. None: as many as make about 2,500 steps, at least 3 and at
        most 60.
      batch_size: images a step; fewer where there are fewer.
      learning_rate: of AdamW, at the peak of its cosine.
      weight_decay: of AdamW.
    """

    num_features: Given[int] = 128
    width: Given[int] = 64
    epochs: Given[int | None] = None
    batch_size: Given[int] = 128
    learning_rate: Given[float] = 2e-3
    weight_decay: Given[float] = 1e-2

    def __post_init__(self):
        for name in ("num_features", "width", "batch_size"):
            arguments.count(name, getattr(self, name))
        if self.epochs is not None:
            arguments.count("epochs", self.epochs)
        arguments.number("weight_decay", self.weight_decay, 0.0)
        if not 0 < arguments.number("learning_rate", self.learning_rate) < 1:
            raise ValueError(
                f"`learning_rate` is {self.learning_rate}; pass a value between 0 and 1."
            )


class Functions(NamedTuple):
    """The classifier as pure functions.

    Attributes:
      init: key -> params, nested dicts of float32 arrays.
      features: params, images (n, h, w, c) -> last hidden layer (n, num_features).
      logits: params, features (n, num_features) -> (n, num_classes).
    """

    init: Callable[[PRNGKey], Any]
    features: Callable[[Any, Array], Array]
    logits: Callable[[Any, Array], Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """A learned map from images to features.

    The features of the images it was learned from have mean 0 and, averaged over dimensions,
    variance 1: one shift and one scale for the whole space, so that distances of different data
    sets are of one size.

    Attributes:
      params: the classifier's parameters; or ``components``, (h * w * c, d), and ``mean``, the mean
        image, (h * w * c,).
      shift: subtracted from raw features, (d,).
      scale: divides them, ().
      image_shape: (height, width, channels).
      num_classes: classes of the classifier; 0 for principal components.
      config: the classifier's; None for principal components.
    """

    params: Any
    shift: Array
    scale: Array
    image_shape: tuple[int, int, int] = dataclasses.field(metadata={"static": True})
    num_classes: int = dataclasses.field(metadata={"static": True})
    config: ClassifierConfig | None = dataclasses.field(metadata={"static": True})


class _Classifier(nnx.Module):
    """Overlapping patches, merged two by two, one hidden layer: products, a CPU's fast path."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        config: ClassifierConfig,
        rngs: nnx.Rngs,
    ):
        side, w = patch_side(image_shape), config.width
        rows, columns = (math.ceil(length / (2 * side)) for length in image_shape[:2])
        self.patches = nnx.Linear(4 * side * side * image_shape[2], w, rngs=rngs)
        self.merged = nnx.Linear(4 * w, 2 * w, rngs=rngs)
        self.hidden = nnx.Linear(2 * w * rows * columns, config.num_features, rngs=rngs)
        self.classes = nnx.Linear(config.num_features, num_classes, rngs=rngs)

    def features(self, images: Array) -> Array:
        x = nnx.gelu(self.patches(overlapping_patches(images)))
        x = nnx.gelu(self.merged(_tiles(x, 2)))
        return nnx.gelu(self.hidden(x.reshape(x.shape[0], -1)))


@functools.lru_cache
def functions(
    image_shape: tuple[int, int, int], num_classes: int, config: ClassifierConfig
) -> Functions:
    """Build the classifier's pure functions; equal arguments give the same objects."""

    def build(key: PRNGKey) -> _Classifier:
        return _Classifier(image_shape, num_classes, config, nnx.Rngs(key))

    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))), nnx.Param)

    def init(key: PRNGKey) -> Any:
        return nnx.to_pure_dict(nnx.split(build(key), nnx.Param)[1])

    def merged(params: Any) -> _Classifier:
        state = jax.tree.map(lambda leaf: leaf, abstract)  # a copy: the next line writes in place
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graphdef, state)

    return Functions(
        init=init,
        features=lambda params, images: merged(params).features(images),
        logits=lambda params, features: merged(params).classes(features),
    )


def patch_side(image_shape: tuple[int, int, int]) -> int:
    """Choose the side of a patch in pixels: at least 2, at most 8 patches along the longer side."""
    return max(2, math.ceil(max(image_shape[:2]) / _GRID))


def overlapping_patches(images: Array) -> Float[Array, "n rows columns p"]:
    """Cut images (n, h, w, c) into windows of twice the patch side, one a patch, pixels in [-1, 1].

    Overlap in the first layer is nearly free: nothing is differentiated with respect to the pixels.
    """
    _, height, width, channels = images.shape
    side = patch_side((height, width, channels))
    scale = 2 / 255 if images.dtype == jnp.uint8 else 2.0
    x = images.astype(jnp.float32) * scale - 1
    before = side // 2
    edges = [(before, -length % side + side - before) for length in (height, width)]
    x = _tiles(jnp.pad(x, ((0, 0), *edges, (0, 0)), constant_values=-1.0), side)
    rows, columns = x.shape[1] - 1, x.shape[2] - 1
    corners = [x[:, i : i + rows, j : j + columns] for i in range(2) for j in range(2)]
    return jnp.concatenate(corners, axis=3)


def _tiles(x: Float[Array, "n h w c"], side: int) -> Float[Array, "n rows columns p"]:
    """Move square tiles into the channels, padding with zeros at the lower right."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % side), (0, -x.shape[2] % side), (0, 0)))
    n, height, width, channels = x.shape
    rows, columns = height // side, width // side
    x = x.reshape(n, rows, side, columns, side * channels).transpose(0, 1, 3, 2, 4)
    return x.reshape(n, rows, columns, side * side * channels)


def fit_features(
    key: Given[PRNGKey],
    images: ArrayLike,
    labels: ArrayLike | None = None,
    config: Given[ClassifierConfig | None] = None,
) -> FeatureMap:
    """Learn a feature space: a classifier where there are labels, else principal components.

    Args:
      key: initialises and shuffles; the same key gives the same features.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).
      labels: integer classes, (n,), or None.
      config: the classifier's; None for its defaults.

    Returns:
      The map; see `extract`.

    Raises:
      ValueError: if images and labels do not fit each other or there are fewer than 2 of either.
    """
    config = ClassifierConfig() if config is None else config
    arguments.instance("config", config, ClassifierConfig, "a `ClassifierConfig`")
    if labels is None:
        return fit_components(key, images, num_features=config.num_features)
    return fit_classifier(key, images, labels, config)


def fit_classifier(
    key: Given[PRNGKey], images: ArrayLike, labels: ArrayLike, config: Given[ClassifierConfig]
) -> FeatureMap:
    """Train the classifier with AdamW under a cosine schedule, one jitted scan an epoch.

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
    x, y = _images(images), np.asarray(arguments.host_array("labels", labels))
    n = x.shape[0]
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
    num_classes = int(y.max()) + 1
    image_shape = x.shape[1:]
    network = functions(image_shape, num_classes, config)
    batch = min(config.batch_size, n)
    steps = n // batch
    epochs = min(60, max(3, round(2500 / steps))) if config.epochs is None else config.epochs
    init_key, epoch_key = jax.random.split(key)
    params = network.init(init_key)
    optimiser = _optimiser(config, steps * epochs)
    with usual_dtypes():
        opt_state = optimiser.init(params)
    x_device, y_device = jnp.asarray(x), jnp.asarray(y, jnp.int32)
    for epoch in range(epochs):
        order = jax.random.permutation(
            jax.random.fold_in(epoch_key, epoch), jnp.arange(n, dtype=jnp.int32)
        )
        params, opt_state = _run_epoch(
            params,
            opt_state,
            x_device,
            y_device,
            order[: steps * batch].reshape(steps, batch),
            network=network,
            optimiser=optimiser,
        )
    raw = FeatureMap(
        params,
        jnp.zeros(config.num_features, jnp.float32),
        jnp.ones((), jnp.float32),
        image_shape,
        num_classes,
        config,
    )
    return _standardised(raw, x)


@functools.lru_cache
def _optimiser(config: ClassifierConfig, num_steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, num_steps // 20), max(2, num_steps)
    )
    return optax.adamw(schedule, weight_decay=config.weight_decay)


@jax.jit(static_argnames=("network", "optimiser"), donate_argnums=(0, 1))
def _run_epoch(
    params: Any,
    opt_state: Any,
    images: Array,
    labels: Int[Array, " n"],
    batches: Int[Array, "steps batch"],
    *,
    network: Functions,
    optimiser: optax.GradientTransformation,
) -> tuple[Any, Any]:
    def loss(params: Any, rows: Array) -> Array:
        logits = network.logits(params, network.features(params, images[rows]))
        with usual_dtypes():
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

    def step(carry: tuple[Any, Any], rows: Array) -> tuple[tuple[Any, Any], None]:
        params, opt_state = carry
        grads = jax.grad(loss)(params, rows)
        with usual_dtypes():
            updates, opt_state = optimiser.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(step, (params, opt_state), batches)[0]


def fit_components(
    key: Given[PRNGKey], images: ArrayLike, *, num_features: Given[int] = 128
) -> FeatureMap:
    """Project pixels on their leading principal components: the feature space without labels.

    Why pixels: their mean and covariance do change when a class is missing or images are averaged,
    which the activations of an untrained network hardly show. Still much blunter than a classifier:
    learn that where there are labels.

    Args:
      key: starts the subspace iteration.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).
      num_features: components; fewer where pixels or images are fewer.

    Returns:
      The map onto the components.

    Raises:
      ValueError: if there are fewer than 2 images, all are equal or a pixel is not finite.
    """
    key = arguments.key("key", key)
    num_features = arguments.count("num_features", num_features)
    x = _images(images)
    n, *image_shape = x.shape
    k = min(num_features, math.prod(image_shape), n - 1)
    flat = x.reshape(n, -1)
    mean = flat.mean(axis=0, dtype=np.float64) / (255 if x.dtype == np.uint8 else 1)
    params = {
        "components": _leading_directions(key, flat, k),
        "mean": jnp.asarray(mean, jnp.float32),
    }
    none, one = jnp.zeros(k, jnp.float32), jnp.ones((), jnp.float32)
    raw = FeatureMap(params, none, one, tuple(image_shape), 0, None)
    return _standardised(raw, x)


def _leading_directions(key: PRNGKey, x: np.ndarray, k: int) -> Float[Array, "p k"]:
    """Find the k leading principal directions by subspace iteration, x streamed.

    Neither the covariance (12,288^2 for 64x64 colour) nor the Gram matrix (n^2) is formed. Halko,
    Martinsson, Tropp, SIAM Review 2011: with 16 spare columns and a few passes, what is wrong with
    the last directions is far below their sampling error.
    """
    n, p = x.shape
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = min(k + 16, p)
    q = np.asarray(jax.random.normal(key, (p, width), jnp.float32))
    q = np.linalg.qr(q)[0]
    step = max(1, _CHUNK_BYTES // (4 * p))
    for _ in range(_PASSES):
        product = np.zeros((p, width), np.float32)
        for start in range(0, n, step):
            part = x[start : start + step].astype(np.float32) - mean
            product += part.T @ (part @ q)
        q, triangle = np.linalg.qr(product)
    # The covariance within the subspace is q' C q = triangle q_before' q, whose left singular
    # vectors turn q.
    rotation = np.linalg.svd(triangle)[0]
    return jnp.asarray((q @ rotation)[:, :k])


def extract(feature_map: Given[FeatureMap], images: ArrayLike) -> np.ndarray:
    """Compute features, streamed: memory beyond images and features stays under 64 MiB.

    Args:
      feature_map: from `fit_features`.
      images: integers in 0..255, bools, or floats in [0, 1]; (n, h, w, c).

    Returns:
      Features, (n, d) float32.

    Raises:
      ValueError: if the images are not of the size the map was learned from, or a pixel is not
        finite.
    """
    return _stream(_features, feature_map, images)


def predict(feature_map: Given[FeatureMap], images: ArrayLike) -> np.ndarray:
    """Classify images, (n, h, w, c) -> (n,) int32, for instance to count captured classes.

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
        # Centred first: where images hardly differ, the product would lose what does.
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
    parts = chunks(x.shape[0], 16 * (math.prod(feature_map.image_shape) + _GRID**2 * width))
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

r"""Distributions of patches: fixed random features, and their sliced Wasserstein distance.

A squared error compares each image with its own original. What the code does not tell is averaged
away: the images are soft, and none of the originals looks like that. A distance between the
*distributions* of decoded and of real patches sees it, and needs no adversary: along one direction,
optimal transport between two samples of equal size pairs them in sorted order. A direction is one
of the features of a single patch: a sum over many patches is nearly Gaussian, whatever they are.

The features are layers of random filters with a leaky ReLU: patches of two units (8x8 pixels), of
three (12x12), and the whole image. They are fixed before the training and never learned.

Source: Rabin, Peyré, Delon, Bernot 2011 (sliced Wasserstein distance of textures); Heitz et al.
2021, "A sliced Wasserstein loss for neural texture synthesis" (the same, on features of a network).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax.nn.layers import space_to_depth
from aeot_jax.typing import PRNGKey

_WIDTHS = 64, 64, 256
"""Features of one patch at the first two levels, and of the whole image."""

_SLICES = 128
"""Directions along which the features of a level are compared in one step."""

_LEAK = 0.2

_FLAT = 1e-6
"""Smallest standard deviation of the features of a level: equal images have none."""

Filters = tuple[Float[Array, "_ _"], ...]
"""One matrix a level."""


def _unit(image_shape: tuple[int, ...]) -> int:
    """Side of the squares that a patch is made of, in pixels: 4, or 2 if the image is small."""
    return 4 if max(image_shape[:2]) >= 20 else 2


def _grids(image_shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Rows and columns of units, and of the patches of both levels, which overlap."""
    unit = _unit(image_shape)
    rows, columns = (math.ceil(side / unit) for side in image_shape[:2])
    return tuple((max(1, rows - i), max(1, columns - i)) for i in range(3))


def filters(key: PRNGKey, image_shape: tuple[int, ...]) -> Filters:
    """The random filters for images (height, width, channels): one matrix for each level.

    Args:
      key: consumed.
      image_shape: size of one image.
    """
    grids = _grids(image_shape)
    values = _unit(image_shape) ** 2 * image_shape[2]
    found = []
    for level, width in enumerate(_WIDTHS):
        if level < 2:
            taps = [min(2, side) for side in grids[level]]
            inputs = math.prod(taps) * values
        else:
            inputs = math.prod(grids[level]) * values
        draw = jax.random.normal(jax.random.fold_in(key, level), (inputs, width), jnp.float32)
        found.append(draw * math.sqrt(2 / inputs))
        values = width
    return tuple(found)


def features(
    kernels: Filters, x: Float[Array, "n h w c"]
) -> tuple[Float[Array, "n p f"], Float[Array, "n q g"], Float[Array, "n 1 r"]]:
    """The features of images at the three levels: a row of them for each patch of an image.

    Args:
      kernels: from ``filters``, for this size of images.
      x: images, values in [0, 1].
    """
    n, *sides, _ = x.shape
    unit = _unit(x.shape[1:])
    margins = [(0, -side % unit) for side in sides]
    x = jnp.pad(x, ((0, 0), *margins, (0, 0)), mode="edge")
    x = space_to_depth(x, unit)
    first = _patches(x, kernels[0])
    second = _patches(first, kernels[1])
    whole = jax.nn.leaky_relu(second.reshape(n, -1) @ kernels[2], _LEAK)
    return first.reshape(n, -1, _WIDTHS[0]), second.reshape(n, -1, _WIDTHS[1]), whole[:, None]


def _patches(x: Float[Array, "n a b i"], kernel: Float[Array, "j o"]) -> Float[Array, "n p q o"]:
    """Filter squares of 2 x 2 neighbours: a product for each of four shifts, no copied patches."""
    _, rows, columns, _ = x.shape
    taps = [(i, j) for i in range(min(2, rows)) for j in range(min(2, columns))]
    parts = jnp.split(kernel, len(taps))
    rows, columns = max(1, rows - 1), max(1, columns - 1)
    products = [
        x[:, i : i + rows, j : j + columns] @ part for (i, j), part in zip(taps, parts, strict=True)
    ]
    return jax.nn.leaky_relu(sum(products[1:], products[0]), _LEAK)


def _directions(key: PRNGKey, places: int, width: int) -> Float[Array, "k _"]:
    """Random unit directions in the features of one patch each, zero for all other patches."""
    place_key, key = jax.random.split(key)
    at = jax.random.randint(place_key, (_SLICES,), 0, places, jnp.int32)
    draw = jax.random.normal(key, (_SLICES, 1, width), jnp.float32)
    draw /= jnp.linalg.norm(draw, axis=2, keepdims=True)
    # A product with zeros: gathering would scatter in the gradient, in no fixed order on a GPU.
    own = jax.nn.one_hot(at, places, dtype=jnp.float32)
    return (own[:, :, None] * draw).reshape(_SLICES, -1)


def sliced_distance(
    key: PRNGKey, kernels: Filters, made: Float[Array, "n h w c"], real: Float[Array, "n h w c"]
) -> Float[Array, ""]:
    r"""Squared sliced Wasserstein distance of the features of two sets of images of equal size.

    $\sum_l \frac{1}{128} \sum_k \frac1n \sum_i (\langle\theta_k, f_l\rangle_{(i)} -
    \langle\theta_k, g_l\rangle_{(i)})^2 / \sigma_l^2$, with new unit directions $\theta_k$ for each
    key, each in the features of one random patch, values in sorted order, and $\sigma_l$ the
    standard deviation of the real projections.

    Args:
      key: of the directions; consumed.
      kernels: from ``filters``.
      made: decoded images.
      real: real images.
    """
    n, total = len(made), jnp.zeros((), jnp.float32)
    pairs = zip(features(kernels, made), features(kernels, real), strict=True)
    for level, (f, g) in enumerate(pairs):
        directions = _directions(jax.random.fold_in(key, level), *f.shape[1:])
        # Samples along the last axis: sorting there is fast.
        a, b = directions @ f.reshape(n, -1).T, directions @ g.reshape(n, -1).T
        scale = jax.lax.stop_gradient(jnp.maximum(b.std(axis=1).mean(), _FLAT))
        total += ((jnp.sort(a) - jnp.sort(b)) ** 2).mean() / scale**2
    return total

"""Resizing and colour conversion of arrays of images."""

import numpy as np
from jaxtyping import UInt8

from aeot_jax.data.pictures.shaping import Pictures


def resample(
    images: UInt8[np.ndarray, "n h w c"], pictures: Pictures
) -> UInt8[np.ndarray, "n h2 w2 c2"]:
    """Resize and convert images as `pictures` says; returns the same array if nothing changes."""
    channels = pictures.channels or images.shape[-1]
    size = pictures.size or images.shape[1:3]
    if (*size, channels) == images.shape[1:]:
        return images
    if size == images.shape[1:3] and channels == 3:
        return np.repeat(images, 3, axis=-1)
    from PIL import Image

    from aeot_jax.data.pictures.decode import fitted

    result = np.empty((len(images), *size, channels), np.uint8)
    for pixels, target in zip(images, result, strict=True):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image = fitted(image.convert("L" if channels == 1 else "RGB"), size, pictures)
        target[...] = np.asarray(image).reshape(target.shape)
    return result

"""Images that a small autoencoder learns."""

import numpy as np


def bars(n=40, side=6):
    """Images with one bright column and one bright row: two numbers describe each."""
    rng = np.random.default_rng(0)
    images = np.zeros((n, side, side, 1), np.uint8)
    for image, (i, j) in zip(images, rng.integers(0, side, (n, 2)), strict=True):
        image[i], image[:, j] = 200, 255
    return images

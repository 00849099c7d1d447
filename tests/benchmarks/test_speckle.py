import numpy as np
from speckle import speckle

PLAIN = np.full((20, 32, 32, 3), 120.0)
NOISE = np.random.default_rng(0).normal(size=(20, 32, 32, 3))


def test_plain_images_and_grey_noise_have_no_coloured_speckle():
    assert speckle(PLAIN) < 1e-9
    assert speckle(PLAIN + 5 * NOISE[..., :1], PLAIN) < 1e-9


def test_independent_noise_of_size_s_is_four_thirds_s():
    """Less its 3x3 mean a variance is 8/9, and two of three directions are colour: 16/9 in all."""
    assert abs(speckle(PLAIN + 5 * NOISE, PLAIN) / 5 - 4 / 3) < 0.01  # 58,000 values


def test_what_is_not_plain_or_white_does_not_count():
    left = np.arange(32)[:, None] < 16
    noisy = np.where(left, PLAIN + NOISE, PLAIN + 90 * NOISE)
    originals = np.where(left, PLAIN, PLAIN + 90 * NOISE)
    assert abs(speckle(noisy, originals) - 4 / 3) < 0.05
    originals = np.where(left, PLAIN, 255.0)
    assert abs(speckle(noisy, originals) - 4 / 3) < 0.05

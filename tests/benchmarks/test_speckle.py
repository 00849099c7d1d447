import math

import numpy as np
from speckle import grain, speckle

PLAIN = np.full((20, 32, 32, 3), 120.0)
NOISE = np.random.default_rng(0).normal(size=(20, 32, 32, 3))


def test_plain_images_and_grey_noise_have_no_coloured_speckle():
    assert speckle(PLAIN) < 1e-9
    assert speckle(PLAIN + 5 * NOISE[..., :1], PLAIN) < 1e-9


def test_plain_images_and_coloured_noise_have_no_grain():
    assert grain(PLAIN) < 1e-9
    coloured = NOISE - NOISE.mean(axis=3, keepdims=True)
    assert grain(PLAIN + 5 * coloured, PLAIN) < 1e-9


def test_independent_noise_of_size_s_is_four_thirds_s():
    """Less its 3x3 mean a variance is 8/9, and two of three directions are colour: 16/9 in all."""
    assert abs(speckle(PLAIN + 5 * NOISE, PLAIN) / 5 - 4 / 3) < 0.01  # 58,000 values


def test_grey_noise_is_as_much_grain_in_colour_as_in_grey():
    """Less its 5x5 mean a variance is 24/25."""
    grey = PLAIN[..., :1]
    wanted = 5 * math.sqrt(24 / 25)
    assert abs(grain(grey + 5 * NOISE[..., :1], grey) / wanted - 1) < 0.02  # 12,000 values
    assert abs(grain(PLAIN + 5 * NOISE[..., :1], PLAIN) / wanted - 1) < 0.02


def test_a_weave_of_four_pixels_is_grain():
    """A mean of five pixels keeps a fifth of a wave of four; less that of both waves, 24/25."""
    wave = np.cos(np.pi / 2 * np.arange(32))
    weave = (wave[:, None] * wave[None])[None, :, :, None]
    kept = 1 - 0.2**2
    assert abs(grain(PLAIN + 4 * weave, PLAIN) - 4 * kept / 2) < 0.01


def test_what_is_not_plain_or_white_does_not_count():
    left = np.arange(32)[:, None] < 16
    noisy = np.where(left, PLAIN + NOISE, PLAIN + 90 * NOISE)
    originals = np.where(left, PLAIN, PLAIN + 90 * NOISE)
    assert abs(speckle(noisy, originals) - 4 / 3) < 0.05
    originals = np.where(left, PLAIN, 255.0)
    assert abs(speckle(noisy, originals) - 4 / 3) < 0.05


def test_without_a_plain_window_there_is_no_number():
    assert math.isnan(grain(PLAIN, PLAIN + 90 * NOISE))

import numpy as np
import pytest

from aeot_jax.metrics.newness.memory import memory_report


def images(seed, n):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)


TRAIN, HELD_OUT = images(0, 400), images(1, 400)


def test_copies_are_remembered():
    report = memory_report(TRAIN, TRAIN, HELD_OUT)
    assert report.share_nearer == 1
    assert report.num_copies == report.num_generated == 400
    assert report.median_generated == report.median_ratio == 0


def test_fresh_samples_are_not():
    report = memory_report(images(2, 400), TRAIN, HELD_OUT)
    assert abs(report.share_nearer - report.alpha) < 3 * report.standard_error
    assert report.num_copies == 0
    assert abs(report.median_ratio - 1) < 0.05


def test_a_mixture_of_copies_and_fresh_samples_adds_up():
    generated = np.concatenate([TRAIN[:60], images(2, 340)])
    report = memory_report(generated, TRAIN, HELD_OUT)
    assert report.num_copies == 60
    assert abs(report.share_nearer - (0.15 + 0.85 * 0.05)) < 3 * report.standard_error


def test_blur_looks_like_memory_unless_the_held_out_images_share_it():
    def blur(x):
        return (x / 255.0 + 0.5) / 2

    fresh = blur(images(2, 400))
    assert memory_report(fresh, TRAIN, HELD_OUT).median_ratio < 0.9
    assert abs(memory_report(fresh, TRAIN, blur(HELD_OUT)).median_ratio - 1) < 0.02


def test_few_held_out_images_give_an_unbiased_share():
    """Of 20 distances, numbers here, a twentieth of fresh ones is below the cutoff on average."""
    rng = np.random.default_rng(0)
    train = np.zeros((1, 1))
    shares = []
    for _ in range(300):
        fresh, held_out = rng.uniform(size=(200, 1)), rng.uniform(size=(20, 1))
        shares.append(memory_report(fresh, train, held_out, alpha=0.05).share_nearer)
    # The lowest of 20 is a 21st on average, with as much of a standard deviation.
    assert np.mean(shares) == pytest.approx(0.05, abs=4 / 21 / np.sqrt(300))


def test_every_field_is_a_plain_number():
    report = memory_report(TRAIN, TRAIN, HELD_OUT)
    assert {type(value) for value in vars(report).values()} == {int, float}


@pytest.mark.parametrize(
    ("held_out", "alpha", "words"),
    [
        (HELD_OUT, 0.0, "`alpha` is 0"),
        (HELD_OUT[:10], 0.05, "`held_out` has 10 rows"),
        (TRAIN, 0.05, "median distance of 0"),
        (HELD_OUT[:, :2], 0.05, "`held_out` has 8 dimensions"),
    ],
)
def test_bad_input_is_refused(held_out, alpha, words):
    with pytest.raises(ValueError, match=words):
        memory_report(TRAIN[:10], TRAIN, held_out, alpha=alpha)


def test_equal_distances_count_as_those_of_unseen_data():
    new, known, unseen = (
        np.random.default_rng(seed).integers(0, 2, (500, 20)).astype(float) for seed in range(3)
    )
    report = memory_report(new, known, unseen)
    assert abs(report.share_nearer - report.alpha) < 3 * report.standard_error
    assert memory_report(known, known, unseen).share_nearer == 1

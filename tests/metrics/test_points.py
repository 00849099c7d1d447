"""What holds for one metric holds for all: what they take, and what they refuse, in which words."""

import copy
import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from aeot_jax.data.images import from_arrays
from aeot_jax.evaluate import evaluate, reconstruction
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.features import ClassifierConfig, extract, fit_features, predict
from aeot_jax.metrics.frechet import (
    frechet_distance,
    frechet_report,
    gaussian_frechet_distance,
    kernel_distance,
    moments,
)
from aeot_jax.metrics.modes import covered_share, mode_report, reverse_kl, total_variation
from aeot_jax.metrics.newness.memory import memory_report
from aeot_jax.metrics.newness.novelty import novelty_report
from aeot_jax.metrics.points import together
from aeot_jax.metrics.prdc import prdc

KEY = jax.random.key(0)
CONFIG = ClassifierConfig(epochs=1, num_features=4)

PAIRS = {
    "nearest": nearest,
    "prdc": prdc,
    "frechet_distance": frechet_distance,
    "frechet_report": lambda a, b: frechet_report(KEY, a, b),
    "frechet_report, test": lambda a, b: frechet_report(KEY, b, b, a),
    "kernel_distance": lambda a, b: kernel_distance(KEY, a, b),
    "memory_report": lambda a, b: memory_report(a, b, b[::-1] // 2, alpha=0.1),
    "memory_report, held out": lambda a, b: memory_report(b, b, a, alpha=0.1),
    "novelty_report": lambda a, b: novel(a, b),
    "novelty_report, held out": lambda a, b: novel(b[::-1] // 2, b, a),
    "mode_report": lambda a, b: mode_report(a, b, 0.5),
}
SINGLES = {"moments": moments}
PICTURES = {
    "fit_features": lambda x: fit_features(KEY, x, config=CONFIG),
    "fit_features, labels": lambda x: fit_features(KEY, x, np.arange(len(x)) % 2, CONFIG),
    "extract": lambda x: extract(space(False), x),
    "predict": lambda x: predict(space(True), x),
    "reconstruction": lambda x: reconstruction(tiny.model(), x),
    "evaluate": lambda x: evaluate(KEY, tiny.model(), image_set(x)),
}
EVERY = {**{name: lambda x, f=f: f(x, OTHER) for name, f in PAIRS.items()}, **SINGLES, **PICTURES}

BYTES, OTHER = (tiny.images(60, seed, (8, 8, 1)) for seed in range(2))
SET = from_arrays(BYTES)


def novel(*sets):
    """The numbers alone."""
    report = dataclasses.asdict(novelty_report(*sets, alpha=0.1))
    return {name: value for name, value in report.items() if not isinstance(value, str)}


def image_set(images):
    """Of pixels that no one has looked at."""
    made = copy.copy(SET)
    object.__setattr__(made, "images", images)
    return made


@cache
def space(labelled):
    return fit_features(KEY, BYTES, np.arange(60) % 2 if labelled else None, CONFIG)


def assert_same(found, expected):
    """To float32's rounding of the pixels."""
    found, expected = (
        dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result
        for result in (found, expected)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint64, ">i2", np.float32, np.float64, list])
@pytest.mark.parametrize("name", PAIRS)
def test_pictures_mean_the_same_in_every_type(name, dtype):
    other = BYTES.tolist() if dtype is list else BYTES.astype(dtype)
    if not isinstance(other, list) and other.dtype.kind == "f":
        other = other / other.dtype.type(255)
    expected = PAIRS[name](BYTES, OTHER)
    assert_same(PAIRS[name](other, OTHER), expected)
    if not name.startswith(("memory", "novelty_report, held")):
        assert_same(PAIRS[name](BYTES[::-1], other), PAIRS[name](BYTES[::-1], BYTES))


def test_a_set_is_a_copy_of_itself_in_every_type():
    for other in (BYTES.astype(np.int32), BYTES / np.float32(255), BYTES / 255):
        assert prdc(BYTES, other).coverage == 1
        assert frechet_distance(BYTES, other) < 1e-9
        assert memory_report(other, BYTES, OTHER, alpha=0.1).num_copies == 60
        assert novelty_report(other, BYTES, OTHER, alpha=0.1).num_copies == 60


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x.astype(np.float32), "the float pixels of `.*` span 0 to 25.*, outside"),
        (lambda x: x.astype(np.float64) / 127.5 - 1, r"span -1 to .*pass \(images \+ 1\) / 2"),
        (lambda x: x.astype(np.int32) * 257, "the integer pixels of `.*` span 0..65.*, outside"),
        (lambda x: x.astype(np.int32) - 9, "the integer pixels of `.*` span -9.."),
        (lambda x: (x > 9).astype(int), "are 0 and 1, which is almost black"),
        (lambda x: np.where(x == x.max(), np.nan, x / 255), "has NaN or infinite pixels"),
        (lambda x: x.astype(complex), "`.*` has dtype complex128; pass real numbers"),
        (lambda x: x.astype(object), "`.*` has dtype object; pass real numbers"),
        (lambda x: np.ma.masked_array(x, x > 9), "`.*` is a masked array"),
        (lambda x: "images", "`.*` is 'images'; pass an array"),
        (lambda x: x[:0], "shape"),
        (lambda x: x[0, :, 0, 0], "shape"),
        (lambda x: x[:, :4], "shape|dimensions|size"),
        (lambda x: x.reshape(len(x), 4, 16, 1), "shape|size"),
    ],
)
@pytest.mark.parametrize("name", EVERY)
def test_pictures_of_another_kind_are_refused_in_the_same_words(name, spoil, words):
    bad = spoil(BYTES)
    if words.startswith("shape|") and (name in SINGLES or name.startswith("fit_features")):
        pytest.skip("compared with nothing")
    if name == "evaluate" and not isinstance(bad, np.ndarray):
        bad = np.asarray(bad)  # an image set holds an array
        words = "`train` has dtype"
    with pytest.raises(ValueError, match=words):
        EVERY[name](bad)


@pytest.mark.parametrize("name", [*PAIRS, *SINGLES])
def test_rows_of_numbers_are_taken_as_they_are(name):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-900, 900, (2, 60, 4))
    function = PAIRS.get(name) or (lambda a, _: SINGLES[name](a))
    expected = function(x, y)
    for dtype in (np.int16, np.float32, np.float64, jnp.float32):
        found = function(x.astype(dtype), y.astype(dtype))
        assert_same(found, expected)
    for spoilt, words in (
        (np.where(x == x.max(), np.nan, x), "`.*` holds a value that is not finite in row"),
        (np.where(x == x.max(), 1e39, x), "`.*` holds 1e.39 in row .*, too large for float32"),
        (x.astype(complex), "complex"),
    ):
        with pytest.raises(ValueError, match=words):
            function(spoilt, y)


def test_rows_of_pixels_do_not_meet_rows_of_anything_else():
    flat = BYTES.reshape(60, 64)
    for function in PAIRS.values():
        with pytest.raises(ValueError, match=r"float pixels of `.*` span .*, outside \[0, 1\]"):
            function(flat + np.float32(0.5), OTHER.reshape(60, 64))
        assert_same(function(flat, OTHER), function(BYTES, OTHER))


def test_large_offsets_come_in_with_their_digits():
    """In float64, which float32 could not hold."""
    x = np.random.default_rng(0).normal(size=(60, 4))
    assert_same(prdc(x + 1e9, x[::-1] + 1e9), prdc(x, x[::-1]))
    far = nearest(x[:30] + 1e9, x[30:] + 1e9)[0]
    np.testing.assert_allclose(far, nearest(x[:30], x[30:])[0], rtol=1e-6)
    np.testing.assert_allclose(
        frechet_distance(x[:30] + 1e6, x[30:] + 1e6), frechet_distance(x[:30], x[30:]), rtol=1e-6
    )


def test_metrics_are_not_traced():
    with pytest.raises(ValueError, match="`x` is traced, but metrics are computed on the host"):
        jax.jit(nearest)(jnp.ones((3, 2)), jnp.ones((3, 2)))


@pytest.mark.parametrize("key", [0, None, np.random.default_rng(0), jax.random.split(KEY, 2)])
def test_what_is_no_key_is_refused(key):
    x = OTHER / 255
    for call in (
        lambda: frechet_report(key, x, x),
        lambda: kernel_distance(key, x, x),
        lambda: fit_features(key, BYTES),
        lambda: fit_features(key, BYTES, np.arange(60) % 2),
        lambda: evaluate(key, tiny.model(), SET),
    ):
        with pytest.raises(ValueError, match="`key` "):
            call()


@pytest.mark.parametrize("size", ["5", 2.5, True, -1])
def test_what_is_no_size_is_refused(size):
    x = OTHER / 255
    for name, call in (
        ("block", lambda: nearest(x, x, block=size)),
        ("k", lambda: prdc(x, x, k=size)),
        ("num_samples", lambda: frechet_report(KEY, x, x, num_samples=size)),
        ("num_blocks", lambda: kernel_distance(KEY, x, x, num_blocks=size)),
        ("num_samples", lambda: evaluate(KEY, tiny.model(), SET, num_samples=size)),
        ("width", lambda: ClassifierConfig(width=size)),
    ):
        with pytest.raises(ValueError, match=f"`{name}` is"):
            call()


def test_too_few_rows_are_refused():
    x = OTHER / 255
    for call in (
        lambda: prdc(x, x[:5]),
        lambda: moments(x[:1]),
        lambda: frechet_distance(x, x[:1]),
        lambda: frechet_report(KEY, x, x[:3]),
        lambda: kernel_distance(KEY, x, x[:19]),
        lambda: memory_report(x, x, x[:9], alpha=0.1),
        lambda: novelty_report(x, x, x[:9], alpha=0.1),
        lambda: novelty_report(x, x[:10], alpha=0.1),
        lambda: fit_features(KEY, x[:1]),
        lambda: evaluate(KEY, tiny.model(), image_set(BYTES[:39])),
    ):
        with pytest.raises(ValueError, match="pass"):
            call()


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, 1j])
def test_numbers_of_another_kind_are_refused(spoilt):
    two, unit, bad = np.ones(2), np.eye(2), np.full(2, spoilt)
    for call in (
        lambda: gaussian_frechet_distance(bad, unit, two, unit),
        lambda: gaussian_frechet_distance(two, unit, two, np.full((2, 2), spoilt)),
        lambda: reverse_kl(bad),
        lambda: total_variation(two, bad),
        lambda: covered_share(bad, 1.0) if spoilt != np.inf else covered_share(two, np.inf),
        lambda: mode_report(np.ones((3, 2)), np.ones((3, 2)), spoilt),
        lambda: memory_report(OTHER, BYTES, OTHER, alpha=spoilt),
        lambda: novelty_report(OTHER, BYTES, OTHER, alpha=spoilt),
    ):
        with pytest.raises(ValueError, match=r"pass|check"):
            call()


def test_what_is_no_covariance_is_refused():
    zero, unit = np.zeros(2), np.eye(2)
    for bad, words in (
        (np.array([[1, 1], [0, 1]]), "not symmetric"),
        (-unit, "an eigenvalue of -1"),
    ):
        with pytest.raises(ValueError, match=f"`covariance_b` .*{words}"):
            gaussian_frechet_distance(zero, unit, zero, bad)


def test_nothing_is_copied_that_need_not_be():
    for x in (BYTES, BYTES / np.float32(255), BYTES / 255, np.ones((4, 3))):
        assert np.shares_memory(together(x=x)[0], x)

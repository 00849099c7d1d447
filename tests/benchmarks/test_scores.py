import numpy as np
import pytest
from scores import Features, frechet_infinite, kernel_of_all, named


def normal(seed, n, d=4, network="a", shift=0.0):
    return Features(np.random.default_rng(seed).normal(size=(n, d)) + shift, network)


def test_the_extrapolated_distance_has_no_bias_where_the_usual_one_has():
    found = [
        frechet_infinite(np.random.default_rng(k), normal(2 * k, 400, 8), normal(2 * k + 1, 400, 8))
        for k in range(12)
    ]
    values, usual = (np.array([getattr(f, name) for f in found]) for name in ("value", "of_all"))
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 4 * error
    assert usual.mean() > 10 * error


def test_the_extrapolated_distance_of_a_shift_is_its_square():
    found = frechet_infinite(np.random.default_rng(0), normal(0, 4000), normal(1, 4000, shift=2.0))
    assert found.value == pytest.approx(16.0, abs=0.5)
    assert found.num_samples == 4000


def test_the_kernel_distance_is_the_mean_over_all_pairs():
    a, b = normal(0, 30), normal(1, 25, shift=0.5)

    def kernel(x, y):
        return (x @ y / 4 + 1) ** 3

    def mean(one, other, same):
        pairs = [
            kernel(x, y)
            for i, x in enumerate(one.values)
            for j, y in enumerate(other.values)
            if not (same and i == j)
        ]
        return np.mean(pairs)

    expected = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert kernel_of_all(a, b) == pytest.approx(expected, rel=1e-10)


def test_features_that_cannot_be_compared_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="`a` holds 15 images, too few for this score; pass at le"):
        frechet_infinite(rng, normal(0, 15), normal(1, 100))
    with pytest.raises(ValueError, match="4 features of network a, `b` 4 of b; extract both with"):
        kernel_of_all(normal(0, 20), normal(1, 20, network="b"))
    with pytest.raises(ValueError, match="4 features of network a, `b` 5 of a"):
        kernel_of_all(normal(0, 20), normal(1, 20, 5))


def test_features_of_the_user_are_named_and_checked(tmp_path, monkeypatch):
    (tmp_path / "own_features.py").write_text(
        "def means(images): return images.mean((1, 2))\ndef wrong(images): return images\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    images = np.random.default_rng(0).random((5, 4, 4, 3))
    found = named("own_features:means")(images)
    assert found.network == "own_features:means"
    np.testing.assert_array_equal(found.values, images.mean((1, 2)))
    for name in ("own_features:none", "no_such_module:means", "own_features", ":x"):
        with pytest.raises(ValueError, match="cannot be imported; pass module:function"):
            named(name)
    with pytest.raises(ValueError, match="return one row an image"):
        named("own_features:wrong")(images)

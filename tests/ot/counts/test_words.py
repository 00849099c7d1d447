import numpy as np
import pytest

from aeot_jax.ot.counts.words import in_words


@pytest.mark.parametrize(
    ("error", "error_se", "upper", "text"),
    [
        (0.0132, 0.00105, None, "0.0132 ± 0.0021"),
        (0.0, 0.14525, None, "at most 0.29"),
        (0.1, 0.06, None, "at most 0.22"),
        (0.0, 0.14525, 0.4, "at most 0.4"),
        (0.0162, 0.001, 0.017, "0.0162 ± 0.002"),
        (0.0162, 0.001, 0.25, "0.0162 ± 0.002, at most 0.25"),
        (0.0162, 0.001, np.inf, "0.0162 ± 0.002, unbounded"),
        (0.0, 0.1, np.inf, "unbounded"),
        (6.5, 0.25, None, "6.5 ± 0.5"),
        (0.0, 0.0, None, "0 ± 0"),
        (np.inf, np.nan, None, "infinite"),
        (np.inf, 0.1, np.inf, "infinite"),
        (np.nan, 0.1, None, "unknown"),
        (0.1, np.inf, None, "unknown"),
    ],
)
def test_an_error_is_written_as_far_as_it_is_known(error, error_se, upper, text):
    assert in_words(error, error_se, upper) == text
    assert in_words(np.float32(error), np.float64(error_se), upper) == text

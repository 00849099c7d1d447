"""Files whose knots of lengths no fit can give."""

import numpy as np
import pytest

from aeot_jax.checkpoints.numbers import check_numbers

KNOTS = np.array([[0, 1, 2], [0, 1, 3]], np.float32)
NAME = "noise/lengths"


# A class without kernels has knots of 0.
@pytest.mark.parametrize("knots", [KNOTS, np.stack([KNOTS, 0 * KNOTS])])
def test_knots_that_ascend_from_0_are_read(knots):
    check_numbers({NAME: knots})


@pytest.mark.parametrize(
    "knots",
    [KNOTS[:, ::-1], -KNOTS, KNOTS + 1, KNOTS[:1], KNOTS[:, :1], np.full_like(KNOTS, np.nan)],
)
def test_other_knots_are_refused(knots):
    with pytest.raises(ValueError, match="'noise/lengths' holds numbers that no fit gives"):
        check_numbers({NAME: knots})

"""Mass errors in words, the same wherever one is printed."""

import math

import numpy as np

from aeot_jax.typing import ArrayLike


def in_words(error: ArrayLike, error_se: ArrayLike, upper: ArrayLike | None = None) -> str:
    """A mass error in words.

    Args:
      error: the estimate.
      error_se: its standard error.
      upper: bound of the error; None is two standard errors above the estimate. Pass one that
        includes what the samples could not see, if there is one.

    Returns:
      "0.0132 ± 0.0021", the estimate and two standard errors; "at most 0.29" if the estimate is
      less than two standard errors; both if the bound is far above the estimate; "unknown" or
      "infinite".
    """
    value, se = float(np.asarray(error)), float(np.asarray(error_se))
    if math.isinf(value):
        return "infinite"
    if not math.isfinite(value + se):
        return "unknown"
    bound = value + 2 * se if upper is None else float(np.asarray(upper))
    most = f"at most {bound:.2g}" if math.isfinite(bound) else "unbounded"
    if value < 2 * se:
        return most
    text = f"{value:.3g} ± {2 * se:.2g}"
    return text if bound <= value + 4 * se else f"{text}, {most}"

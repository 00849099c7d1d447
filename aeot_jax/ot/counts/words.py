"""Mass errors in words, the same wherever one is printed."""

import math

import numpy as np

from aeot_jax.typing import ArrayLike


def in_words(error: ArrayLike, error_se: ArrayLike, upper: ArrayLike | None = None) -> str:
    """A mass error as far as it is known.

    Args:
      error: the estimate.
      error_se: its standard error.
      upper: a bound on the error, if there is a better one than two standard errors above it, for
        instance one that counts what the samples could not see.

    Returns:
      "0.0132 ± 0.0021", within two standard errors; "at most 0.29" where it cannot be told from 0;
      both where the bound is far above the rest; "unknown" or "infinite".
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

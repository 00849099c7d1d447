"""How new the codes of samples are, beside those of data that the model has not seen."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

import aeot_jax as aeot
from aeot_jax.evaluate.trips import checked
from aeot_jax.inputs import columns
from aeot_jax.metrics.comparison import evenly
from aeot_jax.metrics.distances import nearest
from aeot_jax.metrics.newness.novelty import novelty_report
from aeot_jax.metrics.newness.twins import twins
from aeot_jax.model import check_model
from aeot_jax.nn.encode import encode_all
from aeot_jax.typing import ArrayLike, Given

ALPHA = 0.05
"""Share of the unseen codes that counts as near to a training code."""

KEEP_TOGETHER = "Keep near copies together: hold out all of them or none, or fit to one of each."
"""What to do about near copies on both sides of a split."""

_NAMED = 3
"""Most near copies that a sentence names."""

_LEAST = math.ceil(1 / ALPHA)
"""Fewest unseen codes."""

_MOST_UNSEEN = 5000
"""Most unseen data that are encoded."""


def novelty(
    model: Given[aeot.AEOT], new: ArrayLike, unseen: ArrayLike | None = None
) -> dict[str, Any] | None:
    """Compare the nearest training codes of samples and of unseen data.

    Images near to each other have near codes, and codes have no blur: a decoder that makes all
    images soft makes them near to the training images too.

    Args:
      model: the fitted model.
      new: standardised codes of samples (n, z).
      unseen: data that the model was not fitted to, as those that it was fitted to. If there are
        fewer than 20, or None, codes of the training data are left out in their place, one at a
        time.

    Returns:
      The fields of ``metrics.NoveltyReport``, distances in standard deviations of the codes; None
      if the model has too few codes to leave some out.

    Raises:
      ValueError: if the data have another size than the model's, or a code is not finite.
    """
    check_model(model)
    rows = None if unseen is None else checked(model, unseen, "unseen")
    if rows is not None and len(rows) >= _LEAST:
        return novelty_beside(model, new, codes_of(model, evenly(rows, _MOST_UNSEEN)))
    return novelty_beside(model, new, None)


def near_copies(model: Given[aeot.AEOT], unseen: ArrayLike) -> Int[np.ndarray, "k 2"]:
    """Find unseen data whose codes are near copies of a training code, as novelty counts them.

    Args:
      model: the fitted model.
      unseen: data that the model was not fitted to, as for ``novelty``.

    Returns:
      The row of each among the unseen data, and that of its training datum.
    """
    check_model(model)
    rows = checked(model, unseen, "unseen")
    which = evenly(np.arange(len(rows)), _MOST_UNSEEN)
    codes, known = codes_of(model, rows[which]), np.asarray(model.extension.y)
    far, index = nearest(codes, known)
    return np.column_stack([which, index])[twins(codes, known, far).copied]


def such_as(twins: Any) -> str:
    """Some pairs of near copies by name, from metrics.json; empty where it has none."""
    if not isinstance(twins, list) or not all(isinstance(one, list) for one in twins):
        return ""
    some = [" of ".join(map(repr, one)) for one in twins[:_NAMED]]
    return f", such as {', '.join(some)}" if some else ""


def novelty_beside(
    model: aeot.AEOT, new: ArrayLike, codes: Float[np.ndarray, "p z"] | None
) -> dict[str, Any] | None:
    """``novelty`` beside standardised codes of unseen data; None leaves out training codes."""
    known = np.asarray(model.extension.y)
    if codes is not None:
        some = evenly(codes, _MOST_UNSEEN)
        return dataclasses.asdict(novelty_report(new, known, some, alpha=ALPHA))
    if len(known) <= _LEAST:
        return None
    return dataclasses.asdict(novelty_report(new, known, alpha=ALPHA))


def codes_of(model: aeot.AEOT, rows: np.ndarray) -> Float[np.ndarray, "n z"]:
    """Standardised codes of checked images, rows of a table, or raw codes."""
    raw = rows
    if model.image_shape is not None:
        assert model.params is not None  # only models of codes have none
        if model.columns is not None:
            rows = columns.measured(rows, *model.columns)
        if rows.dtype != np.uint8:
            rows = rows.astype(np.float32)
        raw = np.asarray(encode_all(model.params, rows, model.config.autoencoder))
    return columns.measured(raw, model.centre, model.scale).astype(np.float32)

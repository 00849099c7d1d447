"""The state of a training."""

import dataclasses
from typing import Any

import optax

from aeot_jax.nn import models
from aeot_jax.reprs import brief
from aeot_jax.trees import register


@register
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of the training between two epochs.

    Attributes:
      params: parameters of the networks, {"encoder": ..., "decoder": ...}.
      opt_state: state of the optimiser; in the second stage, of the decoder alone.
      epoch: number of finished epochs of both stages, int32.
    """

    params: models.Params
    opt_state: optax.OptState
    epoch: Any

    __repr__ = brief

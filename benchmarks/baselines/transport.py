"""This library behind the same interface: a map onto the data, and its extension."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

import aeot_jax as aeot
from baselines.method import Budget, Fitted, Method, Points, units


def fit(key: Array, data: Points, budget: Budget, settings: Mapping[str, Any]) -> Fitted:
    """Default settings, to their end, whatever the budget; compilation is counted.

    Args:
      key: of the fit.
      data: points.
      budget: not read.
      settings: ``targets``, how many data it uses at most; ``form`` of the extension, if it is not
        the default.
    """
    del budget
    units(data)
    began = time.process_time()
    codes = data[: settings["targets"]]
    own = {name: settings[name] for name in ("form",) if name in settings}
    config = aeot.Config(extension=aeot.ExtensionConfig(**own))
    model = aeot.fit_codes(key, codes, config)

    def sample(key: Array, n: int) -> Points:
        return np.asarray(aeot.sample_codes(key, model, n), np.float32)

    about = {"mass_error": float(model.solution.mass_error), "targets": len(codes)}
    return Fitted(sample, time.process_time() - began, None, about)


AE_OT = Method(fit, {"targets": 10_000})
BLENDING = Method(fit, {"targets": 10_000, "form": "blend"})

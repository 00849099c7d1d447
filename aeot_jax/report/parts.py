"""The records of a report: arrays and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

import aeot_jax as aeot
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.report.verdict import Numbers

Form = Literal["images", "table", "codes"]
"""What a model makes: images, rows of a table, or codes."""


@dataclass(frozen=True, eq=False)
class Material:
    """The input of a report.

    Attributes:
      name: name of the run.
      model: the fitted model.
      train: the images that it was fitted to, if they are available.
      held_out: images of the same kind that it was not fitted to.
      kind: the kind of `held_out`: "test" or "held out".
      absent: a sentence on why the images are not available.
      metrics: content of metrics.json; may be empty.
      config: content of config.json; may be empty.
      evaluation: content of evaluation.json, if there is one.
    """

    name: str
    model: aeot.AEOT
    train: ImageSet | Table | None = None
    held_out: ImageSet | Table | None = None
    kind: str | None = None
    absent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Pairs:
    """Originals and their reconstructions, by increasing error.

    Attributes:
      original: (n, ...), bytes or floats.
      decoded: (n, ...).
      error: mean squared error of each (n,).
      judged: the kind of images: "training", "test" or "held-out".
    """

    original: np.ndarray
    decoded: np.ndarray
    error: Float[np.ndarray, " n"]
    judged: str


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Samples with their nearest training images, and distances.

    Distances are root mean squares over pixels, or columns.

    Attributes:
      sample: the first samples (k, ...).
      neighbour: the training image nearest to each (k, ...).
      of_samples: distance from each new image to the nearest training image (n,).
      of_real: the same for real images, which are not compared with themselves (p,).
      of_decoded: the same for these images, encoded and decoded (p,).
      unseen: whether the real images were held out.
    """

    sample: np.ndarray
    neighbour: np.ndarray
    of_samples: Float[np.ndarray, " n"]
    of_real: Float[np.ndarray, " p"]
    of_decoded: Float[np.ndarray, " p"]
    unseen: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """Counts of fresh samples in the cells.

    Attributes:
      counts: samples in each cell (m,).
      weights: mass that each cell should have (m,).
    """

    counts: Int[np.ndarray, " m"]
    weights: Float[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Cloud:
    """Codes in the plane of their first two principal components.

    Attributes:
      codes: codes of the data (m, 2), or some of them.
      new: codes of samples (n, 2).
      piece: connected piece of each code, without singular faces (m,), the heaviest 0; None if it
        would take too long.
      num_pieces: number of pieces, without very small ones.
      group: index of the class of each code (m,), if it is known.
      explained: share of the variance in this plane.
    """

    codes: Float[np.ndarray, "m 2"]
    new: Float[np.ndarray, "n 2"]
    piece: Int[np.ndarray, " m"] | None
    num_pieces: int | None
    group: Int[np.ndarray, " m"] | None
    explained: float


@dataclass(frozen=True, eq=False)
class OfClass:
    """One class.

    Attributes:
      name: name of the class.
      share: its share of the codes.
      mass_error: certified mass error.
      mass_error_se: its standard error.
      upper: its upper bound.
      converged: whether it is certified to the tolerance.
      samples: some samples (k, ...); None if they are not shown.
    """

    name: str
    share: float
    mass_error: float
    mass_error_se: float
    upper: float
    converged: bool
    samples: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Facts:
    """The content of a report; None for parts that are not available.

    Attributes:
      material: the input.
      form: what the model makes.
      numbers: numbers of the verdict.
      new: samples (n, ...): images as bytes, rows, or codes in the units of the encoder.
      real: real data (n, ...).
      pairs: reconstructions.
      neighbours: nearest training images of samples.
      cells: counts of fresh samples.
      cloud: the codes in a plane.
      walks: walks through the source.
      classes: one entry per class.
    """

    material: Material
    form: Form
    numbers: Numbers
    new: np.ndarray | None
    real: np.ndarray | None
    pairs: Pairs | None
    neighbours: Neighbours | None
    cells: Cells
    cloud: Cloud
    walks: tuple[aeot.Walk, ...]
    classes: tuple[OfClass, ...]


def form_of(model: aeot.AEOT) -> Form:
    """What a model makes."""
    if model.params is None or model.image_shape is None:
        return "codes"
    return "table" if len(model.image_shape) == 1 else "images"


def name_of(model: Any, label: int) -> str:
    """The name of a class, or its number."""
    names = getattr(model, "label_names", None)
    return str(label) if names is None or not 0 <= label < len(names) else str(names[label])

"""What a report shows of a run, in arrays and numbers."""

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
"""What a model makes: pictures, rows of numbers, or codes without any network."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made of.

    Attributes:
      name: of the run.
      model: fitted.
      train: the images that it was fitted to, if they are there.
      held_out: images of the same kind that it was not fitted to.
      kind: "test" or "held out", of the latter.
      absent: why the images are not there, a sentence.
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
    """Originals with what the autoencoder makes of them, by increasing error.

    Attributes:
      original: (n, ...), bytes or floats.
      decoded: (n, ...).
      error: mean squared error of each (n,).
      judged: which images they are, in a word.
    """

    original: np.ndarray
    decoded: np.ndarray
    error: Float[np.ndarray, " n"]
    judged: str


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Samples with their nearest training images, and how far such things are.

    Distances are root mean squares over pixels, or columns.

    Attributes:
      sample: the first samples (k, ...).
      neighbour: the training image nearest to each (k, ...).
      of_samples: distance from each new image to the nearest training image (n,).
      of_real: the same of real images that were not compared with themselves (p,).
      of_decoded: the same of these, encoded and decoded (p,).
      unseen: whether the real ones were held out, or else trained on.
    """

    sample: np.ndarray
    neighbour: np.ndarray
    of_samples: Float[np.ndarray, " n"]
    of_real: Float[np.ndarray, " p"]
    of_decoded: Float[np.ndarray, " p"]
    unseen: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """Counts of a fresh draw in the cells.

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
      codes: of the data (m, 2), or some of them.
      new: of samples (n, 2).
      piece: component of each code when singular faces are cut (m,), the heaviest 0; None where
        that would take too long.
      num_pieces: that are no crumbs.
      group: index of the class of each code (m,), if it is known.
      explained: share of the variance in the plane.
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
      name: of the class.
      share: of all codes.
      mass_error: certified.
      mass_error_se: its standard error.
      upper: its bound.
      converged: whether it is certified to the tolerance.
      samples: some (k, ...); None where they are not shown.
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
    """All that a report shows; None is what there is not.

    Attributes:
      material: what they are of.
      form: what the model makes.
      numbers: for the verdict.
      new: samples (n, ...): images as bytes, rows, or codes in the units they came in.
      real: real ones (n, ...).
      pairs: reconstructions.
      neighbours: of samples.
      cells: of a fresh draw.
      cloud: the codes.
      walks: through the source.
      classes: one each.
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
    """What to call a class."""
    names = getattr(model, "label_names", None)
    return str(label) if names is None or not 0 <= label < len(names) else str(names[label])

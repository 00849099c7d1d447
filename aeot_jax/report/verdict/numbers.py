"""What the verdict judges by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Numbers:
    """The numbers of the verdict; None means not measured.

    Attributes:
      converged: whether the transport is certified to its tolerance.
      status: why the solver stopped, in a sentence.
      mass_error: certified, with its standard error and its bound:
      mass_error_se: see above.
      upper: see above.
      tolerance: the requested mass error, or None.
      num_empty: cells without a sample of the certificate.
      expected_empty: expected number of such cells for exact masses.
      num_cells: cells in all.
      num_learned: images that were learned, unless they are a known data set, which is to be tried.
      num_classes: number of classes; 0 without labels.
      classes_short: names of the classes that are not certified.
      error: mean squared error of the reconstructions, of held-out images if there are any.
      error_of_mean: mean squared error of the mean image.
      error_train: the error of training images, if `error` is of others.
      judged: the images of `error`: "test", "held-out" or "training".
      learned: whether `error` is clearly below `error_of_mean`.
      detail: share of the fine detail of these images that decoded ones have, as
        `report.trips.kept_detail` measures it.
      epochs: number of epochs of both networks; 0 without an autoencoder.
      falling: relative decrease of the loss in the last tenth of the epochs.
      share_rejected: share of the candidates in the singular set.
      share_copied: share of the accepted candidates that are codes of the data, without blending.
      near: share of new images nearer to a training image than the `alpha`-quantile of decoded
        real images.
      near_se: its standard error, if new images were like real ones.
      alpha: see `near`.
      codes_near: the same share of new codes, beside unseen codes.
      codes_near_se: its standard error.
      codes_repeated: share of the unseen codes that equal a training code.
      codes_twins: share of the unseen codes that are near copies of a training code.
      codes_nearer: chance that a new code is nearer to a training code than an unseen one is.
      identical: number of new images that equal a training image.
      frechet: Fréchet distance.
      frechet_floor: its floor, the score of real images.
      parts: precision, recall and coverage, over the scores of real images.
      compared: images in each set that was scored.
      evaluated: whether `aeot-jax evaluate` has been run.
      data_gone: why the images are not available.
      things: what the data are: "images", "rows" or "codes".
    """

    converged: bool
    status: str
    mass_error: float
    mass_error_se: float
    upper: float
    tolerance: float | None
    num_empty: int = 0
    expected_empty: float = 0.0
    num_cells: int = 0
    num_learned: int | None = None
    num_classes: int = 0
    classes_short: tuple[str, ...] = ()
    error: float | None = None
    error_of_mean: float | None = None
    error_train: float | None = None
    judged: str | None = None
    learned: bool | None = None
    detail: float | None = None
    epochs: int = 0
    falling: float | None = None
    share_rejected: float | None = None
    share_copied: float | None = None
    near: float | None = None
    near_se: float = 0.0
    alpha: float = 0.05
    codes_near: float | None = None
    codes_near_se: float = 0.0
    codes_repeated: float = 0.0
    codes_twins: float = 0.0
    codes_nearer: float = 0.5
    identical: int = 0
    frechet: float | None = None
    frechet_floor: float | None = None
    parts: dict[str, float] | None = None
    compared: int | None = None
    evaluated: bool = False
    data_gone: str | None = None
    things: str = "images"

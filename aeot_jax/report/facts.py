"""What a report tells of a run: arrays and numbers, computed once, before anything is drawn.

All is computed by this process alone, on a budget: of large sets a part is taken, and what would
take longer than a few seconds is left out.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

import aeot_jax as aeot
from aeot_jax import measures
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.evaluate import mean_image
from aeot_jax.metrics.distances import nearest
from aeot_jax.ot import problem
from aeot_jax.ot.singular import Extension
from aeot_jax.report.verdict import Numbers
from aeot_jax.typing import PRNGKey

Form = Literal["images", "table", "codes"]
"""What a model makes: pictures, rows of numbers, or codes without any network."""

_WORK = 2e10
"""Multiplications and additions that one part may take: a second or two on two cores."""

_BATCH = 512
"""Rows encoded or decoded at once; one shape is compiled, which `fit` has used before."""

SHOWN = 30
"""Samples shown, and real ones beside them."""

_WORST = 6
"""Pairs shown of each kind: best, middle, worst."""

_COMPARED = 10
"""Samples shown with their nearest training images."""

PER_CLASS, MOST_CLASSES = 6, 12
"""Samples of a class, and classes shown at most."""

_DOTS = 3000
"""Codes drawn at most."""

_FRAMES = 7
"""Frames of a walk."""

_DRAWS = 4096
"""Points of the source drawn at once; one shape is compiled."""

_SCORES = 2**22
"""Scores that NumPy holds at once."""

_SMALL = 2**22
"""Numbers of training data that are compared in float64 on the host, where nothing is compiled."""

_HITS = 100
"""Samples a cell that are drawn to look at masses, at most."""

_LEAST = 20
"""Images without which a quantile says nothing."""

_ALPHA = 0.05
"""Share of real images that counts as near."""


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


def gather(key: PRNGKey, material: Material) -> Facts:
    """Compute what a report shows.

    Args:
      key: consumed.
      material: of the run.
    """
    model, form = material.model, form_of(material.model)
    keys = jax.random.split(key, 5)
    codes, share_rejected, share_copied = _drawn(keys[0], model.extension, _BATCH)
    new = _made(model, form, codes) if len(codes) else None
    train = _train(material, form)
    unseen = _unseen(material, form)
    pairs = None if form == "codes" or train is None else _pairs(model, train, unseen, material)
    neighbours, shown = None, SHOWN if form == "images" else _BATCH
    if new is not None and train is not None and form != "codes":  # of codes some are meant to be
        neighbours = _neighbours(model, form, new, train, unseen)
    classes = _classes(keys[1], model, form)
    measured = _measured(material, pairs, neighbours, classes)
    return Facts(
        material=material,
        form=form,
        numbers=dataclasses.replace(
            measured, share_rejected=share_rejected, share_copied=share_copied
        ),
        new=new,
        real=None if train is None else _evenly(train if unseen is None else unseen, shown),
        pairs=pairs,
        neighbours=neighbours,
        cells=_cells(keys[2], model.extension),
        cloud=_cloud(keys[3], material, codes),
        walks=_walks(keys[4], model) if form == "images" else (),
        classes=classes,
    )


def form_of(model: aeot.AEOT) -> Form:
    """What a model makes."""
    if model.params is None or model.image_shape is None:
        return "codes"
    return "table" if len(model.image_shape) == 1 else "images"


def _in_batches(function: Callable[[np.ndarray], Any], rows: np.ndarray) -> np.ndarray:
    """Apply a function to rows, always as many at once; the last are repeated to fill up."""
    parts = []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        fill = np.repeat(part[-1:], _BATCH - len(part), axis=0)
        parts.append(np.asarray(function(np.concatenate([part, fill])))[: len(part)])
    return np.concatenate(parts)


def _drawn(
    key: PRNGKey, ext: Extension, n: int
) -> tuple[Float[np.ndarray, "k d"], float, float | None]:
    """Up to n accepted codes of 2n candidates, the share rejected, and that of plain codes."""
    z, accepted, info = aeot.generate(key, ext, 2 * n, parallel="none")
    keep = np.flatnonzero(np.asarray(accepted))
    copied = (np.asarray(info.num_blended)[keep] == 1).mean() if len(keep) else None
    rejected = 1 - len(keep) / (2 * n)
    return np.asarray(z)[keep[:n]], rejected, None if copied is None else float(copied)


def _made(model: aeot.AEOT, form: Form, codes: np.ndarray) -> np.ndarray:
    """What codes stand for, as the data has it."""
    if form == "codes":
        return _plain(model, codes)
    made = _in_batches(lambda z: aeot.decode(model, z), codes)
    return _bytes(made) if form == "images" else made


def _plain(model: aeot.AEOT, codes: np.ndarray) -> np.ndarray:
    return codes * np.asarray(model.scale)[None, :] + np.asarray(model.centre)[None, :]


def _bytes(images: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _train(material: Material, form: Form) -> np.ndarray | None:
    if form == "codes":  # they are in the model
        return _plain(material.model, np.asarray(material.model.extension.y))
    return None if material.train is None else np.asarray(material.train.values)


def _unseen(material: Material, form: Form) -> np.ndarray | None:
    held_out = material.held_out
    return None if form == "codes" or held_out is None else np.asarray(held_out.values)


def _evenly(x: np.ndarray, n: int) -> np.ndarray:
    """At most n rows, evenly spaced: files are often sorted by class."""
    return x[np.linspace(0, len(x) - 1, min(n, len(x))).round().astype(int)]


def _round_trip(model: aeot.AEOT, rows: np.ndarray) -> np.ndarray:
    return _in_batches(lambda x: aeot.decode(model, aeot.encode(model, x)), rows)


def _unit(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) / 255 if x.dtype == np.uint8 else x.astype(np.float64)


def _errors(model: aeot.AEOT, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows encoded and decoded, and the mean squared error of each."""
    decoded = _round_trip(model, rows)
    difference = (_unit(decoded) - _unit(rows)).reshape(len(rows), -1)
    return decoded, (difference**2).mean(axis=1)


def _pairs(
    model: aeot.AEOT, train: np.ndarray, unseen: np.ndarray | None, material: Material
) -> Pairs:
    rows = _evenly(train if unseen is None else unseen, _BATCH)
    decoded, error = _errors(model, rows)
    order = np.argsort(error, kind="stable")
    judged = "training" if unseen is None else str(material.kind or "unseen").replace(" ", "-")
    return Pairs(rows[order], decoded[order], error[order], judged)


def three_kinds(n: int) -> dict[str, slice]:
    """Which of n pairs by increasing error are shown: the best, the middle, the worst."""
    k = min(_WORST, max(1, n // 3))
    middle = max(k, n // 2 - k // 2)
    kinds = {"best": slice(0, k), "middle": slice(middle, middle + k), "worst": slice(n - k, n)}
    return kinds if n >= 3 else {"best": slice(0, n)}


def _neighbours(
    model: aeot.AEOT,
    form: Form,
    new: np.ndarray,
    train: np.ndarray,
    unseen: np.ndarray | None,
) -> Neighbours | None:
    """Compare new with real ones; decoded real ones too, which are as blurred as new ones are."""
    most = max(2 * _LEAST, int(_WORK / train.size))
    if unseen is not None and len(unseen) >= _LEAST:
        real, rest = _evenly(unseen, min(_BATCH, most)), train
    else:
        step = max(5, len(train) // min(_BATCH, most))
        aside = np.arange(len(train)) % step == 0
        real, rest = train[aside][:_BATCH], train[~aside]
    if len(real) < _LEAST:
        return None
    decoded = _round_trip(model, real)
    if form == "images":
        decoded = _bytes(decoded)
    scale = 1.0 if form == "images" else np.maximum(_unit(train).std(axis=0), 1e-12)[None, :]
    new = new[:most]
    # One unit for all columns of a table; pixels have one.
    measured = [x if form == "images" else x / scale for x in (new, decoded, real, rest, train)]
    if train.size <= _SMALL:
        measured = [_unit(x) for x in measured]
    far, _ = nearest(np.concatenate(measured[1:3]), measured[3])
    near, index = nearest(measured[0], measured[4])
    side = np.sqrt(np.prod(train.shape[1:]))
    return Neighbours(
        sample=new[:_COMPARED],
        neighbour=train[index[:_COMPARED]],
        of_samples=near / side,
        of_real=far[len(real) :] / side,
        of_decoded=far[: len(real)] / side,
        unseen=rest is train,
    )


def _cells(key: PRNGKey, ext: Extension) -> Cells:
    """Count by NumPy, which compiles nothing."""
    y = np.asarray(ext.y, np.float32)
    m, d = y.shape
    planes = np.concatenate([y, np.asarray(ext.h, np.float32)[:, None]], axis=1).T
    draws = int(np.clip(_WORK / (m * d), _DRAWS, max(_DRAWS, _HITS * m))) // _DRAWS
    counts = np.zeros(m, np.int64)
    step = max(1, _SCORES // m)
    for i in range(draws):
        x = np.asarray(measures.draw(jax.random.fold_in(key, i), ext.mu, _DRAWS))
        x = np.concatenate([x, np.ones((_DRAWS, 1), np.float32)], axis=1)
        for start in range(0, _DRAWS, step):
            index = (x[start : start + step] @ planes).argmax(axis=1)
            counts += np.bincount(index, minlength=m)
    same = problem.representatives(y)
    weights = np.full(m, 1 / m) if same is None else np.bincount(same, minlength=m) / m
    return Cells(counts, weights)


def _cloud(key: PRNGKey, material: Material, new: np.ndarray) -> Cloud:
    ext = material.model.extension
    y = np.asarray(ext.y, np.float64)
    m, d = y.shape
    piece = num_pieces = None
    if 16 * m * m * d <= _WORK and m > 1:
        seen = aeot.singular_set(key, ext)
        piece, num_pieces = seen.component, seen.num_pieces
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(y.T)))
    axes = vectors[:, ::-1][:, :2]
    centre = y.mean(axis=0)[None, :]
    labels = None if material.train is None else material.train.labels
    if labels is not None and len(labels) != m:
        labels = None
    some = np.linspace(0, m - 1, min(m, _DOTS)).round().astype(int)

    def flat(z: np.ndarray) -> np.ndarray:
        points = (z - centre) @ axes
        return points if d > 1 else np.column_stack([points, np.zeros(len(points))])

    return Cloud(
        codes=flat(y[some]),
        new=flat(np.asarray(new, np.float64)),
        piece=None if piece is None else piece[some],
        num_pieces=num_pieces,
        group=None if labels is None else np.unique(labels, return_inverse=True)[1][some],
        explained=float(values[::-1][:2].sum() / values.sum()),
    )


def _walks(key: PRNGKey, model: aeot.AEOT) -> tuple[aeot.Walk, ...]:
    """From a point of the source to one that goes far from it, and to one that stays near."""
    ext = model.extension
    if len(ext.y) < 3:
        return ()
    x, y = np.asarray(measures.draw(key, ext.mu, _DRAWS))[:64], np.asarray(ext.y)
    scores = x @ y.T + np.asarray(ext.h)[None]
    highest = np.partition(scores, -2, axis=1)[:, -2:]
    deep = np.argsort(highest[:, 0] - highest[:, 1], kind="stable")[:32]  # inside of their cells
    x, codes = x[deep], y[scores[deep].argmax(axis=1)]
    distance = np.linalg.norm(codes - codes[:1], axis=1)
    if not distance.any():
        return ()
    ends = distance.argmax(), np.where(distance > 0, distance, np.inf).argmin()
    return tuple(aeot.interpolate(model, x[0], x[end], _FRAMES) for end in ends)


def _classes(key: PRNGKey, model: aeot.AEOT, form: Form) -> tuple[OfClass, ...]:
    if model.classes is None:
        return ()
    labels = np.asarray(model.classes.labels)
    drawn: list[np.ndarray] = []
    if form == "images":
        for i, label in enumerate(labels[:MOST_CLASSES]):
            ext = _filled(model.classes.of(int(label)), model.extension)
            codes, _, _ = _drawn(jax.random.fold_in(key, i), ext, _BATCH)
            drawn.append(codes[:PER_CLASS])
    made = list[np.ndarray | None]()
    if drawn:
        images = _made(model, form, np.concatenate(drawn)) if sum(map(len, drawn)) else None
        ends = np.cumsum([len(codes) for codes in drawn])
        if images is not None:
            made = [part if len(part) else None for part in np.split(images, ends[:-1])]
    certificate = model.classes.solution.certificate
    columns = {
        "share": model.classes.shares,
        "mass_error": certificate.mass_error,
        "mass_error_se": certificate.mass_error_se,
        "upper": certificate.upper,
        "converged": model.classes.solution.converged,
    }
    rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    made += [None] * (len(labels) - len(made))
    return tuple(
        OfClass(name_of(model, int(label)), samples=samples, **dict(zip(columns, row, strict=True)))
        for label, row, samples in zip(labels, rows, made, strict=True)
    )


def _filled(ext: Extension, like: Extension) -> Extension:
    """The map of a class in arrays of the size of another, for which all is compiled."""
    more = len(like.y) - len(ext.y)
    more_angles = len(like.neighbour_angles) - len(ext.neighbour_angles)
    if more < 0 or more_angles < 0:
        return ext
    return dataclasses.replace(
        ext,
        y=jnp.pad(ext.y, ((0, more), (0, 0))),
        h=jnp.pad(ext.h, (0, more), constant_values=-jnp.inf),  # these own no cell
        neighbour_angles=jnp.pad(ext.neighbour_angles, (0, more_angles), constant_values=jnp.nan),
    )


def name_of(model: Any, label: int) -> str:
    """What to call a class."""
    names = getattr(model, "label_names", None)
    return str(label) if names is None or not 0 <= label < len(names) else str(names[label])


def _measured(
    material: Material,
    pairs: Pairs | None,
    neighbours: Neighbours | None,
    classes: tuple[OfClass, ...],
) -> Numbers:
    """The numbers of the verdict, all but those of the draw."""
    model = material.model
    solution, certificate = model.solution, model.solution.certificate
    losses = _losses(model)
    numbers = Numbers(
        converged=bool(solution.converged),
        status=aeot.message(solution),
        mass_error=float(solution.mass_error),
        mass_error_se=float(solution.mass_error_se),
        upper=float(certificate.upper),
        tolerance=model.config.solver.tolerance,
        num_empty=int(certificate.num_empty),
        expected_empty=float(certificate.expected_empty),
        num_classes=len(classes),
        classes_short=tuple(one.name for one in classes if not one.converged),
        epochs=len(losses),
        falling=_falling(losses),
        data_gone=material.absent,
        things={"images": "images", "table": "rows", "codes": "codes"}[form_of(model)],
        **_evaluated(material.evaluation),
    )
    if pairs is not None and material.train is not None:
        numbers = dataclasses.replace(numbers, **_reconstructed(material, pairs))
    if neighbours is not None:
        numbers = dataclasses.replace(numbers, **_nearness(neighbours))
    return numbers


def _losses(model: aeot.AEOT) -> np.ndarray:
    losses = getattr(model, "losses", None)
    return np.zeros(0) if losses is None else np.asarray(losses, np.float64)


def _falling(losses: np.ndarray) -> float | None:
    k = max(1, len(losses) // 10)
    if len(losses) < 5:
        return None
    before, after = losses[-2 * k : -k].mean(), losses[-k:].mean()
    return float((before - after) / before) if before > 0 else None


def _reconstructed(material: Material, pairs: Pairs) -> dict[str, Any]:
    """How well rows survive; as `fit` measured it on all of them, where it did."""
    assert material.train is not None
    train = np.asarray(material.train.values)
    error = float(pairs.error.mean())
    of_mean = float(((_unit(pairs.original) - _mean(train)[None]) ** 2).mean())
    found = {"mse": error, "variance": of_mean, "learned": error <= 0.95 * of_mean}
    measured = material.metrics.get("reconstruction")
    if isinstance(measured, dict) and set(found) <= set(measured):
        found = measured
    of_train = None
    if pairs.judged != "training":
        of_train = float(_errors(material.model, _evenly(train, _BATCH))[1].mean())
    return {
        "error": found["mse"],
        "error_of_mean": found["variance"],
        "error_train": of_train,
        "judged": pairs.judged,
        "learned": bool(found["learned"]),
    }


def _mean(rows: np.ndarray) -> np.ndarray:
    return mean_image(rows) if rows.ndim == 4 else rows.mean(axis=0, dtype=np.float64)


def _nearness(found: Neighbours) -> dict[str, Any]:
    """How many samples are nearer than the nearest real ones; see `metrics.memory`."""
    near, far = found.of_samples, found.of_decoded
    # The next distance of the same law is below this with probability alpha.
    cutoff = float(np.quantile(far, _ALPHA, method="weibull"))
    return {
        "near": float((near <= cutoff).mean()),
        "near_se": float(np.sqrt(_ALPHA * (1 - _ALPHA) * (1 / len(near) + 1 / len(far)))),
        "alpha": _ALPHA,
        "identical": int((near == 0).sum()),
    }


def _evaluated(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `aeot-jax evaluate` found."""
    if not evaluation:
        return {}
    found: dict[str, Any] = {"evaluated": True}
    frechet = evaluation.get("frechet")
    if isinstance(frechet, dict):
        floor = frechet.get("floor_test")
        floor = frechet.get("floor_train") if floor is None else floor
        found |= {"frechet": frechet.get("distance"), "frechet_floor": floor}
    scores = evaluation.get("prdc")
    floors = scores.get("floor") if isinstance(scores, dict) else None
    if isinstance(scores, dict) and isinstance(floors, dict):
        names = ("precision", "recall", "coverage")
        found["parts"] = {
            name: scores[name] / floors[name]
            for name in names
            if scores.get(name) is not None and floors.get(name)
        }
    return found

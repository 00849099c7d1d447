"""The arrays and numbers of a report, computed before anything is drawn.

This process computes them alone, on a budget: large sets are subsampled, and parts that would take
more than a few seconds are left out.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import aeot_jax as aeot
from aeot_jax import measures
from aeot_jax.drawing import rejects
from aeot_jax.metrics.comparison import evenly
from aeot_jax.metrics.distances import nearest
from aeot_jax.ot import merging
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.plot.clouds import upright
from aeot_jax.report.numbers import measured
from aeot_jax.report.parts import (
    Cells,
    Cloud,
    Facts,
    Form,
    Material,
    Neighbours,
    OfClass,
    Pairs,
    form_of,
    name_of,
)
from aeot_jax.report.trips import BATCH, errors, in_batches, round_trip, unit
from aeot_jax.typing import PRNGKey

_WORK = 2e10
"""Most floating-point operations of one part: a second or two on two cores."""

SHOWN = 30
"""Number of samples shown, and of real images beside them."""

_WORST = 6
"""Pairs shown of each kind: best, middle, worst."""

_COMPARED = 10
"""Number of samples shown with their nearest training images."""

PER_CLASS, MOST_CLASSES = 6, 12
"""Samples shown per class, and most classes shown."""

_DOTS = 3000
"""Most codes drawn."""

_FRAMES = 7
"""Number of frames in a walk."""

_DRAWS = 4096
"""Samples of the source drawn at once; one shape is compiled."""

_SCORES = 2**22
"""Most scores in memory at once."""

_SMALL = 2**22
"""Up to this many numbers, training data are compared in float64 on the host, without compiling."""

_HITS = 100
"""Most samples per cell to estimate masses."""

_LEAST = 20
"""Fewest images for a quantile."""


def gather(key: PRNGKey, material: Material) -> Facts:
    """Compute what a report shows.

    Args:
      key: consumed.
      material: the run.
    """
    model, form = material.model, form_of(material.model)
    keys = jax.random.split(key, 5)
    codes, share_rejected, share_copied = _drawn(keys[0], model.extension, BATCH)
    new = _made(model, form, codes) if len(codes) else None
    train = _train(material, form)
    unseen = _unseen(material, form)
    pairs = None if form == "codes" or train is None else _pairs(model, train, unseen, material)
    neighbours, shown = None, SHOWN if form == "images" else BATCH
    if new is not None and train is not None and form != "codes":  # new codes may be copies
        neighbours = _neighbours(model, form, new, train, unseen)
    classes = _classes(keys[1], model, form)
    found = measured(material, pairs, neighbours, classes)
    return Facts(
        material=material,
        form=form,
        numbers=dataclasses.replace(
            found, share_rejected=share_rejected, share_copied=share_copied
        ),
        new=new,
        real=None if train is None else evenly(train if unseen is None else unseen, shown),
        pairs=pairs,
        neighbours=neighbours,
        cells=_cells(keys[2], model.extension),
        cloud=_cloud(keys[3], material, codes),
        walks=_walks(keys[4], model) if form == "images" else (),
        classes=classes,
    )


def _drawn(
    key: PRNGKey, ext: Extension, n: int
) -> tuple[Float[np.ndarray, "k d"], float, float | None]:
    """Up to n codes of 2n candidates, the share rejected, and the share of copies."""
    z, accepted, info = aeot.generate(key, ext, 2 * n, parallel="none")
    keep = np.flatnonzero(accepted) if rejects(ext) else np.arange(2 * n)
    copied = (np.asarray(info.num_blended)[keep] == 1).mean() if len(keep) else None
    rejected = 1 - len(keep) / (2 * n)
    return np.asarray(z)[keep[:n]], rejected, None if copied is None else float(copied)


def _made(model: aeot.AEOT, form: Form, codes: np.ndarray) -> np.ndarray:
    """Decode codes to the form of the data."""
    if form == "codes":
        return _plain(model, codes)
    made = in_batches(lambda z: aeot.decode(model, z), codes)
    return _bytes(made) if form == "images" else made


def _plain(model: aeot.AEOT, codes: np.ndarray) -> np.ndarray:
    return codes * np.asarray(model.scale)[None, :] + np.asarray(model.centre)[None, :]


def _bytes(images: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _train(material: Material, form: Form) -> np.ndarray | None:
    if form == "codes":  # the model holds them
        return _plain(material.model, np.asarray(material.model.extension.y))
    return None if material.train is None else np.asarray(material.train.values)


def _unseen(material: Material, form: Form) -> np.ndarray | None:
    held_out = material.held_out
    return None if form == "codes" or held_out is None else np.asarray(held_out.values)


def _pairs(
    model: aeot.AEOT, train: np.ndarray, unseen: np.ndarray | None, material: Material
) -> Pairs:
    rows = evenly(train if unseen is None else unseen, BATCH)
    decoded, error = errors(model, rows)
    order = np.argsort(error, kind="stable")
    judged = "training" if unseen is None else str(material.kind or "unseen").replace(" ", "-")
    return Pairs(rows[order], decoded[order], error[order], judged)


def three_kinds(n: int) -> dict[str, slice]:
    """Slices of n pairs, sorted by error, that are shown: best, middle, worst."""
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
    """Distances to the nearest training image, of new, real, and decoded real images."""
    most = max(2 * _LEAST, int(_WORK / train.size))
    if unseen is not None and len(unseen) >= _LEAST:
        real, rest = evenly(unseen, min(BATCH, most)), train
    else:
        step = max(5, len(train) // min(BATCH, most))
        aside = np.arange(len(train)) % step == 0
        real, rest = train[aside][:BATCH], train[~aside]
    if len(real) < _LEAST:
        return None
    decoded = round_trip(model, real)
    if form == "images":
        decoded = _bytes(decoded)
    new = new[:most]
    sets = [new, decoded, real, rest, train]
    if form == "table" or train.size <= _SMALL:  # one unit for all columns, as for pixels
        sets = [unit(model, x) for x in sets]
    far, _ = nearest(np.concatenate(sets[1:3]), sets[3])
    near, index = nearest(sets[0], sets[4])
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
    """Count samples per cell with NumPy, without compiling."""
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
    same = merging.representatives(y)
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
    axes = upright(vectors[:, ::-1][:, :2])
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
    """Two walks from a point of the source: to one with a far code, and to one with a near code."""
    ext = model.extension
    if len(ext.y) < 3:
        return ()
    x, y = np.asarray(measures.draw(key, ext.mu, _DRAWS))[:64], np.asarray(ext.y)
    scores = x @ y.T + np.asarray(ext.h)[None]
    highest = np.partition(scores, -2, axis=1)[:, -2:]
    deep = np.argsort(highest[:, 0] - highest[:, 1], kind="stable")[:32]  # far from faces
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
            codes, _, _ = _drawn(jax.random.fold_in(key, i), ext, BATCH)
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
    """Pad the map of a class to the size of another map, so that nothing compiles again.

    Not a map with kernels, of which the other has more: maps of classes are of one size.
    """
    more = len(like.y) - len(ext.y)
    more_angles = len(like.neighbour_angles) - len(ext.neighbour_angles)
    if more < 0 or more_angles < 0 or ext.noise is not None:
        return ext
    return dataclasses.replace(
        ext,
        y=jnp.pad(ext.y, ((0, more), (0, 0))),
        h=jnp.pad(ext.h, (0, more), constant_values=-jnp.inf),  # no cell
        neighbour_angles=jnp.pad(ext.neighbour_angles, (0, more_angles), constant_values=jnp.nan),
    )

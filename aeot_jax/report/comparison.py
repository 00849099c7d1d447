"""The comparison of several runs: one table, for the terminal and for a page."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from aeot_jax.ot.counts.words import in_words
from aeot_jax.report import figures, page
from aeot_jax.report.picture import Picture, photograph
from aeot_jax.report.tables import Table, number

Better = Literal["lower", "higher", ""]

Interval = tuple[float, float]
"""An interval that holds a number, from its standard error."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One run.

    Attributes:
      name: name of the run.
      metrics: content of metrics.json.
      config: content of config.json; may be empty.
      evaluation: content of evaluation.json; may be empty.
      losses: mean loss of each epoch (e,); may be empty.
      samples: the bytes of samples.png, if it exists.
    """

    name: str
    metrics: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    losses: Float[np.ndarray, " e"] = field(default_factory=lambda: np.zeros(0))
    samples: bytes | None = None


def compare(entries: Sequence[Entry]) -> tuple[Table, tuple[str, ...]]:
    """Compare runs, and say which scores are not comparable.

    Args:
      entries: the runs.

    Returns:
      The table, with one column per run, and remarks.
    """
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    same = len({_at(entry.metrics, "data", "sha256") for entry in entries}) == 1
    for row in _Rows(entries):
        if all(text in ("", "-") for text in row.texts):
            continue
        if row.better and (same or not row.of_data):
            i = _best(row.intervals, row.better)
            best |= set() if i is None else {(len(rows), 1 + i)}
        rows.append((row.label, *row.texts))
    said = []
    if not same:
        said.append(
            "The runs learned from different data: errors and scores are not comparable, and the "
            "best of them are not marked."
        )
    if any(not entry.evaluation for entry in entries):
        missing = ", ".join(entry.name for entry in entries if not entry.evaluation)
        said.append(f"Scores are missing of {missing}: run aeot-jax evaluate on each.")
    caption = (
        "The best of a row is set in bold, where the runs can be compared and it is clear of all "
        "others: by two standard errors, where the number has one; by a tenth, for seconds and "
        "memory."
    )
    head = ("", *(entry.name for entry in entries))
    return Table(caption, head, tuple(rows), frozenset(best)), tuple(said)


def write_comparison(entries: Sequence[Entry], path: str | os.PathLike[str]) -> Path:
    """Write the page of a comparison, atomically.

    Args:
      entries: the runs.
      path: the file.

    Returns:
      The path.

    Raises:
      ImportError: if jinja2 or matplotlib is missing.
      OSError: if the page cannot be written.
    """
    table, texts = compare(entries)
    text = page.fill(
        "comparison.html",
        title=f"{len(entries)} runs compared",
        subtitle=", ".join(entry.name for entry in entries),
        texts=texts,
        rows=table,
        pictures=list(_pictures(entries)),
    )
    return page.save(text, path)


def _at(tree: Mapping[str, Any], *names: str) -> Any:
    """A value in nested dicts; None if there is none."""
    value: Any = tree
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


class _Row(NamedTuple):
    """A row of the table.

    Attributes:
      label: label of the row.
      intervals: interval of each run's number; None if there is none.
      texts: the number of each run, as text.
      better: which direction is better.
      of_data: whether the number depends on the data.
    """

    label: str
    intervals: Sequence[Interval | None]
    texts: Sequence[str]
    better: Better = ""
    of_data: bool = True


def _best(intervals: Sequence[Interval | None], better: Better) -> int | None:
    """The index of the number that is clearly better than all others, if there is one."""
    known = {i: one for i, one in enumerate(intervals) if one is not None}
    if len(known) < 2:
        return None
    if better == "higher":
        known = {i: (-high, -low) for i, (low, high) in known.items()}
    first = min(known, key=lambda i: known[i][1])
    clear = all(known[first][1] < low for i, (low, _) in known.items() if i != first)
    return first if clear else None


def _alone(value: float) -> Interval:
    """The interval of a number that is exact, or whose error is not known."""
    return value, value


def _give_or_take(value: float, error: Any) -> Interval:
    """Two standard errors to each side; 0 if the error is not known."""
    error = error if isinstance(error, int | float) and math.isfinite(error) else 0.0
    return value - 2 * error, value + 2 * error


def _took(entry: Entry, value: float) -> Interval | None:
    """A cost may be a tenth larger in another run; None for a resumed run: its total is unknown."""
    return None if entry.metrics.get("resumed") else (value, 1.1 * value)


def _share(value: float, count: Any) -> Interval:
    """The interval of a share of `count` items."""
    if not isinstance(count, int) or count < 1:
        return _alone(value)
    return _give_or_take(value, math.sqrt(max(0.0, value * (1 - value)) / count))


@dataclass(frozen=True)
class _Rows:
    """The rows of the table: a label, and the number of each run with its interval."""

    entries: Sequence[Entry]

    def row(
        self,
        label: str,
        get: Callable[[Entry], Any],
        show: Callable[[Any], str] = str,
        better: Better = "",
        *,
        of_data: bool = True,
        interval: Callable[[Entry, float], Interval | None] = lambda _, value: _alone(value),
    ) -> _Row:
        values = [get(entry) for entry in self.entries]
        texts = ["-" if value is None else show(value) for value in values]
        intervals = [
            interval(entry, float(value)) if isinstance(value, int | float) else None
            for entry, value in zip(self.entries, values, strict=True)
        ]
        name = f"{label} ({better})" if better else label
        return _Row(name, intervals, texts, better, of_data)

    def __iter__(self) -> Iterator[_Row]:
        """All rows: options, quality, scores, costs."""
        yield from self._asked()
        yield from self._learned()
        yield from self._scores()
        yield from self._costs()

    def _asked(self) -> Iterator[_Row]:
        yield self.row("data", _metric("data", "name"))
        yield self.row("learned from", _metric("data", "num_images"), "{:,}".format)
        for name in _differing([_at(entry.config, "config") for entry in self.entries]):
            yield self.row(f"--{name.replace('_', '-')}", _option(name))
        yield self.row("seed", _metric("seed"))

    def _learned(self) -> Iterator[_Row]:
        yield _mass_error(self.entries)
        yield self.row("converged", _metric("converged"), lambda value: "yes" if value else "no")
        yield self.row("classes certified", _certified)
        judged = {_at(entry.metrics, "reconstruction", "images") for entry in self.entries}
        mse = _metric("reconstruction_mse")
        error = self.row("reconstruction error", mse, "{:.4f}".format, "lower")
        yield error if len(judged) == 1 else error._replace(better="")
        yield self.row("images judged", _metric("reconstruction", "images"))
        yield self.row("mean image's error", _metric("mean_image_error"), "{:.4f}".format)
        drawn = _of_share(_metric("rejection", "candidates"))
        share = _metric("share_rejected")
        yield self.row("rejected", share, _percent, "lower", of_data=False, interval=drawn)

    def _scores(self) -> Iterator[_Row]:
        yield self.row("Fréchet distance", _score("frechet", "distance"), number, "lower")
        yield self.row("its floor, training", _score("frechet", "floor_train"), number)
        yield self.row("its floor, unseen", _score("frechet", "floor_test"), number)
        kernel = _of_error(_score("kernel", "standard_error"))
        value = _score("kernel", "value")
        show = "{:.4f}".format
        yield self.row("kernel distance", value, show, "lower", interval=kernel)
        compared = _of_share(_score("frechet", "num_samples"))
        for name in ("precision", "recall", "coverage"):
            yield self.row(name, _score("prdc", name), number, "higher", interval=compared)
        yield self.row("density", _score("prdc", "density"), number, "higher")
        near = _of_error(_score("memory", "standard_error"))
        nearer = _score("memory", "share_nearer")
        yield self.row("memory", nearer, number, "lower", interval=near)

    def _costs(self) -> Iterator[_Row]:
        cost = {"better": "lower", "of_data": False, "interval": _took}
        seconds = self.row("seconds", _metric("seconds"), "{:.1f}".format, **cost)
        resumed = [entry.metrics.get("resumed") for entry in self.entries]
        since = [", since resumed" if one else "" for one in resumed]
        yield seconds._replace(texts=[a + b for a, b in zip(seconds.texts, since, strict=True)])
        yield self.row("peak MiB", _metric("peak_memory_mib"), "{:,.0f}".format, **cost)
        yield self.row("computed on", _metric("device", "kind"))
        yield self.row("aeot_jax", _metric("versions", "aeot_jax"))


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %"


def _metric(*names: str) -> Callable[[Entry], Any]:
    """An entry of metrics.json, by its keys."""
    return lambda entry: _at(entry.metrics, *names)


def _score(*names: str) -> Callable[[Entry], Any]:
    """An entry of evaluation.json, by its keys."""
    return lambda entry: _at(entry.evaluation, *names)


def _of_error(get: Callable[[Entry], Any]) -> Callable[[Entry, float], Interval]:
    """The interval of a number, from its standard error."""
    return lambda entry, value: _give_or_take(value, get(entry))


def _of_share(get: Callable[[Entry], Any]) -> Callable[[Entry, float], Interval]:
    """The interval of a share, from the number of items."""
    return lambda entry, value: _share(value, get(entry))


def _mass_error(entries: Sequence[Entry]) -> _Row:
    """The row of the mass error: two standard errors, and the upper bound."""
    intervals, texts = list[Interval | None](), list[str]()
    for entry in entries:
        names = ("mass_error", "mass_error_se", "upper")
        value, error, upper = (_at(entry.metrics, name) for name in names)
        if not isinstance(value, int | float):
            intervals.append(None)
            texts.append("-")
            continue
        low, high = _give_or_take(float(value), error)
        intervals.append((low, max(high, float(upper)) if isinstance(upper, int | float) else high))
        texts.append(in_words(value, error or 0.0))
    return _Row("mass error (lower)", intervals, texts, "lower", of_data=False)


def _certified(entry: Entry) -> str | None:
    classes = entry.metrics.get("classes")
    if not isinstance(classes, list):
        return None
    return f"{sum(bool(_at(one, 'converged')) for one in classes)} of {len(classes)}"


def _option(name: str) -> Callable[[Entry], Any]:
    return lambda entry: _at(entry.config, "config", *name.split("."))


def _differing(trees: Sequence[Any]) -> list[str]:
    """Options, by full name, that differ between the configurations."""
    flat = [dict(_flat(tree)) for tree in trees if isinstance(tree, Mapping)]
    names = dict.fromkeys(name for one in flat for name in one)
    return [name for name in names if len({repr(one.get(name)) for one in flat}) > 1]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _pictures(entries: Sequence[Entry]) -> Iterator[Picture]:
    if any(len(entry.losses) for entry in entries):
        yield figures.histories({entry.name: entry.losses for entry in entries})
    for entry in entries:
        if entry.samples is not None:
            yield photograph(
                entry.samples,
                title=entry.name,
                alt=f"A grid of new images of {entry.name}.",
                caption="Aim: they look like the data, and no two are alike.",
            )

"""Several runs side by side: one table, for the terminal and for a page."""

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
from aeot_jax.report.figures import Picture
from aeot_jax.report.page import Table, number

Better = Literal["lower", "higher", ""]

Interval = tuple[float, float]
"""Where a number lies, as far as it is known."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One run.

    Attributes:
      name: of the run.
      metrics: content of metrics.json.
      config: content of config.json; may be empty.
      evaluation: content of evaluation.json; may be empty.
      losses: of the autoencoder's epochs (e,); may be empty.
      samples: the bytes of samples.png, if it is there.
    """

    name: str
    metrics: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    losses: Float[np.ndarray, " e"] = field(default_factory=lambda: np.zeros(0))
    samples: bytes | None = None


def compare(entries: Sequence[Entry]) -> tuple[Table, tuple[str, ...]]:
    """Compare runs, and say what cannot be compared.

    Args:
      entries: the runs.

    Returns:
      The table, a column a run, and sentences.
    """
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    same = len({_at(entry.metrics, "data", "sha256") for entry in entries}) == 1
    for row in _rows(entries):
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
    """Write the page of a comparison, whole or not at all.

    Args:
      entries: the runs.
      path: of the page.

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
    """A value inside of nested dicts; None where there is none."""
    value: Any = tree
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


class _Row(NamedTuple):
    """A row of the table.

    Attributes:
      label: what it holds.
      intervals: where the number of each run lies; None where it has none.
      texts: the number of each run.
      better: what is better.
      of_data: whether it hangs on the data.
    """

    label: str
    intervals: Sequence[Interval | None]
    texts: Sequence[str]
    better: Better = ""
    of_data: bool = True


def _best(intervals: Sequence[Interval | None], better: Better) -> int | None:
    """Which of two or more numbers is better than all others, as far as they are known."""
    known = {i: one for i, one in enumerate(intervals) if one is not None}
    if len(known) < 2:
        return None
    if better == "higher":
        known = {i: (-high, -low) for i, (low, high) in known.items()}
    first = min(known, key=lambda i: known[i][1])
    clear = all(known[first][1] < low for i, (low, _) in known.items() if i != first)
    return first if clear else None


def _alone(value: float) -> Interval:
    """A number that is exact, or whose error is not known."""
    return value, value


def _give_or_take(value: float, error: Any) -> Interval:
    """Two standard errors to each side; none where it is not known."""
    error = error if isinstance(error, int | float) and math.isfinite(error) else 0.0
    return value - 2 * error, value + 2 * error


def _took(entry: Entry, value: float) -> Interval | None:
    """What the same run may take another time; of a resumed one the last part alone is known."""
    return None if entry.metrics.get("resumed") else (value, 1.1 * value)


def _share(value: float, count: Any) -> Interval:
    """A share of so many."""
    if not isinstance(count, int) or count < 1:
        return _alone(value)
    return _give_or_take(value, math.sqrt(max(0.0, value * (1 - value)) / count))


def _rows(entries: Sequence[Entry]) -> Iterator[_Row]:
    def row(
        label: str,
        get: Callable[[Entry], Any],
        show: Callable[[Any], str] = str,
        better: Better = "",
        *,
        of_data: bool = True,
        spread: Callable[[Entry, float], Interval | None] = lambda _, value: _alone(value),
    ) -> _Row:
        values = [get(entry) for entry in entries]
        texts = ["-" if value is None else show(value) for value in values]
        intervals = [
            spread(entry, float(value)) if isinstance(value, int | float) else None
            for entry, value in zip(entries, values, strict=True)
        ]
        name = f"{label} ({better})" if better else label
        return _Row(name, intervals, texts, better, of_data)

    def percent(value: Any) -> str:
        return f"{100 * value:.1f} %"

    def metric(*names: str) -> Callable[[Entry], Any]:
        return lambda entry: _at(entry.metrics, *names)

    def score(*names: str) -> Callable[[Entry], Any]:
        return lambda entry: _at(entry.evaluation, *names)

    def se(get: Callable[[Entry], Any]) -> Callable[[Entry, float], Interval]:
        return lambda entry, value: _give_or_take(value, get(entry))

    def of(get: Callable[[Entry], Any]) -> Callable[[Entry, float], Interval]:
        return lambda entry, value: _share(value, get(entry))

    yield row("data", metric("data", "name"))
    yield row("learned from", metric("data", "num_images"), "{:,}".format)
    for name in _differing([_at(entry.config, "config") for entry in entries]):
        yield row(f"--{name.replace('_', '-')}", _option(name))
    yield row("seed", metric("seed"))
    yield _mass_error(entries)
    yield row("converged", metric("converged"), lambda value: "yes" if value else "no")
    yield row("classes certified", _certified)
    judged = {_at(entry.metrics, "reconstruction", "images") for entry in entries}
    error = row("reconstruction error", metric("reconstruction_mse"), "{:.4f}".format, "lower")
    yield error if len(judged) == 1 else error._replace(better="")
    yield row("images judged", metric("reconstruction", "images"))
    yield row("mean image's error", metric("mean_image_error"), "{:.4f}".format)
    drawn = of(metric("rejection", "candidates"))
    yield row("rejected", metric("share_rejected"), percent, "lower", of_data=False, spread=drawn)
    yield row("Fréchet distance", score("frechet", "distance"), number, "lower")
    yield row("its floor, training", score("frechet", "floor_train"), number)
    yield row("its floor, unseen", score("frechet", "floor_test"), number)
    kernel = se(score("kernel", "standard_error"))
    yield row("kernel distance", score("kernel", "value"), "{:.4f}".format, "lower", spread=kernel)
    compared = of(score("frechet", "num_samples"))
    for name in ("precision", "recall", "coverage"):
        yield row(name, score("prdc", name), number, "higher", spread=compared)
    yield row("density", score("prdc", "density"), number, "higher")
    near = se(score("memory", "standard_error"))
    yield row("memory", score("memory", "share_nearer"), number, "lower", spread=near)
    cost = {"better": "lower", "of_data": False, "spread": _took}
    seconds = row("seconds", metric("seconds"), "{:.1f}".format, **cost)
    since = [", since resumed" if entry.metrics.get("resumed") else "" for entry in entries]
    yield seconds._replace(texts=[a + b for a, b in zip(seconds.texts, since, strict=True)])
    yield row("peak MiB", metric("peak_memory_mib"), "{:,.0f}".format, **cost)
    yield row("computed on", metric("device", "kind"))
    yield row("aeot_jax", metric("versions", "aeot_jax"))


def _mass_error(entries: Sequence[Entry]) -> _Row:
    """Within two standard errors, and below the bound."""
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
    """Options, by their full names, that are not the same in all configurations."""
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
            yield figures.photograph(
                entry.samples,
                title=entry.name,
                alt=f"A grid of new images of {entry.name}.",
                caption="Aim: they look like the data, and no two are alike.",
            )

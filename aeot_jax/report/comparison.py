"""Several runs side by side: one table, for the terminal and for a page."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from aeot_jax.ot.counts.words import in_words
from aeot_jax.report import figures, page
from aeot_jax.report.figures import Picture
from aeot_jax.report.page import Table, number

Better = Literal["lower", "higher", ""]


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
    for label, values, texts, better, of_data in _rows(entries):
        if all(text in ("", "-") for text in texts):
            continue
        if better and (same or not of_data):
            best |= {(len(rows), 1 + i) for i in _best(values, better)}
        rows.append((label, *texts))
    said = []
    if not same:
        said.append(
            "The runs learned from different data: errors and scores are not comparable, and the "
            "best of them are not marked."
        )
    if any(not entry.evaluation for entry in entries):
        missing = ", ".join(entry.name for entry in entries if not entry.evaluation)
        said.append(f"Scores are missing of {missing}: run aeot-jax evaluate on each.")
    caption = "The best of a row is set in bold, where runs can be compared."
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


def _best(values: Sequence[Any], better: Better) -> list[int]:
    """Which values are the best, of two or more that differ."""
    known = [value for value in values if isinstance(value, int | float)]
    if len(known) < 2 or min(known) == max(known):
        return []
    wanted = min(known) if better == "lower" else max(known)
    return [i for i, value in enumerate(values) if value == wanted]


_Row = tuple[str, Sequence[Any], Sequence[str], Better, bool]


def _rows(entries: Sequence[Entry]) -> Iterator[_Row]:
    """Label, values, texts, what is better, and whether it hangs on the data."""

    def row(
        label: str,
        get: Callable[[Entry], Any],
        show: Callable[[Any], str] = str,
        better: Better = "",
        *,
        of_data: bool = True,
    ) -> _Row:
        values = [get(entry) for entry in entries]
        texts = ["-" if value is None else show(value) for value in values]
        name = f"{label} ({better})" if better else label
        return name, values, texts, better, of_data

    def percent(value: Any) -> str:
        return f"{100 * value:.1f} %"

    def metric(*names: str) -> Callable[[Entry], Any]:
        return lambda entry: _at(entry.metrics, *names)

    def score(*names: str) -> Callable[[Entry], Any]:
        return lambda entry: _at(entry.evaluation, *names)

    yield row("data", metric("data", "name"))
    yield row("learned from", metric("data", "num_images"), "{:,}".format)
    for name in _differing([_at(entry.config, "config") for entry in entries]):
        yield row(f"--{name.replace('_', '-')}", _option(name))
    yield row("seed", metric("seed"))
    label, values, _, _, _ = row("mass error, at most", metric("upper"), better="lower")
    texts = [
        in_words(*(_at(entry.metrics, name) or 0.0 for name in ("mass_error", "mass_error_se")))
        if _at(entry.metrics, "mass_error") is not None
        else "-"
        for entry in entries
    ]
    yield label.replace(", at most", ""), values, texts, "lower", False
    yield row("converged", metric("converged"), lambda value: "yes" if value else "no")
    yield row("classes certified", _certified)
    judged = {_at(entry.metrics, "reconstruction", "images") for entry in entries}
    error = row("reconstruction error", metric("reconstruction_mse"), "{:.4f}".format, "lower")
    yield error if len(judged) == 1 else (error[0], error[1], error[2], "", True)
    yield row("images judged", metric("reconstruction", "images"))
    yield row("mean image's error", metric("mean_image_error"), "{:.4f}".format)
    yield row("rejected", metric("share_rejected"), percent, "lower", of_data=False)
    yield row("Fréchet distance", score("frechet", "distance"), number, "lower")
    yield row("its floor, training", score("frechet", "floor_train"), number)
    yield row("its floor, unseen", score("frechet", "floor_test"), number)
    yield row("kernel distance", score("kernel", "value"), "{:.4f}".format, "lower")
    for name in ("precision", "recall", "density", "coverage"):
        yield row(name, score("prdc", name), number, "higher")
    yield row("memory", score("memory", "share_nearer"), number, "lower")
    yield row("seconds", metric("seconds"), "{:.1f}".format, "lower", of_data=False)
    yield row("peak MiB", metric("peak_memory_mib"), "{:,.0f}".format, "lower", of_data=False)
    yield row("computed on", metric("device", "kind"))
    yield row("aeot_jax", metric("versions", "aeot_jax"))


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

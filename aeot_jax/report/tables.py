"""Tables of a page: classes, scores, costs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aeot_jax.ot.counts.words import in_words
from aeot_jax.report.parts import Facts

_ROWS = 60
"""Most rows of a table."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      caption: its caption.
      head: names of the columns.
      rows: cells; the first of each names its row.
      best: rows and columns of the cells to highlight.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


def class_table(found: Facts) -> Table:
    """The map of each class: its share, and its certified mass error."""
    rows = [
        (
            one.name,
            f"{100 * one.share:.1f} %",
            in_words(one.mass_error, one.mass_error_se, one.upper),
            "yes" if one.converged else "no",
        )
        for one in found.classes[:_ROWS]
    ]
    left = len(found.classes) - len(rows)
    caption = "The map of each class" + (f"; {left} more are not shown" if left else "")
    return Table(caption, ("class", "share", "mass error", "certified"), tuple(rows))


def scores(evaluation: Mapping[str, Any]) -> Table:
    """The scores of evaluation.json, beside both floors."""
    frechet, kernel, prdc = (evaluation.get(name) or {} for name in ("frechet", "kernel", "prdc"))
    floors = prdc.get("floor") or {}
    classes, memory = evaluation.get("classes"), evaluation.get("memory")
    # Kernel distance and the four scores have one floor: of held-out images if there are any.
    seen = frechet.get("floor_test") is None

    def one(name: str, value: Any, floor: Any) -> tuple[str, ...]:
        return name, number(value), *((number(floor), "-") if seen else ("-", number(floor)))

    rows: list[tuple[str, ...]] = []
    if frechet:
        both = number(frechet.get("floor_train")), number(frechet.get("floor_test"))
        rows.append(("Fréchet distance (lower)", number(frechet.get("distance")), *both))
    if isinstance(decoded := evaluation.get("decoded"), dict):
        copies = number(decoded.get("copies"))
        to = "Fréchet distance to decoded unseen data (lower)"
        rows.append((to, number(decoded.get("distance")), copies, "0"))
        of = "Fréchet distance of decoded unseen data (lower)"
        rows.append((of, number(decoded.get("decoder")), "-", "-"))
    if kernel:
        rows.append(one("kernel distance (lower)", kernel.get("value"), kernel.get("floor")))
    for name in ("precision", "recall", "density", "coverage"):
        if name in prdc:
            rows.append(one(f"{name} (higher)", prdc[name], floors.get(name)))
    if isinstance(classes, dict):
        made = f"{classes.get('captured')} of {classes.get('of')}"
        rows.append(("classes made", made, "-", "-"))
    if isinstance(novelty := evaluation.get("novelty"), dict):
        near = "new codes as near as the nearest unseen ones (as unseen)"
        rows.append((near, number(novelty.get("share_near")), "1", number(novelty.get("alpha"))))
        nearer = "chance that a new code is nearer than an unseen one (as unseen)"
        rows.append((nearer, number(novelty.get("nearer")), "-", "0.500"))
    if isinstance(memory, dict):
        near = number(memory.get("share_nearer"))
        rows.append(("memory (not above)", near, "-", number(memory.get("alpha"))))
    caption = (
        f"In features of {_article(evaluation.get('features'))}; in brackets what is better. "
        "Floors are what real data score: training data against other training data, and unseen "
        "data against training data."
    )
    return Table(caption, ("", "model", "floor, training", "floor, unseen"), tuple(rows))


def _article(features: Any) -> str:
    return "a classifier" if features == "classifier" else str(features or "the data")


def costs(metrics: Mapping[str, Any]) -> Iterator[Table]:
    """Time and memory of each stage, from metrics.json; nothing where it does not say."""
    stages = metrics.get("stages")
    if not isinstance(stages, dict):
        return
    rows = []
    for name, stage in stages.items():
        memory = stage.get("peak_memory_mib")
        samples = stage.get("samples")
        rows.append(
            (
                name,
                f"{stage.get('seconds', 0):.1f}",
                "" if memory is None else f"{memory:,.0f}",
                "" if samples is None else f"{samples:,}",
            )
        )
    if metrics.get("seconds") is not None:
        memory = metrics.get("peak_memory_mib")
        size = "" if memory is None else f"{memory:,.0f}"
        rows.append(("in all", f"{metrics['seconds']:.1f}", size, ""))
    head = ("stage", "seconds", "peak MiB so far", "samples")
    caption = "Wall time, compilation and figures included in all"
    if metrics.get("resumed"):
        caption += "; the run was resumed, so all and the stage that was cut off count from the "
        caption += "last start only"
    yield Table(caption, head, tuple(rows))


def number(value: Any, places: int = 3) -> str:
    """A number with `places` decimals, or a dash."""
    return f"{value:.{places}f}" if isinstance(value, int | float) else "-"

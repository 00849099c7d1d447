"""The sections of the page of one run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import aeot_jax as aeot
from aeot_jax.evaluate import such_as, too_few
from aeot_jax.metrics.comparison import ENOUGH, uncertain
from aeot_jax.model import kind_of
from aeot_jax.plot.run import to_bytes
from aeot_jax.report import facts, figures
from aeot_jax.report.command import command
from aeot_jax.report.numbers import newness, refined
from aeot_jax.report.parts import Facts, name_of
from aeot_jax.report.picture import Picture, grid
from aeot_jax.report.tables import Table, class_table, costs, scores


@dataclass(frozen=True)
class Section:
    """A section of the page; empty parts are left out."""

    title: str
    texts: tuple[str, ...] = ()
    items: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    command: str | None = None

    def __bool__(self) -> bool:
        """Whether the section is not empty."""
        return any((self.texts, self.items, self.pictures, self.tables, self.command))


def charts(found: Facts) -> dict[str, Picture]:
    """Charts by name; they do not depend on the size of the images."""
    model, cloud = found.material.model, found.cloud
    losses = getattr(model, "losses", None)
    charts = {
        "mass error": figures.mass_error(model.solution, model.config.solver.tolerance),
        "masses": figures.masses(found.cells),
        "angles": figures.angles(model.extension),
        "new": figures.cloud_of_new(cloud),
    }
    if losses is not None and np.size(losses):
        charts["losses"] = figures.losses(np.asarray(losses, np.float64), refined(model))
    if found.pairs is not None:
        charts["errors"] = figures.errors(found.pairs.error, found.numbers.error_of_mean)
    if found.neighbours is not None:
        charts["distances"] = figures.distances(found.neighbours)
    if cloud.piece is not None:
        charts["pieces"] = figures.pieces(cloud)
    if cloud.group is not None:
        labels = found.material.train.labels if found.material.train is not None else None
        assert labels is not None
        names = [name_of(model, int(label)) for label in np.unique(labels)]
        charts["groups"] = figures.groups(cloud, names)
    if found.walks:
        charts["film"] = figures.film(found.walks)
    if found.form != "images" and found.new is not None and found.real is not None:
        charts["rows"] = figures.rows(found.real, found.new)
    return charts


def sections(found: Facts, charts: Mapping[str, Picture], side: int) -> Iterator[Section]:
    """The sections of the page, in order; images are `side` pixels along their longer side."""

    def some(*names: str) -> tuple[Picture, ...]:
        return tuple(charts[name] for name in names if name in charts)

    yield Section("What was run", items=tuple(_run(found)))
    shown = some("rows") if found.form != "images" else tuple(_samples(found, side))
    if shown or found.new is None:
        none = () if found.new is not None else ("Every candidate was rejected.",)
        yield Section("New beside real", none, pictures=shown)
    if found.pairs is not None:
        pictures = (*_reconstructions(found, side), *some("errors"))
        yield Section("Reconstructions", pictures=pictures)
    pictures = ()
    if found.neighbours is not None:
        pictures = (*_nearest(found, side), *some("distances"))
    nearest = Section("Nearest training data of new samples", tuple(_newness(found)), (), pictures)
    if nearest:
        yield nearest
    yield Section("How it was learned", pictures=some("losses", "mass error"))
    # For codes, the section above shows the new codes already.
    new = () if found.form == "codes" and "rows" in charts else ("new",)
    pictures = some("masses", "angles", "groups", "pieces", *new, "film")
    yield Section("The map", pictures=pictures)
    if found.classes:
        yield Section(
            "Classes",
            _more(len(found.classes), facts.MOST_CLASSES, "classes have samples here"),
            pictures=tuple(_class_samples(found, side)),
            tables=(class_table(found),),
        )
    if found.material.evaluation:
        yield Section("Scores", tuple(_few(found)), tables=(scores(found.material.evaluation),))
    yield Section("Time and memory", tables=tuple(costs(found.material.metrics)))
    yield Section(
        "To make it again", items=tuple(_versions(found)), command=command(found.material.config)
    )


def _few(found: Facts) -> Iterator[str]:
    """What too few images leave uncertain, and what they leave open."""
    things, evaluation = kind_of(found.material.model), found.material.evaluation or {}
    if (uncertainty := uncertain(found.numbers.compared or ENOUGH, things)) is not None:
        yield uncertainty
    data = evaluation.get("data")
    held_out = data.get("num_held_out") if isinstance(data, Mapping) else None
    why = too_few(held_out, things) if isinstance(held_out, int) and held_out > 0 else None
    if why is not None:
        yield f"There is no row on memory or on decoded unseen {things}: {why}."


def _more(total: int, shown: int, what: str) -> tuple[str, ...]:
    return (f"The first {shown} of {total} {what}.",) if total > shown else ()


def subtitle(found: Facts) -> str:
    """The line below the title: the data, their size, and the dimension of the codes."""
    m, d = found.material.model.extension.y.shape
    shape = found.material.model.image_shape
    things = kind_of(found.material.model)
    size = "" if not shape else f" of {' x '.join(map(str, shape))}"
    name = _data(found).get("name")
    return f"{f'{name}: ' if name else ''}{m:,} {things}{size}, codes of {d} dimensions"


def _data(found: Facts) -> Mapping[str, Any]:
    data = found.material.metrics.get("data") or found.material.config.get("data")
    return data if isinstance(data, dict) else {}


def _run(found: Facts) -> Iterator[tuple[str, str]]:
    """What was run, on which data and device."""
    material, model = found.material, found.material.model
    data, metrics, config = _data(found), material.metrics, model.config
    source = material.config.get("source")
    m, d = model.extension.y.shape
    if data.get("name"):
        path = source.get("path") if isinstance(source, dict) else None
        where = "" if path in (None, data["name"]) else f", from {path}"
        yield "Data", f"{data['name']}{where}"
    if material.absent:
        yield "Missing", material.absent
    yield "Learned from", f"{m:,} {kind_of(found.material.model)}"
    if data.get("num_held_out"):
        unseen = f"{data['num_held_out']:,} {data.get('held_out')}"
        yield "Not learned from", f"{unseen} {kind_of(found.material.model)}"
    if found.classes:
        names = ", ".join(one.name for one in found.classes[:20])
        yield (
            "Classes",
            f"{len(found.classes)}: {names}" + (", ..." if len(found.classes) > 20 else ""),
        )
    if found.form != "codes":
        epochs = found.numbers.epochs
        kind = config.autoencoder.kind
        if config.autoencoder.activation != "silu":
            kind += f" with {config.autoencoder.activation}"
        last = refined(model)
        second = f" and {last} of the decoder alone" if last else ""
        yield "Autoencoder", f"kind {kind}, {d} dimensions, {epochs} epochs{second}"
    yield "Source of noise", f"{config.source} in {d} dimensions"
    solution = model.solution
    method = aeot.Method(int(solution.method)).name.lower()
    drawn = f"{int(solution.num_samples):,} samples"
    yield "Transport", f"{method}, {drawn}, {int(solution.num_check_samples):,} more to check"
    if isinstance(metrics.get("device"), dict):
        device = metrics["device"]
        count = device.get("count")
        yield "Computed on", f"{device.get('kind')}" + (f", {count} of them" if count != 1 else "")


def _samples(found: Facts, side: int) -> Iterator[Picture]:
    if found.new is None:
        return
    new = found.new[: facts.SHOWN]
    yield grid(
        new,
        columns=6,
        side=side,
        title="New",
        alt=f"{len(new)} new images in rows of six, not chosen.",
        caption="Aim: at a glance they could be swapped with the real ones, and no two are alike.",
    )
    if found.real is not None:
        yield grid(
            found.real,
            columns=6,
            side=side,
            title="Real",
            alt=f"{len(found.real)} real images in rows of six.",
            caption="These are of the data, evenly spaced: what the new ones should look like.",
        )


def _reconstructions(found: Facts, side: int) -> Iterator[Picture]:
    assert found.pairs is not None
    if found.form != "images":
        return
    words = {
        "best": "Aim: original above, decoded below, and no difference to be seen.",
        "middle": "Aim: what matters in the original is still there; fine strokes may be softer.",
        "worst": "Aim: even these are recognised; if they are rare kinds, more of them would help.",
    }
    for kind, part in facts.three_kinds(len(found.pairs.error)).items():
        above, below = found.pairs.original[part], found.pairs.decoded[part]
        errors = found.pairs.error[part]
        yield grid(
            np.concatenate([to_bytes(above), to_bytes(below)]),
            columns=len(above),
            side=side,
            title=f"The {kind} of {len(found.pairs.error):,} {found.pairs.judged} images",
            alt=f"{len(above)} originals above what is decoded of them; mean squared errors "
            f"{errors.min():.2g} to {errors.max():.2g}.",
            caption=f"{words[kind]} Numbers are mean squared errors per pixel.",
            labels=[f"{error:#.2g}" for error in errors],
        )


def _nearest(found: Facts, side: int) -> Iterator[Picture]:
    near = found.neighbours
    assert near is not None
    if found.form != "images":
        return
    half = -(-len(near.sample) // 2)
    for part in (slice(0, half), slice(half, None)):
        above, below = near.sample[part], near.neighbour[part]
        if not len(above):
            continue
        far = near.of_samples[: len(near.sample)][part]
        rank = [float((near.of_decoded <= value).mean()) for value in far]
        yield grid(
            np.concatenate([to_bytes(above), to_bytes(below)]),
            columns=len(above),
            side=side,
            title="New above, nearest training image below",
            alt=f"{len(above)} new images above the training image nearest to each, at distances "
            f"{far.min():.2g} to {far.max():.2g}.",
            caption="Aim: alike, but not the same. Numbers are the distance and, below it, the "
            "share of real images, decoded, that are as near or nearer to a training image.",
            labels=[f"{d:#.2g}\n{100 * r:.0f} %" for d, r in zip(far, rank, strict=True)],
        )


def _newness(found: Facts) -> Iterator[str]:
    """How new the codes of samples are, from metrics.json; nothing where it does not say."""
    new = newness(found.material.metrics)
    if new is None:
        return
    seen = new.get("unseen") != "held out"
    which = "left out one at a time" if seen else "that were held out"
    yield (
        f"By their codes, {100 * new['share_near']:.0f} % of new samples are as near to a training "
        f"one as the nearest {100 * new['alpha']:.0f} % of data {which}, and a new sample is the "
        f"nearer of the two in {100 * new['nearer']:.0f} % of all pairs. Aim: "
        f"{100 * new['alpha']:.0f} % and 50 %, as new as unseen data; copies have 100 % and more "
        "than 50 %."
    )
    if new["share_repeated"]:
        yield (
            f"{100 * new['share_repeated']:.0f} % of these unseen codes equal a training code. "
            "Beside copies any sampler looks new."
        )
    if new["share_twins"]:
        left = "" if new["share_twins"] > 0.5 else ", and are left out of these numbers"
        yield (
            f"{100 * new['share_twins']:.0f} % of them are near copies of a training code{left}"
            f"{such_as(new.get('twins'))}."
        )


def _class_samples(found: Facts, side: int) -> Iterator[Picture]:
    shown = [one for one in found.classes if one.samples is not None]
    for one in shown:
        assert one.samples is not None
        yield grid(
            one.samples,
            columns=facts.PER_CLASS,
            side=min(side, 64),
            title=one.name,
            alt=f"{len(one.samples)} new images of the class {one.name}.",
            caption="Aim: each is of its class at a glance.",
        )


def _versions(found: Facts) -> Iterator[tuple[str, str]]:
    versions = found.material.metrics.get("versions")
    if isinstance(versions, dict):
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    fingerprint = _data(found).get("sha256")
    if fingerprint:
        yield "Data, SHA-256", str(fingerprint)
    checksum = found.material.metrics.get("model")
    if checksum:
        yield "Model, SHA-256", str(checksum)

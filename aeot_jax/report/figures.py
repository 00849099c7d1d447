"""The charts of a report, each with its words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from scipy import special

import aeot_jax as aeot
from aeot_jax import plot
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.plot.clouds import upright
from aeot_jax.plot.style import BLUE, GREY, ORANGE
from aeot_jax.report.parts import Cells, Cloud, Neighbours
from aeot_jax.report.picture import PAGE_STYLE, Picture, chart, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_KINDS = (
    *("#3b82d0", "#e07b39", "#3fa35f", "#d0486b", "#9168c9"),
    *("#a58a2a", "#2aa1a1", "#c765b0", "#7c8796", "#86a636"),
)
"""Colours of classes and pieces, which can be told apart on both pages."""


def losses(values: Float[np.ndarray, " e"], refined: int = 0) -> Picture:
    """The loss of the autoencoder; in the last `refined` epochs, of the decoder's refinement."""
    last = "epoch refines" if refined == 1 else f"{refined} epochs refine"
    second = f" The last {last} the decoder alone: sharper images cost a little."
    return chart(
        lambda axes: plot.draw_losses(axes, values),
        title="Training of the autoencoder",
        alt=f"Line of the loss over {len(values)} epochs, from {values[0]:.3g} to "
        f"{values[-1]:.3g}, on a logarithmic axis.",
        caption="Aim: it falls steeply, then levels off; one that still falls at the end wants "
        f"more epochs.{second if refined else ''}",
    )


def mass_error(solution: Solution, tolerance: float | None) -> Picture:
    """The mass error of the transport."""
    certified = f"{float(solution.mass_error):.3g}, at most {float(solution.certificate.upper):.3g}"
    asked = "" if tolerance is None else f" The tolerance, {tolerance:g}, is a dashed line."

    def draw(axes: "Axes") -> None:
        plot.draw_mass_error(axes, solution, tolerance)
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
        axes.legend(loc="lower left", fontsize=7.5)

    return chart(
        draw,
        title="Transport",
        alt=f"Line of the running mass error over samples, falling to a point with a bar: the "
        f"certified {certified}.{asked}",
        caption="Aim: the orange bar, drawn from fresh samples, ends below the dashed tolerance.",
    )


def masses(cells: Cells) -> Picture:
    """Counts of fresh samples, against the counts expected for exact masses."""
    counts, weights = cells.counts[cells.weights > 0], cells.weights[cells.weights > 0]
    n = int(cells.counts.sum())
    edges, expected, deviation = _expected(counts, weights, n)
    found = np.histogram(counts, edges)[0]
    within = (np.abs(found - expected) <= 2 * deviation).mean()

    def draw(axes: "Axes") -> None:
        axes.stairs(found, edges, fill=True, color=BLUE, alpha=0.75, label="cells found")
        low, high = np.maximum(expected - 2 * deviation, 0), expected + 2 * deviation
        axes.stairs(high, edges, baseline=low, fill=True, color=ORANGE, alpha=0.3)
        axes.stairs(expected, edges, color=ORANGE, label="by chance, if all is right")
        axes.set(xlabel="samples in a cell", ylabel="cells")
        axes.legend(fontsize=7.5)

    return chart(
        draw,
        title="Masses of the cells",
        alt=f"Histogram of the samples that each of {len(counts):,} cells got of a fresh draw of "
        f"{n:,}, with a band for what chance allows; {100 * within:.0f} % of the bars lie in it.",
        caption="Aim: the blue bars keep to the orange band, or leave it no further than certified "
        "mass errors allow; a tail on the left is cells that are drawn too rarely.",
    )


def _expected(
    counts: Int[np.ndarray, " m"], weights: Float[np.ndarray, " m"], n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of the bins, the expected number of cells in each, and its standard deviation."""
    mean = n * weights
    sigma = np.sqrt(mean)
    low = min(counts.min(), np.floor((mean - 4 * sigma).min()))
    high = max(counts.max(), np.ceil((mean + 4 * sigma).max()))
    low = max(0, low)
    step = max(1, int(np.ceil((high - low + 1) / 32)))
    edges = np.arange(low, high + 1 + step, step) - 0.5
    law, repeats = np.unique(weights, return_counts=True)
    if len(law) > 1000:  # quantiles stand for many weights
        law, repeats = (
            np.quantile(weights, np.linspace(0, 1, 500)),
            np.full(500, len(weights) / 500),
        )
    # The distribution function at the integer below each edge; 0 below 0.
    count = np.clip(np.floor(edges), 0, n)[:, None]
    below = np.where(edges[:, None] < 0, 0.0, special.bdtr(count, n, law[None, :]))
    inside = np.diff(below, axis=0)
    expected = inside @ repeats
    return edges, expected, np.sqrt((inside * (1 - inside)) @ repeats)


def angles(ext: Extension) -> Picture:
    """Plane angles of the faces, with the threshold."""
    found = np.asarray(ext.face_angles)
    found = found[np.isfinite(found)]
    cut = float(ext.threshold)
    share = (found > cut).mean() if found.size else 0.0
    return chart(
        lambda axes: plot.draw_angles(axes, ext),
        title="Plane angles, and the cut",
        alt=f"Histogram of the plane angles between neighbouring cells with a cut at {cut:.2f} "
        f"rad; {100 * share:.1f} % lie above it.",
        caption="Aim: most is blue, left of the cut; red faces part what the data keeps apart, "
        "and there samples jump in place of blending.",
    )


def pieces(cloud: Cloud) -> Picture:
    """Codes, coloured by connected piece."""
    assert cloud.piece is not None
    rank = np.where(cloud.piece < (cloud.num_pieces or 0), cloud.piece, -1)
    several = cloud.num_pieces != 1
    said = f"{cloud.num_pieces} pieces" if several else "one piece"
    return chart(
        lambda axes: _scatter(axes, cloud, rank),
        title=f"Codes: {said}",
        alt=f"Scatter plot of the codes in their first two principal components, coloured by "
        f"piece; {said}, single codes apart from all others in grey.",
        caption="Aim: a piece for each kind of data that nothing leads over from, or one; grey "
        "dots, which belong to no piece, are few.",
    )


def groups(cloud: Cloud, names: Sequence[str]) -> Picture:
    """Codes, coloured by class."""
    assert cloud.group is not None
    return chart(
        lambda axes: _scatter(axes, cloud, cloud.group, names),
        title="Codes by class",
        alt=f"Scatter plot of the codes in their first two principal components, coloured by "
        f"class, {len(names)} of them.",
        caption="Aim: classes keep together; they may overlap here, where only "
        f"{100 * cloud.explained:.0f} % of the variance shows.",
    )


def cloud_of_new(cloud: Cloud) -> Picture:
    """New codes above those of the data."""

    def draw(axes: "Axes") -> None:
        _scatter(axes, cloud, None)
        _dots(axes, cloud.new, ORANGE, label="new codes", size=5.0)
        axes.legend(fontsize=7.5, markerscale=2)

    return chart(
        draw,
        title="New codes among those of the data",
        alt="Scatter plot of new codes above the codes of the data, in their first two principal "
        "components.",
        caption="Aim: new codes lie where the data's codes lie, in all of it and in no gap.",
    )


def _scatter(
    axes: "Axes", cloud: Cloud, kind: np.ndarray | None, names: Sequence[str] = ()
) -> None:
    if kind is None:
        _dots(axes, cloud.codes, GREY, label="codes of the data")
    else:
        _dots(axes, cloud.codes[kind < 0], GREY)
        for i in np.unique(kind[kind >= 0]):
            label = names[int(i)] if int(i) < len(names) <= len(_KINDS) else None
            _dots(axes, cloud.codes[kind == i], _KINDS[i % len(_KINDS)], label=label)
    if names and len(names) <= len(_KINDS):
        axes.legend(
            fontsize=7.5, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0
        )
    axes.set(xlabel="first component", ylabel="second component")


def _dots(
    axes: "Axes", points: np.ndarray, colour: str, *, label: str | None = None, size: float = 3.0
) -> None:
    axes.scatter(*points.T, s=size, c=colour, linewidth=0, alpha=0.7, label=label, rasterized=True)


def rows(real: np.ndarray, new: np.ndarray) -> Picture:
    """New rows above real rows, in the first two principal components of the real rows."""
    flat = np.asarray(real, np.float64)
    centre, scale = flat.mean(axis=0)[None], np.maximum(flat.std(axis=0), 1e-12)[None]
    _, _, directions = np.linalg.svd((flat - centre) / scale, full_matrices=False)
    own = upright(directions[:2].T)

    def plane(x: np.ndarray) -> np.ndarray:
        points = ((np.asarray(x, np.float64) - centre) / scale) @ own
        return points if points.shape[1] == 2 else np.column_stack([points, 0 * points])

    def draw(axes: "Axes") -> None:
        _dots(axes, plane(real), GREY, label="real", size=5.0)
        _dots(axes, plane(new), ORANGE, label="new", size=5.0)
        axes.set(xlabel="first component", ylabel="second component")
        axes.legend(fontsize=7.5, markerscale=2)

    return chart(
        draw,
        title="New rows among real ones",
        alt="Scatter plot of new rows above real rows, in the first two principal components of "
        "the standardised columns.",
        caption="Aim: new rows lie where real rows lie, in all of it and in no gap.",
    )


def errors(values: Float[np.ndarray, " n"], of_mean: float | None) -> Picture:
    """The errors of the reconstructions."""

    def draw(axes: "Axes") -> None:
        axes.hist(values, 30, color=BLUE)
        axes.axvline(float(values.mean()), color=ORANGE, label=f"mean {values.mean():.3g}")
        if of_mean is not None:
            label = f"mean image {of_mean:.3g}"
            axes.axvline(of_mean, color=GREY, linestyle="--", label=label)
        axes.set(xlabel="mean squared error", ylabel="number")
        axes.legend(fontsize=7.5)

    return chart(
        draw,
        title="Errors of the reconstructions",
        alt=f"Histogram of {len(values):,} errors from {values.min():.3g} to {values.max():.3g}, "
        f"{values.mean():.3g} on average.",
        caption="Aim: the hill stands far to the left of the dashed line, which takes no learning "
        "to reach, and has no second hill on the right.",
    )


def distances(found: Neighbours) -> Picture:
    """Distances of new images to training images, beside those of real images."""
    sets = {
        "new": (found.of_samples, BLUE),
        "real, decoded": (found.of_decoded, ORANGE),
        "real": (found.of_real, GREY),
    }
    top = float(np.quantile(np.concatenate([values for values, _ in sets.values()]), 0.995))
    edges = np.linspace(0, max(top, 1e-9), 36)

    def draw(axes: "Axes") -> None:
        for name, (values, colour) in sets.items():
            shares = np.histogram(values, edges)[0] / len(values)
            axes.stairs(shares, edges, color=colour, label=name, linewidth=1.4)
        axes.axvline(float(np.median(found.of_samples)), color=BLUE, linestyle=":")
        axes.axvline(float(np.median(found.of_decoded)), color=ORANGE, linestyle=":")
        axes.set(xlabel="distance to the nearest training image", ylabel="share")
        axes.legend(fontsize=7.5)

    near, far = np.median(found.of_samples), np.median(found.of_decoded)
    which = "held-out" if found.unseen else "training"
    return chart(
        draw,
        title="Does it copy?",
        alt=f"Distances to the nearest training image: median {near:.3g} for new images, {far:.3g} "
        f"for {which} images encoded and decoded.",
        caption="Aim: blue lies where orange lies (real images, as blurred as new ones are); far "
        "to the left of it the model repeats what it was shown.",
    )


def film(walks: Sequence[aeot.Walk]) -> Picture:
    """Walks through the source, as film strips."""
    import matplotlib

    with matplotlib.rc_context(PAGE_STYLE):
        titles = ["to a far sample", "to a near sample"][: len(walks)]
        figure = plot.film_strip(*walks, titles=titles, width=4.2)
        light, dark = written(figure, bbox_inches="tight", pad_inches=0.03)
    crossed = sum(int(walk.crossings.singular.sum()) for walk in walks)
    return Picture(
        "Walks through the source",
        light,
        f"{len(walks)} film strips of decoded images between two points of the source, with the "
        f"plane angle of each face crossed; {crossed} of the faces are singular.",
        "Aim: images change smoothly from frame to frame, and jump only where a red mark shows a "
        "singular face.",
        dark,
        wide=True,
    )


def histories(named: Mapping[str, Float[np.ndarray, " e"]]) -> Picture:
    """The losses of the autoencoders of several runs."""

    def draw(axes: "Axes") -> None:
        for i, (name, values) in enumerate(named.items()):
            epochs = np.arange(1, len(values) + 1)
            axes.plot(epochs, values, color=_KINDS[i % len(_KINDS)], label=_short(name))
        axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend(fontsize=7.5)

    return chart(
        draw,
        title="Training of the autoencoders",
        alt=f"Lines of the losses of {len(named)} runs over their epochs, on a logarithmic axis.",
        caption="Aim: the lower the line ends the better, where the data is the same.",
    )


def _short(name: str) -> str:
    name = name.replace("$", r"\$")
    return name if len(name) <= 24 else f"...{name[-21:]}"

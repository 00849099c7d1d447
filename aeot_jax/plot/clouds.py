"""Scatter plots of rows, side by side in the same plane."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from aeot_jax import arguments
from aeot_jax.plot.style import BLUE, GREY, ORANGE, STYLE
from aeot_jax.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 5000
"""Most rows of a set that are shown, evenly spaced."""

_COLOURS = (GREY, ORANGE, BLUE)


def clouds(sets: Mapping[str, ArrayLike], title: str = "") -> "Figure":
    """Draw sets of rows as points, one panel per set, all in the same plane.

    Two columns are drawn directly. More columns are projected onto the first two principal
    components of the first set, standardised; the labels of the axes say so.

    Args:
      sets: rows (n, D) by name; the names are the titles of the panels.
      title: title of the figure.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no set, or one has another number of columns than the first.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not sets:
        raise ValueError("`sets` is empty; pass rows (n, D) by name.")
    known = {name: arguments.known(f"sets[{name!r}]", rows) for name, rows in sets.items()}
    first = next(iter(known.values()))
    for name, rows in known.items():
        if rows.ndim != 2 or rows.shape[1] != first.shape[1] or not rows.size:
            raise ValueError(
                f"`sets[{name!r}]` has shape {rows.shape}, but the first has {first.shape}; pass "
                "rows with the same columns."
            )
    shown = {name: rows[:: -(-len(rows) // _MOST)] for name, rows in known.items()}
    plane, labels = _plane(first)
    points = {name: plane(rows) for name, rows in shown.items()}
    with rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(points), 3.4), layout="constrained")
        panels = figure.subplots(1, len(points), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, xy), colour in zip(
            panels, points.items(), _cycle(len(points)), strict=True
        ):
            axes.scatter(*xy.T, s=5, c=colour, linewidth=0, alpha=0.6, rasterized=True)
            axes.set(title=f"{name} ({len(known[name]):,})", xlabel=labels[0])
        panels[0].set_ylabel(labels[1])
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def upright(axes: Float[np.ndarray, "D k"]) -> Float[np.ndarray, "D k"]:
    """Flip principal axes, one per column, so that their largest entry is positive."""
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    return axes * np.where(largest < 0, -1.0, 1.0)


def _plane(rows: Float[np.ndarray, "n D"]):
    """A function from rows to points (n, 2), and the labels of its axes."""
    if rows.shape[1] == 1:
        return lambda x: np.column_stack([x[:, 0], np.zeros(len(x))]), ("column 0", "")
    if rows.shape[1] == 2:
        return lambda x: x, ("column 0", "column 1")
    centre, deviation = rows.mean(0), rows.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    divisor = min(1, len(rows) - 1)  # one row has no spread, and any axes do
    _, axes = np.linalg.eigh(np.cov((rows - centre).T / scale[:, None], ddof=divisor))
    first = upright(axes[:, :-3:-1])
    return lambda x: ((x - centre) / scale) @ first, ("first component", "second component")

"""The summary of a fit, in a few lines."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aeot_jax.ot.counts.words import in_words
from aeot_jax.storage import runs


def show(metrics: dict[str, Any], run: Path, out: Console) -> None:
    """Print the main numbers of metrics.json, and the path of the run."""
    table = Table(box=None, show_header=False, pad_edge=False)
    error = in_words(metrics["mass_error"], metrics["mass_error_se"], metrics.get("upper"))
    table.add_row("mass error", f"{error} (two standard errors)")
    table.add_row(
        "empty cells",
        f"{metrics['num_empty']} of {metrics['num_targets']:,}, "
        f"{metrics['expected_empty']:.1f} expected by chance",
    )
    if metrics["classes"] is not None:
        done = sum(one["converged"] for one in metrics["classes"])
        table.add_row("classes", f"{len(metrics['classes'])}, {done} of them to the tolerance")
        worst = max(
            metrics["classes"], key=lambda one: one["mass_error"] + 2 * one["mass_error_se"]
        )
        error = in_words(worst["mass_error"], worst["mass_error_se"], worst.get("upper"))
        table.add_row("least sure class", f"{worst['name']}, mass error {error}")
    if (measured := metrics["reconstruction"]) is not None:
        what = "images" if len(metrics["data"]["image_shape"]) > 1 else "rows"
        table.add_row(
            "reconstruction",
            f"{measured['mse']:.4f} a {'pixel' if what == 'images' else 'number'} "
            f"({measured['images']} {what}); "
            f"mean {'image' if what == 'images' else 'row'}: {measured['variance']:.4f}",
        )
    table.add_row("rejected", f"{100 * metrics['share_rejected']:.1f} % of the candidates")
    since = " since the last start" if metrics.get("resumed") else ""
    table.add_row("time, without the report", f"{metrics['seconds']:.1f} s{since}")
    table.add_row("in", str(run))
    out.print(table, highlight=False)
    if (page := run / runs.REPORT).is_file():  # not wrapped, so that a click opens it
        out.print(f"to look at: {page}", soft_wrap=True, markup=False, highlight=False)

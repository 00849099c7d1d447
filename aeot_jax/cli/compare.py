"""``aeot-jax compare``: several runs in one table and on one page."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aeot_jax import report
from aeot_jax.cli.options import folder
from aeot_jax.cli.report import document, evaluation, load
from aeot_jax.storage import files, runs

_SUFFIX = ".html"

_LARGEST = 2**24
"""Most bytes of a picture of a run."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare runs: one table here, and one page with their samples.

    Attributes:
      runs: Two or more folders that `aeot-jax fit` wrote.
      out: Page to write, an .html file.
      overwrite: Replace the page if there is one.
      debug: Show where an error comes from.
    """

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(help_behavior_hint="", metavar="RUN RUN ..."),
    ] = ()
    out: Path = Path("comparison.html")
    overwrite: bool = False
    debug: bool = False


def run(options: Compare, out: Console, err: Console) -> None:
    """Print a table of several runs, and write a page.

    Args:
      options: from the command line.
      out: console for the table.
      err: console for warnings.

    Raises:
      ImportError: before any work, if a library for the page is missing.
      ValueError: if an option does not fit, or a run is damaged or of another version.
      FileNotFoundError: if a folder holds no finished run.
      OSError: before any work, if the page cannot be written.
    """
    report.check_libraries()
    if len(options.runs) < 2:
        raise ValueError("pass two or more folders of runs to compare.")
    if options.out.suffix.lower() != _SUFFIX:
        raise ValueError(f"`--out` is {str(options.out)!r}; pass a file that ends in {_SUFFIX}.")
    if options.out.exists() and not options.overwrite:
        raise ValueError(
            f"`--out` is {str(options.out)!r}, which is there already; replace it with "
            "--overwrite, or pass another file."
        )
    files.check_writable(options.out, "--out")
    _check_different(options.runs)
    entries = [_entry(one, err) for one in options.runs]
    found, texts = report.compare(entries)
    table = Table()
    for name in found.head:
        table.add_column(Text(name))
    for i, row in enumerate(found.rows):
        styles = ["bold" if (i, j) in found.best else "" for j in range(len(row))]
        table.add_row(*map(Text, row, styles))
    out.print(table, highlight=False)
    for text in texts:
        err.print(text, soft_wrap=True, markup=False, highlight=False)
    report.write_comparison(entries, options.out)
    out.print(str(options.out), soft_wrap=True, markup=False, highlight=False)


def _check_different(folders: tuple[Path, ...]) -> None:
    """Refuse a run that is given twice."""
    seen: dict[Path, Path] = {}
    for one in folders:
        real = one.resolve()
        if real in seen:
            names = " and ".join(repr(str(path)) for path in (seen[real], one))
            raise ValueError(
                f"{names} are the same run; pass folders of different ones, each once."
                if one != seen[real]
                else f"{str(one)!r} is given twice; pass folders of different runs, each once."
            )
        seen[real] = one


def _entry(run: Path, err: Console) -> report.Entry:
    folder.check_folder(run)
    model = load(run)
    metrics = document(run, runs.METRICS)
    if not metrics:
        raise FileNotFoundError(
            f"{str(run)!r} has no {runs.METRICS}; repeat the `aeot-jax fit` that made the run with "
            "--resume, which writes it again."
        )
    losses = getattr(model, "losses", None)
    return report.Entry(
        name=str(run),
        metrics=metrics,
        config=document(run, runs.CONFIG),
        evaluation=evaluation(run, err) or {},
        losses=np.zeros(0) if losses is None else np.asarray(losses, np.float64),
        samples=_picture(run / runs.SAMPLES),
    )


def _picture(path: Path) -> bytes | None:
    """The bytes of a picture; None if the file is not a picture."""
    from PIL import Image

    if not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return path.read_bytes()

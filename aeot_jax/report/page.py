"""The page of one run: a verdict in words, then sections of pictures and tables."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aeot_jax as aeot
from aeot_jax.inputs import extras
from aeot_jax.report import facts
from aeot_jax.report.parts import Facts, Material
from aeot_jax.report.sections import charts, sections, subtitle
from aeot_jax.report.verdict import judge
from aeot_jax.storage import files
from aeot_jax.typing import PRNGKey

_LIMIT = 2_900_000
"""Most bytes of a page."""

_SIDES = (96, 64, 48, 32, 24)
"""Sides of images, pixels, that are tried until the page is small enough."""

_OPTION = re.compile(r"--[a-z][a-z.-]*[a-z]|aeot-jax [a-z]+")


def write(key: PRNGKey, material: Material, path: str | os.PathLike[str]) -> Path:
    """Write the report of a run, atomically.

    Args:
      key: key of the samples that it shows; consumed.
      material: the run.
      path: the file.

    Returns:
      The path.

    Raises:
      ImportError: if jinja2 or matplotlib is missing.
      OSError: if the page cannot be written.
    """
    return save(render(facts.gather(key, material)), path)


def save(page: str, path: str | os.PathLike[str]) -> Path:
    """Write a page to a temporary file, and rename it when it is complete."""
    target = Path(path)
    with files.replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return target


def render(found: Facts) -> str:
    """The page as HTML, under 3 MB.

    Args:
      found: what it shows.
    """
    drawn = charts(found)
    page = ""
    for side in _SIDES:
        page = fill(
            "report.html",
            title=found.material.name,
            subtitle=subtitle(found),
            verdict=judge(found.numbers),
            sections=[part for part in sections(found, drawn, side) if part],
        )
        if len(page) <= _LIMIT:
            break
    return page


def fill(template: str, **parts: Any) -> str:
    """Fill a template of this package; all text is escaped.

    Raises:
      ImportError: if jinja2 is missing.
    """
    check_libraries(("jinja2",))
    import jinja2
    import markupsafe

    def coded(text: str) -> markupsafe.Markup:
        """Text with command-line options marked as code."""
        return markupsafe.Markup(_OPTION.sub(r"<code>\g<0></code>", str(markupsafe.escape(text))))

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aeot_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = coded
    return environment.get_template(template).render(version=aeot.__version__, **parts)


def check_libraries(names: Sequence[str] = ("matplotlib", "jinja2")) -> None:
    """Check, before any work, that the libraries of a page are installed.

    Raises:
      ImportError: if one is missing.
    """
    for name in names:
        extras.require(name, "plot", "the report of a run needs")

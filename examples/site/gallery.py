"""The gallery's pages, made from the examples, their figures and what they print."""

import hashlib
import json
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent
FIGURES = EXAMPLES / "guides" / "figures"
RECORDS = FIGURES / "records.json"
MAKE = "python examples/site/figures.py"
PROJECT = {
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
    "project/benchmarks.md": "benchmarks/README.md",
}
"""Pages of the site that files of the repository make."""


@dataclass(frozen=True)
class Cell:
    """A part of an example.

    Attributes:
      kind: "markdown" or "python".
      text: without the marks of comments.
    """

    kind: str
    text: str


def scripts() -> list[Path]:
    """All examples, in their order."""
    return sorted(EXAMPLES.glob("*.py"))


def makers() -> list[Path]:
    """All scripts that make figures: the examples, and what draws the first page's picture."""
    return [*scripts(), EXAMPLES / "site" / "overview.py"]


def digest(script: Path) -> str:
    """What tells one version of a script from another."""
    return hashlib.sha256(script.read_bytes()).hexdigest()


def records() -> dict[str, dict[str, Any]]:
    """What each script made and printed, with its digest at that time."""
    return json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}


def stale(known: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence for each script that has changed since its figures were made."""
    return [
        f"examples/{script.relative_to(EXAMPLES)} is newer than its figures; run `{MAKE}`."
        for script in makers()
        if known.get(script.name, {}).get("sha256") != digest(script)
    ]


def cells(source: str) -> list[Cell]:
    """The cells of a script in the percent format, without its docstring."""
    found = []
    for part in source.split("\n# %%")[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            found.append(Cell("markdown", "\n".join(lines)))
        elif body.strip():
            found.append(Cell("python", body.strip("\n")))
    return found


def title(source: str) -> str:
    """The heading of an example's first cell."""
    return cells(source)[0].text.splitlines()[0].removeprefix("# ")


def page(script: Path, record: dict[str, Any], notebook: bool) -> str:
    """The page of an example (Markdown).

    Args:
      script: the example.
      record: its figures with what they show, what it prints, its seconds; {} if unknown.
      notebook: whether there is a notebook beside the page.
    """
    source = script.read_text(encoding="utf-8")
    (opening, *others) = cells(source)
    parts = [opening.text]
    for name, alt in record.get("figures", {}).items():
        parts.append(f"![{alt}](../figures/{name})")
    seconds = record.get("seconds")
    time = f" It took {seconds:.0f} CPU-seconds." if seconds is not None else ""
    link = f" Or take the [notebook]({script.stem}.ipynb)." if notebook else ""
    command = "python " + " ".join([f"examples/{script.name}", *record.get("arguments", [])])
    parts.append(f"Run `{command}` in a copy of the repository.{time}{link}")
    for cell in others:
        fence = "````" if "```" in cell.text else "```"
        text = cell.text if cell.kind == "markdown" else f"{fence}python\n{cell.text}\n{fence}"
        parts.append(text)
    if record.get("printed"):
        parts.append(f"## What it prints\n\n```text\n{record['printed'].rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def index(known: dict[str, dict[str, Any]]) -> str:
    """The page that shows all examples."""
    parts = ["# Gallery", "Each example is a script in `examples/`; `--quick` runs it in seconds."]
    for script in scripts():
        heading = title(script.read_text(encoding="utf-8"))
        parts.append(f"## [{heading}]({script.stem}.md)")
        for name, alt in list(known.get(script.name, {}).get("figures", {}).items())[:1]:
            parts.append(f"[![{alt}](../figures/{name}){{ width=420 }}]({script.stem}.md)")
    return "\n\n".join(parts) + "\n"


def for_site(markdown: str, uri: str) -> str:
    """A guide whose links to examples and to files of the project lead to their pages.

    In a copy of the repository, and where its files are looked at, a guide links to files that are
    there.

    Args:
      markdown: the guide.
      uri: its path below the guides, such as "reference/solve.md".
    """
    folder = posixpath.dirname(uri)
    pages = {f"examples/{script.name}": f"gallery/{script.stem}.md" for script in scripts()}
    pages |= {"examples": "gallery/index.md", **{file: uri for uri, file in PROJECT.items()}}

    def put(found: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join("examples/guides", folder, found["target"]))
        if file not in pages:
            return found[0]
        return f"]({posixpath.relpath(pages[file], folder or '.')}{found['anchor']})"

    return re.sub(r"\]\((?P<target>[^)\s#:]+)(?P<anchor>[^)\s]*)\)", put, markdown)

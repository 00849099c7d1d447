"""What mkdocs makes beside the guides: gallery, notebooks, the project's own pages, formulas."""

import html
import re
import sys
from pathlib import Path
from typing import Any

# Of the extra `docs`, which the other checks do without.
import jupytext  # pyright: ignore[reportMissingImports]
import latex2mathml.converter  # pyright: ignore[reportMissingImports]
from mkdocs.config.defaults import MkDocsConfig  # pyright: ignore[reportMissingImports]
from mkdocs.structure.files import File, Files  # pyright: ignore[reportMissingImports]
from mkdocs.structure.pages import Page  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(Path(__file__).parent))
import gallery

ROOT = Path(__file__).parent.parent.parent
INSTALL = "%pip install --quiet 'aeot-jax[demo,tensorboard]'"


def on_config(config: MkDocsConfig) -> None:
    """List the examples under "Gallery"."""
    pages = [f"gallery/{script.stem}.md" for script in gallery.scripts()]
    assert config.nav is not None
    for entry in config.nav:
        if entry.get("Gallery") == "gallery":
            entry["Gallery"] = ["gallery/index.md", *pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of the guides holds."""
    known = gallery.records()
    old = gallery.stale(known)
    if old:
        raise SystemExit("\n".join(old))
    made = {uri: (ROOT / file).read_text(encoding="utf-8") for uri, file in gallery.PROJECT.items()}
    made["gallery/index.md"] = gallery.index(known)
    for script in gallery.scripts():
        made[f"gallery/{script.stem}.md"] = gallery.page(script, known[script.name], True)
        made[f"gallery/{script.stem}.ipynb"] = notebook(script)
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Guides link to files of the repository; the site has pages of these."""
    uri = page.file.src_uri
    made = uri in gallery.PROJECT or uri.startswith("gallery/")
    return markdown if made else gallery.for_site(markdown, uri)


def notebook(script: Path) -> str:
    """The notebook of an example; its first cell installs what it needs."""
    book = jupytext.reads(script.read_text(encoding="utf-8"), fmt="py:percent")
    install = jupytext.reads(f"# %%\n# {INSTALL}\n", fmt="py:percent").cells
    for cell in book.cells:  # a notebook has no command line
        cell.source = cell.source.replace("parser.parse_args()", "parser.parse_args([])")
    book.cells = [*install, *book.cells]
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"
    return jupytext.writes(book, fmt="ipynb")


def on_page_content(content: str, **_: Any) -> str:
    """Write formulas as MathML, which browsers show without scripts; drop reST's role names."""
    content = re.sub(r":(?:func|class|mod):(?=<code>)", "", content)
    for pattern in (
        r"<(?P<tag>span|div) class=\"arithmatex\">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>",
        r":math:<code>(?P<tex>.*?)</code>",
    ):
        content = re.sub(pattern, _mathml, content, flags=re.DOTALL)
    return content


def _mathml(found: re.Match[str]) -> str:
    tex = html.unescape(found["tex"]).replace("\n", " ")
    display = "block" if found.groupdict().get("tag") == "div" else "inline"
    made = latex2mathml.converter.convert(tex, display=display)
    if "\\" in made:
        raise SystemExit(f"a formula holds a command that is not known: {tex}")
    return made

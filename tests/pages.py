"""What pages of Markdown say: blocks of code, links, headings."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "examples" / "guides"
README = ROOT / "README.md"
PAGES = sorted(GUIDES.rglob("*.md"))
REFERENCE = sorted((GUIDES / "reference").glob("*.md"))

EXTRAS = ("torch", "tensorflow")
"""Libraries whose blocks are left out where they are missing."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      language: after the fence; "" where there is none.
      text: of the block.
      line: where it begins, from 1.
    """

    language: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in their order; indented ones too."""
    found, begun = [], None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.fullmatch(r"( *)```(\S*)\s*", line)
        if begun is None and fence:
            begun = (fence[1], fence[2], number, [])
        elif begun and line == f"{begun[0]}```":
            indent, language, first, lines = begun
            text = "".join(f"{line.removeprefix(indent)}\n" for line in lines)
            found.append(Block(language, text, first))
            begun = None
        elif begun:
            begun[3].append(line)
    assert begun is None, f"{path}:{begun and begun[2]}: a block without an end"
    return found


def prose(path: Path) -> str:
    """A page without its blocks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code_of(path: Path, block: Block) -> CodeType:
    """A block of Python, compiled with its own lines for tracebacks."""
    return compile("\n" * block.line + block.text, str(path), "exec")


def links(path: Path) -> list[str]:
    """Targets of links and pictures on a page."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(path))


def anchors(path: Path) -> set[str]:
    """What headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", prose(path).lower(), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading) for heading in headings]
    return {"-".join(heading.split()) for heading in words}


def documented() -> list[tuple[str, Path]]:
    """Names on the pages of the reference, and the pages."""
    found = []
    for path in REFERENCE:
        names = re.findall(r"^::: (aeot_jax\.\S+)$", path.read_text("utf-8"), re.MULTILINE)
        found += [(full, path) for full in names]
    return found


def modules() -> list[str]:
    """The modules of the package that the reference has names of."""
    parts = [full.split(".") for full, _ in documented()]
    return sorted({name[1] for name in parts if len(name) > 2 and name[1].islower()})

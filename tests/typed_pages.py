"""Pyright over the Python blocks of the guides and of the README: run me as a script.

Blocks of a page are one module, as they run in one namespace. They run with the long tests only:
a name or an argument that a page has and the package has not is found here, on every change.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pages import EXTRAS, PAGES, README, ROOT, blocks, modules

PACKAGE = ROOT / "aeot_jax"

RULES = {
    # What a record holds under the settings of the page, and is None under others.
    "reportOptionalMemberAccess": False,
    "reportOptionalSubscript": False,
    # Pages show several ways of writing one function.
    "reportRedeclaration": False,
}
"""Rules of pyright that correct pages break."""

KNOWN = (
    # As the first two rules: modes of toy data are None for data without.
    'Argument of type "Array | None" cannot be assigned to parameter "centres"',
    # grain calls `__getitem__` without the name that its protocol gives.
    'Argument of type "Coupling" cannot be assigned to parameter "source"',
)
"""Errors that are none, as they begin."""


def module_of(path: Path) -> str:
    """The blocks of a page, each line of them where it is on the page."""
    lines = [""] * len(path.read_text(encoding="utf-8").splitlines())
    for block in blocks(path):
        if block.language == "python":
            text = block.text.splitlines()
            lines[block.line : block.line + len(text)] = text
    return "\n".join(lines) + "\n"


def write(folder: Path) -> None:
    """Modules of all pages; and the package, whose names are all there and none comes later."""
    for path in (*PAGES, README):
        module = folder / path.relative_to(ROOT).with_suffix(".py")
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(module_of(path), encoding="utf-8")
    shutil.copytree(PACKAGE, folder / "aeot_jax", ignore=shutil.ignore_patterns("__pycache__"))
    said = ["from aeot_jax.names import *", "from aeot_jax._version import __version__"]
    said += [f"from aeot_jax import {name} as {name}" for name in modules()]
    (folder / "aeot_jax" / "__init__.py").write_text("\n".join(said) + "\n", encoding="utf-8")
    settings = {"exclude": ["aeot_jax"], "pythonVersion": "3.11", "typeCheckingMode": "basic"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings | RULES), encoding="utf-8")


def is_missing(error: dict) -> bool:
    """Is it a library that is not there, and need not be?"""
    imports = error.get("rule") == "reportMissingImports"
    return imports and any(f'"{extra}' in error["message"] for extra in EXTRAS)


def errors() -> list[str]:
    """Of pages, with their lines."""
    with tempfile.TemporaryDirectory(prefix="aeot-jax-pages-") as made:
        folder = Path(made).resolve()
        write(folder)
        command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if not done.stdout:
            return [done.stderr]
        found = json.loads(done.stdout)
        assert found["summary"]["filesAnalyzed"] >= len(PAGES)
        said = []
        for error in found["generalDiagnostics"]:
            known = is_missing(error) or error["message"].startswith(KNOWN)
            if error["severity"] == "error" and not known:
                page = Path(error["file"]).relative_to(folder).with_suffix(".md")
                line = error["range"]["start"]["line"] + 1
                said.append(f"{page}:{line}: {error['message']} ({error.get('rule')})")
        return said


if __name__ == "__main__":
    wrong = errors()
    print("\n".join([*wrong, f"{len(wrong)} errors on pages"]))
    sys.exit(bool(wrong))

"""What the README and the docstrings say runs, and the files they speak of exist."""

import doctest
import importlib
import pydoc
import re
import stat
from pathlib import Path

import numpy as np
from pages import GUIDES, ROOT, blocks, code_of

import aeot_jax

PACKAGE = Path(aeot_jax.__file__).parent
README = ROOT / "README.md"


def documented():
    """Modules with an interactive example in a docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_readme_runs_and_takes_five_minutes_to_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(README):
        if block.language == "python":
            exec(code_of(README, block), names)
    assert names["new"].shape == (64, 8, 8, 1)
    assert names["fresh_codes"].shape == (100, 4)
    np.testing.assert_allclose(names["codes"][names["rows"]], names["targets"], atol=1e-5)
    assert "with 95 % confidence at most 0." in capsys.readouterr().out
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


def test_docstring_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in documented():
        result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
        assert result.attempted > 0, name
        assert not result.failed, name


def test_the_version_is_told_once_and_repeated_right():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(r"^## \[(\d[^\]]*)\] - (\d{4}-\d\d-\d\d)$", changes, re.MULTILINE)
    assert released
    if aeot_jax.__version__ == released[1]:  # not in development
        assert re.findall(r"^version: (.*)$", cited, re.MULTILINE) == [released[1]]
        assert re.findall(r"^date-released: (.*)$", cited, re.MULTILINE) == [released[2]]


def test_install_commands_name_extras_that_exist():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for page in (README, ROOT / "CONTRIBUTING.md", ROOT / "mkdocs.yml", *GUIDES.rglob("*.md")):
        for extras in re.findall(r"\.\[([\w,]+)\]", page.read_text(encoding="utf-8")):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), f"{page}: {extra}"


def test_ci_finds_its_two_commands_in_the_readme():
    """It greps for these; each must be one command, perhaps on several lines, once."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    sought = re.findall(r"\(printed '(.*)'\)", script.read_text(encoding="utf-8"))
    assert len(sought) == 2
    page = README.read_text(encoding="utf-8")
    assert all(len(line) < 100 for line in page.splitlines() if line.startswith("python3"))
    page = re.sub(r"\\\n *", "", page)
    for text in sought:
        lines = [line for line in page.splitlines() if text in line]
        assert sum(line.startswith("python3 -m venv") for line in lines) == 1, text


def test_modules_that_pages_name_exist():
    for page in (README, *GUIDES.rglob("*.md")):
        for name in re.findall(r"`(aeot_jax(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
            assert pydoc.locate(name) is not None, f"{page}: {name}"


def test_every_example_has_a_quick_mode():
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert examples
    for path in examples:
        text = path.read_text(encoding="utf-8")
        compile(text, path, "exec")
        assert "\n# %% [markdown]\n# # " in text, path
        assert '"--quick"' in text, path

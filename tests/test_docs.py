"""The version, the extras, the commands and the modules that pages speak of exist."""

import pydoc
import re
import stat

from pages import GUIDES, ROOT

import aeot_jax

README = ROOT / "README.md"


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

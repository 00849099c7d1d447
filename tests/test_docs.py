"""What the README and the docstrings say runs, and the files they speak of exist."""

import doctest
import importlib
import re
import shlex
import stat
from pathlib import Path

import aeot_jax
from aeot_jax.cli import parse

ROOT = Path(__file__).parent.parent
PACKAGE = Path(aeot_jax.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def documented():
    """Modules with an interactive example in a docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_readme_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    assert names["new"].shape == (1000, 8)
    assert names["generated"].shape == (64, 8, 8, 1)
    assert names["codes"].shape[0] == 500
    assert names["fresh_codes"].shape == (100, 4)
    assert names["decoded"].shape == (100, 2)
    assert names["scores"]["frechet"]["distance"] >= 0
    assert "Converged: " in capsys.readouterr().out


def test_docstring_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in documented():
        result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
        assert result.attempted > 0, name
        assert not result.failed, name


def test_the_commands_of_the_readme_parse():
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    found = [shlex.split(line.rpartition("&&")[2]) for line in lines if "aeot-jax" in line]
    commands = [arguments[1:] for arguments in found if arguments[0].endswith("aeot-jax")]
    assert {arguments[0] for arguments in commands} == {
        *("fit", "sample", "evaluate", "data", "report", "compare")
    }
    for arguments in commands:
        parse(arguments)


def test_install_commands_name_extras_that_exist():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[(\w+)\]", README):
        assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra


def test_ci_finds_its_two_commands_in_the_readme():
    """It greps for these; each must be on one line, once."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    sought = re.findall(r"\(printed '(.*)'\)", script.read_text(encoding="utf-8"))
    assert len(sought) == 2
    for text in sought:
        lines = [line for line in README.splitlines() if text in line]
        assert sum(line.startswith("python3 -m venv") for line in lines) == 1, text


def test_links_inside_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_modules_that_the_readme_names_exist():
    for name in re.findall(r"`(aeot_jax(?:\.\w+)+)`", README):
        importlib.import_module(name)


def test_every_example_has_a_quick_mode():
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert examples
    for path in examples:
        text = path.read_text(encoding="utf-8")
        compile(text, path, "exec")
        assert "\n# %% [markdown]\n# # " in text, path
        assert '"--quick"' in text, path

"""Guides, README and docstrings run, links lead somewhere, and every public name is there.

All that runs is here: programs that are traced once serve the next page, too.
"""

import ast
import doctest
import enum
import importlib
import importlib.util
import inspect
import itertools
import json
import posixpath
import pydoc
import re
import shlex
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from pages import (
    EXTRAS,
    GUIDES,
    PAGES,
    README,
    ROOT,
    anchors,
    blocks,
    code_of,
    documented,
    links,
    prose,
)

import aeot_jax as aeot
from aeot_jax.cli import parse

PACKAGE = Path(aeot.__file__).parent
PROSE = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS = sorted({*PROSE, *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")})


def name(path):
    return str(path.relative_to(ROOT))


def with_python(pages):
    return [path for path in pages if any(block.language == "python" for block in blocks(path))]


def missing(block):
    """The library that a block imports and that is not there."""
    imported = set(re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE))
    return [extra for extra in EXTRAS if extra in imported and not importlib.util.find_spec(extra)]


def site(file):
    """A module of the scripts that make the site."""
    folder = str(ROOT / "examples" / "site")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(file)


def as_users_have_it():
    """OTT-JAX promotes ranks. A program that was traced with other settings is traced anew, so all
    pages have the same.
    """
    return jax.numpy_rank_promotion("allow")


@pytest.mark.parametrize("path", PROSE, ids=name)
def test_every_block_names_its_language(path):
    for block in blocks(path):
        where = f"{name(path)}:{block.line}"
        assert block.language in {"bash", "python", "text", "json"}, f"{where} has no language"


@pytest.mark.long  # typed_pages.py reads them on every change
@pytest.mark.parametrize("path", with_python(PAGES), ids=name)
def test_the_blocks_of_a_page_run_in_their_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")  # of its own, as a script is
    with as_users_have_it():
        for block in blocks(path):
            if block.language == "python" and not missing(block):
                exec(code_of(path, block), module.__dict__)


def with_examples():
    """Modules with an interactive example in a docstring."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_readme_runs_and_takes_five_minutes_to_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    with as_users_have_it():
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
    with as_users_have_it():
        for name in with_examples():
            result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
            assert result.attempted > 0, name
            assert not result.failed, name


def test_commands_parse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Path("runs/closer/config.json")  # that an earlier command wrote
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"version": aeot.__version__}))
    seen = set()
    for path in PROSE:
        for block in blocks(path):
            for line in block.text.splitlines() if block.language == "bash" else ():
                for part in re.findall(r"(?:^|[ /])aeot-jax ([^\"&#]*)", line):
                    arguments = shlex.split(part)
                    if arguments and arguments[0].isalpha():
                        parse(arguments)
                        seen.add(arguments[0])
    assert seen == {"fit", "sample", "evaluate", "data", "report", "compare"}


def public():
    names = {name for name in dir(aeot) if not name.startswith("__")} - {"Classes"}  # an old name
    return {name for name in names if not inspect.ismodule(getattr(aeot, name))}


def test_every_public_name_is_on_one_page_of_the_reference():
    found = [full.removeprefix("aeot_jax.") for full, _ in documented() if full.count(".") == 1]
    assert sorted(found) == sorted(public())


def test_names_of_the_reference_exist_and_are_documented():
    for full, path in documented():
        value = pydoc.locate(full)
        text = inspect.getdoc(value)
        assert text, f"{full} on {name(path)} has no docstring"
        if inspect.isfunction(value):
            for parameter in inspect.signature(value).parameters:
                assert re.search(rf"^\s*\**{parameter}: ", text, re.MULTILINE) or (
                    "arguments as in" in text or "Args:" not in text
                ), f"`{parameter}` of {full} is not explained"


def test_every_member_of_a_choice_is_explained():
    """The reference shows the members of an enumeration that have a docstring."""
    kinds = [getattr(aeot, name) for name in public()]
    kinds = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, enum.Enum)]
    assert aeot.Status in kinds
    for kind in kinds:
        (tree,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(tree, ast.ClassDef)
        after = dict(itertools.pairwise(tree.body))
        for node in tree.body:
            if isinstance(node, ast.Assign):
                said = getattr(getattr(after.get(node), "value", None), "value", None)
                assert isinstance(said, str), f"{kind.__name__}: {ast.unparse(node)}"


def test_examples_and_guides_import_what_is_public():
    rooms = {full.rpartition(".")[0] for full, _ in documented()}
    texts = {path: path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py")}
    for path in with_python(PAGES):
        texts[path] = "\n".join(b.text for b in blocks(path) if b.language == "python")
    for path, text in texts.items():
        for module in re.findall(r"^ *from (aeot_jax[\w.]*) import", text, re.MULTILINE):
            assert module in rooms, f"{name(path)}: {module} is internal"


def test_every_function_and_source_is_in_a_block_that_runs():
    used = set()
    for path in with_python(PAGES):
        text = "\n".join(block.text for block in blocks(path) if block.language == "python")
        used |= set(re.findall(r"\baeot\.(\w+)", text))
    made = {*(name for name in public() if name.islower()), "SolverConfig", "Config"}
    made |= public() & set(vars(importlib.import_module("aeot_jax.measures.public")))
    assert made - used == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    """In a copy of the repository: to a file that is there, or to a secure page."""
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https:"), f"{name(path)}: {link}"
            continue
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{name(path)}: {link}"
        assert there == ROOT or ROOT in there.parents, f"{name(path)}: {link}"
        assert not anchor or anchor in anchors(there), f"{name(path)}: {link}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_of_a_guide_lead_to_pages_of_the_site(path):
    """The site has no files of the repository but the guides, and pages made from some others."""
    gallery, uri = site("gallery"), path.relative_to(GUIDES).as_posix()
    made = {f"gallery/{script.stem}.md" for script in gallery.scripts()} | {"gallery/index.md"}
    made |= set(gallery.PROJECT)
    text = gallery.for_site(path.read_text(encoding="utf-8"), uri)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target = link.partition("#")[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(uri), target))
        known = re.match("https:|#", link) or there in made or (GUIDES / there).is_file()
        assert known, f"{name(path)}: {link}"


def test_every_picture_says_what_it_shows():
    for path in PROSE:
        for alt in re.findall(r"!\[([^\]]*)\]\(", prose(path)):
            assert len(alt) > 20, f"{name(path)}: a picture without words"


def sentences():
    """All texts in the code of the package; "{}" where a value comes in."""
    for path in sorted((ROOT / "aeot_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                yield "".join(part if isinstance(part, str) else "{}" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_sentences_of_the_troubleshooting_are_those_of_the_package():
    said = "\n".join(sentences())
    rows = re.findall(r"^\| (\".*?\") \|", prose(GUIDES / "troubleshooting.md"), re.MULTILINE)
    quoted = [part for row in rows for part in re.findall(r'"([^"]+)"', row)]
    assert len(quoted) > 40
    for sentence in quoted:
        assert "{}" not in sentence, f"{sentence}: write … where a value comes in"
        assert sentence.replace("…", "{}") in said, sentence


def test_tests_that_the_theory_names_exist():
    named = set(re.findall(r"`(test_\w+)`", prose(GUIDES / "theory.md")))
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 15
    assert {test for test in named if f"def {test}(" not in text} == set()


def test_figures_are_as_new_as_their_scripts():
    gallery = site("gallery")
    assert gallery.stale(gallery.records()) == []
    kept = {path.name for path in gallery.FIGURES.glob("*.webp")}
    shown = {figure for record in gallery.records().values() for figure in record["figures"]}
    assert kept == shown
    assert all(len(alt) > 20 for r in gallery.records().values() for alt in r["figures"].values())


def test_a_script_that_has_changed_is_named():
    gallery = site("gallery")
    known = gallery.records()
    known["01_cells.py"]["sha256"] = "of another"
    (sentence,) = gallery.stale(known)
    assert "examples/01_cells.py is newer than its figures" in sentence


def test_a_page_of_the_gallery_holds_every_cell():
    gallery = site("gallery")
    for script in gallery.scripts():
        source = script.read_text(encoding="utf-8")
        page = gallery.page(script, gallery.records()[script.name], True)
        assert page.startswith("# ")
        for cell in gallery.cells(source):
            assert cell.text in page
        kept = "".join(cell.text for cell in gallery.cells(source) if cell.kind == "python")
        assert kept.count("\n") > 20

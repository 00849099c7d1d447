"""Hostile and randomly changed archives, IDX files and pictures: one sentence each."""

import re
import sys

import effort
import hostile_archives
import hostile_idx
import hostile_pictures
import hostile_sets
import mutations
import pytest
from confined import Confined

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks to measure memory")

KINDS = {
    "archives": hostile_archives,
    "IDX files": hostile_idx,
    "pictures": hostile_pictures,
    "sets": hostile_sets,
}

MEMORY = 512 * 2**20


@pytest.fixture(scope="module")
def readers():
    process = Confined("readers")
    yield process
    process.close()


def problem_of(answer, path):
    """What is wrong with the answer to a hostile source, or None."""
    if answer["peak"] > MEMORY:
        return f"{answer['peak'] / 2**20:.0f} MiB"
    if too_much := effort.problem(answer["seconds"]):
        return too_much
    if answer["noise"]:
        return f"it printed {answer['noise'][:200]!r}"
    if answer["error"] is None:
        return None
    text = answer["text"]
    if not answer.get("foreseen", False):
        return f"{answer['error']}: {text[:200]}"
    if not (text.endswith(".") and text.isprintable() and str(path)[:-1] in text):
        return f"not one sentence that names the source: {text[:300]!r}"
    if len(text) > len(str(path)) + 600:
        return f"a sentence of {len(text)} letters"
    return None


def made(makers, tmp_path):
    """Every source by name, made in a folder of its own."""
    for i, (name, make) in enumerate(makers.items()):
        folder = tmp_path / str(i)
        folder.mkdir()
        yield name, make(folder)


def refuse(makers, readers, tally, tmp_path):
    """Try to read sources of which each must be refused."""
    for name, path in made(makers, tmp_path):
        answer = readers.run("load", str(path))
        problem = "it was read" if answer["error"] is None else problem_of(answer, path)
        tally.record(name, problem)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_sources_are_refused_in_one_sentence(kind, readers, tally, tmp_path):
    refuse(KINDS[kind].REFUSED, readers, tally, tmp_path)


@pytest.mark.long
def test_a_million_lists_in_lists_are_refused_in_one_sentence(readers, tally, tmp_path):
    many = {"a batch of a million lists": hostile_sets.lists_in_lists(10**6)}
    refuse(many, readers, tally, tmp_path)


def test_pictures_that_cost_much_are_refused_or_read_at_little_cost(readers, tally, tmp_path):
    for name, path in made(hostile_pictures.BORNE, tmp_path):
        tally.record(name, problem_of(readers.run("load", str(path)), path))


@pytest.mark.parametrize("kind", KINDS)
def test_odd_sources_are_read(kind, readers, tally, tmp_path):
    expected = hostile_archives.IMAGES[: 2 if kind in ("pictures", "sets") else None].tolist()
    for name, path in made(KINDS[kind].READ, tmp_path):
        answer = readers.run("load", str(path))
        good = answer.get("pixels") == expected and answer["name"].isprintable()
        tally.record(name, None if good else f"{answer}"[:500])


def mutate(readers, tally, tmp_path, tries):
    """Try so many changes of every kind of file."""
    for i, name in enumerate(mutations.FILES):
        folder = tmp_path / str(i)
        folder.mkdir()
        answer = readers.run("mutate", name, 0, tries, str(folder))
        problems = list(answer.get("problems", [str(answer)]))
        # of packed pixels the TIFF library itself says on the error stream what is wrong
        if answer["noise"] and name != "packed.tif":
            problems.append(f"{name} printed {answer['noise'][:300]!r}")
        if answer["peak"] > MEMORY:
            problems.append(f"{name} took {answer['peak'] / 2**20:.0f} MiB")
        for problem in problems:
            tally.record(name, problem)
        for _ in range(tries - len(problems)):
            tally.record(name, None)


@pytest.mark.parametrize("tries", [2, pytest.param(60, marks=pytest.mark.long)])
def test_changed_files_are_read_or_refused_in_one_sentence(readers, tally, tmp_path, tries):
    mutate(readers, tally, tmp_path, tries)


@pytest.mark.slow
def test_very_many_changed_files_are_read_or_refused(readers, tally, tmp_path):
    mutate(readers, tally, tmp_path, 700)


@pytest.mark.slow
def test_the_command_line_says_each_sentence_and_nothing_else(tally, tmp_path):
    process = Confined("command")
    makers = {f"{kind}, {name}": m for kind in KINDS for name, m in KINDS[kind].REFUSED.items()}
    for name, path in made(makers, tmp_path):
        same = ("evaluate", "--real", str(path), "--generated", str(path), "--quiet")
        for command in (same, ("data", str(path))):
            answer = process.run("command", *command)
            said = answer["noise"]
            good = answer.get("code") == 2 and said.startswith("Error: ") and said.count("\n") == 1
            if command[0] == "data" and answer.get("code") == 0:  # something was described
                good = not re.search("Error|Warning|Traceback", said)
            good = good and answer["peak"] < MEMORY
            tally.record(name, None if good else f"{command[0]}: {answer}"[:500])
    process.close()

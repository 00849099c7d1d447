"""A run's folder: replaced as a whole or not at all, whenever it is cut off."""

import os
import shutil
from pathlib import Path

import pytest

from aeot_jax.storage import documents, records, runs

OLD = {name: f"old {name}" for name in runs.FILES}
NEW = {name: f"new {name}" for name in (runs.MODEL_FILE, runs.CONFIG, runs.SAMPLES)}


class Killed(BaseException):
    """Stands for the end of the process: nothing that follows is done."""


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "run", {**OLD, "notes.txt": "mine"})
    write(tmp_path / "run" / runs.NEXT, NEW)
    return tmp_path / "run"


def kill_at(monkeypatch, event):
    """Stop the process before its n-th change of the disk."""
    count = 0

    def watched(function):
        def call(*arguments, **options):
            nonlocal count
            if count == event:
                raise Killed
            count += 1
            return function(*arguments, **options)

        return call

    for owner, name in ((os, "rename"), (os, "replace"), (Path, "unlink"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))


def test_a_replacement_is_whole(folder):
    runs.replace(folder)
    assert contents(folder) == {**NEW, "notes.txt": "mine"}
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NEW, "notes.txt"])


@pytest.mark.parametrize("event", range(13))
@pytest.mark.parametrize("finish", [runs.tidy, runs.settle])
def test_a_replacement_that_is_cut_off_leaves_one_run(folder, monkeypatch, event, finish):
    with monkeypatch.context() as patch:
        kill_at(patch, event)
        try:
            runs.replace(folder)
        except Killed:
            pass
        else:
            assert event >= 10, "there are fewer events than were thought of"
    finish(folder)
    found = contents(folder)
    decided = found[runs.MODEL_FILE] == NEW[runs.MODEL_FILE]
    assert found == {**(NEW if decided else OLD), "notes.txt": "mine"}
    assert decided == (event > 0)
    assert (folder / runs.NEXT).exists() != decided
    assert not (folder / runs.READY).exists()
    assert not (folder / runs.DONE).exists()


def test_what_killed_writers_left_is_removed_and_the_files_of_others_stay(folder):
    left = [f".{Path(name).stem}.{'0' * 32}{Path(name).suffix}" for name in runs.FILES]
    for name in (*left, ".gitignore", f".notes.{'0' * 32}.txt"):
        (folder / name).touch()
        (folder / runs.NEXT / name).touch()
    runs.tidy(folder)
    assert set(contents(folder)) == {*OLD, "notes.txt", ".gitignore", f".notes.{'0' * 32}.txt"}
    assert not set(left) & set(os.listdir(folder / runs.NEXT))


@pytest.mark.parametrize("name", [*runs.FILES, ".lock"])
def test_a_folder_in_the_place_of_a_file_is_named_before_the_work(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=f"`run_dir` is '.*', which has a folder .* {name}; move"):
        runs.check_place(tmp_path, "run_dir")


@pytest.mark.parametrize("name", [runs.NEXT, runs.READY, runs.DONE])
def test_a_file_in_the_place_of_a_folder_is_named_before_the_work(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(OSError, match=rf"has a file {name}, where a run would be replaced; move"):
        runs.check_place(tmp_path, "run_dir")
    with pytest.raises(OSError, match="which is a file; pass a folder"):
        runs.check_place(tmp_path / name, "run_dir")


@pytest.mark.parametrize("place", ["/proc/run", "/proc/1/x/run"])
def test_a_folder_that_cannot_be_written_is_named_before_the_work(place):
    with pytest.raises(OSError, match=r"`run_dir` is '/proc.*' .* pass another place"):
        runs.check_place(Path(place), "run_dir")


def test_files_of_two_runs_are_told_apart(tmp_path):
    records.write(tmp_path / runs.MODEL_FILE, "model", {}, {})
    own = records.read_meta(tmp_path / runs.MODEL_FILE, "model")["sha256"]
    runs.check_together(tmp_path)
    for name in (runs.CONFIG, runs.METRICS):
        documents.write(tmp_path / name, {runs.MODEL: own})
        runs.check_together(tmp_path)
        documents.write(tmp_path / name, {runs.MODEL: "another"})
        with pytest.raises(ValueError, match=f"files of two runs: {name} belongs to another"):
            runs.check_together(tmp_path)
        (tmp_path / name).write_text('{"version": "0.1"}')  # of an earlier version
        runs.check_together(tmp_path)
        (tmp_path / name).write_text(f'{{"model": "{own}"}}')
        with pytest.raises(ValueError, match=r"damaged or was changed \(its 'sha256' is gone\)"):
            runs.check_together(tmp_path)
        (tmp_path / name).unlink()


def test_other_pictures_are_noticed(tmp_path):
    (tmp_path / runs.SAMPLES).write_bytes(b"one")
    known = {runs.SAMPLES: documents.checksum(tmp_path / runs.SAMPLES), runs.HISTORY: "none"}
    documents.write(tmp_path / runs.METRICS, {"pictures": known})
    assert runs.foreign_pictures(tmp_path) == []
    (tmp_path / runs.SAMPLES).write_bytes(b"two")
    assert runs.foreign_pictures(tmp_path) == [runs.SAMPLES]

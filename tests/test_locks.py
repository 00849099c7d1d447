"""One writer at a time: refused while it lives, taken over when it was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from aeot_jax.storage import files, locks

HOLD = """
import pathlib, sys, time
from aeot_jax.storage.locks import locked
with locked(pathlib.Path(sys.argv[1]), "run_dir"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_folder_is_made_and_the_lock_goes(tmp_path):
    with locks.locked(tmp_path / "a" / "b", "run_dir"):
        owner = json.loads((tmp_path / "a" / "b" / locks.LOCK_FILE).read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_lock_goes_when_the_body_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), locks.locked(tmp_path, "run_dir"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_what_runs_inside_may_lock_again(tmp_path):
    with locks.locked(tmp_path, "run_dir"):
        with locks.locked(tmp_path, "run_dir"):
            pass
        assert (tmp_path / locks.LOCK_FILE).exists()


def test_another_thread_is_refused(tmp_path):
    said = []

    def second():
        try:
            with locks.locked(tmp_path, "run_dir"):
                said.append("held")
        except ValueError as error:
            said.append(str(error))

    with locks.locked(tmp_path, "run_dir"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "is being written by process" in said[0]


def test_another_process_is_refused_while_it_lives_and_forgotten_when_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    sentence = rf"`--out` '.*' is being written by process {process.pid} on {socket.gethostname()}"
    with pytest.raises(ValueError, match=sentence), locks.locked(tmp_path, "--out"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert os.listdir(tmp_path) == [locks.LOCK_FILE]
    with locks.locked(tmp_path, "--out"):
        owner = json.loads((tmp_path / locks.LOCK_FILE).read_text())
        assert owner["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "[" * 100_000])
def test_a_lock_that_says_nothing_is_taken_over(tmp_path, text):
    (tmp_path / locks.LOCK_FILE).write_text(text)
    with locks.locked(tmp_path, "run_dir"):
        pass
    assert os.listdir(tmp_path) == []


def test_the_lock_of_another_host_says_how_to_remove_it(tmp_path):
    path = tmp_path / locks.LOCK_FILE
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "noon"}))
    sentence = r"process 1 on elsewhere, since noon, .* if it no longer runs, remove '.*\.lock'"
    with pytest.raises(ValueError, match=sentence), locks.locked(tmp_path, "run_dir"):
        pass
    assert path.exists()


def test_where_files_cannot_be_held_the_process_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "hold", lambda descriptor: None)
    path = tmp_path / locks.LOCK_FILE
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid, lives in ((os.getpid(), True), (ended.pid, False)):
        path.write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "since": "noon"}))
        if lives:
            with pytest.raises(ValueError, match="is being written"), locks.locked(tmp_path, "x"):
                pass
        else:
            with locks.locked(tmp_path, "x"):
                pass


@pytest.mark.parametrize("place", ["/proc/run", "FILE/run", "/dev/null"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "FILE").touch()
    folder = tmp_path / place if place.startswith("FILE") else place
    with pytest.raises(OSError, match=r"`run_dir` '.*' cannot be written"):  # noqa: SIM117
        with locks.locked(tmp_path / folder, "run_dir"):
            pass

import os
import socket
import subprocess
import sys

import pytest

from aeot_jax.storage.files import check_writable, open_file, reason, replacing


def test_the_file_appears_whole_when_the_body_ends(tmp_path):
    path = tmp_path / "deep" / "a.npz"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # the rename stays on one disk
        assert temporary.suffix == ".npz"
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.npz"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_body_that_fails_leaves_the_earlier_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_writers_at_the_same_time_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            assert second != first
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_in_the_way_stays(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(OSError, match="a"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["kept"]


def test_a_file_is_opened_through_links(tmp_path):
    (tmp_path / "a").write_bytes(b"bytes")
    (tmp_path / "b").symlink_to("a")
    with open_file(tmp_path / "b") as file:
        assert file.read() == b"bytes"


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # a socket's path must be short


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has these")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkdir, "a folder"),
        (os.mkfifo, "a pipe"),
        (make_socket, "a device"),
        (lambda path: os.symlink("/dev/zero", path), "a device"),
    ],
)
def test_what_is_no_file_is_said_and_not_waited_for(tmp_path, monkeypatch, make, what):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a")
    with pytest.raises(ValueError, match=f"^it is {what}, not a file$"):
        open_file(tmp_path / "a")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_file(tmp_path / "nothing")


def test_reasons_are_one_short_line():
    assert reason(ValueError("two\n  lines")) == "two lines"
    assert reason(EOFError()) == "EOFError"
    assert reason(ValueError("x" * 1000)) == "x" * 200 + " ..."


WRITE = """
import os, signal, sys
from aeot_jax.storage.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(path, what):
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a.txt"
    writer(path, "killed").communicate()
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / f".b.{'0' * 32}.txt").touch()  # of another target
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == [f".b.{'0' * 32}.txt", "a.txt"]


def test_what_a_living_writer_writes_stays(tmp_path):
    path = tmp_path / "a.txt"
    process = writer(path, "alive")
    assert process.stdout
    assert process.stdout.readline() == "writing\n"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert len(os.listdir(tmp_path)) == 2
    process.communicate()
    assert process.returncode == 0
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_is_tried_before_the_work(tmp_path):
    check_writable(tmp_path / "deep" / "a.txt", "out")
    assert os.listdir(tmp_path) == []
    (tmp_path / "a.txt").touch()
    check_writable(tmp_path / "a.txt", "out")
    for place, sentence in (
        (tmp_path, "that is a folder; pass the name of a file"),
        (tmp_path / "a.txt" / "b.txt", "a.txt' is a file; pass another place"),
        ("/proc/a.txt", r"nothing can be written to '/proc' \(.*\); pass another place"),
    ):
        with pytest.raises(OSError, match=f"`out` is '.*', but {sentence}|{sentence}"):
            check_writable(place, "out")

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from aeot_jax.storage import records

ARRAYS = {
    "h": np.linspace(-1, 1, 5),
    "nested/kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "count": np.int32(7),
    "empty": np.zeros((0, 3), np.int64),
    "flag": np.array(True),
}


@pytest.fixture
def path(tmp_path):
    records.write(tmp_path / "a.npz", "model", ARRAYS, {"note": "x"})
    return tmp_path / "a.npz"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_what_is_written_is_read(path):
    arrays, meta = records.read(path, "model")
    assert_same(arrays, ARRAYS)
    assert meta["note"] == "x"
    assert meta["kind"] == "model"
    assert meta["schema"] == records.SCHEMA


def test_no_damaged_byte_changes_what_is_read(path):
    whole = path.read_bytes()
    expected = records.read(path, "model")
    refused = 0
    for i in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        try:
            found = records.read(path, "model")
        except ValueError as error:
            assert "damaged" in str(error)  # noqa: PT017 - a time stamp may change and harm nothing
            refused += 1
        else:
            assert_same(found[0], expected[0])
            assert found[1] == expected[1]
    assert refused > 0.5 * len(whole) / 3


@pytest.mark.parametrize("array", ["h", "nested/kernel", "count"])
def test_a_damaged_number_is_refused(path, array):
    whole = path.read_bytes()
    at = whole.index(np.asarray(ARRAYS[array]).tobytes("A"))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"a\.npz' is damaged .*; restore it from a copy"):
        records.read(path, "model")


def test_a_number_changed_with_its_crc_is_refused(path):
    arrays, meta = records.read(path, "model")
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(path, meta=text, **{**arrays, "h": arrays["h"] + 1e-9})
    with pytest.raises(ValueError, match="its checksum differs"):
        records.read(path, "model")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_cut_file_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="is damaged or not a file of this library"):
        records.read(path, "model")


def test_bytes_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"\x89PNG\r\n" + bytes(100))
    with pytest.raises(ValueError, match="is damaged or not a file of this library"):
        records.read(path, "model")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"not a file of this library \(File is not a zip file\)"):
        records.read(tmp_path / "a.npy", "model")
    np.savez(path, x=np.ones(3))
    with pytest.raises(ValueError, match="not a file of this library"):
        records.read(path, "model")
    np.savez(path, meta=np.frombuffer(b"[1]", np.uint8))
    with pytest.raises(ValueError, match="is not a JSON object"):
        records.read(path, "model")


def test_another_kind_of_record_is_refused(path):
    with pytest.raises(ValueError, match="holds 'model', not 'training'"):
        records.read(path, "training")


def test_another_schema_is_refused(path, monkeypatch):
    monkeypatch.setattr(records, "SCHEMA", records.SCHEMA + 1)
    with pytest.raises(ValueError, match=r"has schema 2, this version reads 3"):
        records.read(path, "model")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        records.read(tmp_path / "none.npz", "model")


def test_objects_are_neither_written_nor_read(path, tmp_path):
    objects = np.array([{"code": 1}], object)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        records.write(path, "model", {"x": objects}, {})
    assert_same(records.read(path, "model")[0], ARRAYS)
    assert os.listdir(tmp_path) == ["a.npz"]
    head = b'{"kind": "model", "schema": 2}'
    np.savez(path, meta=np.frombuffer(head, np.uint8), x=objects)
    with pytest.raises(ValueError, match="it holds objects, which would need pickle"):
        records.read(path, "model")


def test_numpy_numbers_in_the_head_are_numbers(tmp_path):
    records.write(tmp_path / "a.npz", "model", {}, {"n": np.int64(3), "x": np.float32(0.5)})
    _, meta = records.read(tmp_path / "a.npz", "model")
    assert (meta["n"], meta["x"]) == (3, 0.5)
    with pytest.raises(TypeError, match="`meta` holds a set"):
        records.write(tmp_path / "b.npz", "model", {}, {"s": set()})
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_write_that_fails_half_way_leaves_the_earlier_file(path, tmp_path, monkeypatch):
    def half(file, **_):
        file.write(b"PK half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="No space left"):
        records.write(path, "model", {"h": np.zeros(3)}, {})
    assert_same(records.read(path, "model")[0], ARRAYS)
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_disk_that_fills_leaves_the_earlier_file(path, tmp_path):
    # A process that may write files of 64 KiB stands for a disk with 64 KiB left.
    code = """
import resource, signal, sys
import numpy as np
from aeot_jax.storage import records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    records.write(sys.argv[1], "model", {"h": np.zeros(1 << 15)}, {})
except OSError as error:
    sys.exit(7)
"""
    run = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert run.returncode == 7
    assert_same(records.read(path, "model")[0], ARRAYS)
    assert os.listdir(tmp_path) == ["a.npz"]


def test_flat_names_hold_nested_dicts():
    tree = {"a": {"b": {"c": np.ones(2)}, "d": np.zeros(())}, "e": np.arange(3)}
    flat = records.flatten(tree)
    assert list(flat) == ["a/b/c", "a/d", "e"]
    again = records.unflatten(flat)
    assert again.keys() == tree.keys()
    assert again["a"]["b"]["c"] is flat["a/b/c"]

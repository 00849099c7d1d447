"""Archives: what NumPy writes is read, and no header is believed beyond what the file holds."""

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from aeot_jax.storage import archives

RNG = np.random.default_rng(0)
ARRAYS = {
    "bytes": RNG.integers(0, 256, (7, 5, 4), dtype=np.uint8),
    "big_endian": np.arange(6, dtype=">f4").reshape(2, 3),
    "fortran": np.asfortranarray(RNG.standard_normal((3, 4, 5))),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False]),
    "text": np.array(["cat", "dog"]),
    "large": RNG.integers(0, 256, (3, 2**20), dtype=np.uint8),
}


def header(shape, descr: object = "|u1", fortran_order=False, version=1):
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran_order}, 'shape': {shape!r}, }}\n"
    form = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, len(text)) + text.encode()


def write(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def read(path, name="x", **options):
    with archives.open_npz(path, **options) as archive:
        return archive.read(name)


def assert_same(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    with archives.open_npz(tmp_path / "a.npz") as archive:
        assert archive.names == tuple(ARRAYS)
        for name, head in archive.headers().items():
            assert (head.shape, head.dtype) == (ARRAYS[name].shape, ARRAYS[name].dtype)
            assert_same(archive.read(name), ARRAYS[name])


@pytest.mark.parametrize("name", ARRAYS)
def test_single_arrays_are_read(tmp_path, name):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    assert_same(archives.read_npy(tmp_path / "a.npy"), ARRAYS[name])


LIES = {
    "more than the file": (header((2**49,)) + bytes(9), "announces 562949953421312 bytes"),
    "less than the file": (header((4,)) + bytes(9), r"shape \(4,\), but 9 follow"),
    "nothing times much": (header((0, 2**40, 2**40)), "which no memory holds"),
    "a side of -1": (header((-1, -4)) + bytes(4), "an impossible side"),
    "a side of 2^40000": (header((2**999,)), "an impossible side"),
    "99 axes": (header((1,) * 99) + b"\0", "announces 99 axes"),
    "objects": (header((1,), "|O") + bytes(8), "holds objects, which would need pickle"),
    "fields": (header((1,), [("a", "<f8")]) + bytes(8), "is not one that is read"),
    "texts without letters": (header((2**40,), "<U0"), "is not one that is read"),
    "a header of 4 GiB": (b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(2**20), "EOF: reading array h"),
    "another version": (header((1,), version=3) + b"\0", "its format is 3.0, not 1.0 or 2.0"),
    "no header": (b"text", "EOF: reading magic string"),
}


@pytest.mark.parametrize(("data", "message"), LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path, data, message):
    (tmp_path / "a.npy").write_bytes(data)
    write(tmp_path / "a.npz", x=data)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        archives.read_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.npz")
    with (
        archives.open_npz(tmp_path / "a.npz") as archive,
        pytest.raises(ValueError, match=rf"of its member 'x': .*{message}"),
    ):
        archive.headers()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_deep_headers_are_refused(tmp_path):
    for text in ("-" * 9000 + "1", "[" * 9000, "1+" * 4500 + "1", "{'shape': 0" + "x" * 300 + "}"):
        data = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
        (tmp_path / "a.npy").write_bytes(data)
        with pytest.raises(ValueError, match=r".") as caught:
            archives.read_npy(tmp_path / "a.npy")
        assert len(str(caught.value)) < 300


def test_zeros_that_grow_a_thousandfold_are_refused_unless_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE", 2**20)
    zeros = np.zeros(2**21, np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=zeros)
    with pytest.raises(ValueError, match=r"announces 2.0 MiB in a file of .* 200 times .* without"):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=zeros)
    assert_same(read(tmp_path / "a.npz"), zeros)


def test_all_that_is_read_stays_below_the_limit(tmp_path):
    np.savez(tmp_path / "a.npz", a=bytes_of(60), b=bytes_of(60))
    with archives.open_npz(tmp_path / "a.npz", limit=100) as archive:
        archive.read("a")
        with pytest.raises(ValueError, match="120 bytes, more than the limit of 100 bytes"):
            archive.read("b")
        with pytest.raises(ValueError, match="120 bytes, more than the limit of 100 bytes"):
            archive.headers()


def bytes_of(n):
    return np.arange(n, dtype=np.uint8)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_without_a_bound_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as file:
        file.writestr("x.npy", header((4,)) + bytes(4))
    with pytest.raises(ValueError, match=r"compressed by method (12|14), which is not NumPy"):
        read(tmp_path / "a.npz")


def test_encrypted_members_are_refused(tmp_path):
    path = write(tmp_path / "a.npz", x=header((4,)) + bytes(4))
    data = bytearray(path.read_bytes())
    for sign, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(sign) + at] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="it is encrypted"):
        read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("x.npy", "x.npy"), ("x.npy", "x")])
def test_members_of_one_name_are_refused(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for name in names:
            file.writestr(name, header((4,)) + bytes(4))
    with pytest.raises(ValueError, match="two members called 'x'"):
        read(tmp_path / "a.npz")


def test_a_damaged_list_hides_no_member(tmp_path):
    np.savez(tmp_path / "a.npz", x=ARRAYS["flags"], y=ARRAYS["flags"])
    data = (tmp_path / "a.npz").read_bytes()
    before, _, after = data.rpartition(b"y.npy")
    (tmp_path / "a.npz").write_bytes(before + b"z.npy" + after)
    with pytest.raises(ValueError, match=r"differ"), archives.open_npz(tmp_path / "a.npz"):
        pass


def test_a_comment_hides_no_member(tmp_path):
    np.savez(tmp_path / "a.npz", x=ARRAYS["flags"], y=ARRAYS["flags"])
    data = bytearray((tmp_path / "a.npz").read_bytes())
    at = data.index(b"PK\1\2") + 32
    data[at : at + 2] = b"\xff\x00"
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"'x' has a comment"):
        read(tmp_path / "a.npz")


def test_a_long_list_of_members_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for i in range(20):
            file.writestr(f"{i:060000}", b"")
    with pytest.raises(ValueError, match="list of members takes more than a megabyte"):
        read(tmp_path / "a.npz")


def test_kinds_can_be_narrowed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array(["cat"]))
    assert read(tmp_path / "a.npz")[0] == "cat"
    with pytest.raises(ValueError, match=r"its type <U3 is not one that is read"):
        read(tmp_path / "a.npz", kinds="biuf")


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path):
    with pytest.raises(ValueError, match="it is a folder, not a file"):
        read(tmp_path)
    with pytest.raises(ValueError, match="it is a folder, not a file"):
        archives.read_npy(tmp_path)

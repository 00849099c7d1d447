"""Formats: real files, made by the formats' own libraries, give the images that went in."""

import builtins
import io
import json
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pillow_heif
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import io as scipy_io

from aeot_jax.data import images
from aeot_jax.data.pictures import axes
from aeot_jax.data.pictures.shaping import Pictures
from aeot_jax.data.readers import pickled
from aeot_jax.data.tables import Table

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (10, 8, 6, 3), dtype=np.uint8)
GREY = COLOUR[..., 0].copy()
LABELS = np.arange(10) % 3


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# .npy, .npz


@pytest.mark.parametrize("pixels", [GREY, COLOUR, COLOUR / 255.0])
def test_npy(tmp_path, pixels):
    np.save(tmp_path / "set.npy", pixels)
    found = images.load(tmp_path / "set.npy")
    np.testing.assert_array_equal(found.images, COLOUR if pixels.ndim == 4 else GREY[..., None])
    assert (found.name, found.labels) == ("set", None)
    with pytest.raises(FileNotFoundError, match="is one array"):
        images.load(tmp_path / "set.npy", split="test")


def test_labels_that_are_texts_are_names(tmp_path):
    names = np.array(["cat", "dog", "eel"])[LABELS]
    np.savez(tmp_path / "set.npz", x=GREY, y=names)
    for labels in (names, names.astype("S"), names.astype(object), names.tolist()):
        found = images.from_arrays(GREY, labels)
        np.testing.assert_array_equal(found.labels, LABELS)
        assert found.label_names == ("cat", "dog", "eel")
    found = images.load(tmp_path / "set.npz")
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.label_names == ("cat", "dog", "eel")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_two_axes_are_a_table_as_they_are(tmp_path, dtype):
    rows = RNG.normal(size=(20, 7)).astype(dtype)
    np.save(tmp_path / "set.npy", rows)
    np.savez(tmp_path / "set.npz", x=rows, y=np.arange(20) % 2)
    for name, labels in (("set.npy", None), ("set.npz", np.arange(20) % 2)):
        found = images.read(tmp_path / name)
        assert isinstance(found, Table)
        assert found.rows.dtype == dtype
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.labels, labels)
        with pytest.raises(ValueError, match=r"a table of floats, shape \(20, 7\)"):
            images.load(tmp_path / name)
    part = images.read(tmp_path / "set.npz", limit=8, seed=1)
    assert isinstance(part, Table)
    assert part.rows.shape == (8, 7)


ORDERS = {
    "n c h w": ((0, 3, 1, 2), COLOUR),
    "h w c n": ((1, 2, 3, 0), COLOUR),
    "c h w n": ((3, 1, 2, 0), COLOUR),
    "n 1 h w": ((0, 3, 1, 2), COLOUR[..., :1]),
    "h w 1 n": ((1, 2, 3, 0), COLOUR[..., :1]),
}


@pytest.mark.parametrize(("order", "pixels"), ORDERS.values(), ids=ORDERS)
def test_orders_of_axes_are_recognised_and_said(tmp_path, order, pixels):
    np.savez(tmp_path / "a.npz", x=pixels.transpose(order))
    found = images.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.images, pixels)
    letters = ", ".join("nhwc"[axis] for axis in order)
    assert f"axes ({letters})" in found.notes[0]
    np.savez(tmp_path / "b.npz", x=pixels)
    assert not images.load(tmp_path / "b.npz").notes


@pytest.mark.parametrize("with_labels", [False, True])
def test_grey_images_that_come_last_are_recognised(tmp_path, with_labels):
    many = RNG.integers(0, 256, (300 if not with_labels else 9, 8, 8), dtype=np.uint8)
    more: Any = {"y": np.arange(len(many)) % 2} if with_labels else {}
    np.savez(tmp_path / "a.npz", x=many.transpose(1, 2, 0), **more)
    found = images.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.images[..., 0], many)


@pytest.mark.parametrize("shape", [(3, 8, 8, 3), (3, 3, 3, 3), (9, 8, 8), (8, 8, 9), (2, 5, 4, 7)])
def test_orders_that_are_right_or_unknown_are_left_alone(shape):
    assert axes.find_order(shape) is None


# archives of pictures


def tree(pixels=COLOUR, root="photos/"):
    names = {f"{root}{'ab'[i % 2]}/{i}.png": png(one) for i, one in enumerate(pixels)}
    extra = {"__MACOSX/photos/a/._0.png": b"\0\5", f"{root}.DS_Store": b"", f"{root}read.me": b"x"}
    return names | extra


def write_zip(path, files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_tar(path, files, mode: Any = "w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


WRITERS = {
    "set.zip": write_zip,
    "deflated.zip": lambda path, files: write_zip(path, files, zipfile.ZIP_DEFLATED),
    "set.tar": write_tar,
    "set.tar.gz": lambda path, files: write_tar(path, files, "w:gz"),
    "set.tgz": lambda path, files: write_tar(path, files, "w:gz"),
    "set.tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
    "set.tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
}
IN_ORDER = [*range(0, 10, 2), *range(1, 10, 2)]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("root", ["", "photos/", "./photos/"])
def test_archives_of_pictures_are_read_in_place(tmp_path, name, root):
    WRITERS[name](tmp_path / name, tree(root=root))
    found = images.load(tmp_path / name)
    np.testing.assert_array_equal(np.sort(found.images.ravel()), np.sort(COLOUR.ravel()))
    by_class = {name: found.images[found.labels == i] for i, name in enumerate("ab")}
    for i, label in enumerate("ab"):
        expected = sorted(one.tobytes() for one in COLOUR[i::2])
        assert sorted(one.tobytes() for one in by_class[label]) == expected
    assert found.label_names == ("a", "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    some = images.load(tmp_path / name, limit=4, seed=0)
    assert len(some) == 4
    assert some.labels is not None
    assert np.bincount(some.labels).tolist() == [2, 2]


def test_a_zip_and_a_tar_file_and_a_folder_are_the_same_set(tmp_path):
    files = tree()
    for name, data in files.items():
        path = tmp_path / "folder" / name.removeprefix("photos/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_zip(tmp_path / "set.zip", files)
    write_tar(tmp_path / "set.tar", dict(sorted(files.items())))
    folder = images.load(tmp_path / "folder")
    for name in ("set.zip", "set.tar"):
        found = images.load(tmp_path / name)
        np.testing.assert_array_equal(found.images, folder.images)
        np.testing.assert_array_equal(found.labels, folder.labels)


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
@pytest.mark.parametrize("member", ["../../x.png", "/etc/x.png", "a/../../x.png", "C:\\x.png"])
def test_a_name_that_leads_out_of_an_archive_is_refused(tmp_path, name, member):
    WRITERS[name](tmp_path / name, tree() | {member: png(COLOUR[0])})
    with pytest.raises(ValueError, match="which leads out of the archive") as caught:
        images.load(tmp_path / name)
    assert str(caught.value).count("`source`") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_broken_pictures_of_archives_are_named(tmp_path, name):
    WRITERS[name](tmp_path / name, tree() | {"photos/a/bad.jpg": b"\xff\xd8\xff"})
    with pytest.raises(ValueError, match=r"a/bad\.jpg', which cannot be read as an image"):
        images.load(tmp_path / name)
    found = images.load(tmp_path / name, pictures=Pictures(skip_broken=True))
    assert len(found) == 10
    assert "a/bad.jpg" in found.skipped[0]


def test_links_in_a_tar_file_are_not_followed(tmp_path):
    write_tar(tmp_path / "set.tar", tree())
    with tarfile.open(tmp_path / "set.tar", "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("photos/a/link.png")
            info.type, info.linkname = kind, "/etc/hostname"
            archive.addfile(info)
    assert len(images.load(tmp_path / "set.tar")) == 10


def test_a_damaged_archive_is_one_sentence(tmp_path):
    for name in WRITERS:
        WRITERS[name](tmp_path / name, tree())
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"^`source` .*{name}.*\.$"):
            images.load(tmp_path / name)


# CIFAR

CIFAR = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
ROWS = CIFAR.transpose(0, 3, 1, 2).reshape(12, 3072)
TEN = [f"kind {i}" for i in range(10)]


def cifar_python(protocol, text=lambda x: x):
    def batch(rows, labels):
        held = {
            text("data"): rows,
            text("labels"): labels,
            text("filenames"): [text(f"{i}.png") for i in range(len(rows))],
            text("batch_label"): text("training batch"),
        }
        return pickle.dumps(held, protocol)

    files = {f"data_batch_{i}": batch(ROWS[i * 2 - 2 : i * 2], [i, i + 1]) for i in range(1, 6)}
    meta = {text("label_names"): [text(one) for one in TEN], text("num_vis"): 3072}
    return files | {
        "test_batch": batch(ROWS[10:], [7, 8]),
        "batches.meta": pickle.dumps(meta, protocol),
        "readme.html": b"",
    }


def cifar_binary():
    def batch(rows, labels):
        return np.concatenate([np.array(labels, np.uint8)[:, None], rows], 1).tobytes()

    files = {f"data_batch_{i}.bin": batch(ROWS[i * 2 - 2 : i * 2], [i, i + 1]) for i in range(1, 6)}
    names = "".join(f"{one.replace(' ', '_')}\n" for one in TEN).encode()
    return files | {"test_batch.bin": batch(ROWS[10:], [7, 8]), "batches.meta.txt": names}


CIFARS = {f"protocol {i}": cifar_python(i) for i in range(6)}
CIFARS |= {f"protocol {i}, bytes": cifar_python(i, str.encode) for i in (2, 4)}
CIFARS["binary"] = cifar_binary()


@pytest.mark.parametrize("place", ["", "cifar-10-batches", "tar.gz"])
@pytest.mark.parametrize("kind", CIFARS)
def test_batches_of_cifar_10(tmp_path, kind, place):
    if place == "tar.gz":
        source = tmp_path / f"cifar-10-{'binary' if kind == 'binary' else 'python'}.tar.gz"
        write_tar(source, {f"cifar-10/{n}": d for n, d in CIFARS[kind].items()}, "w:gz")
    else:
        source = tmp_path
        (tmp_path / place).mkdir(exist_ok=True)
        for name, data in CIFARS[kind].items():
            (tmp_path / place / name).write_bytes(data)
    train, test = images.load(source), images.load(source, split="test")
    np.testing.assert_array_equal(train.images, CIFAR[:10])
    np.testing.assert_array_equal(test.images, CIFAR[10:])
    np.testing.assert_array_equal(train.labels, [1, 2, 2, 3, 3, 4, 4, 5, 5, 6])
    np.testing.assert_array_equal(test.labels, [7, 8])
    assert train.label_names is not None
    assert [name.replace("_", " ") for name in train.label_names] == TEN


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_batches_of_cifar_100(tmp_path, kind):
    fine, coarse = list(range(88, 100)), [i % 20 for i in range(12)]
    for name, part in (("train", slice(10)), ("test", slice(10, 12))):
        if kind == "python":
            held = {"data": ROWS[part], "fine_labels": fine[part], "coarse_labels": coarse[part]}
            (tmp_path / name).write_bytes(pickle.dumps(held, 2))
        else:
            both = np.stack([coarse[part], fine[part]], 1).astype(np.uint8)
            (tmp_path / f"{name}.bin").write_bytes(np.concatenate([both, ROWS[part]], 1).tobytes())
    names = [f"fine_{i}" for i in range(100)]
    meta = {"fine_label_names": names, "coarse_label_names": ["x"] * 20}
    if kind == "python":
        (tmp_path / "meta").write_bytes(pickle.dumps(meta, 2))
    else:
        (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    found = images.load(tmp_path)
    np.testing.assert_array_equal(found.images, CIFAR[:10])
    np.testing.assert_array_equal(found.labels, fine[:10])
    assert found.label_names == tuple(names)


# pickles


class Malicious:
    """What runs a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def evil_global(module: str, name: str, *arguments: str) -> bytes:
    packed = "".join(f"V{one}\n" for one in arguments)
    return f"c{module}\n{name}\n({packed}tR.".encode()


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol):
    mark = tmp_path / "mark"
    folder = tmp_path / "set"
    folder.mkdir()
    for name, data in cifar_python(2).items():
        (folder / name).write_bytes(data)
    held = {"data": ROWS[:2], "labels": [0, 1], "more": Malicious(mark)}
    (folder / "data_batch_1").write_bytes(pickle.dumps(held, protocol))
    with pytest.raises(ValueError, match=r"'data_batch_1', which cannot .* do not need"):
        images.load(folder)
    assert not mark.exists()
    pickle.loads((folder / "data_batch_1").read_bytes())
    assert mark.exists()  # another reader runs it


EVIL = {
    "a command": evil_global("os", "system", "touch MARK"),
    "by eval": evil_global("builtins", "eval", "open('MARK', 'w')"),
    "by getattr": evil_global("builtins", "getattr", "x", "y"),
    "NumPy's loader": evil_global("numpy", "load", "MARK"),
    "NumPy's test runner": evil_global("numpy.testing._private.utils", "runstring", "x", "y"),
    "an old instance": b"(S'touch MARK'\nios\nsystem\n.",
    "an object": b"(cos\nsystem\nS'touch MARK'\no.",
    "a new object": b"cos\nsystem\n(S'touch MARK'\nt\x81.",
    "an extension": b"\x82\x01.",
    "a persistent name": b"Ptouch MARK\n.",
    "a name alone": b"cnumpy\nndarray\n.",
    "a state for a list": b"](Vx\ntb.",
    "nothing": b"",
    "an empty stack": b".",
    "a mark": b"(.",
    "no mark": b"t.",
    "a memo that is empty": b"h\x07.",
    "a buffer outside": b"\x97.",
    "an array of objects": pickle.dumps(np.array([[1], None], object)),
    "half an array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.",
    "an array larger than its bytes": pickle.dumps(np.zeros(9)).replace(b"K\x09", b"K\xff"),
    "a text of 4 GiB": b"X\xff\xff\xff\xffabc.",
    "a dict in itself as a key": b"}\x94h\x00h\x00s.",
}


@pytest.mark.parametrize("data", EVIL.values(), ids=EVIL)
def test_what_is_more_than_data_is_an_error(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the caller makes a sentence of it
        pickled.read(data)
    assert not (tmp_path / "MARK").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_come_back(protocol):
    held: Any = {
        "numbers": [0, -1, 255, 2**40, -(2**70), 1.5, True, None],
        "texts": ("a", "\u00e9", b"", b"\xff" * 300, ""),
        "nested": [[], {}, (), ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))],
        "ordered": OrderedDict(a=1),
        7: [np.arange(6).astype(kind).reshape(2, 3) for kind in ("u1", "<i4", ">f8", "?")],
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    held["again"] = held["numbers"]
    found = pickled.read(pickle.dumps(held, protocol))
    arrays, expected = found.pop(7), held.pop(7)
    columns, held_columns = found.pop("columns"), held.pop("columns")
    np.testing.assert_array_equal(columns, held_columns)
    for one, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    if protocol > 2:  # before, bytes are texts that are encoded
        assert found == held
    else:
        assert found["numbers"] == held["numbers"]


# MATLAB, HDF5


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("version", ["5", "4"])
def test_matlab_files(tmp_path, compress, version):
    """As Street View House Numbers come: X (h, w, c, n), y (n, 1)."""
    path = tmp_path / "train_32x32.mat"
    if version == "4":
        scipy_io.savemat(path, {"X": GREY[0].astype(float)}, format="4")
        with pytest.raises(ValueError, match=r"a table of floats|no images|train_32x32"):
            images.load(path)
        return
    more = {"note": "text", "cell": np.array([1, "a"], object)}
    held = {"X": COLOUR.transpose(1, 2, 3, 0), "y": LABELS[:, None], **more}
    scipy_io.savemat(path, held, do_compression=compress)
    found = images.load(path)
    np.testing.assert_array_equal(found.images, COLOUR)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert "(h, w, c, n)" in found.notes[0]


@pytest.mark.parametrize("names", [("x", "y"), ("train_set_x", "train_set_y"), ("pixels", "kinds")])
@pytest.mark.parametrize("packed", [False, True])
def test_hdf5_files(tmp_path, names, packed):
    path = tmp_path / "set.h5"
    more = {"compression": "gzip", "chunks": True} if packed else {}
    with h5py.File(path, "w") as file:
        group = file.create_group("inner") if packed else file
        group.create_dataset(names[0], data=COLOUR, **more)
        group.create_dataset(names[1], data=LABELS)
        file.create_dataset("list_classes", data=np.array([b"cat", b"dog", b"eel"]))
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/x_train")
        file["soft"] = h5py.SoftLink("/nowhere")
    found = images.load(path)
    np.testing.assert_array_equal(found.images, COLOUR)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.label_names == ("cat", "dog", "eel")
    with pytest.raises(FileNotFoundError):
        images.load(path, split="test")


WORDS = [f"{name} \N{GREEK SMALL LETTER ALPHA}" for name in np.array(["eel", "cat", "dog"])[LABELS]]
NUMBERS = np.array([2, 0, 1])[LABELS]
"""Numbers of the words in the order of the alphabet."""


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", ["y", "Label", "train_labels"])
def test_words_are_classes_in_hdf5(tmp_path, name, fixed):
    images_of = {"y": "x", "Label": "Image", "train_labels": "train_images"}
    words = np.char.encode(WORDS, "utf-8") if fixed else WORDS
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file[images_of[name]], file[name] = COLOUR, words
        file["path"] = [f"{i}.png" for i in range(10)]
    found = images.load(tmp_path / "set.h5")
    np.testing.assert_array_equal(found.labels, NUMBERS)
    assert found.label_names == tuple(sorted(set(WORDS)))


def test_names_of_classes_are_read_as_h5py_writes_them(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["x"], file["y"], file["list_classes"] = COLOUR, LABELS, ["eel", "cat", "dog"]
    assert images.load(tmp_path / "set.h5").label_names == ("eel", "cat", "dog")


def test_hdf5_files_have_splits(tmp_path):
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        for split, part in (("train", slice(6)), ("test", slice(6, 10))):
            file[f"x_{split}"], file[f"y_{split}"] = COLOUR[part], LABELS[part]
    test = images.load(tmp_path / "set.hdf5", split="test")
    np.testing.assert_array_equal(test.images, COLOUR[6:])
    np.testing.assert_array_equal(test.labels, LABELS[6:])


def test_matlab_files_of_version_7_3_are_hdf5_with_axes_in_reverse(tmp_path):
    path = tmp_path / "set.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["X"] = COLOUR.transpose(1, 2, 3, 0).T  # MATLAB's (h, w, c, n)
        file["y"] = LABELS[None]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    found = images.load(path)
    np.testing.assert_array_equal(found.images, COLOUR)
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.parametrize("labels", [LABELS * 2 - 1, LABELS + 9])
def test_names_of_classes_that_do_not_fit_are_left_out(tmp_path, labels):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["x"], file["y"], file["list_classes"] = COLOUR, labels, np.array([b"a", b"b", b"c"])
    found = images.load(tmp_path / "set.h5")
    np.testing.assert_array_equal(found.labels, labels)
    assert found.label_names is None
    assert f"left out, because labels run from {labels.min()} to {labels.max()}" in found.notes[0]


@pytest.mark.parametrize("name", ["set.h5", "set.mat"])
def test_one_hot_labels_are_named_as_such(tmp_path, name):
    one_hot = np.eye(3)[LABELS % 3]
    if name == "set.mat":
        scipy_io.savemat(tmp_path / name, {"x": COLOUR, "y": one_hot})
    else:
        with h5py.File(tmp_path / name, "w") as file:
            file["x"], file["y"] = COLOUR, one_hot
    with pytest.raises(ValueError, match=r"looks one-hot; pass labels.argmax\(axis=1\)"):
        images.load(tmp_path / name)


def test_hdf5_data_that_lie_elsewhere_are_left_alone(tmp_path):
    np.save(tmp_path / "raw", COLOUR)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        where = [(str(tmp_path / "raw.npy"), 0, COLOUR.size)]
        file.create_dataset("x", COLOUR.shape, np.uint8, external=where)
        layout = h5py.VirtualLayout(COLOUR.shape, np.uint8)
        file.create_virtual_dataset("x_train", layout)
    with pytest.raises(ValueError, match="holds no arrays"):
        images.load(tmp_path / "set.h5")


@pytest.mark.parametrize("compress", [False, True])
def test_numbers_of_no_type_of_matlab_are_refused(compress, tmp_path):
    """The library itself reads beyond its table of types, and dies at times."""
    file = io.BytesIO()
    scipy_io.savemat(file, {"other": np.ones(3) * 1j, "x": np.zeros((6, 5, 4), np.uint8)})
    good = file.getvalue()
    at = good.index(struct.pack("<2I", 2, 120))  # the tag of the pixels: bytes, so many
    for kind in (0, 8, 19, 0x4000, 2**31):
        data = good[:at] + struct.pack("<I", kind) + good[at + 4 :]
        if compress:
            first = data.rindex(struct.pack("<I", 14), 0, at)
            body = zlib.compress(data[first:])
            data = data[:128] + struct.pack("<2I", 15, len(body)) + body
        (tmp_path / "a.mat").write_bytes(data)
        with pytest.raises(ValueError, match=r"cannot be read as a MATLAB file"):
            images.load(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(good)  # what is not wanted is not looked at
    with pytest.raises(ValueError, match="are equal once rounded"):
        images.load(tmp_path / "a.mat")


# parquet


def write_parquet(path, pixels, labels, names=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    cells = [{"bytes": png(one), "path": None} for one in pixels]
    table = pa.table({"image": cells, "label": pa.array(labels, pa.int64())})
    if names is not None:
        info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=3)


@pytest.mark.parametrize("inner", ["", "data"])
def test_parquet_of_hugging_face(tmp_path, inner):
    names = ["cat", "dog", "eel"]
    folder = tmp_path / inner
    write_parquet(folder / "train-00000-of-00002-0123ab.parquet", COLOUR[:4], LABELS[:4], names)
    write_parquet(folder / "train-00001-of-00002-0123ab.parquet", COLOUR[4:7], LABELS[4:7], names)
    write_parquet(folder / "test-00000-of-00001.parquet", COLOUR[7:], LABELS[7:], names)
    train, test = images.load(tmp_path), images.load(tmp_path, split="test")
    np.testing.assert_array_equal(train.images, COLOUR[:7])
    np.testing.assert_array_equal(test.images, COLOUR[7:])
    np.testing.assert_array_equal(train.labels, LABELS[:7])
    assert train.label_names == test.label_names == tuple(names)
    one = images.load(folder / "test-00000-of-00001.parquet")
    np.testing.assert_array_equal(one.images, COLOUR[7:])
    part = images.load(tmp_path, limit=3, seed=2)
    assert {x.tobytes() for x in part.images} <= {x.tobytes() for x in COLOUR[:7]}


@pytest.mark.parametrize(
    "kind",
    ["string", "large_string", "string_view", "dictionary", "bool", "uint8", "two files"],
)
def test_words_and_truths_are_classes_in_parquet(tmp_path, kind):
    labels = pa.array(WORDS)
    if kind in ("bool", "uint8"):
        labels = pa.array(LABELS > 0 if kind == "bool" else LABELS.astype(np.uint8))
    elif kind == "dictionary":
        labels = labels.dictionary_encode()
    elif kind in ("large_string", "string_view"):
        labels = labels.cast(getattr(pa, kind)())
    table = pa.table({"image": [{"bytes": png(one)} for one in COLOUR], "label": labels})
    parts = (slice(0, 4), slice(4, 10)) if kind == "two files" else (slice(0, 10),)
    for i, part in enumerate(parts):
        rows = table.slice(part.start, part.stop - part.start)
        pq.write_table(rows, tmp_path / f"train-{i:05}-of-00002.parquet", row_group_size=3)
    found = images.load(tmp_path)
    expected = {"bool": LABELS > 0, "uint8": LABELS}.get(kind, NUMBERS)
    np.testing.assert_array_equal(found.labels, expected)
    words = None if kind in ("bool", "uint8") else tuple(sorted(set(WORDS)))
    assert found.label_names == words


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", None] * 5, "5 of its labels are missing"),
        (["a" * 2000] * 10, "its labels are texts of up to 2000 letters"),
    ],
)
def test_words_that_are_no_classes_are_refused(tmp_path, labels, said):
    table = pa.table({"image": [{"bytes": png(one)} for one in COLOUR], "label": labels})
    pq.write_table(table, tmp_path / "set.parquet")
    with pytest.raises(ValueError, match=said):
        images.load(tmp_path / "set.parquet")
    if None not in labels:
        with h5py.File(tmp_path / "set.h5", "w") as file:
            file["x"], file["y"] = COLOUR, labels
        with pytest.raises(ValueError, match=said):
            images.load(tmp_path / "set.h5")


def test_a_class_without_a_name_is_called_empty(tmp_path):
    labels = ["", "a"] * 5
    table = pa.table({"image": [{"bytes": png(one)} for one in COLOUR], "label": labels})
    pq.write_table(table, tmp_path / "set.parquet")
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["x"], file["y"] = COLOUR, labels
    for name in ("set.parquet", "set.h5"):
        found = images.load(tmp_path / name)
        np.testing.assert_array_equal(found.labels, [0, 1] * 5)
        assert found.label_names == ("(empty)", "a")


def test_parquet_without_a_single_label_has_none(tmp_path):
    table = pa.table({"image": [{"bytes": png(one)} for one in COLOUR]})
    for i, labels in enumerate((pa.array([None] * 10, pa.string()), pa.array(WORDS))):
        pq.write_table(table.append_column("label", labels), tmp_path / f"train-{i}.parquet")
    found = images.load(tmp_path / "train-0.parquet")
    assert found.labels is None
    assert not found.notes
    found = images.load(tmp_path)
    assert found.labels is None
    assert found.notes == ("labels were left out, because 1 of 2 files have none.",)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (pa.array(LABELS, pa.float64()), None),
        (pa.array(LABELS / 2), "holds numbers that are not whole"),
        (pa.array([np.inf, *LABELS[1:]]), "holds numbers that are not whole"),
        (pa.array([b"a", b"b"] * 5), "has the type binary, not numbers or texts"),
        (pa.array([[1], [2]] * 5), r"has the type list<.*>, not numbers or texts"),
        (pa.array(LABELS.tolist(), pa.decimal128(5, 2)), r"has the type decimal128\(5, 2\), not"),
    ],
    ids=["whole", "halves", "infinite", "bytes", "lists", "decimals"],
)
def test_a_column_of_labels_is_read_or_a_note_says_why_not(tmp_path, labels, said):
    table = pa.table({"image": [{"bytes": png(one)} for one in COLOUR], "label": labels})
    pq.write_table(table, tmp_path / "set.parquet")
    found = images.load(tmp_path / "set.parquet")
    if said is None:
        np.testing.assert_array_equal(found.labels, LABELS)
        assert not found.notes
    else:
        assert found.labels is None
        (note,) = found.notes
        assert re.fullmatch(f"labels were left out, because the column 'label' {said}.*", note)


def test_files_that_disagree_about_the_kind_of_labels_are_refused(tmp_path):
    for i, labels in enumerate((WORDS, LABELS)):
        table = pa.table({"image": [{"bytes": png(one)} for one in COLOUR], "label": labels})
        pq.write_table(table, tmp_path / f"train-{i:05}-of-00002.parquet")
    with pytest.raises(ValueError, match="its labels mix texts and numbers"):
        images.load(tmp_path)


@pytest.mark.parametrize("fixed", [False, True])
def test_words_that_are_no_utf8_stay_apart_in_hdf5(tmp_path, fixed):
    words = [b"M\xfcll" if i % 2 else b"M\xf6ll" for i in range(10)]
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["x"] = COLOUR
        file.create_dataset("y", data=words, dtype="S4" if fixed else h5py.string_dtype())
    found = images.load(tmp_path / "set.h5")
    np.testing.assert_array_equal(found.labels, np.arange(10) % 2)
    assert found.label_names == ("M\N{REPLACEMENT CHARACTER}ll", "M\N{REPLACEMENT CHARACTER}ll (2)")


@pytest.mark.parametrize("shape", [(5, 2), (10, 1), (1, 10)])
def test_texts_in_hdf5_are_one_label_an_image(tmp_path, shape):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["x"], file["y"] = COLOUR, np.array(WORDS, object).reshape(shape)
    if shape == (5, 2):
        with pytest.raises(ValueError, match=r"shape \(5, 2\) .* does not fit 10 images"):
            images.load(tmp_path / "set.h5")
    else:
        np.testing.assert_array_equal(images.load(tmp_path / "set.h5").labels, NUMBERS)


def test_parquet_of_something_else_names_its_columns(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="its columns are text, n; pictures are called image"):
        images.load(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="has the type string, not bytes of pictures"):
        images.load(tmp_path / "b.parquet")


# AVIF, HEIC


@pytest.mark.parametrize("end", ["avif", "heic", "jpg"])
def test_avif_and_heic(tmp_path, end):
    """Whatever the ending: a phone's HEIC file is often called .jpg."""
    y, x = np.mgrid[0:64, 0:96]
    smooth = np.stack([y * 3, x * 2, 0 * x + 99], -1).astype(np.uint8)
    for name, pixels in (("a", smooth), ("b", 255 - smooth)):
        path = tmp_path / f"{name}.{end}"
        if end == "avif":
            Image.fromarray(pixels).save(path, "AVIF", quality=95)
        else:
            heif = pillow_heif.from_pillow(Image.fromarray(pixels))
            file = io.BytesIO()
            heif.save(file, quality=95)
            path.write_bytes(file.getvalue())
    found = images.load(tmp_path)
    assert np.abs(found.images[0].astype(int) - smooth).mean() < 4


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("h5py", "set.h5", "hdf5"),
        ("pyarrow", "set.parquet", "parquet"),
        ("pillow_heif", "", "heic"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    tmp_path, monkeypatch, module, name, extra
):
    original = builtins.__import__

    def missing(wanted, *args, **kwargs):
        if wanted.partition(".")[0] == module:
            raise ImportError(wanted)
        return original(wanted, *args, **kwargs)

    for i in range(2):
        (tmp_path / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    if name:
        (tmp_path / name).write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", missing)
    for skip in (False, True):
        with pytest.raises(ImportError, match=rf"pip install 'aeot-jax\[{extra}\]'"):
            images.load(tmp_path / name, pictures=Pictures((8, 8), skip_broken=skip))

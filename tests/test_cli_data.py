"""`aeot-jax data PATH` describes what there is, and says the command that learns it."""

import io
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeot_jax.cli import main, parse
from aeot_jax.cli.options import source
from aeot_jax.data import sources

RNG = np.random.default_rng(0)


def save(path, height, width, mode="RGB"):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (height, width, *channels), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)


def cut_short(path):
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file, "JPEG")
    path.write_bytes(file.getvalue()[: len(file.getvalue()) // 2])


def mixed(root):
    for i in range(6):
        save(root / "cats" / f"{i}.png", 20 + 8 * i, 30, "RGBA" if i == 3 else "RGB")
        save(root / "dogs" / f"{i}.png", 40, 50, "L" if i == 4 else "RGB")
    cut_short(root / "cats" / "half.jpg")
    (root / "dogs" / "none.jpg").write_bytes(b"nothing")
    (root / "notes.txt").write_text("no picture")


def zipped(root):
    mixed(root.parent / "inner")
    shutil.make_archive(str(root), "zip", root.parent / "inner")
    shutil.rmtree(root.parent / "inner")


def one_size(root):
    for i in range(4):
        save(root / f"{i}.png", 16, 12, "L")


def split(root):
    for i in range(4):
        save(root / "train" / f"{i}.png", 16, 12)
        save(root / "test" / f"{i}.png", 16, 20)


def large(root):
    for i in range(4):
        save(root / f"{i}.png", 300, 320)


KINDS = {"mixed": mixed, "zipped.zip": zipped, "one size": one_size, "split": split, "large": large}


def say(capsys, *command):
    code = main(["data", *map(str, command)])
    shown = capsys.readouterr()
    return code, shown.out, " ".join(shown.err.split())


@pytest.mark.parametrize("name", KINDS)
def test_the_command_that_it_proposes_reads_the_pictures(name, tmp_path, capsys, monkeypatch):
    """And without an option that it names, they are refused."""
    monkeypatch.chdir(tmp_path)
    KINDS[name](tmp_path / name.removesuffix(".zip"))
    code, shown, errors = say(capsys, name)
    assert (code, errors) == (0, "")
    (line,) = re.findall("^To learn it: aeot-jax (.*)$", shown, re.MULTILINE)
    options = parse(shlex.split(line))
    where = source.Source(source.absolute(options.data), pictures=options.pictures)
    images = source.load(where).train.values
    n, *shape = images.shape
    assert f"{n} of {' x '.join(map(str, shape))}" in shown
    needed = shlex.split(line)[5:]
    assert (needed == []) == (name == "one size")
    if needed:
        with pytest.raises(ValueError, match=r"--image-size|--skip-broken"):
            source.load(source.Source(where.path))


def test_everything_is_counted_and_named(tmp_path, capsys):
    mixed(tmp_path)
    _, shown, _ = say(capsys, tmp_path)
    words = " ".join(re.sub("[\u2500-\u257f]", " ", shown).split())
    assert "pictures 12" in words
    assert "7 sizes from 20 x 30 to 40 x 50; most often 40 x 50 (6)" in words
    assert "1 grey, 11 in colour; 1 can be transparent, which becomes white" in words
    assert "cats (6), dogs (6)" in words
    assert "2 files cannot be read: 'cats/half.jpg' (" in words
    assert "'dogs/none.jpg' (it is none of" in words
    assert "1 file is no picture by its name and is left alone: 'notes.txt'." in words
    assert "Every picture was decoded to its end." in words
    assert "--image-size 16 --skip-broken" in words
    assert "With --labels, each class gets a map of its own." in words
    assert "without it, fit stops and names them" in words


def test_options_that_are_given_stay_in_the_command(tmp_path, capsys):
    mixed(tmp_path)
    options = ["--image-size", "8x12", "--grey", "--resize", "pad"]
    code, shown, _ = say(capsys, tmp_path, *options)
    assert code == 0
    assert "12 of 8 x 12 x 1" in shown
    assert "--image-size 8x12 --resize pad --grey --skip-broken" in shown
    assert main(["data", str(tmp_path), "--image-size", "3"]) == 2


def test_what_a_fit_refuses_is_described_with_the_reason(tmp_path, capsys):
    one_size(tmp_path / "loose")
    save(tmp_path / "loose" / "more" / "a.png", 16, 12)
    save(tmp_path / "one" / "a.png", 16, 12)
    np.save(tmp_path / "nan.npy", np.full((5, 8, 8), np.nan))
    for name, facts, reason in (
        ("loose", "16 x 12", "holds both images ('0.png') and sub-folders"),
        ("one", "1 of 16 x 12 x 3", "one picture is too few"),
        ("nan.npy", "5 x 8 x 8", "has NaN or infinite pixels"),
    ):
        code, shown, errors = say(capsys, tmp_path / name)
        assert (code, errors) == (0, "")
        assert facts in shown
        (line,) = re.findall("^aeot-jax fit refuses it: (.*)$", shown, re.MULTILINE)
        assert reason in line
        assert "`source`" not in line


def test_arrays_come_with_the_command_that_learns_them_or_the_reason(tmp_path, capsys):
    rows, images = RNG.normal(size=(2, 30, 5)), RNG.random((30, 16, 16))
    np.save(tmp_path / "rows.npy", rows[0])
    np.savez(tmp_path / "columns.npz", x_train=rows[0], x_test=rows[1][:, :4])
    np.savez(tmp_path / "sides.npz", x_train=images, x_test=images[:, :8])
    for name, facts, line in (
        ("rows.npy", "30", f"To learn it: aeot-jax fit --data {tmp_path / 'rows.npy'} --out RUN"),
        ("columns.npz", "30", "aeot-jax fit refuses it: `--data` .* make them of one size"),
        ("sides.npz", "16 x 16 x 1", "aeot-jax fit refuses it: .* one size with --image-size"),
    ):
        code, shown, _ = say(capsys, tmp_path / name)
        assert code == 0
        assert facts in shown
        assert re.search(f"^{line}", shown, re.MULTILINE)
    code, shown, _ = say(capsys, tmp_path / "sides.npz", "--image-size", "8")
    assert code == 0
    assert shown.rstrip().endswith("--image-size 8")


def test_test_pictures_become_like_those_to_learn(tmp_path, capsys):
    for i in range(4):
        save(tmp_path / "train" / f"{i}.png", 16, 12, "L")
        save(tmp_path / "test" / f"{i}.png", 16, 12)
    _, shown, _ = say(capsys, tmp_path)
    assert shown.count("4 of 16 x 12 x 1") == 2


@pytest.mark.parametrize("name", ["broken", "empty", "texts"])
def test_where_nothing_can_be_described_one_sentence_says_so(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    if name == "broken":
        for i in range(7):
            (tmp_path / name / f"{i}.png").write_bytes(b"nothing")
    if name == "texts":
        (tmp_path / name / "a.txt").write_text("nothing")
    code, shown, errors = say(capsys, tmp_path / name)
    assert (code, shown) == (2, "")
    assert errors.startswith("Error: `PATH` ")
    if name == "broken":
        assert "7 files with names of pictures, none of which can be read: '0.png' (" in errors
        assert "'4.png'" in errors
        assert "'5.png'" not in errors
        assert "and 2 more; replace them" in errors


def test_arrays_are_read_once_even_if_a_fit_refuses_them(tmp_path, capsys, monkeypatch):
    """They were read up to four times."""
    np.save(tmp_path / "nan.npy", np.full((5, 8, 8), np.nan))
    np.save(tmp_path / "rows.npy", RNG.normal(size=(30, 5)))
    images = RNG.random((30, 16, 16))
    np.savez(tmp_path / "sides.npz", x_train=images, x_test=images[:, :8])
    read, find = [], sources.find

    def counted(path, split, *rest):
        found = find(path, split, *rest)
        read.append((Path(path).name, split))
        return found

    monkeypatch.setattr(sources, "find", counted)
    for name in ("nan.npy", "rows.npy", "sides.npz"):
        assert say(capsys, tmp_path / name)[0] == 0
    assert sorted(read) == [
        ("nan.npy", "train"),
        ("rows.npy", "train"),
        ("sides.npz", "test"),
        ("sides.npz", "train"),
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_outputs_that_hold_few_letters_get_those_without_marks(encoding, tmp_path, monkeypatch):
    """A help with an accent, and the name of a class, ended the command."""
    save(tmp_path / "k\u00e4se \u0142 \u00b1" / "a.png", 16, 12)
    save(tmp_path / "k\u00e4se \u0142 \u00b1" / "b.png", 16, 12)
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", file)
    for command in ("fit", "sample", "evaluate", "report", "compare", "data"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
    assert main(["data", str(tmp_path)]) == 0
    assert file.errors == "strict"  # again
    file.flush()
    shown = file.buffer.getvalue().decode(encoding)
    assert {"ascii": "Frechet", "latin-1": "Fr\u00e9chet"}[encoding] in shown
    assert {"ascii": "kase ? +- (2)", "latin-1": "k\u00e4se ? \u00b1 (2)"}[encoding] in shown

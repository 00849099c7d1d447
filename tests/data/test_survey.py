"""What is said of pictures before they are read: from headers, and by decoding them."""

import io

import numpy as np
import pytest
from PIL import Image

from aeot_jax.data import sources
from aeot_jax.data.found import Files
from aeot_jax.data.pictures import decode, survey

RNG = np.random.default_rng(0)


def picture(height, width, mode="RGB"):
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(RNG.integers(0, 256, (height, width, *channels), dtype=np.uint8), mode)


def found(path, split="train"):
    files, _ = sources.find(path, split)
    assert isinstance(files, Files)
    return files


@pytest.fixture
def folder(tmp_path):
    """Three sizes, four modes, one picture on its side, one cut short, one that is none."""
    for name, height, width, mode in (
        ("a", 20, 30, "RGB"),
        ("b", 20, 30, "L"),
        ("c", 24, 16, "RGBA"),
        ("d", 24, 16, "LA"),
    ):
        picture(height, width, mode).save(tmp_path / f"{name}.png")
    exif = Image.Exif()
    exif[274] = 6
    picture(40, 50).save(tmp_path / "e.jpg", exif=exif)
    whole = io.BytesIO()
    picture(60, 80).save(whole, "JPEG")
    (tmp_path / "f.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "g.png").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").write_text("left alone")
    return tmp_path


def test_a_survey_says_what_reading_would(folder):
    files = found(folder)
    seen = survey.survey(files)
    assert [files.names[row] for row in seen.broken] == ["f.jpg", "g.png"]
    assert "truncated" in seen.broken[5]
    assert seen.sizes == {(20, 30): 2, (24, 16): 2, (50, 40): 1}  # upright
    assert [header.grey for header in seen.headers.values()] == [False, True, False, True, False]
    assert [header.transparent for header in seen.headers.values()] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert (seen.missing, seen.step) == (None, 1)
    assert files.others == ("notes.txt",)


def test_very_many_pixels_are_decoded_in_part_and_that_is_said(folder, monkeypatch):
    decoded = []

    def counted(file, *options):
        decoded.append(file.name[-5:])
        return decode.decode(file, *options)

    monkeypatch.setattr(survey, "decode", counted)
    seen = survey.survey(found(folder), most_decoded=3000)
    # 20 x 30 + 20 x 30 + 24 x 16 + 24 x 16 + 40 x 50 + 60 x 80 = 8,768 pixels: one in three
    assert seen.step == 3
    assert sorted(decoded) == ["a.png", "d.png"]
    assert list(seen.broken) == [6]  # the one that is cut short has a good header


def test_a_missing_library_breaks_its_pictures_only(folder, monkeypatch):
    def without(file):
        if file.name.endswith("a.png"):
            raise ImportError("pictures in PNG need a library")
        return decode.look(file)

    monkeypatch.setattr(survey, "look", without)
    seen = survey.survey(found(folder))
    assert seen.missing == "pictures in PNG need a library"
    assert list(seen.broken) == [0, 5, 6]


def test_all_pictures_are_found_however_they_are_arranged(folder):
    (folder / "more").mkdir()
    picture(8, 8).save(folder / "more" / "z.png")
    (folder / "more" / "list.csv").write_text("no picture")
    with pytest.raises(ValueError, match="holds both images"):
        sources.find(folder, "train")
    files = sources.all_pictures(folder)
    assert files is not None
    assert files.names[-2:] == ["g.png", "more/z.png"]
    assert files.labels is None
    assert files.others == ("more/list.csv", "notes.txt")
    assert sources.all_pictures("digits") is None

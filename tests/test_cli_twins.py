"""Near copies on both sides of a split are counted and named."""

import json

import numpy as np
import PIL.Image
import pytest
import tiny
from test_cli import TINY

from aeot_jax.cli import fit, main
from aeot_jax.evaluate import near_copies
from aeot_jax.metrics.newness.twins import Twins


@pytest.fixture(autouse=True)
def sixty_codes_will_do(monkeypatch):
    """As many as the tiny model has."""
    monkeypatch.setattr("aeot_jax.metrics.newness.twins._LEAST_KNOWN", 60)


@pytest.fixture
def photos(tmp_path):
    """Eighty pictures, and near copies of the first twenty."""
    images = tiny.images(80, 0, (8, 8, 1))[..., 0]
    copies = images[:20].copy()
    copies[:, 0, 0] ^= 1
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(np.concatenate([images, copies])):
        name = f"{i:03}.png" if i < 80 else f"{i - 80:03}, again.png"
        PIL.Image.fromarray(pixels).save(folder / name)
    return folder


def test_a_fit_names_near_copies_of_what_it_trains_on(photos, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["fit", "--data", str(photos), "--out", str(out), *TINY]) == 0
    said = capsys.readouterr().err
    found = json.loads((out / "metrics.json").read_text())["novelty"]
    assert 3 <= found["num_twins"] == len(found["twins"]) <= 20
    for one, other in found["twins"]:
        assert one[:3] == other[:3]
        assert one != other
    one, other = found["twins"][0]
    assert f"{found['num_twins']} of 40 images that were held out are near copies" in said
    assert f"such as {one!r} of {other!r}" in said


@pytest.mark.parametrize(
    ("number", "judged"),
    [(20, "judged without them."), (21, "judged beside them, where any sampler looks new.")],
)
def test_a_warning_says_whether_near_copies_are_judged_by(number, judged):
    """They are, if they are most: see `Twins.are_most`."""
    said = fit._of_twins({"num_twins": number, "num_unseen": 40, "twins": []}, "images")
    assert judged in said
    assert Twins(np.arange(40) < number, 0.5).are_most == ("beside" in said)


def test_near_copies_are_rows_of_both_sets():
    images, unseen = tiny.images(), tiny.images(30, 5, (8, 8, 1))
    unseen[[3, 9, 20]] = images[[7, 50, 2], ..., None]
    unseen[[3, 9, 20], 0, 0] ^= 1
    found = near_copies(tiny.model(), unseen)
    np.testing.assert_array_equal(found, [[3, 7], [9, 50], [20, 2]])

"""A fit to few images begins with a note, and scores of few say that they are few."""

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table as Shown

from aeot_jax.cli import evaluate, fit, parse
from aeot_jax.cli.options import source
from aeot_jax.data.images import ImageSet
from aeot_jax.data.tables import Table
from aeot_jax.evaluate import few_images


@pytest.mark.parametrize(
    ("option", "data", "number", "told"),
    [
        ("--data", "photos", 300, True),
        ("--data", "photos", 999, True),
        ("--data", "photos", 1000, False),
        ("--data", "digits", 300, False),
        ("--data", "table.npy", 300, False),
        ("--codes", "codes.npy", 300, False),
    ],
)
def test_few_images_get_one_line(option, data, number, told, capsys):
    if data in ("photos", "digits"):
        found = ImageSet(np.zeros((number, 8, 8, 1), np.uint8), None, data)
    else:
        found = Table(np.zeros((number, 3)), None, data)
    options = parse(["fit", option, data, "--out", "o"])
    fit._announce(options, source.Splits(found, None, None), Console())
    first, *more = capsys.readouterr().out.splitlines()
    assert f"{number:,}" in first
    way = " With --hold-out the report says how near they are."
    assert more == ([f"Note: {few_images(number)}{way}"] if told else [])
    if told:
        assert more[0].startswith(f"Note: {number} images are few: new ones will be soft, and near")


@pytest.mark.parametrize(("number", "tested"), [(300, True), (39, False)])
def test_where_nothing_can_be_held_out_nobody_is_told_to(number, tested, capsys):
    found = ImageSet(np.zeros((number, 8, 8, 1), np.uint8), None, "photos")
    options = parse(["fit", "--data", "photos", "--out", "o"])
    fit._announce(options, source.Splits(found, found if tested else None, None), Console())
    shown = capsys.readouterr().out
    assert "Note: " in shown
    assert "--hold-out" not in shown


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (None, "no images were held out"),
        (1, "only 1 image was held out, and 20 are needed"),
        (19, "only 19 images were held out, and 20 are needed"),
    ],
)
def test_what_too_few_images_leave_open_is_not_called_missing(number, why, capsys):
    """Said "no images were held out" of 19."""
    names = "precision", "recall", "density", "coverage"
    parts = dict.fromkeys(names, 0.9)
    results = {
        "frechet": {"distance": 1.0, "floor_train": 0.5, "floor_test": None, "num_samples": 40},
        "kernel": {"value": 0.1, "standard_error": 0.01, "floor": 0.0},
        "prdc": {**parts, "floor": parts},
        "classes": None,
        "memory": None,
    }
    rows = None if number is None else np.zeros((number, 8, 8, 1), np.uint8)
    shown = Shown("what is measured", "model", "real", "better is")
    held_out = None if rows is None else ImageSet(rows, None, "photos")
    evaluate._add_distances(shown, results, "images", held_out)
    Console(width=200).print(shown)
    assert f"unknown: {why}" in capsys.readouterr().out

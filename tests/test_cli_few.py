"""A fit to few images begins with a note; the sets that come to be tried have none."""

import numpy as np
import pytest
from rich.console import Console

from aeot_jax.cli import fit, parse
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

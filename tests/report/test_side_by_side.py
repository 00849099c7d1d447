"""Runs side by side: the best of a row is marked where it can be told."""

import numpy as np
import pytest
from test_page import check

from aeot_jax.report import Entry, compare, write_comparison


def entry(name, *, data="a", upper=0.1, mse=0.01, recall=None, epochs=3, judged="test"):
    return Entry(
        name=name,
        metrics={
            "data": {"name": "d", "sha256": data, "num_images": 1234},
            "mass_error": upper - 0.02,
            "mass_error_se": 0.01,
            "upper": upper,
            "converged": True,
            "reconstruction_mse": mse,
            "reconstruction": {"images": judged},
            "seconds": 12.0,
            "classes": [{"converged": True}, {"converged": False}],
        },
        config={"config": {"training": {"epochs": epochs, "noise": 0.1}}},
        evaluation={} if recall is None else {"prdc": {"recall": recall}},
        losses=np.linspace(2.0, 1.0, epochs),
    )


def rows(entries):
    table, said = compare(entries)
    marked = {(table.rows[i][0], j) for i, j in table.best}
    return {row[0]: row[1:] for row in table.rows}, marked, said


def test_the_best_is_marked_and_equals_are_not():
    runs = [entry("x", upper=0.1, recall=0.8), entry("y", upper=0.08, recall=0.9, epochs=5)]
    found, marked, said = rows(runs)
    assert found["mass error (lower)"] == ("0.08 ± 0.02", "0.06 ± 0.02")
    assert found["classes certified"] == ("1 of 2", "1 of 2")
    assert found["--training.epochs"] == ("3", "5")
    assert not any("noise" in name for name in found)
    assert marked == {("mass error (lower)", 2), ("recall (higher)", 2)}
    assert not said


def test_what_cannot_be_compared_is_said_and_not_marked():
    found, marked, said = rows([entry("x", data="a", mse=0.1), entry("y", data="b", upper=0.2)])
    assert marked == {("mass error (lower)", 1)}
    assert "different data" in said[0]
    assert "Scores are missing of x, y" in said[1]
    assert "recall (higher)" not in found
    _, marked, _ = rows([entry("x", mse=0.1), entry("y", judged="training")])
    assert not marked


@pytest.mark.parametrize("count", [2, 12])
def test_the_page_of_a_comparison_is_valid(count, tmp_path):
    runs = [entry(f"<{i}>", mse=0.01 * i) for i in range(count)]
    text = write_comparison(runs, tmp_path / "deep" / "page.html").read_text()
    found = check(text)
    assert "<11>" in found.text or count == 2
    assert len(found.images) == 1
    assert 'class="best"' in text

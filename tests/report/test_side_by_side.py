"""Runs side by side: the best of a row is marked where it can be told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_page import check

from aeot_jax.report import Entry, compare, write_comparison


def entry(
    name, *, data="a", upper=0.1, mse=0.01, recall=None, epochs=3, judged="test", seconds=12.0
):
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
            "seconds": seconds,
            "classes": [{"converged": True}, {"converged": False}],
        },
        config={"config": {"training": {"epochs": epochs, "noise": 0.1}}},
        evaluation={}
        if recall is None
        else {"prdc": {"recall": recall}, "frechet": {"num_samples": 400}},
        losses=np.linspace(2.0, 1.0, epochs),
    )


def rows(entries):
    table, said = compare(entries)
    marked = {(table.rows[i][0], j) for i, j in table.best}
    return {row[0]: row[1:] for row in table.rows}, marked, said


def test_the_best_is_marked_and_equals_are_not():
    runs = [entry("x", upper=0.1, recall=0.8), entry("y", upper=0.05, recall=0.9, epochs=5)]
    found, marked, said = rows(runs)
    assert found["mass error (lower)"] == ("0.08 ± 0.02", "0.03 ± 0.02")
    assert found["classes certified"] == ("1 of 2", "1 of 2")
    assert found["--training.epochs"] == ("3", "5")
    assert not any("noise" in name for name in found)
    assert marked == {("mass error (lower)", 2), ("recall (higher)", 2)}
    assert not said


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"upper": 0.07}, "mass error (lower)"),  # of 0.08 ± 0.02 and 0.05 ± 0.02
        ({"recall": 0.85}, "recall (higher)"),  # of 400 images a share has an error of 0.02
        ({"seconds": 11.0}, "seconds (lower)"),
    ],
)
def test_what_touches_is_not_marked(change: dict[str, Any], label):
    found, marked, _ = rows([entry("x", recall=0.8), entry("y", **{"recall": 0.8, **change})])
    assert len(set(found[label])) == 2
    assert not marked
    clear: dict[str, Any] = {"upper": 0.05, "recall": 0.95, "seconds": 10.0}
    name = next(iter(change))
    better = entry("y", **{"recall": 0.8, name: clear[name]})
    assert rows([entry("x", recall=0.8), better])[1] == {(label, 2)}
    third = entry("z", **{"recall": 0.8, **change})
    assert rows([entry("x", recall=0.8), better, third])[1] <= {(label, 2)}


def test_the_last_part_of_a_resumed_run_is_no_record():
    resumed = entry("y", seconds=3.0)
    resumed = replace(resumed, metrics={**resumed.metrics, "resumed": True})
    found, marked, _ = rows([entry("x"), resumed])
    assert found["seconds (lower)"] == ("12.0", "3.0, since resumed")
    assert not marked


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

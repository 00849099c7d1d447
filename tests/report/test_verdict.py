"""The verdict follows from the numbers by rules that a table of cases can hold."""

import dataclasses
import re

import numpy as np
import pytest

from aeot_jax.report.trips import kept_detail
from aeot_jax.report.verdict import Numbers, judge

FINE = Numbers(
    converged=True,
    status="Converged.",
    mass_error=0.05,
    mass_error_se=0.005,
    upper=0.06,
    tolerance=0.1,
    error=0.005,
    error_of_mean=0.07,
    error_train=0.004,
    judged="test",
    learned=True,
    detail=0.84,
    epochs=30,
    falling=0.01,
    share_rejected=0.04,
    share_copied=0.25,
    near=0.06,
    near_se=0.01,
    codes_near=0.06,
    codes_near_se=0.01,
    frechet=0.3,
    frechet_floor=0.2,
    parts={"precision": 1.0, "recall": 0.95, "coverage": 0.97},
    evaluated=True,
)

CASES = [
    ({}, "good", "Transport", "certified to be within the tolerance of 0.1", ""),
    ({"converged": False, "status": "It ended."}, "weak", "Transport", "It ended.", "--resume"),
    ({"tolerance": None}, "fair", "Transport", "no tolerance was asked for", ""),
    ({"upper": float("inf"), "tolerance": None}, "weak", "Transport", "unbounded", ""),
    ({"num_empty": 3, "expected_empty": 0.0}, "weak", "Empty cells", "3 of 0 cells", "--tolerance"),
    ({"num_empty": 1, "num_cells": 2000}, "fair", "Empty cells", "1 of 2,000 cells", "four times"),
    ({"num_classes": 2}, "good", "Classes", "all 2 classes", ""),
    (
        {"num_classes": 2, "classes_short": ("cats",)},
        "weak",
        "Classes",
        "The map of cats",
        "--solver.max-samples",
    ),
    ({}, "good", "Reconstruction", "leaves 7.1 % of the error", ""),
    (
        {"error": 0.02, "error_train": 0.019},
        "fair",
        "Reconstruction",
        "leaves 29 %",
        "--latent-dim",
    ),
    ({"error": 0.02}, "fair", "Reconstruction", "leaves 29 %", "Learn from more images."),
    ({"error": 0.035, "error_train": 0.03}, "weak", "Reconstruction", "leaves 50 %", "--epochs"),
    ({"error": 0.06, "error_train": 0.05}, "weak", "Reconstruction", "leaves 86 %", "--latent-dim"),
    ({"learned": False, "error": 0.07}, "weak", "Reconstruction", "Nothing was learned", "epochs"),
    ({"error_of_mean": 0.0}, "weak", "Reconstruction", "inf", "--epochs"),
    ({}, "good", "Sharpness", "Decoded test images have 84 % of the fine detail", ""),
    ({"detail": 0.53}, "fair", "Sharpness", "53 % of the fine detail", "--epochs"),
    ({"detail": 0.33}, "weak", "Sharpness", "they are smeared, and so are new ones", "--epochs"),
    ({}, "good", "Unseen images", "1.2 times", ""),
    ({"error_train": 0.002}, "fair", "Unseen images", "2.5 times", "more images"),
    ({"judged": "training"}, "open", "Unseen images", "flatters", "--hold-out"),
    ({"falling": 0.3}, "fair", "Training", "fell by 30 %", "--epochs"),
    ({"epochs": 1, "falling": None}, "fair", "Training", "for 1 epoch only", "--epochs"),
    ({"num_learned": 999}, "fair", "Few images", "999 images were learned", "1,000 images or more"),
    ({}, "good", "Rejection", "4.0 % of the candidates", ""),
    ({"share_rejected": 0.2}, "fair", "Rejection", "20 %", "--extension.threshold"),
    ({"share_rejected": 0.9}, "weak", "Rejection", "90 %", "--extension.threshold"),
    ({}, "good", "Copies", "not clearly more", ""),
    ({"codes_near": 0.4}, "fair", "Novelty", "stay near to the data", "more images"),
    ({"codes_nearer": 0.9}, "fair", "Novelty", "in 90 % of all pairs", "more images"),
    ({"codes_repeated": 0.5}, "open", "Novelty", "50 % of the unseen codes equal", "no copy"),
    (
        {"codes_twins": 0.2},
        "fair",
        "Near copies",
        "20 % of the unseen codes lie far",
        "one of each",
    ),
    ({"codes_twins": 0.02}, "good", "Near copies", "not compared with these", "hold out all"),
    ({"codes_twins": 0.2}, "good", "Novelty", "as new as unseen data", ""),
    ({"codes_twins": 0.6}, "open", "Novelty", "how new samples are is not told", "hold out all"),
    ({}, "good", "Novelty", "as new as unseen data", ""),
    ({"near": 0.08}, "weak", "Copies", "leans on", "more images"),
    ({"identical": 2}, "weak", "Copies", "2 new images equal", "more images"),
    ({"share_copied": 0.9}, "fair", "Blending", "90 % of the samples", "more images"),
    ({}, "good", "Likeness", "1.5 times what real images score", ""),
    ({"frechet": 1.0}, "fair", "Likeness", "5.0 times", "--epochs"),
    ({"frechet": 2.0}, "weak", "Likeness", "10.0 times", "--epochs"),
    ({"parts": {"recall": 0.95}}, "good", "Recall", "95 %", ""),
    ({"parts": {"recall": 0.7}}, "fair", "Recall", "70 %", "--latent-dim"),
    ({"parts": {"coverage": 0.3}}, "weak", "Coverage", "30 %", "--latent-dim"),
    ({"evaluated": False}, "open", "Scores", "was not measured", "aeot-jax evaluate"),
    ({"data_gone": "The disk is away."}, "open", "Data", "The disk is away.", ""),
]


@pytest.mark.parametrize(("change", "level", "title", "text", "advice"), CASES)
def test_a_rule_says_what_its_numbers_mean(change, level, title, text, advice):
    findings = judge(dataclasses.replace(FINE, **change)).findings
    (found,) = (finding for finding in findings if finding.title == title)
    assert found.level == level
    assert text in found.text
    assert advice in found.advice
    assert bool(found.advice) >= (level == "weak" and title != "Transport")


def test_whatever_is_weak_is_said_in_words_that_need_no_table():
    """Nobody knows what "weak: copies" means."""
    for change, level, title, *_ in CASES:
        verdict = judge(dataclasses.replace(FINE, **change))
        if level == "weak" and change.get("learned", True):
            (found,) = (one for one in verdict.findings if one.title == title)
            assert len(found.weakness.split()) >= 4
            assert found.weakness in verdict.headline


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_step_that_is_spread_over_k_pixels_keeps_one_part_in_k(k):
    """Wherever it is, in bytes and in floats, and so do edges in colour; a plain image has none."""
    steps, ramp = np.zeros((3, 16, 16, 3)), np.zeros((3, 16, 16, 3))
    for i, at in enumerate((5, 8, 11)):
        steps[i, at:] = (1.0, 0.5, 0.25)
        ramp[i] = np.clip((np.arange(16) - at + 1 + k // 2) / k, 0, 1)[:, None, None] * steps[i, -1]
    assert kept_detail(steps, ramp) == pytest.approx(1 / k)
    turned = ramp.transpose(0, 2, 1, 3)[::-1]
    assert kept_detail(steps, turned) == pytest.approx(1 / k)
    assert kept_detail(np.rint(255 * steps).astype(np.uint8), ramp) == pytest.approx(
        1 / k, rel=0.02
    )
    beyond = kept_detail(steps, 9 * steps - 4)  # black and white where it is below 0 and above 1
    assert beyond == pytest.approx((1 + 0.5**2) / (1 + 0.5**2 + 0.25**2))
    assert kept_detail(np.ones((3, 8, 8, 1)), np.zeros((3, 8, 8, 1))) is None


def test_scores_of_few_images_say_how_uncertain_they_are():
    verdict = judge(dataclasses.replace(FINE, compared=25))
    few = verdict.findings[-1]
    assert {one.title for one in verdict.findings if one.level == "good"}.isdisjoint(
        {"Likeness", "Precision", "Recall", "Coverage"}
    )
    assert (few.level, few.title) == ("open", "Few images to judge by")
    assert "± 0.20 (two standard errors)" in few.text
    assert "--hold-out" in few.text
    enough = judge(dataclasses.replace(FINE, compared=100))
    assert "Few" not in " ".join(one.title for one in enough.findings)
    rows = judge(dataclasses.replace(FINE, compared=25, things="rows")).findings[-1]
    assert "compare 25 rows with 25" in rows.text


def test_what_was_not_measured_is_not_judged():
    bare = Numbers(True, "Converged.", 0.05, 0.005, 0.06, 0.1)
    assert [finding.title for finding in judge(bare).findings] == ["Transport", "Scores"]


@pytest.mark.parametrize(
    ("change", "level", "headline"),
    [
        ({}, "good", "Good: all that was measured is as it should be."),
        ({"evaluated": False}, "good", "as it should be; some of it was not measured yet."),
        ({"share_rejected": 0.2}, "fair", "Good, with room to improve."),
        (
            {"compared": 25},
            "good",
            "should be; some of it was judged by too few images (25; 100 are needed).",
        ),
        (
            {"compared": 25, "judged": "training", "things": "rows"},
            "good",
            "not measured yet; some of it was judged by too few rows (25; 100 are needed).",
        ),
        ({"codes_repeated": 0.5}, "good", "as it should be; how new samples are is not told."),
        (
            {"near": 0.5, "share_rejected": 0.9},
            "weak",
            "care: it rejects many of its candidates and it leans on its training images.",
        ),
        ({"detail": 0.33}, "weak", "Usable with care: its images are smeared."),
        ({"identical": 2}, "weak", "Usable with care: it copies its training images."),
        ({"learned": False}, "weak", "Not usable yet: nothing was learned."),
    ],
)
def test_the_headline_is_that_of_the_weakest(change, level, headline):
    verdict = judge(dataclasses.replace(FINE, **change))
    assert verdict.level == level
    assert verdict.headline.endswith(headline)


NETWORK = re.compile("--(epochs|latent-dim|image-size|training|autoencoder)|autoencoder|blur|pixel")
"""What there is only where a network was trained."""

TRAINED = dict.fromkeys(
    ("error", "error_of_mean", "error_train", "judged", "learned", "detail", "falling")
)


@pytest.mark.parametrize("things", ["images", "rows", "codes"])
def test_advice_fits_the_kind_of_the_data(things):
    """Every rule, weak and fair: codes are of another encoder, and rows are not blurred."""
    own = TRAINED | {"epochs": 0} if things == "codes" else {}
    parts = {"precision": 0.3, "recall": 0.3, "coverage": 0.3}
    told = set()
    for change in (*(case[0] for case in CASES), {"parts": parts}):
        numbers = dataclasses.replace(FINE, **{**change, **own, "things": things})
        for finding in judge(numbers).findings:
            said = f"{finding.text} {finding.advice} {finding.weakness}"
            told |= set(NETWORK.findall(finding.advice))
            if things != "images":
                assert not re.search("image|pixel|blur", said), said
            if things == "codes":
                assert not NETWORK.search(said), said
            if finding.title in ("Precision", "Recall", "Coverage", "Likeness", "Copies"):
                assert bool(finding.advice) >= (finding.level in ("weak", "fair"))
    assert bool(told) == (things != "codes")


def test_few_images_are_told_of_images_alone():
    for number, things, told in (
        (999, "images", True),
        (1000, "images", False),
        (9, "codes", False),
    ):
        verdict = judge(dataclasses.replace(FINE, num_learned=number, things=things))
        assert ("Few images" in [one.title for one in verdict.findings]) == told


def test_the_weak_come_first():
    numbers = dataclasses.replace(FINE, near=0.5, share_rejected=0.2, evaluated=False)
    levels = [finding.level for finding in judge(numbers).findings]
    order = ("weak", "fair", "good", "open")
    assert levels == sorted(levels, key=order.index)
    assert set(levels) == set(order)


def test_tables_and_codes_are_judged_in_their_own_words():
    numbers = dataclasses.replace(FINE, identical=2, things="rows")
    said = " ".join(f"{one.title} {one.text} {one.advice}" for one in judge(numbers).findings)
    assert "2 new rows equal a training row in every number." in said
    assert "image" not in said
    assert "pixel" not in said

"""The verdict: what is good, what is weak and what to try, by rules on the numbers."""

import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aeot_jax.evaluate.few import FEW, few_images
from aeot_jax.metrics.comparison import ENOUGH, uncertain
from aeot_jax.ot.counts.words import in_words
from aeot_jax.report.verdict import ways
from aeot_jax.report.verdict.findings import Finding, Level, percent
from aeot_jax.report.verdict.newness import copies, novelty
from aeot_jax.report.verdict.numbers import Numbers

_ORDER: tuple[Level, ...] = ("weak", "fair", "good", "open")

_GOOD_SHARE, _FAIR_SHARE = 0.25, 0.4
"""Largest error of a good and of a fair autoencoder, over the error of the mean image; at 0.49
circles and squares in colour came back as one grey blob."""

_FEW_EMPTY = 0.01
"""Share of the cells that may be empty beyond chance before a run is weak."""

_SHARP, _SOFT = 0.7, 0.5
"""Least share of the fine detail that sharp and soft images have. At a half, a step of one pixel is
spread over two, and smeared beyond. With 2,000 images Fashion-MNIST had 0.33 after 3 epochs, 0.53
after 10 and 0.73 after the usual number; MNIST 0.45 after 3, 0.67 after 8 and 0.84."""

_OVERFIT = 1.5
"""Largest ratio of the errors of held-out and training images; it was 1.1 for MNIST and
Fashion-MNIST, 1.9 for the digits."""

_FALLING = 0.1
"""A loss still falls if it fell by more than this part in the last tenth of the epochs."""

_FEW_EPOCHS = 5

_MANY_REJECTED, _MOST_REJECTED = 0.1, 0.3
"""Shares of rejected candidates above which a run is fair, or weak; images have about 0.04."""

_NEAR_FLOOR, _FAR_FROM_FLOOR = 2.0, 6.0
"""Fréchet distance over its floor, good and fair; it was 1.4 for MNIST, 4.6 for Fashion-MNIST."""

_GOOD_PART, _FAIR_PART = 0.9, 0.6
"""Precision, recall and coverage over the scores of real images, good and fair."""


class Verdict(NamedTuple):
    """The verdict on a run.

    Attributes:
      level: overall level.
      headline: the verdict in one sentence.
      findings: the findings, weak ones first.
    """

    level: Level
    headline: str
    findings: tuple[Finding, ...]


def judge(numbers: Numbers) -> Verdict:
    """Judge a run by its numbers.

    Args:
      numbers: numbers of the run.
    """
    findings = [_of(numbers.things, one) for rule in _RULES for one in rule(numbers)]
    findings.sort(key=lambda finding: _ORDER.index(finding.level))
    weak = list(dict.fromkeys(f.weakness for f in findings if f.level == "weak"))
    fair = sum(finding.level == "fair" for finding in findings)
    if numbers.learned is False:
        return Verdict("weak", "Not usable yet: nothing was learned.", tuple(findings))
    if weak:
        headline = f"Usable with care: {_listed(weak)}."
        return Verdict("weak", headline, tuple(findings))
    said = [
        "Good, with room to improve" if fair else "Good: all that was measured is as it should be"
    ]
    said += dict.fromkeys(f.left for f in findings if f.level == "open" and f.left)
    return Verdict("fair" if fair else "good", f"{'; '.join(said)}.", tuple(findings))


def _of(things: str, finding: Finding) -> Finding:
    """Replace "images" in a finding by what the data are."""
    if things == "images":
        return finding
    words = {"images": things, "image": things[:-1], "pixel": "number"}

    def put(text: str) -> str:
        return re.sub("images?|pixel", lambda found: words[found[0]], text)

    title = finding.title.replace(" images", f" {things}")
    said = {name: put(getattr(finding, name)) for name in ("text", "advice", "weakness", "left")}
    return finding._replace(title=title, **said)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _transport(n: Numbers) -> Iterable[Finding]:
    words = in_words(n.mass_error, n.mass_error_se, n.upper)
    said = f"The mass error of the cells is {words}"
    if n.converged and n.tolerance is not None:
        text = f"{said}: certified to be within the tolerance of {n.tolerance:g}."
        yield Finding("good", "Transport", text)
    elif n.tolerance is None and math.isfinite(n.upper):
        yield Finding("fair", "Transport", f"{said}; no tolerance was asked for.")
    else:
        asked = "" if n.tolerance is None else f", above the tolerance of {n.tolerance:g}"
        advice = "Continue an interrupted run with --resume; otherwise see the sentence above."
        wrong = "the shares of its cells are not certified"
        yield Finding("weak", "Transport", f"{said}{asked}. {n.status}", advice, wrong)
    if n.num_empty > n.expected_empty + 3 * math.sqrt(n.expected_empty):
        yield Finding(
            "fair" if n.num_empty <= _FEW_EMPTY * n.num_cells else "weak",
            "Empty cells",
            f"{n.num_empty:,} of {n.num_cells:,} cells got no sample, {n.expected_empty:.1f} would "
            "by chance: what was learned of these images is never drawn.",
            "Solve to a smaller --tolerance; half of it takes four times the samples.",
            "it never draws some of what it learned",
        )


def _classes(n: Numbers) -> Iterable[Finding]:
    if n.classes_short:
        several = len(n.classes_short) > 1
        names = ", ".join(n.classes_short[:10]) + (", ..." if len(n.classes_short) > 10 else "")
        text = f"The map{'s' if several else ''} of {names} did not reach the tolerance."
        advice = "Raise --tolerance or --solver.max-samples."
        wrong = "the maps of some classes are not certified"
        yield Finding("weak", "Classes", text, advice, wrong)
    elif n.num_classes:
        text = f"The maps of all {n.num_classes} classes are certified."
        yield Finding("good", "Classes", text)


def _reconstruction(n: Numbers) -> Iterable[Finding]:
    if n.error is None or n.error_of_mean is None:
        return
    share = n.error / n.error_of_mean if n.error_of_mean > 0 else math.inf
    text = (
        f"Encoding and decoding {n.judged} images leaves {percent(share)} of the error that the "
        f"mean alone makes ({n.error:.4f} of {n.error_of_mean:.4f} per pixel)."
    )
    own = n.error_train or math.inf
    overfits = n.judged != "training" and n.error > _OVERFIT * own
    # More dimensions help one number and harm the other.
    longer = "Train for more --epochs, or with a larger --latent-dim."
    longer = "Learn from more images." if overfits else longer
    if n.learned is False:
        text = f"Nothing was learned. {text}"
        advice = "Train for more --epochs, or on more images."
        yield Finding("weak", "Reconstruction", text, advice, "nothing was learned")
    elif share <= _GOOD_SHARE:
        yield Finding("good", "Reconstruction", text)
    else:
        level = "fair" if share <= _FAIR_SHARE else "weak"
        wrong = "its autoencoder loses much of the images"
        yield Finding(level, "Reconstruction", text, longer, wrong)
    if n.judged == "training":
        yield Finding(
            "open",
            "Unseen images",
            "The error is that of images that were trained on, which flatters.",
            "Set some aside with --hold-out.",
        )
    elif n.error_train:
        ratio = n.error / n.error_train
        text = f"Unseen images have {ratio:.1f} times the error of the training images."
        if overfits:
            fewer = ", or with a smaller --latent-dim" if share <= _GOOD_SHARE else ""
            yield Finding("fair", "Unseen images", text, f"Learn from more images{fewer}.")
        else:
            yield Finding("good", "Unseen images", text)


def _sharpness(n: Numbers) -> Iterable[Finding]:
    if n.detail is None or n.learned is False:
        return
    text = (
        f"Decoded {n.judged} images have {percent(n.detail)} of the fine detail of the originals "
        "(squared differences between neighbouring pixels)"
    )
    advice = "Train for more --epochs, or on more images."
    if n.detail >= _SHARP:
        yield Finding("good", "Sharpness", f"{text}.")
    elif n.detail >= _SOFT:
        yield Finding("fair", "Sharpness", f"{text}: they are soft, and so are new ones.", advice)
    else:
        wrong = "its images are smeared"
        text = f"{text}: they are smeared, and so are new ones."
        yield Finding("weak", "Sharpness", text, advice, wrong)


def _training(n: Numbers) -> Iterable[Finding]:
    if 0 < n.epochs < _FEW_EPOCHS:
        epochs = "1 epoch" if n.epochs == 1 else f"{n.epochs} epochs"
        text = f"The autoencoder trained for {epochs} only."
        yield Finding("fair", "Training", text, "Train for more --epochs.")
    elif n.falling is not None and n.falling > _FALLING:
        text = f"The loss fell by {percent(n.falling)} over the last tenth of the epochs."
        yield Finding("fair", "Training", text, "It was still learning: train for more --epochs.")


def _few(n: Numbers) -> Iterable[Finding]:
    if n.num_learned is not None and few_images(n.num_learned, n.things):
        text = f"{n.num_learned:,} images were learned, which is few: new ones are soft, and near "
        text += "to these."
        yield Finding("fair", "Few images", text, f"Learn {FEW:,} images or more.")


def _rejection(n: Numbers) -> Iterable[Finding]:
    if n.share_rejected is None:
        return
    text = f"{percent(n.share_rejected)} of the candidates lie in the singular set and are drawn"
    text += " again."
    advice = "Raise --extension.threshold, or fit to more images."
    if n.share_rejected <= _MANY_REJECTED:
        yield Finding("good", "Rejection", text)
    else:
        level = "fair" if n.share_rejected <= _MOST_REJECTED else "weak"
        yield Finding(level, "Rejection", text, advice, "it rejects many of its candidates")


def _scores(n: Numbers) -> Iterable[Finding]:
    few = None if n.compared is None else uncertain(n.compared)
    for finding in _of_scores(n):
        hidden = few is not None and finding.level == "good"
        yield finding._replace(level="open", left="") if hidden else finding
    if few is not None:
        left = f"some of it was judged by too few images ({n.compared}; {ENOUGH} are needed)"
        yield Finding("open", "Few images to judge by", few, left=left)


def _of_scores(n: Numbers) -> Iterable[Finding]:
    if n.frechet is not None and n.frechet_floor:
        ratio = n.frechet / n.frechet_floor
        text = (
            f"The Fréchet distance is {n.frechet:.3g}, {ratio:.1f} times what real images score "
            f"({n.frechet_floor:.3g})."
        )
        near = ratio <= _NEAR_FLOOR
        level = "good" if near else "fair" if ratio <= _FAR_FROM_FLOOR else "weak"
        advice = "" if near else ways.liker(n.things)
        wrong = "its images, as a whole, are unlike the real ones"
        yield Finding(level, "Likeness", text, advice, wrong)
    said = {
        "precision": ("many samples do not look real", ways.more_real(n.things)),
        "recall": ("many real images are never made", ways.fuller(n.things)),
        "coverage": ("many real images have no sample near", ways.fuller(n.things)),
    }
    for name, part in (n.parts or {}).items():
        text = f"{name.capitalize()} is {percent(part)} of what real images score."
        if part >= _GOOD_PART:
            yield Finding("good", name.capitalize(), text)
        else:
            level = "fair" if part >= _FAIR_PART else "weak"
            wrong, way = said[name]
            advice = f"{wrong.capitalize().replace('Many', 'Some')}: {way}."
            yield Finding(level, name.capitalize(), text, advice, wrong)


def _unknown(n: Numbers) -> Iterable[Finding]:
    if not n.evaluated:
        text = "How near the new images come to real ones was not measured."
        yield Finding("open", "Scores", text, "Run aeot-jax evaluate, then aeot-jax report.")
    if n.data_gone is not None:
        yield Finding("open", "Data", n.data_gone)


_RULES: tuple[Callable[[Numbers], Iterable[Finding]], ...] = (
    _transport,
    _classes,
    _reconstruction,
    _sharpness,
    _training,
    _few,
    _rejection,
    copies,
    novelty,
    _scores,
    _unknown,
)

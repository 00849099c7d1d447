"""Rules on copies and novelty: are samples new, or data that are repeated?"""

from collections.abc import Iterable

from aeot_jax.evaluate import KEEP_TOGETHER
from aeot_jax.report.verdict import ways
from aeot_jax.report.verdict.findings import Finding, percent
from aeot_jax.report.verdict.numbers import Numbers

_MOST_TWINS = 0.5
"""Share of near copies among unseen codes, from which on they are compared with, too."""

_MOST_NEARER = 0.6
"""Chance that a new code is nearer than an unseen one, up to which they are alike; of 60 unseen
codes chance alone makes up to 0.57."""

_MANY_COPIED = 0.6
"""Largest share of samples that are codes of the data; images have about 0.25."""

_UNTOLD = "how new samples are is not told"


def copies(n: Numbers) -> Iterable[Finding]:
    """Are images of the samples near to training images?"""
    advice = ways.newer(n.things)
    if n.identical:
        text = f"{n.identical} new images equal a training image in every pixel."
        yield Finding("weak", "Copies", text, advice, "it copies its training images")
    elif n.near is not None:
        text = (
            f"{percent(n.near)} of the new images lie as near to a training image as the nearest "
            f"{percent(n.alpha)} of real ones do"
        )
        if n.near > n.alpha + 2 * n.near_se:
            wrong = "it leans on its training images"
            yield Finding("weak", "Copies", f"{text}: {wrong}.", advice, wrong)
        else:
            least = f"{text}, which is not clearly more (± {percent(2 * n.near_se)})."
            yield Finding("good", "Copies", least)
    if n.share_copied is not None and n.share_copied > _MANY_COPIED:
        text = f"{percent(n.share_copied)} of the samples are codes of the data, nothing blended."
        yield Finding("fair", "Blending", text, advice)


def novelty(n: Numbers) -> Iterable[Finding]:
    """Are codes of the samples as far from training codes as unseen ones are?"""
    if n.codes_near is None:
        return
    if n.codes_repeated > n.alpha:
        text = (
            f"{percent(n.codes_repeated)} of the unseen codes equal a training code, beside which "
            "any sampler looks new: how new samples are is not told."
        )
        advice = "Hold out data of which no copy is trained on."
        yield Finding("open", "Novelty", text, advice, left=_UNTOLD)
        return
    if n.codes_twins:
        text = (
            f"{percent(n.codes_twins)} of the unseen codes lie far nearer to one training code "
            "than to others, as near copies do, such as pictures of a burst; "
        )
        if n.codes_twins > _MOST_TWINS:
            text += "beside them any sampler looks new: how new samples are is not told."
            yield Finding("open", "Novelty", text, KEEP_TOGETHER, left=_UNTOLD)
            return
        text += "samples are not compared with these."
        level = "fair" if n.codes_twins > n.alpha else "good"
        yield Finding(level, "Near copies", text, KEEP_TOGETHER)
    text = (
        f"{percent(n.codes_near)} of the new codes lie as near to a training code as the nearest "
        f"{percent(n.alpha)} of unseen ones do"
    )
    advice = "Fit to more images: kernels, which move the codes, need 200 (--extension.form)."
    if n.codes_near > n.alpha + 2 * n.codes_near_se:
        yield Finding("fair", "Novelty", f"{text}: samples stay near to the data.", advice)
    elif n.codes_nearer > _MOST_NEARER:
        text = (
            f"A new code is nearer to the data than an unseen one in {percent(n.codes_nearer)} of "
            "all pairs (50 % if as new): samples stay near to the data."
        )
        yield Finding("fair", "Novelty", text, advice)
    else:
        yield Finding("good", "Novelty", f"{text}: samples are as new as unseen data.")

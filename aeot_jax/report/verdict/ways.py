"""What to try, by the kind of the data: the user's own codes have no network to train."""

MORE = "fit to more images"
"""In the word for images, which the verdict replaces by that for the data."""

_LIKER = {
    "images": "See if samples are blurred (more --epochs) or kinds are missing.",
    "rows": "See if kinds of rows are missing, or train for more --epochs.",
    "codes": f"See if kinds of images are missing, or {MORE}.",
}


def newer(things: str) -> str:
    """Where samples are copies."""
    smaller = "to codes of fewer dimensions" if things == "codes" else "with a smaller --latent-dim"
    return f"Fit to more images, or {smaller}."


def liker(things: str) -> str:
    """Where samples, as a whole, are unlike the data."""
    return _LIKER[things]


def more_real(things: str) -> str:
    """Where single samples do not look real."""
    return MORE if things == "codes" else "train for more --epochs"


def fuller(things: str) -> str:
    """Where samples leave out some of the data."""
    return MORE if things == "codes" else "raise --latent-dim, or train longer"

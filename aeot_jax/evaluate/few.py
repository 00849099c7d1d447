"""Notes for whoever learns few images, or holds out few."""

from aeot_jax.metrics.comparison import MIN_SET

FEW = 1000
"""From so many images on, nothing is said; the guide asks for a thousand or more."""


def few_images(number: int, things: str = "images") -> str | None:
    """A note if so few images are learned that new ones will show it, or None.

    Args:
      number: how many are learned.
      things: what the data are; rows of a table and codes need fewer.
    """
    if things != "images" or number >= FEW:
        return None
    said = f"{number:,} images are few: new ones will be soft, and near to these"
    return f"{said}; give {FEW:,} or more."


def too_few(number: int, things: str = "images") -> str | None:
    """Why so few held-out images are not compared with new ones; None if they are.

    Args:
      number: how many were held out, one at least.
      things: what the data are.
    """
    if number >= MIN_SET:
        return None
    held = f"{things[:-1]} was" if number == 1 else f"{things} were"
    return f"only {number} {held} held out, and {MIN_SET} are needed"

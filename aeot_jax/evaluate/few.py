"""A note for whoever learns few images."""

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

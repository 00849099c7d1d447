"""Files of several named arrays: which of them are the images, and which the labels."""

from collections.abc import Mapping

import numpy as np

from aeot_jax.data.found import NoSplitError
from aeot_jax.data.tree import LONGEST, printable

Shape = tuple[int, ...]

_NAMES = {
    "train": (
        ("x_train", "y_train"),
        ("train_x", "train_y"),
        ("train_set_x", "train_set_y"),
        ("train_images", "train_labels"),
        ("x", "y"),
        ("images", "labels"),
        ("image", "label"),
        ("data", "labels"),
    ),
    "test": (
        ("x_test", "y_test"),
        ("test_x", "test_y"),
        ("test_set_x", "test_set_y"),
        ("test_images", "test_labels"),
    ),
}
"""Names of images and labels, in lower case, in order of preference."""


LISTS = ("list_classes", "label_names")
"""Names of arrays that hold class names, not labels."""

LABELS = frozenset(label for pairs in _NAMES.values() for _, label in pairs)
"""Names of labels, in lower case."""


class UnclearError(ValueError):
    """It is not clear which array holds images; the text is a sentence."""


def pick(shapes: Mapping[str, Shape], split: str, source: str) -> tuple[str, str | None]:
    """The names of the images and of their labels, or None.

    Without a name that is known, images are the only array of two to four axes that has more than
    one row and column, and labels the only one of as many values as the images have along an axis.

    Args:
      shapes: of all arrays, by name.
      split: "train" or "test".
      source: the data set, for messages.

    Raises:
      NoSplitError: if there are no test images.
      UnclearError: if it is not clear which array holds images.
    """
    small = {name.lower(): name for name in shapes}
    for x, y in _NAMES[split]:
        if x in small:
            return small[x], small.get(y)
    if split == "test":
        raise NoSplitError(f"`source` {source} has no test images; pass split='train'.")
    wide = [name for name, shape in shapes.items() if sum(side > 1 for side in shape) > 1]
    if len(wide) != 1:
        listed = ", ".join(f"{name!r} {shape}" for name, shape in list(shapes.items())[:8])
        raise UnclearError(
            f"`source` {source} holds {listed or 'no arrays'}, but images are called x_train, x or "
            "images; rename one."
        )
    sides = set(shapes[wide[0]])
    thin = [n for n, s in shapes.items() if n not in (*wide, *LISTS) and _length(s) in sides]
    return wide[0], thin[0] if len(thin) == 1 else None


def one_axis(labels: np.ndarray) -> np.ndarray:
    """Labels without further axes of length 1; others, as of one-hot labels, are left."""
    return labels.ravel() if labels.size == max(labels.shape, default=1) else labels


def numbered(texts: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers of labels that are texts, in their shape, and the names of the classes, sorted.

    Raises:
      ValueError: if a label is no text, or too long for a name, with a reason.
    """
    if not all(isinstance(text, str) for text in texts.flat):
        raise ValueError("its labels mix texts and numbers")
    names, numbers = np.unique(texts.astype(object), return_inverse=True)
    longest = max(map(len, names), default=0)
    if longest > LONGEST:
        raise ValueError(f"its labels are texts of up to {longest} letters, not names of classes")
    return numbers.reshape(texts.shape).astype(np.int32), printable(list(names))


def _length(shape: Shape) -> int:
    """Length of an array with one axis, or with further axes of length 1."""
    return max(shape, default=0)

"""The maps of classes, padded to one size."""

from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from aeot_jax import arguments
from aeot_jax.classes.labels import SHOWN_LABELS, place_of
from aeot_jax.classes.padding import completed, stacked
from aeot_jax.ot.extension.extension import Extension, calibrate, has_enough
from aeot_jax.ot.solver.result import Status
from aeot_jax.ot.solver.solution import Solution
from aeot_jax.reprs import numbers, or_brief
from aeot_jax.trees import register
from aeot_jax.typing import Given, PRNGKey


@register
@dataclass(frozen=True)
class ClassMaps:
    """The transport of each of c classes, padded to the size of the largest.

    Attributes:
      labels: labels of the classes, ascending (c,).
      shares: share of the codes in each class (c,), sum 1.
      solution: heights and certificates; the first axis of every field is the class. Histories
        are left out.
      extension: maps; the first axis of every array is the class; None if none were asked for.
      rows: rows of the user's codes that belong to each class, ascending, then -1 (c, k); None in
        a file of an earlier version.
    """

    labels: Int[Array, "*batch c"]
    shares: Float[Array, "*batch c"]
    solution: Solution
    extension: Extension | None
    rows: Int[Array, "*batch c k"] | None = None

    @or_brief
    def __repr__(self) -> str:
        """The labels, the number of converged classes, and the class with the largest bound."""
        labels, codes = numbers(self.labels), numbers(self.solution.status)
        upper = numbers(self.solution.certificate.upper)
        shown = ", ".join(map(str, labels[:SHOWN_LABELS])) + ", ..." * (len(labels) > SHOWN_LABELS)
        worst = int(np.argmax(upper))
        return (
            f"ClassMaps({len(labels)} of labels {shown}; "
            f"{int((codes == Status.CONVERGED).sum())} converged; least sure {labels[worst]}, mass "
            f"error at most {float(upper[worst]):.2g})"
        )

    def of(self, label: Given[int]) -> Extension:
        """The map of one class.

        Args:
          label: label of the class.

        Raises:
          ValueError: if `label` is not one integer, no class has it, or no maps were learned.
        """
        if self.extension is None:
            raise ValueError("`extension` is None; call `solve_classes` with `extension=True`.")
        index = place_of(label, np.asarray(self.labels))
        found = jax.tree.map(lambda leaf: leaf[index], self.extension)
        if found.noise is not None and not np.asarray(found.noise.kernels.counts).any():
            return replace(found, noise=None)
        return found

    def calibrated(self, key: Given[PRNGKey]) -> "ClassMaps":
        """The same maps, with kernels: ``calibrate`` of each class.

        Classes of fewer than 200 different codes blend codes as before, as do those of fewer than
        d + 2 in d dimensions.

        Args:
          key: consumed.

        Raises:
          ValueError: if no maps were learned, or the codes of a class hardly differ.
        """
        key = arguments.key("key", key)
        labels = np.asarray(self.labels).tolist()
        maps = [self.of(label) for label in labels]
        assert self.extension is not None  # `of` says so
        found = [
            calibrate(own, one).noise if has_enough(one) else None
            for own, one in zip(jax.random.split(key, len(labels)), maps, strict=True)
        ]
        if all(noise is None for noise in found):
            return self
        return replace(self, extension=replace(self.extension, noise=stacked(completed(found))))

    def index(self, label: Given[int]) -> Int[np.ndarray, " n"]:
        """Rows of the user's codes that belong to a class, ascending (n,).

        The target i of ``of(label)`` is the code ``index(label)[i]``.

        Args:
          label: label of the class.

        Raises:
          ValueError: if `label` is not one integer, no class has it, or the rows are not known.
        """
        if self.rows is None:
            raise ValueError(
                "`rows` is None, because the file is of an earlier version; compare the labels "
                "that you passed with `label`, or fit again."
            )
        rows = np.asarray(self.rows[place_of(label, np.asarray(self.labels))])
        return rows[rows >= 0]

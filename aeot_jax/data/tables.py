"""Tables: rows of numbers, such as embeddings and point clouds."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Int32

from aeot_jax.reprs import or_brief


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers.

    Attributes:
      rows: the rows as stored (n, d), of any float type.
      labels: the class of each row, or None.
      name: name of the table.
      label_names: names of the classes, indexed by label, or None.
      notes: remarks on how the table was read, one sentence each.
      skipped: always empty; image sets have it too.
    """

    rows: Float[np.ndarray, "n d"]
    labels: Int32[np.ndarray, " n"] | None
    name: str
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def values(self) -> Float[np.ndarray, "n d"]:
        """The rows."""
        return self.rows

    def take(self, rows: Int[np.ndarray, " k"]) -> "Table":
        """Select rows, with their labels."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, rows=self.rows[rows], labels=labels)

    @or_brief
    def __repr__(self) -> str:
        """Return what it is, on one line."""
        columns = self.rows.shape[1]
        said = f"{self.name}: {len(self):,} rows of {columns:,} numbers, {classes_of(self.labels)}"
        return f"Table({said})"

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)


def classes_of(labels: Int32[np.ndarray, " n"] | None) -> str:
    """How many classes some labels have, in words."""
    if labels is None:
        return "without labels"
    count = len(np.unique(labels))
    return "1 class" if count == 1 else f"{count:,} classes"


def is_table(array: np.ndarray) -> bool:
    """Whether an array is a table: floats with two axes."""
    return array.ndim == 2 and array.dtype.kind == "f"

"""Parquet files of pictures, in the format of Hugging Face data sets, by pyarrow."""

import io
import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeot_jax.data.found import Files, Item, NoSplitError
from aeot_jax.data.readers.named import numbered
from aeot_jax.data.tree import printable
from aeot_jax.storage.archives import check_size
from aeot_jax.storage.files import open_file, reason

_NAME = re.compile(r"(?:.*[-_/])?(train|validation|valid|val|test)(?:-\d+-of-\d+(?:-\w+)?)?")
_IMAGES = ("image", "img", "images", "picture")
_LABELS = ("label", "labels", "fine_label", "class")
_KINDS = re.compile(r"u?int\d+|bool|halffloat|float|double|(large_)?string(_view)?")
_MOST_NAMES = 100_000
_ROWS = 64  # of a batch


def is_folder(folder: Path) -> bool:
    """Whether the folder, or "data" in it, holds parquet files."""
    return bool(_files(folder))


def find(path: Path, split: str) -> Files:
    """Find the pictures of a parquet file, or of a folder of files whose names give the split.

    Pictures are a column of structures with `bytes`; labels are a column of whole numbers, bools or
    texts. The class names of numbers are read from the metadata of the table. A column of labels
    that holds something else is left out, and a note says so.

    Args:
      path: a file or a folder.
      split: "train" or "test"; without a test set "validation" is held out, else it is ignored.

    Raises:
      ImportError: if pyarrow is missing.
      NoSplitError: if the split does not exist.
      ValueError: if a file is damaged or has no such columns.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"`source` {str(path)!r} is parquet, which needs pyarrow; install it with: "
            "pip install 'aeot-jax[parquet]'."
        ) from error

    files, notes = _of_split(path, split)
    counts: list[int] = []
    labels: list[np.ndarray] = []
    columns: list[str] = []
    odd: list[str] = []  # why labels are none
    names = None
    for file in files:
        try:
            with open_file(file) as raw:
                size = file.stat().st_size
                table = pq.ParquetFile(raw)
                check_size(_num_bytes(table.metadata), size)
                image, label, names = _columns(table.schema_arrow)
                columns.append(image)
                counts.append(table.metadata.num_rows)
                check_size(8 * counts[-1], size)
                own = _labels(pq, raw, table.schema_arrow, label)
                if isinstance(own, np.ndarray):
                    labels.append(own)
                elif own:
                    odd.append(own)
        except Exception as error:  # damaged bytes raise almost anything
            raise _damaged(file, error) from error

    starts = np.concatenate([[0], np.cumsum(counts)])

    def stream(rows: Sequence[int]) -> Generator[Item, None, None]:
        wanted = np.asarray(rows)
        for file, column, start, stop in zip(files, columns, starts[:-1], starts[1:], strict=True):
            inside = set((wanted[(wanted >= start) & (wanted < stop)] - start).tolist())
            if inside:
                yield from _stream(pq, file, column, inside, int(start))

    total = int(starts[-1])
    known = np.concatenate(labels) if len(labels) == len(files) else None
    if odd:
        notes += (f"labels were left out, because {odd[0]}.",)
    elif labels and known is None:
        lacking = len(files) - len(labels)
        notes += (f"labels were left out, because {lacking} of {len(files)} files have none.",)
    if known is not None and known.dtype == object:
        try:
            known, names = numbered(known)
        except ValueError as error:
            raise _damaged(path, error) from error
    rows = [f"row {i}" for i in range(total)]
    return Files(rows, stream, known, names, notes, full_name=lambda name: f"{path}: {name}")


def _stream(
    pq: Any, file: Path, column: str, inside: set[int], start: int
) -> Generator[Item, None, None]:
    row = 0
    last = max(inside)
    try:
        with open_file(file) as raw:
            for batch in pq.ParquetFile(raw).iter_batches(_ROWS, columns=[column]):
                for cell in batch.column(0):
                    if row in inside:
                        data = _bytes(cell)
                        yield Item(start + row, lambda data=data: io.BytesIO(data), len(data))
                    row += 1
                if row > last:
                    return
    except GeneratorExit:
        raise
    except Exception as error:
        raise _damaged(file, error) from error


def _bytes(cell: Any) -> bytes:
    value = cell.as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        return b""  # a path to another file is not followed; the picture counts as broken
    return value


def _num_bytes(metadata: Any) -> int:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return sum(group.total_byte_size for group in groups)


def _columns(schema: Any) -> tuple[str, str | None, tuple[str, ...] | None]:
    """The columns of pictures and labels, and the names of the classes."""
    held = list(schema.names)
    image = next((name for name in _IMAGES if name in held), None)
    if image is None:
        raise ValueError(f"its columns are {', '.join(held)[:200]}; pictures are called image")
    kind = str(schema.field(image).type)
    if "binary" not in kind:
        raise ValueError(f"its column {image!r} has the type {kind[:99]}, not bytes of pictures")
    own = [name for name in _LABELS if name in held]
    label = next(
        (name for name in own if _is_label(schema.field(name).type)), next(iter(own), None)
    )
    return image, label, None if label is None else _class_names(schema, label)


def _labels(pq: Any, raw: Any, schema: Any, name: str | None) -> np.ndarray | str | None:
    """The labels in a column (n,), or why there are none; None where nobody gave any."""
    if name is None:
        return None
    kind = schema.field(name).type
    if not _is_label(kind):
        return f"the column {name!r} has the type {str(kind)[:99]}, not numbers or texts"
    # Equal texts are held once: however many there are, they stay small.
    column = pq.ParquetFile(raw, read_dictionary=[name]).read(columns=[name]).column(0)
    if len(column) and column.null_count == len(column):
        return None
    values = _values(column)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all():
        return f"the column {name!r} holds numbers that are not whole"
    return values


def _is_label(kind: Any) -> bool:
    """Whether a column has numbers, bools or texts, perhaps by a dictionary."""
    own = kind.value_type if str(kind).startswith("dictionary") else kind
    return _KINDS.fullmatch(str(own)) is not None


def _values(column: Any) -> np.ndarray:
    """Values of a column (n,); texts are objects, shared by those that are equal.

    Raises:
      ValueError: if a cell is empty.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} of its labels are missing")
    parts = [chunk for chunk in column.chunks if len(chunk)]
    values = [
        part.dictionary.to_numpy(zero_copy_only=False)[part.indices.to_numpy()]
        if hasattr(part, "dictionary")
        else part.to_numpy(zero_copy_only=False)
        for part in parts
    ]
    return np.concatenate(values) if values else np.empty(0, np.int64)


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(text or b"")["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError, RecursionError):
        return None
    good = isinstance(names, list) and 0 < len(names) < _MOST_NAMES
    return printable([str(name) for name in names]) if good else None


def _files(folder: Path) -> list[Path]:
    for place in (folder, folder / "data"):
        if place.is_dir() and (found := sorted(place.glob("*.parquet"))):
            return found
    return []


def _of_split(path: Path, split: str) -> tuple[list[Path], tuple[str, ...]]:
    files = _files(path) if path.is_dir() else [path]
    kinds: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for file in files:
        match = _NAME.fullmatch(file.stem)
        kind = match[1][:3] if match and path.is_dir() else "tra"
        kinds[{"tra": "train", "val": "val", "tes": "test"}[kind]].append(file)
    held_out = "test" if kinds["test"] else "val"
    wanted = kinds["train" if split == "train" else held_out]
    if not wanted:
        raise NoSplitError(
            f"`source` {str(path)!r} has no parquet files of split {split!r}; pass another split."
        )
    if not kinds["val"]:
        return wanted, ()
    if held_out == "val":
        return wanted, ("'validation' is held out, as there is no 'test'.",)
    return wanted, ("'validation' was left alone; 'test' is held out.",)


def _damaged(file: Path, error: BaseException) -> ValueError:
    return ValueError(
        f"`source` holds {str(file)!r}, which cannot be read as parquet of pictures "
        f"({reason(error)}); fetch it again."
    )

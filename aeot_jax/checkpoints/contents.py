"""The arrays that a file must hold: their names, dtypes and shapes.

They follow from the configuration in the file and from the annotations of the records. So a new
field of a record is written, read and checked without a change here.
"""

import dataclasses
import reprlib
import typing
from collections.abc import Collection, Iterator, Mapping
from types import NoneType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aeot_jax.checkpoints.configs import config_from_json, newer
from aeot_jax.inputs.columns import Columns
from aeot_jax.measures import Measure, table
from aeot_jax.model import Config
from aeot_jax.nn import models
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.problem import Problem
from aeot_jax.ot.solver.solution import Solution

LATER = {"upper": np.inf, "num_unverified": 0, "unverified_weight": 0, "samples_to_verify": 0}
"""Fields that files of earlier versions lack, with the value that means "not known"."""

_CHANNELS = (1, 3)

SOLUTION_SCHEMA = 2
"""Version of a solution's file, raised when older programs cannot read it; 2 adds the problem."""

MOST_NESTED = 8
"""Most sources inside of sources that a file tells of."""

SOURCE = "mu"
"""Prefix of the source's arrays in the file of a solution or an extension."""

TARGETS = "problem/y"
"""Name of the targets in the file of a solution."""

_REAL = tuple(
    np.dtype(code) for code in ["f4", "f2", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
)

_MOST_SECONDS = 32
"""Most stages whose time a file may hold."""


class Wanted(NamedTuple):
    """The shape and dtype that an array must have.

    Attributes:
      shape: its shape; None is any size.
      dtypes: allowed dtypes.
    """

    shape: tuple[int | None, ...]
    dtypes: tuple[np.dtype, ...]


_FLOAT, _INT = np.dtype(np.float32), np.dtype(np.int32)
_WIDE = {_FLOAT: np.dtype(np.float64), _INT: np.dtype(np.int64)}


def parts(meta: Mapping[str, Any]) -> tuple[Config, tuple[int, ...] | None]:
    """The configuration and the data shape in the file of a model.

    The shape is (height, width, channels), (D,) for a table, or None for codes.

    Raises:
      NewerError: if the configuration has an option that this version does not know.
      ValueError: if either is missing or invalid.
    """
    config = config_from_json(meta.get("config"), meta.get("version"))
    shape = meta.get("image_shape", ())
    if shape is None:
        return config, None
    sides = len(shape) if isinstance(shape, list) else 0
    if sides not in (1, 3) or (sides == 3 and shape[2] not in _CHANNELS):
        raise ValueError(f"its `image_shape` is {reprlib.repr(shape)}, not that of an image")
    if not all(type(side) is int for side in shape):
        raise ValueError(f"its `image_shape` is {reprlib.repr(shape)}, not whole numbers")
    models.check_image_shape(tuple(shape))
    return config, tuple(shape)


def label_names(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names in the file of a model; files of earlier versions have none.

    Raises:
      ValueError: if they are not a list of distinct names.
    """
    names = meta.get("label_names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"its `label_names` is {reprlib.repr(names)}, not a list of names")
    if len(set(names)) != len(names):
        raise ValueError("its `label_names` has a name twice")
    return tuple(names)


def check_classes(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse a file with fewer class names than its labels need."""
    names, labels = label_names(meta), arrays.get("classes/labels")
    if names is not None and labels is not None and not 0 <= labels[0] <= labels[-1] < len(names):
        raise ValueError(f"its `label_names` are {len(names)}, too few for its classes")


def check_model(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Check that the arrays of a model's file are those that its configuration implies.

    Args:
      meta: the JSON of the file.
      arrays: arrays by name, or their headers: anything with a shape and a dtype.

    Raises:
      NewerError: if the file has an option or an array that this version does not know.
      ValueError: with a reason.
    """
    config, image_shape = parts(meta)
    label_names(meta)
    wanted = _wanted(config, image_shape, arrays)
    check_arrays(wanted, arrays, meta.get("version"), missing_ok={"classes/rows"})


def check_solution(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Check the file of a solution against the annotations of `Solution`; see ``check_model``."""
    schema = meta.get("solution_schema")
    if type(schema) is not int or schema < 1:
        raise ValueError(f"its `solution_schema` is {reprlib.repr(schema)}")
    if schema > SOLUTION_SCHEMA:
        raise newer(f"a solution of schema {schema}", meta.get("version"))
    batch = _shape("status", arrays)
    targets = _side("h", arrays, -1)
    found = _record("", Solution, batch, {"m": targets}, arrays)
    if schema > 1:
        found |= {TARGETS: Wanted((targets, None), _REAL), "problem/nu": Wanted((targets,), _REAL)}
        found |= _of_source(meta, _side(TARGETS, arrays, -1))
    check_arrays(found, arrays, meta.get("version"), missing_ok={"problem/nu"})


def _of_source(meta: Mapping[str, Any], dim: int) -> dict[str, Wanted]:
    """The arrays of the source that a file names; an unnamed source is code and has none."""
    source = meta.get("source")
    if source is None:
        return {}
    return _of_part(source, dim, f"{SOURCE}/", MOST_NESTED, meta.get("version"))


def name_and_parts(source: Any) -> tuple[str, dict[str, Any]]:
    """The name of a source in a file, and the sources that it is made of; "" if it has none."""
    if not isinstance(source, dict):
        return (source if isinstance(source, str) else ""), {}
    name, parts = source.get("name"), source.get("parts")
    return (name, parts) if isinstance(name, str) and isinstance(parts, dict) else ("", {})


def _of_part(source: Any, dim: int, start: str, depth: int, version: Any) -> dict[str, Wanted]:
    """The arrays of a source in a file and of its parts."""
    name, parts = name_and_parts(source)
    if name not in table.IN_FILES or depth == 0:
        raise newer(f"the source {reprlib.repr(source)}", version)
    kind = table.IN_FILES[name]
    found = {}
    for array, hint in table.arrays(kind).items():
        sides = tuple(dim if axis == "d" else None for axis in hint.dim_str.split())
        found[start + array] = Wanted(sides, (_FLOAT,))
    sizes: list[Any] = [
        part.get("dim") if isinstance(part, dict) else None for part in parts.values()
    ]
    fit = all(type(size) is int and size > 0 for size in sizes) and sum(sizes) in (0, dim)
    if set(parts) != set(table.parts(kind)) or not fit:
        raise ValueError(f"its source is {reprlib.repr(source)}, whose parts have not {dim} sides")
    for key, part in parts.items():
        found |= _of_part(part.get("source"), part["dim"], f"{start}{key}/", depth - 1, version)
    return found


def check_extension(meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Check the file of an extension against the annotations of `Extension`, as ``check_model``."""
    batch = _shape("band", arrays)
    sizes = {"m": _side("y", arrays, -2), "d": _side("y", arrays, -1)}
    found = _record("", Extension, batch, sizes, arrays) | _of_source(meta, sizes["d"])
    check_arrays(found, arrays, meta.get("version"))


def _shape(name: str, arrays: Mapping[str, Any]) -> tuple[int, ...]:
    if name not in arrays:
        raise ValueError(f"it holds no array {name!r}")
    return tuple(arrays[name].shape)


def check_arrays(
    wanted: Mapping[str, Wanted],
    arrays: Mapping[str, Any],
    version: object = None,
    missing_ok: Collection[str] = (),
) -> None:
    """Refuse missing or unknown arrays, and other shapes and dtypes; raises as ``check_model``."""
    later = {name for name in wanted if name.rpartition("/")[2] in LATER}.union(missing_ok)
    if missing := sorted(set(wanted) - set(arrays) - later):
        raise ValueError(f"it holds no array {reprlib.repr(missing[0])}")
    if unknown := sorted(set(arrays) - set(wanted)):
        raise newer(f"the array {reprlib.repr(unknown[0])}", version)
    for name, array in arrays.items():
        shape, dtypes = wanted[name]
        fits = len(shape) == len(array.shape) and all(
            side in (None, found) for side, found in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype not in dtypes:
            sides = ", ".join("any" if side is None else str(side) for side in shape)
            raise ValueError(
                f"its array {name!r} has shape {array.shape} and dtype {array.dtype}, where its "
                f"configuration means ({sides}) and {dtypes[0]}"
            )


def _wanted(
    config: Config, image_shape: tuple[int, ...] | None, arrays: Mapping[str, Any]
) -> dict[str, Wanted]:
    """All arrays of a model's file, by name."""
    if image_shape is None:
        found, latent = {}, _side("centre", arrays, -1)
    else:
        found, latent = _networks(config.autoencoder, image_shape, arrays)
    found |= {name: Wanted((latent,), (_FLOAT,)) for name in ("centre", "scale")}
    found["losses"] = Wanted((None,), (_FLOAT,))
    times = [name for name in arrays if name.startswith("seconds/") and name.count("/") == 1]
    found |= {name: Wanted((), (_FLOAT,)) for name in times[:_MOST_SECONDS]}
    found |= _transport("", (), latent, arrays)
    if any(name.startswith("classes/") for name in arrays):
        count = _side("classes/labels", arrays, -1)
        found["classes/labels"] = Wanted((count,), (_INT,))
        found["classes/shares"] = Wanted((count,), (_FLOAT,))
        found["classes/rows"] = Wanted((count, _side("classes/extension/y", arrays, -2)), (_INT,))
        found |= _transport("classes/", (count,), latent, arrays)
    return found


def _networks(
    config: models.AutoencoderConfig, image_shape: tuple[int, ...], arrays: Mapping[str, Any]
) -> tuple[dict[str, Wanted], int]:
    """The arrays of the networks and of a table's columns, and the dimension of the codes."""
    _check_sizes(config, image_shape, arrays)
    shapes = jax.eval_shape(models.functions(image_shape, config).init, jax.random.key(0))
    found = {f"params/{name}": Wanted(leaf.shape, (_FLOAT,)) for name, leaf in _flat(shapes)}
    if models.is_table(image_shape):
        found |= {f"columns/{name}": Wanted(image_shape, (_FLOAT,)) for name in Columns._fields}
    return found, models.latent_dim(image_shape, config)


def _check_sizes(
    config: models.AutoencoderConfig, image_shape: tuple[int, ...], arrays: Mapping[str, Any]
) -> None:
    """Refuse networks larger than the file, before they are built to find their shapes."""
    widest = max((side for array in arrays.values() for side in array.shape), default=0)
    for name, value, most in (
        ("depth", config.depth, len(arrays)),
        ("width", config.width or 0, widest),
        ("latent_dim", config.latent_dim or 0, widest),
    ):
        if value > most:
            raise ValueError(
                f"its configuration has `{name}` {value}, but it holds {len(arrays)} arrays of "
                f"sides up to {widest}"
            )
    if models.is_table(image_shape) and image_shape[0] > widest:
        raise ValueError(f"its `image_shape` is {image_shape}, but its sides go up to {widest}")


def _transport(
    prefix: str, batch: tuple[int, ...], latent: int, arrays: Mapping[str, Any]
) -> dict[str, Wanted]:
    """The arrays of the solution and the extension of one problem, or of a batch."""
    sizes = {"m": _side(f"{prefix}extension/y", arrays, -2), "d": latent}
    found = {}
    for name, kind in (("solution", Solution), ("extension", Extension)):
        found |= _record(f"{prefix}{name}/", kind, batch, sizes, arrays)
    return found


def _record(
    prefix: str,
    kind: type,
    batch: tuple[int, ...],
    sizes: Mapping[str, int],
    arrays: Mapping[str, Any],
) -> dict[str, Wanted]:
    """The arrays of a record, from its annotations; axes not in `sizes` are read from the file."""
    found: dict[str, Wanted] = {}
    own = dict(sizes)
    for name, hint in typing.get_type_hints(kind).items():
        if hint in (Measure, Problem | None):
            continue  # not an array: the configuration names the source
        path = f"{prefix}{name}"
        known = any(other == path or other.startswith(f"{path}/") for other in arrays)
        if NoneType in typing.get_args(hint) and not known:
            continue  # a file may lack it
        if not (options := _annotations(hint)):
            (record,) = (one for one in typing.get_args(hint) or (hint,) if one is not NoneType)
            found |= _record(f"{path}/", record, batch, sizes, arrays)
            continue
        axes = [axis for axis in options[0].dim_str.split() if axis != "*batch"]
        for i, axis in enumerate(axes):
            if axis not in own:
                own[axis] = _side(path, arrays, i - len(axes))
        one = _FLOAT if "float32" in options[0].dtypes else _INT
        # An array that may be a NumPy array keeps its dtype when it is loaded.
        host = {name for kind in options if kind.array_type is np.ndarray for name in kind.dtypes}
        dtypes = (one, *map(np.dtype, sorted({_WIDE[one].name} & host or host - {one.name})))
        found[path] = Wanted((*batch, *(own[axis] for axis in axes)), dtypes)
    return found


def _annotations(hint: Any) -> list[Any]:
    """The array types of an annotation; empty for a record."""
    found = typing.get_args(hint) or (hint,)
    return [one for one in found if hasattr(one, "dim_str")]


def _side(name: str, arrays: Mapping[str, Any], axis: int) -> int:
    if name not in arrays:
        raise ValueError(f"it holds no array {name!r}")
    shape = arrays[name].shape
    if len(shape) < -axis:
        raise ValueError(f"its array {name!r} has shape {shape}, too few axes")
    return shape[axis]


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def fill_later(kind: type, tree: Mapping[str, Any], batch: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a record; missing later fields get the value that means "not known"."""
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in tree]
    unknown = {name: jnp.full(batch, LATER[name], _dtype(name)) for name in missing}
    return {**tree, **unknown}


def _dtype(name: str) -> type:
    return np.int32 if name == "num_unverified" else np.float32

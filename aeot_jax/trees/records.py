"""Dataclasses as nodes of JAX's trees."""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_Class = TypeVar("_Class", bound=type)

OWN: set[type] = set()
"""Classes that ``register`` has registered."""


def register(cls: _Class) -> _Class:
    """Make a frozen dataclass a node of JAX's trees; a decorator.

    Fields with the metadata ``{"static": True}`` are static, all others are data. A tree is rebuilt
    field by field, without ``__init__`` and its checks, because a leaf need not be an array there.
    Records whose comparison ``dataclass`` writes are equal where ``equal_by_numbers`` says so.

    ``jax.tree_util.register_dataclass`` does not serve: up to jaxlib 0.12.0 at least, the
    structures of two classes that it registered compare equal where their static fields do,
    ``Gaussian(3)`` and ``UniformCube(3)`` say. They hash apart, so that ``jit`` mostly finds the
    right program; where the hashes share seven bits, about once in a hundred processes, it runs the
    program of the other class. Structures of these nodes differ with the class.
    """
    fields = dataclasses.fields(cls)
    static = tuple(field.name for field in fields if field.metadata.get("static"))
    data = tuple(field.name for field in fields if not field.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in data)

    def flatten(record: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return values(record, data), values(record, static)

    def flatten_with_keys(record: Any) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        return tuple(zip(keys, values(record, data), strict=True)), values(record, static)

    def unflatten(fixed: tuple[Any, ...], leaves: Iterable[Any]) -> Any:
        record = object.__new__(cls)
        for name, value in zip(data + static, (*leaves, *fixed), strict=True):
            object.__setattr__(record, name, value)
        return record

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    OWN.add(cls)
    return equal_by_numbers(cls) if _compares_fields(cls) else cls


def _compares_fields(cls: type) -> bool:
    """Whether ``dataclass`` wrote how instances compare, and not the class itself or its base."""
    code = getattr(vars(cls).get("__eq__"), "__code__", None)
    return code is not None and code.co_filename == "<string>"  # where `dataclass` writes


def equal_by_numbers(cls: _Class) -> _Class:
    """Let ``==`` compare arrays in a dataclass by shape and numbers; a decorator.

    What ``dataclass`` writes asks an array of truth values for one, and raises. Records are equal
    if they are of one class and all their fields are equal, NaN to NaN; their hash is as before, so
    that those with arrays have none. Traced numbers cannot be compared.
    """
    names = tuple(field.name for field in dataclasses.fields(cls) if field.compare)

    def equal(self: Any, other: Any) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        return all(map(_are_equal, values(self, names), values(other, names)))

    setattr(cls, "__eq__", equal)  # noqa: B010 - its type says that it is no method
    return cls


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two trees have one structure and equal leaves."""
    (leaves, structure), (others, other_structure) = map(jax.tree.flatten, (one, other))
    return structure == other_structure and all(map(_are_equal_leaves, leaves, others))


def _are_equal_leaves(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if not any(isinstance(leaf, np.ndarray | np.generic | jax.Array) for leaf in (one, other)):
        return bool(one == other) or bool(one != one and other != other)
    if _are_keys(one) or _are_keys(other):
        alike = _are_keys(one) and _are_keys(other)
        alike = alike and (one.shape, one.dtype) == (other.shape, other.dtype)
        return alike and bool((one == other).all())
    if isinstance(one, Tracer) or isinstance(other, Tracer):
        return bool(jnp.array_equal(one, other))  # JAX says why that cannot be
    mine, theirs = np.asarray(one), np.asarray(other)
    if mine.shape != theirs.shape:
        return False
    both_nan = (mine != mine) & (theirs != theirs)
    return bool(((mine == theirs) | both_nan).all())


def _are_keys(leaf: Any) -> bool:
    """Whether an array holds typed random keys, which NumPy cannot read."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def values(record: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The attributes of these names."""
    return tuple(getattr(record, name) for name in names)

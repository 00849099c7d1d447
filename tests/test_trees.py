"""Records as nodes of JAX's trees: a program belongs to the class that it was traced for."""

import dataclasses
import importlib
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aeot_jax as aeot
from aeot_jax.measures import centring
from aeot_jax.trees import distinct, register

KEY = jax.random.key(0)
Y = jax.random.normal(jax.random.key(1), (20, 3))


class Shifted:
    """Half of a source, to be made a dataclass."""

    @property
    def variance(self):
        return None

    def sample(self, key, n):
        return jax.random.normal(key, (n, 3)) + self.shift  # pyright: ignore[reportAttributeAccessIssue]


def twins(decorate: Any) -> tuple[Any, Any]:
    """Two classes of sources with the same fields."""

    @decorate
    @dataclass(frozen=True)
    class Left(Shifted):
        dim: int = field(metadata={"static": True})
        shift = -5.0

    @decorate
    @dataclass(frozen=True)
    class Right(Shifted):
        dim: int = field(metadata={"static": True})
        shift = 5.0

    return Left(3), Right(3)


def test_structures_of_two_classes_differ():
    normal = aeot.Gaussian(3)
    mean = jnp.zeros(3)
    sources = [
        normal,
        aeot.UniformCube(3),
        aeot.UniformBall(3),
        aeot.Empirical(Y),
        centring._Around(normal, mean),
        centring._NetAround(normal, mean),
        aeot.Product(normal, aeot.UniformCube(3)),
        aeot.Product(aeot.UniformCube(3), normal),
        *twins(register),
    ]
    for a, b in itertools.combinations(map(jax.tree.structure, sources), 2):
        assert a != b
    assert jax.tree.structure(aeot.Gaussian(3)) == jax.tree.structure(normal)
    assert jax.tree.structure(aeot.Gaussian(4)) != jax.tree.structure(normal)


def test_the_package_registers_by_its_own_decorator_alone():
    for path in Path(aeot.__file__).parent.rglob("*.py"):
        if path.parent.name != "trees":
            assert "jax.tree_util.register" not in path.read_text(encoding="utf-8"), path


def test_nodes_are_flattened_and_rebuilt_by_field():
    @register
    @dataclass(frozen=True)
    class Record:
        data: Any
        name: str = field(metadata={"static": True})
        more: Any = None

        def __post_init__(self):
            assert self.data is not None

    record = Record(jnp.ones(2), "a", {"b": 3.0})
    (first, _), (second, _) = jax.tree_util.tree_flatten_with_path(record)[0]
    assert jax.tree_util.keystr(first) == ".data"
    assert jax.tree_util.keystr(second) == ".more['b']"
    again = jax.tree.map(lambda leaf: leaf + 1, record)
    np.testing.assert_array_equal(again.data, 2 * np.ones(2))
    assert (again.name, again.more) == ("a", {"b": 4.0})
    assert jax.tree.map(lambda _: None, record).data is None  # no checks of leaves
    assert jax.tree.structure(record) != jax.tree.structure(Record(1, "b", {"b": 3.0}))


ARRAYS = re.compile("^(?!.*Callable).*(Array|ndarray|Heights|Targets|Points|Floats)")
"""In annotations of fields that hold arrays."""


def records() -> list[Any]:
    """All dataclasses of the package that hold arrays, or may."""
    found = []
    for path in sorted(Path(aeot.__file__).parent.rglob("*.py")):
        parts = path.relative_to(Path(aeot.__file__).parent.parent).with_suffix("").parts
        if path.name in ("__init__.py", "__main__.py"):
            continue
        module = importlib.import_module(".".join(parts))
        own = [kind for kind in vars(module).values() if isinstance(kind, type)]
        found += [kind for kind in own if kind.__module__ == module.__name__]
    return [
        kind
        for kind in found
        if dataclasses.is_dataclass(kind)
        and any(ARRAYS.search(str(field.type)) for field in dataclasses.fields(kind))
    ]


def holding(kind: type, **values: Any) -> Any:
    """A record of arrays, where it holds some, and zeros, but for some values."""
    record = object.__new__(kind)
    for field_ in dataclasses.fields(kind):
        value = np.arange(3.0) if ARRAYS.search(str(field_.type)) else 0
        object.__setattr__(record, field_.name, values.get(field_.name, value))
    return record


def test_every_record_that_holds_arrays_can_be_compared():
    kinds = records()
    assert {aeot.Empirical, aeot.Solution, aeot.ExactSolution, aeot.Walk} <= {*kinds}
    for kind in kinds:
        first, *_ = (field_.name for field_ in dataclasses.fields(kind))
        record = holding(kind)
        assert record == record, kind
        assert (record == holding(kind)) in (True, False), kind
        assert (record == holding(kind, **{first: np.arange(4.0)})) is False, kind


def test_records_are_equal_where_their_numbers_are():
    normal = aeot.Gaussian(3)
    product = aeot.Product(normal, aeot.Empirical(Y))
    assert product == aeot.Product(aeot.Gaussian(3), aeot.Empirical(Y + 0))
    for other in (
        aeot.Product(normal, aeot.Empirical(Y + 1)),
        aeot.Product(normal, aeot.Empirical(Y[1:])),
        aeot.Product(aeot.UniformCube(3), aeot.Empirical(Y)),
        aeot.Empirical(Y),
        "a product",
    ):
        assert product != other
    assert aeot.Product(normal, normal) == aeot.Product(normal, normal)
    assert hash(aeot.Product(normal, normal)) == hash(aeot.Product(normal, normal))
    with pytest.raises(TypeError, match="unhashable"):
        hash(product)

    @register
    @dataclass(frozen=True)
    class Record:
        data: Any

    assert Record(KEY) == Record(jax.random.key(0))
    assert Record(KEY) != Record(jax.random.key(1))
    assert Record(KEY) != Record(jax.random.key_data(KEY))
    assert Record({"a": Y, "b": None}) == Record({"a": Y + 0, "b": None})
    assert Record({"a": Y, "b": None}) != Record({"a": Y, "b": 1})
    assert Record(0) == Record(np.zeros(()))

    @jax.jit
    def compared(a, b):
        return 0.0 if Record(a) == Record(b) else 1.0

    with pytest.raises(jax.errors.TracerBoolConversionError):
        compared(Y, Y)


@pytest.mark.parametrize("decorate", [register, jax.tree_util.register_dataclass])
def test_sources_that_jax_confuses_are_refused(decorate):
    left, right = twins(decorate)
    h = jnp.zeros(20)
    at_left = aeot.certify(KEY, left, Y, h, None, 1000)
    if jax.tree.structure(left) == jax.tree.structure(right):
        with pytest.raises(
            ValueError, match=r"`mu` is a Right .* may take for another class .*Left"
        ):
            aeot.certify(KEY, right, Y, h, None, 1000)
        aeot.certify(KEY, left, Y, h, None, 1000)  # the first goes on
    else:
        at_right = aeot.certify(KEY, right, Y, h, None, 1000)
        assert at_left.mass_error != at_right.mass_error


def test_a_comparison_of_ones_own_stays():
    @register
    @dataclass(frozen=True, eq=False)
    class Same:
        dim: int = field(metadata={"static": True})

    assert Same(2) != Same(2)

    @register
    @dataclass(frozen=True)
    class Own(Same):
        def __eq__(self, other):
            return True

    assert Own(2) == 3


def test_nan_equals_nan():
    atoms = aeot.Empirical(jnp.zeros((2, 2)))
    holes = [jax.tree.map(lambda leaf: leaf * jnp.nan, atoms) for _ in range(2)]
    assert holes[0] == holes[1]
    assert holes[0] != atoms


def test_sources_of_this_package_are_not_remembered():
    before = list(distinct._SEEN)
    for _ in range(3):
        distinct.check_distinct("mu", aeot.FromSampler(lambda key, n: jnp.zeros((n, 2)), 2))
    assert list(distinct._SEEN) == before

"""Reprs fit a screen, say how good a thing is, and never fail on what a pytree may hold."""

import dataclasses
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax import names, reprs
from aeot_jax.data import images
from aeot_jax.data.tables import Table

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def things():
    model = tiny.model()
    twice = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), model.extension)
    solutions = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), model.solution)
    points = jnp.zeros((40, 2))
    return {
        "model": model,
        "solution": model.solution,
        "extension": model.extension,
        "certificate": model.solution.certificate,
        "history": model.solution.history,
        "classes": aeot.ClassMaps(jnp.arange(2), jnp.ones(2) / 2, solutions, twice),
        "solutions": solutions,
        "centres": aeot.Centres(points, jnp.ones(40, jnp.int32)),
        "empirical": aeot.Empirical(points),
        "exact solution": aeot.solve_exact(np.random.default_rng(0).normal(size=(400, 2))),
    }


def test_all_fit_a_screen(things):
    for name, thing in things.items():
        text = repr(thing)
        assert len(text) < 1000, name
        assert text.startswith(type(thing).__name__), name
        assert str(thing) == text, name


def test_they_say_how_good_a_thing_is(things):
    assert "status CONVERGED: mass error" in repr(things["solution"])
    assert "60 heights by NEWTON" in repr(things["solution"])
    assert "2 of 2 converged" in repr(things["solutions"])
    assert "Gaussian(dim=3) onto 60 targets in 3 dimensions" in repr(things["extension"])
    assert "empty cells" in repr(things["certificate"])
    assert "ClassMaps(2 of labels 0, 1;" in repr(things["classes"])
    model = repr(things["model"])
    assert "8 x 8 x 1" in model
    assert "CONVERGED" in model
    assert "(2 epochs)" in model


def put(thing, value):
    """The record with every array replaced, whatever its annotations say, as JAX does inside."""
    if hasattr(thing, "_fields"):
        return type(thing)(*(value for _ in thing))
    if isinstance(thing, dict):
        return {name: put(part, value) for name, part in thing.items()}
    if not dataclasses.is_dataclass(thing):
        return value
    filled = object.__new__(type(thing))
    for field in dataclasses.fields(thing):
        own = getattr(thing, field.name)
        static = "static" in field.metadata
        object.__setattr__(filled, field.name, own if static else put(own, value))
    return filled


def test_what_is_not_known_is_shown_by_its_shape(things):
    names = ("model", "solution", "extension", "certificate", "classes", "empirical")
    values = [None, object(), jax.ShapeDtypeStruct((3,), jnp.float32), np.zeros((2, 40))]
    values += [jax.random.key(0), 1.0, np.zeros((0,))]
    for name in names:
        for value in values:
            assert len(repr(put(things[name], value))) < 8000, name
    seen = []
    jax.eval_shape(lambda thing: seen.append(repr(thing)), things["solution"])
    assert "float32[60]" in seen[0]
    assert "Traced" not in seen[0]


def test_status_stays_an_array_of_whole_numbers(things):
    status = things["solution"].status
    assert isinstance(status, jax.Array)
    assert status.dtype == jnp.int32


def test_no_public_record_of_arrays_prints_them_all():
    """Each that has arrays among its fields says so itself, or leaves that to the common repr."""
    for name, kind in vars(names).items():
        if not inspect.isclass(kind) or issubclass(kind, BaseException):
            continue
        fields = getattr(kind, "_fields", None) or getattr(kind, "__dataclass_fields__", ())
        hints = [str(kind.__annotations__.get(field, "")) for field in fields]
        if any("Array" in hint or "ndarray" in hint for hint in hints):
            own = inspect.getmodule(kind.__repr__)
            assert own is not None, name
            assert own.__name__.startswith("aeot_jax"), name
            made = "__create_fn__" in kind.__repr__.__qualname__
            assert not made, name


ROOMS = ("conditions", "data", "inputs", "manifold", "metrics", "model", "names", "nn", "walk")
"""Where the records are that users get from a function or find in another one."""


def records():
    """All records of these rooms that hold arrays, by their full names."""
    found = {}
    for module in pkgutil.walk_packages(aeot.__path__, "aeot_jax."):
        if module.name.split(".")[1] not in ROOMS:
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(kind) and kind.__module__.split(".")[0] == "aeot_jax":
                public = module.name == "aeot_jax.names"
                own = public or kind.__module__.split(".")[1] in ROOMS
                if own and not name.startswith("_") and array_fields(kind):
                    found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return found


def array_fields(kind):
    """The fields that are arrays, by their annotations."""
    names = getattr(kind, "_fields", None) or getattr(kind, "__dataclass_fields__", ())
    hints = {}
    for one in reversed(kind.__mro__):
        hints |= inspect.get_annotations(one)
    said = {name: str(hints.get(name, "")) for name in names}
    arrays = {name for name, hint in said.items() if "rray" in hint or "jaxtyping" in hint}
    return {name for name in arrays if "Callable" not in said[name]}


def test_no_record_that_users_meet_prints_the_numbers_of_its_arrays():
    kinds = records()
    assert {"aeot_jax.data.images.ImageSet", "aeot_jax.data.tables.Table"} <= set(kinds)
    for name, kind in kinds.items():
        large, arrays = np.full((30, 30), 123, np.uint8), array_fields(kind)
        if hasattr(kind, "_fields"):
            thing = kind(*(large if field in arrays else None for field in kind._fields))
        else:
            thing = object.__new__(kind)
            for field in dataclasses.fields(kind):
                object.__setattr__(thing, field.name, large if field.name in arrays else None)
        text = repr(thing)
        assert text.startswith(kind.__name__), name
        assert text.count("123") <= 4, name  # a model shows its first loss and its last
        assert "\n" not in text or kind is aeot.AEOT, name


def test_a_set_of_images_says_what_it_is_on_one_line():
    found = images.load("digits")
    assert repr(found) == "ImageSet(digits: 1,797 images of 8 x 8 x 1, 10 classes)"
    named = images.from_arrays(found.images[:20], ["a", "b"] * 10, "mine")
    named = dataclasses.replace(named, skipped=("x",))
    assert str(named) == "ImageSet(mine: 20 images of 8 x 8 x 1, 2 classes, 1 skipped)"
    table = Table(np.zeros((50, 3)), None, "t")
    assert repr(table) == "Table(t: 50 rows of 3 numbers, without labels)"


def test_short_arrays_are_shown():
    @dataclasses.dataclass
    class Record:
        a: object
        b: object
        c: object

    text = reprs.brief(Record(np.arange(3), jnp.zeros((5, 2)), {"k": np.float32(1)}))
    assert "a=[0, 1, 2], b=float32[5,2], c={'k': 1.}" in text
    with pytest.raises(TypeError, match="no known numbers"):
        reprs.number(jax.random.key(0))


def test_the_package_shows_its_public_names_alone():
    shown = dir(aeot)
    assert "solve" in shown
    assert "__version__" in shown
    hidden = {"importlib", "TYPE_CHECKING", "Any", "ot", "names", "logging"}
    assert not hidden & set(shown)
    for name in shown:
        assert hasattr(aeot, name)

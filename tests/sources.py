"""One source of each class that a file can hold, for tests that walk all of them."""

import dataclasses
import typing

import jax.numpy as jnp
import numpy as np

from aeot_jax.measures import Measure, table

DIM = 3


def made(kind: type) -> Measure:
    """A source of a class, in three dimensions: its arrays hold normal numbers."""
    rng = np.random.default_rng(1)
    hints = typing.get_type_hints(kind)
    values: dict[str, typing.Any] = {}
    for field in dataclasses.fields(kind):
        if field.name == "dim":
            values["dim"] = DIM
        else:
            sides = [DIM if axis == "d" else 7 for axis in hints[field.name].dim_str.split()]
            values[field.name] = jnp.asarray(rng.normal(size=sides), jnp.float32)
    return kind(**values)


EVERY = [made(kind) for kind in table.IN_FILES.values()]

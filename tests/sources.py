"""One source of each class that a file can hold, for tests that walk all of them."""

import dataclasses
import typing

import jax.numpy as jnp
import numpy as np

from aeot_jax.measures import Empirical, Gaussian, Measure, Product, UniformCube, table

DIM = 3


def made(kind: type, dim: int = DIM) -> Measure:
    """A source of a class: its arrays hold normal numbers, or weights, its last part atoms."""
    rng = np.random.default_rng(1)
    hints = typing.get_type_hints(kind)
    values: dict[str, typing.Any] = {}
    for field in dataclasses.fields(kind):
        if field.name == "dim":
            values["dim"] = dim
        elif field.name in table.parts(kind):
            values[field.name] = made(Empirical, dim - 1) if values else UniformCube(1)
        elif field.name == "nu":
            values["nu"] = jnp.arange(7.0) / 21
        else:
            sides = [dim if axis == "d" else 7 for axis in hints[field.name].dim_str.split()]
            values[field.name] = jnp.asarray(rng.normal(size=sides), jnp.float32)
    return kind(**values)


EVERY = [
    *(made(kind) for kind in table.IN_FILES.values()),
    Product(Gaussian(1), UniformCube(DIM - 1)),  # its parts have what both can offer
]

"""Every public function at its border: any real dtype gives one answer, a mistake one sentence.

``CALLS`` has an entry for each public function; one without fails the first test.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import tiny
from matplotlib.figure import Figure
from ml_dtypes import bfloat16

import aeot_jax as aeot
from aeot_jax import arguments, plot, walk
from aeot_jax.data.pictures.shaping import Pictures
from aeot_jax.nn import train
from aeot_jax.ot.devices import placement
from aeot_jax.ot.duality import interop
from aeot_jax.ot.exact import exact, laguerre
from aeot_jax.ot.extension import barycentric

KEY = jax.random.key(0)
MU = aeot.Gaussian(2)
X = np.array([[0, 1], [2, 0], [1, 1], [5, 3], [0, 4]])
Z = np.column_stack([X, [2, 0, 1, 1, 3]])  # codes of `tiny.model`
Y = np.array([[1, 0], [0, 1], [3, 2], [2, 5]])
H = np.array([3, 2, 0, 1])
MANY = np.random.default_rng(0).integers(0, 40, (30, 2))
NU = np.array([0.25, 0.125, 0.5, 0.125])
IMAGES = tiny.images(20, shape=(4, 4))
FEW_STEPS = aeot.SolverConfig(tolerance=None, max_steps=2, start="gaussian")
SMALL = aeot.Config(
    aeot.AutoencoderConfig(kind="mlp", latent_dim=2, width=4),
    aeot.TrainConfig(epochs=1, batch_size=10),
    solver=FEW_STEPS,
    extension=aeot.ExtensionConfig(num_samples=64),
)


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that is right, and what is looked at in it.

    Attributes:
      function: to call by name of its arguments.
      good: arguments that serve; integers are exact in every dtype.
      large: of its arrays, those that may be beyond int32.
      arrays: others.
      counts: whole numbers.
      records: arguments that are keys, measures, configurations, models.
    """

    function: Callable[..., Any]
    good: Callable[[], dict[str, Any]]
    large: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    records: tuple[str, ...] = ()


def model() -> aeot.AEOT:
    return tiny.model()


@cache
def solution() -> aeot.Solution:
    return aeot.solve(KEY, MU, Y, NU, FEW_STEPS)


@cache
def state() -> aeot.SolverState:
    return aeot.init(KEY, MU, Y, NU, FEW_STEPS)


@cache
def ext() -> aeot.Extension:
    return aeot.extension(KEY, MU, Y, H, NU, num_samples=64)


@cache
def kernels() -> aeot.Kernels:
    return aeot.kernels(MANY)


@cache
def of_many() -> aeot.Extension:
    return aeot.extension(KEY, MU, MANY, -(MANY**2).sum(1) / 2, num_samples=64)


@cache
def centres() -> aeot.Centres:
    return aeot.mass_centres(KEY, MU, Y, -(Y**2).sum(1) / 2, num_samples=4096)


@cache
def complex_() -> aeot.Complex:
    return aeot.triangulate(centres())


def axes(projection: str | None = None) -> Any:
    return Figure().add_subplot(projection=projection)


def potential_at_samples(**options: Any) -> jax.Array:
    f = interop.to_ott_potentials(**options).f
    assert f is not None
    return jax.vmap(f)(jnp.asarray(X, jnp.float32))


XYH = {"x": X, "y": Y, "h": H}
PROBLEM = {"key": KEY, "mu": MU, "y": Y, "h": H}
DRAWN = ("key", "mu")


def same(**options: Any) -> Callable[[], dict[str, Any]]:
    """These arguments at each call; what this module makes is made when it is wanted."""

    def is_made(value: Any) -> bool:
        return callable(value) and getattr(value, "__module__", "") == __name__

    return lambda: {name: value() if is_made(value) else value for name, value in options.items()}


CALLS: dict[str, Call] = {
    "assign": Call(aeot.assign, same(**XYH, block=32), ("x", "y", "h"), counts=("block",)),
    "top_k": Call(aeot.top_k, same(**XYH, k=2, block=32), ("x", "y", "h"), counts=("k", "block")),
    "transport": Call(aeot.transport, same(**XYH), ("x", "y", "h")),
    "spread_copies": Call(aeot.spread_copies, same(index=np.array([0, 2, 1]), y=Y), ("y",)),
    "brenier": Call(aeot.brenier, same(**XYH), ("x", "y", "h")),
    "kantorovich": Call(aeot.kantorovich, same(**XYH), ("x", "y", "h")),
    "energy": Call(aeot.energy, same(**XYH, nu=NU), ("x", "y", "h"), ("nu",)),
    "dual": Call(aeot.dual, same(y=Y, h=H), ("y", "h")),
    "c_transform": Call(aeot.c_transform, same(x=X, y=Y, psi=H), ("x", "y", "psi")),
    "smooth_brenier": Call(
        aeot.smooth_brenier, same(**XYH, temperature=2), ("x", "y", "h"), ("temperature",)
    ),
    "smooth_transport": Call(
        aeot.smooth_transport, same(**XYH, temperature=2), ("x", "y", "h"), ("temperature",)
    ),
    "solve": Call(
        aeot.solve,
        same(key=KEY, mu=MU, y=Y, nu=NU, config=FEW_STEPS),
        ("y",),
        ("nu",),
        records=(*DRAWN, "config"),
    ),
    "solve_jit": Call(
        aeot.solve_jit,
        same(key=KEY, mu=MU, y=Y, nu=NU, config=FEW_STEPS, num_steps=2),
        ("y",),
        ("nu",),
        ("num_steps",),
        (*DRAWN, "config"),
    ),
    "init": Call(
        aeot.init,
        same(key=KEY, mu=MU, y=Y, nu=NU, config=FEW_STEPS),
        ("y",),
        ("nu",),
        records=(*DRAWN, "config"),
    ),
    "step": Call(
        aeot.step,
        same(state=state, mu=MU, y=Y, nu=NU, config=FEW_STEPS),
        (),
        ("y", "nu"),
        records=("state", "mu", "config"),
    ),
    "solve_classes": Call(
        aeot.solve_classes,
        same(
            key=KEY,
            mu=MU,
            codes=Y,
            labels=np.array([1, 0, 1, 0]),
            config=FEW_STEPS,
            num_samples=64,
        ),
        ("codes",),
        ("labels",),
        ("num_samples",),
        (*DRAWN, "config"),
    ),
    "solve_conditional": Call(
        aeot.solve_conditional,
        same(
            key=KEY,
            mu=MU,
            y=Y,
            z=np.array([[1, 0], [1, 2], [0, 3], [4, 1]]),
            beta=2,
            config=FEW_STEPS,
            num_samples=64,
        ),
        ("y",),
        ("z",),
        ("num_samples",),
        (*DRAWN, "config"),
    ),
    "extend_heights": Call(
        aeot.extend_heights, same(y_old=Y, h_old=H, y_new=X), ("y_old", "h_old", "y_new")
    ),
    "solve_exact": Call(aeot.solve_exact, same(mu=MU, y=Y, nu=NU), ("y",), ("nu",)),
    "exact_masses": Call(exact.exact_masses, same(y=Y, h=H), ("y", "h")),
    "power_cells": Call(laguerre.power_cells, same(y=Y, h=H), ("y", "h")),
    "triangulation": Call(laguerre.triangulation, same(y=Y, h=H), ("y", "h")),
    "certify": Call(
        aeot.certify,
        same(**PROBLEM, nu=NU, num_samples=64),
        ("y", "h"),
        ("nu",),
        ("num_samples", "target_shards"),
        DRAWN,
    ),
    "wasserstein": Call(
        aeot.wasserstein,
        same(**PROBLEM, nu=NU, num_samples=20_000),
        ("y", "h"),
        ("nu",),
        ("num_samples",),
        DRAWN,
    ),
    "w2_loss": Call(
        aeot.w2_loss,
        same(key=KEY, mu=MU, y=Y, h0=H, nu=NU, config=FEW_STEPS, num_steps=2, num_samples=64),
        ("y", "h0"),
        ("nu",),
        ("num_steps", "num_samples"),
        (*DRAWN, "config"),
    ),
    "mass_centres": Call(
        aeot.mass_centres,
        same(**PROBLEM, num_samples=64),
        ("y", "h"),
        counts=("num_samples",),
        records=DRAWN,
    ),
    "extension": Call(
        aeot.extension,
        same(**PROBLEM, nu=NU, num_samples=64),
        ("y", "h"),
        ("nu",),
        ("num_samples",),
        DRAWN,
    ),
    "kernels": Call(aeot.kernels, same(y=MANY), ("y",)),
    "log_density": Call(
        aeot.log_density, same(x=X, y=MANY, kernels=kernels), ("x", "y"), records=("kernels",)
    ),
    "calibrate": Call(
        aeot.calibrate,
        same(key=KEY, ext=of_many, unseen=MANY[:, ::-1]),
        ("unseen",),
        records=("key", "ext"),
    ),
    "generate": Call(
        aeot.generate, same(key=KEY, ext=ext, n=64), counts=("n",), records=("key", "ext")
    ),
    "singular_set": Call(
        aeot.singular_set,
        same(key=KEY, ext=ext, num_samples=64),
        counts=("num_samples",),
        records=("key", "ext"),
    ),
    "pairs": Call(
        lambda **options: next(aeot.pairs(**options)),
        same(**PROBLEM, batch_size=64),
        ("y", "h"),
        counts=("batch_size",),
        records=DRAWN,
    ),
    "coupling": Call(
        lambda **options: aeot.coupling(**options)[0],
        same(mu=MU, y=Y, h=H, nu=NU, batch_size=64, num_batches=3, seed=1),
        ("y", "h"),
        ("nu",),
        ("batch_size",),
        ("mu",),
    ),
    "coupling_from_state": Call(
        lambda **options: aeot.coupling_from_state(**options)[0],
        lambda: {
            "state": aeot.coupling(MU, Y, H, NU, batch_size=64).state(0),
            "mu": MU,
            "y": Y,
            "h": H,
            "nu": NU,
        },
        records=("state", "mu"),
    ),
    "barycentric": Call(
        aeot.barycentric,
        same(x=X, y=Y, centres=centres, k=2),
        ("y",),
        ("x",),
        ("k",),
        ("centres",),
    ),
    "inverse_distance": Call(
        barycentric.inverse_distance,
        same(x=X, y=Y, centres=centres, k=2),
        ("y",),
        ("x",),
        ("k",),
        ("centres",),
    ),
    "triangulate": Call(aeot.triangulate, same(centres=centres), records=("centres",)),
    "simplicial": Call(
        aeot.simplicial,
        same(x=X, y=Y, complex_=complex_),
        ("y",),
        ("x",),
        records=("complex_",),
    ),
    "dual_from_heights": Call(interop.dual_from_heights, same(y=Y, h=H), ("y", "h")),
    "heights_from_dual": Call(interop.heights_from_dual, same(y=Y, g=H), ("y", "g")),
    "to_ott": Call(
        lambda **options: interop.to_ott(**options).g,
        same(mu=MU, y=Y, h=H, nu=NU),
        ("y", "h"),
        ("nu",),
        records=("mu",),
    ),
    "to_ott_potentials": Call(
        potential_at_samples,
        same(y=Y, h=H, x=X),
        ("y", "h", "x"),
    ),
    "from_ott": Call(
        interop.from_ott, lambda: {"output": interop.to_ott(MU, Y, H)}, records=("output",)
    ),
    "from_ott_potentials": Call(
        interop.from_ott_potentials,
        lambda: {"potentials": interop.to_ott_potentials(Y, H), "y": Y, "x": X},
        (),
        ("y", "x"),
        records=("potentials",),
    ),
    "fit": Call(
        aeot.fit,
        same(key=KEY, images=IMAGES, config=SMALL),
        (),
        ("images",),
        records=("key", "config"),
    ),
    "fit_codes": Call(
        aeot.fit_codes,
        same(key=KEY, codes=Y, config=SMALL),
        ("codes",),
        records=("key", "config"),
    ),
    "sample_codes": Call(
        aeot.sample_codes, same(key=KEY, model=model, n=3), counts=("n",), records=("key", "model")
    ),
    "sample": Call(
        aeot.sample, same(key=KEY, model=model, n=3), counts=("n",), records=("key", "model")
    ),
    "sample_with_info": Call(
        aeot.sample_with_info,
        same(key=KEY, model=model, n=3),
        counts=("n",),
        records=("key", "model"),
    ),
    "encode": Call(
        aeot.encode,
        same(model=model, images=np.eye(8)[None, :, :, None]),
        (),
        ("images",),
        records=("model",),
    ),
    "decode": Call(aeot.decode, same(model=model, z=Z), (), ("z",), records=("model",)),
    "interpolate": Call(
        aeot.interpolate,
        same(model=model, start=Z[0], end=Z[1], num=3),
        (),
        ("start", "end"),
        ("num",),
        ("model",),
    ),
    "crossings": Call(
        walk.crossings,
        same(start=X[0], end=X[3], ext=ext),
        (),
        ("start", "end"),
        records=("ext",),
    ),
    "message": Call(aeot.message, same(outcome=1), counts=("outcome",)),
    "raise_if_failed": Call(
        lambda solution: aeot.raise_if_failed(solution),
        lambda: {"solution": dataclasses.replace(solution(), status=jnp.int32(1))},
        records=("solution",),
    ),
    "save": Call(aeot.save, same(thing=model, path="/dev/null/never"), records=("thing",)),
    "train.fit": Call(
        train.fit,
        same(
            key=KEY,
            images=IMAGES[..., None],
            model_config=SMALL.autoencoder,
            train_config=SMALL.training,
        ),
        (),
        (),
        records=("key", "model_config", "train_config"),
    ),
    "plot.plane": Call(plot.plane, same(**PROBLEM), ("y", "h"), records=DRAWN),
    "plot.singular_set": Call(plot.singular_set, same(key=KEY, ext=ext), records=("key", "ext")),
    "plot.draw_angles": Call(plot.draw_angles, same(axes=axes, ext=ext), records=("ext",)),
    "plot.draw_cells": Call(
        plot.draw_cells, same(axes=axes, mu=MU, y=Y, h=H), ("y", "h"), records=("mu",)
    ),
    "plot.draw_faces": Call(plot.draw_faces, same(axes=axes, ext=ext), records=("ext",)),
    "plot.draw_potential": Call(
        plot.draw_potential,
        same(axes=lambda: axes("3d"), mu=MU, y=Y, h=H),
        ("y", "h"),
        records=("mu",),
    ),
    "plot.draw_transport": Call(plot.draw_transport, same(axes=axes, **XYH), ("x", "y", "h")),
    "plot.draw_triangulation": Call(plot.draw_triangulation, same(axes=axes, y=Y, h=H), ("y", "h")),
    "plot.target_colours": Call(plot.target_colours, same(y=Y), ("y",)),
    "plot.draw_losses": Call(
        plot.draw_losses, same(axes=axes, losses=np.array([3, 2])), (), ("losses",)
    ),
    "plot.history": Call(
        plot.history,
        same(losses=np.array([3, 2]), solution=solution, tolerance=None),
        (),
        ("losses",),
        records=("solution",),
    ),
    "plot.image_grid": Call(
        plot.image_grid,
        same(images=np.eye(4)[None, :, :, None], columns=1, scale=1),
        (),
        ("images",),
        ("columns", "scale"),
    ),
    "plot.reconstructions": Call(
        plot.reconstructions,
        same(originals=np.eye(4)[None, :, :, None], decoded=np.eye(4)[None, :, :, None]),
        (),
        ("originals", "decoded"),
        ("columns",),
    ),
}
TAKE_NO_ARRAYS = {"load", "plot.save", "plot.film_strip", "plot.clouds", "plot.draw_mass_error"}
"""Paths, walks, sets by name and records; what they refuse is tested where they are."""

BYTES_ALONE = {"fit"}
"""Functions whose floats mean something else than their integers."""


def public() -> set[str]:
    functions = inspect.getmembers(aeot, inspect.isfunction)
    found = {name for name, _ in functions if not name.startswith("_")}
    found |= {f"plot.{name}" for name, _ in inspect.getmembers(plot, inspect.isfunction)}
    for module in (interop, laguerre, exact):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == module.__name__ and not name.startswith("_")
            if own and "ArrayLike" in str(inspect.get_annotations(function)):
                found.add(name)
    return found


def test_every_public_function_is_walked():
    assert public() - set(CALLS) == TAKE_NO_ARRAYS


def numbers(result: Any) -> list[np.ndarray]:
    """All arrays of a result, in order."""
    if isinstance(result, aeot.AEOT):
        result = dataclasses.replace(result, seconds={})
    if dataclasses.is_dataclass(result):
        return numbers([getattr(result, f.name) for f in dataclasses.fields(result)])
    if isinstance(result, dict):
        return numbers(list(result.values()))
    if isinstance(result, list | tuple):
        return [array for part in result for array in numbers(part)]
    if isinstance(result, jax.Array) and jnp.issubdtype(result.dtype, jax.dtypes.prng_key):
        return [np.asarray(jax.random.key_data(result))]
    if hasattr(result, "__array__") or isinstance(result, int | float):
        return [np.asarray(result)]
    return []


def strided(values: np.ndarray) -> np.ndarray:
    """The same numbers behind negative strides."""
    backwards = tuple(slice(None, None, -1) for _ in values.shape)
    return values[backwards].copy()[backwards]


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "int64": lambda a: a.astype(np.int64),
    "uint64": lambda a: a.astype(np.uint64),
    "uint8": lambda a: a.astype(np.uint8),
    "float16": lambda a: a.astype(np.float16),
    "bfloat16": lambda a: a.astype(bfloat16),
    "list": lambda a: a.tolist(),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "negative strides": strided,
    "jax": lambda a: jnp.asarray(a.astype(np.float32)),
}
WHOLE = ("int64", "uint64", "uint8")


def converted(call: Call, name: str, form: str) -> dict[str, Any]:
    """The arguments of a call, its arrays in another form; images and labels stay what they are."""
    options = call.good()
    for argument in (*call.large, *call.arrays):
        values = np.asarray(options[argument])
        is_whole = np.array_equal(values, np.floor(values))
        is_image = argument in ("images", "originals", "decoded") and name not in BYTES_ALONE
        if form in WHOLE and (not is_whole or is_image):
            continue
        if name in BYTES_ALONE or argument == "labels":
            if form not in ("int64", "list", "negative strides"):
                continue
        elif form not in WHOLE:
            values = values.astype(np.float64)
        options[argument] = FORMS[form](values)
    return options


@cache
def expected(name: str) -> list[np.ndarray]:
    """The answer to float64."""
    call = CALLS[name]
    options = call.good()
    for argument in (*call.large, *call.arrays):
        if argument != "labels" and name not in BYTES_ALONE:
            options[argument] = np.asarray(options[argument], np.float64)
    return numbers(call.function(**options))


DEAR = {
    *("solve_classes", "solve_conditional", "solve", "solve_jit", "step", "w2_loss"),
    *("fit", "fit_codes", "simplicial"),
}
"""Those that compile most."""

DEAR_HERE = {"calibrate", "certify", "wasserstein", "plot.history", "plot.plane"}
"""Those that are dear here. But for `plot.history` all take integers beyond int32 by default."""

WITH_ARRAYS = [
    pytest.param(name, marks=[pytest.mark.long] * (name in DEAR | DEAR_HERE))
    for name, call in CALLS.items()
    if call.large or call.arrays
]


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_the_dtype_does_not_change_the_answer(name):
    for form in FORMS:
        found = numbers(CALLS[name].function(**converted(CALLS[name], name, form)))
        assert len(found) == len(expected(name))
        for one, other in zip(found, expected(name), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=form)


WITH_LARGE = [
    pytest.param(name, marks=[pytest.mark.long] * (name in DEAR))
    for name, call in CALLS.items()
    if call.large
]


@pytest.mark.parametrize("name", WITH_LARGE)
def test_integers_beyond_int32_are_what_they_are(name):
    """By 2^40 a float32 is as exact as before; int32 would wrap to 0."""
    call = CALLS[name]
    answers = []
    for dtype in (np.float64, np.int64, np.uint64, object):
        options = call.good()
        for argument in call.large:
            large = np.asarray(options[argument]).astype(np.int64) << 40
            options[argument] = large.tolist() if dtype is object else large.astype(dtype)
        answers.append(numbers(call.function(**options)))
    for answer in answers[1:]:
        for one, other in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(one, other)


def sentence(call: Call, options: dict[str, Any], name: str) -> str:
    """The one sentence by which a call refuses an argument."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call.function(**options)
    assert type(caught.value) in (ValueError, TypeError), caught.value  # no checker of types
    message = str(caught.value)
    assert f"`{name}`" in message, message
    assert "\n" not in message, message
    return message


BAD_ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "object": lambda a: a.astype(object),
    "masked": lambda a: np.ma.array(a, mask=a > a.min()),
    "complex64": lambda a: a.astype(np.complex64),
    "<U": lambda a: a.astype(str),
    "datetime64": lambda a: a.astype("datetime64[s]"),
    "sparse": lambda a: scipy.sparse.coo_array(np.atleast_2d(a) if a.ndim < 2 else a[..., :]),
    "'many'": lambda _: "many",
    "{": lambda _: {"a": 1.0},
    "Solution": lambda _: solution(),
    "key": lambda a: jax.random.split(KEY, a.shape),
}


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_what_is_no_array_is_named(name):
    call = CALLS[name]
    for argument in (*call.large, *call.arrays):
        values = np.asarray(call.good()[argument])
        for said, made in BAD_ARRAYS.items():
            if said == "sparse" and values.ndim > 2:
                continue
            bad = made(values)
            assert said in sentence(call, {**call.good(), argument: bad}, argument), said
        large = np.full(values.shape, 1e300)
        for number in (np.nan, np.inf, 1e300) if argument != "labels" else ():
            large.flat[0] = number
            if number == 1e300 and name in WIDE:
                continue
            sentence(call, {**call.good(), argument: large}, argument)


WIDE = {
    "solve_exact",
    "exact_masses",
    "power_cells",
    "triangulation",
    "interpolate",
    "crossings",
    "plot.target_colours",
    "plot.draw_triangulation",
    "plot.draw_cells",
    "plot.draw_potential",
    "plot.plane",
    "plot.history",
    "plot.draw_losses",
}
"""Functions that compute in float64, for which 1e300 is a number."""

BAD_COUNTS = ["3", 2.0, np.float32(2), True, np.True_, [2], np.ones(2, int), 2**31, -1]


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.counts])
def test_what_is_no_size_is_named(name):
    call = CALLS[name]
    for argument in call.counts:
        for bad in BAD_COUNTS:
            if isinstance(bad, int) and bad > 1 and argument in ("columns", "scale", "block"):
                continue
            sentence(call, {**call.good(), argument: bad}, argument)


BAD_KEYS = [0, None, np.random.default_rng(0), jax.random.split(KEY, 3), np.zeros(2), "0"]


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if "key" in call.records])
def test_what_is_no_key_is_named(name):
    for bad in BAD_KEYS:
        said = sentence(CALLS[name], {**CALLS[name].good(), "key": bad}, "key")
        assert "`jax.random.key(0)`" in said or "`key[0]`" in said


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.records])
def test_what_is_another_record_is_named(name):
    call = CALLS[name]
    for argument in call.records:
        if argument != "key":
            for bad in ("gaussian", {"tolerance": 0.1}, None, np.ones(3)):
                said = sentence(call, {**call.good(), argument: bad}, argument)
                assert "pass" in said


CONFIGS = [
    (aeot.SolverConfig(), {"devices": (-1, "cpu", {}, [1], (1,)), "optimizer": ("adam",)}),
    (
        aeot.SolverConfig(),
        dict.fromkeys(
            ("tolerance", "learning_rate", "time_limit"), ("0.1", np.inf, np.nan, True, -1.0, 0)
        ),
    ),
    (aeot.SolverConfig(), {"adam_share": ("0.1", 1.5, np.nan), "average_share": (True, -0.1)}),
    (
        aeot.SolverConfig(),
        dict.fromkeys(
            ("batch_size", "plateau_steps", "max_samples", "max_steps", "target_shards"),
            ("3", 2.0, True, 0, -1, 2**31),
        ),
    ),
    (
        aeot.SolverConfig(),
        {
            name: ("other", 1, None, np.ones(2))
            for name in ("method", "start", "sampling", "rate_unit", "parallel")
        },
    ),
    (aeot.TrainConfig(), dict.fromkeys(("epochs", "batch_size"), ("3", 2.0, True, 0))),
    (
        aeot.TrainConfig(),
        dict.fromkeys(
            ("learning_rate", "weight_decay", "warmup", "noise", "whitening"),
            ("3", np.inf, np.nan, True, -1.0, None),
        ),
    ),
    (
        aeot.AutoencoderConfig(),
        dict.fromkeys(("latent_dim", "width", "depth"), ("3", 2.0, True, -1)),
    ),
    (aeot.AutoencoderConfig(), {"kind": ("vae", None, 3), "activation": ("gelu", None, 3)}),
    (aeot.TrainConfig(), {"fine_weight": ("3", np.inf, np.nan, True, -1.0)}),
    (aeot.AutoencoderConfig(), {"patches": ("woven", None, 3), "chroma": ("none", None, 3)}),
    (aeot.ExtensionConfig(), {"threshold": ("1", np.inf, True, 0.0, 4.0)}),
    (aeot.ExtensionConfig(), {"num_samples": ("3", 2.0, True, 0)}),
    (
        aeot.Config(),
        {
            name: ({"tolerance": 0.1}, None, "auto")
            for name in ("autoencoder", "training", "solver", "extension", "source")
        },
    ),
]


@pytest.mark.parametrize(("config", "fields"), CONFIGS)
def test_what_does_not_belong_in_a_configuration_is_named(config, fields):
    for name, values in fields.items():
        for value in values:
            other = dataclasses.replace(config)
            # Not by the constructor, whose types are checked in these tests before its values are.
            object.__setattr__(other, name, value)
            with pytest.raises((ValueError, TypeError)) as caught:
                other.__post_init__()
            assert f"`{name}` is {arguments.shown(value)[:20]}" in str(caught.value)


KINDS: tuple[Any, ...] = (
    aeot.AutoencoderConfig,
    aeot.Config,
    aeot.ExtensionConfig,
    aeot.SolverConfig,
    aeot.TrainConfig,
    aeot.metrics.ClassifierConfig,
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_a_configuration_lacks_is_named_with_the_nearest(kind):
    for field in dataclasses.fields(kind):
        near = field.name[:-2] + field.name[-1]
        meant = rf"no such field \(did you mean {field.name}\?\)"
        sentence = rf"`{near}` is 3, but `{kind.__name__}` has {meant}"
        with pytest.raises(TypeError, match=sentence):
            kind(**{near: 3})
        with pytest.raises(TypeError, match=sentence):
            dataclasses.replace(kind(), **{near: 3})
    with pytest.raises(TypeError, match=r"`zzz` is 3, but .* no such field; pass some of \w+, "):
        kind(zzz=3)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (aeot.TrainConfig, "refine_weight"),
        (aeot.TrainConfig, "fine_weight"),
        (aeot.TrainConfig, "learning_rate"),
        (aeot.SolverConfig, "tolerance"),
        (aeot.metrics.ClassifierConfig, "weight_decay"),
        (lambda beta: aeot.solve_conditional(KEY, MU, Y, [0, 0, 1, 1], beta), "beta"),
    ],
)
def test_a_number_that_float32_does_not_hold_is_named(made, name):
    for large in (1e300, 1e39):
        sentence = re.escape(f"`{name}` is {large}, too large for float32")
        with pytest.raises(ValueError, match=sentence):
            made(**{name: large})


def test_devices_may_be_any_sequence():
    devices: Any = jax.devices()[:2]
    some: Any
    for some in (devices, tuple(devices), np.array(devices)):
        checked = placement.checked_devices(some)
        assert checked == tuple(devices)
        assert placement.placement("auto", some).devices == tuple(devices)
    config = aeot.SolverConfig(devices=devices)
    assert config == aeot.SolverConfig(devices=tuple(devices))
    assert hash(config) == hash(aeot.SolverConfig(devices=tuple(devices)))


def test_what_holds_a_solution_is_told_from_one():
    found: Any = model()
    for function in (aeot.message, aeot.raise_if_failed):
        with pytest.raises(ValueError, match="of class AEOT; pass its `solution`"):
            function(found)
    for function in (aeot.certify, aeot.extension, aeot.wasserstein):
        with pytest.raises(ValueError, match=r"`mu` is of class AEOT; pass its `extension\.mu`"):
            function(jax.random.key(0), found)


def test_numbers_of_numpy_in_a_configuration_are_those_of_python():
    config = aeot.SolverConfig()
    for name, value in {"tolerance": np.float32(0.5), "max_steps": np.int64(3)}.items():
        object.__setattr__(config, name, value)  # not by the constructor, as above
    config.__post_init__()
    assert config == aeot.SolverConfig(tolerance=0.5, max_steps=3)
    assert repr(config) == repr(aeot.SolverConfig(tolerance=0.5, max_steps=3))


@pytest.mark.parametrize("bad", ["2", 2.0, True, 0, -1, None, 2**31])
def test_what_is_no_dimension_is_named(bad):
    for made in (aeot.Gaussian, aeot.UniformCube, aeot.UniformBall):
        measure = made(2)
        object.__setattr__(measure, "dim", bad)
        with pytest.raises(ValueError, match="`dim` is"):
            measure.__post_init__()


@pytest.mark.parametrize(
    "mu", [MU, aeot.UniformCube(2), aeot.UniformBall(2), aeot.Empirical(jnp.ones((3, 2)))]
)
def test_a_measure_names_what_it_cannot_draw_by(mu):
    for bad in BAD_KEYS:
        with pytest.raises(ValueError, match="`key`"):
            mu.sample(bad, 3)
    for bad in ("3", 2.0, True, -1):
        with pytest.raises(ValueError, match="`n` is"):
            mu.sample(KEY, bad)


def test_atoms_are_rounded_once_and_pass_through_transformations():
    points = np.array([[3_000_000_000, 1], [2, 2]])
    mu = aeot.Empirical.__new__(aeot.Empirical)
    object.__setattr__(mu, "points", points)
    mu.__post_init__()
    np.testing.assert_array_equal(mu.points, points.astype(np.float32))
    shapes = jax.tree.map(np.shape, mu)
    assert shapes.points == (2, 2)
    drawn = jax.jit(lambda mu, key: mu.sample(key, 4))(mu, KEY)
    np.testing.assert_array_equal(drawn, mu.sample(KEY, 4))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mu)
    assert jax.vmap(lambda mu: mu.sample(KEY, 4))(batch).shape == (2, 4, 2)
    for bad in (np.ones(3), np.full((2, 2), np.nan), np.zeros((0, 2)), np.array([["a"]])):
        object.__setattr__(mu, "points", bad)
        with pytest.raises(ValueError, match="`points`"):
            mu.__post_init__()


def test_solve_inside_a_trace_names_solve_jit():
    with pytest.raises(ValueError, match=r"`y` is traced, but `solve` .* call `solve_jit`"):
        jax.jit(lambda y: aeot.solve(KEY, MU, y, None, FEW_STEPS))(jnp.asarray(Y))
    with pytest.raises(ValueError, match=r"`solve` .* cannot be traced; call `solve_jit`"):
        jax.jit(lambda: aeot.solve(KEY, MU, Y, None, FEW_STEPS))()
    with pytest.raises(ValueError, match=r"`key` is traced, but `solve` .* call `solve_jit`"):
        jax.vmap(lambda key: aeot.solve(key, MU, Y, None, FEW_STEPS))(jax.random.split(KEY, 2))


def test_a_solution_in_the_place_of_its_heights_is_told_from_them():
    other: Any = solution()
    for function in (aeot.transport, aeot.brenier, aeot.assign):
        with pytest.raises(ValueError, match=r"`h` is of type Solution; .* heights `sol\.h`"):
            function(X, Y, other)


def test_what_comes_out_is_float32_whatever_goes_in():
    for dtype in (np.uint8, np.int64, np.float64, np.float16):
        x, y, h = (a.astype(dtype) for a in (X, Y, H))
        assert aeot.transport(x, y, h).dtype == np.float32
        assert aeot.brenier(x, y, h).dtype == np.float32
        assert aeot.top_k(x, y, h, 2)[0].dtype == np.float32


def test_a_list_that_holds_traced_numbers_is_an_array():
    slope = jax.grad(lambda a: aeot.brenier([a, 1.0], Y, H))(2.0)
    np.testing.assert_array_equal(slope, aeot.transport([2, 1], Y, H)[0])


def test_integers_that_no_integer_type_holds_are_floats():
    assert arguments.host_array("y", [2**63, -1]).dtype == np.float64
    assert arguments.host_array("y", [2**63]).dtype == np.uint64
    np.testing.assert_array_equal(
        arguments.real("y", [2**70, 1]), np.array([2.0**70, 1], np.float32)
    )
    with pytest.raises(ValueError, match="`y` holds an integer beyond 1e308"):
        arguments.array("y", [10**400])


def test_legacy_keys_are_keys():
    legacy = jax.random.PRNGKey(7)
    forms: tuple[Any, ...] = (legacy, np.asarray(legacy))
    for key in forms:
        np.testing.assert_array_equal(MU.sample(key, 3), MU.sample(jax.random.key(7), 3))
    with pytest.raises(
        ValueError, match=r"`key` holds legacy keys, of shape \(3, 2\); .*`key\[0\]`"
    ):
        MU.sample(jax.random.split(legacy, 3), 3)
    with pytest.raises(ValueError, match=r"`key` holds keys of shape \(3,\); .*`key\[0\]`"):
        MU.sample(jax.random.split(KEY, 3), 3)
    drawn = jax.vmap(lambda key: MU.sample(key, 3))(jax.random.split(KEY, 3))
    assert drawn.shape == (3, 3, 2)


def booleans() -> list[tuple[str, str]]:
    """Functions and their arguments that are true or false, by their defaults."""
    flags = []
    for name, call in CALLS.items():
        for argument, known in inspect.signature(call.function).parameters.items():
            if isinstance(known.default, bool):
                flags.append((name, argument))
    return flags


@pytest.mark.parametrize("bad", ["no", 1, 0, None, np.array([True])])
def test_what_is_neither_true_nor_false_is_named(bad):
    assert {name for name, _ in booleans()} >= {"fit", "fit_codes", "crossings"}
    for name, argument in booleans():
        call = CALLS[name]
        with pytest.raises(ValueError, match=f"`{argument}` is .*; pass True or False"):
            call.function(**{**call.good(), argument: bad})
    with pytest.raises(ValueError, match=r"`skip_broken` is .*; pass True or False"):
        Pictures(skip_broken=bad)

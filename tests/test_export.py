"""Every public program lowers for accelerators that are not here, alone and over devices."""

import re
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import PartitionSpec as P

import aeot_jax as aeot
from aeot_jax.machines import meshes
from aeot_jax.ot import merging
from aeot_jax.ot.cells import antithetic, sizes
from aeot_jax.ot.density.kernels import Kernels
from aeot_jax.ot.devices.placement import placement
from aeot_jax.ot.extension.noise import places
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver import planning, stepping
from aeot_jax.ot.solver.starts import start

M, D, N = 300, 33, 96
"""Enough dimensions for orbits, enough targets for several blocks, samples for eight devices."""

MU = aeot.Gaussian(D)
CONFIG = aeot.SolverConfig(tolerance=None, max_steps=4, batch_size=512, parallel="none")
KEY = jax.eval_shape(lambda: jax.random.key(0))
AXIS = "devices"


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


X, Y, H, NU = floats(N, D), floats(M, D), floats(M), floats(M)


def gradients(h, x, y, nu, axis_name=None):
    return jax.value_and_grad(partial(aeot.energy, axis_name=axis_name), (0, 1, 2))(h, x, y, nu)


def stepped(key, y, nu, axis_name=None):
    state = aeot.init(key, MU, y, nu, CONFIG, axis_name)
    return aeot.step(state, MU, y, nu, CONFIG, axis_name).h


def solved(key, y, nu, axis_name=None):
    config = replace(CONFIG, start="gaussian")  # `stepped` has all starts
    return aeot.solve_jit(key, MU, y, nu, config, num_steps=3, axis_name=axis_name)


def certified(key, y, h, nu):
    return aeot.certify(key, MU, y, h, nu, 1000, parallel="none")


def generated(key, y, h, nu):
    """Candidates of an extension that is learned in the same program."""
    ext = aeot.extension(key, MU, y, h, nu, num_samples=512, parallel="none")
    return aeot.generate(key, ext, N, parallel="none")


PROGRAMS = {
    "assign": (aeot.assign, X, Y, H),
    "top_k": (partial(aeot.top_k, k=5), X, Y, H),
    "transport": (aeot.transport, X, Y, H),
    "energy": (aeot.energy, H, X, Y, NU),
    "gradients": (gradients, H, X, Y, NU),
    "step": (stepped, KEY, Y, NU),
    "solve_jit": (solved, KEY, Y, NU),
    "certify": (certified, KEY, Y, H, NU),
    "generate": (generated, KEY, Y, H, NU),
}

OVER_SAMPLES = {
    "assign": (aeot.assign, (P(AXIS), P(), P()), P(AXIS), (X, Y, H)),
    "top_k": (partial(aeot.top_k, k=5), (P(AXIS), P(), P()), P(AXIS), (X, Y, H)),
    "gradients": (
        partial(gradients, axis_name=AXIS),
        (P(), P(AXIS), P(), P()),
        (P(), (P(), P(AXIS), P())),
        (H, X, Y, NU),
    ),
    "solve_jit": (partial(solved, axis_name=AXIS), P(), P(), (KEY, Y, NU)),
    "certify": (certified, P(), P(), (KEY, Y, H, NU)),
    "generate": (generated, P(), P(), (KEY, Y, H, NU)),
}
"""Programs with the samples sharded, or each device's own, under somebody's ``shard_map``."""


PLATFORMS = ["cuda", "tpu"]


def exported(function, *arguments, platforms):
    """The program for some platforms, none of which need be here."""
    return export.export(jax.jit(function), platforms=platforms)(*arguments)


@cache
def public(name, platform):
    """The text of a public program for a platform."""
    function, *arguments = PROGRAMS[name]
    return exported(function, *arguments, platforms=[platform]).mlir_module()


# A program that asks for an accelerator is traced alike for both, and lowered for each; programs
# below are lowered for both of them.
@pytest.mark.parametrize("platform", ["cuda", pytest.param("tpu", marks=pytest.mark.long)])
def test_every_public_program_lowers_for_an_accelerator(accelerator, platform):
    for name in PROGRAMS:
        text = public(name, platform)
        products = re.findall(r"stablehlo\.dot_general.*xf32>.*", text)
        # TF32 and bfloat16 move samples between cells.
        assert products, name
        assert all("HIGHEST" in product for product in products), name
        assert "callback" not in text, f"{name} would wait for a host"


def test_no_float_sum_on_a_gpu_depends_on_the_order_of_threads(accelerator):
    """Where an index may repeat, a GPU adds in no fixed order: whole numbers only."""
    count = jax.ShapeDtypeStruct((), jnp.int32)
    kernels = jax.eval_shape(few_kernels)

    def of_source(function):
        return lambda key, *others: function(key, MU, *others)

    def of_diagram(function):
        return lambda key, y, h, *others: function(key, places.Diagram(MU, y, h), *others)

    of_cells = of_diagram(partial(places.cells, own=False))
    cells = jax.eval_shape(of_cells, KEY, Y, H, count)
    sums = {
        "w2_loss": (jax.grad(lambda y, key: aeot.w2_loss(key, MU, y)[0]), Y, KEY),
        "wasserstein": (of_source(aeot.wasserstein), KEY, Y, H, NU),
        "mass_centres": (of_source(aeot.mass_centres), KEY, Y, H),
        "cells of noise": (of_cells, KEY, Y, H, count),
        "shapes of cells": (of_diagram(partial(places.cells, own=True)), KEY, Y, H, count),
        "shapes of groups": (of_diagram(places.sums_of_groups), KEY, Y, H, cells, kernels, count),
        "merged weights": (lambda nu: merging.merged(nu, np.zeros(M, np.int32)), NU),
    }
    texts = {name: public(name, "cuda") for name in PROGRAMS}
    for name, (function, *arguments) in sums.items():
        texts[name] = exported(function, *arguments, platforms=["cuda"]).mlir_module()
    for name, text in texts.items():
        for scatter in re.findall(r'"stablehlo\.scatter".*?\}\) : .*?\n', text, re.DOTALL):
            adds = re.search(r"stablehlo\.add .*f32", scatter)
            assert not adds or "unique_indices = true" in scatter, f"{name}: {scatter}"


def few_kernels():
    wide, zero = jnp.zeros((5, D), jnp.float32), jnp.float32(0)
    group, counts = jnp.zeros(M, jnp.int32), jnp.zeros(5, jnp.int32)
    axes = jnp.zeros((5, D, D), jnp.float32)
    return Kernels(group, counts, wide, axes, wide, zero, zero, zero)


@pytest.mark.parametrize("kernel", ["assign", "orbits"])
def test_tensor_cores_of_a_gpu_sum_in_float32_what_is_split(kernel, accelerator):
    d, rows, m = {"assign": (64, 2**14, 2**14), "orbits": (512, 2**12, 2**17)}[kernel]
    function = {"assign": aeot.assign, "orbits": antithetic.assign_orbits}[kernel]
    arguments = floats(rows, d), floats(m, d), floats(m)
    text = {
        platform: exported(function, *arguments, platforms=[platform]).mlir_module()
        for platform in PLATFORMS
    }
    products = re.findall(r"stablehlo\.dot_general.*", text["cuda"])
    on_tensor_cores = [product for product in products if "bf16>" in product]
    assert on_tensor_cores
    assert all(re.search(r"-> tensor<[0-9x]*xf32>", product) for product in on_tensor_cores)
    assert all("HIGHEST" in product for product in products if product not in on_tensor_cores)
    assert "bf16" not in text["tpu"]


@pytest.mark.long
def test_programs_lower_inside_of_shard_map(accelerator):
    mesh = meshes.row(tuple(jax.devices()), AXIS)
    for function, inside, outside, arguments in OVER_SAMPLES.values():
        mapped = jax.shard_map(function, mesh=mesh, in_specs=inside, out_specs=outside)
        made = exported(mapped, *arguments, platforms=PLATFORMS)
        assert made.nr_devices == 8


@pytest.mark.long  # a whole step lowers over devices below
def test_programs_lower_inside_of_pmap(accelerator):
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
    x = floats(8, N // 8, D)
    every = {
        "gradients": (gradients, (None, 0, None, None), (H, x, Y, NU)),
        "step": (stepped, (0, None, None), (keys, Y, NU)),
    }
    for function, axes, arguments in every.values():
        mapped = jax.pmap(partial(function, axis_name=AXIS), axis_name=AXIS, in_axes=axes)
        made = exported(lambda *a, mapped=mapped: mapped(*a), *arguments, platforms=PLATFORMS)
        assert made.nr_devices == 8


@pytest.mark.parametrize(
    ("kind", "target_shards"),
    [
        ("shard_map", 2),
        *(pytest.param(kind, 1, marks=pytest.mark.long) for kind in ("pmap", "shard_map")),
    ],
)
def test_the_steps_of_a_solve_lower_in_every_placement(kind, target_shards, accelerator):
    where = placement(kind, None, target_shards)
    rows = sizes.sharded(M, D)
    y, nu = floats(rows, D), floats(rows)
    plan, budget = planning.plan(M, MU, CONFIG), planning.budget(M, MU, CONFIG)

    def run(key, y, nu):
        marginals = Marginals(MU, y, nu)
        if target_shards > 1:
            state = start.begin_sharded(key, marginals, plan, budget, None, where)
        else:
            state = start.begin(key, marginals, plan, budget)
        return stepping.run_steps(state, marginals, plan, where, 2)[0].h

    made = exported(run, KEY, y, nu, platforms=PLATFORMS)
    assert made.nr_devices == 8


@pytest.mark.parametrize("name", ["assign", pytest.param("gradients", marks=pytest.mark.long)])
def test_a_program_for_all_platforms_answers_here_as_the_function_does(name):
    function, *shapes = PROGRAMS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape.shape).astype(np.float32) for shape in shapes]
    if name == "gradients":
        arrays[-1] = np.full(M, 1 / M, np.float32)
    made = exported(function, *shapes, platforms=["cpu", *PLATFORMS])
    for own, direct in zip(
        jax.tree.leaves(made.call(*arrays)), jax.tree.leaves(function(*arrays)), strict=True
    ):
        np.testing.assert_allclose(own, direct, rtol=1e-6, atol=1e-6)

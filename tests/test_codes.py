"""Codes, networks and tables of somebody's own: in their own units, in and out."""

import subprocess
import sys
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import aeot_jax as aeot
from aeot_jax.inputs import columns, networks

KEY = jax.random.key(0)
CONFIG = replace(tiny.CONFIG, extension=aeot.ExtensionConfig(num_samples=256))
OFFSET, SPREAD = np.array([1e6, -3.0, 0.0]), np.array([1.0, 50.0, 1e-3])
WEIGHTS = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)
DATA = np.random.default_rng(4).normal(size=(60, 6)).astype(np.float32)


def codes(n: int = 60) -> np.ndarray:
    return OFFSET + SPREAD * np.random.default_rng(1).normal(size=(n, 3))


def encoder(x):
    return jnp.asarray(x) @ WEIGHTS


def decoder(z):
    return jnp.asarray(z) @ WEIGHTS.T


@pytest.fixture(scope="module")
def model():
    return aeot.fit_codes(KEY, codes(), CONFIG, labels=np.arange(60) % 2)


@pytest.mark.long
def test_new_codes_come_in_the_units_that_codes_went_in(model):
    new = np.asarray(aeot.sample_codes(KEY, model, 500), np.float64)
    assert new.shape == (500, 3)
    # Blends lie about the codes; the mean of 500 is off by a fifth of a deviation at most.
    slack = SPREAD + 1e-6 * np.abs(OFFSET)
    assert (new > codes().min(0) - slack).all()
    assert (new < codes().max(0) + slack).all()
    assert (np.abs(new.mean(0) - codes().mean(0)) < 0.2 * slack).all()


def test_encode_standardises_codes_in_float64_and_decode_undoes_it(model):
    standard = aeot.encode(model, codes())
    # The centre is kept in float32, whose rounding at the first offset is 0.03.
    assert (np.abs(standard.mean(0)) < 1e-5 + 6e-8 * np.abs(OFFSET) / SPREAD).all()
    np.testing.assert_allclose(standard.std(0), 1, atol=1e-4)
    raw = np.asarray(aeot.decode(model, standard), np.float64)
    assert (np.abs(raw - codes()) < 1e-6 * np.abs(OFFSET) + 1e-5 * SPREAD).all()


def test_codes_are_the_same_problem_in_any_unit():
    plain = aeot.fit_codes(KEY, codes(), CONFIG)
    moved = aeot.fit_codes(KEY, 8 * codes() + 64, CONFIG)  # powers of two round nothing
    np.testing.assert_allclose(moved.extension.y, plain.extension.y, atol=0.04)
    assert moved.params is None
    assert moved.image_shape is None


def test_many_copies_of_few_codes_blend_as_few_codes_do():
    """Of equal codes one owns a cell, so that 240 rows may be too few to learn kernels from."""
    with pytest.warns(UserWarning, match="180 targets that equal an earlier one"):
        model = aeot.fit_codes(KEY, np.repeat(codes(), 4, 0), CONFIG)
    assert model.config.extension.form == "kernels"
    assert model.extension.noise is None
    assert aeot.sample_codes(KEY, model, 5).shape == (5, codes().shape[1])


def test_the_same_key_gives_the_codes_of_the_images():
    model = tiny.model()
    images = aeot.sample(KEY, model, 5)
    z = aeot.encode(model, images)
    assert z.shape == (5, 3)
    raw = aeot.sample_codes(KEY, model, 5)
    again = aeot.decode(model, (raw - model.centre[None]) / model.scale[None])
    np.testing.assert_allclose(again, images, atol=1e-5)


def test_a_decoder_is_called_outside_of_jit_in_whole_batches(model):
    seen = []

    def decode(z):
        seen.append(z)
        return np.repeat(np.asarray(z)[:, None, :], 2, axis=1)

    found = aeot.sample(KEY, model, 10, decode=decode, batch=4)
    assert [type(z) for z in seen] == [np.ndarray] * 3
    assert {z.shape for z in seen} == {(4, 3)}
    np.testing.assert_array_equal(found[:, 0], aeot.sample_codes(KEY, model, 10))


def test_classes_of_codes_are_sampled_by_label(model):
    one = aeot.sample_codes(KEY, model, 20, label=1)
    own = codes()[1::2]
    slack = SPREAD + 1e-6 * np.abs(OFFSET)
    assert (np.asarray(one) > own.min(0) - slack).all()
    assert model.classes is not None
    assert aeot.sample(KEY, model, 3, label=1, decode=lambda z: z).shape == (3, 3)


def test_what_is_missing_is_said(model):
    with pytest.raises(ValueError, match=r"holds no decoder; pass `decode=`.*`sample_codes`"):
        aeot.sample(KEY, model, 3)
    with pytest.raises(ValueError, match=r"fitted to codes of shape \(3,\); pass \(n, 3\)"):
        aeot.encode(model, np.zeros((4, 8, 8, 1), np.uint8))


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (lambda z: z[:1], r"`decode` made shape \(1, 3\) of 3 rows"),
        (lambda z: None, r"`decode\(...\)` is None"),
        (lambda z: 1.0, r"made shape \(\) of 3 rows"),
        ("vae", "`decode` is 'vae'; pass a function"),
    ],
)
def test_a_decoder_that_does_not_fit_is_refused(model, decode, said):
    with pytest.raises(ValueError, match=said):
        aeot.sample(KEY, model, 3, decode=decode)


def test_a_decoder_must_keep_one_shape():
    widths = iter((3, 4))
    with pytest.raises(ValueError, match=r"rows of shape \(4,\) after rows of shape \(3,\)"):
        networks.apply("decode", lambda z: np.zeros((2, next(widths))), np.zeros((4, 2)), 2)


def test_numbers_of_another_type_are_kept_whole():
    """The first batch is of whole numbers, the second is not."""
    kinds = iter((np.int8, np.float64, np.float32))
    rows = np.arange(6.0)[:, None] + [[0.0, 0.25]]
    found = networks.apply("f", lambda x: np.asarray(x, next(kinds)), rows, 2)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.concatenate([np.floor(rows[:2]), rows[2:]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["decode", "encode", "features"])
def test_what_is_not_finite_is_named_by_its_function_and_row(name, bad):
    def function(x):
        return np.where(np.asarray(x) == 5, bad, x)

    with pytest.raises(ValueError, match=f"`{name}` made a value of row 5 that is not finite"):
        networks.apply(name, function, np.arange(7.0)[:, None], 2)


def test_a_decoder_that_gives_nan_is_refused_wherever_it_is_called(model):
    def broken(z):
        return np.full_like(z, np.nan)

    said = "`decode` made a value of row 0 that is not finite; pass a function"
    with pytest.raises(ValueError, match=said):
        aeot.sample(KEY, model, 3, decode=broken)
    own = replace(model, networks=networks.Networks(None, broken))
    with pytest.raises(ValueError, match=said):
        aeot.sample(KEY, own, 3)
    with pytest.raises(ValueError, match=said):
        aeot.decode(own, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=said):
        aeot.fit(KEY, DATA, CONFIG, encode=encoder, decode=lambda z: broken(decoder(z)))


def test_codes_are_counted_as_codes(model):
    with pytest.raises(ValueError, match="`n` is 0; pass how many codes to make"):
        aeot.sample_codes(KEY, model, 0)
    with pytest.raises(ValueError, match="`n` is 0; pass how many images to make"):
        aeot.sample(KEY, tiny.model(), 0)


def nan_codes() -> np.ndarray:
    found = codes()
    found[7, 1] = np.nan
    return found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (nan_codes(), "row 7 that is not finite"),
        (np.full((5, 2), 1e300), "row 0 that is not finite in float32"),
        (np.zeros((60, 3)), "all rows of `codes` are equal"),
        (np.zeros((60, 3, 2)), r"`codes` has shape \(60, 3, 2\)"),
        (np.zeros((1, 3)), r"holds 1 codes; pass at least 2"),
        (np.zeros((0, 3)), "holds 0 codes"),
        (np.zeros((5, 0)), r"shape \(5, 0\)"),
    ],
)
def test_codes_that_cannot_be_learned_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        aeot.fit_codes(KEY, given, CONFIG)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="pass one label per"):
        aeot.fit_codes(KEY, codes(), CONFIG, labels=np.zeros(59, int))


def test_ones_own_networks_serve_until_they_are_saved(tmp_path):
    model = aeot.fit(KEY, DATA, CONFIG, encode=encoder, decode=decoder)
    images = aeot.sample(KEY, model, 5)
    assert images.shape == (5, 6)
    z = aeot.encode(model, DATA)
    np.testing.assert_allclose(z, model.extension.y, atol=1e-5)
    np.testing.assert_allclose(
        aeot.decode(model, z), decoder(np.asarray(encoder(DATA))), rtol=1e-4, atol=1e-4
    )
    traced = jax.jit(lambda m, x: aeot.decode(m, aeot.encode(m, x)))(model, DATA)
    np.testing.assert_allclose(traced, aeot.decode(model, z), rtol=1e-4, atol=1e-4)
    aeot.save(model, tmp_path / "m.npz")
    again = aeot.load(tmp_path / "m.npz")
    assert again.networks is None
    np.testing.assert_array_equal(aeot.sample(KEY, again, 5, decode=decoder), images)
    with pytest.raises(ValueError, match="holds no decoder"):
        aeot.sample(KEY, again, 5)


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ({"encode": encoder, "decode": lambda z: z}, r"rows of shape \(3,\), but `images`"),
        ({"decode": decoder}, "`decode` is given, but `encode` is not"),
        ({"encode": lambda x: x[:, :, None]}, "flatten them"),
        ({"encode": 3}, "`encode` is 3; pass a function"),
    ],
)
def test_networks_that_do_not_belong_together_are_refused_before_any_work(functions, said):
    with pytest.raises(ValueError, match=said):
        aeot.fit(KEY, DATA, CONFIG, **functions, on_progress=lambda _: pytest.fail("it began"))


def test_an_encoder_takes_what_no_built_in_network_does(tmp_path):
    wide = np.random.default_rng(0).normal(size=(40, 3, 2, 5, 1)).astype(np.float32)
    model = aeot.fit(
        KEY, wide, CONFIG, encode=lambda x: x.reshape(len(x), -1)[:, :3], run_dir=tmp_path / "r"
    )
    np.testing.assert_array_equal(
        aeot.sample_codes(KEY, aeot.load(tmp_path / "r"), 4), aeot.sample_codes(KEY, model, 4)
    )


def test_a_run_of_codes_is_resumed_and_refuses_other_codes(tmp_path):
    run = tmp_path / "run"
    model = aeot.fit_codes(KEY, codes(), CONFIG, run_dir=run)
    again = aeot.fit_codes(
        KEY, codes(), CONFIG, run_dir=run, resume=True, on_progress=lambda _: pytest.fail("again")
    )
    tiny.assert_same(again, model)
    with pytest.raises(ValueError, match="another key, other images"):
        aeot.fit_codes(KEY, codes() + 1, CONFIG, run_dir=run, resume=True)


@pytest.mark.long
def test_codes_are_sampled_in_another_process(tmp_path, model):
    aeot.save(model, tmp_path / "m.npz")
    lines = (
        "import jax, numpy as np, aeot_jax as aeot",
        f"model = aeot.load({str(tmp_path / 'm.npz')!r})",
        "images = aeot.sample(jax.random.key(0), model, 4, decode=lambda z: 2 * z)",
        f"np.save({str(tmp_path / 'new.npy')!r}, images)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    expected = 2 * np.asarray(aeot.sample_codes(KEY, model, 4))
    np.testing.assert_allclose(np.load(tmp_path / "new.npy"), expected, rtol=1e-6)


def table(n: int = 80) -> np.ndarray:
    rng = np.random.default_rng(2)
    t = rng.uniform(0, 2 * np.pi, n)
    rows = np.stack([np.cos(t), 40 * np.sin(t), np.full(n, 7.0), 1e5 + t], axis=1)
    return rows + 0.01 * rng.normal(size=(n, 4)) * [1, 40, 0, 1]


def test_a_table_is_learned_in_the_units_of_its_columns(tmp_path):
    config = replace(CONFIG, training=aeot.TrainConfig(epochs=40, batch_size=20))
    model = aeot.fit(KEY, table(), config, run_dir=tmp_path / "run", labels=np.arange(80) % 2)
    assert model.image_shape == (4,)
    new = aeot.sample(KEY, model, 50)
    assert new.shape == (50, 4)
    np.testing.assert_allclose(new[:, 2], 7.0, atol=0.5)
    back = np.asarray(aeot.decode(model, aeot.encode(model, table())), np.float64)
    assert (((back - table()) ** 2).mean(0) < 0.5 * table().var(0) + 0.1).all()
    tiny.assert_same(aeot.load(tmp_path / "run"), model)
    with pytest.raises(ValueError, match=r"fitted to rows of shape \(4,\); pass \(n, 4\)"):
        aeot.encode(model, table()[:, :3])


def test_a_table_has_no_pixels():
    config = replace(CONFIG, autoencoder=aeot.AutoencoderConfig(kind="conv"))
    with pytest.raises(ValueError, match="`kind` is 'conv', but the data are a table"):
        aeot.fit(KEY, table(), config)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.float16])
def test_columns_are_standardised_as_in_float64(dtype):
    values = np.random.default_rng(0).normal(size=(1000, 3)) * [1, 100, 0] + [5, 1e3, 3]
    values = values.astype(dtype)
    wide = values.astype(np.float64)
    found = columns.standardised(values)
    expected = (wide - wide.mean(0)) / np.where(wide.std(0) > 1e-9, wide.std(0), 1)
    np.testing.assert_allclose(found.rows, expected, atol=1e-4)
    assert found.units.scale[2] > 0


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (0.0, 1e-6),
        (7.0, 1e6),
        *(
            pytest.param(*one, marks=pytest.mark.long)
            for one in ((0, 1), (0, 1e6), (7, 1e-6), (7, 1))
        ),
    ],
)
def test_a_constant_column_stays_constant_in_any_unit(unit, value):
    # The problem and the map of the guides: compiled for them, too.
    rows = np.random.default_rng(0).normal(size=(200, 4)) * unit
    rows[:, 2] = value * unit
    config = aeot.Config(solver=aeot.SolverConfig(tolerance=0.4, start="gaussian"))
    model = aeot.fit_codes(KEY, rows, config)
    assert model.extension.noise is not None
    z = np.asarray(aeot.sample_codes(KEY, model, 100), np.float64)
    deviation = z.std(0)
    assert (deviation[[0, 1, 3]] > 0.5 * unit).all()
    np.testing.assert_allclose(z[:, 2], value * unit, atol=1e-5 * unit)
    # What comes later may differ there by a rounding.
    units = columns.standardised(rows.astype(np.float32)).units
    near = np.nextafter(rows.astype(np.float32), np.float32(np.inf))
    assert np.abs(columns.measured(near, *units)[:, 2]).max() < 0.1


def test_standardising_in_blocks_changes_nothing(monkeypatch):
    values = np.random.default_rng(0).normal(size=(100, 3))
    whole = columns.standardised(values)
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 24 * 7)
    parts = columns.standardised(values)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["on_progress", "on_event"])
def test_what_cannot_be_called_is_refused_before_any_work(name):
    codes = np.random.default_rng(0).normal(size=(60, 2))
    for begin in (aeot.fit_codes, aeot.fit):
        with pytest.raises(ValueError, match=f"`{name}` is 3; pass a function, or None"):
            begin(tiny.KEY, codes, tiny.CONFIG, **{name: cast(Any, 3)})
    if name == "on_progress":
        with pytest.raises(ValueError, match=f"`{name}` is 3; pass a function, or None"):
            aeot.solve(tiny.KEY, aeot.Gaussian(2), codes, on_progress=3)  # pyright: ignore


def test_what_is_no_path_is_refused_by_its_name():
    codes = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(TypeError, match="`run_dir` is 3; pass a path"):
        aeot.fit_codes(tiny.KEY, codes, tiny.CONFIG, run_dir=3)  # pyright: ignore
    with pytest.raises(TypeError, match="`path` is 3; pass a path"):
        aeot.save(tiny.model(), 3)  # pyright: ignore
    with pytest.raises(TypeError, match="`path` is None; pass a path"):
        aeot.load(None)  # pyright: ignore


def test_a_table_of_equal_rows_is_refused_before_the_training():
    seen = []
    with pytest.raises(ValueError, match="all rows of `images` are equal"):
        aeot.fit(tiny.KEY, np.ones((60, 3)), tiny.CONFIG, on_progress=seen.append)
    assert not seen

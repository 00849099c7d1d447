import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from tiny import assert_same

import aeot_jax as aeot
from aeot_jax import (
    AutoencoderConfig,
    Config,
    ExtensionConfig,
    SolverConfig,
    TrainConfig,
    decode,
    load,
    sample,
    save,
)
from aeot_jax.checkpoints import checkpoint, configs, contents, identity
from aeot_jax.measures import table
from aeot_jax.nn import layers, models
from aeot_jax.ot.solver.result import Status
from aeot_jax.storage import records


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture
def path(tmp_path, model):
    save(model, tmp_path / "model.npz")
    return tmp_path / "model.npz"


def test_what_is_saved_is_loaded_to_the_last_bit(path, model):
    again = load(path)
    assert_same(again, model)
    assert again.config == model.config
    key = jax.random.key(1)
    np.testing.assert_array_equal(sample(key, again, 33), sample(key, model, 33))


def test_loaded_arrays_have_the_types_of_the_saved(path, model):
    for a, b in zip(jax.tree.leaves(load(path)), jax.tree.leaves(model), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape


def test_a_folder_stands_for_the_model_in_it(path, model):
    assert_same(load(path.parent), model)
    assert_same(load(str(path)), model)


@pytest.mark.parametrize("source", sorted(table.CHOICES))
def test_the_source_comes_back(tmp_path, model, source):
    config = replace(model.config, source=source)
    save(replace(model, config=config), tmp_path / "m.npz")
    assert load(tmp_path / "m.npz").extension.mu == table.CHOICES[source](3)


def test_every_decision_survives_json():
    config = Config(
        AutoencoderConfig(kind="conv", latent_dim=5, width=8, depth=2, activation="relu"),
        TrainConfig(epochs=3, batch_size=7, learning_rate=1e-3, noise=0.2),
        source="ball",
        solver=SolverConfig(tolerance=0.2, method="adam", plateau_steps=3, time_limit=9.0),
        extension=ExtensionConfig(threshold=0.5, num_samples=64),
    )
    text = json.dumps(checkpoint.config_to_json(config))
    assert checkpoint.config_from_json(json.loads(text)) == config


def test_the_activation_comes_back_and_an_older_file_has_silu(tmp_path, model, path):
    networks = replace(model.config.autoencoder, activation="relu")
    relu = replace(model, config=replace(model.config, autoencoder=networks))
    save(relu, tmp_path / "relu.npz")
    again = load(tmp_path / "relu.npz")
    assert again.config.autoencoder.activation == "relu"
    z = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(decode(again, z), decode(relu, z))
    assert not np.array_equal(decode(again, z), decode(model, z))
    arrays, meta = records.read(path, "model")
    del meta["config"]["autoencoder"]["activation"]
    records.write(tmp_path / "old.npz", "model", arrays, meta)
    assert_same(load(tmp_path / "old.npz"), model)


def test_an_older_file_has_tiled_patches(tmp_path):
    """Its decoder has no parameters for others."""
    networks = AutoencoderConfig("conv", 3, 8, patches="tiled")
    model = tiny.model()
    params = models.functions(model.image_shape, networks).init(jax.random.key(0))
    tiled = replace(model, params=params, config=replace(model.config, autoencoder=networks))
    save(tiled, tmp_path / "m.npz")
    arrays, meta = records.read(tmp_path / "m.npz", "model")
    assert meta["config"]["autoencoder"].pop("patches") == "tiled"
    records.write(tmp_path / "old.npz", "model", arrays, meta)
    assert_same(load(tmp_path / "old.npz"), tiled)


def test_an_older_file_has_sharp_chroma(tmp_path):
    """Its colours come back bit for bit."""
    networks = AutoencoderConfig("conv", 3, 8, chroma="sharp")
    size, model = (8, 8, 3), tiny.model()
    params = models.functions(size, networks).init(jax.random.key(0))
    config = replace(model.config, autoencoder=networks)
    sharp = replace(model, params=params, image_shape=size, config=config)
    save(sharp, tmp_path / "m.npz")
    arrays, meta = records.read(tmp_path / "m.npz", "model")
    assert meta["config"]["autoencoder"].pop("chroma") == "sharp"
    records.write(tmp_path / "old.npz", "model", arrays, meta)
    again, z = load(tmp_path / "old.npz"), np.ones((2, 3), np.float32)
    assert_same(again, sharp)
    np.testing.assert_array_equal(decode(again, z), decode(sharp, z))
    smooth = replace(sharp, config=replace(config, autoencoder=replace(networks, chroma="smooth")))
    expected = layers.smooth_chroma(decode(sharp, z))
    np.testing.assert_allclose(decode(smooth, z), expected, atol=1e-6)


def test_a_custom_optimizer_is_left_out_and_all_else_is_saved(tmp_path, model):
    solver = replace(model.config.solver, optimizer=optax.sgd(0.1))
    save(replace(model, config=replace(model.config, solver=solver)), tmp_path / "m.npz")
    again = load(tmp_path / "m.npz")
    assert_same(again, model)


def test_devices_are_left_out_and_change_no_identity():
    solver = SolverConfig(parallel="pmap", devices=tuple(jax.devices()[:2]))
    plain, spread = Config(), Config(solver=solver)
    assert checkpoint.config_to_json(spread) == checkpoint.config_to_json(plain)
    data = np.zeros((4, 8, 8, 1), np.uint8)
    assert identity.of(tiny.KEY, data, spread) == identity.of(tiny.KEY, data, plain)


def test_an_option_that_came_later_is_as_if_it_were_not_there():
    """A run of a version without the second stage goes on, and without that stage."""
    data = np.zeros((4, 8, 8, 1), np.uint8)
    tree = checkpoint.config_to_json(Config())
    without = json.loads(identity.of(tiny.KEY, data, Config()))
    for part, values in configs.BEFORE.items():
        for name in values:
            del tree[part][name], without["config"][part][name]
    before = json.dumps(without, sort_keys=True)
    old = checkpoint.config_from_json(tree)
    assert old.training == TrainConfig(refine_epochs=0, fine_weight=0)
    assert identity.as_begun(Config(), before) == old
    assert identity.same(identity.of(tiny.KEY, data, old), before)
    assert identity.as_begun(old, identity.of(tiny.KEY, data, old)) == old
    wanted = replace(old, training=replace(old.training, refine_epochs=3))
    assert identity.as_begun(wanted, before) == wanted
    now = identity.of(tiny.KEY, data, wanted)
    assert not identity.same(now, before)
    assert identity.differences(now, before) == ["`training.refine_epochs` was 0 and is 3"]
    for text in (None, "", "[]", "{}", '{"config": 3}', '{"config": {"training": []}}'):
        assert identity.as_begun(wanted, text) == wanted
        assert not identity.same(now, text)


@pytest.mark.long
def test_a_run_of_an_earlier_version_is_resumed(tmp_path):
    images, config = tiny.images(40), replace(tiny.CONFIG, training=TrainConfig(epochs=1))
    first = replace(config, training=TrainConfig(epochs=1, refine_epochs=0, fine_weight=0))
    begun = aeot.fit(tiny.KEY, images, first, run_dir=tmp_path)
    arrays, meta = records.read(tmp_path / "model.npz", "model")
    told = json.loads(meta["identity"])
    for known in (meta["config"], told["config"]):
        for name in configs.BEFORE["training"]:
            del known["training"][name]
    meta["identity"] = json.dumps(told, sort_keys=True)
    records.write(tmp_path / "model.npz", "model", arrays, meta)
    assert_same(aeot.fit(tiny.KEY, images, config, run_dir=tmp_path, resume=True), begun)


def test_a_model_of_an_earlier_version_claims_no_bound(tmp_path, model, path):
    arrays, meta = records.read(path, "model")
    names = ("upper", "num_unverified", "unverified_weight", "samples_to_verify")
    kept = {k: v for k, v in arrays.items() if k.rpartition("/")[2] not in names}
    assert len(kept) == len(arrays) - len(names)
    records.write(tmp_path / "old.npz", "model", kept, meta)
    certificate = load(tmp_path / "old.npz").solution.certificate
    assert certificate.upper == jnp.inf
    assert certificate.mass_error == model.solution.mass_error


def test_a_field_that_came_later_is_not_known_in_an_older_file(path, model, monkeypatch):
    arrays, meta = records.read(path, "model")
    del arrays["solution/certificate/worst"]
    records.write(path, "model", arrays, meta)
    with pytest.raises(ValueError, match="holds no array 'solution/certificate/worst'"):
        load(path)
    monkeypatch.setitem(contents.LATER, "worst", np.inf)
    again = load(path)
    assert again.solution.certificate.worst == np.inf
    assert again.solution.certificate.worst.dtype == np.float32
    assert_same(replace(again, solution=model.solution), model)


def test_a_field_of_a_newer_version_is_said_to_be_that(path):
    arrays, meta = records.read(path, "model")
    arrays["solution/certificate/entropy"] = np.ones((), np.float32)
    records.write(path, "model", arrays, {**meta, "version": "9.1"})
    with pytest.raises(ValueError, match=r"certificate/entropy', which version .* \('9\.1'\)\.$"):
        load(path)


def test_a_damaged_model_is_refused(path):
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"model\.npz' is damaged"):
        load(path)
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"model\.npz' is damaged"):
        load(path)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.npz', but there is no such file"):
        load(tmp_path)
    records.write(tmp_path / "t.npz", "training", {"a": np.ones(1)}, {})
    with pytest.raises(ValueError, match="holds 'training', not 'model'"):
        load(tmp_path / "t.npz")


def test_a_disk_that_fills_leaves_the_earlier_model(path, model, monkeypatch):
    def half(file, **_):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="No space left"):
        save(jax.tree.map(jnp.zeros_like, model), path)
    monkeypatch.undo()
    assert_same(load(path), model)
    assert [file.name for file in path.parent.iterdir()] == ["model.npz"]


def test_identity_sees_everything_that_decides_a_fit():
    data, config = tiny.images()[..., None], tiny.CONFIG
    one_pixel = data.copy()
    one_pixel[3, 2, 1] += 1
    others = [
        (jax.random.key(1), data, config),
        (tiny.KEY, one_pixel, config),
        (tiny.KEY, data[:-1], config),
        (tiny.KEY, data.reshape(60, 4, 16, 1), config),
        (tiny.KEY, data, replace(config, source="cube")),
        (tiny.KEY, data, replace(config, solver=SolverConfig(tolerance=0.31))),
        (
            tiny.KEY,
            data,
            replace(config, solver=replace(config.solver, optimizer=optax.sgd(0.1))),
        ),
    ]
    own = identity.of(tiny.KEY, data, config)
    assert own == identity.of(jax.random.PRNGKey(0), data.copy(), config)
    assert len({own, *(identity.of(*other) for other in others)}) == len(others) + 1


def test_a_new_folder_is_made_and_an_old_run_is_not_touched(tmp_path, model):
    folder = tmp_path / "runs" / "a"
    run = checkpoint.open_run(folder, "me")
    assert run.finished is run.training is None
    run.save_model(model)
    with pytest.raises(ValueError, match=r"already holds a run \(model\.npz\); resume it, over"):
        checkpoint.open_run(folder, "me")
    assert_same(load(folder), model)


def test_files_of_others_in_the_folder_are_no_run(tmp_path):
    (tmp_path / "notes.txt").touch()
    checkpoint.open_run(tmp_path, "me")
    assert (tmp_path / "notes.txt").exists()


def test_resuming_nothing_starts_afresh(tmp_path):
    run = checkpoint.open_run(tmp_path, "me", resume=True)
    assert run.finished is run.training is None


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="both set; choose one"):
        checkpoint.open_run(tmp_path, "me", resume=True, overwrite=True)


def test_a_finished_run_comes_back_and_another_is_refused(tmp_path, model):
    checkpoint.open_run(tmp_path, "me").save_model(model)
    run = checkpoint.open_run(tmp_path, "me", resume=True)
    assert run.finished is not None
    assert_same(run.finished, model)
    with pytest.raises(ValueError, match="other images or labels or another configuration"):
        checkpoint.open_run(tmp_path, "you", resume=True)


def test_an_interrupted_transport_leaves_the_run_unfinished(tmp_path, model):
    run = checkpoint.open_run(tmp_path, "me")
    records.write(
        tmp_path / checkpoint.TRAINING_FILE,
        "training",
        {"00000": np.ones(1), "losses": np.ones(1)},
        {"identity": "me"},
    )
    status = jnp.asarray(int(Status.INTERRUPTED), jnp.int32)
    run.save_model(replace(model, solution=replace(model.solution, status=status)))
    again = checkpoint.open_run(tmp_path, "me", resume=True)
    assert again.finished is None
    assert again.training is not None

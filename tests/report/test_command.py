"""The command of a report makes the run again."""

import dataclasses
import shlex

import aeot_jax as aeot
from aeot_jax.checkpoints.configs import config_to_json
from aeot_jax.cli import fit, parse
from aeot_jax.cli.options import source
from aeot_jax.cli.options.pictures import PictureOptions
from aeot_jax.report.command import command


def test_the_command_gives_the_options_that_were_given():
    asked = "fit --data digits --out NEW --seed 3 --limit 200 --hold-out 40 --labels"
    asked += " --image-size 8x8 --resize pad --grey"
    asked += " --tolerance 0.5 --epochs 2 --training.noise 0 --autoencoder.kind mlp"
    options = parse(shlex.split(asked))
    assert isinstance(options, fit.Fit)
    where = source.Source("digits", 200, 40, 3, None, True, PictureOptions("8x8", "pad", grey=True))
    config = {
        "seed": 3,
        "labels": True,
        "source": dataclasses.asdict(where),
        "config": config_to_json(options.full_config()),
    }
    said = command(config)
    assert said is not None
    again = parse(shlex.split(said)[1:])
    assert isinstance(again, fit.Fit)
    assert again.full_config() == options.full_config()
    for name in ("data", "out", "seed", "limit", "hold_out", "labels", "pictures"):
        assert getattr(again, name) == getattr(options, name)


def test_defaults_are_left_out_and_paths_are_quoted():
    source = {"path": "/my data/x", "labels": "/l.npy", "seed": 0, "hold_out": 0, "limit": None}
    config = {"source": source, "labels": True, "config": config_to_json(aeot.Config())}
    assert command(config) == "aeot-jax fit --data '/my data/x' --labels-file /l.npy --out NEW"
    assert command({}) is None

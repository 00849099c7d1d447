"""The options of ``aeot-jax fit``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

import aeot_jax as aeot
from aeot_jax.cli.options import presets, recipe
from aeot_jax.cli.options.devices import Number
from aeot_jax.cli.options.pictures import AS_THEY_ARE, PictureOptions
from aeot_jax.cli.parsing import value_of
from aeot_jax.cli.screen import manual

_DEFAULT = aeot.Config()


def _short_for(name: str, default: str) -> Any:
    return tyro.conf.arg(
        help=f"Short for --{name}.", help_behavior_hint=f"(default: {default})", metavar="NUMBER"
    )


_PRESET = tyro.conf.arg(
    help="Options that go together; those that are given besides win: "
    + " ".join(
        f"{manual.ITEM} {name}: {preset.about}." for name, preset in presets.PRESETS.items()
    ),
    help_behavior_hint="",
    metavar="NAME",
)

WORDS = {
    "--solver.tolerance": "What the mass error shall be at most, with confidence 95 %; None runs "
    "to a limit.",
    "--solver.method": '"newton" follows Adam by stochastic Newton steps; "adam" is Adam to the '
    'end; "exact" draws no samples, for codes in 1 or 2 dimensions and a Gaussian or a cube. '
    '"auto" is "exact" where that can be had and nothing below says otherwise, else "newton".',
    "--solver.learning-rate": "Learning rate of Adam.",
    "--solver.plateau-steps": 'Under "adam", steps without a smaller residual after which the '
    "samples of a step are doubled and the rate multiplied by 0.8; by default never.",
    "--solver.parallel": 'How samples are spread over devices; "auto" is "shard_map" over several '
    'devices or processes, and "none" on one device or a CPU. It changes no bit of the answer on a '
    "CPU.",
    "--solver.target-shards": "Devices over which the targets are sharded, 1, 2, 4 or 8, where one "
    "device cannot hold them all: of 8 devices and 4 shards, 2 rows of 4 devices share the "
    "samples. It changes no bit of the answer. The maps of --labels are solved on one device each.",
    "--extension.threshold": "Plane angle above which a face of the cells is singular, radians in "
    "(0, pi]; by default learned from the codes.",
}
"""Options whose docstrings are for Python, in the words of this command."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """Learn images, a table of numbers or codes, and make new ones.

    Trains the autoencoder, transports noise onto its codes until the mass error is certified, and
    leaves in the folder: model.npz, config.json, metrics.json, samples.png,
    reconstructions.png, history.png and report.html, a page that shows it all. Ends with 0 and a
    warning where the tolerance was not reached ("converged" in metrics.json says which).

    Attributes:
      preset: Options that go together, named; those that are given besides win.
      config_file: Options from the config.json of a run, or from its folder, edited or not; those
        that are given besides win.
      data: What to learn: "digits" (1,797 handwritten digits of 8x8 pixels; needs no network),
        "mnist" or "fashion-mnist" (downloaded once), an .npz file, a folder of IDX files (MNIST's
        format, gzipped or raw), a folder, a .zip or a .tar file of pictures, or one of the other
        formats that `aeot-jax data` lists. Floats of shape (n, columns) are a table.
      codes: Codes of an encoder of your own, floats of shape (n, dimensions), in place of --data:
        nothing is trained, and `aeot-jax sample RUN --npz new.npz` gives new ones.
      out: Folder of the run; made if it is not there.
      seed: Of everything random; the same seed gives the same model.
      tolerance: See below.
      epochs: See below.
      latent_dim: See below.
      limit: Learn only so many images, rows or codes, chosen at random, of every class the same
        share.
      hold_out: So many images, rows or codes set aside, at random, for `aeot-jax evaluate`, where
        the data has no test images of its own.
      labels: Learn one more map per class, for `aeot-jax sample --label`, by the labels of the
        data where it has any: digits, mnist, y_train or y in an .npz file, labels beside IDX files,
        sub-folders of pictures (by their names).
      labels_file: Labels from an .npy file, one integer or text per image or row, in place of
        the data's own; implies --labels.
      pictures: How pictures become images.
      resume: Continue an interrupted run in the folder, with the same data and options; the model
        is the same as without the interruption.
      overwrite: Replace the run that is in the folder, which stays until the new one is finished.
        Interrupted, the new one continues with --resume.
      devices: Devices to train and to solve on, the first so many (of each process): 1, 2, 4 or 8
        together.
      distributed: Join the other processes that run this same command (under SLURM, on a TPU pod
        slice, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID); the first
        writes the folder.
      no_report: Write no report.html, which takes some seconds; `aeot-jax report` can do it later.
      quiet: Show no progress.
      debug: Show where an error comes from.
      config: Everything else; the defaults serve most data.
    """

    out: Path
    data: Annotated[str | None, tyro.conf.arg(help_behavior_hint="", metavar="DATA")] = None
    codes: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: none)", metavar="FILE.npy")
    ] = None
    preset: Annotated[str | None, _PRESET] = None
    config_file: Annotated[
        Path | None,
        tyro.conf.arg(name="config", help_behavior_hint="(default: none)", metavar="FILE"),
    ] = None
    seed: int = 0
    tolerance: Annotated[
        float | None, _short_for("solver.tolerance", f"{_DEFAULT.solver.tolerance}")
    ] = None
    epochs: Annotated[
        int | None, _short_for("training.epochs", "chosen from the number of images")
    ] = None
    latent_dim: Annotated[
        int | None, _short_for("autoencoder.latent-dim", "chosen from the image size")
    ] = None
    limit: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: all)", metavar="NUMBER")
    ] = None
    hold_out: Annotated[int, tyro.conf.arg(metavar="NUMBER")] = 0
    labels: bool = False
    labels_file: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: none)", metavar="FILE.npy")
    ] = None
    pictures: Annotated[PictureOptions, tyro.conf.arg(name="")] = AS_THEY_ARE
    resume: bool = False
    overwrite: bool = False
    devices: Number = None
    distributed: bool = False
    no_report: bool = False
    quiet: bool = False
    debug: bool = False
    config: Annotated[aeot.Config, tyro.conf.arg(name="")] = _DEFAULT

    def full_config(self) -> aeot.Config:
        """The configuration, with the short options put in their places."""
        config = self.config
        for part, name, value in self._short():
            if value is not None:
                record = dataclasses.replace(getattr(config, part), **{name: value})
                config = dataclasses.replace(config, **{part: record})
        return config

    def check(self, arguments: Sequence[str]) -> None:
        """Refuse an option that is given twice, with different values.

        Raises:
          ValueError: if one is.
        """
        for part, name, value in self._short():
            option = name.replace("_", "-")
            nested = getattr(getattr(self.config, part), name)
            given = value_of(arguments, f"--{part}.{option}") is not None
            if given and value not in (None, nested):
                raise ValueError(
                    f"`--{option}` is {value} and `--{part}.{option}` is {nested}; give one."
                )

    def _short(self) -> tuple[tuple[str, str, int | float | None], ...]:
        return (
            ("solver", "tolerance", self.tolerance),
            ("training", "epochs", self.epochs),
            ("autoencoder", "latent_dim", self.latent_dim),
        )


def base(arguments: Sequence[str]) -> Fit | None:
    """The options that hold where the arguments say nothing else.

    Raises:
      FileNotFoundError: if the file of --config is not there.
      ValueError: if there is no such preset, or the file cannot be used.
    """
    values: dict[str, Any] = {}
    if (file := value_of(arguments, "--config")) is not None:
        values |= recipe.read(Path(file))
    if (preset := value_of(arguments, "--preset")) is not None:
        values |= presets.of(preset)
    if not values:
        return None
    options = object.__new__(Fit)  # what is missing has a mark of tyro, which is no text or path
    for field in dataclasses.fields(Fit):
        default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
        object.__setattr__(options, field.name, values.get(field.name, default))
    return options

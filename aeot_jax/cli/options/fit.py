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
from aeot_jax.cli.parsing import options_in, value_of
from aeot_jax.cli.screen import manual

_DEFAULT = aeot.Config()


def _short_for(name: str, default: str) -> Any:
    return tyro.conf.arg(
        help=f"Short for --{name}.", help_behavior_hint=f"(default: {default})", metavar="NUMBER"
    )


_PRESET = tyro.conf.arg(
    help="A named set of options; explicit options take precedence: "
    + " ".join(
        f"{manual.ITEM} {name}: {preset.about}." for name, preset in presets.PRESETS.items()
    ),
    help_behavior_hint="",
    metavar="NAME",
)

WORDS = {
    "--autoencoder.activation": 'Of the hidden units: "silu", which is smooth, or "relu", with '
    "which an MLP is affine on each of finitely many cells; aeot_jax.manifold counts them.",
    "--training.refine-epochs": "More passes over the images, after --epochs, in which the decoder "
    "alone learns to make patches that are distributed like those of the images: sharper pictures "
    "for a tenth to a third more time. 0 is none; by default one for each 8 of --epochs, and none "
    "for a table or for images of more than 12,288 values.",
    "--training.refine-weight": "How hard the distribution of patches pulls at the pixels in these "
    "passes, over how hard the reconstruction does.",
    "--training.fine-weight": "How hard the error of fine detail alone pulls in these passes, over "
    "the same; it makes plain areas plain. By default 10 for convolutions and 0 for the MLP.",
    "--solver.tolerance": "Largest mass error, with confidence 95 %; None runs to a limit.",
    "--solver.method": '"newton" follows Adam by stochastic Newton steps; "adam" is Adam to the '
    'end; "exact" draws no samples, for codes in 1 or 2 dimensions and a Gaussian or a cube. '
    '"auto" is "exact" if that is possible and no option below excludes it, else "newton".',
    "--solver.start": 'Heights to start from; "auto" measures all and takes the best.',
    "--solver.learning-rate": "Learning rate of Adam.",
    "--solver.plateau-steps": 'For "adam": after this many steps without a smaller residual, the '
    "samples per step are doubled and the rate is multiplied by 0.8; by default never.",
    "--solver.parallel": 'How samples are sharded over devices; "auto" is "shard_map" over several '
    'devices or processes, and "none" on one device or a CPU. On a CPU it changes no bit of the '
    "result.",
    "--solver.target-shards": "Number of devices over which the targets are sharded, 1, 2, 4 or 8, "
    "if one device cannot hold them all: with 8 devices and 4 shards, 2 rows of 4 devices share "
    "the samples. It changes no bit of the result. The maps of --labels use one device each.",
    "--solver.streams": "Streams in which samples are drawn, 8, 16, 32, 64, 128 or 256: so many "
    "devices can share them. The model depends on it.",
    "--extension.threshold": "Plane angle above which a face of the cells is singular, radians in "
    "(0, pi]; by default learned from the codes.",
    "--extension.form": '"kernels" makes samples as new as unseen data; "blend" blends up to five '
    "codes, as do maps of fewer than 200 different codes and those of --labels in any case.",
}
"""Help texts of options whose docstrings are written for Python."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """Learn images, a table of numbers or codes, and make new ones.

    Trains the autoencoder, solves the transport of noise onto its codes until the mass error is
    certified, and writes into the folder: model.npz, config.json, metrics.json, samples.png,
    reconstructions.png, history.png and report.html, a page that shows all of it. If the tolerance
    was not reached, it warns and exits with 0 ("converged" in metrics.json says so).

    Attributes:
      preset: A named set of options; explicit options take precedence.
      config_file: Options from the config.json of a run, or from its folder, perhaps edited;
        explicit options take precedence.
      data: What to learn: "digits" (1,797 handwritten digits of 8x8 pixels; needs no network),
        "mnist" or "fashion-mnist" (downloaded once), an .npz file, a folder of IDX files (MNIST's
        format, gzipped or raw), a folder, a .zip or a .tar file of pictures, or another format that
        `aeot-jax data` lists. Floats of shape (n, columns) are a table.
      codes: Codes of your own encoder, floats of shape (n, dimensions), in place of --data: nothing
        is trained, and `aeot-jax sample RUN --npz new.npz` makes new ones.
      out: Folder of the run; made if it does not exist.
      seed: Seed of all random numbers; the same seed gives the same model.
      tolerance: See below.
      epochs: See below.
      latent_dim: See below.
      limit: Number of images, rows or codes to learn, chosen at random, the same share of every
        class.
      hold_out: Number of images, rows or codes to hold out, chosen at random, for `aeot-jax
        evaluate`; only for data without test images.
      labels: Learn one more map per class, for `aeot-jax sample --label`, from the labels of the
        data: digits, mnist, y_train or y in an .npz file, labels beside IDX files, or the names of
        sub-folders of pictures.
      labels_file: Labels from an .npy file, one integer or string per image or row, in place of
        those of the data; implies --labels.
      pictures: How pictures become images.
      resume: Continue an interrupted run in the folder, with the same data and options; the model
        is the same as without the interruption.
      overwrite: Replace the run in the folder, which stays until the new one is finished. If the
        new one is interrupted, continue it with --resume.
      devices: Number of devices (of each process) to train and to solve on: 1, 2, 4 or 8 in
        all, or more with more --solver.streams.
      distributed: Join the other processes that run this same command (under SLURM, on a TPU pod
        slice, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID); process 0
        writes the folder.
      no_report: Do not write report.html, which takes some seconds; `aeot-jax report` can do so
        later.
      quiet: Show no progress.
      debug: Show where an error comes from.
      config: All other options; the defaults suit most data.
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
        """The configuration, with the values of the short options."""
        config = self.config
        for part, name, value in self._short():
            if value is not None:
                record = dataclasses.replace(getattr(config, part), **{name: value})
                config = dataclasses.replace(config, **{part: record})
        return config

    def check(self, arguments: Sequence[str]) -> None:
        """Refuse an option that is given twice with different values, or that codes do not use.

        Raises:
          ValueError: if one is.
        """
        unused = next(filter(_for_networks, options_in(arguments)), None)
        if self.codes is not None and unused is not None:
            what = "images" if unused in _PICTURES else "images and tables"
            raise ValueError(
                f"`{unused}` is for {what}, but --codes have no network; leave it out."
            )
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


_PICTURES = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(PictureOptions)}
"""Options that shape images."""


def _for_networks(option: str) -> bool:
    """Whether an option shapes the data of networks or these themselves."""
    short = option in {"--epochs", "--latent-dim", *_PICTURES}
    return short or option.startswith(("--training.", "--autoencoder."))


def base(arguments: Sequence[str]) -> Fit | None:
    """The defaults of the options, from --config and --preset; None without both.

    Raises:
      FileNotFoundError: if the file of --config does not exist.
      ValueError: if there is no such preset, or the file cannot be used.
    """
    values: dict[str, Any] = {}
    if (file := value_of(arguments, "--config")) is not None:
        values |= recipe.read(Path(file))
    if (preset := value_of(arguments, "--preset")) is not None:
        values |= presets.of(preset)
    if not values:
        return None
    options = object.__new__(Fit)  # without checks: tyro marks missing values
    for field in dataclasses.fields(Fit):
        default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
        object.__setattr__(options, field.name, values.get(field.name, default))
    return options

"""Presets: named sets of options."""

from typing import Any, NamedTuple

from aeot_jax.cli.options.pictures import PictureOptions
from aeot_jax.inputs.nearest import nearest


class Preset(NamedTuple):
    """Values of options of ``fit``.

    Attributes:
      about: the options, and the result that was measured with them.
      values: values of the options, by field name.
    """

    about: str
    values: dict[str, Any]


PRESETS = {
    "digits": Preset(
        "--data digits --hold-out 197: about a minute on two cores; mass error 0.078, squared "
        "error 0.0076 per pixel on images not seen",
        {"data": "digits", "hold_out": 197},
    ),
    "mnist": Preset(
        "--data mnist; on 10,000 of the images (--limit 10000) 3 minutes of CPU, mass error 0.085, "
        "Fréchet distance to test images 0.35 where other training images have 0.38",
        {"data": "mnist"},
    ),
    "fashion-mnist": Preset(
        "--data fashion-mnist; on 10,000 of the images (--limit 10000) 3 minutes of CPU, mass "
        "error 0.085, Fréchet distance 0.63 where test images have 0.42",
        {"data": "fashion-mnist"},
    ),
    "photos64": Preset(
        "--image-size 64 --hold-out 200, for a folder of a thousand photos or more; on 3,586 "
        "drawings of emoji 16 minutes of CPU, mass error 0.081, squared error 0.015 per pixel on "
        "images not seen",
        {"pictures": PictureOptions(image_size="64"), "hold_out": 200},
    ),
}
"""``aeot-jax fit --preset digits --out runs/digits`` and so on."""


def of(name: str) -> dict[str, Any]:
    """The values of a preset.

    Raises:
      ValueError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(
            f"`--preset` is {name!r}{nearest(name, PRESETS)}; pass one of {', '.join(PRESETS)}."
        )
    return PRESETS[name].values

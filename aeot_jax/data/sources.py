"""Sources of data: by name, or by the kind of a file or a folder; nothing is decoded here."""

import os
from pathlib import Path

import numpy as np

from aeot_jax.data.found import Arrays, Files, NoSplitError
from aeot_jax.data.readers import archive, cifar, hdf5, idx, parquet
from aeot_jax.data.tree import ALL, title
from aeot_jax.inputs import extras
from aeot_jax.inputs.nearest import nearest

NAMES = ("digits", "mnist", "fashion-mnist")
"""Names of the data sets that `load` knows."""

CLASSES = {
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
}
"""Class names of these sets."""


def find(
    source: str | os.PathLike[str],
    split: str,
    cache_dir: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
) -> tuple[Arrays | Files, str]:
    """Find the data of a source (pictures are not decoded yet), and its name."""
    if source == "digits":
        return Arrays(*_digits(split)), "digits"
    if source in NAMES:
        # pooch and requests are slow to import, and needed only here
        for library in ("pooch", "requests"):
            extras.require(library, "cli", "downloads data")
        from aeot_jax.data import download

        found = download.fetch(str(source), split, cache_dir=cache_dir, base_url=base_url)
        return Arrays(*idx.read_folder(found, split), CLASSES.get(str(source))), str(source)
    path = Path(os.path.expanduser(source))  # unchanged if there is no such user
    if path.is_dir():
        return _in_folder(path, split), title(path.resolve().name)
    if not path.exists():
        raise FileNotFoundError(
            f"`source` {str(path)!r} is neither a file nor a folder nor one of {', '.join(NAMES)}"
            f"{nearest(path.name, NAMES)}; check the path."
        )
    return _in_file(path, split), title(path.stem)


def all_pictures(source: str | os.PathLike[str]) -> Files | None:
    """All pictures of a folder or an archive, however it is arranged; None for another source."""
    from aeot_jax.data.readers import archived, folder

    path = Path(os.path.expanduser(source))
    if path.is_dir() and not any(kind.is_folder(path) for kind in (idx, cifar, parquet)):
        return folder.find(path, ALL)
    if path.is_file() and archived.is_archive(path) and not cifar.is_archive(path):
        return archived.find(path, ALL)
    return None


def _in_folder(path: Path, split: str) -> Arrays | Files:
    if idx.is_folder(path):
        return Arrays(*idx.read_folder(path, split))
    if cifar.is_folder(path):
        return cifar.read_folder(path, split)
    if parquet.is_folder(path):
        return parquet.find(path, split)
    from aeot_jax.data.readers import folder

    return folder.find(path, split)


def _in_file(path: Path, split: str) -> Arrays | Files:
    from aeot_jax.data.readers import archived

    suffix = path.suffix.lower()
    if suffix == ".npz":
        return Arrays(*archive.read(path, split))
    if suffix == ".npy":
        return Arrays(archive.read_array(path, split))
    if cifar.is_archive(path):
        return cifar.read_archive(path, split)
    if archived.is_archive(path):
        return archived.find(path, split)
    if suffix in (".h5", ".hdf5") or (suffix == ".mat" and hdf5.is_hdf5(path)):
        return hdf5.read(path, split)
    if suffix == ".mat":
        from aeot_jax.data.readers import matlab

        return matlab.read(path, split)
    if suffix == ".parquet":
        if split == "test":
            raise NoSplitError(f"`source` {str(path)!r} is one split; pass split='train'.")
        return parquet.find(path, split)
    raise ValueError(
        f"`source` {str(path)!r} is a file but not one that is read; pass an .npz, .npy, .zip, "
        ".tar, .mat, .h5 or .parquet file, or a folder of images or IDX files."
    )


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "`source` 'digits' comes with scikit-learn, which is missing; "
            "install it with: pip install 'aeot-jax[demo]'."
        ) from error
    if split == "test":
        raise ValueError("`split` is 'test', but 'digits' has no test set; pass 'train'.")
    levels, labels = load_digits(return_X_y=True)
    # 17 levels, 0..16, to the nearest byte: no two levels meet, and 16 becomes 255
    return np.rint(levels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), labels

"""Downloads of published image sets, with checksums, into a cache."""

import gzip
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from aeot_jax.data.readers.idx import DAMAGED_GZIP, is_gzip

URL_VARIABLE = "AEOT_JAX_DATA_URL"
"""Environment variable that replaces the base address of every set."""


LARGEST = 2**27
"""Most bytes of a file, compressed or not; the largest published one has 47 million."""


@dataclass(frozen=True)
class Published:
    """The URL of a set, and the checksums of its files.

    Attributes:
      url: URL of the folder that holds the files.
      md5: for each file name, without ``.gz``, the MD5 of the decompressed bytes. (The compressed
        bytes differ between mirrors.)
    """

    url: str
    md5: Mapping[str, str]


REGISTRY: dict[str, Published] = {
    "mnist": Published(
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion-mnist": Published(
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
}
"""The sets that can be downloaded, by name."""


def fetch(
    name: str,
    split: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    registry: Mapping[str, Published] = REGISTRY,
) -> Path:
    """Download a split of a published set to the cache, unless it is there.

    Files are stored decompressed, as raw IDX. A file gets its name only after its checksum was
    verified, so a wrong or interrupted download leaves nothing. A damaged file in the cache is
    downloaded again.

    Args:
      name: a name in the registry.
      split: "train" or "test".
      cache_dir: folder of the cache; by default the user's cache folder of the operating system.
      base_url: URL of the folder that holds the ``.gz`` files; "{name}" in it is replaced by the
        name of the set. By default the environment variable `URL_VARIABLE`, then the published URL.
      registry: the known sets.

    Returns:
      The folder that holds the files.

    Raises:
      ValueError: if a downloaded file has another checksum or is too large, or the cache holds a
        folder in place of a file.
      ConnectionError: if the server cannot be reached or has no such file.
    """
    published = registry[name]
    base = base_url or os.environ.get(URL_VARIABLE) or published.url
    base = base.replace("{name}", name).rstrip("/") + "/"
    cache = pooch.create(
        path=Path(cache_dir or pooch.os_cache("aeot-jax")).expanduser() / name,
        base_url=base,
        registry={file: f"md5:{md5}" for file, md5 in published.md5.items()},
        urls={file: f"{base}{file}.gz" for file in published.md5},
    )
    stem = "train" if split == "train" else "t10k"
    for file in published.md5:
        if file.startswith(stem):
            _fetch_file(cache, file, name, published.md5[file])
    return Path(cache.abspath)


def _fetch_file(cache: pooch.Pooch, file: str, name: str, md5: str) -> None:
    way_out = (
        f"pass another `base_url`, set {URL_VARIABLE}, or pass a folder that holds the IDX files"
    )
    kept = Path(cache.abspath) / file
    if kept.exists() and not kept.is_file():
        raise ValueError(f"the cache holds {str(kept)!r}, which is not a file; remove it.")
    try:
        # pooch's protocol and its downloaders name their parameters differently
        cache.fetch(file, downloader=_download)  # pyright: ignore[reportArgumentType]
    except requests.RequestException as error:
        raise ConnectionError(
            f"`source` {name!r} could not be downloaded from {cache.get_url(file)} ({error}); "
            f"{way_out}."
        ) from error
    except DAMAGED_GZIP as error:
        raise ValueError(
            f"`source` {name!r} was downloaded from {cache.get_url(file)} as a damaged gzip file "
            f"({error}), which was dropped; try again, or {way_out}."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"`source` {name!r} was downloaded from {cache.get_url(file)} with another content "
            f"than the published one of MD5 {md5}, and was dropped; {way_out}."
        ) from error


def _download(url: str, output_file: str, cache: pooch.Pooch) -> None:
    """Download to pooch's temporary file and decompress it there, before the checksum is compared.

    It may arrive decompressed: requests does so if the server declares the compression.
    """
    received = _Bounded()
    # pooch's annotations allow only paths, but files work too
    pooch.HTTPDownloader()(url, received, cache)  # pyright: ignore[reportArgumentType]
    Path(output_file).write_bytes(gunzip(received.getvalue()))


def gunzip(data: bytes) -> bytes:
    """Decompress if gzipped, up to `LARGEST` bytes.

    Raises:
      ValueError: if it would be more.
      EOFError, gzip.BadGzipFile, zlib.error: if the stream is damaged.
    """
    if is_gzip(data):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"there are more than {LARGEST} bytes")
    return data


class _Bounded(io.BytesIO):
    """A buffer of at most `LARGEST` bytes."""

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > LARGEST:
            raise ValueError(f"there are more than {LARGEST} bytes")
        return super().write(data)

"""New data from a fitted model: exactly as many as asked for, by drawing again where it rejects."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from aeot_jax import arguments
from aeot_jax.inputs.networks import BATCH, Network, check_function, data_of
from aeot_jax.model import AEOT, check_model, extension_of, raw_codes
from aeot_jax.model import decode as images_of
from aeot_jax.ot.devices.parallel import place
from aeot_jax.ot.devices.placement import Parallel, Placement, placement
from aeot_jax.ot.extension.extension import Extension
from aeot_jax.ot.extension.generate import CHUNK, GenerateInfo, draw
from aeot_jax.typing import Devices, Given, PRNGKey

_MAX_CANDIDATES = CHUNK
"""Candidates of one draw of ``sample``, at most."""

_LEAST_ACCEPTED = 0.01
"""Share of candidates below which ``sample`` gives up."""


class SampleError(RuntimeError):
    """Too many candidates fell into the singular set."""


class SampleInfo(NamedTuple):
    """What ``sample_with_info`` saw.

    Attributes:
      candidates: drawn from the source.
      rejected: of them, in the singular set.
      share_rejected: rejected / candidates.
      copies: accepted candidates that are codes of the data, with nothing blended in.
    """

    candidates: int
    rejected: int
    share_rejected: float
    copies: int


def sample(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    decode: Given[Network | None] = None,
    batch: Given[int] = BATCH,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> Array | np.ndarray:
    """New images, or rows of a table: exactly n, drawn again where the singular set rejects.

    A host loop (how many draws it takes depends on the data); under jit use ``generate`` and
    ``decode``. Several processes call it together, or choose "none".

    Args:
      key: consumed.
      model: from ``fit`` or ``fit_codes``.
      n: images.
      label: draw from this class, a number or a name; None draws from all, by the transport onto
        all codes.
      decode: somebody's own decoder, codes (b, z) in their own units -> data (b, ...): a pure
        function, called in batches outside of any jit of this library, and never saved. A model of
        codes needs it; None is what the model was fitted with.
      batch: codes that ``decode`` is given at once; the last batch is filled up.
      parallel: how the draws of more than 4096 candidates are sharded over devices, with the same
        images to the last bit; as in ``certify``.
      devices: the devices to use; None is all.

    Returns:
      Images (n, height, width, channels), float32 in [0, 1]; rows (n, D) of a table, in the units
      of its columns; or what ``decode`` gives, as NumPy's array.

    Raises:
      ValueError: if n is not positive, the label unknown, a decoder is missing or gives other
        shapes, or the devices do not fit.
      SampleError: if more than 99 % of the candidates fall into the singular set.
    """
    images, _ = sample_with_info(
        key, model, n, label=label, decode=decode, batch=batch, parallel=parallel, devices=devices
    )
    return images


def sample_with_info(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    decode: Given[Network | None] = None,
    batch: Given[int] = BATCH,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> tuple[Array | np.ndarray, SampleInfo]:
    """``sample``, with how many candidates it took; see there."""
    check_model(model)
    check_function("decode", decode)
    batch = arguments.count("batch", batch)
    if decode is None and model.networks is not None:
        decode = model.networks.decode
    if decode is None and model.image_shape is None:
        raise ValueError(
            "`decode` is None, but the model was fitted to codes and holds no decoder; pass "
            "`decode=`, a function of codes, or take the codes themselves from `sample_codes`."
        )
    codes, info = draw_codes(key, model, n, label=label, parallel=parallel, devices=devices)
    if decode is None:
        return images_of(model, codes), info
    return data_of(decode, np.asarray(raw_codes(model, jnp.asarray(codes))), batch), info


def sample_codes(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> Float[Array, "n z"]:
    """New codes, in the units of the encoder that they came from; else as ``sample``.

    Returns:
      Codes (n, z), float32, for the decoder that belongs to that encoder. The same key gives the
      codes of the images of ``sample``.
    """
    n = arguments.count("n", n, what="how many codes to make")
    codes, _ = draw_codes(key, model, n, label=label, parallel=parallel, devices=devices)
    return raw_codes(model, jnp.asarray(codes))


def draw_codes(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> tuple[Float[np.ndarray, "n z"], SampleInfo]:
    """Standardised codes that are not rejected, exactly n, and how many candidates they took."""
    way = "under it use `generate` and `decode`"
    arguments.refuse_trace("sample", way, key=key, model=model)
    key = arguments.key("key", key)
    check_model(model)
    n = arguments.count("n", n, what="how many images to make")
    size = min(_MAX_CANDIDATES, max(64, 1 << (2 * n - 1).bit_length()))
    where = placement(parallel, devices)
    if n <= size and where.kind != "none":
        where = Placement("none")  # one draw is enough, or nearly
    ext = place(where, extension_of(model, label))
    parts: list[np.ndarray] = []
    found = candidates = accepted_all = copies = 0
    for z, accepted, info in _draws(where, key, ext, size):
        keep = np.flatnonzero(accepted)
        candidates += size
        accepted_all += keep.size
        copies += int((info.num_blended[keep] == 1).sum())
        parts.append(z[keep])
        found += keep.size
        if found >= n:
            break
        share = accepted_all / candidates
        if candidates >= _MAX_CANDIDATES and share < _LEAST_ACCEPTED:
            raise SampleError(
                f"{1 - share:.1%} of {candidates} candidates fell into the singular set; raise "
                f"`threshold`, now {float(ext.threshold):.3f} rad, or fit to more images."
            )
    codes = np.concatenate(parts)[:n]
    rejected = candidates - accepted_all
    return codes, SampleInfo(candidates, rejected, rejected / candidates, copies)


def _draws(
    where: Placement, key: PRNGKey, ext: Extension, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, GenerateInfo]]:
    """Draw after draw without end, computed one for each device at once."""
    abreast = max(1, len(where.devices))
    for first in itertools.count(0, abreast):
        keys = _draw_keys(key, first + np.arange(abreast))
        drawn = jax.tree.map(np.asarray, draw(where, keys, ext, size))
        for i in range(abreast):
            yield jax.tree.map(lambda leaf, i=i: leaf[i], drawn)


@jax.jit
def _draw_keys(key: PRNGKey, draws: Int[Array, " c"]) -> Key[Array, " c"] | UInt32[Array, "c 2"]:
    """Each draw is one of ``generate`` by a key of its own, of a single chunk."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), 0))(draws)

"""New data from a fitted model: exactly n. Candidates that are rejected are drawn again."""

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
from aeot_jax.ot.devices.placement import MOST_STREAMS, Parallel, Placement, placement
from aeot_jax.ot.extension.extension import Extension, at_novelty
from aeot_jax.ot.extension.generate import CHUNK, GenerateInfo, draw
from aeot_jax.typing import Devices, Given, PRNGKey

_MAX_CANDIDATES = CHUNK
"""Most candidates of one draw of ``sample``."""

_LEAST_ACCEPTED = 0.01
"""Share of candidates below which ``sample`` gives up."""


class SampleError(RuntimeError):
    """Too many candidates fell into the singular set."""


class SampleInfo(NamedTuple):
    """Counts of ``sample_with_info``.

    Attributes:
      candidates: number of candidates drawn from the source.
      rejected: number of candidates in the singular set, which were drawn again.
      share_rejected: rejected / candidates.
      copies: number of accepted candidates that are codes of the data, neither blended nor moved.
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
    novelty: Given[int | float | str | None] = None,
    reject: Given[bool | None] = None,
    decode: Given[Network | None] = None,
    batch: Given[int] = BATCH,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> Array | np.ndarray:
    """Make exactly n new images, or rows of a table.

    This is a loop on the host, as the number of draws depends on the data; under jit use
    ``generate`` and ``decode``. Several processes must all call it, or set `parallel` to "none".

    Args:
      key: consumed.
      model: from ``fit`` or ``fit_codes``.
      n: number of images.
      label: the class to draw, a number or a name; None uses the transport onto all codes.
      novelty: how new the images are: 0 decodes codes of the data, 1 makes codes as new as unseen
        ones are, and what is between is in proportion. "blend" blends up to five codes, as models
        without kernels do. None is 1 where the map has kernels (see ``ExtensionConfig``), else
        "blend".
      reject: whether candidates near a jump of the map are drawn again. Codes that are blended may
        lie between two pieces there. Kernels never do, and without rejection modes keep their
        shares. None rejects only what is blended.
      decode: the user's own decoder, codes (b, z) in the encoder's units -> data (b, ...): a pure
        function, called in batches outside of any jit of this library, and never saved. A model of
        codes needs it. None is the decoder that the model was fitted with.
      batch: codes per call of ``decode``; the last batch is padded.
      parallel: how draws of more than 4096 candidates are sharded over devices, with the same bits;
        see ``certify``.
      devices: devices to use; None is all.

    Returns:
      Images (n, height, width, channels), float32 in [0, 1]; rows (n, D) of a table, in the units
      of its columns; or the output of ``decode``, as a NumPy array.

    Raises:
      ValueError: if n is not positive, the label is unknown, the novelty is not one that was
        learned, a decoder is missing or gives other shapes, or the devices do not fit.
      SampleError: if more than 99 % of the candidates are rejected.
    """
    images, _ = sample_with_info(
        key,
        model,
        n,
        label=label,
        novelty=novelty,
        reject=reject,
        decode=decode,
        batch=batch,
        parallel=parallel,
        devices=devices,
    )
    return images


def sample_with_info(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    novelty: Given[int | float | str | None] = None,
    reject: Given[bool | None] = None,
    decode: Given[Network | None] = None,
    batch: Given[int] = BATCH,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> tuple[Array | np.ndarray, SampleInfo]:
    """``sample``, and the number of candidates that it took."""
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
    how = {"novelty": novelty, "reject": reject, "parallel": parallel, "devices": devices}
    codes, info = draw_codes(key, model, n, label=label, **how)
    if decode is None:
        return images_of(model, codes), info
    return data_of(decode, np.asarray(raw_codes(model, jnp.asarray(codes))), batch), info


def sample_codes(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    novelty: Given[int | float | str | None] = None,
    reject: Given[bool | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> Float[Array, "n z"]:
    """Make exactly n new codes, in the units of the encoder; arguments as in ``sample``.

    Returns:
      Codes (n, z), float32, not standardised: ``decode`` takes other units. The same key gives the
      codes of the images of ``sample``.
    """
    n = arguments.count("n", n, what="how many codes to make")
    how = {"novelty": novelty, "reject": reject, "parallel": parallel, "devices": devices}
    codes, _ = draw_codes(key, model, n, label=label, **how)
    return raw_codes(model, jnp.asarray(codes))


def draw_codes(
    key: Given[PRNGKey],
    model: Given[AEOT],
    n: Given[int],
    *,
    label: Given[int | str | None] = None,
    novelty: Given[int | float | str | None] = None,
    reject: Given[bool | None] = None,
    parallel: Given[Parallel] = "auto",
    devices: Given[Devices | None] = None,
) -> tuple[Float[np.ndarray, "n z"], SampleInfo]:
    """Draw exactly n standardised codes, and count the candidates."""
    way = "under it use `generate` and `decode`"
    arguments.refuse_trace("sample", way, key=key, model=model)
    key = arguments.key("key", key)
    check_model(model)
    n = arguments.count("n", n, what="how many images to make")
    size = min(_MAX_CANDIDATES, max(64, 1 << (2 * n - 1).bit_length()))
    where = placement(parallel, devices, streams=MOST_STREAMS)
    if n <= size and where.kind != "none":
        where = Placement("none")  # one draw is usually enough
    ext = place(where, at_novelty(extension_of(model, label), novelty))
    reject = rejects(ext) if reject is None else arguments.flag("reject", reject)
    parts: list[np.ndarray] = []
    found = candidates = copies = 0
    for z, accepted, info in _draws(where, key, ext, size):
        keep = np.flatnonzero(accepted) if reject else np.arange(size)
        candidates += size
        copies += int((info.num_blended[keep] == 1).sum())
        parts.append(z[keep])
        found += keep.size
        if found >= n:
            break
        share = found / candidates
        if candidates >= _MAX_CANDIDATES and share < _LEAST_ACCEPTED:
            raise SampleError(
                f"{1 - share:.1%} of {candidates} candidates fell into the singular set; raise "
                f"`threshold`, now {float(ext.threshold):.3f} rad, or fit to more data."
            )
    codes = np.concatenate(parts)[:n]
    rejected = candidates - found
    return codes, SampleInfo(candidates, rejected, rejected / candidates, copies)


def rejects(ext: Extension) -> bool:
    """Whether candidates in the singular set are drawn again, unless somebody decides.

    Where codes are blended they may lie between two pieces of the data. Kernels lie on one side of
    every jump; of them, rejection only takes what is rare (``benchmarks/novelty.py``).
    """
    return ext.noise is None


def _draws(
    where: Placement, key: PRNGKey, ext: Extension, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, GenerateInfo]]:
    """Draws without end; each step computes one draw on each device."""
    abreast = max(1, len(where.devices))
    for first in itertools.count(0, abreast):
        keys = _draw_keys(key, first + np.arange(abreast))
        drawn = jax.tree.map(np.asarray, draw(where, keys, ext, size))
        for i in range(abreast):
            yield jax.tree.map(lambda leaf, i=i: leaf[i], drawn)


@jax.jit
def _draw_keys(key: PRNGKey, draws: Int[Array, " c"]) -> Key[Array, " c"] | UInt32[Array, "c 2"]:
    """The key of each draw: a draw is one chunk of ``generate`` with its own key."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), 0))(draws)

"""The extension's forms side by side: what each makes of samples of the source."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import aeot_jax as aeot
from aeot_jax.ot.extension import blend, generate
from aeot_jax.ot.extension import centres as cells
from aeot_jax.ot.extension.barycentric import barycentric, inverse_distance
from aeot_jax.ot.extension.simplicial import simplicial, triangulate
from aeot_jax.ot.extension.smoothing import smooth_transport

_DRAW = 4_096
"""Samples of one draw."""

_MOST_DRAWS = 500
"""Draws after which a set counts as a failure."""


def accepted(key: jax.Array, ext: aeot.Extension, n: int) -> tuple[np.ndarray, float]:
    """Draw n accepted codes, and the share rejected; an error if it takes too many draws."""
    parts, found, draws = [], 0, 0
    while found < n:
        if draws == _MOST_DRAWS:
            raise RuntimeError(f"{found} of {draws * _DRAW} candidates were accepted.")
        z, kept, _ = aeot.generate(jax.random.fold_in(key, draws), ext, _DRAW)
        parts.append(np.asarray(z)[np.asarray(kept)])
        found += len(parts[-1])
        draws += 1
    return np.concatenate(parts)[:n], 1 - found / (draws * _DRAW)


def forms(key: jax.Array, ext: aeot.Extension, n: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """Codes of every form, with the share that it rejects; only the default knows what to reject.

    "default" is that of ``extension``, which blends; models that were calibrated have kernels, too.

    The published method takes its threshold from the default: the winner's angle with all that are
    blended.
    """
    draw_key, sample_key, centre_key = jax.random.split(key, 3)
    if ext.noise is not None:
        yield "kernels", *accepted(draw_key, ext, n)
        ext = replace(ext, noise=None)
    yield "default", *accepted(draw_key, ext, n)
    x, y, h, dim = ext.mu.sample(sample_key, n), ext.y, ext.h, ext.y.shape[1]
    yield "discrete map", np.asarray(aeot.transport(x, y, h)), 0.0
    yield "default, plain mean", _in_draws(_plain_mean, x, ext), 0.0
    every = replace(ext, threshold=jnp.float32(jnp.pi))
    yield "default, across singular faces", _in_draws(_default, x, every), 0.0
    centres = cells.mass_centres(centre_key, ext.mu, y, h)
    yield "barycentric, k = d + 1", np.asarray(barycentric(x, y, centres)), 0.0
    published = np.asarray(inverse_distance(x, y, centres, dim + 1))
    yield "inverse distance, k = d + 1", published, 0.0
    kept = _within_threshold(x, ext, centres)
    yield "published: inverse distance, rejection", published[kept], 1 - float(kept.mean())
    values, _ = aeot.top_k(x, y, h, 2)
    gap = float((values[:, 0] - values[:, 1]).mean())
    yield "entropic", np.asarray(smooth_transport(x, y, h, gap)), 0.0
    if dim <= 3:
        yield "simplicial", np.asarray(simplicial(x, y, triangulate(centres))), 0.0


def _within_threshold(x: jax.Array, ext: aeot.Extension, centres: cells.Centres) -> np.ndarray:
    _, used = cells.nearest(x, centres, ext.y.shape[1] + 1)
    unit = ext.frame.normalise(ext.y)
    _, winner = aeot.assign(x, ext.y, ext.h)
    angles = jnp.stack([blend.plane_angles(unit[winner], unit[i]) for i in used.T], axis=1)
    return np.asarray(angles.max(1) <= ext.threshold)


def _in_draws(form, x: jax.Array, ext: aeot.Extension) -> np.ndarray:
    """A form at all samples, some together."""
    parts = [form(x[i : i + _DRAW], ext) for i in range(0, len(x), _DRAW)]
    return np.concatenate([np.asarray(part) for part in parts])


@jax.jit
def _default(x: jax.Array, ext: aeot.Extension) -> jax.Array:
    return generate.extend(x, ext)[0]


@jax.jit
def _plain_mean(x: jax.Array, ext: aeot.Extension) -> jax.Array:
    """The default's shares and no more: a blend that varies less than the codes."""
    seen = blend.highest_planes(x, ext.y, ext.h, ext.frame)
    share, _ = blend.shares(seen, ext.band, ext.threshold)
    return jnp.einsum("nk,nkd->nd", share, seen.codes[:, : share.shape[1]])

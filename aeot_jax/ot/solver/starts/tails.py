r"""Tail-matched starting heights: every cell's mass from moments that all samples inform.

Target i wins a sample where its score :math:`s_i = \langle x, y_i\rangle` reaches
:math:`U - h_i`, with U the best score. A count learns this from one sample in m. Here the law of
:math:`s_i - U` is modelled instead. With a the score in units of its standard deviation
:math:`\sigma_i^2 = y_i^T C y_i`, a normal number,

.. math:: U = \mu + \tfrac12 \beta_i (a^2 - 1) + r,

where r is independent of a and has the law of U, narrowed to the variance that is left. There is no
linear term: by Stein's identity :math:`E[x U] = C\,E[T(x)]`, which vanishes for centred targets at
the optimum. The same identity gives the second term without an n x m array and with little noise,
:math:`\beta_i = y_i^T C\,E[x\,T(x)^T]\,y_i / \sigma_i^2`, T(x) being the target that wins x. The
mass of cell i is then a mean over quantiles of r of the normal mass between the roots of a
quadratic, which rises with h_i and is inverted for nu_i. Heights move half-way, and the law of U is
measured again, a few times.

The matrix is shrunk towards a multiple of C by what its noise explains (James and Stein), and is a
running mean over the rounds. Where scores are nearly normal in many dimensions or heavy-tailed, the
masses are within 5 to 20 %; where the targets fall into clusters they are not, and the measured
error says so.

Sources: Stein, Ann. Statist. 9, 1981, for the identity; James and Stein, 4th Berkeley Symposium,
1961, for the shrinking; Leadbetter, Lindgren and Rootzen 1983 for maxima of normal numbers.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc, ndtri
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.measures import draw
from aeot_jax.numerics import PRECISION, isolated, repeat
from aeot_jax.ot.cells import blockwise, power
from aeot_jax.ot.cells.blocks import Rows, as_rows
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves.seen import centred
from aeot_jax.ot.solver.starts.working import second_moment
from aeot_jax.typing import Heights, PRNGKey, Samples, Targets, Weights

_ROUNDS = 8
"""Times that the law of the best score is measured."""

SAMPLES = 256, 512, 1024
"""Samples that a round may have."""

_FLOATS = 2**18
"""Floats of the samples of a round, at most; every block of targets has a winner of each."""

_NODES = 64
"""Quantiles that stand for the law of U; 16 are too few (measured)."""

_ITERATIONS = 14
"""Newton steps of an inversion, at most, in a bracket; 10 are too few for log-normal tails."""

_CLOSE = 1e-3
"""Relative error of a mass at which its inversion ends; the model misses by much more."""

_NEARER = 0.1
"""Where a step would fall below the bracket, it goes so far above its lower end."""

_LAST_WEIGHT = 0.25
"""Weight of a round's matrix in the running mean, at least."""

_SHARE = 0.98
"""Part of the variance of U that the quadratic term may explain."""

_LEAST = 1e-30
"""What masses and variances are kept above, in float32."""


def num_samples(per_round: int) -> int:
    """Samples from which the heights are computed."""
    return _ROUNDS * per_round


def samples_of_a_round(wanted: int, dim: int) -> int:
    """How many samples a round should have, so that all take at most ``wanted`` where they can.

    Args:
      wanted: samples.
      dim: d.
    """
    most = min(wanted // _ROUNDS, _FLOATS // dim)
    return max((number for number in SAMPLES if number <= most), default=SAMPLES[0])


def heights(
    key: PRNGKey,
    marginals: Marginals,
    mean: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    per_round: int,
    *,
    targets_axis: str | None = None,
) -> Heights:
    """Heights (m,) of the module's docstring, their weighted mean 0.

    Args:
      key: consumed.
      marginals: source, targets and weights, centred and scaled.
      mean: of the source (d,).
      covariance: of the source (d, d).
      per_round: samples of a round; static.
      targets_axis: a mapped axis over whose devices the targets are sharded.
    """
    _, y, nu = marginals
    flat = jnp.zeros_like(covariance)
    forms = blockwise.map_rows(_forms, y, covariance, flat, mean)
    typical = isolated(_typical, covariance, second_moment(y, nu, targets_axis))
    rows = nu.shape[0]
    first = blockwise.map_rows(_first, _table(nu, nu, forms[:rows]), typical)[:rows]

    def turn(t: Int[Array, ""], carry: tuple) -> tuple:
        h, matrix, noise = carry
        x = draw(jax.random.fold_in(key, t), marginals.mu, per_round)
        best, winners = _winners(x, marginals, h, targets_axis)
        nodes, own, own_noise = isolated(_measured, x, best, winners, mean, covariance)
        weight = jnp.maximum(1 / (t + 1).astype(jnp.float32), _LAST_WEIGHT)
        matrix = isolated(_mixed, matrix, own, weight)
        noise = isolated(_mixed, noise, own_noise, weight)
        shrunk = isolated(_shrunk, matrix, covariance, noise, weight)
        forms = blockwise.map_rows(_forms, y, covariance, shrunk, mean)
        moved = blockwise.map_rows(_matched, _table(h, nu, forms[:rows]), nodes)
        return centred(moved[:rows], nu, targets_axis), matrix, noise

    carry = centred(first, nu, targets_axis), flat, jnp.zeros((), jnp.float32)
    return repeat(_ROUNDS, turn, carry)[0]


def _typical(covariance: Float[Array, "d d"], square: Float[Array, "d d"]) -> Float[Array, ""]:
    """Mean over targets of the variance of their scores."""
    return (covariance * square).sum()


def _forms(
    y: Targets,
    covariance: Float[Array, "d d"],
    matrix: Float[Array, "d d"],
    mean: Float[Array, " d"],
) -> Float[Array, "n 3"]:
    """Of each target the variance of its score, the quadratic term times it, the score's mean."""
    variance, bent = (
        (jnp.matmul(y, form, precision=PRECISION) * y).sum(1) for form in (covariance, matrix)
    )
    return jnp.stack([variance, bent, jnp.matmul(y, mean, precision=PRECISION)], 1)


def _table(h: Heights, nu: Weights, forms: Float[Array, "m 3"]) -> Float[Array, "m 5"]:
    """All numbers of a target in a row."""
    return jnp.concatenate([jnp.stack([h, nu], 1), forms], 1)


def _first(rows: Float[Array, "n 5"], typical: Float[Array, ""]) -> Heights:
    """Heights before anything is measured: U is given half the variance of a typical score."""
    nu, variance, tilt = rows[:, 1], rows[:, 2], rows[:, 4]
    return ndtri(_weights(nu)) * jnp.sqrt(variance + 0.5 * typical) - tilt


def _weights(nu: Weights) -> Weights:
    """Weights that have a quantile."""
    return jnp.clip(nu, _LEAST, 0.999)


def _winners(
    x: Samples, marginals: Marginals, h: Heights, targets_axis: str | None
) -> tuple[Float[Array, "8 n"], Float[Array, "8 n d"]]:
    """Of every logical block of targets the best score of each sample, and the target."""

    def of_block(y: Targets | Rows, h: Heights, nu: Weights, x: Samples) -> tuple[Array, Array]:
        rows = as_rows(y)
        value, index = power.best(x, rows, jnp.where(nu > 0, h, -jnp.inf))
        return value, rows.of(rows.points[index])

    arrays = marginals.y, h, marginals.nu
    of_blocks = blockwise.map_blocks(of_block, arrays, x, targets_axis=targets_axis)
    return blockwise.gather_blocks(of_blocks, targets_axis)


def _measured(
    x: Samples,
    best: Float[Array, "8 n"],
    winners: Float[Array, "8 n d"],
    mean: Float[Array, " d"],
    covariance: Float[Array, "d d"],
) -> tuple[Float[Array, " k"], Float[Array, "d d"], Float[Array, ""]]:
    """Quantiles of U, the symmetric matrix C E[x T'], and what its square has of noise."""
    u = jnp.sort(best.max(0))
    nodes = u.reshape(_NODES, -1).mean(1)
    won = jnp.take_along_axis(winners, best.argmax(0)[None, :, None], 0)[0]
    won = won - won.mean(0)[None, :]
    x = jnp.matmul(x - mean[None, :], covariance, precision=PRECISION)
    product = jnp.matmul(x.T, won, precision=PRECISION) / x.shape[0]
    squares = (x * x).sum(1) * (won * won).sum(1)
    return nodes, 0.5 * (product + product.T), 0.5 * squares.mean() / x.shape[0]


def _mixed(old: Array, new: Array, weight: Float[Array, ""]) -> Array:
    """One more number in a running mean."""
    return old + weight * (new - old)


def _shrunk(
    matrix: Float[Array, "d d"],
    covariance: Float[Array, "d d"],
    noise: Float[Array, ""],
    weight: Float[Array, ""],
) -> Float[Array, "d d"]:
    """The matrix, drawn to the multiple of C with its trace as far as noise explains the rest."""
    middle = jnp.trace(matrix) / jnp.maximum(jnp.trace(covariance), _LEAST) * covariance
    rest = matrix - middle
    explained = weight * noise / jnp.maximum((rest * rest).sum(), _LEAST)
    return middle + jnp.maximum(1 - explained, 0.0) * rest


def _matched(rows: Float[Array, "n 5"], nodes: Float[Array, " k"]) -> Heights:
    """Half-way from the heights to those that give every target its weight under the model."""
    h, nu, variance, bent, tilt = rows.T
    middle = nodes.mean()
    r = nodes - middle
    scatter = jnp.maximum((r * r).mean(), _LEAST)
    variance = jnp.maximum(variance, 1e-6 * scatter)
    beta = jnp.clip(bent / variance, 0.0, _SHARE * jnp.sqrt(2 * scatter))
    unit = jnp.sqrt(1 - 0.5 * beta * beta / scatter)  # what narrows r; heights are told in it
    sigma, beta = jnp.sqrt(variance) / unit, beta / unit
    centred = (h + tilt - middle) / unit
    found = _inverted(centred, nu, sigma, beta, r) * unit + middle - tilt
    return 0.5 * (h + found)


def _inverted(
    h: Heights,
    nu: Weights,
    sigma: Float[Array, " n"],
    beta: Float[Array, " n"],
    r: Float[Array, " k"],
) -> Heights:
    """Heights at which the model's masses are the weights: Newton on the logarithm, in a bracket.

    Where even the least r is above the top of the parabola, a mass is 0 and has no logarithm: the
    bracket begins there at the latest. A target that is close stays as it is, so that its height
    does not depend on the targets beside it; those of weight 0 do not wait for anything.
    """
    log_nu = jnp.log(_weights(nu))
    top = 0.5 * sigma * sigma / jnp.maximum(beta, 1e-6 * sigma)
    low = r[0] - 0.5 * beta - jnp.minimum(-sigma * ndtri(_weights(nu)), top)
    high = r[-1] + 2 * sigma + 2 * beta

    def lacks(carry: tuple) -> Bool[Array, ""]:
        t, *_, close = carry
        return (t < _ITERATIONS) & ~close.all()

    def turn(carry: tuple) -> tuple:
        t, h, low, high, close = carry
        mass, slope = _mass(h, sigma, beta, r)
        miss = log_nu - jnp.log(mass)
        close |= jnp.abs(miss) <= _CLOSE
        low, high = jnp.where(miss > 0, h, low), jnp.where(miss > 0, high, h)
        newton = h + miss * mass / slope
        # A mass begins like a square root above the parabola's top, where Newton steps too far.
        above = jnp.where(newton > low, newton, low + _NEARER * (high - low))
        moved = jnp.where(above < high, above, 0.5 * (low + high))
        return t + 1, jnp.where(close, h, moved), low, high, close

    carry = (jnp.int32(0), jnp.clip(h, low, high), low, high, nu <= 0)
    return jax.lax.while_loop(lacks, turn, carry)[1]


def _mass(
    h: Heights, sigma: Float[Array, " n"], beta: Float[Array, " n"], r: Float[Array, " k"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    r"""Mean over r of P(sigma a - beta (a^2 - 1) / 2 > r - h), a normal, and its slope in h."""
    sigma, beta = sigma[:, None], beta[:, None]
    need = r[None, :] - h[:, None] - 0.5 * beta
    inside = sigma * sigma - 2 * beta * need
    real = inside > 0
    root = jnp.sqrt(jnp.where(real, inside, 1.0))
    first = 2 * need / (sigma + root)
    last = (sigma + root) / jnp.maximum(beta, 1e-6 * sigma)
    mass = jnp.where(real, _upper(first) - _upper(last), 0.0).mean(1)
    density = jnp.exp(-0.5 * first * first) + jnp.exp(-0.5 * last * last)
    slope = jnp.where(real, density / root, 0.0).mean(1) * (2 * jnp.pi) ** -0.5
    return jnp.maximum(mass, _LEAST), jnp.maximum(slope, _LEAST)


def _upper(a: Array) -> Array:
    """Normal mass above a."""
    return 0.5 * erfc(a * 0.5**0.5)

r"""Heights by annealing: soft cells whose temperature falls, for targets with all scales at once.

Steps of one scale move each cell against its neighbours. Along a curve a cell has two neighbours,
and what is amiss at one end of it takes as many steps as there are cells to reach the other. At a
temperature :math:`\varepsilon` a sample belongs to all cells in part,

.. math:: p_i = E\, \frac{e^{(\langle x, y_i\rangle + h_i)/\varepsilon}}
                        {\sum_j e^{(\langle x, y_j\rangle + h_j)/\varepsilon}}, \qquad
          h_i \leftarrow h_i - \gamma\,\varepsilon \log \frac{p_i}{\nu_i} ,

and with gain :math:`\gamma = 1` this is Sinkhorn's step, with the expectation over fresh samples.
It evens out masses as far as soft cells reach. So the temperature begins at the spread of the
scores and falls by four until it is far below the mean gap between the best score and the second,
where cells are all but hard: each level mends what soft cells of its own size see, and the next
begins near to its answer. While cells are wide few samples tell their masses; the last level, whose
gain falls like that of a mean, takes three times as many as independent samples need for the
tolerance.

Sources: Cuturi, Peyre, "Semi-dual regularized optimal transport", 2018; Schmitzer, "Stabilized
sparse scaling algorithms for entropy regularized transport problems", 2019 (falling temperatures);
Mensch, Peyre, "Online Sinkhorn", 2020 (fresh samples).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aeot_jax.measures import draw
from aeot_jax.numerics import PRECISION, repeat
from aeot_jax.ot.problem import Marginals
from aeot_jax.ot.solver.moves.seen import centred
from aeot_jax.typing import Heights, PRNGKey

MOST_TARGETS = 1 << 13
"""Most targets: every sample weighs all of them, and annealing takes some hundreds for each."""

_FALL = 4.0
"""Temperature over the next one."""

_STEPS = 6
"""Steps of a level; half of them at full gain."""

_LEVELS = 11
"""Most levels: below a millionth of the spread float32 does not tell scores apart."""

_PER_CELL = 16
"""Samples of a step for each soft cell that they tell apart."""

_LEAST = 1024
"""Least samples of a step, and those of a look at the gaps."""

_PART = 256
"""Samples whose scores are held at a time."""

_HARD = 1 / 64
"""Temperature over the mean gap at which cells are all but hard, those of little weight, too."""

_LAST = 3
"""Samples of the last level, over those that the law of independent ones takes."""

_LEAST_SHARE = 0.05
"""Mass over weight from which on a cell is moved no further at a step."""

_RATE = 0.7
"""How fast the gain falls, 1 / (1 + 0.7 k): as of a mean whose first terms count for less."""

_MOST_MORE = 2.0
"""Mass beyond the weight, over it, that a late step heeds at most."""


class _Step(NamedTuple):
    """What a step is, traced.

    Attributes:
      temperature: epsilon.
      late: whether it is one of the late steps of the level, which are linear.
      gain: of a late step.
      parts: parts of its samples.
    """

    temperature: Float[Array, ""]
    late: Bool[Array, ""]
    gain: Float[Array, ""]
    parts: Int[Array, ""]


def anneal(
    key: PRNGKey,
    problem: Marginals,
    spread: float,
    lacking: int,
    room: int,
    told: Callable[[int, int], None],
) -> tuple[Heights, int] | None:
    """Heights by annealing from 0, and the samples that they took; None without room for these.

    Args:
      key: consumed.
      problem: source, targets and weights, centred and scaled; at most ``MOST_TARGETS``.
      spread: standard deviation of the scores.
      lacking: samples that the tolerance takes, by the law of independent ones.
      room: samples that may be drawn.
      told: called before every step with the samples drawn so far and those planned: of this level
        and of the last; what it raises ends the annealing.
    """
    number = int((problem.nu > 0).sum())
    h = jnp.where(problem.nu > 0, 0.0, -jnp.inf)
    used = 0
    for level in range(_LEVELS):
        level_key = jax.random.fold_in(key, level)
        look_key, step_key = jax.random.split(level_key)
        temperature = spread / _FALL**level
        gap, alone = (float(one) for one in _look(look_key, problem, h, jnp.float32(temperature)))
        last = temperature < _HARD * gap or level == _LEVELS - 1
        parts = max(_LEAST, math.ceil(_PER_CELL * number * alone)) // _PART
        steps = _STEPS + last * -(-_LAST * lacking // (parts * _PART))
        used += _LEAST + steps * parts * _PART
        if used > room:
            return None
        planned = used if last else used + _LAST * lacking
        # Newton's step has the gap as its unit, if that is wider, and may fall as fast.
        fall = _RATE * (min(1.0, temperature / gap) if gap > 0 else 1.0)
        for k in range(steps):
            told(used - (steps - k) * parts * _PART, planned)
            late = max(k - _STEPS // 2, 0)
            gain = 1 / (1 + fall * late)
            numbers = jnp.float32(temperature), jnp.bool_(late > 0), jnp.float32(gain)
            now = _Step(*numbers, jnp.int32(parts))
            h = jax.block_until_ready(_moved(jax.random.fold_in(step_key, k), problem, h, now))
        if last:
            break
    return h, used


@jax.jit
def _moved(key: PRNGKey, problem: Marginals, h: Heights, step: _Step) -> Heights:
    """Heights after a step."""
    active = problem.nu > 0
    p = _masses(key, problem, h, step)
    share = jnp.where(active, p / jnp.where(active, problem.nu, 1.0), 1.0)
    full = jnp.log(jnp.maximum(share, _LEAST_SHARE))
    # The mean of a logarithm is not that of its argument: late steps are linear.
    linear = step.gain * jnp.minimum(share - 1, _MOST_MORE)
    move = step.temperature * jnp.where(step.late, linear, full)
    return centred(h - move, problem.nu, None)


def _masses(key: PRNGKey, problem: Marginals, h: Heights, step: _Step) -> Float[Array, " m"]:
    """Masses p of the soft cells by the samples of a step."""

    def add(part: Int[Array, ""], sums: Float[Array, " m"]) -> Float[Array, " m"]:
        scores = _scores(jax.random.fold_in(key, part), problem, h)
        return sums + jax.nn.softmax(scores / step.temperature, axis=1).sum(0)

    sums = repeat(step.parts, add, jnp.zeros_like(h))
    return sums / (step.parts * _PART).astype(jnp.float32)


def _scores(key: PRNGKey, problem: Marginals, h: Heights) -> Float[Array, "n m"]:
    x = draw(key, problem.mu, _PART)
    return jnp.matmul(x, problem.y.T, precision=PRECISION) + h[None, :]


@jax.jit
def _look(
    key: PRNGKey, problem: Marginals, h: Heights, temperature: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean gap between the best score and the second; one over the cells that a sample is in."""

    def of_part(key: PRNGKey) -> tuple[Float[Array, ""], Float[Array, ""]]:
        scores = _scores(key, problem, h)
        best, second = jax.lax.top_k(scores, 2)[0].T
        weights = jax.nn.softmax(scores / temperature, axis=1)
        return (best - second).mean(), (weights * weights).sum(1).mean()

    gaps, alone = jax.lax.map(of_part, jax.random.split(key, _LEAST // _PART))
    return gaps.mean(), alone.mean()

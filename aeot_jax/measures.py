"""Source measures: what the noise is drawn from.

Every measure is a pytree with ``dim`` and ``sample(key, n)``; arrays inside it (the points of
``Empirical``) are leaves, so a measure crosses ``jit`` as an argument and not as a constant.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aeot_jax import arguments
from aeot_jax.numerics import usual_dtypes
from aeot_jax.reprs import brief
from aeot_jax.typing import Given, PRNGKey, Samples

Symmetry = Literal["signs", "rotations"]
"""Changes of coordinates that leave a law as it is."""


@runtime_checkable
class Measure(Protocol):
    """A probability measure on R^d that can be sampled.

    ``variance`` is the variance of each coordinate where the measure is isotropic and centred at 0,
    and None where that is unknown; the solver then estimates moments from samples.

    A measure may offer two more, which the solver uses to draw better samples: ``symmetry``,
    "signs" if changing the sign of any coordinate leaves the law as it is, "rotations" if every
    rotation does; and ``from_uniform(u)``, which carries uniform points of the open unit cube
    (n, d) onto the law, coordinate by coordinate.
    """

    @property
    def dim(self) -> int:
        """Dimension d of the space."""
        ...

    @property
    def variance(self) -> float | None:
        """Variance of each coordinate of an isotropic measure centred at 0, else None."""
        ...

    def sample(self, key: PRNGKey, n: int) -> Samples:
        """Draw n independent samples, an array (n, d) of float32."""
        ...


MOMENT_SAMPLES = 4096
"""Samples from which unknown moments are estimated."""


def _check_dim(measure: "Gaussian | UniformCube | UniformBall | FromSampler") -> None:
    what = "the dimension of the targets"
    object.__setattr__(measure, "dim", arguments.count("dim", measure.dim, what=what))


def _checked(key: Given[PRNGKey], n: Given[int]) -> tuple[PRNGKey, int]:
    """What every measure draws by."""
    what = "how many samples to draw"
    return arguments.key("key", key), arguments.count("n", n, least=0, what=what)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """The standard normal law N(0, I).

    Attributes:
      dim: dimension d.
    """

    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        _check_dim(self)

    @property
    def variance(self) -> float:
        """Variance of each coordinate: 1."""
        return 1.0

    @property
    def symmetry(self) -> Symmetry:
        """Every rotation leaves the law as it is."""
        return "rotations"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = _checked(key, n)
        return jax.random.normal(key, (n, self.dim), jnp.float32)

    def from_uniform(self, u: Samples) -> Samples:
        """Carry uniform points of the open unit cube onto the law (n, d)."""
        return jax.scipy.special.ndtri(u)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniformCube:
    """The uniform law on the cube [-1/2, 1/2]^d, the source of the published algorithm.

    Attributes:
      dim: dimension d.
    """

    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        _check_dim(self)

    @property
    def variance(self) -> float:
        """Variance of each coordinate: 1/12."""
        return 1.0 / 12.0

    @property
    def symmetry(self) -> Symmetry:
        """Changing the sign of any coordinate leaves the law as it is."""
        return "signs"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = _checked(key, n)
        return jax.random.uniform(key, (n, self.dim), jnp.float32, minval=-0.5, maxval=0.5)

    def from_uniform(self, u: Samples) -> Samples:
        """Carry uniform points of the open unit cube onto the law (n, d)."""
        return u - 0.5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniformBall:
    """The uniform law on the unit ball of R^d.

    Attributes:
      dim: dimension d.
    """

    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        _check_dim(self)

    @property
    def variance(self) -> float:
        """Variance of each coordinate: 1 / (d + 2)."""
        return 1.0 / (self.dim + 2)

    @property
    def symmetry(self) -> Symmetry:
        """Every rotation leaves the law as it is."""
        return "rotations"

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n independent samples (n, d)."""
        key, n = _checked(key, n)
        with usual_dtypes():  # JAX draws its signs as floats of the mode
            return jax.random.ball(key, self.dim, shape=(n,), dtype=jnp.float32)


@dataclass(frozen=True)
class Empirical:
    """The uniform law on the rows of an array; draws are with replacement.

    Ties between cells then have positive probability and the masses that can be reached are
    multiples of 1 / len(points): use far more points than targets.

    Attributes:
      points: the atoms (p, d), finite; kept as float32.
    """

    points: Float[Array, "p d"]

    __repr__ = brief

    def __post_init__(self):
        points = arguments.array("points", self.points)
        if points.ndim != 2 or 0 in points.shape:
            raise ValueError(f"`points` has shape {points.shape}; pass at least one atom, (p, d).")
        object.__setattr__(self, "points", arguments.real("points", points))

    @property
    def dim(self) -> int:
        """Dimension d of the points."""
        return self.points.shape[-1]

    @property
    def variance(self) -> None:
        """Unknown: estimated from samples where it is needed."""
        return None

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n atoms with replacement (n, d)."""
        key, n = _checked(key, n)
        index = jax.random.randint(key, (n,), 0, self.points.shape[0], jnp.int32)
        return jnp.asarray(self.points, jnp.float32)[index]


def _unflattened(_: None, leaves: Iterable[Any]) -> Empirical:
    """Without the checks: what stands for the points under a transformation is no array."""
    measure = object.__new__(Empirical)
    object.__setattr__(measure, "points", *leaves)
    return measure


jax.tree_util.register_pytree_with_keys(
    Empirical,
    lambda measure: (((jax.tree_util.GetAttrKey("points"), measure.points),), None),
    _unflattened,
    lambda measure: ((measure.points,), None),
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FromSampler:
    """Any law given by a pure function of a key and a number of samples.

    Attributes:
      fn: ``fn(key, n) -> (n, d)``, pure and jit-able; compared by identity, so define it once.
      dim: dimension d.
    """

    fn: Callable[[PRNGKey, int], Samples] = field(metadata={"static": True})
    dim: int = field(metadata={"static": True})

    def __post_init__(self):
        if not callable(self.fn):
            raise ValueError(
                f"`fn` is {arguments.shown(self.fn)}; pass a function of a key and a number."
            )
        _check_dim(self)

    @property
    def variance(self) -> None:
        """Unknown: estimated from samples where it is needed."""
        return None

    def sample(self, key: Given[PRNGKey], n: Given[int]) -> Samples:
        """Draw n samples (n, d) and check their shape."""
        key, n = _checked(key, n)
        x = arguments.array("fn", self.fn(key, n))
        if x.shape != (n, self.dim):
            raise ValueError(
                f"`fn` returned shape {x.shape} for n = {n}, but `dim` is {self.dim}; "
                f"return an array of shape {(n, self.dim)}."
            )
        return arguments.real("fn", x)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Around:
    """A law less its mean, as the solver draws from it."""

    mu: Measure
    mean: Float[Array, " d"]

    @property
    def dim(self) -> int:
        return self.mu.dim

    @property
    def variance(self) -> None:
        return None

    def sample(self, key: PRNGKey, n: int) -> Samples:
        return self.mu.sample(key, n) - self.mean[None, :]


class _NetAround(_Around):
    """The same of a law that uniform points can be carried onto."""

    def from_uniform(self, u: Samples) -> Samples:
        return self.mu.from_uniform(u) - self.mean[None, :]  # pyright: ignore[reportAttributeAccessIssue]


jax.tree_util.register_dataclass(_NetAround, data_fields=["mu", "mean"], meta_fields=[])


def is_centred(mu: Measure) -> bool:
    """Whether the mean of a measure is known to be 0."""
    return mu.variance is not None or getattr(mu, "symmetry", None) is not None


def around(mu: Measure, mean: Float[Array, " d"]) -> Measure:
    """The law of x - mean: scores of samples near the origin keep their digits.

    Args:
      mu: the law of x.
      mean: its mean, or a guess of it; a measure that is known to be centred stays as it is.
    """
    if is_centred(mu):
        return mu
    return (_NetAround if hasattr(mu, "from_uniform") else _Around)(mu, mean)


def draw(key: PRNGKey, mu: Measure, n: int) -> Samples:
    """Samples (n, d) of any measure as float32, which one's own need not give in 64-bit mode."""
    return jnp.asarray(mu.sample(key, n), jnp.float32)


def moments(key: PRNGKey, mu: Measure) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean (d,) and covariance (d, d) of a measure: exact where known, else from samples.

    Args:
      key: consumed only where the moments must be estimated.
      mu: the measure.
    """
    if mu.variance is not None:
        return jnp.zeros(mu.dim, jnp.float32), mu.variance * jnp.eye(mu.dim, dtype=jnp.float32)
    x = draw(key, mu, MOMENT_SAMPLES)
    with jax.default_matmul_precision("highest"):
        covariance = jnp.cov(x, rowvar=False)
    return x.mean(0), covariance.reshape(mu.dim, mu.dim)

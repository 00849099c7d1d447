"""The three forms of the extension on maps that are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from aeot_jax import UniformCube, transport
from aeot_jax.ot.extension.barycentric import barycentric, inverse_distance
from aeot_jax.ot.extension.centres import Centres, mass_centres
from aeot_jax.ot.extension.simplicial import locate, simplicial, triangulate
from aeot_jax.ot.extension.smoothing import smooth_brenier, smooth_transport

KEY = jax.random.key(0)
X = np.asarray(UniformCube(2).sample(jax.random.key(1), 2000))


def true_map(x):
    """The gradient of a convex function: the transport that the codes below sample."""
    return x + x**3


def lattice(k):
    """k * k codes under the true map at the centres of equal squares, with exact heights.

    The potential is a sum of two potentials of the line, whose breakpoints are the edges.
    """
    centre = (np.arange(k) + 0.5) / k - 0.5
    line = true_map(centre)
    edges = np.arange(1, k) / k - 0.5
    h = np.concatenate([[0.0], -np.cumsum(edges * np.diff(line))])
    c, y = (np.stack(np.meshgrid(a, a, indexing="ij"), -1).reshape(-1, 2) for a in (centre, line))
    centres = Centres(jnp.asarray(c, jnp.float32), jnp.ones(k * k, jnp.int32))
    return y.astype(np.float32), np.add.outer(h, h).ravel().astype(np.float32), centres


Y, H, CENTRES = lattice(8)
SCATTERED = Centres(jnp.asarray(X[:64]), jnp.ones(64, jnp.int32))
"""In general position, as mass centres are."""
COMPLEX = triangulate(SCATTERED)

FORMS = {
    "barycentric": lambda x: barycentric(x, Y, SCATTERED),
    "inverse_distance": lambda x: inverse_distance(x, Y, SCATTERED, 3),
    "simplicial": lambda x: simplicial(x, Y, COMPLEX),
    "smooth_transport": lambda x: smooth_transport(x, Y, H, 0.01),
}
JITTED = {name: jax.jit(form) for name, form in FORMS.items()}
"""The same as one program each: without jit every operation is compiled, anew for each shape."""
CONTINUOUS = ("barycentric", "simplicial", "smooth_transport")


@pytest.fixture(scope="module")
def segment():
    """Many points close together across many cells, inside the hull of the centres."""
    steps = np.linspace(-1, 1, 20_000, dtype=np.float32)[:, None]
    return steps * np.array([[0.3, 0.22]], np.float32) + np.array([[0.02, -0.01]], np.float32)


def largest_steps(form, x):
    """Largest move of the image over steps along the segment, and over ten times longer ones."""
    z = np.asarray(JITTED[form](x))
    return [np.linalg.norm(np.diff(z[::stride], axis=0), axis=1).max() for stride in (1, 10)]


@pytest.mark.parametrize("form", CONTINUOUS)
def test_the_forms_are_continuous(form, segment):
    fine, coarse = largest_steps(form, segment)
    # A jump would stay as it is when the steps become ten times shorter.
    assert fine < 0.25 * coarse


def test_the_published_form_jumps(segment):
    fine, coarse = largest_steps("inverse_distance", segment)
    assert fine > 0.8 * coarse


@pytest.mark.parametrize("form", ["barycentric", "inverse_distance", "simplicial"])
def test_the_image_of_a_mass_centre_is_its_target(form):
    np.testing.assert_allclose(JITTED[form](SCATTERED.points), Y, atol=3e-5)


LIKE_BARYCENTRIC = pytest.param("inverse_distance", marks=pytest.mark.long)
"""It gathers the same centres by the same search, and differs in their weights."""


@pytest.mark.parametrize(
    "form", [LIKE_BARYCENTRIC, "barycentric", "simplicial", "smooth_transport"]
)
def test_one_sample_a_batch_and_vmap_agree(form):
    x = X[:40]
    together = JITTED[form](x)
    assert together.shape == (40, 2)
    np.testing.assert_allclose(jax.jit(jax.vmap(FORMS[form]))(x), together, atol=1e-5)
    alone = FORMS[form](x[0])  # without jit
    assert alone.shape == (2,)
    np.testing.assert_allclose(alone, together[0], atol=1e-5)


@pytest.mark.parametrize("form", ["barycentric", LIKE_BARYCENTRIC])
def test_many_samples_are_their_parts_and_have_a_gradient(form):
    off = X[64:]  # the others are centres, where the forms have kinks
    x = np.tile(off, (3, 1))  # more than a chunk
    run, slope_of = JITTED[form], jax.jit(jax.grad(lambda x: FORMS[form](x).sum()))
    np.testing.assert_allclose(run(x), np.tile(run(off), (3, 1)), atol=1e-6)
    gradient = slope_of(jnp.asarray(x))
    step = 2e-4 * np.array([1.0, 0.0], np.float32)
    slope = np.asarray(run(x + step) - run(x - step)).sum(1) / 4e-4
    # Where a centre enters or leaves between the two there is no slope, or a jump.
    assert (abs(gradient[:, 0] - slope) < 0.02 + 0.02 * abs(slope)).mean() > 0.95
    at_a_centre = slope_of(SCATTERED.points[0])
    assert np.isfinite(at_a_centre).all()


@pytest.mark.optimised
def test_what_is_gathered_does_not_grow_with_the_samples():
    n, m, d = 40_000, 100, 16
    shapes = [jax.ShapeDtypeStruct((rows, d), jnp.float32) for rows in (n, m, m)]
    counts = jnp.ones(m, jnp.int32)

    def loss(x, y, points):
        return barycentric(x, y, Centres(points, counts)).sum()

    memory = jax.jit(jax.grad(loss)).lower(*shapes).compile().memory_analysis()
    assert memory is not None
    # The targets of all samples alone would be 44 MiB.
    assert memory.temp_size_in_bytes < 32 * 2**20


@pytest.mark.long
def test_errors_fall_in_order_as_codes_densify():
    x = X[(abs(X) < 0.4).all(1)]  # inside of the hull of the centres
    errors = {"transport": [], "barycentric": [], "simplicial": []}
    for k in (8, 16, 32):
        y, h, centres = lattice(k)
        images = {
            "transport": transport(x, y, h),
            "barycentric": jax.jit(barycentric)(x, y, centres),
            "simplicial": jax.jit(simplicial)(x, y, triangulate(centres)),
        }
        for form, z in images.items():
            errors[form].append(np.sqrt(np.mean((np.asarray(z) - true_map(x)) ** 2)))
    order = {form: -np.polyfit(np.log([8, 16, 32]), np.log(e), 1)[0] for form, e in errors.items()}
    assert order["transport"] == pytest.approx(1, abs=0.1)
    assert order["barycentric"] == pytest.approx(1, abs=0.1)
    assert order["simplicial"] == pytest.approx(2, abs=0.2)
    for finer in zip(*errors.values(), strict=True):
        assert finer[2] < finer[1] < finer[0]


# Entropic smoothing.


def scores64(x):
    return np.asarray(x, np.float64) @ Y.T.astype(np.float64) + H


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_the_smoothed_potential_and_map_are_the_dense_ones(temperature):
    scores = scores64(X) / temperature
    value = temperature * logsumexp(scores, axis=1)
    np.testing.assert_allclose(smooth_brenier(X, Y, H, temperature), value, atol=1e-5, rtol=1e-5)
    mean = softmax(scores, axis=1) @ Y
    # Scores of size 1 are rounded to 1e-7, which the temperature divides.
    tolerance = 1e-5 + 1e-6 / temperature
    np.testing.assert_allclose(smooth_transport(X, Y, H, temperature), mean, atol=tolerance)


def test_the_gradient_of_the_smoothed_potential_is_the_map():
    gradient = jax.grad(lambda x: smooth_brenier(x, Y, H, 0.02).sum())(jnp.asarray(X[:100]))
    np.testing.assert_allclose(gradient, smooth_transport(X[:100], Y, H, 0.02), atol=1e-5)


def test_many_targets_are_streamed_in_blocks_that_agree_with_one():
    y, h, _ = lattice(32)  # 1024 targets: two blocks
    h[:600] = -np.inf  # the first block has no cell
    scores = X[:100].astype(np.float64) @ y[600:].T.astype(np.float64) + h[600:]
    mean = softmax(scores / 0.01, axis=1) @ y[600:]
    np.testing.assert_allclose(smooth_transport(X[:100], y, h, 0.01), mean, atol=1e-4)
    gradient = jax.grad(lambda x: smooth_brenier(x, y, h, 0.01).sum())(jnp.asarray(X[:100]))
    np.testing.assert_allclose(gradient, mean, atol=1e-4)
    # The slope in the temperature is the entropy of the weights.
    weights = softmax(scores / 0.01, axis=1)
    entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum()
    slope = jax.grad(lambda eps: smooth_brenier(X[:100], y, h, eps).sum())(0.01)
    assert float(slope) == pytest.approx(entropy, rel=1e-3)
    moved = jax.grad(lambda eps: smooth_transport(X[:100], y, h, eps).sum())(0.01)
    assert np.isfinite(float(moved))


def test_the_smooth_map_tends_to_the_discrete_one_off_the_faces():
    top = np.sort(scores64(X), axis=1)[:, -2:]
    gap = top[:, 1] - top[:, 0]
    off = X[gap > 5e-3]
    assert 100 < len(off) < len(X)
    target = np.asarray(transport(off, Y, H))
    diameter = np.linalg.norm(np.ptp(Y, axis=0))
    for temperature in (2e-3, 1e-3, 5e-4):
        error = np.linalg.norm(
            np.asarray(smooth_transport(off, Y, H, temperature)) - target, axis=1
        )
        # All other targets together weigh at most exp(-gap / temperature) each.
        assert error.max() <= len(Y) * np.exp(-5e-3 / temperature) * diameter + 1e-6
    assert error.max() < 1e-2


# Mass centres.


def test_mass_centres_are_the_means_of_the_cells():
    centres = mass_centres(KEY, UniformCube(2), Y, H, num_samples=100_000)
    assert int(centres.counts.sum()) == 25 * 4096
    # A side of 1/8 has standard deviation 0.036, of which 1600 samples leave 0.0009.
    error = np.asarray(centres.points - CENTRES.points)
    assert abs(error).max() < 5 * 0.0009
    assert np.sqrt((error**2).mean()) == pytest.approx(0.0009, rel=0.2)


def test_mass_centres_take_a_traced_key_and_known_targets():
    """Known targets are padded."""
    at = functools.partial(mass_centres, mu=UniformCube(2), y=Y[:40], h=H[:40], num_samples=4096)
    traced, known = jax.jit(at)(KEY), at(KEY)
    assert traced.points.shape == (40, 2)
    np.testing.assert_array_equal(traced.counts, known.counts)
    np.testing.assert_allclose(traced.points, known.points, atol=1e-6)


def test_merged_centres_are_those_of_both_draws():
    one, other = (mass_centres(jax.random.key(s), UniformCube(2), Y, H) for s in (1, 2))
    both = one.merge(other)
    np.testing.assert_array_equal(both.counts, one.counts + other.counts)
    total = (np.asarray(c.points) * np.asarray(c.counts)[:, None] for c in (one, other))
    np.testing.assert_allclose(both.points * both.counts[:, None], sum(total), atol=1e-4)
    np.testing.assert_allclose(other.merge(one).points, both.points, atol=1e-6)


def test_cells_without_a_sample_are_known_to_be_unknown():
    h = np.where(np.arange(64) < 4, -np.inf, H).astype(np.float32)
    centres = mass_centres(KEY, UniformCube(2), Y, h)
    assert (np.asarray(centres.counts)[:4] == 0).all()
    assert (np.asarray(centres.counts)[4:] > 0).all()
    assert (np.asarray(centres.points)[:4] == 0).all()
    merged = centres.merge(centres)
    assert np.isfinite(merged.points).all()


def test_unknown_centres_take_no_part():
    """Wherever they lie, and whatever their targets: either would decide everything."""
    counts = jnp.where(jnp.arange(64) < 30, 0, 1)
    known = counts[:, None] > 0
    near, within = jax.jit(barycentric), jax.jit(simplicial)
    found = []
    for point, target in ((0.0, 0.0), (0.2, 30.0)):
        holes = Centres(jnp.where(known, SCATTERED.points, point), counts)
        y = np.where(known, Y, np.float32(target))
        found.append((near(X, y, holes), within(X, y, triangulate(holes))))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)
    # All that is left are images of those that are known.
    for z in found[1]:
        assert np.isfinite(z).all()
        assert np.abs(z).max() < 10


@pytest.mark.long
def test_every_walk_ends_in_the_simplex_that_holds_the_sample():
    from scipy.spatial import Delaunay

    _, coordinates, inside = locate(jnp.asarray(X), COMPLEX)
    known = Delaunay(np.asarray(SCATTERED.points, np.float64)).find_simplex(X) >= 0
    # Within the tolerance of the border either answer is right.
    assert (np.asarray(inside) != known).mean() < 1e-3
    assert 0.5 < known.mean() < 1
    assert (np.asarray(coordinates)[np.asarray(inside)] >= -1e-4).all()


def test_outside_of_the_hull_the_simplicial_form_is_the_barycentric():
    x = np.array([[0.7, 0.1], [-0.6, -0.6]], np.float32)
    np.testing.assert_array_equal(simplicial(x, Y, COMPLEX), barycentric(x, Y, SCATTERED))


def test_equally_near_centres_weigh_the_same():
    y = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]], np.float32)
    same = Centres(jnp.zeros((3, 2)), jnp.ones(3, jnp.int32))
    np.testing.assert_allclose(barycentric(X[:5], y, same, 2), np.tile([[1.0, 0.0]], (5, 1)))


@pytest.mark.parametrize("k", [0, 64])
def test_a_number_of_centres_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=rf"`k` is {k}, but `y` has 64 targets; pass k from 1 to"):
        barycentric(X, Y, SCATTERED, k)
    with pytest.raises(ValueError, match=r"`k` is 65, but `y` has 64 targets; pass k from 1 to 64"):
        inverse_distance(X, Y, SCATTERED, 65)


@pytest.mark.parametrize("num_samples", [0, 2**31 - 1, 2**31])
def test_samples_beyond_what_counts_hold_are_refused(num_samples):
    """In whole batches 2^31 - 1 samples would be 2^31."""
    with pytest.raises(ValueError, match=rf"`num_samples` is {num_samples};.* 1 to 2147479552"):
        mass_centres(KEY, UniformCube(2), Y, H, num_samples=num_samples)
    many = Centres(SCATTERED.points, jnp.where(jnp.arange(64) == 5, 2**30, 1))
    with pytest.raises(ValueError, match="`other` brings a cell to 2147483648 samples"):
        many.merge(many)


def test_too_few_known_centres_are_refused():
    few = Centres(SCATTERED.points, jnp.where(jnp.arange(64) < 3, 1, 0))
    with pytest.raises(ValueError, match=r"3 cells that a sample has reached of 64; `k` = 3 takes"):
        barycentric(X, Y, few)
    with pytest.raises(ValueError, match=r"a complex in 2 dimensions takes 4: draw more samples"):
        triangulate(few)


def test_other_bad_arguments_of_the_forms_are_named():
    with pytest.raises(ValueError, match=r"`temperature` has shape \(2,\); pass one number"):
        smooth_transport(X, Y, H, np.ones(2))
    for form in FORMS.values():
        with pytest.raises(ValueError, match="`x` is nan at 7, 0; pass finite numbers"):
            form(np.where(np.arange(2000)[:, None] == 7, np.nan, X))
        with pytest.raises(ValueError, match="`x` has dtype complex64; pass real numbers"):
            form(X.astype(np.complex64))
    with pytest.raises(ValueError, match=r"`y` has one target"):
        barycentric(X, Y[:1], mass_centres(KEY, UniformCube(2), Y[:1], H[:1], num_samples=64))
    with pytest.raises(ValueError, match=r"`temperature` is 0; pass a positive number"):
        smooth_transport(X, Y, H, 0)
    with pytest.raises(ValueError, match=r"`x` has shape \(2000, 2\), but `y` has shape \(64, 3\)"):
        smooth_brenier(X, np.zeros((64, 3)), H, 1.0)
    with pytest.raises(ValueError, match=r"`centres` has points of shape \(64, 2\)"):
        barycentric(X, Y[:10], SCATTERED)
    with pytest.raises(ValueError, match=r"`centres` has dimension 6"):
        triangulate(Centres(jnp.zeros((20, 6)), jnp.ones(20, jnp.int32)))

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from aeot_jax import Empirical, Gaussian, extension, generate, solve_exact
from aeot_jax.ot.extension.blend import plane_angles
from aeot_jax.ot.extension.generate import extend as extend_eagerly

KEY = jax.random.key(0)
NUM_PLANES = 17  # planes of the local mean
LEVEL = 0.75  # part of the gap to the last of these over which its weights fall to 0
EDGE = 6  # plane at which the weights of a blend have vanished
N = 2000  # candidates of most draws: one shape, one compilation

# Points and not a law, so that a turned or another source is an argument and compiles nothing.
POINTS = jnp.asarray(np.random.default_rng(5).normal(size=(20_000, 2)), jnp.float32)
MU = Empirical(POINTS)

extend = jax.jit(extend_eagerly)


def voronoi(y):
    return -0.5 * (y**2).sum(1)


def scattered(m, d=2, seed=0):
    """Targets and heights whose cells under N(0, I) are scattered at random."""
    y = np.random.default_rng(seed).normal(size=(m, d)).astype(np.float32)
    return y, voronoi(y).astype(np.float32)


def angles64(a, b):
    """Plane angles in float64 by the formula of the definition."""
    a, b = (np.concatenate([y, -np.ones_like(y[..., :1])], -1).astype(np.float64) for y in (a, b))
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip((a * b).sum(-1) / norms, -1, 1))


def unit64(y):
    """Targets of uniform weight, centred, root mean square of a coordinate 1."""
    centred = y.astype(np.float64) - y.astype(np.float64).mean(0)
    return centred / np.sqrt((centred**2).mean())


def dense(x, ext):
    """The extension in float64, every score written out: codes, widest angles, blends."""
    y, h = np.asarray(ext.y, np.float64), np.asarray(ext.h, np.float64)
    scores = np.asarray(x, np.float64) @ y.T + h
    gaps = scores.max(1, keepdims=True) - scores
    rank = np.sort(gaps, 1)
    band = np.full((len(gaps), 1), float(ext.band))
    if y.shape[0] > EDGE:
        band = np.minimum(band, rank[:, EDGE - 1 : EDGE])
    unit = unit64(np.asarray(ext.y))
    angles = angles64(unit[:, None], unit[None])
    winner = scores.argmax(1)
    regular = angles <= float(ext.threshold)
    weights = np.maximum(band - gaps, 0)
    # The widest way from the winner along regular faces, by relaxing until nothing changes.
    pair = np.minimum(weights[:, :, None], weights[:, None]) * regular
    reached = weights * (np.arange(len(y)) == winner[:, None])
    while (
        (wider := np.maximum(reached, np.minimum(reached[..., None], pair).max(1))) > reached
    ).any():
        reached = wider
    weights = reached
    share = weights / weights.sum(1, keepdims=True)
    # The local mean: of each blended target over the planes regular to it, weighted by its share.
    last = rank[:, NUM_PLANES - 1 : NUM_PLANES]
    wide = np.clip(last - gaps, 0, LEVEL * last)
    total = wide @ regular
    mean = np.divide(share, total, np.zeros_like(share), where=total > 0) @ regular * wide @ y
    z = mean + (share @ y - mean) / np.sqrt((share**2).sum(1, keepdims=True))
    widths = np.linalg.norm(y[winner][:, None] - y[None], axis=-1)
    near = gaps < float(ext.margin) * widths
    return z, np.where(near, angles[winner], 0).max(1), weights


Y, H = scattered(40)


@pytest.fixture(scope="module")
def ext():
    return extension(KEY, MU, Y, H)


@pytest.fixture(scope="module")
def segment():
    """Many points close together across many cells."""
    steps = np.linspace(-1, 1, 20_000, dtype=np.float32)[:, None]
    return steps * np.array([[1.5, 0.7]], np.float32) + np.array([[0.1, -0.2]], np.float32)


@pytest.mark.parametrize("dim", [1, 3, 64])
def test_angles_equal_the_arc_cosine_in_float64(dim):
    rng = np.random.default_rng(dim)
    a, b = rng.normal(size=(2, 500, dim)).astype(np.float32)
    np.testing.assert_allclose(plane_angles(jnp.asarray(a), jnp.asarray(b)), angles64(a, b), 1e-5)


def test_small_angles_keep_their_digits():
    a = np.array([[0.3, -1.0]], np.float32)
    b = a + np.array([[0.0, 1e-3]], np.float32)
    np.testing.assert_allclose(plane_angles(jnp.asarray(a), jnp.asarray(b)), angles64(a, b), 1e-3)


@pytest.mark.parametrize("band", [None, 100.0])
def test_codes_and_angles_equal_the_dense_float64_extension(ext, band):
    if band is not None:  # so wide that the sixth plane cuts it everywhere
        ext = replace(ext, band=jnp.float32(band))
    ext = replace(ext, margin=5 * ext.margin)  # so that much is rejected
    x = np.asarray(POINTS[:4000])
    z, accepted, info = extend(jnp.asarray(x), ext)
    z64, widest64, weights64 = dense(x, ext)
    np.testing.assert_allclose(z, z64, atol=1e-4)
    # A plane at the very edge of the band may fall on either side of it.
    edge = ((weights64 > 0) & (weights64 < 1e-5)).any(1)
    num_blended = (weights64 > 0).sum(1)
    assert edge.mean() < 0.02
    beyond, within = (
        dense(x, replace(ext, margin=ext.margin * scale))[1] for scale in (1.001, 0.999)
    )
    edge |= beyond != within
    np.testing.assert_array_equal(np.asarray(info.num_blended)[~edge], num_blended[~edge])
    np.testing.assert_allclose(np.asarray(info.angle)[~edge], widest64[~edge], atol=1e-5)
    sure = ~edge & (abs(widest64 - float(ext.threshold)) > 1e-5)
    np.testing.assert_array_equal(
        np.asarray(accepted)[sure], widest64[sure] <= float(ext.threshold)
    )
    assert 0.1 < np.asarray(accepted).mean() < 0.99


@pytest.mark.parametrize("band", [None, 100.0])
def test_the_extension_is_continuous_where_the_map_jumps(ext, segment, band):
    if band is not None:
        ext = replace(ext, band=jnp.float32(band))
    ext = replace(ext, threshold=jnp.float32(np.pi))  # no face is singular
    z, _, info = extend(jnp.asarray(segment), ext)
    z, index = np.asarray(z), np.asarray(info.index)
    assert (np.diff(index) != 0).sum() >= 8  # so many faces are crossed
    fine = np.linalg.norm(np.diff(z, axis=0), axis=1).max()
    coarse = np.linalg.norm(np.diff(z[::10], axis=0), axis=1).max()
    # A jump would stay as it is when the steps become ten times shorter.
    assert fine < 0.15 * coarse
    assert fine < 0.01


def test_the_extension_jumps_at_singular_faces_only(ext, segment):
    """Also where three cells meet at two regular faces and a singular one."""
    ext = replace(ext, threshold=0.5 * ext.threshold)  # so that such places are many
    z, _, info = extend(jnp.asarray(segment), ext)
    index = np.asarray(info.index)
    unit = unit64(Y)
    singular_step = angles64(unit[index[:-1]], unit[index[1:]]) > float(ext.threshold)
    steps = np.linalg.norm(np.diff(np.asarray(z), axis=0), axis=1)
    assert (np.diff(index) != 0).sum() > singular_step.sum() >= 2
    assert steps[~singular_step].max() < 0.01
    assert steps[singular_step].max() > 0.1


def test_codes_are_targets_exactly_where_nothing_is_blended(ext):
    z, accepted, info = generate(KEY, ext, N)
    alone = np.asarray(info.num_blended) == 1
    assert 0 < alone.mean() < 1
    np.testing.assert_array_equal(np.asarray(z)[alone], Y[np.asarray(info.index)[alone]])
    # Nothing is blended far from every face, or beside singular faces alone.
    assert np.asarray(accepted)[alone].mean() > 0.9


def test_band_is_the_mean_gap_to_the_fourth_plane(ext):
    x = np.asarray(POINTS, np.float64)
    scores = np.partition(x @ Y.T.astype(np.float64) + H, -4, axis=1)[:, -4:]
    # 4096 samples of gaps about as wide as their mean: 1.6 % is one standard error.
    assert float(ext.band) == pytest.approx((scores.max(1) - scores.min(1)).mean(), rel=0.06)


def test_margin_is_a_tenth_of_the_mean_distance_to_the_second_plane(ext):
    scores = np.asarray(POINTS, np.float64) @ Y.T.astype(np.float64) + H
    first, second = np.argsort(-scores, axis=1)[:, :2].T
    rows = np.arange(len(scores))
    distance = (scores[rows, first] - scores[rows, second]) / np.linalg.norm(
        Y[first] - Y[second], axis=1
    )
    assert float(ext.margin) == pytest.approx(0.1 * distance.mean(), rel=0.06)


def threshold64(y):
    rank = min(y.shape[1] + 1, len(y) - 1)
    nearest = np.argpartition(cdist(y, y, "sqeuclidean"), rank, axis=1)[:, rank]
    unit = unit64(y)
    return np.quantile(angles64(unit, unit[nearest]), 0.99, method="higher") * (1 + 1e-4)


@pytest.mark.parametrize("m", [4, 40])
def test_threshold_is_a_quantile_of_the_angles_between_neighbours(m):
    y, h = scattered(m)
    assert float(extension(KEY, MU, y, h).threshold) == pytest.approx(threshold64(y), rel=1e-5)


def test_of_many_codes_some_with_a_cell_are_looked_at(monkeypatch):
    h = np.where(np.arange(40) < 5, -np.inf, H).astype(np.float32)
    everything = extension(KEY, MU, Y, h)
    assert np.isnan(everything.neighbour_angles).sum() == 5
    monkeypatch.setattr("aeot_jax.ot.extension.learn._NUM_SAMPLES", 30)
    some = extension(KEY, MU, Y, h, num_samples=512)  # another number, so compiled anew
    assert some.face_angles.shape == (512,)
    assert some.neighbour_angles.shape == (30,)
    every = np.asarray(everything.neighbour_angles)
    apart = abs(np.asarray(some.neighbour_angles)[:, None] - every[None])
    assert (np.nanmin(apart, axis=1) < 1e-6).all()
    assert float(some.threshold) == pytest.approx(
        1.0001 * float(some.neighbour_angles.max()), rel=1e-6
    )


def test_shift_and_scale_of_the_targets_carry_over(ext):
    shift = np.array([[3.0, -5.0]], np.float32)
    moved = extension(KEY, MU, 20 * Y + shift, 20 * H)
    assert float(moved.threshold) == pytest.approx(float(ext.threshold), rel=1e-4)
    assert float(moved.band) == pytest.approx(20 * float(ext.band), rel=1e-4)
    z, accepted, _ = generate(KEY, ext, N)
    z_moved, accepted_moved, _ = generate(KEY, moved, N)
    np.testing.assert_allclose(z_moved, 20 * z + shift, atol=20 * 1e-4)
    assert (accepted_moved == accepted).mean() > 0.995  # rounding decides at the edges


def test_a_common_rotation_rotates_the_codes(ext):
    turn = np.array([[0.6, -0.8], [0.8, 0.6]], np.float32)
    turned = extension(KEY, Empirical(POINTS @ turn), Y @ turn, H)
    assert float(turned.threshold) == pytest.approx(float(ext.threshold), rel=1e-4)
    z, accepted, info = generate(KEY, ext, N)
    z_turned, accepted_turned, info_turned = generate(KEY, turned, N)
    # The threshold is the angle between two codes, for which rounding decides.
    same = np.asarray(info.num_blended == info_turned.num_blended)
    assert same.mean() > 0.98
    np.testing.assert_allclose(z_turned[same], (z @ turn)[same], atol=1e-4)
    assert (accepted_turned == accepted).mean() > 0.995


def test_copies_of_targets_change_nothing(ext):
    order = np.random.default_rng(2).permutation(2 * len(Y))
    y, h = np.tile(Y, (2, 1))[order], np.tile(H, 2)[order]
    copied = extension(KEY, MU, y, h)
    assert float(copied.threshold) == pytest.approx(float(ext.threshold), rel=1e-5)
    assert float(copied.band) == pytest.approx(float(ext.band), rel=1e-5)
    z, accepted, _ = generate(KEY, ext, N)
    z_copied, accepted_copied, _ = generate(KEY, copied, N)
    np.testing.assert_allclose(z_copied, z, atol=1e-4)
    assert (accepted_copied == accepted).mean() > 0.995


def test_copies_that_jit_cannot_see_leave_everything_finite():
    copied = jax.jit(lambda y, h: extension(KEY, MU, y, h))(np.tile(Y, (2, 1)), np.tile(H, 2))
    for learned in (copied.band, copied.margin, copied.threshold):
        assert np.isfinite(float(learned))
    z, _, _ = generate(KEY, copied, N)
    assert np.isfinite(z).all()


def test_of_copies_with_unlike_heights_the_highest_counts(ext):
    copied = extension(KEY, MU, np.tile(Y, (2, 1)), np.concatenate([H - 1, H]))
    assert float(copied.band) == pytest.approx(float(ext.band), rel=1e-5)


def test_targets_without_a_cell_change_nothing(ext):
    extra, _ = scattered(40, seed=3)
    y, h = np.concatenate([extra, Y]), np.concatenate([np.full(40, -np.inf, np.float32), H])
    nu = np.repeat([0, 1 / 40], 40)
    padded = extension(KEY, MU, y, h, nu)
    assert float(padded.threshold) == pytest.approx(float(ext.threshold), rel=1e-5)
    assert float(padded.band) == pytest.approx(float(ext.band), rel=1e-5)
    assert np.isfinite(padded.face_angles).all()
    z, accepted, _ = generate(KEY, ext, N)
    z_padded, accepted_padded, info = generate(KEY, padded, N)
    np.testing.assert_allclose(z_padded, z, atol=1e-4)
    assert (accepted_padded == accepted).mean() > 0.995
    assert (np.asarray(info.index) >= 40).all()


@pytest.mark.parametrize("others", [0, 3])
def test_one_target_with_a_cell_is_all_there_is(others):
    y = Y[: others + 1]
    h = np.array([0.0] + others * [-np.inf], np.float32)
    ext = extension(KEY, MU, y, h)
    assert float(ext.threshold) == np.float32(np.pi)  # there is nothing to separate
    assert np.isnan(ext.neighbour_angles).all()
    z, accepted, info = generate(KEY, ext, N)
    np.testing.assert_array_equal(z, np.tile(y[:1], (N, 1)))
    assert accepted.all()
    assert (info.num_blended == 1).all()
    again = extension(KEY, MU, y, h, threshold=float(ext.threshold))
    assert float(again.threshold) == float(ext.threshold)


def test_two_targets_blend_on_the_segment_between_them():
    y, h = np.array([[-1.0, 0.0], [1.0, 1.0]], np.float32), np.zeros(2, np.float32)
    z, _, info = generate(KEY, extension(KEY, MU, y, h), N)
    part = (np.asarray(z) - y[0]) @ (y[1] - y[0]) / 5
    np.testing.assert_allclose(z, y[0] + part[:, None] * (y[1] - y[0]), atol=1e-5)
    assert part.min() == pytest.approx(0, abs=1e-6)
    assert part.max() == pytest.approx(1, abs=1e-6)
    assert set(np.asarray(info.num_blended)) == {1, 2}


def test_targets_that_all_coincide_give_that_target():
    y = np.full((4, 2), 3.0, np.float32)
    z, accepted, _ = generate(KEY, extension(KEY, MU, y, np.zeros(4)), N)
    np.testing.assert_array_equal(z, np.full((N, 2), 3.0))
    assert accepted.all()


@pytest.fixture(scope="module")
def two_clusters():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [24, 56])
    y = np.array([[-5.0, 0.0], [5.0, 0.0]])[labels] + 0.3 * rng.normal(size=(80, 2))
    square = jnp.asarray(rng.uniform(-0.5, 0.5, POINTS.shape), jnp.float32)
    h = solve_exact(y, source="uniform").h
    return extension(KEY, Empirical(square), y, h), labels


def test_the_threshold_separates_clusters(two_clusters):
    ext, labels = two_clusters
    unit = unit64(np.asarray(ext.y))
    between = angles64(unit[labels == 0][:, None], unit[labels == 1][None])
    assert float(ext.threshold) < 0.3 * between.min()


def test_accepted_codes_lie_in_clusters_in_their_shares(two_clusters):
    ext, _ = two_clusters
    z, accepted, _ = generate(jax.random.key(1), ext, N)
    kept = np.asarray(z)[np.asarray(accepted)]
    distance = cdist(kept, [[-5.0, 0.0], [5.0, 0.0]])
    assert (distance.min(1) < 1.2).all()  # four standard deviations
    # One standard error is 1 %; the samples along the common border are rejected on both sides.
    assert (distance.argmin(1) == 0).mean() == pytest.approx(0.3, abs=0.04)
    # Every code is nearest to some; the least of them to an eighth of its share, or 3 of N.
    more = [generate(jax.random.key(2 + i), ext, N)[:2] for i in range(5)]
    kept = np.concatenate([np.asarray(z)[np.asarray(accepted)] for z, accepted in more])
    nearest = cdist(kept, np.asarray(ext.y)).argmin(1)
    assert len(np.unique(nearest)) == 80


def test_nothing_is_blended_across_a_singular_face(two_clusters):
    ext, labels = two_clusters
    z, _, info = generate(jax.random.key(1), ext, N)
    assert cdist(z, [[-5.0, 0.0], [5.0, 0.0]]).min(1).max() < 1.2  # the rejected ones too
    assert ((np.asarray(z)[:, 0] > 0) == labels[np.asarray(info.index)]).all()
    across, _, _ = generate(jax.random.key(1), replace(ext, threshold=jnp.float32(np.pi)), N)
    assert (abs(np.asarray(across)[:, 0]) < 3).any()  # the published blend falls between


def test_rejected_is_what_an_error_of_the_heights_could_carry_across(two_clusters):
    ext, labels = two_clusters
    x = ext.mu.points[:5000]
    _, accepted, info = extend(x, ext)
    rejected = ~np.asarray(accepted)
    assert 0.001 < rejected.mean() < 0.05
    side = labels[np.asarray(info.index)]
    between = cdist(ext.y[labels == 0], ext.y[labels == 1]).min()
    flipped = np.zeros(len(x), bool)
    for sign in (-1, 1):
        moved = replace(ext, h=ext.h + sign * ext.margin * between * labels)
        flipped |= labels[np.asarray(extend(x, moved)[2].index)] != side
    assert not flipped[~rejected].any()
    assert flipped[rejected].mean() > 0.5  # the others are beside singular faces within a cluster


def test_a_given_threshold_takes_the_place_of_the_learned(ext):
    given = extension(KEY, MU, Y, H, threshold=0.1)
    assert float(given.threshold) == np.float32(0.1)
    assert float(given.band) == float(ext.band)
    _, accepted, info = generate(KEY, given, N)
    np.testing.assert_array_equal(accepted, info.angle <= np.float32(0.1))
    assert (np.asarray(info.num_blended) == 1).mean() > 0.5  # so strict that little is left
    _, all_accepted, _ = generate(KEY, extension(KEY, MU, Y, H, threshold=np.pi), N)
    assert all_accepted.all()


@pytest.mark.parametrize("threshold", [0.0, -1.0, 3.2, float("nan"), float("inf")])
def test_a_threshold_that_is_no_angle_is_refused(threshold):
    with pytest.raises(ValueError, match=r"`threshold` is .*; pass an angle in \(0, pi\]"):
        extension(KEY, MU, Y, H, threshold=threshold)


def test_other_bad_arguments_are_named(ext):
    with pytest.raises(ValueError, match=r"`num_samples` is 0; pass at least 1"):
        extension(KEY, MU, Y, H, num_samples=0)
    with pytest.raises(ValueError, match=r"`n` is 0; pass how many"):
        generate(KEY, ext, 0)
    with pytest.raises(ValueError, match=r"`mu` has dimension 3"):
        extension(KEY, Gaussian(3), Y, H)
    with pytest.raises(ValueError, match=r"`h` has shape \(39,\)"):
        extension(KEY, MU, Y, H[:-1])
    with pytest.raises(ValueError, match=r"`h` is -inf everywhere"):
        extension(KEY, MU, Y, np.full(40, -np.inf))


def test_chunks_cover_all_candidates(ext):
    n = 4096 + 700
    z, accepted, info = generate(KEY, ext, n)
    assert z.shape == (n, 2)
    assert accepted.shape == info.index.shape == info.angle.shape == (n,)
    chunks = [MU.sample(jax.random.fold_in(KEY, i), 4096) for i in range(2)]
    x = np.concatenate(chunks)[:n]
    np.testing.assert_allclose(z, dense(x, ext)[0], atol=1e-4)


def test_jit_and_vmap_over_keys_do_not_change_the_answer(ext):
    keys = jax.random.split(KEY, 3)
    batched = jax.jit(jax.vmap(lambda key, ext: generate(key, ext, N), (0, None)))(keys, ext)
    alone = [generate(key, ext, N) for key in keys]
    jax.tree.map(
        lambda together, *parts: np.testing.assert_allclose(together, np.stack(parts), atol=1e-5),
        batched,
        *alone,
    )


def test_another_key_draws_other_codes(ext):
    z, _, _ = generate(KEY, ext, N)
    other, _, _ = generate(jax.random.key(1), ext, N)
    assert not np.array_equal(z, other)

import bounds
import inverted
import jax.numpy as jnp
import numpy as np


def problem(n=128, m=300, d=4, number=8):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(m, d)).astype(np.float32)
    h = rng.normal(size=m).astype(np.float32)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, y, h, inverted.kmeans(rng, y, number)


def test_all_lists_together_give_the_cells_of_the_kernel():
    x, y, h, own = problem()
    total, weight = inverted.learned(y, h, own, 8, x)
    mean = inverted.offsets(y, h, own, 8)["mean height"]
    planes = np.c_[inverted.means(y, own, 8), mean + total / weight]
    laid = inverted.build(y, h, own, planes)
    np.testing.assert_array_equal(np.asarray(laid.index)[np.asarray(laid.slot)], np.arange(300))
    _, winner = map(np.asarray, inverted.exact(x, y, h))
    np.testing.assert_array_equal(inverted.assign(jnp.asarray(x), laid, 8)[1], winner)
    # With fewer, those are wrong whose list comes later; the value is never above the best.
    value, index = inverted.assign(jnp.asarray(x), laid, 3)
    late = inverted.ranks(x, planes, own[winner]) >= 3
    np.testing.assert_array_equal(np.asarray(index) != winner, late)
    scores = np.take_along_axis(x @ y.T + h, np.asarray(index)[:, None], 1)[:, 0]
    np.testing.assert_allclose(value, scores, atol=1e-5)


def test_no_bound_is_below_a_score_of_its_block():
    x, y, h, own = problem()
    for block in range(8):
        rows = own == block
        highest = (x @ y[rows].T + h[rows]).max(1)
        for name, bound in bounds._of_block(x, y[rows], h[rows]).items():
            assert (bound >= highest - 1e-4).all(), name


def test_what_stays_grows_with_the_samples_that_share_it():
    x, y, h, own = problem()
    best, _ = map(np.asarray, inverted.exact(x, y, h))
    order = bounds.side_by_side(x)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(x)))
    for shares in bounds.exclusions(x[order], best[order], y, h, own).values():
        assert 0 < shares[1] <= shares[8] <= shares[64] <= 1 + 1e-9

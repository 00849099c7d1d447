"""solve: every reason to stop, an honest certificate, known answers, one compilation."""

import importlib
import warnings
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import constructed_2d, one_dim

import aeot_jax as aeot
from aeot_jax.ot.counts.law import samples_to_reach
from aeot_jax.ot.exact import exact
from aeot_jax.ot.solver.planning import budget, plan

KEY = jax.random.key(0)
MU = aeot.Gaussian(3)
Y = jax.random.normal(jax.random.key(1), (50, 3))
LOOSE = aeot.SolverConfig(tolerance=0.2)


@pytest.fixture(scope="module")
def solved():
    return aeot.solve(KEY, MU, Y, config=LOOSE)


def test_it_converges_and_says_so(solved):
    assert solved.converged
    assert solved.status == aeot.Status.CONVERGED
    assert solved.mass_error + 2 * solved.mass_error_se == solved.certificate.upper <= 0.2
    assert aeot.message(solved.status).startswith("Converged")
    aeot.raise_if_failed(solved)
    again = aeot.certify(jax.random.key(77), MU, Y, solved.h, None, 50_000)
    assert again.mass_error < 0.2
    assert again.worst < 0.5
    assert again.num_empty == 0


def test_the_same_key_gives_the_same_heights(solved):
    again = aeot.solve(KEY, MU, Y, config=LOOSE)
    np.testing.assert_array_equal(again.h, solved.h)
    assert again.mass_error == solved.mass_error


def test_the_count_of_samples_is_complete(solved):
    batch, phases = plan(50, MU, LOOSE).batch.size, budget(50, MU, LOOSE).phases
    assert solved.num_samples == solved.num_steps * batch
    assert solved.num_steps == phases.end  # converged at the first draw
    gaps = -(-(phases.end - phases.adam_until) // 32) * 128
    looks = 8 * batch * len(solved.history.num_samples)
    start = batch
    rest = int(solved.num_check_samples) - gaps - looks - start
    assert rest == int(solved.certificate.num_samples)  # one certificate


def test_history_is_read_from_samples_that_are_fresh_for_their_heights(solved):
    history = solved.history
    assert (np.diff(history.num_samples) > 0).all()
    assert history.num_samples[-1] == solved.num_samples
    assert history.mass_error[-1] < history.mass_error[0]
    # An average over heights that still improved: no better than what they became.
    slack = 4 * (history.mass_error_se[-1] + solved.mass_error_se)
    assert solved.mass_error < history.mass_error[-1] + slack


def test_a_tighter_tolerance_takes_more_samples_as_the_law_says():
    tight = aeot.solve(KEY, MU, Y, config=aeot.SolverConfig(tolerance=0.05))
    assert tight.converged
    assert tight.num_samples >= samples_to_reach(50, 3, 0.05)
    assert tight.mass_error <= 0.05


@pytest.mark.long
def test_modes_that_the_first_plan_misses_are_found_by_planning_anew():
    """Tight clusters far apart in three dimensions: mass moves between them slowly."""
    modes = np.stack(np.meshgrid(*[[-2.0, 0.0, 2.0]] * 3), -1).reshape(-1, 3)
    rng = np.random.default_rng(0)
    y = modes[np.arange(540) % 27] + 0.005 * rng.normal(size=(540, 3))
    solution = aeot.solve(KEY, MU, y, config=replace(LOOSE, learning_rate=0.01))
    assert solution.converged
    assert solution.num_steps >= 2 * budget(540, MU, LOOSE).phases.end


def test_the_step_limit_is_named():
    solution = aeot.solve(KEY, MU, Y, config=aeot.SolverConfig(max_steps=3))
    assert solution.status == aeot.Status.STEP_LIMIT
    assert not solution.converged
    assert solution.num_steps == 3
    with pytest.raises(aeot.SolveError, match="step limit"):
        aeot.raise_if_failed(solution)


def test_the_sample_limit_is_named():
    config = aeot.SolverConfig(tolerance=None, max_samples=2_000)
    solution = aeot.solve(KEY, MU, Y, config=config)
    assert solution.status == aeot.Status.SAMPLE_LIMIT
    assert 2_000 <= solution.num_samples < 2_000 + plan(50, MU, config).batch.size


def test_a_limit_that_the_start_alone_takes_is_refused():
    unknown = aeot.Empirical(jax.random.normal(KEY, (4096, 3)))
    cases: list[Any] = [
        (unknown, "gaussian", 4096),
        (
            aeot.Product(aeot.Gaussian(1), aeot.FromSampler(lambda k, n: jnp.zeros((n, 2)), 2)),
            "gaussian",
            4096,
        ),
        (MU, "tails", None),
    ]
    for mu, start, least in cases:
        config = aeot.SolverConfig(tolerance=None, max_samples=least or 100, start=start)
        with pytest.raises(ValueError, match=r"^`max_samples` is .*, but the start alone takes"):
            budget(50, mu, config)
    with pytest.raises(ValueError, match=r"takes 4096 samples, and a step 256; pass at least 4352"):
        aeot.solve(KEY, unknown, Y, None, aeot.SolverConfig(tolerance=None, max_samples=1000))
    enough = replace(config, max_samples=4352, start="gaussian")
    assert budget(50, unknown, enough).phases.end == 1
    assert budget(50, MU, replace(enough, max_samples=1)).phases.end == 1
    assert budget(50, unknown, aeot.SolverConfig(batch_size=1)).phases.end > 0  # nobody's limit
    limited = aeot.SolverConfig(tolerance=None, max_steps=2)  # steps alone are limited
    assert budget(50, unknown, limited).phases.end == 2


def test_the_time_limit_is_named():
    config = aeot.SolverConfig(tolerance=0.05, time_limit=1e-9)
    solution = aeot.solve(KEY, MU, Y, config=config)
    assert solution.status == aeot.Status.TIME_LIMIT
    assert np.isfinite(solution.mass_error)


def test_non_finite_heights_are_named_and_the_last_finite_ones_returned():
    import optax

    config = replace(LOOSE, optimizer=optax.sgd(float("inf")), method="adam", start="zero")
    solution = aeot.solve(KEY, MU, Y, config=config)
    assert solution.status == aeot.Status.NON_FINITE
    assert np.isfinite(solution.h).all()


def test_an_interruption_returns_what_was_reached():
    def interrupt(progress):
        del progress
        raise KeyboardInterrupt

    solution = aeot.solve(KEY, MU, Y, config=LOOSE, on_progress=interrupt)
    assert solution.status == aeot.Status.INTERRUPTED
    assert solution.num_steps > 0
    assert np.isfinite(solution.mass_error)


def test_progress_reaches_the_plan():
    seen = []
    aeot.solve(KEY, MU, Y, config=LOOSE, on_progress=seen.append)
    assert seen[-1].num_samples >= seen[-1].planned_samples
    assert seen[-1].planned_samples >= samples_to_reach(50, 3, 0.2)
    assert seen[-1].mass_error < 1
    assert str(seen[-1]._replace(mass_error=0.31, mass_error_se=0.01)) == "mass error 0.31 ± 0.02"
    assert str(seen[-1]._replace(mass_error=0.0, mass_error_se=0.05)) == "mass error at most 0.1"


def test_a_tolerance_beyond_the_budget_is_refused_with_the_count():
    config = aeot.SolverConfig(tolerance=0.01, max_samples=10_000)
    with pytest.raises(ValueError, match="it takes at least m / tolerance\\^2 = 500000"):
        aeot.solve(KEY, MU, Y, config=config)
    with pytest.raises(ValueError, match="`tolerance` is 1e-05"):
        aeot.solve(KEY, MU, Y, config=aeot.SolverConfig(tolerance=1e-5))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tolerance": 0.0}, "`tolerance` is 0.0; pass a positive number"),
        ({"tolerance": 1e-200}, "`tolerance` is 1e-200, which nothing reaches"),
        ({"batch_size": -3}, "`batch_size` is -3"),
        ({"adam_share": 1.5}, "`adam_share` is 1.5; pass a share"),
        ({"average_share": -0.1}, "`average_share` is -0.1; pass a share"),
        ({"tolerance": None}, "`tolerance` is None and no limit is set"),
    ],
)
def test_a_bad_configuration_is_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        aeot.SolverConfig(**changes)


@pytest.mark.parametrize(
    "field", ["tolerance", "learning_rate", "max_steps", "adam_share", "target_shards"]
)
@pytest.mark.parametrize("value", ["0.1", [0.1, 0.2], 1j, np.ones(2)])
def test_what_is_no_number_is_named(field, value):
    config = aeot.SolverConfig()
    # Not by the constructor, whose types are checked in these tests before its values are.
    object.__setattr__(config, field, value)
    with pytest.raises(ValueError, match=rf"`{field}` is .*; pass a number"):
        config.__post_init__()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("learning_rate", None, "`learning_rate` is None; pass a positive number"),
        ("optimizer", "adam", "`optimizer` is 'adam'; pass an optax transformation"),
        ("devices", "cpu", r"`devices` is 'cpu'; pass a tuple or list of `jax.devices\(\)`"),
    ],
)
def test_what_is_of_another_kind_is_named(field, value, said):
    config = aeot.SolverConfig()
    object.__setattr__(config, field, value)  # as above
    with pytest.raises(ValueError, match=said):
        config.__post_init__()


@pytest.mark.parametrize("value", [0.1, np.float32(0.1), jnp.float32(0.1)])
def test_a_number_of_any_kind_is_taken(value):
    config = aeot.SolverConfig()
    object.__setattr__(config, "tolerance", value)
    config.__post_init__()


@pytest.mark.parametrize("source", ["uniform", "gaussian"])
def test_heights_on_the_line_are_those_of_the_closed_form(source):
    p = one_dim(3, 8, source)
    mu = aeot.Gaussian(1) if source == "gaussian" else aeot.UniformCube(1)
    solution = aeot.solve(KEY, mu, p.y.reshape(-1, 1), p.nu, aeot.SolverConfig(tolerance=0.04))
    assert solution.converged
    masses = exact.exact_masses(p.y, np.asarray(solution.h, np.float64), source=source)
    true_error = np.sqrt(((masses - p.nu) ** 2 / p.nu).sum())
    assert true_error < 0.04
    assert abs(true_error - solution.mass_error) < 4 * solution.mass_error_se
    h_exact = p.h_exact - p.nu @ p.h_exact
    # On a line errors of the masses add up along it.
    np.testing.assert_allclose(solution.h, h_exact, atol=0.1 * np.ptp(h_exact))


def test_heights_in_the_plane_are_those_that_made_the_weights():
    p = constructed_2d(5, 40)
    config = aeot.SolverConfig(tolerance=0.03)
    solution = aeot.solve(KEY, aeot.UniformCube(2), p.y, p.nu, config)
    assert solution.converged
    masses = exact.exact_masses(p.y, np.asarray(solution.h, np.float64))
    true_error = np.sqrt(((masses - p.nu) ** 2 / p.nu).sum())
    assert abs(true_error - solution.mass_error) < 4 * solution.mass_error_se
    h_exact = p.h_exact - p.nu @ p.h_exact
    np.testing.assert_allclose(solution.h, h_exact, atol=0.03 * np.ptp(h_exact))


@pytest.mark.parametrize(
    "mu", [aeot.UniformCube(2), pytest.param(aeot.Gaussian(1), marks=pytest.mark.long)]
)
def test_where_the_exact_solver_can_answer_it_does_and_says_so(mu):
    y = np.random.default_rng(7).normal(size=(30, mu.dim))
    solution = aeot.solve(KEY, mu, y)
    told = solution.method, solution.status, solution.num_steps, solution.certificate
    assert aeot.Method(int(solution.method)) is aeot.Method.EXACT, told
    assert solution.converged, told
    assert solution.num_samples == 0
    assert solution.num_check_samples == solution.certificate.num_samples > 0
    masses = exact.exact_masses(y.astype(np.float32), np.asarray(solution.h), source=NAME[type(mu)])
    assert np.abs(30 * masses - 1).max() < 1e-4  # what float32 heights can hold
    sampled = aeot.solve(KEY, mu, y, config=replace(LOOSE, method="newton", start="gaussian"))
    assert aeot.Method(int(sampled.method)) is aeot.Method.NEWTON
    assert sampled.num_samples > 0


NAME = {aeot.UniformCube: "uniform", aeot.Gaussian: "gaussian"}


def half_light(weight, m=40):
    """Weights of which half are as small as that."""
    return np.where(np.arange(m) < m // 2, weight, 2 / m - weight)


def true_error(mu, y, h, nu, draws=6):
    """Mass error by a count in float64 NumPy that shares nothing with the certificate."""
    rng, counts = np.random.default_rng(5), np.zeros(len(nu))
    n = draws * 50_000
    for _ in range(draws):
        scores = rng.standard_normal((50_000, mu.dim)) @ np.asarray(y, float).T + np.asarray(
            h, float
        )
        counts += np.bincount(scores.argmax(1), minlength=len(nu))
    p = counts / n
    return np.sqrt(max(0.0, ((p - nu) ** 2 / nu).sum() - (p * (1 - p) / nu).sum() / n))


@pytest.mark.parametrize("weight", [pytest.param(1e-9, marks=pytest.mark.long), 1e-6])
def test_weights_too_small_to_see_are_not_called_converged_unseen(weight):
    nu = half_light(weight, len(Y))
    config = replace(LOOSE, max_samples=400_000)
    solution = aeot.solve(KEY, MU, Y, nu, config)
    certificate = solution.certificate
    assert true_error(MU, Y, solution.h, nu) <= certificate.upper
    assert solution.converged == (certificate.upper <= 0.2)
    assert bool(solution.converged) == (weight == 1e-6)  # which takes no more than the solve did
    text = aeot.message(solution)
    assert ("of total weight" in text) == (weight == 1e-9)
    if weight == 1e-9:
        assert text.startswith(aeot.message(aeot.Status.SAMPLE_LIMIT))
        with pytest.raises(
            aeot.SolveError, match=r"could not be verified: [\d,]+ samples are too few"
        ):
            aeot.raise_if_failed(solution)


@pytest.mark.long
def test_solve_jit_does_not_vouch_for_weights_too_small_to_see():
    nu = half_light(1e-9, len(Y))
    solution = aeot.solve_jit(KEY, MU, Y, nu, LOOSE, num_steps=100)
    assert solution.status == aeot.Status.STEP_LIMIT
    assert solution.certificate.num_unverified == len(Y) // 2


def test_exact_masses_verify_what_no_draw_can_see():
    y, nu = np.random.default_rng(7).uniform(-0.5, 0.5, (30, 2)), half_light(1e-7, 30)
    solution = aeot.solve(KEY, aeot.UniformCube(2), y, nu)
    assert aeot.Method(int(solution.method)) is aeot.Method.EXACT
    assert solution.converged
    masses = exact.exact_masses(y.astype(np.float32), np.asarray(solution.h))
    assert np.sqrt(((masses - nu) ** 2 / nu).sum()) <= solution.certificate.upper <= 0.1
    assert solution.certificate.num_unverified == 0


def test_of_two_answers_that_miss_the_tolerance_the_better_is_returned(monkeypatch):
    from aeot_jax.ot.solver import exactly as exactly_module

    # The package shows the function of this name, not its module.
    module = importlib.import_module("aeot_jax.ot.solver.solve")
    y = np.random.default_rng(7).normal(size=(30, 2))
    exactly = aeot.solve(KEY, aeot.UniformCube(2), y)
    worse = replace(exactly, method=jnp.int32(aeot.Method.NEWTON), status=jnp.int32(3))
    bad = replace(worse.certificate, upper=jnp.float32(0.5))
    monkeypatch.setattr(exactly_module, "is_reached", lambda *_: False)
    monkeypatch.setattr(module, "solve_by_sampling", lambda *_: replace(worse, certificate=bad))
    found = aeot.solve(KEY, aeot.UniformCube(2), y)
    np.testing.assert_array_equal(found.h, exactly.h)
    assert aeot.Method(int(found.method)) is aeot.Method.EXACT
    assert found.status == aeot.Status.SAMPLE_LIMIT
    assert found.num_check_samples == 2 * exactly.num_check_samples


def test_many_copies_of_few_targets_are_merged_without_loss():
    y = np.repeat(np.random.default_rng(7).normal(size=(30, 2)), 100, 0)
    with pytest.warns(UserWarning, match="`y` holds 2970 targets that equal"):
        solution = aeot.solve(KEY, aeot.UniformCube(2), y)
    assert solution.converged


def test_whoever_sets_a_limit_or_an_optimiser_is_not_answered_exactly():
    y = np.random.default_rng(7).normal(size=(30, 2))
    for config in (replace(LOOSE, max_steps=3), replace(LOOSE, start="zero", max_steps=3)):
        assert aeot.solve(KEY, aeot.UniformCube(2), y, config=config).num_steps == 3


def test_the_exact_method_names_what_it_takes():
    config = aeot.SolverConfig(method="exact")
    with pytest.raises(
        ValueError, match=r"`method` is 'exact', which takes Gaussian or Unif.* in 3"
    ):
        aeot.solve(KEY, MU, Y, config=config)


def test_an_interruption_of_the_certificate_is_an_interruption(monkeypatch):
    from aeot_jax.ot.solver.loop import running as module

    real, calls = module.draw_certificate, []

    def first_time_interrupted(*args):
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "draw_certificate", first_time_interrupted)
    solution = aeot.solve(KEY, MU, Y, config=LOOSE)
    assert solution.status == aeot.Status.INTERRUPTED
    assert len(calls) == 2
    assert np.isfinite(solution.mass_error)


def test_coinciding_targets_share_one_cell_and_a_warning_says_so():
    y = jnp.concatenate([Y, Y[:5], Y[:1]])
    with pytest.warns(UserWarning, match="`y` holds 6 targets that equal an earlier one"):
        solution = aeot.solve(KEY, MU, y, config=LOOSE)
    assert solution.converged
    np.testing.assert_array_equal(solution.h[50:55], solution.h[:5])
    np.testing.assert_array_equal(solution.h[55], solution.h[0])
    certificate = aeot.certify(jax.random.key(7), MU, y, solution.h, None, 50_000)
    assert certificate.mass_error < 0.25
    assert certificate.stray_mass == 0


def test_weights_of_zero_get_minus_infinity():
    nu = jnp.full(50, 1 / 48).at[jnp.array([3, 9])].set(0.0)
    solution = aeot.solve(KEY, MU, Y, nu, LOOSE)
    assert solution.converged
    assert np.isneginf(np.asarray(solution.h)[[3, 9]]).all()
    finite = np.where(np.isfinite(solution.h), solution.h, 0.0)
    certificate = aeot.certify(jax.random.key(7), MU, Y, finite, nu, 20_000)
    assert certificate.stray_mass > 0
    assert certificate.mass_error == np.inf


@pytest.mark.parametrize("y", [Y[:1], jnp.ones((4, 3))])
@pytest.mark.filterwarnings("ignore:`y` holds")
def test_degenerate_targets_are_solved_at_once(y):
    solution = aeot.solve(KEY, MU, y, config=LOOSE)
    assert solution.converged
    np.testing.assert_allclose(solution.h, 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_targets_of_any_scale_converge(scale, solved):
    solution = aeot.solve(KEY, MU, Y * scale, config=LOOSE)
    assert solution.converged
    np.testing.assert_allclose(solution.h / scale, solved.h, atol=0.05)


@pytest.mark.parametrize(
    "dtype", [np.float64, pytest.param(np.float16, marks=pytest.mark.long), np.int32]
)
def test_other_dtypes_are_taken(dtype):
    y = np.asarray(3 * np.asarray(Y), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # whole numbers may coincide
        solution = aeot.solve(KEY, MU, y, config=replace(LOOSE, tolerance=0.4))
    assert solution.h.dtype == jnp.float32
    assert solution.converged


@pytest.mark.long  # weights lie further apart above
def test_heavy_and_light_targets_converge():
    nu = np.geomspace(1, 1000, 50)
    solution = aeot.solve(KEY, MU, Y, nu / nu.sum(), aeot.SolverConfig(tolerance=0.1))
    assert solution.converged


def test_solve_jit_has_no_host_in_it_and_batches():
    config = replace(LOOSE, start="gaussian")

    @jax.jit
    def both(keys, ys):
        return jax.vmap(lambda k, y: aeot.solve_jit(k, MU, y, None, config, num_steps=60))(keys, ys)

    two_far_apart = jnp.where(jnp.arange(50) % 2, 20.0, -20.0)[:, None] + 1e-3 * Y
    ys = jnp.stack([Y, 3 * Y, two_far_apart])
    solutions = both(jax.random.split(KEY, 3), ys)
    assert solutions.converged.tolist() == [True, True, False]
    assert solutions.status[2] == aeot.Status.STEP_LIMIT
    for i, y in enumerate([Y, 3 * Y]):
        certificate = aeot.certify(jax.random.key(4), MU, y, solutions.h[i], None, 20_000)
        assert abs(certificate.mass_error - solutions.mass_error[i]) < 0.1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("parallel", "pmap"),
        ("devices", tuple(jax.devices()[:1])),
        ("target_shards", 2),
        ("time_limit", 1.0),
        ("method", "exact"),
    ],
)
def test_what_needs_the_host_is_refused_without_it(option, value):
    config = aeot.SolverConfig(**{option: value})
    with pytest.raises(ValueError, match=f"`{option}` is .*, which `solve_jit` cannot honour"):
        aeot.solve_jit(KEY, MU, Y, None, config, num_steps=2)
    state = aeot.init(KEY, MU, Y, None, replace(LOOSE, start="zero"))
    with pytest.raises(ValueError, match=f"`{option}` is .*, which `step` cannot honour"):
        aeot.step(state, MU, Y, None, config)

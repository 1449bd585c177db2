"""Solvers of logitkit.diffusion for Gaussian noise: orders, identities, weak errors."""

import itertools
import math

import numpy as np
import pytest
from diffusion_oracles import Mixture, measured_order

from logitkit import diffusion as d

MIXTURE = Mixture()
GAUSSIAN = Mixture((1.0,), (1.5,), (0.3,))
SCHEDULES = {
    "vp": d.VariancePreserving(),
    "straight": d.StraightPath(),
    "exploding": d.VarianceExploding(10.0),
}
ORDERS = {
    d.DDIM(): 1,
    d.DPMpp(1): 1,
    d.FlowEuler(): 1,
    d.Heun(): 2,
    d.FlowHeun(): 2,
    d.DPMSolver2(): 2,
    d.DPMpp2S(): 2,
    d.DPMpp(2): 2,
    d.ExponentialAdams(2): 2,
    d.ExponentialAdams(2, "eps"): 2,
    d.DEIS(2): 2,
    d.UniPC(1): 2,
    d.DPMpp(3): 3,
    d.ExponentialAdams(3): 3,
    d.ExponentialAdams(3, "eps"): 3,
    d.DEIS(3): 3,
    d.UniPC(2): 3,
    d.UniPC(3): 3,
}


@pytest.fixture(params=SCHEDULES, scope="module")
def problem(request):
    """Return a process, samples to begin with, and where the probability flow takes them."""
    schedule = SCHEDULES[request.param]
    process = d.Gaussian(schedule)
    noisy = schedule.span[1]
    start = noisy if math.isfinite(schedule.log_snr(noisy)) else schedule.time(-4.0)
    end = schedule.time(3.0)
    x = np.linspace(-2.5, 2.5, 8)[:, None] * schedule.sigma(start)
    return process, start, end, x, MIXTURE.flow(x, schedule, start, end)


@pytest.mark.parametrize("solver", ORDERS, ids=repr)
def test_order_on_a_mixture(problem, solver):
    process, start, end, x, exact = problem
    errors = []
    for steps in (30, 60, 120, 240):
        times = d.karras(process, steps, start=start, end=end, clean=False)
        predict = MIXTURE.network(process)
        last = d.sample(process, predict, solver=solver, times=times, initial=x, prediction="x0")
        errors.append(np.abs(last - exact).max())
    assert measured_order(errors) >= ORDERS[solver] - 0.15, errors


@pytest.mark.parametrize("kind", ["eps", "v", "score", "flow"])
@pytest.mark.parametrize("solver", ORDERS, ids=repr)
def test_kind_of_prediction_does_not_matter(solver, kind):
    process, x = d.Gaussian(d.VariancePreserving()), np.linspace(-2.5, 2.5, 3)[:, None]
    times = d.karras(process, 5, start=1.0, end=0.1, clean=False)
    ends = [
        d.sample(
            process, MIXTURE.network(process, k), solver=solver, times=times, initial=x,
            prediction=k,
        )
        for k in (kind, "x0")
    ]  # fmt: skip
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", ORDERS, ids=repr)
def test_times_of_each_sample(problem, solver):
    process, start, end, x, _ = problem
    x = x[2:5]
    columns = [
        d.karras(process, 5, start=start, end=stop, clean=False)
        for stop in np.linspace(end, 2.0 * end, 3)
    ]
    predict = MIXTURE.network(process)
    run = {"solver": solver, "prediction": "x0"}
    together = d.sample(process, predict, times=np.stack(columns, 1), initial=x, **run)
    for i, times in enumerate(columns):
        alone = d.sample(process, predict, times=times, initial=x[i : i + 1], **run)
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-11)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_adaptive_flow_is_as_exact_as_asked_for(problem, tolerance):
    process, start, end, x, exact = problem
    solver = d.ProbabilityFlow(rtol=tolerance, atol=tolerance)
    run = {"solver": solver, "times": [start, end], "prediction": "x0"}
    last = d.sample(process, MIXTURE.network(process), initial=x, **run)
    assert np.abs(last - exact).max() < 100 * tolerance  # errors of steps add up
    alone = d.sample(process, MIXTURE.network(process), initial=x[3:4], **run)
    assert (alone[0] == last[3]).all()


def test_adaptive_flow_gives_up():
    process = d.Gaussian(d.VarianceExploding(10.0))
    solver = d.ProbabilityFlow(max_evaluations=12)
    with pytest.raises(RuntimeError, match="12 predictions"):
        d.sample(
            process, MIXTURE.network(process), solver=solver, times=[10.0, 0.1], shape=(1, 1),
            prediction="x0",
        )  # fmt: skip


@pytest.mark.parametrize("solver", [*ORDERS, d.DPMpp(2, 1.0), d.DDPM(), d.DPMpp2S(1.0)], ids=repr)
@pytest.mark.parametrize(
    "schedule", [d.Cosine(), d.StraightPath(), d.zero_terminal_snr(d.linear())]
)
def test_from_pure_noise_to_clean_data(solver, schedule):
    # v serves at both ends, and the mean of the last step is the prediction
    process = d.Gaussian(schedule)
    times = d.karras(process, 60)
    predict = GAUSSIAN.network(process)

    def network(x, t):
        x0 = predict(x, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        if sigma == 0.0:
            return x  # v = eps, whatever it is
        return alpha * (x - alpha * x0) / sigma - sigma * x0

    if isinstance(solver, d.FlowHeun):
        pytest.skip("asks for the velocity at clean data, which no prediction of v determines")
    if isinstance(solver, d.FlowEuler) and not isinstance(schedule, d.StraightPath):
        pytest.skip("the velocity of these schedules is infinite at an end")
    x = d.sample(process, network, solver=solver, times=times, shape=(2000, 1), prediction="v")
    assert x.mean() == pytest.approx(1.5, abs=0.05)
    assert x.std() == pytest.approx(0.3, abs=0.05)


# --- identities --------------------------------------------------------------------------------


def one_step(solver, process, t=0.7, s=0.4, kind="eps"):
    x = np.random.default_rng(1).standard_normal((5, 3))
    predict = d.Predictor(process, MIXTURE.network(process, kind), kind)
    state = d.State(x, t, np.arange(5))
    return solver.step(state, predict, t, s, process=process, rng=3).x


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_is_sde_dpm_solver_1_and_udm_with_its_noise(schedule):
    process = d.Gaussian(SCHEDULES[schedule])
    steps = [
        one_step(solver, process)
        for solver in (
            d.DDPM(), d.DDIM(1.0), d.euler_ancestral(), d.DPMpp(1, eta=1.0),
            d.UDM(d.Rotate(d.ddpm_amount)),
        )
    ]  # fmt: skip
    for other in steps[1:]:
        np.testing.assert_allclose(other, steps[0], rtol=5e-13, atol=5e-13)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpm_solver_pp_1_is_ddim_and_udm_without_noise(schedule):
    process = d.Gaussian(SCHEDULES[schedule])
    steps = [
        one_step(solver, process)
        for solver in (
            d.DDIM(), d.DPMpp(1), d.UDM(d.Keep()), d.ExponentialAdams(1), d.DEIS(1), d.UniPC(1),
            d.ExponentialAdams(1, "eps"),
        )
    ]  # fmt: skip
    for other in steps[1:]:
        np.testing.assert_allclose(other, steps[0], rtol=2e-14, atol=2e-14)


def test_flow_matching_is_ddim_on_the_straight_path():
    process = d.Gaussian(d.StraightPath())
    np.testing.assert_allclose(
        one_step(d.FlowEuler(), process, kind="flow"), one_step(d.DDIM(), process), rtol=1e-13
    )


def test_2m_by_its_equation():
    # x_s = sigma_s / sigma_t x - alpha_s expm1(-h) D, D = (1 + 1/2r) x0 - 1/2r x0_before
    process = d.Gaussian(d.VariancePreserving())
    schedule, times = process.schedule, (0.8, 0.65, 0.4)
    network = MIXTURE.network(process)
    x = np.array([[0.3], [-1.2]])
    lam = [schedule.log_snr(t) for t in times]
    states = list(
        d.trajectory(process, network, solver=d.DPMpp(2), times=times, initial=x, prediction="x0")
    )
    before, now = network(x, 0.8), network(states[1].x, 0.65)
    h, r = lam[2] - lam[1], (lam[1] - lam[0]) / (lam[2] - lam[1])
    data = (1 + 0.5 / r) * now - 0.5 / r * before
    expected = schedule.sigma(0.4) / schedule.sigma(0.65) * states[1].x
    expected = expected - schedule.alpha(0.4) * math.expm1(-h) * data
    np.testing.assert_allclose(states[2].x, expected, rtol=1e-13)


def test_large_variance_of_ddpm():
    process = d.Gaussian(d.linear())
    t, s = 3.0, 2.0
    small = one_step(d.DDPM("small"), process, t, s)
    large = one_step(d.DDPM("large"), process, t, s)
    kept = one_step(d.DDPM("small"), process, t, s)
    assert (kept == small).all()
    hop = process.hop(t, s)
    share = math.sqrt(1.0 - math.exp(-2.0 * hop.h))
    noise = (large - small) / (share * (hop.sigma_t - hop.sigma_s))
    np.testing.assert_allclose(
        small + share * hop.sigma_t * noise, large + share * hop.sigma_s * noise
    )
    beta = math.sqrt(1e-4 + (0.02 - 1e-4) * 2 / 999)  # of step 3, the root of its share
    assert share * hop.sigma_t == pytest.approx(beta, rel=1e-9)
    # the noise of the article's "sigma = beta" exceeds sigma_s at t = 1 and 2, and nothing is NaN
    for t in (2.0, 1.0):
        assert np.isfinite(one_step(d.DDPM("large"), process, t, t - 1.0)).all()


# --- laws of samples ---------------------------------------------------------------------------


def affine_step(solver, process, t, s, data):
    """Return a, b and c of a step x_s = a x_t + b + c z: for normal data all steps are such."""
    predict = d.Predictor(process, data.network(process), "x0")
    rows = np.array([0, 0, 1])
    state = d.State(np.array([[0.0], [1.0], [0.0]]), t, rows)
    x = solver.step(state, predict, t, s, process=process, rng=0).x.ravel()
    z = d.Draws(0, 1, rows).normal((1,)).ravel()
    c = (x[2] - x[0]) / (z[2] - z[0])
    return x[1] - x[0], x[0] - c * z[0], c


def moments_of(solver, process, times, data):
    """Return the mean and the variance at the end, without drawing samples, for normal data."""
    mean, variance = 0.0, process.schedule.sigma(times[0]) ** 2
    for t, s in itertools.pairwise(times):
        a, b, c = affine_step(solver, process, t, s, data)
        mean, variance = a * mean + b, a * a * variance + c * c
    return mean, variance


RANDOM = [
    d.DDPM(), d.DDIM(0.5), d.DPMpp(1, 0.5), d.DPMpp(1, 1.0), d.DPMpp2S(1.0), d.ReverseSDE(1.0),
    d.ReverseSDE(0.5), d.UDM(d.Rotate(d.ddpm_amount)),
]  # fmt: skip


# Not the whole repr, which has the address of a function.
@pytest.mark.parametrize("solver", RANDOM, ids=lambda solver: repr(solver).partition(" at ")[0])
def test_weak_order_of_random_solvers(solver):
    process = d.Gaussian(d.VariancePreserving())
    schedule, end = process.schedule, 0.05
    errors = []
    for steps in (50, 100, 200, 400):
        times = d.uniform(process, steps, end=end)
        mean, variance = moments_of(solver, process, times, GAUSSIAN)
        alpha, sigma = schedule.alpha(end), schedule.sigma(end)
        exact_mean, exact_variance = 1.5 * alpha, (0.3 * alpha) ** 2 + sigma**2
        errors.append(max(abs(mean - exact_mean), abs(variance - exact_variance)))
    # the first x has mean 0 instead of alpha_T 1.5, which all solvers forget alike
    assert measured_order(errors) >= 0.85, errors


def moments_of_a_path(solver, process, times, data):
    """
    Return the mean and the variance at the end, for any solver and without a random error.

    On normal data the end is a + b x + sum_i c_i z_i, and the noise z_i of each row is known: the
    factors are the solution of linear equations, one for each of some rows.
    """
    steps = len(times) - 1
    rows = np.arange(2 * (steps + 2))
    x = np.random.default_rng(0).standard_normal((len(rows), 1))
    end = d.sample(
        process, data.network(process), solver=solver, times=times, initial=x, prediction="x0"
    )
    noise = [d.Draws(0, step + 1, rows).normal((1,)) for step in range(steps)]
    known = np.concatenate([np.ones_like(x), x, *noise], axis=1)
    factors = np.linalg.lstsq(known, end, rcond=None)[0].ravel()
    np.testing.assert_allclose(known @ factors, end.ravel(), rtol=1e-10, atol=1e-10)
    alpha, sigma = process.schedule.alpha(times[0]), process.schedule.sigma(times[0])
    mean = factors[0] + factors[1] * 1.5 * alpha
    return mean, factors[1] ** 2 * math.hypot(0.3 * alpha, sigma) ** 2 + np.sum(factors[2:] ** 2)


@pytest.mark.parametrize("schedule", [d.VariancePreserving(), d.VarianceExploding(10.0)])
@pytest.mark.parametrize(("order", "weak_order"), [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_weak_order_of_sde_dpm_solver_pp(schedule, order, weak_order, eta):
    process, end = d.Gaussian(schedule), schedule.time(3.0)
    alpha, sigma = schedule.alpha(end), schedule.sigma(end)
    errors = []
    for steps in (50, 100, 200):
        times = d.karras(process, steps, start=schedule.span[1], end=end, clean=False)
        mean, variance = moments_of_a_path(d.DPMpp(order, eta), process, times, GAUSSIAN)
        assert mean == pytest.approx(1.5 * alpha, abs=1e-12)  # exact: the data's mean is found
        errors.append(abs(variance - math.hypot(0.3 * alpha, sigma) ** 2))
    assert measured_order(errors) >= weak_order - 0.15, errors


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.9, 1.0, d.ddpm_amount])
def test_marginals_are_exact_with_data_from_the_posterior(amount):
    # three steps, x0 drawn from p(x0 | x_t) with its mean and standard deviation
    process = d.Gaussian(d.VariancePreserving())
    data = Mixture((1.0,), (0.0,), (math.sqrt(0.5),))

    def x0_std(t):
        alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
        return math.sqrt(0.5) * sigma / math.sqrt(0.5 * alpha**2 + sigma**2)

    x = d.sample(
        process, data.network(process), solver=d.UDM(d.Rotate(amount), x0_std),
        times=[1.0, 0.6, 0.3, 0.0], shape=(60_000, 1), prediction="x0",
    )  # fmt: skip
    assert x.var() == pytest.approx(0.5, rel=5 * math.sqrt(2 / 60_000))


def test_mean_of_the_data_instead_of_a_sample_is_too_narrow():
    # [N] 3 steps with alpha = e^{-5 t^2}: variance 0.173 with the mean, for the true 0.500
    process = d.Gaussian(d.ExponentialDecay())
    data = Mixture((1.0,), (0.0,), (math.sqrt(0.5),))
    _, variance = moments_of(d.DDPM(), process, [1.0, 2 / 3, 1 / 3, 0.0], data)
    assert variance < 0.3


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_analytic_variance_is_exact_on_normal_data(eta):
    # E eps^2 = sigma^2 / (s^2 alpha^2 + sigma^2): one step, from the exact law at its begin
    process, t, s = d.Gaussian(d.VariancePreserving()), 0.8, 0.3
    data = Mixture((1.0,), (0.0,), (0.7,))
    (alpha, sigma), (alpha_s, sigma_s) = (
        (process.schedule.alpha(time), process.schedule.sigma(time)) for time in (t, s)
    )
    variance = 0.49 * alpha**2 + sigma**2
    std = d.AnalyticStd(process, [t], [sigma**2 / variance])
    assert std(t) ** 2 == pytest.approx(0.49 * sigma**2 / variance, rel=1e-12)
    a, _, c = affine_step(d.DDIM(eta, std), process, t, s, data)
    assert a**2 * variance + c**2 == pytest.approx(0.49 * alpha_s**2 + sigma_s**2, rel=1e-9)


def test_analytic_variance_from_data():
    process, x0 = d.Gaussian(d.VariancePreserving()), np.random.default_rng(0)
    data = Mixture((1.0,), (0.0,), (0.7,))
    std = d.estimate_analytic(
        process, data.network(process), data.draw((4000, 8), x0), [0.4], prediction="x0"
    )
    alpha, sigma = process.schedule.alpha(0.4), process.schedule.sigma(0.4)
    exact = 0.7 * sigma / math.hypot(0.7 * alpha, sigma)
    assert std(0.4) == pytest.approx(exact, rel=0.02)
    assert d.AnalyticStd(process, [0.4], [0.0], data_range=0.1)(0.4) == 0.05


# --- no growth of the error with steps ----------------------------------------------------------


def gaussian_error(process, solver, times, count=64):
    x = np.random.default_rng(0).standard_normal((count, 1))
    alpha, sigma = process.schedule.alpha(times[0]), process.schedule.sigma(times[0])
    s_alpha, s_sigma = process.schedule.alpha(times[-1]), process.schedule.sigma(times[-1])
    scale = math.hypot(0.3 * s_alpha, s_sigma) / math.hypot(0.3 * alpha, sigma)
    exact = 1.5 * s_alpha + (x - 1.5 * alpha) * scale
    last = d.sample(
        process, GAUSSIAN.network(process), solver=solver, times=times, initial=x,
        prediction="x0",
    )  # fmt: skip
    return np.abs(last - exact).max()


def test_ddim_on_trailing_times_has_no_error_that_grows():
    process = d.Gaussian(d.scaled_linear())
    errors = [
        gaussian_error(process, d.DDIM(), d.trailing(process, steps, counted=True))
        for steps in (64, 128, 256, 600)
    ]
    assert all(later < before for before, later in itertools.pairwise(errors))
    assert errors[2] < 0.032  # other libraries: 0.45
    assert errors[3] < 0.017  # other libraries: 0.90


def test_unipc_on_karras_times():
    process = d.Gaussian(d.scaled_linear())
    times = d.karras(process, 256, start=1000.0, end=1.0, clean=False)
    assert gaussian_error(process, d.UniPC(3), times) < 1e-6


@pytest.mark.parametrize(
    ("solver", "most"),
    [(d.DPMpp(2), 5e-5), (d.DPMpp(3), 2e-5), (d.UniPC(3), 2e-5), (d.DEIS(3), 5e-6)],
    ids=repr,
)
def test_the_last_step_into_clean_data_keeps_the_order(solver, most):
    # the data predicted at the last sigma are off by 3.4e-3: where other libraries end
    process = d.Gaussian(d.scaled_linear())
    times = d.karras(process, 256, start=1000.0, end=1.0)
    assert gaussian_error(process, solver, times) < most


def test_a_last_step_of_order_1_returns_the_data_predicted_there():
    process = d.Gaussian(d.VariancePreserving())
    network = Mixture().network(process)
    times = d.karras(process, 12, end=0.05)
    x = np.random.default_rng(0).standard_normal((8, 2))
    for solver in (d.DPMpp(3), d.UniPC(3), d.ExponentialAdams(2, "eps")):
        solvers = d.lower_order_final(solver, 12)
        *_, before, last = d.trajectory(
            process, network, solver=solvers, times=times, initial=x, prediction="x0"
        )
        np.testing.assert_allclose(last.x, network(before.x, times[-2]), rtol=1e-13)


@pytest.mark.parametrize(
    ("order", "steps", "lowered", "orders"),
    [
        (3, 5, None, [3, 3, 3, 2, 1]),
        (3, 5, 1, [3, 3, 3, 3, 1]),
        (3, 5, 0, [3, 3, 3, 3, 3]),
        (2, 1, None, [1]),
        (1, 2, None, [1, 1]),
    ],
)
def test_lower_orders_at_the_end(order, steps, lowered, orders):
    solvers = d.lower_order_final(d.DPMpp(order, eta=0.5), steps, lowered=lowered)
    assert solvers == tuple(d.DPMpp(n, eta=0.5) for n in orders)


@pytest.mark.parametrize(("steps", "lowered"), [(0, None), (3, -1)])
def test_lower_orders_that_cannot_be(steps, lowered):
    with pytest.raises(ValueError, match="at least one step"):
        d.lower_order_final(d.UniPC(3), steps, lowered=lowered)


def test_the_form_with_half_of_the_second_difference_is_of_order_2():
    process = d.Gaussian(d.scaled_linear())
    errors = [
        gaussian_error(
            process, d.DPMpp(3, halved=True),
            d.uniform_log_snr(process, n, start=1000.0, end=1.0, clean=False),
        )
        for n in (16, 32, 64, 128)
    ]  # fmt: skip
    assert 1.85 <= measured_order(errors) <= 2.3


def test_one_solver_for_each_step():
    process = d.Gaussian(d.StraightPath())
    network, times = Mixture().network(process), [0.9, 0.7, 0.5, 0.2]
    run = {"times": times, "initial": np.array([[0.3], [-1.0]]), "prediction": "x0"}
    same = d.sample(process, network, solver=[d.DPMpp(2)] * 3, **run)
    np.testing.assert_array_equal(same, d.sample(process, network, solver=d.DPMpp(2), **run))
    with pytest.raises(ValueError, match="one for each of 3 steps, not 2"):
        d.sample(process, network, solver=[d.DPMpp(2)] * 2, **run)
    with pytest.raises(TypeError, match="TokenPosterior needs"):
        d.sample(process, network, solver=[d.DPMpp(2)] * 2 + [d.TokenPosterior()], **run)


def test_a_solver_does_not_go_on_from_predictions_of_another_kind():
    process = d.Gaussian(d.StraightPath())
    network, times = Mixture().network(process), np.array([0.9, 0.7, 0.5, 0.2])
    run = {"times": times, "initial": np.array([[0.3], [-1.0]]), "prediction": "x0"}
    mixed = d.sample(process, network, solver=[d.DEIS(2), d.DEIS(2), d.DPMpp(2)], **run)
    begin = d.sample(process, network, solver=d.DEIS(2), **{**run, "times": times[:3]})
    fresh = {**run, "initial": begin, "times": times[2:]}
    np.testing.assert_array_equal(mixed, d.sample(process, network, solver=d.DPMpp(2), **fresh))


def test_2m_reaches_its_order_on_a_table():
    process = d.Gaussian(d.scaled_linear())
    errors = [
        gaussian_error(
            process, d.DPMpp(2), d.karras(process, n, start=1000.0, end=1.0, clean=False)
        )
        for n in (8, 16, 32, 64, 128, 256)
    ]
    assert measured_order(errors) >= 1.85
    assert errors[-1] < 6e-5

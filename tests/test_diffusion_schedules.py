"""Schedules, grids and predictions of logitkit.diffusion."""

import itertools
import math
import pickle

import numpy as np
import pytest

from logitkit import diffusion as d

SCHEDULES = {
    "straight": d.StraightPath(),
    "exploding": d.VarianceExploding(10.0),
    "custom": d.Custom(np.cos, np.sin, span=(0.0, 1.5)),
    "vp": d.VariancePreserving(),
    "decay 2": d.ExponentialDecay(),
    "decay 1": d.ExponentialDecay(5.0, 1.0),
    "cosine": d.Cosine(),
    "sigmoid": d.Sigmoid(),
    "linear table": d.linear(),
    "scaled table": d.scaled_linear(),
    "cosine table": d.cosine(),
    "sigmoid table": d.sigmoid(),
    "su table": d.su(),
    "zero table": d.zero_terminal_snr(d.linear()),
}
KINDS = ("x0", "eps", "v", "score", "flow")


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request):
    return SCHEDULES[request.param]


def inside(schedule, count=37):
    """Return times off the ends and off the entries of a table."""
    clean, noisy = schedule.span
    return clean + (noisy - clean) * (np.arange(1, count) + 0.0137) / (count + 0.1)


def test_ends(schedule):
    clean, noisy = schedule.span
    assert (schedule.alpha(clean), schedule.sigma(clean)) == (1.0, 0.0)
    assert schedule.log_snr(clean) == math.inf
    assert schedule.time(schedule.log_snr(noisy)) == pytest.approx(noisy, rel=1e-12)


def test_log_snr_falls_and_is_the_log_of_the_ratio(schedule):
    t = inside(schedule)
    log_snr = schedule.log_snr(t)
    assert (np.diff(log_snr) < 0.0).all()
    np.testing.assert_allclose(log_snr, np.log(schedule.alpha(t) / schedule.sigma(t)), atol=1e-11)


def test_time_inverts_log_snr(schedule):
    t = inside(schedule)
    np.testing.assert_allclose(schedule.time(schedule.log_snr(t)), t, rtol=1e-11)
    assert isinstance(schedule.time(0.5), float)


def test_rates_are_derivatives(schedule):
    t = inside(schedule)
    step = 1e-6 * schedule.span[1]
    if isinstance(schedule, d.StepTable):
        step = 1e-3  # in steps of the table, of which log(alpha) is a straight line
    for rate, factor in zip(schedule.rates(t), (schedule.alpha, schedule.sigma), strict=True):
        slope = (factor(t + step) - factor(t - step)) / (2 * step)
        np.testing.assert_allclose(rate, slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("schedule", "t", "rates"),
    [
        (d.Cosine(0.0), 1.0, (-np.pi / 2, 0.0)),
        (d.Cosine(0.0), 0.0, (0.0, np.pi / 2)),
        (d.Cosine(), 0.0, (None, np.inf)),
        (d.Sigmoid(), 1.0, (-np.inf, None)),
        (d.ExponentialDecay(), 0.0, (0.0, np.sqrt(10.0))),
        (d.ExponentialDecay(power=3.0), 0.0, (0.0, 0.0)),
        (d.ExponentialDecay(power=1.0), 0.0, (-5.0, np.inf)),
        (d.ExponentialDecay(power=0.5), 0.0, (-np.inf, np.inf)),
        (d.zero_terminal_snr(d.linear()), 1000.0, (-np.inf, None)),
    ],
)
def test_rates_at_the_ends_are_limits(schedule, t, rates):
    step = 1e-6 * schedule.span[1] * (1 if t == 0.0 else -1)
    slopes = [(f(t + step) - f(t)) / step for f in (schedule.alpha, schedule.sigma)]
    expected = [slope if rate is None else rate for slope, rate in zip(slopes, rates, strict=True)]
    for given in (t, np.array([t])):
        found = np.ravel(schedule.rates(given))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-15)


@pytest.mark.parametrize("solver", [d.FlowEuler(), d.FlowHeun(), d.ReverseSDE()])
@pytest.mark.parametrize(
    "schedule", [d.Sigmoid(), d.VariancePreserving(), d.zero_terminal_snr(d.linear())]
)
def test_infinite_slopes_are_told(solver, schedule):
    process = d.Gaussian(schedule)
    grid = d.uniform(process, 2)
    times = grid if schedule.alpha(grid[0]) == 0.0 else grid[1:]
    if not isinstance(solver, d.FlowHeun) and schedule.alpha(grid[0]) > 0.0:
        pytest.skip("asks for no slope at clean data")
    with pytest.raises(ValueError, match=r"infinite at t=.*span.*start=|does not determine"):
        d.sample(process, lambda x, t: x, solver=solver, times=times, shape=(2, 1), prediction="v")


def test_scalars_are_those_of_arrays(schedule):
    t = inside(schedule)
    for method in (schedule.alpha, schedule.sigma, schedule.log_snr):
        one = method(float(t[5]))
        assert isinstance(one, float)
        assert one == pytest.approx(method(t)[5], rel=4e-16, abs=4e-16)  # e^x by two libraries


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n not in ("straight", "exploding")])
def test_variance_is_preserved(name):
    schedule = SCHEDULES[name]
    t = inside(schedule)
    np.testing.assert_allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, 1.0, atol=1e-14)


def test_sigma_keeps_its_digits_near_clean_data():
    t = 1e-9
    assert d.ExponentialDecay().sigma(t) == pytest.approx(math.sqrt(10.0) * t, rel=1e-12)


@pytest.mark.parametrize(("table", "end"), [(d.linear(), 0.00635), (d.su(), 0.00648)])
def test_published_ends(table, end):
    assert table.alpha(1000.0) == pytest.approx(end, abs=5e-6)


def test_table_between_its_entries():
    table = d.linear()
    product = np.sqrt(np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000)))
    np.testing.assert_allclose(table.alpha(np.arange(1.0, 1001.0)), product, rtol=1e-12)
    assert table.alpha(500.5) == pytest.approx(math.sqrt(product[499] * product[500]), rel=1e-12)


def test_zero_terminal_snr():
    table, before = d.zero_terminal_snr(d.scaled_linear()), d.scaled_linear()
    assert table.alpha(1000.0) == 0.0
    assert table.log_snr(1000.0) == -math.inf
    assert table.alpha(1.0) == pytest.approx(before.alpha(1.0), rel=1e-12)
    assert table.time(-1e6) == pytest.approx(1000.0)
    half = 0.5 * (table.alpha(999.0) ** 2)
    assert table.alpha(999.5) ** 2 == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("betas", [[], [[0.1]], [1.0, 0.5], [-0.1], [0.5, 1.5], [math.nan]])
def test_bad_tables(betas):
    with pytest.raises(ValueError, match="expected betas"):
        d.StepTable(betas)


@pytest.mark.parametrize(("kind", "to"), list(itertools.product(KINDS, KINDS)))
def test_conversions(schedule, kind, to):
    rng = np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, 3, 4))
    process = d.Gaussian(schedule)
    for t in (float(inside(schedule)[7]), inside(schedule)[[3, 11, 30]]):
        column = np.reshape(t, (-1, 1)) if np.ndim(t) else t
        alpha, sigma = schedule.alpha(column), schedule.sigma(column)
        d_alpha, d_sigma = schedule.rates(column)
        values = {
            "x0": x0,
            "eps": eps,
            "v": alpha * eps - sigma * x0,
            "score": -eps / sigma,
            "flow": d_alpha * x0 + d_sigma * eps,
        }
        prediction = d.Prediction(values[kind], kind, process.forward(x0, eps, t), t)
        scale = np.abs(values[to]).max() * max(1.0, np.max(alpha / sigma), np.max(sigma / alpha))
        np.testing.assert_allclose(process.convert(prediction, to), values[to], atol=1e-10 * scale)


@pytest.mark.parametrize(("kind", "t"), [("eps", 1.0), ("x0", 0.0), ("score", 0.0)])
def test_predictions_that_say_nothing(kind, t):
    process = d.Gaussian(d.StraightPath())
    prediction = d.Prediction(np.ones((1, 1)), kind, np.ones((1, 1)), t)
    other = "x0" if kind != "x0" else "eps"
    with pytest.raises(ValueError, match=f"kind '{kind}' does not determine"):
        process.convert(prediction, other)


@pytest.mark.parametrize("kind", ["v", "flow"])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_v_and_flow_serve_at_both_ends(kind, t):
    process = d.Gaussian(d.StraightPath())
    prediction = d.Prediction(np.full((1, 1), 3.0), kind, np.full((1, 1), 2.0), t)
    for to in ("x0", "eps"):
        assert np.isfinite(process.convert(prediction, to)).all()


def test_types_are_kept():
    process = d.Gaussian(d.linear())
    x = np.ones((2, 3), np.float32)
    for t in (np.float64(10.0), np.array([10.0, 20.0])):
        assert process.convert(d.Prediction(x, "eps", x, t), "x0").dtype == np.float32


def test_forward_bridge_and_transition_have_the_same_marginals():
    # x_t by one step from x_s has the mean and the variance of x_t from x_0, and back.
    process, s, t, n = d.Gaussian(d.VariancePreserving()), 0.3, 0.6, 200_000
    draws = d.Draws(0, 0, np.arange(n))
    x0 = np.full((n, 1), 1.5)
    x_s = process.forward(x0, process.noise(draws, x0), s)
    x_t = process.transition(x_s, s, t, draws)
    back = process.bridge(x_t, x0, t, s, draws)
    for x, time in ((x_t, t), (back, s)):
        alpha, sigma = process.schedule.alpha(time), process.schedule.sigma(time)
        assert x.mean() == pytest.approx(1.5 * alpha, abs=5 * sigma / math.sqrt(n))
        assert x.std() == pytest.approx(sigma, rel=5 / math.sqrt(n))
    kept = math.exp(process.schedule.log_snr(t) - process.schedule.log_snr(s))
    assert np.corrcoef(x_t.ravel(), back.ravel())[0, 1] == pytest.approx(kept, abs=5 / n**0.5)


def test_log_prob_is_that_of_the_normal_law():
    from scipy import stats

    process = d.Gaussian(d.StraightPath())
    x, x0 = np.array([[1.0, 2.0]]), np.array([[0.5, 3.0]])
    expected = stats.norm.logpdf(x, 0.7 * x0, 0.3).sum()
    assert process.log_prob(x, x0, 0.3).item() == pytest.approx(expected, rel=1e-12)


def test_drift_and_diffusion():
    # dx = -beta/2 x dt + sqrt(beta) dw for the variance-preserving process
    process, t = d.Gaussian(d.VariancePreserving()), 0.4
    beta = 0.1 + 19.9 * t
    drift, diffusion = process.drift_diffusion(np.array([[2.0]]), t)
    assert drift.item() == pytest.approx(-beta, rel=1e-12)
    assert diffusion == pytest.approx(math.sqrt(beta), rel=1e-12)
    drift, diffusion = d.Gaussian(d.VarianceExploding()).drift_diffusion(np.array([[2.0]]), t)
    assert (drift.item(), diffusion) == (0.0, pytest.approx(math.sqrt(2 * t), rel=1e-12))


@pytest.mark.parametrize("grid", [d.karras, d.uniform_log_snr, d.exponential, d.uniform])
@pytest.mark.parametrize("steps", [2, 3, 10, 1000])
def test_grids_fall_through_the_span(schedule, grid, steps):
    process = d.Gaussian(schedule)
    if grid is not d.uniform and steps == 2 and schedule.log_snr(schedule.span[1]) == -math.inf:
        steps = 3
    times = grid(process, steps)
    assert times.shape == (steps + 1,)
    assert (np.diff(times) < 0.0).all()
    assert (times[0], times[-1]) == (schedule.span[1], 0.0)


def test_uniform_log_snr_is_uniform():
    process = d.Gaussian(d.VariancePreserving())
    times = d.uniform_log_snr(process, 10, end=0.01, clean=False)
    np.testing.assert_allclose(np.diff(process.schedule.log_snr(times), n=2), 0.0, atol=1e-9)


def test_karras_against_its_equation():
    process = d.Gaussian(d.VarianceExploding(80.0))
    i = np.arange(18) / 17
    expected = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(d.karras(process, 18, end=0.002)[:-1], expected, rtol=1e-11)


@pytest.mark.parametrize(("steps", "counted"), [(3, False), (3, True), (256, True), (600, True)])
def test_trailing(steps, counted):
    times = d.trailing(d.Gaussian(d.linear()), steps, counted=counted)
    assert (times[0], times[-1], len(times)) == (1000.0, 0.0, steps + 1)
    assert np.abs(np.diff(times) + 1000.0 / steps).max() <= 1.0
    assert (times == np.rint(times)).all() or not counted


@pytest.mark.parametrize(
    "call",
    [
        lambda p: d.uniform(p, 0),
        lambda p: d.uniform(p, 3, start=2.0),
        lambda p: d.uniform(p, 3, start=0.1, end=0.2),
        lambda p: d.karras(p, 3, end=0.0),
        lambda p: d.karras(p, 1),
        lambda p: d.trailing(d.Gaussian(d.linear(10)), 11, counted=True),
    ],
)
def test_bad_grids(call):
    with pytest.raises(ValueError, match="expected"):
        call(d.Gaussian(d.StraightPath()))


def test_schedules_pickle(schedule):
    again = pickle.loads(pickle.dumps(schedule))
    t = inside(schedule)
    assert (again.log_snr(t) == schedule.log_snr(t)).all()

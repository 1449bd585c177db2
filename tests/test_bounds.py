"""logitkit.bounds: each bound against its formula in 50 digits, and all of them as laws."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitkit import _cpu, bounds, logsumexp, reference
from logitkit.bounds import (
    _certify,
    _from_distribution,
    _from_expansion,
    _from_pair,
    _from_row,
    _from_softmax,
    _from_temperature,
    _rows,
)

INF, NAN = np.inf, np.nan
NOTHING = Decimal("1e-40")

# Rows that any bound may be asked about.
ROWS = {
    "one": [0.7],
    "equal": [0.3, 0.3, 0.3],
    "gap": [0.0, -800.0],
    "masked": [1.0, -INF, 0.5, -INF],
    "one visible": [-INF, 0.1, -INF],
    "all masked": [-INF, -INF],
    "+inf": [INF, 0.0, -INF],
    "all +inf": [INF, INF],
    "nan": [NAN, 0.0, INF],
    "nothing": [],
    "huge": [1e300, -1e300, 0.0],
    "equal and huge": [1e300, 1e300, 1e300],
    "largest": [1.7e308, 1.7e308, -1.7e308],
    "tiny": [5e-324, -5e-324, 1e-310],
    "close": [1.0, 1.0 - 2.0**-53, 1.0 + 2.0**-52],
    "sums to one": [math.log(0.3), math.log(0.7)],
    "nearly sums to one": [-1e-9, math.log(1e-9)],
}


def sample(seed, n, rows=40, masked=True):
    """Rows x, y and p with scales from 0.1 to 30, a few entries of x and y masked."""
    rng = np.random.default_rng((seed, n))
    x, y = rng.normal(size=(2, rows, n)) * rng.uniform(0.1, 30.0, size=(2, rows, 1))
    p = rng.dirichlet(np.ones(n), rows)
    if masked:
        x[rng.random(x.shape) < 0.1] = -INF
        y[(rng.random(y.shape) < 0.05) | (x == -INF)] = -INF
    return x, y, p


class Exact:
    """The quantities of the formulas, in 50 digits."""

    def __init__(self, x):
        self.all = [Decimal(float(v)) for v in x]
        self.x = [v for v in self.all if v > Decimal("-Infinity")]
        self.n = Decimal(len(self.x))
        self.max, self.min = max(self.x), min(self.x)
        self.mean = sum(self.x) / self.n
        self.range = self.max - self.min

    def lse(self, tau=1):  # noqa: D102
        tau = Decimal(tau)
        return tau * sum(((v - self.max) / tau).exp() for v in self.x).ln() + self.max

    def softmax(self, tau=1):  # noqa: D102
        tau = Decimal(tau)
        weights = [
            ((v - self.max) / tau).exp() if v > Decimal("-Infinity") else Decimal(0)
            for v in self.all
        ]
        return [w / sum(weights) for w in weights]

    def entropy(self, tau=1):  # noqa: D102
        return -sum(p * p.ln() for p in self.softmax(tau) if p > 0)


def exact_renyi(p, t):
    p = [Decimal(float(v)) for v in p]
    p = [v / sum(p) for v in p if v > 0]
    if t == INF:
        return -max(p).ln()
    if t == 1:
        return -sum(v * v.ln() for v in p)
    t = Decimal(t)
    return sum((v.ln() * t).exp() for v in p).ln() / (1 - t)


def assert_sides(sides, exact):
    """Check that both sides lie within their stated rounding of the exact ones."""
    for side, rounding, value in zip(sides[:2], sides[2:], exact, strict=True):
        if value is None:
            assert np.isinf(side)
        else:
            own = abs(value) / 10**40  # what 50 digits leave of this sum
            assert abs(Decimal(float(side)) - value) <= Decimal(float(rounding)) + own + NOTHING


@pytest.fixture
def digits():
    with localcontext() as context:
        context.prec = 50
        yield context


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50, 300])
@pytest.mark.usefixtures("digits")
def test_sides_from_a_row_are_within_their_rounding(n):
    for x in sample(1, n, 5)[0]:
        if np.all(x == -INF):
            continue
        (rows,), e = _rows.read(-1, x=x), Exact(x)
        log_n = e.n.ln()
        assert_sides(_from_row.basic_sides(rows), (e.max, e.max + log_n))
        low = e.mean + log_n
        assert_sides(_from_row.mean_sides(rows), (low, low + e.range**2 / 8))
        a = Decimal("0.375")
        high = a + sum((1 + (v - a).exp()).ln() for v in e.x)
        assert_sides(_from_row.bouchard_sides(rows, np.asarray(0.375)), (None, high))
        for k in {1, max(1, n // 2), n}:
            kept = sorted(e.x, reverse=True)
            head = Exact(kept[:k]).lse()
            rest = (len(kept) - k) * (kept[k] - head).exp() if k < len(kept) else Decimal(0)
            assert_sides(_from_row.top_k_sides(rows, k), (head, head + (1 + rest).ln()))


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50, 300])
@pytest.mark.parametrize("t", [1.0, 1.0 + 1e-12, 1.001, 2.0, 3.5, 100.0, INF])
@pytest.mark.usefixtures("digits")
def test_sides_from_a_distribution_are_within_their_rounding(n, t):
    x, _, p = sample(2, n, 4, masked=False)
    p[0], p[1, : n // 2] = 0.0, 0.0
    p[0, 0] = 1.0
    for row, weights in zip(x, p / p.sum(axis=1, keepdims=True), strict=True):
        rows, q = _from_distribution.read_distribution(row, weights, -1)
        exact_p = [Decimal(float(v)) for v in weights]
        mean = sum(a * Decimal(float(b)) for a, b in zip(exact_p, row, strict=True)) / sum(exact_p)
        with localcontext() as context:
            context.prec = 90  # 1 / (t - 1)
            lower = mean + exact_renyi(weights, t)
        assert_sides(_from_distribution.hoelder_sides(rows, q, t), (lower, None))


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50])
@pytest.mark.usefixtures("digits")
def test_sides_from_a_pair_are_within_their_rounding(n):
    x, y, _ = sample(3, n, 6, masked=False)
    x[0], x[1], x[2] = 1e8, 1e8 + x[1], y[2] + 1e8  # differences that are rounded
    for row, other in zip(x, y, strict=True):
        rows, others = _from_pair.read_pair(row, other, -1)
        e, o = Exact(row), Exact(other)
        d = Exact([0])
        d.x = [a - b for a, b in zip(e.x, o.x, strict=True)]
        low, high = min(d.x), max(d.x)
        assert_sides(_from_pair.difference_sides(rows, others), (low, high))
        most = max(abs(low), abs(high))
        assert_sides(_from_pair.lipschitz_sides(rows, others), (-most, most))
        square = Decimal("0.25") * Decimal("0.75") * (high - low) ** 2 / 8
        assert_sides(_from_pair.convexity_sides(rows, others, 0.25), (Decimal(0), square))
        for tau in (1.0, 0.3, 20.0):
            step = sum(p * c for p, c in zip(o.softmax(tau), d.x, strict=True))
            start = o.lse(tau) + step
            end = start + sum(c * c for c in d.x) / (4 * Decimal(tau))
            assert_sides(_from_expansion.quadratic_sides(rows, others, tau), (start, end))
            if tau == 1.0:
                end = start + (high - low) ** 2 / 8
                assert_sides(_from_expansion.tangent_sides(rows, others), (start, end))


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("tau", [1e-3, 0.3, 1.0, 7.0])
@pytest.mark.usefixtures("digits")
def test_sides_at_a_temperature_are_within_their_rounding(n, tau):
    for x in sample(4, n, 5)[0]:
        if np.all(x == -INF):
            continue
        (rows,), e = _rows.read(-1, x=x), Exact(x)
        log_n = e.n.ln()
        t = Decimal(tau)
        assert_sides(_from_temperature.tempered_sides(rows, tau), (e.max, e.max + t * log_n))
        assert_sides(_from_temperature.tempered_mean_sides(rows, tau), (e.mean, e.max))
        sides = [(t - 2) * e.entropy(2), (t - 2) * e.entropy(tau)]
        assert_sides(_from_temperature.tempered_difference_sides(rows, tau, 2.0), sides)
        multiple, shift = t * e.lse(), (1 - t) * log_n
        sides = [multiple + min(shift, Decimal(0)), multiple + max(shift, Decimal(0))]
        lse = _rows.log_sum_exp(rows.values)
        assert_sides(_from_temperature.scaled_sides(rows, tau, *lse), sides)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50])
@pytest.mark.usefixtures("digits")
def test_sides_of_softmax_are_within_their_rounding(n):
    x, y, _ = sample(5, n, 6, masked=False)
    x[0], x[1], y[2] = 1e8, 1e8 + x[1], 1e8 + y[2]  # differences that are rounded
    for row, other in zip(x, y, strict=True):
        rows, others = _from_pair.read_pair(row, other, -1)
        u = Exact(other)
        quarter = (Decimal(0), u.range**2 / 4)
        assert_sides(_from_softmax.variance_sides(rows, other), quarter)
        centred = sum((v - u.mean) ** 2 for v in u.x) / 2
        assert_sides(_from_softmax.boehning_sides(rows, other), (Decimal(0), centred))
        half = sum(v * v for v in u.x) / 2
        assert_sides(_from_softmax.hessian_sides(rows, other), (Decimal(0), half))
        d = [Decimal(float(a)) - Decimal(float(b)) for a, b in zip(row, other, strict=True)]
        spread = max(d) - min(d)
        norms = {1: spread, 2: sum(v * v for v in d).sqrt(), INF: max(abs(v) for v in d)}
        for ord, norm in norms.items():
            sides = _from_softmax.softmax_lipschitz_sides(rows, others, ord)
            assert_sides(sides, (Decimal(0), norm / 2))
        tanh = ((spread / 2).exp() - 1) / ((spread / 2).exp() + 1)
        sides = _from_softmax.total_variation_sides(rows, others)
        assert_sides(sides, (Decimal(0), tanh))


def test_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, y, p = (v.astype(bfloat16) for v in sample(20, 6, 200, masked=False))
    report = bounds.certify(x, y=y, p=p, t=1.5, tau=0.7)
    assert report.holds, f"{report}\n{report.worst}"
    assert bounds.basic(x).upper.dtype == bfloat16
    value = logsumexp(x, axis=1)
    step = value * bfloat16(2.0**-5)  # four units in the last place, at least
    assert not bounds.certify(x, y=x, logsumexp=value + step)["difference"].holds.any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("n", range(1, 12))
def test_all_hold_on_random_rows(n, dtype):
    # 20,000 rows for each type: 11 lengths of 1,820 rows, scales from 0.1 to 30.
    x, y, p = sample(6, n, 1820)
    report = bounds.certify(x.astype(dtype), y=y, p=p, t=1.5, tau=0.7, k=1 + n // 3, weight=0.3)
    assert report.holds, f"{report}\n{report.worst}"
    assert len(report.checks) == 25


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 5, 64, 1000])
def test_all_hold_where_they_are_sharp(n, dtype):
    rng = np.random.default_rng(n)
    x = (3.0 * rng.normal(size=(200, n))).astype(dtype)
    x[:20] = x[:20, :1]  # equal entries
    weights = np.exp(x.astype(np.float64) - logsumexp(x.astype(np.float64), axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    for y in (x, x + dtype(1.0), x + rng.normal(size=x.shape).astype(dtype) * dtype(1e-4)):
        for tau in (0.5, 1.0, 1.0 + 1e-9):
            report = bounds.certify(x, y=y, p=p, t=1.0 + 1e-9, tau=tau, k=n)
            assert report.holds, f"{report}\n{report.worst}"
    assert report["entropy"].lower_gap.max() < 1e-5


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ROWS)
def test_all_hold_on_special_rows(name, dtype):
    with np.errstate(over="ignore"):
        x = np.array(ROWS[name], dtype)
    y, p = np.linspace(-3.0, 4.0, x.size), np.full(x.size, 1.0 / max(x.size, 1))
    options = {"p": p, "t": 3.0} if x.size else {}
    for tau in (None, 1e-3, 0.5, 1e3):
        report = bounds.certify(x, y=y, tau=tau, **options)
        assert report.holds, f"{report}\n{report.worst}"
    if np.isfinite(x[x > -INF]).all():
        assert bounds.certify(y.astype(dtype), y=x, tau=0.5, **options).holds
        assert bounds.certify(x, y=x, tau=0.5, **options).holds


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 33, 64, 129, 1000])
def test_all_hold_for_the_kernels_of_each_instruction_set(isa, n, dtype):
    x, _, _ = sample(19, n, 60)
    x[:5] = x[:5, :1]  # equal entries
    x[5], x[6], x[7, n // 2], x[8, 0] = -INF, 1e30, NAN, INF
    x[9] -= logsumexp(x[9])  # sums to one
    x = x.astype(dtype)
    result = np.empty(len(x), dtype)
    _cpu.logsumexp(x, 1, result, isa=isa)
    p = reference.softmax(x, axis=1)
    p = np.where(np.isnan(p), 1.0 / n, p)
    y = np.where(np.isfinite(x), x, -INF)
    report = bounds.certify(x, y=y, p=p, t=2.5, tau=1.5, logsumexp=result)
    assert report.holds, f"{report}\n{report.worst}"
    _cpu.logsumexp(np.ascontiguousarray(x.T), 0, result, isa=isa)
    assert bounds.certify(x.T, y=y.T, p=p.T, axis=0, tau=0.5, logsumexp=result).holds


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6) | st.just(-INF) | st.floats(allow_nan=False, allow_infinity=False),
            st.floats(-1e3, 1e3) | st.just(-INF),
            st.floats(0.0, 1.0),
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(1e-3, 1e3),
    st.floats(1.0, 50.0, exclude_min=True),
)
def test_all_hold_on_any_row(entries, tau, t):
    x, y, p = (np.array(column) for column in zip(*entries, strict=True))
    p = p / p.sum() if p.sum() > 1e-300 else np.eye(len(p))[0]
    report = bounds.certify(x, y=y, p=p, t=t, tau=tau, k=len(x))
    assert report.holds, f"{report}\n{report.worst}"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shift", [1e-3, -1e-3])
def test_a_shifted_log_sum_exp_is_caught_in_every_row(dtype, shift):
    x = sample(7, 6, 100, masked=False)[0].astype(dtype)
    report = bounds.certify(x, y=x, logsumexp=logsumexp(x, axis=1) + dtype(shift))
    assert not report.holds
    assert not report["difference"].holds.any()
    assert report.worst.excess > 1.0
    assert "FAIL" in str(report)


@pytest.mark.parametrize("ulps", [-3, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("row", [[0.7], [-INF, 12.25, -INF], [1e30], [-3e-5]])
def test_three_ulps_are_caught_where_only_one_entry_counts(row, dtype, ulps):
    x = np.array(row, dtype)
    value = x.max()
    assert bounds.certify(x, logsumexp=value).holds
    report = bounds.certify(x, logsumexp=value + dtype(ulps) * np.spacing(abs(value)))
    assert not report["basic"].holds
    assert report.worst.name in {"basic", "mean", "top_k k=1"}


@pytest.mark.parametrize("ulps", [-2, 2])
def test_two_ulps_of_float32_are_caught_in_any_row(ulps):
    x = sample(8, 40, 50, masked=False)[0].astype(np.float32)
    exact = logsumexp(x.astype(np.float64), axis=1).astype(np.float32)
    assert bounds.certify(x, y=x, logsumexp=exact, ulps=0.51).holds
    wrong = exact + np.float32(ulps) * np.spacing(np.abs(exact))
    assert not bounds.certify(x, y=x, logsumexp=wrong)["difference"].holds.any()
    assert bounds.certify(x, y=x, logsumexp=wrong, ulps=3.0).holds


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ([-INF, -INF], 0.0),
        ([-INF, -INF], NAN),
        ([INF, 0.0], 1e308),
        ([INF, 0.0], NAN),
        ([NAN, 0.0], 0.0),
        ([NAN, 0.0], INF),
        ([], 0.0),
        ([0.0, 1.0], NAN),
        ([0.0, 1.0], -INF),
        ([0.0, 1.0], INF),
    ],
)
def test_wrong_special_values_are_caught(row, wrong):
    assert bounds.certify(np.array(row)).holds
    assert not bounds.certify(np.array(row), logsumexp=wrong).holds


def test_a_wrong_softmax_is_caught(monkeypatch):
    norms = ["total_variation", *(f"softmax_lipschitz ord={ord}" for ord in (1, 2, INF))]
    x = np.array([0.0, 0.0])
    report = bounds.certify(x, y=x)
    assert all(report[name].holds for name in norms)
    results = iter([np.array([0.5, 0.5]) + 1e-14, np.array([0.5, 0.5])])  # of x, of y
    monkeypatch.setattr(_certify, "softmax", lambda x, axis: next(results))
    report = bounds.certify(x, y=x)
    assert not any(report[name].holds for name in norms)


@pytest.mark.parametrize("name", ["variance", "boehning", "hessian"])
def test_a_softmax_of_too_much_mass_is_caught(monkeypatch, name):
    x, y = np.array([0.0, 0.0]), np.array([1.0, -1.0])  # where all but the last are sharp
    assert bounds.certify(x, y=y)[name].holds
    monkeypatch.setattr(_certify, "softmax", lambda x, axis: np.array([1.0, 1.0]))
    assert not bounds.certify(x, y=y)[name].holds


@pytest.mark.parametrize("name", ["tempered", "tempered_mean", "tempered_difference", "quadratic"])
@pytest.mark.parametrize("shift", [1e-12, -1e-12])
def test_a_wrong_smooth_maximum_is_caught(monkeypatch, name, shift):
    x = np.array([0.3, 0.3])
    right = _certify.smooth_max
    monkeypatch.setattr(_certify, "smooth_max", lambda *a, **k: right(*a, **k) + shift)
    x = x[:1] if name == "tempered" else x
    assert not bounds.certify(x, y=x, tau=2.0)[f"{name} tau=2"].holds


def test_a_wrong_sum_of_pair_or_scale_is_caught():
    x = np.array([0.3, 0.3])
    report = bounds.certify(x, y=x, tau=0.5, logsumexp=logsumexp(x) * (1.0 - 1e-12))
    names = ["tangent", "quadratic", "difference", "lipschitz", "convexity w=0.5", "scaled s=2"]
    assert [report[name].holds.item() for name in names[:4]] == [False] * 4
    assert not report["convexity w=0.5"].holds
    assert not bounds.certify(x[:1], tau=0.5, logsumexp=0.3 - 1e-12)["scaled s=2"].holds
    p = np.array([0.5, 0.5])
    report = bounds.certify(x, p=p, t=7.0, logsumexp=logsumexp(x) - 1e-12)
    for name in ("entropy", "cauchy", "hoelder t=7", "hoelder t=inf", "mean", "top_k k=1"):
        assert report[name].holds.item() == (name == "top_k k=1"), name
    far = bounds.certify([0.0, -50.0], logsumexp=math.log(5.0))
    assert not far["top_k k=1"].holds
    assert not bounds.certify([0.0, -50.0], logsumexp=0.7)["bouchard"].holds


CALLS = {
    "basic": lambda x, y, p, **k: bounds.basic(x, **k),
    "mean": lambda x, y, p, **k: bounds.mean(x, **k),
    "bouchard": lambda x, y, p, **k: bounds.bouchard(x, 0.5, **k),
    "top_k": lambda x, y, p, **k: bounds.top_k(x, k=2, **k),
    "entropy": lambda x, y, p, **k: bounds.entropy(x, p, **k),
    "cauchy": lambda x, y, p, **k: bounds.cauchy(x, p, **k),
    "hoelder": lambda x, y, p, **k: bounds.hoelder(x, p, t=3.0, **k),
    "difference": lambda x, y, p, **k: bounds.difference(x, y, **k),
    "lipschitz": lambda x, y, p, **k: bounds.lipschitz(x, y, **k),
    "convexity": lambda x, y, p, **k: bounds.convexity(x, y, **k),
    "tangent": lambda x, y, p, **k: bounds.tangent(x, y, **k),
    "quadratic": lambda x, y, p, **k: bounds.quadratic(x, y, **k),
    "tempered": lambda x, y, p, **k: bounds.tempered(x, tau=0.5, **k),
    "tempered_mean": lambda x, y, p, **k: bounds.tempered_mean(x, tau=0.5, **k),
    "tempered_difference": lambda x, y, p, **k: bounds.tempered_difference(x, tau=0.5, **k),
    "scaled": lambda x, y, p, **k: bounds.scaled(x, s=3.0, **k),
    "variance": lambda x, y, p, **k: bounds.variance(x, y, **k),
    "boehning": lambda x, y, p, **k: bounds.boehning(x, y, **k),
    "hessian": lambda x, y, p, **k: bounds.hessian(x, y, **k),
    "softmax_lipschitz": lambda x, y, p, **k: bounds.softmax_lipschitz(x, y, **k),
    "total_variation": lambda x, y, p, **k: bounds.total_variation(x, y, **k),
}


def test_every_bound_is_called_here():
    functions = {name for name in bounds.__all__ if name[0].islower()} - {"certify"}
    assert functions == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_type_shape_and_axis(name, dtype):
    x, y, p = (v.reshape(4, 5, 6).astype(dtype) for v in sample(9, 6, 20, masked=False))
    result = CALLS[name](x, y, p)
    assert type(result) is bounds.Bounds
    for side, other in zip(
        result, CALLS[name](*(np.moveaxis(v, -1, 0) for v in (x, y, p)), axis=0), strict=True
    ):
        assert side.shape == (4, 5)
        assert side.dtype == dtype
        np.testing.assert_array_equal(side, other)
    for side, scalar in zip(result, CALLS[name](x[1, 2], y[1, 2], p[1, 2]), strict=True):
        assert np.ndim(scalar) == 0
        assert scalar == side[1, 2]
    strided = CALLS[name](*(np.repeat(v, 2, axis=-1)[..., ::2] for v in (x, y, p)))
    np.testing.assert_array_equal(strided, result)


@pytest.mark.parametrize("name", CALLS)
def test_integers_are_computed_in_float64(name):
    x, y, p = [3, 1, 2], [0, 1, 0], [0, 1, 0]
    for side in CALLS[name](x, y, p):
        assert side.dtype == np.float64


@pytest.mark.parametrize("name", CALLS)
def test_a_masked_entry_is_one_that_is_not_there(name):
    x, y, p = sample(10, 4, 20, masked=False)
    hidden, zero = np.full((20, 1), -INF), np.zeros((20, 1))
    visible = CALLS[name](x, y, p)
    fill = zero if name in {"variance", "boehning", "hessian"} else hidden
    masked = CALLS[name](
        np.concatenate([x[:, :2], hidden, x[:, 2:]], axis=1),
        np.concatenate([y[:, :2], fill, y[:, 2:]], axis=1),
        np.concatenate([p[:, :2], zero, p[:, 2:]], axis=1),
    )
    for side, other in zip(visible, masked, strict=True):
        np.testing.assert_allclose(side, other, rtol=1e-14)


@pytest.mark.parametrize("name", ["difference", "lipschitz", "convexity", "tangent", "quadratic"])
def test_a_step_to_a_mask_is_the_limit(name):
    x, y = [1.0, 2.0, 0.5], [0.0, 1.0, 3.0]
    far = CALLS[name]([*x[:2], -1e200], y, None)
    gone = CALLS[name]([*x[:2], -INF], y, None)
    for side, limit in zip(far, gone, strict=True):
        assert limit == (side if abs(side) < 1e100 else np.sign(side) * INF)
    assert bounds.softmax_lipschitz([0.0, -INF], [0.0, 0.0]).upper == INF
    assert bounds.total_variation([0.0, -INF], [0.0, 0.0]).upper == 1.0


@pytest.mark.parametrize("name", CALLS)
def test_rows_of_nothing_and_no_rows(name):
    empty = np.zeros((0, 3))
    for side in CALLS[name](empty, empty, empty):
        assert side.shape == (0,)
    hidden, p = np.full((1, 3), -INF), np.array([[0.2, 0.3, 0.5]])
    result = CALLS[name](hidden, np.zeros((1, 3)), p)
    assert all(np.isnan(result).ravel()) or result.lower[0] <= result.upper[0]


@pytest.mark.parametrize("name", CALLS)
def test_nan_propagates(name):
    result = CALLS[name]([NAN, 1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.5])
    assert np.isnan(result).all()


EQUAL = [
    ("basic, one", lambda: (bounds.basic([0.3]), 0.3)),
    ("basic, equal: right", lambda: (bounds.basic([0.3, 0.3])[1:], logsumexp([0.3, 0.3]))),
    ("mean", lambda: (bounds.mean([0.3, 0.3, -INF]), logsumexp([0.3, 0.3]))),
    ("top_k, all", lambda: (bounds.top_k([1.0, 0.5], k=2), logsumexp([1.0, 0.5]))),
    (
        "top_k, equal rest",
        lambda: (bounds.top_k([1.0, 0.5, 0.5], k=1)[1:], logsumexp([1, 0.5, 0.5])),
    ),
    ("difference", lambda: (bounds.difference([1.0, 3.0], [0.5, 2.5]), 0.5)),
    ("convexity", lambda: (bounds.convexity([1.0, 3.0], [0.5, 2.5]), 0.0)),
    ("tangent", lambda: (bounds.tangent([1.0, 3.0], [0.5, 2.5]), logsumexp([1.0, 3.0]))),
    ("quadratic", lambda: (bounds.quadratic([1.0, 3.0], [1.0, 3.0]), logsumexp([1.0, 3.0]))),
    ("tempered_mean", lambda: (bounds.tempered_mean([2.0, 2.0], tau=3.0), 2.0)),
    ("tempered_difference", lambda: (bounds.tempered_difference([2.0, 1.0], tau=1.0), 0.0)),
    ("scaled, one", lambda: (bounds.scaled([0.3], s=2.0), 0.6)),
    ("scaled, s = 1", lambda: (bounds.scaled([0.3, 1.0], s=1.0), logsumexp([0.3, 1.0]))),
    (
        "cauchy",
        lambda: (bounds.cauchy([1.0, 1.0, -INF], [0.5, 0.5, 0.0])[:1], logsumexp([1.0, 1.0])),
    ),
    ("variance", lambda: (bounds.variance([0.0, 0.0, -INF], [1.0, -1.0, 9.0])[1:], 1.0)),
    ("boehning", lambda: (bounds.boehning([0.0, 0.0], [1.0, -1.0])[1:], 1.0)),
    ("hessian", lambda: (bounds.hessian([0.0, 0.0], [1.0, -1.0])[1:], 1.0)),
    (
        "total_variation",
        lambda: (bounds.total_variation([1.0, -1.0], [-1.0, 1.0])[1:], math.tanh(1.0)),
    ),
    (
        "total_variation, masked",
        lambda: (bounds.total_variation([0.0, -INF], [-INF, 0.0])[1:], 1.0),
    ),
]


@pytest.mark.parametrize(("name", "case"), EQUAL, ids=[name for name, _ in EQUAL])
def test_equal_where_the_docstring_says_so(name, case):
    sides, value = case()
    for side in sides:
        assert float(side) == pytest.approx(float(value), rel=1e-15, abs=1e-15)


def test_total_variation_of_two_entries_is_the_tanh():
    # sigmoid(1) - sigmoid(-1) = tanh(1/2), for a range of 2.
    p = np.exp([0.5, -0.5]) / np.exp([0.5, -0.5]).sum()
    assert bounds.total_variation([0.5, -0.5], [-0.5, 0.5]).upper == pytest.approx(abs(p[0] - p[1]))


def test_entropy_is_the_conjugate():
    x, _, p = sample(11, 7, 50, masked=False)
    lse = logsumexp(x, axis=1, keepdims=True)
    q = np.exp(x - lse)
    divergence = np.sum(np.where(p > 0.0, p * (np.log(p) - (x - lse)), 0.0), axis=1)
    np.testing.assert_allclose(lse[:, 0] - bounds.entropy(x, p).lower, divergence, rtol=1e-9)
    q /= q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(bounds.entropy(x, q).lower, lse[:, 0], rtol=1e-13)


def test_hoelder_falls_with_the_order_from_entropy_to_its_limit():
    x, _, p = sample(12, 7, 50, masked=False)
    orders = [1.0 + 1e-9, 1.1, 1.5, 2.0, 5.0, 100.0, 1e6, 1e300, INF]
    lowers = [bounds.hoelder(x, p, t=t).lower for t in orders]
    assert np.all(np.diff(lowers, axis=0) <= 1e-13)
    np.testing.assert_allclose(lowers[0], bounds.entropy(x, p).lower, rtol=1e-7)
    np.testing.assert_array_equal(lowers[3], bounds.cauchy(x, p).lower)
    np.testing.assert_allclose(lowers[-2], lowers[-1], rtol=1e-14)
    mean = np.sum(p * x, axis=1)
    np.testing.assert_allclose(lowers[-1], mean - np.log(p.max(axis=1)), rtol=1e-13)


@pytest.mark.parametrize("t", [0.5, 0.9, -1.0])
def test_below_order_one_the_inequality_is_false(t):
    # That is why it is refused. p = softmax(x) leaves no room, and the term is too large.
    x = np.array([1.0, 0.0, -1.0])
    p = np.exp(x - logsumexp(x))
    assert logsumexp(x) < np.sum(p * x) - np.log(np.sum(p**t)) / (t - 1.0) - 1e-3


def test_sharper_bounds_are_sharper():
    x, y, _ = sample(13, 6, 200, masked=False)
    norm, centred, spread = (
        f(x, y).upper for f in (bounds.hessian, bounds.boehning, bounds.variance)
    )
    assert np.all(spread <= centred * (1 + 1e-14))
    assert np.all(centred <= norm * (1 + 1e-14))
    assert np.all(bounds.tangent(x, y).upper <= bounds.quadratic(x, y).upper + 1e-12)
    half = bounds.softmax_lipschitz(x, y, ord=1).upper
    assert np.all(2.0 * bounds.total_variation(x, y).upper <= half * (1 + 1e-14))
    signed, unsigned = bounds.difference(x, y), bounds.lipschitz(x, y)
    assert np.all((unsigned.lower <= signed.lower) & (signed.upper <= unsigned.upper))


@pytest.mark.parametrize("s", [0.2, 1.0, 4.0])
def test_scaling_holds_on_both_sides_of_one(s):
    x = sample(14, 5, 200)[0]
    lower, upper = bounds.scaled(x, s=s)
    value = logsumexp(s * x, axis=1)
    assert np.all((lower <= value + 1e-12) & (value <= upper + 1e-12))


def test_article_bound_is_not_strict():
    assert bounds.basic([0.0]).lower == logsumexp([0.0])
    assert bounds.basic([0.0, -800.0]).lower == logsumexp([0.0, -800.0])


@pytest.mark.parametrize("t", [1.0, 0.5, 0.0, -2.0, NAN, -INF])
def test_orders_up_to_one_are_refused(t):
    with pytest.raises(ValueError, match=r"t > 1, not .*: below 1 the inequality is false"):
        bounds.hoelder([0.0, 1.0], [0.5, 0.5], t=t)
    with pytest.raises(ValueError, match="below 1 the inequality is false"):
        bounds.certify([0.0, 1.0], p=[0.5, 0.5], t=t)
    with pytest.raises(ValueError, match="below 1 the inequality is false"):
        bounds.certify([0.0, 1.0], t=t)


def test_p_off_the_simplex_is_refused():
    x, p = np.zeros((2, 3, 2)), np.full((2, 3, 2), 0.5)
    p[1, 2] = [0.5, 0.75]
    for call in (bounds.entropy, bounds.cauchy, lambda x, p: bounds.certify(x, p=p)):
        with pytest.raises(ValueError, match=r"row 1, 2 of p sums to 1\.25, not to 1: divide it"):
            call(x, p)
    p[1, 2] = [1.5, -0.5]
    with pytest.raises(ValueError, match=r"entry 1 of row 1, 2 of p is -0\.5: expected a prob"):
        bounds.entropy(x, p)
    p[1, 2] = [NAN, 0.5]
    with pytest.raises(ValueError, match=r"entry 0 of row 1, 2 of p is nan"):
        bounds.entropy(x, p)
    with pytest.raises(ValueError, match=r"^p sums to 0\.9, not to 1"):
        bounds.entropy([0.0, 0.0], [0.4, 0.5])


def test_p_in_float32_may_sum_to_one_in_float32():
    p = np.random.default_rng(0).dirichlet(np.ones(1000)).astype(np.float32)
    x = np.zeros(1000)
    assert bounds.entropy(x, p).lower <= logsumexp(x)
    with pytest.raises(ValueError, match="divide it by its sum"):
        bounds.entropy(x, p.astype(np.float64) * (1.0 + 1e-6))


@pytest.mark.parametrize("tau", [0.0, -1.0, NAN, INF])
def test_bad_temperatures_are_refused(tau):
    for call in (bounds.tempered, bounds.tempered_mean, bounds.tempered_difference, bounds.certify):
        with pytest.raises(ValueError, match=f"tau > 0 and finite, not {tau}"):
            call([0.0, 1.0], tau=tau)
    with pytest.raises(ValueError, match="other > 0"):
        bounds.tempered_difference([0.0, 1.0], tau=1.0, other=tau)
    with pytest.raises(ValueError, match="s > 0"):
        bounds.scaled([0.0, 1.0], s=tau)
    with pytest.raises(ValueError, match="tau > 0"):
        bounds.quadratic([0.0, 1.0], [0.0, 1.0], tau=tau)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="k from 1 to the 2 entries of a row, not 3"):
        bounds.top_k([0.0, 1.0], k=3)
    with pytest.raises(ValueError, match="k from 1 to the 2 entries of a row, not 0"):
        bounds.certify([0.0, 1.0], k=0)
    for weight in (0.0, 1.0, NAN, -0.5):
        with pytest.raises(ValueError, match="weight between 0 and 1"):
            bounds.convexity([0.0, 1.0], [0.0, 1.0], weight=weight)
    for bad in (NAN, INF):
        message = rf"entry 1 of row 1 of y is {bad}: expected a finite number, or -inf"
        for call in (bounds.difference, bounds.tangent, lambda x, y: bounds.certify(x, y=y)):
            with pytest.raises(ValueError, match=message):
                call(np.zeros((2, 2)), [[0.0, 0.0], [0.0, bad]])
    with pytest.raises(ValueError, match="entry 1 of u is inf: expected a finite number, as x is"):
        bounds.variance([0.0, 1.0], [0.0, INF])
    with pytest.raises(ValueError, match="finite a, not nan"):
        bounds.bouchard([0.0, 1.0], NAN)
    with pytest.raises(ValueError, match=r"cannot broadcast a of shape \(3,\) to the \(2,\) rows"):
        bounds.bouchard(np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="ord to be 1, 2 or inf, not 3"):
        bounds.softmax_lipschitz([0.0], [0.0], ord=3)
    with pytest.raises(ValueError, match=r"x of shape \(2,\) and y of shape \(3,\)"):
        bounds.difference([0.0, 0.0], [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"logsumexp of shape \(2,\), not \(3,\)"):
        bounds.certify(np.zeros((2, 2)), logsumexp=np.zeros(3))
    with pytest.raises(TypeError, match="x of real numbers of at most 64 bits, not complex128"):
        bounds.basic([1j])
    with pytest.raises(np.exceptions.AxisError):
        bounds.basic([1.0], axis=1)
    with pytest.raises(np.exceptions.AxisError):
        bounds.basic(1.0)
    with pytest.raises(KeyError, match="no check 'nothing', only basic"):
        bounds.certify([0.0])["nothing"]


def test_arguments_are_broadcast():
    x, y, p = sample(15, 5, 6, masked=False)
    report = bounds.certify(x[:, None], y=y[None], p=p[0], axis=-1)
    assert report.shape == (6, 6)
    assert report.holds
    lower, upper = bounds.difference(x[:, None], y[None])
    np.testing.assert_array_equal(lower[2, 3], bounds.difference(x[2], y[3]).lower)
    np.testing.assert_array_equal(upper[2, 3], bounds.difference(x[2], y[3]).upper)
    np.testing.assert_array_equal(report["difference"].lower, lower)


def test_report_names_the_worst_row():
    x = sample(16, 5, 12, masked=False)[0].reshape(3, 4, 5)
    value = logsumexp(x, axis=-1)
    value[2, 1] += 1e-6
    report = bounds.certify(x, y=x, logsumexp=value)
    assert not report.holds
    assert report.worst.row == (2, 1)
    assert report.worst.value > report.worst.upper
    check = report[report.worst.name]
    assert np.argwhere(~check.holds).tolist() == [[2, 1]]
    np.testing.assert_array_equal(check.upper_gap, check.upper - check.value)
    np.testing.assert_array_equal(check.lower_gap, check.value - check.lower)
    lines = str(report).splitlines()
    assert lines[0].startswith(f"{len(report.checks)} bounds on 12 rows: ")
    assert len(lines) == len(report.checks) + 2
    nothing = bounds.certify(x[:0])
    assert nothing.holds
    assert "on 0 rows: all hold" in str(nothing)
    with pytest.raises(ValueError, match="no row to be the worst"):
        _ = nothing.worst


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_certify_along_any_axis(axis):
    x, y, p = (v.reshape(20, 3, 4) for v in sample(17, 12, 20, masked=False))
    p = p / p.sum(axis=axis, keepdims=True)
    report = bounds.certify(x.astype(np.float32), y=y, p=p, axis=axis, tau=2.0)
    assert report.holds
    assert report.shape == tuple(np.delete(x.shape, axis))

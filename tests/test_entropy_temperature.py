"""logitkit.entropy_temperature and its derivative."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitkit import _entropy_temperature as module
from logitkit import entropy_temperature, entropy_temperature_vjp, reference
from logitkit._entropy_solver import Landscape, solve

INF, NAN = np.inf, np.nan


def entropy(x, temperature, axis=-1):
    """Entropy of softmax(x / temperature), in nats."""
    z = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    z = (z - z.max(axis=-1, keepdims=True)) / np.asarray(temperature)[..., None]
    weights = np.exp(z)
    total = weights.sum(axis=-1)
    return np.log(total) - (weights * np.where(weights > 0.0, z, 0.0)).sum(axis=-1) / total


def allowed(n):
    """How far the entropy may miss its target, by the docstring."""
    return 2.0**-48 * (1.0 + math.log(n))


def rows(kind, n=100, count=50):
    rng = np.random.default_rng(len(kind))
    x = rng.normal(size=(count, n))
    if kind == "normal * 1000":
        x *= 1000.0
    elif kind == "normal / 1e6":
        x *= 1e-6
    elif kind == "one high":
        x = np.zeros((count, n))
        x[:, 0] = rng.uniform(1.0, 100.0, count)
    elif kind == "one low":
        x *= 1e-3
        x[:, 0] = -100.0
    elif kind == "peaky":
        x *= 1e-3
        x[:, 0] += 50.0
    elif kind == "heavy tail":
        x = -(rng.exponential(size=(count, n)) ** 6)
    elif kind == "ties":
        x[:, ::20] = 5.0
    elif kind == "close second":
        x[:, 1] = x.max(axis=1) + 1.0
        x[:, 0] = x[:, 1] + 1e-9
    elif kind == "masked":
        x[:, 1::3] = -INF
    elif kind == "huge":
        x = x * 1e290
    elif kind == "far from zero":
        x += 1e6
    return x


KINDS = [
    "normal",
    "normal * 1000",
    "normal / 1e6",
    "one high",
    "one low",
    "peaky",
    "heavy tail",
    "ties",
    "close second",
    "masked",
    "huge",
    "far from zero",
]
# Shares of the way from log(ties) to log(n).
SHARES = [1e-12, 1e-6, 1e-2, 0.3, 0.5, 0.7, 0.934, 0.99, 1.0 - 1e-6, 1.0 - 1e-12]


def limits(x):
    ties = np.sum(x == x.max(axis=-1, keepdims=True), axis=-1)
    return np.log(ties), np.log(np.sum(x > -INF, axis=-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", SHARES)
def test_reaches_the_target(kind, share):
    x = rows(kind)
    low, high = limits(x)
    target = low + share * (high - low)
    temperature = entropy_temperature(x, target)
    assert np.all((temperature > 0.0) & np.isfinite(temperature))
    assert np.max(np.abs(entropy(x, temperature) - target)) <= allowed(100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", SHARES)
def test_few_iterations(kind, share):
    # Newton's method from the limit of high temperatures; bisection alone takes about 60.
    x = rows(kind)
    low, high = limits(x)
    with np.errstate(all="ignore"):
        solution = solve(Landscape.of(x), low + share * (high - low), 2.0**-52)
    assert solution.iterations.max() <= 30
    assert solution.iterations.mean() <= 20


def test_peaky_start_of_the_plain_iteration():
    # The iteration 1 + (H* - H) / (H^2 - E[log(p)^2]) gives NaN here.
    for peak in (10.0, 50.0, 1e3, 1e6):
        x = np.r_[peak, np.random.default_rng(0).normal(size=99)]
        assert entropy(x, entropy_temperature(x, 4.30)) == pytest.approx(4.30, abs=allowed(100))


def test_two_entries_in_closed_form():
    # p = sigmoid(d / tau) of two logits d apart.
    for p in (0.5 + 1e-3, 0.6, 0.9, 0.999, 1.0 - 1e-9):
        target = -p * math.log(p) - (1.0 - p) * math.log1p(-p)
        exact = 3.0 / math.log(p / (1.0 - p))
        result = entropy_temperature([3.0, 0.0], target)
        assert float(result) == pytest.approx(exact, rel=1e-9 if p < 0.51 else 1e-12)


@pytest.mark.parametrize("gap", [1e-3, 1e-20, 1e-209, 1e-300])
def test_second_entry_just_below_the_first(gap):
    # The entropy stays at log(2) over many orders of magnitude, where its slope is zero.
    x = np.array([gap, 0.0, -1.0])
    for target in (0.8, 0.6931471805599454, 0.6931471805599452, 0.5, 1e-3):
        temperature = float(entropy_temperature(x, target))
        scale = 1.0 if target > 0.694 else temperature
        assert float(entropy(x / scale, temperature / scale)) == pytest.approx(
            target, abs=allowed(3)
        )
    with np.errstate(all="ignore"):
        solution = solve(Landscape.of(x[None]), np.array([0.5]), 2.0**-52)
    assert solution.iterations[0] <= 30


def test_tiny_targets_keep_their_digits():
    # n - 1 entries lie d below one: H = log1p(r) + r d / (tau (1 + r)), r = (n - 1) exp(-d / tau).
    x = np.zeros(11)
    x[0] = 7.0
    for tau in (0.03, 0.1, 0.5, 1.0):
        r = 10.0 * math.exp(-7.0 / tau)
        target = math.log1p(r) + r * 7.0 / tau / (1.0 + r)
        assert float(entropy_temperature(x, target)) == pytest.approx(tau, rel=1e-13)


def test_agrees_with_bisection():
    x = rows("normal", n=10)
    target = np.random.default_rng(1).uniform(0.01, 2.29, len(x))
    expected = reference.entropy_temperature(x, target)
    np.testing.assert_allclose(entropy_temperature(x, target), expected, rtol=1e-10)
    x[:, 3] = -INF
    expected = reference.entropy_temperature(x, 1.0)
    np.testing.assert_allclose(entropy_temperature(x, 1.0), expected, rtol=1e-12)


def test_masked_entries_are_not_there():
    x = rows("normal", n=10)
    hidden = np.full((len(x), 3), -INF)
    together = np.concatenate([x[:, :4], hidden, x[:, 4:]], axis=1)
    expected = entropy_temperature(x, 1.3)
    np.testing.assert_allclose(entropy_temperature(together, 1.3), expected, rtol=1e-13)


def test_shift_and_scale():
    x = rows("normal", n=10)
    temperature = entropy_temperature(x, 1.3)
    np.testing.assert_array_equal(entropy_temperature(4.0 * x, 1.3), 4.0 * temperature)
    np.testing.assert_allclose(entropy_temperature(x + 100.0, 1.3), temperature, rtol=1e-12)


@given(
    st.lists(st.floats(-50.0, 50.0) | st.just(-INF), min_size=2, max_size=20),
    st.floats(0.0, 1.0),
)
def test_reaches_any_target_of_any_row(values, share):
    x = np.array(values)
    visible = x[x > -INF]
    gaps = visible.max(initial=-INF) - visible[visible < visible.max(initial=-INF)]
    if gaps.size == 0 or gaps.min() < 1e-290 * max(1.0, gaps.max()):
        return  # one level, or digits are lost in underflow
    low, high = limits(x)
    target = low + share * (high - low)
    temperature = float(entropy_temperature(x, target))
    if temperature == 0.0:
        assert target <= low * (1.0 + 1e-15)
    elif temperature == INF:
        assert target >= high * (1.0 - 1e-15)
    else:
        assert float(entropy(x, temperature)) == pytest.approx(target, abs=allowed(x.size))


def test_largest_and_smallest_numbers():
    x = np.array([1.7e308, 0.0, -1.7e308])  # whose differences overflow
    assert float(entropy_temperature(x, 0.3)) == pytest.approx(
        1.7e308 * float(entropy_temperature([1.0, 0.0, -1.0], 0.3)), rel=1e-14
    )
    assert entropy_temperature([5e-324, 0.0], 0.6) == 5e-324
    near = [0.0, 4.6e-308, -2.0]  # of which only two are there at such temperatures
    assert float(entropy_temperature(near, 0.55)) == pytest.approx(
        float(entropy_temperature(near[:2], 0.55)), rel=1e-12
    )
    assert float(entropy_temperature([1e-300, 0.0], 0.3)) == pytest.approx(
        1e-300 * float(entropy_temperature([1.0, 0.0], 0.3)), rel=1e-14
    )


def test_limits():
    x = [2.0, 2.0, 1.0, 0.0]
    assert entropy_temperature(x, math.log(4.0)) == INF
    assert entropy_temperature(x, math.log(2.0)) == 0.0
    assert entropy_temperature([1.0, 0.0], 0.0) == 0.0
    assert 0.0 < entropy_temperature([1.0, 0.0], 5e-324) < 2e-3
    # A target in float32 has the rounding of float32.
    high = np.float32(math.log(4.0))
    assert entropy_temperature(x, high) == INF
    assert entropy_temperature(x, np.float32(math.log(2.0))) == 0.0


def test_equal_entries_have_any_temperature():
    assert entropy_temperature([3.0, 3.0, 3.0], math.log(3.0)) == 1.0
    assert entropy_temperature([3.0], 0.0) == 1.0
    assert entropy_temperature([-INF, 3.0], 0.0) == 1.0
    assert entropy_temperature([-INF, -INF], 0.0) == 1.0
    assert entropy_temperature(np.zeros((2, 0)), 0.0).tolist() == [1.0, 1.0]


def test_no_numbers_give_no_number():
    x = np.array([[0.0, NAN], [0.0, INF], [INF, INF], [0.0, 1.0]])
    result = entropy_temperature(x, 0.5)
    assert np.isnan(result[:3]).all()
    assert np.isfinite(result[3])
    assert np.isnan(entropy_temperature([0.0, 1.0], NAN))


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        ([1.0, 0.0, -INF], 0.7, r"gives x the entropy 0\.7: 2 of its entries are visible and 1 s"),
        ([1.0, 1.0, 0.0], 0.6, r"lies between log\(2\) = 0\.693147 and log\(3\) = 1\.09861"),
        ([1.0, 0.0], -0.1, r"entropy -0\.1"),
        ([1.0, 0.0], INF, r"entropy inf"),
        ([1.0, 0.0], -INF, r"entropy -inf"),
        ([1.0, 1.0], 0.5, r"2 share the maximum"),
        ([1.0], 0.5, r"1 of its entries are visible"),
        ([[[1.0, 0.0]], [[0.0, 0.0]]], 0.5, r"gives row 1, 0 of x the entropy 0\.5"),
    ],
)
def test_targets_out_of_reach_are_refused(x, target, message):
    with pytest.raises(ValueError, match=message):
        entropy_temperature(x, target)


def test_other_bad_arguments_are_refused():
    with pytest.raises(
        ValueError, match=r"target_entropy of shape \(3,\) to the rows of x, \(2,\)"
    ):
        entropy_temperature(np.eye(2), np.zeros(3))
    for bad in ([1j, 0.0], ["a"], np.zeros(2, np.longdouble)):
        with pytest.raises(TypeError, match="x of real numbers of at most 64 bits, not"):
            entropy_temperature(bad, 0.5)
    with pytest.raises(
        TypeError, match="target_entropy of real numbers of at most 64 bits, not complex128"
    ):
        entropy_temperature([1.0, 0.0], 0.5j)
    with pytest.raises(np.exceptions.AxisError):
        entropy_temperature([1.0, 0.0], 0.5, axis=1)
    with pytest.raises(
        ValueError, match=r"temperature of shape \(2,\), one for each row, not \(\)"
    ):
        entropy_temperature_vjp(np.eye(2), 1.0, [1.0, 1.0])
    with pytest.raises(ValueError, match=r"g of shape \(2,\), one for each row, not \(3,\)"):
        entropy_temperature_vjp(np.eye(2), [1.0, 1.0], np.zeros(3))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_type_shape_and_axis(dtype):
    x = rows("normal", n=6, count=20).reshape(4, 5, 6).astype(dtype)
    target = np.random.default_rng(2).uniform(0.2, 1.7, (4, 5))
    result = entropy_temperature(x, target)
    assert result.dtype == dtype
    assert result.shape == (4, 5)
    for axis in (0, 1, -3):
        moved = np.moveaxis(x, -1, axis)
        np.testing.assert_array_equal(entropy_temperature(moved, target, axis=axis), result)
    scalar = entropy_temperature(x[1, 2], target[1, 2])
    assert np.ndim(scalar) == 0
    assert scalar == result[1, 2]
    broadcast = entropy_temperature(x, target[0])
    np.testing.assert_array_equal(broadcast[0], result[0])
    gradient = entropy_temperature_vjp(x, result, np.ones((4, 5), dtype))
    assert gradient.x.dtype == gradient.target_entropy.dtype == dtype
    assert gradient.x.shape == x.shape
    assert gradient.target_entropy.shape == (4, 5)
    assert entropy_temperature(np.zeros((0, 3)), 1.0).shape == (0,)
    assert entropy_temperature([3, 1, 0], 0.5).dtype == np.float64


@pytest.mark.parametrize("namespace", [module, reference])
def test_arguments_by_name(namespace):
    x = [4.0, 1.0, 0.0]
    tau = namespace.entropy_temperature(x=x, target_entropy=0.5)
    assert tau == namespace.entropy_temperature(x, 0.5)
    gradient = namespace.entropy_temperature_vjp(x=x, temperature=tau, g=1.0)
    np.testing.assert_array_equal(gradient[0], namespace.entropy_temperature_vjp(x, tau, 1.0)[0])


def test_rows_do_not_depend_on_the_batch(monkeypatch):
    x = np.concatenate([rows(kind)[:5] for kind in KINDS])
    low, high = limits(x)
    target = low + 0.4 * (high - low)
    together = entropy_temperature(x, target)
    alone = [entropy_temperature(row, goal) for row, goal in zip(x, target, strict=True)]
    np.testing.assert_array_equal(together, alone)
    monkeypatch.setattr(module, "_BLOCK", 700)
    np.testing.assert_array_equal(entropy_temperature(x, target), together)
    bad = target.copy()
    bad[17] = 99.0
    with pytest.raises(ValueError, match="row 17 of x"):
        entropy_temperature(x, bad)


@pytest.mark.parametrize("kind", ["normal", "normal * 1000", "normal / 1e6", "masked", "ties"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_vjp_is_the_derivative(kind, share):
    x = rows(kind, n=8, count=3)
    low, high = limits(x)
    target = low + share * (high - low)
    temperature = entropy_temperature(x, target)
    g = np.array([1.0, -2.0, 0.5])
    gradient = entropy_temperature_vjp(x, temperature, g)

    step = 1e-5 * (high - low)
    change = entropy_temperature(x, target + step) - entropy_temperature(x, target - step)
    np.testing.assert_allclose(gradient.target_entropy, g * change / (2.0 * step), rtol=1e-6)
    scale = np.max(np.where(x > -INF, x, -INF), axis=1) - np.min(
        x, axis=1, where=x > -INF, initial=INF
    )
    for j in range(x.shape[1]):
        if kind == "ties" and np.any(x[:, j] == x.max(axis=1)):
            continue  # moving one of them unties it, and log(ties) jumps: see below
        step = np.zeros_like(x)
        step[:, j] = 1e-5 * scale
        change = entropy_temperature(x + step, target) - entropy_temperature(x - step, target)
        expected = g * change / (2e-5 * scale)
        np.testing.assert_allclose(gradient.x[:, j], expected, rtol=1e-6, atol=1e-8)


def test_vjp_at_ties_is_the_derivative_too():
    # The temperature is smooth where log(ties) of the untied row still lies below the target.
    x = np.array([1.0, 1.0, 0.0, -1.0])
    temperature = entropy_temperature(x, 1.0)
    gradient = entropy_temperature_vjp(x, temperature, 1.0)
    for j, step in enumerate(1e-5 * np.eye(4)):
        change = entropy_temperature(x + step, 1.0) - entropy_temperature(x - step, 1.0)
        assert float(gradient.x[j]) == pytest.approx(float(change) / 2e-5, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_vjp_laws(kind):
    x = rows(kind)
    low, high = limits(x)
    temperature = entropy_temperature(x, low + 0.4 * (high - low))
    gradient = entropy_temperature_vjp(x, temperature, np.ones(len(x)))
    size = np.abs(gradient.x).sum(axis=1)
    # A shift of x changes nothing, and a factor comes through (Euler).
    assert np.all(np.abs(gradient.x.sum(axis=1)) <= 1e-13 * size)
    from_top = np.where(x > -INF, x - x.max(axis=1, keepdims=True), 0.0)
    np.testing.assert_allclose((gradient.x * from_top).sum(axis=1), temperature, rtol=1e-11)
    assert np.all(gradient.target_entropy > 0.0)
    assert np.all(gradient.x[x == -INF] == 0.0)
    expected = reference.entropy_temperature_vjp(x, temperature, np.ones(len(x)))
    for actual, desired in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-11, atol=1e-13)


def test_vjp_of_what_the_entropy_does_not_fix_is_zero():
    x = np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 2.0], [-INF, -INF], [-INF, 3.0]])
    target = [0.0, math.log(2.0), math.log(2.0), 0.0, 0.0]
    temperature = entropy_temperature(x, target)
    np.testing.assert_array_equal(temperature, [0.0, INF, 1.0, 1.0, 1.0])
    gradient = entropy_temperature_vjp(x, temperature, np.ones(5))
    assert not gradient.x.any()
    assert not gradient.target_entropy.any()
    gradient = entropy_temperature_vjp([NAN, 0.0], NAN, 1.0)
    assert np.isnan(gradient.x).all()
    assert np.isnan(gradient.target_entropy)


def test_rows_without_entries_and_axes_that_are_none_are_named():
    with pytest.raises(ValueError, match=r"row 0 of x the entropy 0\.5: it has no entries"):
        entropy_temperature(np.zeros((2, 0)), 0.5)
    for axis in (None, 1.5, (0, 1)):
        with pytest.raises(TypeError, match="axis as one integer"):
            entropy_temperature(np.eye(2), 0.5, axis=axis)


def test_targets_of_tensors_as_arrays():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 5))
    expected = entropy_temperature(x, [0.5, 1.0])
    for target in ([0.5, 1.0], np.array([0.5, 1.0]), torch.tensor([0.5, 1.0], dtype=torch.float64)):
        np.testing.assert_array_equal(entropy_temperature(torch.tensor(x), target), expected)
    with pytest.raises(
        ValueError, match=r"target_entropy of shape \(3,\) to the rows of x, \(2,\)"
    ):
        entropy_temperature(torch.tensor(x), [0.5, 1.0, 1.0])
    with pytest.raises(TypeError, match="target_entropy of real numbers"):
        entropy_temperature(torch.tensor(x), "a")

"""Cross-entropy of logits: the kernel against its contract, and what users know from PyTorch."""

import numpy as np
import pytest

from logitkit import _cpu, losses
from logitkit.reference import losses as reference

INF, NAN = float("inf"), float("nan")
# The contract: errors of values and of slopes, relative to 1 + |value| and to sum |target|.
EPSILON = {np.float32: 2.0**-22, np.float64: 2.0**-50}

isas = pytest.mark.parametrize("isa", _cpu.supported_isas(), ids=lambda isa: isa.name)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def exact(x, y, *, targets=None, weight=None, smoothing=0.0, z_loss=0.0):
    """Return values, gradients and sums of absolute targets, by long doubles."""
    x = np.asarray(x, np.longdouble)
    n = x.shape[1]
    t = np.asarray(targets, np.longdouble) if targets is not None else y[:, None] == np.arange(n)
    t = (1 - np.longdouble(smoothing)) * t + np.longdouble(smoothing) / n
    t = t if weight is None else t * np.asarray(weight, np.longdouble)
    shifted = x - x.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    lse = (x - log_p).max(1, keepdims=True)
    terms = np.where(t == 0, 0, t * np.where(t == 0, 0, log_p))
    values = -terms.sum(1) + z_loss * lse[:, 0] ** 2
    mass = t.sum(1, keepdims=True)
    gradient = (mass + 2 * z_loss * lse) * np.exp(log_p) - t
    return values, gradient, (abs(t).sum(1) + 2 * z_loss * abs(lse[:, 0]))


def run(x, y, isa, **options):
    """Return values and gradients of the kernel."""
    values, gradient = np.empty(len(x)), np.full_like(x, NAN)
    given = {k: v.astype(x.dtype) for k, v in options.items() if isinstance(v, np.ndarray)}
    _cpu.cross_entropy(x, y, values, gradient=gradient, isa=isa, **{**options, **given})
    return values, gradient


@isas
@dtypes
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 129, 1000, 40000])
def test_kernel_is_within_its_contract(isa, dtype, n):
    rng = np.random.default_rng(n)
    rows = 3 if n > 1000 else 19
    x = (4.0 * rng.normal(size=(rows, n))).astype(dtype)
    x[0, rng.integers(n)] += 30.0
    y = rng.integers(0, n, rows)
    y[1] = np.argmax(x[1])
    t = rng.dirichlet(np.ones(n), rows).astype(dtype)
    weight = rng.uniform(0.0, 2.0, n).astype(dtype)
    for options in (
        {},
        {"class_weight": weight},
        {"smoothing": 0.1},
        {"targets": t},
        {"targets": t, "class_weight": weight, "smoothing": 0.1, "z_loss": 1e-4},
    ):
        values, gradient = run(x, y, isa, **options)
        options["weight"] = options.pop("class_weight", None)
        expected, slopes, mass = exact(x, y, **options)
        e = EPSILON[dtype]
        assert (abs(values - expected) <= e * (1 + abs(expected)) * np.maximum(mass, 1)).all()
        assert (abs(gradient - slopes) <= e * np.maximum(mass, 1)[:, None]).all()


@isas
@dtypes
def test_small_values_have_all_their_digits(isa, dtype):
    rng = np.random.default_rng(0)
    gaps = np.array([1.0, 3.0, 10.0, 20.0, 40.0, 60.0])
    x = rng.normal(size=(len(gaps), 50)).astype(dtype)
    x[:, 7] = x.max(1) + gaps
    values, gradient = run(x, np.full(len(gaps), 7), isa)
    others = np.delete(x.astype(np.longdouble) - x[:, 7:8].astype(np.longdouble), 7, axis=1)
    expected = np.log1p(np.exp(others).sum(1))
    bound = EPSILON[dtype]
    assert (abs(values - expected) <= bound * expected).all()
    # The slope of the class is -(1 - p), rounded once to its type.
    assert (abs(gradient[:, 7] + -np.expm1(-expected)) <= 2 * bound * expected).all()


@isas
@dtypes
def test_large_and_hidden_logits(isa, dtype):
    x = np.array(
        [[1e4, 1e4 - 2, -1e4], [-3e4, -3e4, -INF], [0, -INF, -INF], [3e38, 1e38, 0]], dtype
    )
    values, gradient = run(x, np.array([1, 0, 0, 0]), isa)
    np.testing.assert_allclose(
        values, [2 + np.log1p(np.exp(-2)), np.log(2), 0, 0], rtol=4 * EPSILON[dtype]
    )
    assert np.isfinite(gradient).all()
    assert not gradient[1:3, 2].any()
    np.testing.assert_allclose(gradient[1, :2], [-0.5, 0.5], rtol=EPSILON[dtype])
    values, gradient = run(x[2:3], np.array([1]), isa)
    assert values == INF
    np.testing.assert_array_equal(gradient, [[1, -1, 0]])


@isas
@dtypes
@pytest.mark.parametrize("n", [3, 40, 300])
def test_hidden_classes_that_have_a_share_of_the_target(isa, dtype, n):
    """An infinite term, not the NaN of the rounding errors of an infinite sum."""
    x, t = np.zeros((2, n), dtype), np.full((2, n), 1.0 / n, dtype)
    x[0, -2] = x[1, 1] = -INF
    values, gradient = run(x, np.zeros(2, np.int64), isa, targets=t)
    np.testing.assert_array_equal(values, [INF, INF])
    expected = np.where(x == 0.0, 1.0 / (n - 1), 0.0) - 1.0 / n
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=EPSILON[dtype])
    values, _ = run(x, np.zeros(2, np.int64), isa, smoothing=0.1)
    np.testing.assert_array_equal(values, [INF, INF])
    t[0, -2] = t[1, 1] = 0.0
    values, _ = run(x, np.zeros(2, np.int64), isa, targets=t)
    np.testing.assert_allclose(values, (n - 1) / n * np.log(n - 1), rtol=2 * EPSILON[dtype])
    weight = np.zeros(n, dtype)
    weight[0] = 1.0
    values, _ = run(x, np.zeros(2, np.int64), isa, smoothing=0.1, class_weight=weight)
    assert np.isfinite(values).all()


@isas
@dtypes
@pytest.mark.parametrize("row", [[INF, 0.0, 1.0], [NAN, 0.0, 1.0], [-INF] * 3], ids=str)
def test_rows_without_probabilities_are_not_finite(isa, dtype, row):
    values, gradient = run(np.array([row, [1.0, 2.0, 3.0]], dtype), np.array([1, 2]), isa)
    assert np.isnan(values[0])
    assert np.isnan(gradient[0]).any()
    assert np.isfinite(values[1])
    assert np.isfinite(gradient[1]).all()


@isas
@dtypes
def test_bits_do_not_depend_on_threads_or_batch(isa, dtype):
    rng = np.random.default_rng(1)
    for n in (5, 40, 3000):
        x, y = (3 * rng.normal(size=(37, n))).astype(dtype), rng.integers(0, n, 37)
        y[5] = -1
        values, gradient = run(x, y, isa, threads=1)
        for part in (slice(0, 37), slice(11, 12), slice(3, 30)):
            again, slopes = run(x[part].copy(), y[part], isa, threads=3)
            np.testing.assert_array_equal(again, values[part])
            np.testing.assert_array_equal(slopes, gradient[part])
        assert values[5] == 0.0
        assert not gradient[5].any()


def test_worked_number():
    # The article's example of a row that another loss takes for right.
    value = losses.cross_entropy(np.array([[5.0, 6.0, -11.0]]), [0])
    assert value == pytest.approx(1.313, abs=5e-4)


def cases():
    """Yield options that PyTorch knows, too."""
    weight = np.array([0.5, 2.0, 0.0, 1.5, 1.0])
    for reduction in ("mean", "sum", "none"):
        for smoothing in (0.0, 0.1, 1.0):
            for w in (None, weight):
                yield {"reduction": reduction, "label_smoothing": smoothing, "weight": w}


@pytest.mark.parametrize("options", [*cases()], ids=lambda o: f"{o['reduction']}-{o['weight']}")
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3), (5,)], ids=str)
def test_as_in_pytorch(options, soft, shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape)
    axis = 0 if len(shape) == 1 else 1
    rows = np.delete(shape, axis)
    t = np.asarray(rng.integers(0, 5, rows))
    if soft:
        t = np.moveaxis(rng.dirichlet(np.ones(5), tuple(rows) or None).reshape(*rows, 5), -1, axis)
    elif t.ndim:
        t.flat[1] = t.flat[-1] = -100
    w = options["weight"]
    given = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        given,
        torch.tensor(t),
        **{**options, "weight": None if w is None else torch.tensor(w)},
    )
    expected.sum().backward()
    value, gradient = losses.value_and_grad(losses.cross_entropy)(x, t, axis=axis, **options)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient, given.grad.numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        reference.cross_entropy(x, t, axis=axis, **options),
        expected.detach().numpy(),
        rtol=1e-13,
        atol=1e-15,
    )


@pytest.mark.parametrize("ignore_index", [-100, 0, 2, None])
def test_rows_that_are_left_out(ignore_index):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(6, 4)), np.array([1, 3, 1, 3, 1, 3])
    if ignore_index is None:
        options = {"ignore_index": None, "mask": np.array([1, 1, 0, 1, 0, 1], bool)}
    else:
        y[[2, 4]] = ignore_index
        options = {"ignore_index": ignore_index}
    wide = x.copy()
    wide[2], wide[4] = NAN, INF
    step = losses.value_and_grad(losses.cross_entropy)
    more = {"label_smoothing": 0.1, "z_loss": 0.1, "weight": [1.0, 2.0, 3.0, 4.0]}
    value, gradient = step(wide, y, **options, **more)
    left = [0, 1, 3, 5]
    expected, slopes = step(x[left], y[left], ignore_index=None, **more)
    assert value == expected
    np.testing.assert_array_equal(gradient[left], slopes)
    assert not gradient[[2, 4]].any()


def test_mean_of_nothing_is_nan():
    value, gradient = losses.value_and_grad(losses.cross_entropy)(np.ones((2, 3)), [-100, -100])
    assert np.isnan(value)
    assert not gradient.any()
    assert losses.cross_entropy(np.ones((0, 3)), np.zeros(0, int), reduction="sum") == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_types_stay(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = np.array([[1.0, 2.0], [0.0, -1.0]]).astype(kind)
    value, gradient = losses.value_and_grad(losses.cross_entropy)(x, [0, 1])
    assert value.dtype == gradient.dtype == kind
    assert float(value) == pytest.approx(np.log1p(np.e), rel=1e-2)


def test_statistics_of_rows():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(5, 7)), np.array([0, 3, -100, 2, 6])
    x[3, 2] = 9.0
    x[4] = 0.0  # the first of equal ones is meant
    x[2] = NAN
    aux = losses.cross_entropy_with_aux(x, y, label_smoothing=0.1)
    assert aux.loss == losses.cross_entropy(x, y, label_smoothing=0.1)
    kept = [0, 1, 3, 4]
    p = np.exp(x[kept])
    np.testing.assert_allclose(aux.logsumexp[kept], np.log(p.sum(1)), rtol=1e-14)
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(aux.entropy[kept], -(p * np.log(p)).sum(1), rtol=1e-13)
    np.testing.assert_array_equal(aux.accuracy[kept], np.argmax(x, 1)[kept] == y[kept])
    assert aux.accuracy[3] == 1.0
    assert aux.accuracy[4] == 0.0
    assert aux.logsumexp[2] == aux.accuracy[2] == aux.entropy[2] == 0.0
    soft = losses.cross_entropy_with_aux(x[kept], np.eye(7)[y[kept]])
    np.testing.assert_array_equal(soft.accuracy, aux.accuracy[kept])


def test_errors_name_the_value_and_its_place():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"class from 0 to 2.*not 3 at \[1\]"):
        losses.cross_entropy(x, [0, 3])
    with pytest.raises(ValueError, match=r"class from 0 to 2.*not 3 at \[1\]"):
        losses.cross_entropy(x, [-100, 3])
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.cross_entropy(x, [0, 1], label_smoothing=-0.1)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        losses.cross_entropy(x, [0])
    with pytest.raises(TypeError, match="integers"):
        losses.cross_entropy(x, [0.0, 1.0])
    with pytest.raises(ValueError, match="label 3 of row 0"):
        _cpu.cross_entropy(x, np.array([3, 0]), np.empty(2))
    with pytest.raises(ValueError, match="shape of values"):
        _cpu.cross_entropy(x, np.array([1, 0]), np.empty(3))


def test_tensors_that_are_left_out_and_statistics():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[0.0, 1.0], [NAN, NAN], [2.0, 0.0]], requires_grad=True)
    aux = losses.cross_entropy_with_aux(x, torch.tensor([1, -100, 0]))
    aux.loss.backward()
    assert torch.isfinite(x.grad).all()
    assert not x.grad[1].any()
    assert aux.accuracy.tolist() == [1.0, 0.0, 1.0]
    assert aux.logsumexp[1].item() == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": [1.0, 1.0, NAN, 1.0]}, r"weight of numbers, not NaN at \[2\]"),
        ({"sample_weight": [1.0, NAN, 1.0]}, r"sample_weight of numbers, not NaN at \[1\]"),
        ({"denominator": 0.0}, "denominator > 0, .* not 0.0"),
        ({"denominator": NAN}, "denominator > 0, .* not nan"),
        ({"z_loss": -0.1}, "0 <= z_loss < inf, .* not -0.1"),
        ({"z_loss": NAN}, "0 <= z_loss < inf, .* not nan"),
    ],
)
def test_weights_and_divisors_without_meaning(options, message):
    x, y = np.zeros((3, 4)), np.array([0, 1, 2])
    for call in (
        lambda: losses.cross_entropy(x, y, **options),
        lambda: losses.focal(x, y, **options),
        lambda: losses.linear_cross_entropy(x, np.eye(4), y, **options),
        lambda: losses.value_and_grad(losses.cross_entropy)(x, y, **options),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_negative_weights_and_those_of_rows_that_are_left_out():
    x, y = np.arange(12.0).reshape(3, 4) % 5, np.array([0, 1, -100])
    weight = np.array([-1.0, 2.0, 1.0, 1.0])
    rows = losses.cross_entropy(x, y, reduction="none")
    value = losses.cross_entropy(x, y, weight=weight)
    assert value == pytest.approx(2.0 * rows[1] - rows[0], rel=1e-12)
    some = losses.cross_entropy(x, y, sample_weight=[3.0, -1.0, NAN])
    assert some == pytest.approx((3.0 * rows[0] - rows[1]) / 2.0, rel=1e-12)


def test_z_loss_is_not_weighted_but_divided():
    x, y = np.arange(12.0).reshape(3, 4) % 5, np.array([0, 1, 3])
    weight, z = np.array([1.0, 2.0, 3.0, 4.0]), 0.1
    plain = losses.cross_entropy(x, y, weight=weight)
    want = plain + z * np.sum(np.log(np.exp(x).sum(-1)) ** 2) / weight[y].sum()
    assert losses.cross_entropy(x, y, weight=weight, z_loss=z) == pytest.approx(want, rel=1e-12)
    assert reference.cross_entropy(x, y, weight=weight, z_loss=z) == pytest.approx(want, rel=1e-12)
    layer = losses.linear_cross_entropy(x, np.eye(4), y, weight=weight, z_loss=z)
    assert layer == pytest.approx(want, rel=1e-12)
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(a) for a in (x, y, weight)]
    value = losses.cross_entropy(*tensors[:2], weight=tensors[2], z_loss=z)
    assert value.item() == pytest.approx(want, rel=1e-12)

"""Maps beside softmax against their definitions, their laws and finite differences."""

from functools import partial

import numpy as np
import pytest

from logitkit import _probability_maps as maps
from logitkit import distributions, softmax
from logitkit.reference import _probability_maps as reference

INF, NAN = np.inf, np.nan
CASES = [
    ("sparsemax", {}),
    ("entmax15", {}),
    ("entmax", {"alpha": 1.0}),
    ("entmax", {"alpha": 1.2}),
    ("entmax", {"alpha": 1.5}),
    ("entmax", {"alpha": 2.0}),
    ("entmax", {"alpha": 3.0}),
    ("taylor_softmax", {"order": 2}),
    ("taylor_softmax", {"order": 6}),
    ("top_k_softmax", {"k": 3}),
    ("gradient_top_k", {"k": 1}),
    ("gradient_top_k", {"k": 3}),
    ("threshold_top_k", {"k": 1}),
    ("threshold_top_k", {"k": 3}),
    ("threshold_top_k", {"k": 2, "cdf": "logistic"}),
    ("iterative_top_k", {"k": 1}),
    ("iterative_top_k", {"k": 3}),
]
IDS = [name + "".join(f"-{value}" for value in options.values()) for name, options in CASES]
every_map = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)


def logits(*shape, spread=2.0, seed=0):
    return np.random.default_rng(seed).normal(scale=spread, size=shape)


def mass(name, options):
    return options["k"] if name.endswith("_top_k") else 1


@every_map
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 5.0, 40.0])
def test_is_the_definition(name, options, spread):
    x = logits(6, 8, spread=spread)
    actual = getattr(maps, name)(x, **options)
    expected = getattr(reference, name)(x, **options)
    # A power of at most 5 of a difference of logits, which are multiples of 2^-47 here.
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=2e-14)
    range_ = np.ptp(x) if name == "gradient_top_k" else 0.0  # of its contract
    rtol = 2.0**-50 * (1.0 + mass(name, options) * range_)
    np.testing.assert_allclose(actual.sum(axis=1), mass(name, options), rtol=rtol)
    assert np.all(actual >= 0.0)


@every_map
def test_gradient_by_finite_differences(name, options):
    """Fourth-order differences, away from the kinks."""
    function, vjp = partial(getattr(maps, name), **options), getattr(maps, f"{name}_vjp")
    x, g, h = logits(4, 7, spread=0.7, seed=3), logits(4, 7, seed=1), 1e-4
    actual = vjp(x, g, **options)
    if name not in ("taylor_softmax",):  # shifts of all logits change nothing
        np.testing.assert_allclose(actual.sum(axis=1), 0.0, atol=1e-13)
    expected = np.empty_like(x)
    for i in range(7):
        step = np.zeros(7)
        step[i] = h
        near = function(x + step) - function(x - step)
        far = function(x + 2 * step) - function(x - 2 * step)
        expected[:, i] = np.sum(g * (8.0 * near - far) / (12.0 * h), axis=1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@every_map
def test_masks_and_specials(name, options):
    function, vjp = partial(getattr(maps, name), **options), getattr(maps, f"{name}_vjp")
    x = logits(6, 7)
    x[:, [2, 5]] = -INF
    x[1, 0], x[2, 3] = NAN, INF
    x[3] = -INF
    kept = [0, 1, 3, 4, 6]
    result, gradient = function(x), vjp(x, np.ones_like(x), **options)
    for bad in (1, 2, 3):
        assert np.all(np.isnan(result[bad]))
        assert np.all(np.isnan(gradient[bad]))
    for good in (0, 4, 5):
        np.testing.assert_array_equal(result[good, [2, 5]], 0.0)
        np.testing.assert_allclose(result[good, kept], function(x[good, kept]), rtol=1e-14)
    g = logits(6, 7, seed=2)
    g[:, 2] = INF  # arrives at what is masked
    gradient = vjp(x, g, **options)
    for good in (0, 4, 5):
        np.testing.assert_array_equal(gradient[good, [2, 5]], 0.0)
        alone = vjp(x[good, kept], g[good, kept], **options)
        np.testing.assert_allclose(gradient[good, kept], alone, rtol=1e-12, atol=1e-14)


@every_map
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_axis_and_type(name, options, axis, dtype):
    x = logits(5, 6, 4).astype(dtype)
    function, vjp = partial(getattr(maps, name), **options), getattr(maps, f"{name}_vjp")
    result = function(x, axis)
    assert result.dtype == (dtype if np.dtype(dtype).kind == "f" else np.float64)
    moved = function(np.moveaxis(x, axis, -1).astype(np.float64))
    np.testing.assert_array_equal(np.moveaxis(result, axis, -1), moved.astype(result.dtype))
    gradient = vjp(x, result, axis, **options)
    assert gradient.shape == x.shape
    assert gradient.dtype == result.dtype
    assert function(np.zeros((0, 6, 4)), 1).shape == (0, 6, 4)


def test_known_vectors():
    """Worked in the specification: the threshold form is not softmax where p > 1 / 2."""
    x = np.array([2.0, 0.0, 0.0])
    assert abs(maps.threshold_top_k(x, k=1)[0] - 0.7399) < 5e-5
    assert abs(softmax(x, axis=0)[0] - 0.7870) < 5e-5
    flat = np.array([1.0, 0.9, 0.5, 0.2])
    np.testing.assert_allclose(maps.threshold_top_k(flat, k=1), softmax(flat, axis=0), rtol=1e-14)
    np.testing.assert_allclose(maps.gradient_top_k(x, k=1), softmax(x, axis=0), rtol=1e-14)
    np.testing.assert_allclose(
        maps.gradient_top_k(np.log([3.0, 2.0, 1.0]), k=2),
        np.array([9.0, 8.0, 5.0]) / 11.0,
        rtol=1e-14,
    )
    # By hand: tau = (1 + 0.5 - 1) / 2; and 2 t^2 + (1 + t)^2 = 1 for the two zeros.
    np.testing.assert_array_equal(maps.sparsemax([1.0, 0.5, -1.0]), [0.75, 0.25, 0.0])
    np.testing.assert_allclose(maps.taylor_softmax([2.0, 0.0, -1.0]), [10 / 13, 2 / 13, 1 / 13])
    np.testing.assert_allclose(
        maps.margin_softmax(np.log([2.0, 1.0]), 0, margin=np.log(2.0)), [0.5, 0.5]
    )


@pytest.mark.parametrize("n", [1, 2, 50, 3000])
def test_entmax_is_between_its_members(n):
    x = logits(3, n, spread=3.0)
    np.testing.assert_allclose(maps.entmax(x, alpha=2.0), maps.sparsemax(x), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(maps.entmax(x, alpha=1.5), maps.entmax15(x), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(maps.entmax(x, alpha=1.0), softmax(x, axis=1), rtol=1e-13)
    sizes = [np.sum(maps.entmax(x, alpha=a) > 0, axis=1) for a in (1.0, 1.5, 2.0, 4.0)]
    assert np.all(np.diff(sizes, axis=0) <= 0)


@every_map
def test_extreme_logits_give_the_largest(name, options):
    x = np.array([[1e6, -1e6, 0.0, 5e5, 7e5, -3e5]])
    actual = getattr(maps, name)(x, **options)
    if name == "taylor_softmax":  # even: as large for -1e6 as for 1e6
        np.testing.assert_allclose(actual[0, :2], actual[0, 0], rtol=1e-4)
        return
    largest = np.argsort(-x[0])[: mass(name, options)]
    expected = np.zeros(6)
    expected[largest] = 1.0
    np.testing.assert_allclose(actual[0], expected, atol=1e-9)


def test_top_k_of_all_classes():
    x = logits(3, 5)
    np.testing.assert_array_equal(maps.threshold_top_k(x, k=5), np.ones_like(x))
    np.testing.assert_allclose(maps.gradient_top_k(x, k=5), np.ones_like(x), rtol=1e-14)
    np.testing.assert_allclose(maps.top_k_softmax(x, k=5), softmax(x, axis=1), rtol=1e-15)
    np.testing.assert_allclose(maps.gradient_top_k_vjp(x, x, k=5), 0.0, atol=1e-14)


def test_gradient_top_k_has_a_symmetric_jacobian_without_negative_eigenvalues():
    x = logits(1, 9)[0]
    jacobian = np.stack([maps.gradient_top_k_vjp(x, row, k=4) for row in np.eye(9)])
    np.testing.assert_allclose(jacobian, jacobian.T, rtol=0, atol=1e-15)
    assert np.linalg.eigvalsh(jacobian).min() > -1e-14


@pytest.mark.parametrize("axis", [0, 1])
def test_margin_softmax(axis):
    x, g = logits(4, 6), logits(4, 6, seed=1)
    target = np.array([1, 0, 3, 2, 1, 0][: x.shape[1 - axis]])
    actual = maps.margin_softmax(x, target, axis, margin=0.5)
    np.testing.assert_allclose(
        actual, reference.margin_softmax(x, target, axis, margin=0.5), rtol=1e-14
    )
    gradient = maps.margin_softmax_vjp(x, target, g, axis, margin=0.5)
    expected = actual * (g - np.sum(actual * g, axis=axis, keepdims=True))
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        maps.margin_softmax(x, target, axis, margin=0.0), softmax(x, axis=axis), rtol=1e-14
    )


def test_worked_numbers_of_iterative_top_k():
    # softmax(2, 1, 0) = (.66524, .24473, .09003) leaves (.66952, .75527, 0), of which the softmax
    # is (.38439, .41881, .19679)
    expected = [1.0496356246958052, 0.6635409388856354, 0.2868234364185594]
    np.testing.assert_allclose(maps.iterative_top_k([2.0, 1.0, 0.0], k=2), expected, rtol=1e-14)
    np.testing.assert_allclose(maps.iterative_top_k([5.0, 4.0, 3.0], k=2), expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "entmax", "taylor_softmax"])
def test_nothing_maps_to_nothing(name, shape):
    x = np.zeros(shape)
    assert getattr(maps, name)(x).shape == shape
    assert getattr(maps, f"{name}_vjp")(x, x).shape == shape


def test_errors():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"1 <= alpha < inf, not 0\.5"):
        maps.entmax(x, alpha=0.5)
    with pytest.raises(ValueError, match="even and positive, not 3"):
        maps.taylor_softmax(x, order=3)
    for name in ("top_k_softmax", "gradient_top_k", "threshold_top_k", "iterative_top_k"):
        for k in (0, 4):
            with pytest.raises(ValueError, match=f"k from 1 to the 3 classes, not {k}"):
                getattr(maps, name)(x, k=k)
    with pytest.raises(ValueError, match="at least k = 2 classes that are not masked, not 1"):
        maps.gradient_top_k([0.0, -INF, -INF], k=2)
    with pytest.raises(ValueError, match="'laplace' or 'logistic', not 'normal'"):
        maps.threshold_top_k(x, k=1, cdf="normal")
    with pytest.raises(ValueError, match=r"g of shape \(2, 3\)"):
        maps.sparsemax_vjp(x, x[0])
    with pytest.raises(ValueError, match=r"from 0 to 2, not 3 at \(1,\)"):
        maps.margin_softmax(x, [0, 3])
    with pytest.raises(ValueError, match=r"target of shape \(2,\)"):
        maps.margin_softmax(x, 1)
    with pytest.raises(ValueError, match="a finite margin, not nan"):
        maps.margin_softmax(x, [0, 1], margin=NAN)
    with pytest.raises(TypeError, match="integers, not float64"):
        maps.margin_softmax(x, [0.0, 1.0])
    with pytest.raises(np.exceptions.AxisError):
        maps.sparsemax(x, 2)


torch_cases = pytest.mark.parametrize(
    ("name", "options"), [case for case in CASES if case[1].get("alpha") != 3.0], ids=str
)


@torch_cases
def test_tensors_have_the_values_of_arrays(name, options):
    torch = pytest.importorskip("torch")
    function = partial(getattr(maps, name), **options)
    x = logits(4, 5, 6)
    x[0, :, 2] = -INF
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        tensor = torch.from_numpy(x).to(dtype)
        result = function(tensor, 1)
        assert result.dtype == dtype
        wide = tensor.to(torch.float64).numpy()
        eps = torch.finfo(dtype).eps
        keep = np.ones((4, 6), bool)
        keep[0, 2] = False  # masked throughout: NaN, or nothing in both
        expected = function(wide, 1)
        moved = np.moveaxis(result.to(torch.float64).numpy(), 1, -1)[keep]
        np.testing.assert_allclose(
            moved, np.moveaxis(expected, 1, -1)[keep], rtol=8 * eps, atol=8 * eps
        )


@torch_cases
@pytest.mark.filterwarnings("ignore:`torch.jit")  # within PyTorch
def test_tensors_have_derivatives_of_two_orders(name, options):
    torch = pytest.importorskip("torch")
    function = partial(getattr(maps, name), **options)
    x = torch.from_numpy(logits(2, 5, spread=0.6, seed=4)).requires_grad_()
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    g = logits(2, 5, seed=1)
    (gradient,) = torch.autograd.grad(function(x), x, torch.from_numpy(g))
    expected = getattr(maps, f"{name}_vjp")(x.detach().numpy(), g, **options)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-9, atol=1e-12)
    tangent = torch.func.jvp(function, (x.detach(),), (torch.from_numpy(g),))[1]
    rows = torch.func.jacrev(function)(x.detach()[0])
    np.testing.assert_allclose(tangent[0].numpy(), rows.numpy() @ g[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [("entmax", (1.5,)), ("threshold_top_k", (2, "laplace")), ("top_k_softmax", (2,)),
     ("taylor_softmax", (2,))],
    ids=lambda value: str(value),
)  # fmt: skip
def test_operators(name, options):
    torch = pytest.importorskip("torch")
    import logitkit.torch  # noqa: F401

    x = torch.from_numpy(logits(3, 5, spread=0.6)).requires_grad_()
    torch.library.opcheck(getattr(torch.ops.logitkit, name), (x, [1], *options))


@pytest.mark.parametrize("axis", [0, 1])
def test_margin_softmax_of_tensors(axis):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(logits(4, 6)).requires_grad_()
    target = np.array([1, 0, 3, 2, 1, 0][: x.shape[1 - axis]])
    function = partial(maps.margin_softmax, margin=0.5, axis=axis)
    for y in (target, torch.from_numpy(target)):
        result = function(x, y)
        expected = function(x.detach().numpy(), target)
        np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-14)
    assert torch.autograd.gradcheck(lambda z: function(z, target), x)
    with pytest.raises(ValueError, match="from 0 to"):
        function(x, target + 9)


@pytest.mark.parametrize(
    ("row", "one", "two"),
    [
        ([1e308, -1e308, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]),
        ([1e308, 1e308, -1e308], [0.5, 0.5, 0.0], [1.0, 1.0, 0.0]),
        ([1.7e308, -1.7e308, -1.6e308], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]),
    ],
)
def test_gaps_that_are_no_numbers(row, one, two):
    """The difference of the largest numbers overflows; the maps are at their limits long before."""
    x = np.array(row)
    for result in (
        distributions.sparsemax(x),
        distributions.entmax15(x),
        distributions.entmax(x, alpha=1.2),
    ):
        np.testing.assert_array_equal(result, one)
    for name in ("threshold_top_k", "gradient_top_k"):
        np.testing.assert_array_equal(getattr(distributions, name)(x, k=2), two)
    assert distributions.top_k_softmax(x, k=2).sum() == 1.0
    assert np.isfinite(distributions.sparsemax_vjp(x, x / 1e308)).all()

"""logitkit.torch against logitkit on NumPy, against PyTorch, and under PyTorch's transforms."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import logitkit
from logitkit import _cpu
from logitkit.reference import SoftmaxStats

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import logitkit.torch as bridge

INF, NAN = float("inf"), float("nan")
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
OPS = torch.ops.logitkit

pytestmark = [  # of what PyTorch itself does
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


def normal(*shape, dtype=torch.float64, spread=2.0):
    generator = torch.Generator().manual_seed(sum(shape))
    return (spread * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def torch_stats(x, axis, scale):
    log_p = torch.log_softmax(scale * x, axis)
    p = log_p.exp()
    return SoftmaxStats(
        torch.logsumexp(scale * x, axis),
        -(p * log_p).sum(axis),
        (scale * x).amax(axis),
        p.square().sum(axis),
    )


# Each function along an axis: of logitkit, on arrays and on tensors, and its like in PyTorch.
ALONG = {
    "softmax": (lambda x, axis: logitkit.softmax(x, axis), torch.softmax),
    "log_softmax": (lambda x, axis: logitkit.log_softmax(x, axis), torch.log_softmax),
    "logsumexp": (lambda x, axis: logitkit.logsumexp(x, axis), torch.logsumexp),
    "logsumexp_keepdims": (
        lambda x, axis: logitkit.logsumexp(x, axis, keepdims=True),
        lambda x, axis: torch.logsumexp(x, axis, keepdim=True),
    ),
    "softmax_stats": (
        lambda x, axis: logitkit.softmax_stats(x, axis, scale=0.7),
        lambda x, axis: torch_stats(x, axis, 0.7),
    ),
    "logmeanexp": (
        lambda x, axis: logitkit.logmeanexp(x, axis),
        lambda x, axis: torch.logsumexp(x, axis) - np.log(x.shape[axis]),
    ),
    "smooth_max": (
        lambda x, axis: logitkit.smooth_max(x, axis, tau=0.7),
        lambda x, axis: 0.7 * torch.logsumexp(x / 0.7, axis),
    ),
    "weighted": (
        lambda x, axis: logitkit.logsumexp(x, axis, -1.5, return_sign=True),
        lambda x, axis: (
            torch.logsumexp(x, axis) + np.log(1.5),
            -torch.ones_like(torch.logsumexp(x, axis)),
        ),
    ),
}
along = pytest.mark.parametrize(("ours", "theirs"), ALONG.values(), ids=ALONG)


def flat(results):
    return results if isinstance(results, tuple) else (results,)


def bits(x):
    """Return an array that compares equal where `x` has the same bits, but for the sign of NaN."""
    if isinstance(x, torch.Tensor):
        x = x.detach()
        if x.dtype == torch.bfloat16:
            x = x.float()
        x = x.numpy()
    x = np.asarray(x)
    x = x.astype(np.float32) if x.dtype.name == "bfloat16" else x
    return np.where(np.isnan(x), NAN, x)


def assert_same(tensors, arrays):
    for tensor, array in zip(flat(tensors), flat(arrays), strict=True):
        assert str(tensor.dtype).removeprefix("torch.") == array.dtype.name
        assert tensor.shape == np.shape(array)
        np.testing.assert_array_equal(bits(tensor), bits(array))


def as_array(x):
    if x.dtype == torch.bfloat16:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()


LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.permute(2, 0, 1),
    "gaps": lambda x: x[:, ::2],
    "expanded": lambda x: x[:1].expand(3, -1, -1),
    "special": lambda x: x.masked_fill(x < 0.5, -INF).index_fill(0, torch.tensor(1), -INF),
    "infinite": lambda x: x.masked_fill(x > 3.0, INF).masked_fill(x < -3.0, NAN),
    "one element": lambda x: x[:1, :1, :1],
}


@along
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("axis", [0, -2, (0, 2), None, ()])
def test_bits_are_those_on_arrays(ours, theirs, dtype, layout, axis):
    x = layout(normal(4, 5, 3, dtype=dtype))
    if ours is ALONG["weighted"][0] and dtype == torch.bfloat16:
        pytest.skip("a Python number widens bfloat16 in NumPy")
    if ours is ALONG["logmeanexp"][0] and dtype.itemsize == 2:
        pytest.skip("rounded twice for arrays")
    expected = ours(as_array(x), axis)
    assert_same(ours(x, axis), expected)
    assert_same(ours(x.detach().requires_grad_(), axis), expected)


@along
def test_empty_lines_and_scalars(ours, theirs):
    for x, axis in [(normal(3, 0), 0), (normal(0, 3), 1), (torch.tensor(1.5), None)]:
        expected = ours(x.numpy(), axis)
        assert_same(ours(x, axis), expected)
        assert_same(ours(x.clone().requires_grad_(), axis), expected)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_lines_of_no_element(requires_grad):
    x = torch.empty(3, 0, requires_grad=requires_grad)
    assert logitkit.logsumexp(x, 1).tolist() == [-INF] * 3
    assert logitkit.softmax_stats(x, 1).entropy.tolist() == [0.0] * 3
    for function in (logitkit.softmax, logitkit.log_softmax):
        with pytest.raises(ValueError, match=r"at least one element, not x of shape \(3, 0\)"):
            function(x, 1)
    if requires_grad:
        (gradient,) = torch.autograd.grad(logitkit.softmax_stats(x, 1).max.sum(), x)
        assert gradient.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64], ids=str)
@along
def test_integers_count_as_the_default_type(ours, theirs, dtype):
    x = torch.tensor([[0, 1, 1], [3, 0, 2]]).to(dtype)
    assert_same(ours(x, 1), ours(x.float().numpy(), 1))
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(ours(x, 1), ours(x.double().numpy(), 1))
    finally:
        torch.set_default_dtype(torch.float32)


def test_close_to_pytorch():
    x = normal(7, 300, spread=5.0)
    for ours, theirs in ALONG.values():
        torch.testing.assert_close(flat(ours(x, 1)), flat(theirs(x, 1)), rtol=1e-12, atol=1e-12)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_no_copy(name, dtype, order, requires_grad, monkeypatch):
    calls, kernel = [], getattr(_cpu, name)

    def spy(x, axis, out, **options):
        calls.append((address(x), address(out)))
        kernel(x, axis, out, **options)

    monkeypatch.setattr(_cpu, name, spy)
    x = normal(4, 5, 3, dtype=dtype).permute(order).requires_grad_(requires_grad)
    result = getattr(logitkit, name)(x, 1)
    assert calls[0][0] == x.data_ptr()
    if name != "logsumexp" or x.is_contiguous():  # a reduced result is small
        assert calls[0][1] == result.data_ptr()
    if name != "logsumexp" and not requires_grad:
        out = torch.empty_like(x)
        assert getattr(logitkit, name)(x, 1, out=out) is out
        assert getattr(logitkit, name)(x, 1, out=x) is x
        assert calls[1:] == [(x.data_ptr(), out.data_ptr()), (x.data_ptr(), x.data_ptr())]


# Derivatives.

DERIVATIVES = {
    **{f"{name}, axis 1": lambda x, f=f: f(x, 1) for name, (f, _) in ALONG.items()},
    **{f"{name}, axes 0 and 2": lambda x, f=f: f(x, (0, 2)) for name, (f, _) in ALONG.items()},
    "softmax, all axes": logitkit.softmax,
    "logsumexp, no axis": lambda x: logitkit.logsumexp(x, ()),
    "scalar": lambda x: logitkit.softmax_stats(x[0, 0, 0], None),
    "levelled": lambda x: logitkit.softmax_stats(x, scale=0.0),
}


def differentiable(function):
    return lambda *args: tuple(y for y in flat(function(*args)) if y.requires_grad or y.numel())


@pytest.mark.parametrize("function", DERIVATIVES.values(), ids=DERIVATIVES)
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_of_first_and_second_order(function, masked):
    """In both modes and their mixtures; masked elements are no arguments, nor is their result."""
    x = normal(2, 2, 3, spread=1.0).requires_grad_()
    mask = torch.tensor([[[0, 1, 0], [0, 1, 0]], [[1, 1, 0], [0, 1, 1]]], dtype=torch.bool)

    def of_visible(x):
        results = function(x.masked_fill(mask, -INF) if masked else x)
        return tuple(y.masked_fill((y == -INF) | y.isnan(), 0.0) for y in flat(results))

    modes = {"check_forward_ad": True, "check_batched_grad": True}
    assert gradcheck(of_visible, x, check_batched_forward_grad=True, **modes)
    assert gradgradcheck(of_visible, x, check_fwd_over_rev=True, check_rev_over_rev=True)


@along
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_derivatives_are_in_the_type_of_the_argument(ours, theirs, dtype):
    x = normal(3, 4, dtype=dtype).requires_grad_()
    wide = x.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    for y, z in zip(flat(ours(x, 1)), flat(ours(wide, 1)), strict=True):
        assert y.dtype == dtype
        if y.requires_grad:
            weights = normal(*y.shape, dtype=dtype)
            (g,) = torch.autograd.grad(y, x, weights, retain_graph=True)
            (h,) = torch.autograd.grad(z, wide, weights.to(z.dtype), retain_graph=True)
            assert g.dtype == dtype
            torch.testing.assert_close(g, h.to(dtype), rtol=0.0, atol=0.0)


def gradient_of(function, x, order=1):
    x = x.clone().requires_grad_()
    y = sum(result.sum() for result in flat(function(x)) if result.requires_grad)
    for _ in range(order):
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        y = g.square().sum()
    return g


@along
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("x", [[-INF, -INF, -INF], [-INF, 1.0, 2.0], [-INF, 1.0, -INF]])
def test_masked_elements_have_gradient_zero(ours, theirs, order, x):
    x = torch.tensor([x], dtype=torch.float64)
    for function in (lambda x: ours(x, 1), lambda x: ours(x, (0, 1))):
        g = gradient_of(function, x, order)
        assert (g[x == -INF] == 0.0).all()
        assert g.isfinite().all()


def test_masked_elements_take_no_gradient_in():
    # The derivative of p log p at p = 0 is infinite, and 0 times it would be NaN.
    x = torch.tensor([[-INF, 0.5, 2.0], [-INF, -INF, -INF]], dtype=torch.float64)

    def entropy(x):
        p, log_p = logitkit.softmax(x, 1), logitkit.log_softmax(x, 1)
        return -torch.where(x == -INF, 0.0, p * log_p).sum(1)

    torch.testing.assert_close(
        gradient_of(entropy, x), gradient_of(lambda x: logitkit.softmax_stats(x).entropy, x)
    )


@along
@pytest.mark.parametrize("special", [INF, NAN])
def test_infinite_and_nan_lines_have_gradient_nan(ours, theirs, special):
    x = torch.tensor([[0.0, special], [0.5, 1.0]], dtype=torch.float64)
    g = gradient_of(lambda x: ours(x, 1), x)
    assert g[0].isnan().all()
    assert g[1].isfinite().all()


def test_gradient_of_the_maximum_is_shared():
    x = torch.tensor([[2.0, 2.0, 1.0], [INF, 0.0, INF], [-INF, 3.0, 3.0]])
    g = gradient_of(lambda x: logitkit.softmax_stats(x, scale=2.0).max, x)
    assert g.tolist() == [[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]


# Weights.

WEIGHTED = {
    "broadcast": ((2, 3, 4), (3, 1)),
    "the other way": ((4,), (2, 3, 4)),
    "scalars": ((), ()),
}


@pytest.mark.parametrize(("a", "b"), WEIGHTED.values(), ids=WEIGHTED)
@pytest.mark.parametrize("axis", [None, -1, (0,)])
def test_weights(a, b, axis):
    a, b = normal(*a), normal(*b)
    for sign in (False, True):
        expected = logitkit.logsumexp(a.numpy(), axis, b.numpy(), True, sign)
        assert_same(logitkit.logsumexp(a, axis, b, True, sign), expected)
        a.requires_grad_()
        assert_same(logitkit.logsumexp(a, axis, b, True, sign), expected)
        a.requires_grad_(False)
    b.requires_grad_()

    def function(a, b):
        return logitkit.logsumexp(a, axis, b, return_sign=True)[0]

    for args in ((a.requires_grad_(), b), (a, b.detach()), (a.detach(), b)):
        assert gradcheck(function, args, check_forward_ad=True)
        assert gradgradcheck(function, args, check_fwd_over_rev=True)


def test_weights_that_are_numbers_do_not_widen():
    a = normal(3, dtype=torch.float16)
    assert logitkit.logsumexp(a, b=2.0).dtype == torch.float16
    assert_same(logitkit.logsumexp(a, b=2), logitkit.logsumexp(a.numpy(), b=2))
    wide = logitkit.logsumexp(a, b=torch.ones(3, dtype=torch.float64))
    assert wide.dtype == torch.float64


def test_dropped_terms():
    a = torch.tensor([INF, NAN, -INF, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.0, 0.0, 1.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    value = logitkit.logsumexp(a, b=b)
    assert value.item() == pytest.approx(2.0 + np.log(3.0), rel=1e-15)
    at_a, at_b = torch.autograd.grad(value, (a, b), create_graph=True)
    assert at_a.tolist() == [0.0, 0.0, 0.0, 0.0, pytest.approx(1.0)]
    slope = (a - value).exp().tolist()  # where it is finite
    assert at_b.tolist() == [0.0, 0.0, 0.0, pytest.approx(slope[3]), pytest.approx(slope[4])]
    for second in torch.autograd.grad(at_a.sum() + at_b.sum(), (a, b)):
        assert second.isfinite().all()


def test_sums_without_terms_and_negative_sums():
    a, b = (
        torch.tensor([[0.0, 1.0], [-INF, -INF], [0.0, 0.0]]),
        torch.tensor([[0.0], [2.0], [-1.0]]),
    )
    a.requires_grad_()
    value, sign = logitkit.logsumexp(a, 1, b, return_sign=True)
    assert sign.tolist() == [0.0, 0.0, -1.0]
    assert not sign.requires_grad
    (g,) = torch.autograd.grad(value.sum(), a)
    assert g.tolist() == [[0.0, 0.0], [0.0, 0.0], [0.5, 0.5]]
    value = logitkit.logsumexp(a, 1, b)
    assert value[2].isnan()
    (g,) = torch.autograd.grad(value.sum(), a)
    assert g[2].isnan().all()


# Temperatures.


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("target", [0.5, "tensor"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_entropy_temperature(axis, target, dtype):
    x = normal(3, 4, dtype=dtype).masked_fill(torch.eye(3, 4, dtype=torch.bool), -INF)
    if target == "tensor":
        target = torch.linspace(0.2, 0.5, x.shape[1 + axis], dtype=torch.float64)
    actual = logitkit.entropy_temperature(x, target, axis)
    given = target if isinstance(target, float) else target.numpy()
    assert_same(actual, logitkit.entropy_temperature(as_array(x), given, axis))
    assert_same(logitkit.entropy_temperature(x.requires_grad_(), target, axis), as_array(actual))


def test_derivatives_of_entropy_temperature():
    x = normal(3, 4, spread=1.0).requires_grad_()
    mask = torch.eye(3, 4, dtype=torch.bool)
    target = torch.tensor([0.3, 0.5, 0.9], dtype=torch.float64, requires_grad=True)

    def function(x, target):
        return logitkit.entropy_temperature(x.masked_fill(mask, -INF), target)

    for args in ((x, target), (x, target.detach()), (x.detach(), target)):
        assert gradcheck(function, args, check_forward_ad=True, check_batched_grad=True)
        assert gradgradcheck(function, args, check_fwd_over_rev=True, check_rev_over_rev=True)
    (g,) = torch.autograd.grad(function(x, target).sum(), x)
    assert (g[mask] == 0.0).all()
    at_x, at_target = logitkit.entropy_temperature_vjp(
        x.detach().masked_fill(mask, -INF).numpy(),
        function(x, target).detach().numpy(),
        np.ones(3),
    )
    pair = torch.autograd.grad(function(x, target).sum(), (x, target))
    for ours, theirs in zip(pair, (at_x, at_target), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_temperatures_that_the_entropy_does_not_fix():
    x = torch.tensor([[1.0, 2.0], [3.0, 3.0], [0.0, 1.0]], requires_grad=True)
    target = torch.tensor([0.0, np.log(2.0), np.log(2.0)], requires_grad=True)
    tau = logitkit.entropy_temperature(x, target)
    assert tau.tolist() == [0.0, 1.0, INF]
    for g in torch.autograd.grad(tau[:2].sum(), (x, target)):
        assert (g == 0.0).all()


@pytest.mark.parametrize("name", ["logmeanexp", "smooth_max", "entropy_temperature"])
def test_opcheck_of_temperatures(name):
    x = normal(3, 4).requires_grad_()
    others = {"logmeanexp": ([0],), "smooth_max": ([0, 1], 0.7)}.get(name)
    if others is None:
        others = (torch.full((3, 1), 0.8, dtype=torch.float64, requires_grad=True), [1])
    torch.library.opcheck(getattr(OPS, name).default, (x, *others))


def test_entropy_temperature_under_transforms():
    x, function = normal(3, 4), logitkit.entropy_temperature
    targets = torch.tensor([0.3, 0.5], dtype=torch.float64)
    expected = torch.stack([function(x, t) for t in targets], 1)
    mapped = vmap(vmap(function, (None, 0)), (0, None))(x, targets)
    torch.testing.assert_close(mapped, expected, rtol=1e-15, atol=0.0)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, 0.3), expected[:, 0], rtol=1e-15, atol=0.0)


# Transforms.


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("dim", [[1], [0, 2], [-1]])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "gaps", "expanded"])
def test_opcheck(name, dim, requires_grad, layout):
    x = LAYOUTS[layout](normal(3, 4, 5, dtype=torch.float32)).requires_grad_(requires_grad)
    torch.library.opcheck(getattr(OPS, name).default, (x, dim))


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_opcheck_of_several_results(requires_grad, layout):
    x = LAYOUTS[layout](normal(3, 4, 5)).requires_grad_(requires_grad)
    weights = normal(3, 4, 5).view_as(x).requires_grad_(requires_grad)
    torch.library.opcheck(OPS.softmax_stats.default, (x, [0, 2], 0.7))
    torch.library.opcheck(OPS.weighted_logsumexp.default, (x, weights, [1]))


@along
@pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
@pytest.mark.parametrize("axis", [0, -1, None])
def test_vmap(ours, theirs, in_dim, axis):
    x = normal(4, 3, 5)
    expected = [flat(ours(y, axis)) for y in x.unbind(in_dim)]
    mapped = flat(vmap(lambda y: ours(y, axis), in_dim)(x))
    twice = flat(vmap(vmap(lambda y: ours(y, axis), -1))(x.movedim(in_dim, 0)[..., None]))
    for i, rows in enumerate(zip(*expected, strict=True)):
        for actual in (mapped[i], twice[i][:, 0]):
            torch.testing.assert_close(actual, torch.stack(rows), rtol=1e-15, atol=1e-15)


def test_vmap_over_either_argument():
    a, b = normal(4, 3), normal(3, 2)
    expected = torch.stack([logitkit.logsumexp(row, b=b[:, 1].exp()) for row in a])
    of_rows = vmap(lambda row: logitkit.logsumexp(row, b=b[:, 1].exp()))(a)
    of_both = vmap(vmap(lambda row, w: logitkit.logsumexp(row, b=w), (None, 1)), (0, None))
    torch.testing.assert_close(of_rows, expected, rtol=0.0, atol=0.0)
    torch.testing.assert_close(of_both(a, b.exp())[:, 1], expected, rtol=0.0, atol=0.0)


def test_vmap_of_the_registered_operators():
    x = normal(4, 3, 5)
    expected = torch.stack([OPS.logsumexp(y, [0]) for y in x.unbind(1)])
    torch.testing.assert_close(vmap(lambda y: OPS.logsumexp(y, [0]), 1)(x), expected)


TRANSFORMS = {
    "grad": grad,
    "jacrev of grad": lambda f: jacrev(grad(f)),
    "jacfwd": jacfwd,
    "hessian": hessian,
    "jacrev twice": lambda f: jacrev(jacrev(f)),
    "jacfwd twice": lambda f: jacfwd(jacfwd(f)),
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(f)),
    "third order": lambda f: jacfwd(hessian(f)),
    "jvp": lambda f: lambda x: jvp(f, (x,), (x.cos(),)),
    "vmap of grad": lambda f: lambda x: vmap(grad(f), 1)(torch.stack([x, 2.0 * x], 1)),
    "vmap of hessian": lambda f: lambda x: vmap(hessian(f))(torch.stack([x, 2.0 * x])),
    "grad of vmap": lambda f: grad(lambda x: vmap(f)(torch.stack([x, 2.0 * x])).sum()),
    "grad of a closure": lambda f: lambda x: grad(lambda s: s * f(x))(torch.tensor(2.0).double()),
}
transforms = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


@along
@transforms
def test_transforms(ours, theirs, transform):
    x = normal(5, spread=1.0)

    def total(function):
        return lambda x: sum(y.square().sum() for y in flat(function(x, 0)))

    actual, expected = (transform(total(function))(x) for function in (ours, theirs))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@transforms
def test_compiled_transforms_leave_the_compiler(transform):
    x = normal(5, spread=1.0)

    def function(x):
        return logitkit.softmax(x, 0).square().sum()

    compiled = torch.compile(transform(function), backend="aot_eager")
    torch.testing.assert_close(compiled(x), transform(function)(x))


def test_differentiated_graphs_are_not_compiled_in_part():
    compiled = torch.compile(grad(logitkit.logsumexp), fullgraph=True, backend="aot_eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"transforms of torch\.func"):
        compiled(normal(5))


# The compiler.


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch.compiler.reset()


@along
@pytest.mark.parametrize("axis", [1, (0, 2), None])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_compile(ours, theirs, axis, dynamic, requires_grad):
    compiled = torch.compile(
        lambda x: ours(x, axis), fullgraph=True, backend="aot_eager", dynamic=dynamic
    )
    for shape in [(3, 4, 5), (4, 3, 6)] if dynamic else [(3, 4, 5)]:
        x = normal(*shape, dtype=torch.float32).requires_grad_(requires_grad)
        actual, expected = flat(compiled(x)), flat(ours(x, axis))
        for y, z in zip(actual, expected, strict=True):
            torch.testing.assert_close(y, z, rtol=0.0, atol=0.0)
        if requires_grad:
            pair = [
                torch.autograd.grad(sum(y.square().sum() for y in ys if y.requires_grad), x)[0]
                for ys in (actual, expected)
            ]
            torch.testing.assert_close(*pair)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_compile_with_inductor(dtype):
    def function(x):
        stats = logitkit.softmax_stats(x, 1)
        y = logitkit.log_softmax(x.transpose(0, 1), 0), logitkit.logsumexp(x, (0, 1))
        return logitkit.softmax(x), *stats, *y

    x = normal(3, 5, dtype=dtype).requires_grad_()
    actual, expected = torch.compile(function, fullgraph=True)(x), function(x)
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=0.0)
    if dtype in (torch.float32, torch.float64):  # rounded elsewhere in what is fused
        pair = [
            torch.autograd.grad(sum(y.square().sum() for y in ys), x)[0]
            for ys in (actual, expected)
        ]
        torch.testing.assert_close(*pair)


def test_compile_without_a_transform_and_with_vmap_only():
    x = normal(3, 5)
    compiled = torch.compile(vmap(logitkit.softmax), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), logitkit.softmax(x, 1), rtol=0.0, atol=0.0)


def test_export():
    class Model(torch.nn.Module):
        def forward(self, x):
            return logitkit.softmax(x, 1)

    x = normal(3, 5)
    program = torch.export.export(Model(), (x,))
    assert OPS.softmax.default in [node.target for node in program.graph.nodes]
    torch.testing.assert_close(program.module()(x), logitkit.softmax(x, 1))


# What else may be in the way of reading memory unseen.


class Seen(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):  # noqa: D105
        self.ops.append(op)
        return op(*args, **(kwargs or {}))


class SeenFunctions(TorchFunctionMode):
    """Notes the functions that are called."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_function__(self, op, types, args=(), kwargs=None):  # noqa: D105
        self.ops.append(op)
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Seen, SeenFunctions])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_modes_see_the_operator(mode, requires_grad):
    x = normal(3, 5).requires_grad_(requires_grad)
    with mode() as seen:
        logitkit.softmax(x, 1)
    assert OPS.softmax.default in seen.ops


def test_traces_hold_the_operator():
    x = normal(3, 5)
    for tracing in ("real", "fake", "symbolic"):
        code = make_fx(lambda x: logitkit.logsumexp(x, 1), tracing_mode=tracing)(x).code
        assert "logitkit.logsumexp" in code
    code = make_fx(grad(lambda x: logitkit.logsumexp(x)))(x).code
    assert "logitkit.softmax" in code
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(lambda x: logitkit.softmax(x, 1), x, check_trace=False)
    torch.testing.assert_close(traced(2.0 * x), logitkit.softmax(2.0 * x, 1))


def test_fake_and_meta_tensors():
    with torch._subclasses.FakeTensorMode():
        fake = logitkit.softmax_stats(torch.empty(3, 5), 0)
    assert [tuple(y.shape) for y in fake] == [(5,)] * 4
    meta = logitkit.logsumexp(torch.empty(3, 5, device="meta"), 0, keepdims=True)
    assert meta.device.type == "meta"
    assert meta.shape == (1, 5)


class Logged(torch.Tensor):
    """A subclass that only says which functions it meets."""

    ops = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, op, types, args=(), kwargs=None):  # noqa: D105
        cls.ops.append(op)
        return super().__torch_function__(op, types, args, kwargs or {})


def test_subclasses():
    x = normal(3, 5)
    y = logitkit.softmax(x.as_subclass(Logged), 1)
    assert type(y) is Logged
    assert OPS.softmax.default in Logged.ops
    torch.testing.assert_close(y.as_subclass(torch.Tensor), logitkit.softmax(x, 1))
    parameter = torch.nn.Parameter(x)
    assert logitkit.softmax(parameter, 1).requires_grad
    with torch.no_grad():
        assert not logitkit.softmax(parameter, 1).requires_grad


def test_inference_mode():
    x = normal(3, 5)
    expected = logitkit.softmax(x, 1)
    with torch.inference_mode():
        assert logitkit.softmax(x.requires_grad_(), 1).is_inference()
        torch.testing.assert_close(logitkit.softmax(x + 0.0, 1), expected, rtol=0.0, atol=0.0)


def test_lazy_negation():
    x = normal(3, 5)
    assert torch._neg_view(x).is_neg()
    torch.testing.assert_close(logitkit.softmax(torch._neg_view(x), 1), logitkit.softmax(-x, 1))


@along
@pytest.mark.parametrize("requires_grad", [False, True])
def test_dual_numbers(ours, theirs, requires_grad):
    x, t = normal(3, 5).requires_grad_(requires_grad), normal(5, 3).T
    with forward_ad.dual_level():
        pairs = [flat(function(forward_ad.make_dual(x, t), 1)) for function in (ours, theirs)]
        for y, z in zip(*pairs, strict=True):
            if (tangent := forward_ad.unpack_dual(z).tangent) is not None:
                torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, tangent)


def test_module():
    layer = torch.nn.Linear(5, 3)
    logitkit.log_softmax(layer(normal(2, 5, dtype=torch.float32)), 1)[:, 0].sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_changes_in_place_are_noticed():
    x = normal(3, 5).requires_grad_()
    y = 2.0 * x
    z = logitkit.softmax(y, 1).square().sum()
    y.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


# out=


def test_out():
    x = normal(4, 6, dtype=torch.float32)
    expected = logitkit.softmax(x, 1)
    for out in (torch.empty(4, 6), torch.empty(6, 4).T, torch.empty(4, 12)[:, ::2]):
        assert logitkit.softmax(x, 1, out=out) is out
        torch.testing.assert_close(out, expected, rtol=0.0, atol=0.0)
    base = torch.zeros(5, 6)
    base[:4] = x
    logitkit.softmax(base[:4], 1, out=base[1:])  # overlaps
    torch.testing.assert_close(base[1:], expected, rtol=0.0, atol=0.0)
    out = torch.empty(4)
    assert logitkit.logsumexp(x, 1, out=out) is out
    value, sign = logitkit.logsumexp(x, 1, x, return_sign=True, out=out)
    assert value is out
    assert sign.shape == (4,)
    half = torch.empty(4, 6, dtype=torch.bfloat16)
    assert logitkit.log_softmax(half.zero_(), 1, out=half) is half
    assert half[0, 0].item() == pytest.approx(-np.log(6.0), rel=2**-8)


@along
def test_out_takes_no_part_in_derivatives(ours, theirs):
    x = normal(3, 5)
    with pytest.raises(RuntimeError, match=r"out=\.\.\. do not support automatic differentiation"):
        logitkit.softmax(x.clone().requires_grad_(), 1, out=torch.empty_like(x))
    with pytest.raises(RuntimeError, match="leave out= away"):
        logitkit.logsumexp(x, 1, out=torch.empty(3, dtype=x.dtype, requires_grad=True))
    with torch.no_grad():
        logitkit.softmax(x.requires_grad_(), 1, out=torch.empty_like(x))


def test_out_under_transforms():
    x = normal(3, 5)
    out = torch.empty_like(x)
    compiled = torch.compile(
        lambda x, out: logitkit.softmax(x, 1, out=out), fullgraph=True, backend="aot_eager"
    )
    compiled(x, out)
    torch.testing.assert_close(out, logitkit.softmax(x, 1), rtol=0.0, atol=0.0)
    mapped = torch.empty_like(x)
    vmap(lambda x, out: logitkit.softmax(x, out=out))(x, mapped)
    torch.testing.assert_close(mapped, out, rtol=0.0, atol=0.0)


# Errors.


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch.empty(3, 4), TypeError, "float64"),
        (torch.empty(4, 3, dtype=torch.float64), ValueError, r"\(3, 4\).*\(4, 3\)"),
        (np.empty((3, 4)), TypeError, "tensor, not a ndarray"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_wrong_out(out, error, message, dtype):
    if dtype == torch.bfloat16 and isinstance(out, torch.Tensor):
        message = message.replace("float64", "bfloat16")
        out = out if error is TypeError else out.to(dtype)
    with pytest.raises(error, match=message):
        logitkit.softmax(torch.zeros(3, 4, dtype=dtype), 1, out=out)


@along
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, dtype=torch.float8_e5m2), "not torch.float8_e5m2"),
        (torch.zeros(3).to_sparse(), "layout torch.sparse_coo"),
    ],
)
def test_wrong_tensors(ours, theirs, x, message):
    with pytest.raises(TypeError, match=message):
        ours(x, 0)


COMPLEX = {name: ALONG[name][0] for name in ("softmax", "log_softmax", "logsumexp", "weighted")}


@pytest.mark.parametrize("ours", COMPLEX.values(), ids=COMPLEX)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_tensors_are_as_arrays(ours, dtype):
    x = torch.from_numpy(np.random.default_rng(31).normal(size=(3, 4, 2))).view(torch.complex128)
    x = x[..., 0].to(dtype)
    for z in (x, x.T, x.conj(), x[:, ::2]):
        assert_same(ours(z, 1), ours(z.resolve_conj().numpy(), 1))
    wanted = x.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"no derivative: pass x\.detach"):
        ours(wanted, 1)
    with torch.no_grad():
        assert_same(ours(wanted, 1), ours(x.numpy(), 1))
    with pytest.raises(TypeError, match=f"real numbers .* not {dtype}"):
        ours(x.to("meta"), 1)


def test_complex_weights():
    a = torch.tensor([0.0, 1.0, 2.0])
    for b in (2j, torch.tensor([1j, 1.0, -1j])):
        of_array = b.numpy() if isinstance(b, torch.Tensor) else b
        want = logitkit.logsumexp(a.numpy(), b=of_array, return_sign=True)
        assert_same(logitkit.logsumexp(a, b=b, return_sign=True), want)
    out = torch.empty(3, dtype=torch.complex64)
    assert logitkit.softmax(a + 0j, out=out) is out
    torch.testing.assert_close(out, torch.softmax(a, 0) + 0j)


def test_softmax_stats_refuses_complex_tensors():
    with pytest.raises(TypeError, match=r"real numbers .* not torch\.complex64"):
        logitkit.softmax_stats(torch.zeros(3, dtype=torch.complex64), 0)


def test_a_tensor_on_a_gpu_stays_there():
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(2, 3, device="cuda", dtype=torch.bfloat16)
        assert logitkit.softmax(x, 1).device == x.device
        assert logitkit.logsumexp(x, 1).dtype == torch.bfloat16


def test_other_devices_are_refused_by_name():
    with torch._subclasses.FakeTensorMode(), pytest.raises(TypeError, match=r"mps:0.*x\.cpu\(\)"):
        logitkit.softmax(torch.empty(3, device="mps"), 0)


@along
@pytest.mark.parametrize("requires_grad", [False, True])
def test_wrong_axes(ours, theirs, requires_grad):
    x = normal(3, 4).requires_grad_(requires_grad)
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
        ours(x, 2)
    with pytest.raises(ValueError, match="duplicate"):
        ours(x, (0, -2))


@pytest.mark.parametrize("requires_grad", [False, True])
def test_wrong_arguments(requires_grad):
    x = normal(3, 4).requires_grad_(requires_grad)
    with pytest.raises(ValueError, match="expected 0 <= scale < inf, not inf"):
        logitkit.softmax_stats(x, scale=INF)
    with pytest.raises(TypeError, match="multiply x by the tensor"):
        logitkit.softmax_stats(x, scale=torch.tensor(2.0))
    with pytest.raises(TypeError, match=r"not builtins\.list"):
        bridge.softmax([1.0, 2.0])


# Installation.


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_without_torch():
    code = "import sys; sys.modules['torch'] = None; import logitkit; import logitkit.torch"
    done = run(code)
    assert "ImportError" in done.stderr
    assert "pip install 'logitkit[torch]'" in done.stderr


def test_first_use_under_a_transform():
    code = (
        "import torch, logitkit\n"
        "x = torch.arange(6.0).reshape(2, 3)\n"
        "y = torch.func.vmap(logitkit.softmax)(x)\n"
        "assert torch.equal(y, logitkit.softmax(x, 1))\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr

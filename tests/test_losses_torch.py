"""Losses of tensors: derivatives of every order, the compiler, and PyTorch's transforms."""

import numpy as np
import pytest
from loss_cases import CASES, LABELS, function

from logitkit import losses

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck

from logitkit.losses._metric_kernels import SURROGATES
from logitkit.losses._row_losses import ROW_LOSSES
from logitkit.torch import _losses  # registers the operators

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),
]

each = pytest.mark.parametrize(
    "case", CASES, ids=[f"{i}-{case.name}" for i, case in enumerate(CASES)]
)


def tensors(case, requires_grad=True):
    """Return the case with tensors in place of arrays."""
    args = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in case.args]
    for x in args[: case.differentiable]:
        x.requires_grad_(requires_grad)
    options = {
        k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in case.options.items()
    }
    return case._replace(args=tuple(args), options=options)


@each
def test_value_and_gradient_are_those_of_arrays(case):
    argnums = tuple(range(case.differentiable))
    expected, gradients = losses.value_and_grad(getattr(losses, case.name), argnums)(
        *case.args, **case.options
    )
    case = tensors(case)
    value = function(case)(*case.args[: case.differentiable])
    assert value.item() == pytest.approx(expected, rel=1e-14)
    value.backward()
    for x, gradient in zip(case.args, gradients, strict=False):
        np.testing.assert_allclose(x.grad, gradient, rtol=1e-13, atol=1e-16)


KINDS = {(case.name, case.differentiable, case.options.get("form")): case for case in CASES}


@pytest.mark.parametrize("case", KINDS.values(), ids=lambda case: case.name)
def test_derivatives(case):
    case = tensors(case)
    if case.options.get("form") == "debiased":
        pytest.skip("not the gradient of its value")
    varied = case.args[: case.differentiable]

    def loss(*args):
        if case.differentiable == 2 and case.name not in LABELS:
            args = args[0], torch.softmax(args[1], -1)  # rows that sum to 1
        return function(case)(*args)

    assert gradcheck(loss, varied, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(loss, varied, check_fwd_over_rev=True, fast_mode=True)


def prepared(loss):
    """Return a case of a definition, as the terms that its function makes of tensors."""
    for case in CASES:
        function = getattr(losses, case.name)
        made = {function}
        if case.name in {"expected_accuracy", "smooth_accuracy"}:
            made.add(losses.stretched(function))
        if f"{case.name}_surrogate" == loss.name:
            made.add(losses.from_metric(function))
        for each in made:
            terms = each.terms(*tensors(case, False).args, **tensors(case).options)
            if terms.loss is loss:
                return terms
    return pytest.fail(f"no case of {loss.name}")


@each
def test_tensors_elsewhere_stay_there(case):
    def moved(x):
        return torch.tensor(x, device="meta") if isinstance(x, np.ndarray) else x

    args = [moved(x) for x in case.args]
    for x in args[: case.differentiable]:
        x.requires_grad_()
    # Segments are counted in main memory.
    options = {k: v if k == "segments" else moved(v) for k, v in case.options.items()}
    value = getattr(losses, case.name)(*args, **options)
    assert value.device.type == "meta"
    value.backward()
    assert args[0].grad.device.type == "meta"


@pytest.mark.parametrize("loss", ROW_LOSSES, ids=lambda loss: loss.name)
def test_formula_for_gpus_is_that_of_the_kernel(loss):
    terms = prepared(loss)
    arrays = [None if x is None else x.detach() for x in terms.arrays]
    argnums = [
        i
        for i, x in enumerate(arrays[: loss.differentiable])
        if x is not None and x.is_floating_point()
    ]
    args = (*arrays, *(terms.numbers[name] for name, _ in loss.numbers), argnums)
    of_formula = _losses._by_formula(loss, *args)
    for found, want in zip(of_formula, _losses._compute(loss, *args), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-7, atol=1e-7)
        assert found.stride() == want.stride()
    elsewhere = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in args]
    for found, want in zip(_losses._by_formula(loss, *elsewhere), of_formula, strict=True):
        assert found.device.type == "meta"
        assert found.shape == want.shape


@pytest.mark.parametrize("loss", ROW_LOSSES, ids=lambda loss: loss.name)
def test_opcheck(loss):
    terms = prepared(loss)
    arrays = [
        x.detach().clone().requires_grad_(i < loss.differentiable)
        if x is not None and x.is_floating_point()
        else x
        for i, x in enumerate(terms.arrays)
    ]
    varied = arrays[: loss.differentiable]
    argnums = [i for i, x in enumerate(varied) if x is not None and x.requires_grad]
    numbers = [terms.numbers[name] for name, _ in loss.numbers]
    op = getattr(torch.ops.logitkit, loss.name).default
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if not loss.name.endswith(("_surrogate", "_debiased")):  # not derivatives of the value
        tests.append("test_aot_dispatch_dynamic")
    torch.library.opcheck(op, (*arrays, *numbers, argnums), test_utils=tests)


ONE_OF_EACH = list({case.name: case for case in CASES}.values())


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_compile(case):
    torch.compiler.reset()
    case = tensors(case)
    varied = case.args[: case.differentiable]
    expected = function(case)(*varied)
    gradients = torch.autograd.grad(expected, varied)
    compiled = torch.compile(function(case), fullgraph=True, backend="aot_eager")
    actual = compiled(*varied)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0.0)
    for ours, theirs in zip(torch.autograd.grad(actual, varied), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_half_types_are_computed_in_float32(case):
    case = tensors(case, requires_grad=False)
    for dtype in (torch.float16, torch.bfloat16):
        x = case.args[0].to(dtype)
        value = function(case._replace(differentiable=1))(x)
        assert value.dtype == dtype
        exact = function(case._replace(differentiable=1))(x.float())
        assert value.item() == exact.to(dtype).item()


def test_transforms():
    case = tensors(CASES[0], requires_grad=False)
    x, y = case.args
    gradient = torch.func.grad(lambda x, y: losses.focal(x, y))
    mapped = torch.vmap(gradient)(x[:, None], y[:, None])
    x.requires_grad_()
    losses.focal(x, y, reduction="sum").backward()
    torch.testing.assert_close(mapped[:, 0], x.grad)
    hessian = torch.func.hessian(lambda x: losses.focal(x, y[0]))(x[0].detach())
    torch.testing.assert_close(hessian, hessian.T)


@each
def test_every_loss_is_mapped_and_transformed(case):
    """``torch.vmap`` with and without a derivative inside, and every kind of derivative."""
    case = tensors(case, requires_grad=False)
    f = function(case._replace(differentiable=1))
    x = torch.stack([case.args[0], 0.5 * case.args[0]])
    values, gradients = torch.vmap(f)(x), torch.vmap(torch.func.grad(f))(x)
    for one, value, gradient in zip(x, values, gradients, strict=True):
        torch.testing.assert_close(value, f(one))
        one.requires_grad_()
        torch.testing.assert_close(gradient, torch.autograd.grad(f(one), one)[0])
    torch.testing.assert_close(torch.func.jacrev(f)(x[0].detach()), gradients[0])
    torch.testing.assert_close(torch.func.jacfwd(f)(x[0].detach()), gradients[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16])
def test_classes_of_any_integer_type(dtype):
    """A class of 156 is -100 in uint8, and a mask as an index."""
    x, weight = torch.randn(3, 200, dtype=torch.float64), torch.rand(200)
    y = torch.tensor([100 if dtype is torch.int8 else 156, 3, 7])
    for name in ("cross_entropy", "focal", "expected_accuracy"):
        for options in ({}, {"weight": weight}, {"ignore_index": 7}):
            loss = getattr(losses, name)
            torch.testing.assert_close(loss(x, y.to(dtype), **options), loss(x, y, **options))
    hard = torch.rand(3, 200) > 0.9
    value = losses.multilabel_cross_entropy(x, hard.to(dtype), ignore_index=-255)
    torch.testing.assert_close(value, losses.multilabel_cross_entropy(x, hard))


def test_soft_targets_of_short_types():
    x = torch.randn(400, 3, dtype=torch.float64)
    t = torch.randn(400, 3).softmax(-1).to(torch.bfloat16)
    assert (t.double().sum(-1) - 1.0).abs().max() > 1e-3
    expected = torch.nn.functional.cross_entropy(x, t.double())
    torch.testing.assert_close(losses.cross_entropy(x, t), expected)


def test_an_array_beside_tensors():
    s, t = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(losses.symmetric_kl(s, t.numpy()), losses.symmetric_kl(s, t))


def test_reduction_by_a_function_and_weights_have_gradients():
    case = tensors(CASES[0], requires_grad=False)
    x, y = case.args
    x.requires_grad_()
    weight = torch.linspace(0.5, 2.0, 4, dtype=torch.float64, requires_grad=True)
    values = losses.focal(x, y, sample_weight=weight, reduction=lambda v: v.square().sum())
    values.backward()
    single = losses.focal(x.detach(), y, reduction="none")
    torch.testing.assert_close(weight.grad, 2.0 * weight.detach() * single**2)
    threshold = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    s = x.detach().requires_grad_()
    losses.multilabel_cross_entropy(s, s > 0.3, threshold=threshold).backward()
    torch.testing.assert_close(threshold.grad, -s.grad.sum(1))


def test_scale_of_noise_has_a_gradient():
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.5, 1.0, 2.0, 0.7], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 3, 1])
    x.requires_grad_()
    assert gradcheck(lambda x, s: losses.expected_accuracy(x, y, scale=s), (x, scale))
    one = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s: losses.expected_accuracy(x.detach(), y, scale=s), (one,))


def test_decoding_returns_tensors():
    s = torch.tensor([[0.3, -0.2], [1.0, 0.0]])
    assert losses.multilabel_probabilities(s).dtype == torch.float32
    assert losses.multilabel_labels(s).tolist() == [[True, False], [True, False]]
    found = losses.grouped_stationary_target(s)
    torch.testing.assert_close(losses.grouped_probabilities(s), found.target)
    decoded = losses.grouped_probabilities(s, sums=found.sums)
    torch.testing.assert_close(decoded, found.target.float())


def test_arrays_and_tensors_do_not_mix():
    s = torch.zeros(2, 3)
    with pytest.raises(TypeError, match="backward"):
        losses.value_and_grad(losses.focal)(s, torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="as logits are"):
        losses.focal(s.numpy(), torch.tensor([0, 1]))
    assert losses.focal(s, np.array([0, 1])).item() > 0.0


@pytest.mark.parametrize("name", SURROGATES)
def test_losses_made_of_metrics(name):
    generator = torch.Generator().manual_seed(1)
    s = torch.randn(12, dtype=torch.float64, generator=generator, requires_grad=True)
    y = torch.arange(12) % 3 == 0
    for make in (losses.from_metric, losses.stretched):
        loss = make(getattr(losses, name))
        expected, gradient = losses.value_and_grad(loss)(s.detach().numpy(), y.numpy())
        value = loss(s, y)
        assert value.item() == pytest.approx(expected, rel=1e-13)
        (actual,) = torch.autograd.grad(value, s)
        np.testing.assert_allclose(actual, gradient, rtol=1e-12, atol=1e-15)

"""Attention of tensors against attention of arrays, its derivatives, and PyTorch's transforms."""

import numpy as np
import pytest

import logitkit
from logitkit import (
    AtLengths,
    EntropyInvariant,
    GradientMaximal,
    LogBase,
    LogClip,
    YaRN,
    _cpu,
    attention,
    attention_entropy_profile,
    attention_vjp,
    attention_with_stats,
    estimate_kappa,
    merge_attention,
    reference,
    scaled_dot_product_attention,
)

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, vmap

from logitkit.torch._attention_arguments import lowered_arguments
from logitkit.torch._attention_operator import (
    TENSOR_COUNT,
    attention_op,
    attention_output_op,
    attention_with_logsumexp_op,
)

INF, NAN = float("inf"), float("nan")
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
OPS = torch.ops.logitkit

pytestmark = [  # of what PyTorch itself does
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


def normal(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def three(*shape, dtype=torch.float64, keys=None, key_heads=None, value_dim=None):
    """Return query, key and value."""
    *lead, heads, length, dim = shape
    keys, key_heads, value_dim = keys or length, key_heads or heads, value_dim or dim
    shapes = shape, (*lead, key_heads, keys, dim), (*lead, key_heads, keys, value_dim)
    return [normal(*s, dtype=dtype) for s in shapes]


def array(x):
    if isinstance(x, torch.Tensor):
        return x.detach().numpy()
    if isinstance(x, EntropyInvariant):
        return EntropyInvariant(array(x.kappa))
    return x


def arrays(options):
    return {name: array(x) for name, x in options.items()}


BOOL = normal(5, 7) > -0.5
BOOL[0] = False  # a row that sees nothing
FLOAT = normal(2, 1, 5, 7).masked_fill(~BOOL, -INF)
DENSE = {
    "plain": {},
    "causal": {"is_causal": True},
    "lower right": {"is_causal": True, "causal_alignment": "lower_right"},
    "window": {"window": (2, 1), "query_offsets": [1, 2]},
    "bool mask": {"mask": BOOL, "key_lengths": [7, 3]},
    "float mask": {"mask": FLOAT},
    "mask and bias": {"mask": BOOL, "bias": normal(4, 1, 7)},
    "two terms": {"mask": FLOAT, "bias": normal(4, 5, 1)},
    "cap, slopes and sinks": {
        "softcap": 1.5,
        "alibi_slopes": torch.tensor([0.0, 0.1, 0.2, 0.3]),
        "sinks": normal(4),
    },
    "sinks, nothing seen": {"sinks": normal(4), "mask": BOOL},
    "number": {"scale": 0.3},
    "scale of heads": {"scale": normal(4).exp()},
    "scale of rows": {"scale": normal(2, 4, 5).exp()},
    "kappa": {"scale": EntropyInvariant(normal(4).exp()), "mask": BOOL},
    "one kappa": {"scale": EntropyInvariant(torch.tensor(0.7)), "is_causal": True},
    "all": {
        "mask": BOOL,
        "bias": normal(4, 5, 7),
        "window": (3, 2),
        "causal_alignment": "lower_right",
        "key_lengths": torch.tensor([7, 6]),
        "scale": normal(2, 4, 5).exp(),
        "softcap": 2.0,
        "alibi_slopes": [0.0, 0.1, 0.2, 0.3],
        "sinks": normal(4),
    },
}
dense = pytest.mark.parametrize("options", DENSE.values(), ids=DENSE)
SCHEDULES = {
    "default": EntropyInvariant(),
    "base": LogBase(8, least=2),
    "clip": LogClip(3),
    "YaRN": YaRN(2),
    "gradient": GradientMaximal(),
    "lengths": AtLengths(LogBase(8), np.arange(1, 6)),
}


@dense
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits_are_those_on_arrays(options, dtype):
    x = three(2, 4, 5, 3, keys=7, key_heads=2, value_dim=6, dtype=dtype)
    # Two terms are added to each other first, where arrays have them added one by one.
    tolerance = 16.0 * torch.finfo(dtype).eps if options is DENSE["two terms"] else 0.0
    expected = attention_with_stats(*map(array, x), **arrays(options))
    for tensors in (x, [t.clone().requires_grad_() for t in x]):
        result = attention_with_stats(*tensors, **options)
        for ours, theirs in zip(result, expected, strict=True):
            assert str(ours.dtype).removeprefix("torch.") == theirs.dtype.name
            np.testing.assert_allclose(array(ours), theirs, rtol=0, atol=tolerance)
        output = array(attention(*tensors, **options))
        np.testing.assert_allclose(output, expected.output, rtol=0, atol=tolerance)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules(schedule):
    x = three(2, 4, 5, 3, keys=7)
    expected = attention(*map(array, x), is_causal=True, scale=schedule)
    ours = attention(*x, is_causal=True, scale=schedule)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_half_types(dtype, requires_grad):
    x = [t.requires_grad_(requires_grad) for t in three(1, 2, 5, 4, dtype=dtype)]
    wide = [t.detach().float().requires_grad_(requires_grad) for t in x]
    ours, exact = attention(*x, is_causal=True), attention(*wide, is_causal=True)
    assert ours.dtype == dtype
    if dtype == torch.float16 or _cpu.default_isa().name not in ("avx512_bf16", "amx"):
        assert torch.equal(ours, exact.to(dtype))
    # Outputs are rounded, and so are weights of bfloat16 where that is multiplied.
    bound = torch.finfo(dtype).eps / 2 * wide[2].abs().max().item()
    torch.testing.assert_close(ours.float(), exact, rtol=0, atol=bound)
    assert attention_with_stats(*x).logsumexp.dtype == torch.float32
    if requires_grad:
        g = normal(*ours.shape, dtype=dtype)
        for a, b in zip(
            torch.autograd.grad(ours, x, g),
            torch.autograd.grad(exact, wide, g.float()),
            strict=True,
        ):
            assert a.dtype == dtype
            # The output that the gradient reads is rounded to the type.
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(a.float(), b, rtol=4 * eps, atol=4 * eps)


LAYOUTS = {
    "no heads": ((5, 3), (7, 3)),
    "one batch axis less": ((4, 5, 3), (2, 4, 7, 3)),
    "broadcast": ((3, 1, 4, 5, 3), (2, 2, 7, 3)),
    "no batches": ((0, 4, 5, 3), (0, 4, 7, 3)),
    "no queries": ((2, 4, 0, 3), (2, 4, 7, 3)),
    "no keys": ((2, 4, 5, 3), (2, 4, 0, 3)),
}


@pytest.mark.parametrize(("of_query", "of_key"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_shapes(of_query, of_key, requires_grad):
    query, key, value = (normal(*shape) for shape in (of_query, of_key, of_key))
    heads = (1,) * (len(of_key) > 2)
    bias = normal(*of_key[:-3], *heads, of_query[-2], of_key[-2])
    options = {"bias": bias, "scale": EntropyInvariant(), "is_causal": True}
    expected = attention_with_stats(*map(array, (query, key, value)), **arrays(options))
    given = [x.requires_grad_(requires_grad) for x in (query, key, value)]
    for ours, theirs in zip(attention_with_stats(*given, **options), expected, strict=True):
        np.testing.assert_array_equal(array(ours), theirs)
    if requires_grad:
        output = attention(*given, **options)
        g = normal(*output.shape)
        ours = torch.autograd.grad(output, given, g, retain_graph=True)
        exact = reference.attention_vjp(*map(array, given), g.numpy(), **arrays(options))
        for a, b in zip(ours, exact, strict=False):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
        first = torch.autograd.grad(output.sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(x.square().sum() for x in first), given)
        for x, a in zip(given, second, strict=True):
            assert a.shape == x.shape
            assert a.isfinite().all()


PACKED = {"cu_seqlens_q": [0, 2, 2, 6], "cu_seqlens_k": [0, 3, 5, 8], "is_causal": True}


def packed_arrays():
    return normal(6, 4, 3), normal(8, 2, 3), normal(8, 2, 5)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("scale", [None, normal(4).exp(), normal(6, 4).exp(), LogBase(4)])
def test_packed(requires_grad, scale):
    x = [t.requires_grad_(requires_grad) for t in packed_arrays()]
    options = {**PACKED, "scale": scale}
    expected = attention_with_stats(*map(array, x), **arrays(options))
    for ours, theirs in zip(attention_with_stats(*x, **options), expected, strict=True):
        np.testing.assert_allclose(array(ours), theirs, rtol=0, atol=1e-15)
    if requires_grad:
        g = normal(6, 4, 5)
        ours = torch.autograd.grad(attention(*x, **options), x, g)
        exact = reference.attention_vjp(*map(array, x), g.numpy(), **arrays(options))
        for a, b in zip(ours, exact, strict=False):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_paged():
    query, key, value = normal(2, 4, 1, 3), normal(5, 2, 2, 3), normal(5, 2, 2, 3)
    options = {"block_table": torch.tensor([[4, 0], [2, 9]]), "key_lengths": torch.tensor([3, 2])}
    expected = attention(*map(array, (query, key, value)), **arrays(options))
    np.testing.assert_array_equal(attention(query, key, value, **options), expected)
    output = attention(query.requires_grad_(), key, value, **options)
    with pytest.raises(ValueError, match="a paged cache has no gradients"):
        output.sum().backward()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_no_copy(dtype, requires_grad, monkeypatch):
    calls, kernel = [], logitkit._cpu.attention

    def spy(query, key, value, out, *args, **options):
        calls.append([x.__array_interface__["data"][0] for x in (query, key, value, out)])
        kernel(query, key, value, out, *args, **options)

    monkeypatch.setattr(logitkit._cpu, "attention", spy)
    # As they come out of a linear layer: heads beside dimensions.
    x = [normal(2, 5, 4, 3, dtype=dtype).transpose(1, 2) for _ in range(3)]
    output = attention(*(t.requires_grad_(requires_grad) for t in x))
    assert calls == [[t.data_ptr() for t in (*x, output)]]


# Derivatives.


def smooth(result):
    """Return the results that have derivatives, finite."""
    lse = result.logsumexp.masked_fill(result.logsumexp == -INF, 0.0)
    return result.output, lse, result.entropy


def with_tensors(options):
    """Return the names and values of the differentiable options, and a function that sets them."""
    found = {
        name: x
        for name, x in options.items()
        if isinstance(x, torch.Tensor) and x.is_floating_point() and name != "alibi_slopes"
    }
    kappa = getattr(options.get("scale"), "kappa", None)
    if kappa is not None:
        found["scale"] = kappa

    def put(tensors):
        given = {**options, **dict(zip(found, tensors, strict=True))}
        if kappa is not None:
            given["scale"] = EntropyInvariant(given["scale"])
        return given

    return [x.double().clone().requires_grad_() for x in found.values()], put


@dense
def test_derivatives_of_first_and_second_order(options):
    x = [t.requires_grad_() for t in three(2, 4, 5, 2, keys=7, key_heads=2)]
    more, put = with_tensors(options)

    def function(query, key, value, *more):
        results = smooth(attention_with_stats(query, key, value, **put(more)))
        weights = normal(2, 4, 5, 2), normal(2, 4, 5), normal(2, 5, 4).mT
        return sum((w * torch.sin(r)).sum() for w, r in zip(weights, results, strict=True))

    assert gradcheck(function, (*x, *more), fast_mode=True)
    assert gradgradcheck(function, (*x, *more), fast_mode=True)


@pytest.mark.parametrize("result", [0, 1, 2])
def test_derivatives_of_packed_and_of_each_result(result):
    x = [t.requires_grad_() for t in packed_arrays()]
    sinks = normal(4).requires_grad_()

    def function(query, key, value, sinks):
        return smooth(attention_with_stats(query, key, value, sinks=sinks, **PACKED))[result]

    modes = {"check_forward_ad": True, "check_batched_grad": True}
    assert gradcheck(function, (*x, sinks), fast_mode=True, **modes)
    modes = {"check_fwd_over_rev": True, "check_rev_over_rev": True}
    assert gradgradcheck(function, (*x, sinks), fast_mode=True, **modes)


def test_gradients_of_arrays_and_tensors_are_one():
    x = three(2, 4, 5, 3, keys=7, key_heads=2)
    g, gl, gh = normal(2, 4, 5, 3), normal(2, 4, 5), normal(2, 4, 5)
    more = {"grad_logsumexp": gl, "grad_entropy": gh}
    for name in ("mask and bias", "cap, slopes and sinks", "scale of rows", "kappa", "number"):
        options = DENSE[name]
        exact = attention_vjp(*map(array, (*x, g)), **arrays({**more, **options}))
        result = attention_with_stats(*x, **options)
        for given in (None, result):
            ours = attention_vjp(*x, g, result=given, **more, **options)
            for field, theirs in exact._asdict().items():
                value = getattr(ours, field)
                assert (value is None) == (theirs is None)
                if theirs is not None:
                    assert tuple(value.shape) == np.shape(theirs)
                    np.testing.assert_allclose(array(value), theirs, rtol=0, atol=1e-13)


def test_rows_that_see_nothing_and_hidden_infinities():
    query, key, value = (t.requires_grad_() for t in three(1, 1, 5, 3, keys=7))
    with torch.no_grad():
        key[..., 6, :], value[..., 6, :] = NAN, INF
    mask = BOOL.clone()
    mask[:, 6] = False
    result = attention_with_stats(query, key, value, mask=mask)
    loss = result.output.square().sum() + result.entropy.sum() + result.logsumexp[..., 1:].sum()
    first = torch.autograd.grad(loss, (query, key, value), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (query, key, value))
    for g in (*first, *second):
        assert g.isfinite().all()
    assert (first[0][..., 0, :] == 0).all()
    assert (first[1][..., 6, :] == 0).all()
    assert not result.max_logit.requires_grad
    assert not result.n_visible.requires_grad


def test_merge():
    query, key, value = (t.requires_grad_() for t in three(2, 4, 5, 3, keys=8))
    parts = [
        attention_with_stats(query, key[..., s, :], value[..., s, :], sinks=sinks)
        for s, sinks in ((slice(0, 3), normal(4)), (slice(3, 8), None))
    ]
    merged, whole = (
        merge_attention(parts),
        attention_with_stats(query, key, value, sinks=normal(4)),
    )
    for a, b in zip(merged, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
    pairs = [
        torch.autograd.grad((r.output.sin().sum() + r.entropy.sum()), (query, key, value))
        for r in (merged, whole)
    ]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-13)
    nothing = attention_with_stats(query, key, value, mask=torch.zeros(5, 8, dtype=torch.bool))
    assert (merge_attention([nothing, nothing]).output == 0).all()
    with pytest.raises(ValueError, match=r"parts of one shape, not \(2, 4, 5, 3\), \(5, 3\)"):
        merge_attention([whole, attention_with_stats(query[0, 0], key[0, 0], value[0, 0])])


@dense
def test_output_without_statistics(options):
    query, *others = three(2, 4, 5, 3, keys=7, key_heads=2)

    def first_of_four(query):
        return attention_op(*lowered_arguments(query, *others, **options).arguments)[0]

    def alone(query):
        return attention_output_op(*lowered_arguments(query, *others, **options).arguments)

    def first_of_two(query):
        a = lowered_arguments(query, *others, **options).arguments
        return attention_with_logsumexp_op(*a)[0]

    def derivative(function):
        return grad(lambda q: function(q).sin().sum())

    def check(transform, query):
        want = transform(first_of_four)(query)
        for f in (alone, first_of_two):
            torch.testing.assert_close(transform(f)(query), want, rtol=0, atol=1e-14)

    for transform in (lambda f: f, derivative, lambda f: derivative(derivative(f))):
        check(transform, query)
        check(lambda f, t=transform: vmap(t(f)), torch.stack([query, query.flip(0)]))
    check(jacfwd, query)


def test_output_and_logsumexp_have_the_gradients_of_all_statistics():
    query, key, value = three(2, 4, 5, 3, keys=7, key_heads=2)
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[1] = False  # a row that sees nothing

    def gradients(op):
        def loss(*tensors):
            a = lowered_arguments(*tensors, mask=mask).arguments
            output, logsumexp = op(*a)[:2]
            return output.sin().sum() + logsumexp.nan_to_num(neginf=0.0).cos().sum()

        return grad(loss, argnums=(0, 1, 2))(query, key, value)

    pairs = [gradients(op) for op in (attention_op, attention_with_logsumexp_op)]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-14)


# Tensors that are not in main memory, here without any elements: what reads one raises an error.


def elsewhere(x):
    if isinstance(x, torch.Tensor):
        return x.detach().to("meta").requires_grad_(x.requires_grad)
    return EntropyInvariant(elsewhere(x.kappa)) if isinstance(x, EntropyInvariant) else x


def elsewhere_all(options):
    return {name: elsewhere(x) for name, x in options.items()}


def check_elsewhere(arrays, options):
    """Compare shapes and types of results and gradients with those in main memory."""
    for ours, like in zip(
        attention_with_stats(*map(elsewhere, arrays), **elsewhere_all(options)),
        attention_with_stats(*arrays, **options),
        strict=True,
    ):
        assert ours.device.type == "meta"
        assert (ours.shape, ours.dtype) == (like.shape, like.dtype)
        assert ours.numel() == 0 or ours.stride() == like.stride()
    x = [elsewhere(t).requires_grad_() for t in arrays]
    more, put = with_tensors(elsewhere_all(options))
    result = attention_with_stats(*x, **put(more))
    output = attention(*map(elsewhere, arrays), **elsewhere_all(options))  # without gradients
    assert (output.shape, output.dtype) == (result.output.shape, result.output.dtype)
    loss = sum(r.sum() for r in smooth(result)) + attention(*x, **put(more)).sum()
    first = torch.autograd.grad(loss, (*x, *more), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (*x, *more))
    for t, g, h in zip((*x, *more), first, second, strict=True):
        assert g.device == h.device == t.device
        assert g.shape == h.shape == t.shape
        assert g.dtype == h.dtype == t.dtype


@dense
def test_tensors_elsewhere_stay_there(options):
    check_elsewhere(three(2, 4, 5, 3, keys=7, key_heads=2), options)


@pytest.mark.parametrize("scale", [None, normal(4).exp(), normal(6, 4).exp(), LogBase(4)])
def test_packed_tensors_elsewhere_stay_there(scale):
    check_elsewhere(packed_arrays(), {**PACKED, "scale": scale})


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_elsewhere(schedule):
    check_elsewhere(three(2, 4, 5, 3, keys=7), {"is_causal": True, "scale": schedule})


@pytest.mark.parametrize(("of_query", "of_key"), LAYOUTS.values(), ids=LAYOUTS)
def test_shapes_elsewhere(of_query, of_key):
    arrays = [normal(*shape, dtype=torch.bfloat16) for shape in (of_query, of_key, of_key)]
    check_elsewhere(arrays, {"is_causal": True, "softcap": 2.0})


def test_other_functions_elsewhere():
    x = [elsewhere(t).requires_grad_() for t in three(2, 4, 5, 3, keys=8)]
    output = scaled_dot_product_attention(*x, attn_mask=torch.ones(5, 8, device="meta").bool())
    paged = attention(
        normal(2, 4, 1, 3).to("meta"),
        *(normal(5, 2, 2, 3).to("meta") for _ in range(2)),
        block_table=torch.tensor([[4, 0], [2, 9]], device="meta"),
        key_lengths=[3, 2],
    )
    parts = [
        attention_with_stats(x[0], *(t[..., s, :] for t in x[1:]))
        for s in (slice(0, 3), slice(3, 8))
    ]
    merged = merge_attention(parts)
    for y in (output, paged, *merged):
        assert y.device.type == "meta"
    for loss in (output.sum(), merged.output.sum() + merged.entropy.sum()):
        assert all(g.device.type == "meta" for g in torch.autograd.grad(loss, x))


@dense
def test_gradient_function_elsewhere(options):
    x = three(2, 4, 5, 3, keys=7, key_heads=2)
    more = {"grad_logsumexp": normal(2, 4, 5), "grad_entropy": normal(2, 4, 5)}
    like = attention_vjp(*x, normal(2, 4, 5, 3), **more, **options)
    x, more, options = [*map(elsewhere, x)], elsewhere_all(more), elsewhere_all(options)
    for result in (None, attention_with_stats(*x, **options)):
        g = normal(2, 4, 5, 3).to("meta")
        found = attention_vjp(*x, g, result=result, **more, **options)
        for ours, theirs in zip(found, like, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert ours.device.type == "meta"
                assert ours.shape == theirs.shape


# Transforms.


def test_opcheck():
    x = [t.requires_grad_() for t in three(2, 4, 5, 2, keys=7, key_heads=2, dtype=torch.float32)]
    a = lowered_arguments(*x, **DENSE["all"]).arguments
    constants = tuple(t.detach() if isinstance(t, torch.Tensor) else t for t in a)
    torch.library.opcheck(OPS.attention_visible_keys.default, constants)
    torch.library.opcheck(OPS.attention.default, a)
    torch.library.opcheck(OPS.attention_output.default, a)
    torch.library.opcheck(OPS.attention_with_logsumexp.default, a)
    output, logsumexp, entropy, _ = (r.detach() for r in OPS.attention(*a))
    incoming = (torch.ones_like(output).requires_grad_(), torch.ones_like(entropy), None)
    torch.library.opcheck(
        OPS.attention_vjp.default,
        (*a[:TENSOR_COUNT], output, logsumexp, entropy, *incoming, *a[TENSOR_COUNT:], True),
    )


@pytest.mark.parametrize(
    "name", ["causal", "mask and bias", "cap, slopes and sinks", "kappa", "bool mask"]
)
@pytest.mark.parametrize("in_dim", [0, 2])
def test_vmap(name, in_dim):
    options = DENSE[name]
    x = [t.movedim(0, in_dim) for t in three(3, 2, 4, 5, 2, keys=7, key_heads=2)]
    each = zip(*(t.unbind(in_dim) for t in x), strict=True)

    def function(query, key, value):
        return attention_with_stats(query, key, value, **options)

    def gradient(query, key, value):
        return grad(lambda q: sum(r.sum() for r in smooth(function(q, key, value))))(query)

    expected = [(*function(*row), gradient(*row)) for row in each]
    mapped = (*vmap(function, in_dim)(*x), vmap(gradient, in_dim)(*x))
    for a, rows in zip(mapped, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(a, torch.stack(rows), rtol=0, atol=1e-14)


def test_vmap_over_some_arguments():
    query, key, value = three(2, 4, 5, 2, keys=7)
    biases, sinks = normal(3, 1, 5, 7), normal(3, 4)
    of_bias = vmap(lambda b: attention(query, key, value, bias=b))(biases)
    of_sinks = vmap(lambda s: attention(query, key, value, sinks=s))(sinks)
    for i in range(3):
        assert torch.equal(of_bias[i], attention(query, key, value, bias=biases[i]))
        assert torch.equal(of_sinks[i], attention(query, key, value, sinks=sinks[i]))
    jacobian = jacrev(lambda b: attention(query, key, value, bias=b)[0, 0, 0])(biases[0])
    assert jacobian.shape == (2, 1, 5, 7)


def test_transforms():
    query, key, value = three(1, 2, 3, 2)

    def function(query):
        result = attention_with_stats(query, key, value, is_causal=True)
        return result.output.sin().sum() + result.entropy.sum()

    def formula(query):
        z = (query @ key.mT / 2.0**0.5).masked_fill(~torch.ones(3, 3).tril().bool(), -INF)
        p, log_p = z.softmax(-1), z.log_softmax(-1)
        return (p @ value).sin().sum() - (p * log_p.masked_fill(z == -INF, 0.0)).sum()

    for transform in (grad, jacrev, jacfwd, lambda f: jacrev(grad(f)), lambda f: jacfwd(grad(f))):
        torch.testing.assert_close(
            transform(function)(query), transform(formula)(query), rtol=0, atol=1e-12
        )


@pytest.fixture
def _fresh_compiler():
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize(
    ("name", "dynamic"),
    [("mask and bias", False), ("cap, slopes and sinks", True), ("kappa", True)],
)
def test_compile(name, dynamic):
    options = DENSE[name]
    more, put = with_tensors(options)

    def function(query, key, value, *more):
        return smooth(attention_with_stats(query, key, value, **put(more)))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    x = [t.requires_grad_() for t in three(2, 4, 5, 3, keys=7, key_heads=2)]
    pairs = [f(*x, *more) for f in (compiled, function)]
    torch.testing.assert_close(*pairs, rtol=0, atol=0)
    ours, theirs = (
        torch.autograd.grad(sum(r.sin().sum() for r in results), (*x, *more)) for results in pairs
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.usefixtures("_fresh_compiler")
def test_compile_with_inductor_and_export():
    class Model(torch.nn.Module):
        def forward(self, query, key, value):
            return scaled_dot_product_attention(query, key, value, is_causal=True)

    x = three(2, 4, 5, 3, dtype=torch.float32)
    expected = Model()(*x)
    torch.testing.assert_close(torch.compile(Model(), fullgraph=True)(*x), expected)
    program = torch.export.export(Model(), tuple(x))
    assert OPS.attention.default in [node.target for node in program.graph.nodes]
    torch.testing.assert_close(program.module()(*x), expected)


# What torch has, and what it says.


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": True},
        {"attn_mask": BOOL[1:2, :5].clone().fill_(True)},
        {"attn_mask": normal(4, 5, 5)},
        {"scale": 0.3},
    ],
)
def test_scaled_dot_product_attention(options):
    x = [t.requires_grad_() for t in three(2, 4, 5, 3)]
    results = [
        f(*x, **options)
        for f in (scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=1e-14)
    pairs = [torch.autograd.grad(r.sin().sum(), x) for r in results]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "leads",
    [
        [(1, 3), (2, 1), (2, 3)],  # key and value of different axes
        [(2, 3), (3,), (1, 1)],
        [(2, 1), (2, 3), (2, 3)],  # one head of queries
        [(), (3,), (3,)],
        [(3,), (1,), ()],
    ],
)
def test_scaled_dot_product_attention_broadcasts(leads):
    lengths = [(5, 4), (7, 4), (7, 6)]
    x = [
        normal(*lead, *length).requires_grad_() for lead, length in zip(leads, lengths, strict=True)
    ]
    expected = torch.nn.functional.scaled_dot_product_attention(*x)
    actual = scaled_dot_product_attention(*x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)
    pairs = [torch.autograd.grad(r.sin().sum(), x) for r in (actual, expected)]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-13)
    for namespace in (logitkit, logitkit.reference):
        result = namespace.scaled_dot_product_attention(*(t.detach().numpy() for t in x))
        np.testing.assert_allclose(result, expected.detach(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("heads", [(2, 4), (4, 2), (2, 3), (12, 1), (3, 3)])
def test_scaled_dot_product_attention_repeats_heads_of_keys_and_of_values(heads):
    x = [normal(2, n, 7, 4).requires_grad_() for n in (12, *heads)]
    expected = torch.nn.functional.scaled_dot_product_attention(*x, enable_gqa=True)
    actual = scaled_dot_product_attention(*x, enable_gqa=True)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)
    pairs = [torch.autograd.grad(r.sin().sum(), x) for r in (actual, expected)]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-13)
    for namespace in (logitkit, logitkit.reference):
        arrays = (t.detach().numpy() for t in x)
        result = namespace.scaled_dot_product_attention(*arrays, enable_gqa=True)
        np.testing.assert_allclose(result, expected.detach(), rtol=0, atol=1e-14)


def test_kappa_for_other_heads_is_refused():
    query = normal(2, 4, 5, 3)
    message = r"scale for each of 4 heads, not of shape \(3,\)"
    with pytest.raises(ValueError, match=message):
        attention(query, query, query, scale=EntropyInvariant(torch.ones(3)))
    with pytest.raises(ValueError, match=message):
        attention(*[query.numpy()] * 3, scale=EntropyInvariant(np.ones(3)))


def test_reports_are_of_arrays():
    query, key = normal(2, 256, 8), normal(2, 256, 8)
    for dtype in (torch.float32, torch.bfloat16):
        x = [t.to(dtype).requires_grad_() for t in (query, key)]
        wide = [t.detach().float().numpy() for t in x]
        ours, theirs = estimate_kappa(*x), estimate_kappa(*wide)
        np.testing.assert_allclose(ours.kappa, theirs.kappa, rtol=1e-12)  # two libraries add
        scale = EntropyInvariant(ours.kappa)
        profile = attention_entropy_profile(*x, scale=scale)
        entropy = attention_entropy_profile(*wide, scale=scale).entropy
        # Tile registers add products of bfloat16 in another order.
        bound = 0.0 if dtype == torch.float32 else 1e-4
        np.testing.assert_allclose(profile.entropy, entropy, rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": normal(2, 4, 7, 2)}, ValueError, r"head_dim.*\(2, 4, 5, 3\).*\(2, 4, 7, 2\)"),
        ({"key": normal(2, 4, 7, 3).float()}, TypeError, r"one type, not torch.float64"),
        ({"key": np.zeros((2, 4, 7, 3))}, TypeError, r"expected a tensor, not numpy.ndarray"),
        ({"query": normal(2, 4, 5, 3).to(torch.int64)}, TypeError, "not torch.int64"),
        ({"query": normal(3, 4, 5, 3)}, ValueError, r"\(3, 4, 5, 3\).*\(2, 4, 7, 3\)"),
        ({"mask": torch.ones(4, 7).bool()}, ValueError, r"\(2, 4, 5, 7\).*\(4, 7\)"),
        ({"bias": torch.ones(5, 7).bool()}, TypeError, r"bias of floats, not (torch\.)?bool"),
        ({"scale": torch.ones(3)}, ValueError, r"each of 4 heads, not of shape \(3,\)"),
        ({"scale": torch.ones(5, 3)}, ValueError, r"\(2, 4, 5\), not of shape \(5, 3\)"),
        ({"sinks": torch.ones(3)}, ValueError, r"sinks of 4 real numbers"),
        ({"key_lengths": torch.tensor([8, 1])}, ValueError, r"\[7, 7\], not \[8, 1\]"),
        ({"key_lengths": torch.tensor([1.0, 1.0])}, ValueError, "key_lengths of integers"),
        ({"causal_alignment": "left"}, ValueError, "'lower_right', not 'left'"),
        ({"threads": 0}, ValueError, "threads >= 1"),
        ({"softcap": -1.0}, ValueError, "positive softcap"),
        ({"window": (-1, 2)}, ValueError, "at least 0 keys"),
        ({"cu_seqlens_k": [0, 7]}, ValueError, "cu_seqlens_q and cu_seqlens_k together"),
        ({"alibi_slopes": torch.ones(4, requires_grad=True)}, RuntimeError, "detached"),
        (
            {"mask": BOOL.to("meta")},
            TypeError,
            r"mask on cpu like query, not on meta.*mask.to\('cpu'",
        ),
        ({"key": normal(2, 4, 7, 3).to("meta")}, TypeError, "on one device, not cpu, meta and cpu"),
        ({"magic": 1}, TypeError, "magic"),
    ],
)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_wrong_arguments(change, error, message, requires_grad):
    query, key, value = three(2, 4, 5, 3, keys=7)
    given = {"query": query, "key": key, "value": value, **change}
    x = [given.pop(name) for name in ("query", "key", "value")]
    if requires_grad:
        x[2] = x[2].requires_grad_()
    with pytest.raises(error, match=message):
        attention(*x, **given)


def test_gradients_in_another_shape_are_refused():
    """As many numbers in another order of the axes would be taken for those of other rows."""
    x = torch.randn(2, 4, 5, 8)
    result = attention_with_stats(x, x, x)
    other = torch.randn(2, 5, 4, 8)
    with pytest.raises(
        ValueError, match=r"grad_output of shape \(2, 4, 5, 8\), not \(2, 5, 4, 8\)"
    ):
        logitkit.attention_vjp(x, x, x, other)
    with pytest.raises(ValueError, match=r"grad_logsumexp of shape \(2, 4, 5\), not \(2, 5, 4\)"):
        logitkit.attention_vjp(x, x, x, x, grad_logsumexp=other[..., 0])
    with pytest.raises(ValueError, match=r"output of shape \(2, 4, 5, 8\), not \(2, 5, 4, 8\)"):
        logitkit.attention_vjp(x, x, x, x, result=result._replace(output=other))
    with pytest.raises(TypeError, match="grad_output as a tensor, as query is, not ndarray"):
        logitkit.attention_vjp(x, x, x, x.numpy())

"""Cross-entropy of a linear layer: kernels against their contract, arguments, and tensors."""

import inspect
from functools import cache

import numpy as np
import pytest

from logitkit import _cpu, losses
from logitkit.reference import losses as reference

INF, NAN = float("inf"), float("nan")
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}

isas = pytest.mark.parametrize("isa", _cpu.supported_isas(), ids=lambda isa: isa.name)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
# Rows, columns and classes about the sizes of vectors, panels, tiles, blocks and parts.
shapes = pytest.mark.parametrize(
    ("m", "d", "n"),
    [
        (1, 1, 1), (3, 7, 2), (16, 8, 63), (17, 16, 64), (47, 17, 65), (48, 3, 127),
        (49, 49, 129), (25, 96, 257), (100, 33, 300), (2, 5, 4500), (0, 4, 3), (97, 32, 100),
        (20, 1040, 210),
    ],
)  # fmt: skip


def layer(m, d, n, dtype, seed=0):
    """Return an input, a weight, a bias and labels, one of which is left out."""
    rng = np.random.default_rng([seed, m, d, n])
    x, weight, bias = (rng.normal(size=size).astype(dtype) for size in ((m, d), (n, d), (n,)))
    labels = rng.integers(0, n, m)
    if m > 2:
        labels[m // 2] = -1
    return x, weight, bias, labels


def logits_of(x, weight, bias, softcap):
    """Return the logits in long double, and the bound of their error over the unit."""
    z = x.astype(np.longdouble) @ weight.T.astype(np.longdouble)
    size = abs(x).astype(np.longdouble) @ abs(weight.T).astype(np.longdouble)
    error = 4 * np.sqrt(np.longdouble(x.shape[1])) * size
    if bias is not None:
        z, error = z + bias, error + 4 * abs(bias)
    z = softcap * np.tanh(z / softcap) if softcap else z
    return z, (error + 2 * abs(z)).max(1, initial=0)


def forward(x, weight, labels, isa, **options):
    """Return the statistics of the kernel, NaN where it writes none."""
    names = ("logsumexp", "entropy", "target", "total")
    stats = {name: np.full(len(x), NAN) for name in names}
    stats["best"] = np.full(len(x), -7)
    _cpu.linear_cross_entropy(x, weight, labels, isa=isa, **stats, **options)
    return stats


@isas
@dtypes
@shapes
@pytest.mark.parametrize("options", ["", "bias", "bias cap weight", "cap soft weight"])
def test_statistics_are_within_the_contract(isa, dtype, m, d, n, options):
    x, weight, bias, labels = layer(m, d, n, dtype)
    rng = np.random.default_rng(n)
    bias = bias if "bias" in options else None
    w = rng.uniform(0.5, 2.0, n).astype(dtype) if "weight" in options else None
    t = rng.dirichlet(np.ones(n), m).astype(dtype) if "soft" in options else None
    softcap = 3.0 if "cap" in options else 0.0
    stats = forward(x, weight, labels, isa, bias=bias, softcap=softcap, targets=t, class_weight=w)
    kept = labels >= 0
    for name in ("logsumexp", "entropy", "target", "total"):
        assert np.isnan(stats[name][~kept]).all()
    z, s = (a[kept] for a in logits_of(x, weight, bias, softcap))
    u = UNIT[dtype]
    s = u * s
    lse = np.log(np.exp(z).sum(1)) if z.size else z[:, 0]
    p = np.exp(z - lse[:, None])
    entropy = (p * (lse[:, None] - z)).sum(1)
    w = np.ones(n) if w is None else w
    own = z[np.arange(len(z)), labels[kept]] if t is None else (w * t[kept] * z).sum(1)
    mass = 1.0 if t is None else (w * t[kept]).sum(1)
    size = 0.0 if t is None else (w * t[kept] * abs(z)).sum(1)
    assert (abs(stats["logsumexp"][kept] - lse) <= s + 128 * u).all()
    assert (abs(stats["entropy"][kept] - entropy) <= (2 * s + 128 * u) * (1 + np.log(n))).all()
    assert (abs(stats["target"][kept] - own) <= mass * s + 128 * u * size).all()
    total_size = (w * abs(z)).sum(1)
    assert (abs(stats["total"][kept] - (w * z).sum(1)) <= w.sum() * s + 128 * u * total_size).all()
    best = z[np.arange(len(z)), stats["best"][kept]]
    assert (best >= z.max(1, initial=-INF) - 2 * s).all()


@isas
@dtypes
@shapes
@pytest.mark.parametrize("options", ["", "bias", "bias cap weight spread", "cap soft spread"])
def test_gradients_are_those_of_the_definition(isa, dtype, m, d, n, options):
    x, weight, bias, labels = layer(m, d, n, dtype)
    rng = np.random.default_rng(n)
    bias = bias if "bias" in options else None
    w = rng.uniform(0.5, 2.0, n).astype(dtype) if "weight" in options else None
    t = rng.dirichlet(np.ones(n), m).astype(dtype) if "soft" in options else None
    softcap = 3.0 if "cap" in options else 0.0
    base, slope, peak = rng.normal(size=(3, m))
    spread = rng.normal(size=m) if "spread" in options else None
    gradients = {
        "grad_input": np.full_like(x, NAN),
        "grad_weight": np.full_like(weight, NAN),
        "grad_bias": None if bias is None else np.full_like(bias, NAN),
    }
    stats = {"logsumexp": np.full(m, NAN)}
    given = {"bias": bias, "softcap": softcap, "targets": t, "class_weight": w}
    _cpu.linear_cross_entropy_gradient(
        x, weight, labels, base=base, slope=slope, peak=peak, spread=spread, isa=isa,
        **given, **stats, **gradients,
    )  # fmt: skip
    plain = forward(x, weight, labels, isa, **given)
    np.testing.assert_array_equal(stats["logsumexp"], plain["logsumexp"])

    kept = labels >= 0
    z, s = logits_of(x, weight, bias, softcap)
    lse = np.log(np.exp(z).sum(1, keepdims=True))
    shares = (labels[:, None] == np.arange(n)) * peak[:, None]
    of_class = np.ones(n) if w is None else w
    if t is not None:
        shares = of_class * peak[:, None] * t
    if spread is not None:
        shares = shares + of_class * spread[:, None]
    factor = base[:, None] + slope[:, None] * lse
    cap = 1 - (z / softcap) ** 2 if softcap else 1.0
    g = np.where(kept[:, None], (factor * np.exp(z - lse) - shares) * cap, 0)
    u = UNIT[dtype]
    error = ((u * s[:, None] + 64 * u) * (abs(factor) + abs(shares)) * kept[:, None]).astype(float)
    sizes = abs(g).astype(float)
    # The products add up in the type of the arrays: sqrt(terms) is likely, 4 sqrt is sure enough.
    of_input = error @ abs(weight) + 4 * u * np.sqrt(n) * (sizes @ abs(weight))
    of_weight = error.T @ abs(x) + 4 * u * np.sqrt(m) * (sizes.T @ abs(x))
    assert (abs(gradients["grad_input"] - g @ weight) <= of_input).all()
    assert (abs(gradients["grad_weight"] - g.T @ x) <= of_weight).all()
    if bias is not None:
        of_bias = error.sum(0) + 4 * u * np.sqrt(m) * sizes.sum(0)
        assert (abs(gradients["grad_bias"] - g.sum(0)) <= of_bias).all()


@isas
@dtypes
@pytest.mark.parametrize("out_of_range", [False, True])
def test_bits_do_not_depend_on_threads_batch_or_what_is_wanted(isa, dtype, out_of_range):
    x, weight, bias, labels = layer(150, 50, 700, dtype)
    if out_of_range:  # of what has parts
        x[30:90:7, 4] = 1e16
        weight[::60, 5] = 1e20
    whole = forward(x, weight, labels, isa, bias=bias, threads=1)
    for part in (slice(0, 150), slice(60, 61), slice(7, 120)):
        some = forward(x[part].copy(), weight, labels[part].copy(), isa, bias=bias, threads=3)
        for name, values in some.items():
            np.testing.assert_array_equal(values, whole[name][part])
    ones = {"base": np.ones(150), "slope": np.zeros(150), "peak": np.ones(150), "isa": isa}

    def gradient(threads, *names):
        found = {"grad_input": x, "grad_weight": weight, "grad_bias": bias}
        found = {name: np.full_like(found[name], NAN) for name in names}
        _cpu.linear_cross_entropy_gradient(
            x, weight, labels, bias=bias, threads=threads, **found, **ones
        )
        return found

    every = gradient(1, "grad_input", "grad_weight", "grad_bias")
    for names in (every.keys(), ["grad_weight"], ["grad_input"], ["grad_bias"]):
        for name, values in gradient(3, *names).items():
            np.testing.assert_array_equal(values, every[name])


@cache
def many_logits(dtype, d):
    """Return a layer with more logits than go at a time, and the gradient of its weight."""
    x, weight, _, labels = layer(60, d, 170_000, dtype)
    p = x @ weight.T
    p = np.exp(p - np.log(np.exp(p).sum(1, keepdims=True, dtype=np.float64)))
    p[np.arange(60), labels] -= 1.0
    p[labels < 0] = 0.0
    return x, weight, labels, p.T.astype(np.float64) @ x


@isas
@dtypes
def test_many_rows_go_in_chunks(isa, dtype):
    x, weight, labels, expected = many_logits(dtype, 33 if isa.name == "amx" else 3)
    grad_weight, ones = np.full_like(weight, NAN), np.ones(60)
    _cpu.linear_cross_entropy_gradient(
        x, weight, labels, base=ones, slope=0 * ones, peak=ones, grad_weight=grad_weight, isa=isa
    )
    assert np.max(abs(grad_weight - expected)) <= 256 * UNIT[dtype] * np.max(abs(expected))


@isas
@dtypes
def test_rows_that_are_left_out_are_not_read(isa, dtype):
    x, weight, bias, labels = layer(60, 5, 90, dtype)
    dirty = x.copy()
    dirty[labels < 0] = NAN
    clean, other = (forward(a, weight, labels, isa, bias=bias) for a in (x, dirty))
    for name in clean:
        np.testing.assert_array_equal(clean[name], other[name])


@isas
@pytest.mark.parametrize("number", [NAN, INF, 1e30, 1e-30], ids=str)
def test_a_row_or_class_of_any_numbers_changes_no_other(isa, number):
    x, weight, bias, labels = layer(60, 40, 150, np.float32)
    clean = forward(x, weight, labels, isa, bias=bias)
    x[7, 3] = number
    other = forward(x, weight, labels, isa, bias=bias)
    for name, values in clean.items():
        np.testing.assert_array_equal(np.delete(other[name], 7), np.delete(values, 7))
    if abs(number) < 1:
        z, s = logits_of(x, weight, bias, 0.0)
        lse = np.log(np.exp(z).sum(1))
        kept = labels >= 0
        assert (abs(other["logsumexp"] - lse)[kept] <= 2.0**-24 * (s + 128)[kept]).all()
    weight[70, 2], bias[70] = number, -INF  # hidden, unless it is not finite
    x[7, 3] = 0.5
    hidden = forward(np.where(abs(number) < INF, x, 0 * x), weight, labels, isa, bias=bias)
    assert np.isnan(hidden["logsumexp"][labels >= 0]).all() == (not abs(number) < INF)


@isas
@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_gradients_of_any_size(isa, factor):
    x, weight, _, labels = layer(60, 40, 300, np.float32)
    found = []
    for size in (1.0, factor):
        ones = np.full(60, size)
        grads = {"grad_input": np.full_like(x, NAN), "grad_weight": np.full_like(weight, NAN)}
        _cpu.linear_cross_entropy_gradient(
            x, weight, labels, base=ones, slope=0 * ones, peak=ones, isa=isa, **grads
        )
        found.append([g.astype(float) / size for g in grads.values()])
    for one, other in zip(*found, strict=True):
        # Both are as far from exact as the contract allows, with logits of size 40 or less.
        assert (abs(one - other) <= 2.0**-24 * 2 * (40 + 64) * abs(one).max()).all()


@isas
@dtypes
@pytest.mark.parametrize("d", [4, 40])
def test_hidden_classes_and_rows_that_are_not_finite(isa, dtype, d):
    x, weight, bias, labels = layer(6, d, 70, dtype)
    labels[:] = 3
    bias[10:60] = -INF
    stats = forward(x, weight, labels, isa, bias=bias)
    seen = [*range(10), *range(60, 70)]
    z = x.astype(float) @ weight[seen].T + bias[seen]
    np.testing.assert_allclose(stats["logsumexp"], np.log(np.exp(z).sum(1)), rtol=1e-5)
    np.testing.assert_array_equal(stats["best"], np.array(seen)[np.argmax(z, 1)])
    bias[:] = -INF
    stats = forward(x, weight, labels, isa, bias=bias)
    assert (stats["logsumexp"] == -INF).all()
    bias[:] = 0.0
    bias[5] = INF
    assert (forward(x, weight, labels, isa, bias=bias)["logsumexp"] == INF).all()
    bias[5] = NAN
    assert np.isnan(forward(x, weight, labels, isa, bias=bias)["logsumexp"]).all()


OPTIONS = [
    {},
    {"linear_bias": True},
    {"linear_bias": True, "softcap": 2.0, "z_loss": 0.01},
    {"label_smoothing": 0.1, "weight": True},
    {"label_smoothing": 0.2, "weight": True, "softcap": 3.0, "linear_bias": True, "z_loss": 0.1},
    {"sample_weight": True, "denominator": 7.0},
]


def problem(options, soft):
    rng = np.random.default_rng(11)
    x, weight = rng.normal(size=(2, 4, 3)), rng.normal(size=(6, 3))
    target = rng.integers(0, 6, (2, 4))
    target[1, 2] = -100
    if soft:
        target = rng.dirichlet(np.ones(6), (2, 4))
    given = {"linear_bias": rng.normal(size=6), "weight": rng.uniform(0.5, 2.0, 6)}
    given["sample_weight"] = rng.uniform(0.5, 2.0, (2, 4))
    return x, weight, target, {k: given[k] if v is True else v for k, v in options.items()}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", np.max])
def test_values_and_gradients_are_those_of_the_reference(options, soft, reduction):
    x, weight, target, options = problem(options, soft)
    if reduction != "mean":
        options.pop("denominator", None)
    options["reduction"] = reduction
    expected = reference.linear_cross_entropy(x, weight, target, **options)
    value = losses.linear_cross_entropy(x, weight, target, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-14)
    if callable(reduction):
        return
    argnums = (0, 1, 3) if "linear_bias" in options else (0, 1)
    step = losses.value_and_grad(losses.linear_cross_entropy, argnums)
    again, gradients = step(x, weight, target, **options)
    np.testing.assert_allclose(again, expected, rtol=1e-13, atol=1e-14)
    places = {0: x, 1: weight, 3: options.get("linear_bias")}
    for argnum, gradient in zip(argnums, gradients, strict=True):
        for at in np.ndindex(*gradient.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = dict(places)
                moved[argnum] = moved[argnum].copy()
                moved[argnum][at] += sign * 1e-5
                more = {**options, "linear_bias": moved[3]}
                ends.append(
                    np.sum(reference.linear_cross_entropy(moved[0], moved[1], target, **more))
                )
            # The step leaves an error of its square, and rounding one of 1e-16 over it.
            slope = (ends[0] - ends[1]) / 2e-5
            assert gradient[at] == pytest.approx(slope, rel=1e-7, abs=2e-9)


def test_signature_has_what_pytorch_has():
    torch = pytest.importorskip("torch")
    theirs = inspect.signature(torch.nn.functional.linear_cross_entropy).parameters
    ours = inspect.signature(losses.linear_cross_entropy).parameters
    assert list(ours)[:3] == list(theirs)[:3]
    assert set(theirs) - set(ours) == {"options"}  # of how it is computed


def test_as_in_pytorch():
    torch = pytest.importorskip("torch")
    x, weight, target, options = problem(OPTIONS[3], soft=False)
    x, target = x.reshape(-1, 3), target.reshape(-1)
    expected = torch.nn.functional.linear_cross_entropy(
        torch.tensor(x),
        torch.tensor(weight),
        torch.tensor(target),
        label_smoothing=0.1,
        weight=torch.tensor(options["weight"]),
    )
    value = losses.linear_cross_entropy(x, weight, target, **options)
    assert value == pytest.approx(expected.item(), rel=1e-13)


def test_rows_left_out_change_nothing():
    x, weight, target, options = problem(OPTIONS[4], soft=False)
    dirty = x.copy()
    dirty[1, 2] = NAN
    step = losses.value_and_grad(losses.linear_cross_entropy, (0, 1, 3))
    value, (of_input, of_weight, of_bias) = step(dirty, weight, target, **options)
    keep = np.ones(8, bool)
    keep[6] = False
    expected, others = step(x.reshape(8, 3)[keep], weight, target.reshape(8)[keep], **options)
    assert value == expected
    np.testing.assert_array_equal(of_input.reshape(8, 3)[keep], others[0])
    assert not of_input[1, 2].any()
    np.testing.assert_array_equal(of_weight, others[1])
    np.testing.assert_array_equal(of_bias, others[2])
    masked = losses.linear_cross_entropy(
        dirty, weight, np.maximum(target, 0), mask=target >= 0, **options
    )
    assert masked == value


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_types_stay(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x, weight = np.ones((2, 3)).astype(kind), np.eye(4, 3).astype(kind)
    step = losses.value_and_grad(losses.linear_cross_entropy, (0, 1))
    value, gradients = step(x, weight, [0, 3])
    assert [value.dtype, *(g.dtype for g in gradients)] == [kind] * 3
    assert float(value) == pytest.approx(np.log(3 * np.e + 1) - 0.5, rel=1e-2)


def test_statistics_of_rows():
    x, weight, target, _ = problem({}, soft=False)
    aux = losses.linear_cross_entropy_with_aux(x, weight, target, label_smoothing=0.1)
    expected = losses.cross_entropy_with_aux(x @ weight.T, target, label_smoothing=0.1)
    for ours, theirs in zip(aux, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    flat = losses.linear_cross_entropy_with_aux(0.0 * x, weight, np.maximum(target, 0))
    np.testing.assert_array_equal(flat.accuracy, np.maximum(target, 0) == 0)


def test_errors_name_the_value_and_its_place():
    x, weight = np.zeros((2, 3)), np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"class from 0 to 3.*not 4 at \[1\]"):
        losses.linear_cross_entropy(x, weight, [0, 4])
    with pytest.raises(ValueError, match=r"3 columns, not \(2, 5\)"):
        losses.linear_cross_entropy(np.zeros((2, 5)), weight, [0, 1])
    with pytest.raises(ValueError, match=r"target of shape \(2,\)"):
        losses.linear_cross_entropy(x, weight, [0])
    with pytest.raises(ValueError, match=r"linear_bias of shape \(4,\)"):
        losses.linear_cross_entropy(x, weight, [0, 1], linear_bias=np.zeros(3))
    with pytest.raises(ValueError, match="softcap > 0"):
        losses.linear_cross_entropy(x, weight, [0, 1], softcap=0.0)
    with pytest.raises(ValueError, match="at least one row"):
        losses.linear_cross_entropy(x, np.zeros((0, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"argnums of 0 \(input\), 1 \(linear_weight\), not 2"):
        losses.value_and_grad(losses.linear_cross_entropy, 2)(x, weight, [0, 1])
    with pytest.raises(ValueError, match="sum to 1"):
        losses.linear_cross_entropy(x, weight, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="label 9 of row 1"):
        _cpu.linear_cross_entropy(x, weight, np.array([0, 9]))


def tensors(options, soft, dtype="float64"):
    torch = pytest.importorskip("torch")
    x, weight, target, options = problem(options, soft)
    kind = getattr(torch, dtype)

    def tensor(a, grad):
        return torch.tensor(a, dtype=kind, requires_grad=grad)

    bias = options.pop("linear_bias", None)
    moving = [tensor(x, True), tensor(weight, True)]
    if bias is not None:
        moving.append(tensor(bias, True))
    for key in ("weight", "sample_weight"):
        if key in options:
            options[key] = tensor(options[key], False)
    target = tensor(target, False) if soft else torch.tensor(target)

    def loss(x, weight, bias=None, **more):
        return losses.linear_cross_entropy(x, weight, target, linear_bias=bias, **options, **more)

    return torch, moving, loss


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_tensors_have_gradients_of_two_orders(options, soft):
    torch, moving, loss = tensors(options, soft)
    assert torch.autograd.gradcheck(loss, moving)
    assert torch.autograd.gradgradcheck(loss, moving, fast_mode=True)
    if "denominator" not in options:

        def none(*layer):
            return loss(*layer, reduction="none")

        assert torch.autograd.gradcheck(none, moving)
        assert torch.autograd.gradgradcheck(none, moving, fast_mode=True)


def test_gradient_reaches_weights_of_samples():
    torch, moving, _ = tensors({}, soft=False)
    weights = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 6, (2, 4))

    def loss(weights, *layer):
        return losses.linear_cross_entropy(*layer, target, sample_weight=weights)

    assert torch.autograd.gradcheck(loss, [weights, *moving])


@pytest.mark.parametrize(("soft", "argnums"), [(False, [0, 1, 3]), (True, [1])])
def test_operators_are_what_pytorch_expects(soft, argnums):
    torch, moving, loss = tensors(OPTIONS[4], soft)
    loss(*moving)  # registers them
    x = moving[0].reshape(-1, 3)
    n, m = len(moving[1]), len(x)
    labels, g = torch.zeros(m, dtype=torch.int64), torch.rand(m, dtype=x.dtype)
    targets = torch.full((m, n), 1.0 / n, dtype=x.dtype) if soft else None
    rest = (labels, targets, torch.rand(n, dtype=x.dtype), 3.0, 0.1, 0.01)
    ops, layer = torch.ops.logitkit, (x.detach().requires_grad_(), *moving[1:])
    if not soft:
        torch.library.opcheck(ops.linear_cross_entropy.default, (*layer, *rest))
    every = (*layer, g, *rest, argnums)
    torch.library.opcheck(ops.linear_cross_entropy_total.default, every)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_tensors_of_other_types(dtype):
    torch, moving, loss = tensors(OPTIONS[1], soft=False, dtype=dtype)
    value = loss(*moving)
    value.backward()
    assert {value.dtype, *(x.grad.dtype for x in moving)} == {getattr(torch, dtype)}
    wide = [x.detach().double().requires_grad_() for x in moving]
    expected = loss(*wide)
    assert value.item() == pytest.approx(expected.item(), rel=torch.finfo(value.dtype).eps)


def test_tensors_compile():
    torch, moving, loss = tensors(OPTIONS[4], soft=False)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(*moving), moving)
    for ours, eager in zip(found, torch.autograd.grad(loss(*moving), moving), strict=True):
        torch.testing.assert_close(ours, eager)


def test_tensors_give_the_bits_of_arrays():
    torch, moving, loss = tensors(OPTIONS[4], soft=False, dtype="float32")
    x, weight, target, options = problem(OPTIONS[4], soft=False)
    x, weight = np.float32(x), np.float32(weight)
    options = {k: np.float32(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    value, gradients = losses.value_and_grad(losses.linear_cross_entropy, (0, 1, 3))(
        x, weight, target, **options
    )
    with torch.no_grad():
        assert loss(*moving).item() == pytest.approx(value, rel=2.0**-23)
    given = torch.autograd.grad(loss(*moving), moving)
    for ours, array in zip(given, gradients, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), array, rtol=2.0**-20, atol=2.0**-24)


def test_statistics_of_tensors_are_constants():
    torch, moving, _ = tensors({}, soft=False)
    target = torch.randint(0, 6, (2, 4))
    aux = losses.linear_cross_entropy_with_aux(*moving, target)
    aux.loss.backward()
    assert not any(x.requires_grad for x in aux[1:])
    assert aux.entropy.shape == (2, 4)

"""Attention and its gradient on a GPU, against the reference in float64."""

import math

import numpy as np
import pytest

from logitkit import reference
from logitkit.cuda import _device

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
TENSORS = [x for x in DTYPES if x is not torch.float64]  # of which tensor cores make products
# (batch, heads, key_heads, queries, keys, head_dim, value_dim): every width of tile, rows of several
# heads in one tile, tiles that end early, one dimension, and more than tensor cores take.
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (1, 2, 2, 70, 90, 64, 64),
    (2, 4, 2, 5, 100, 72, 24),
    (1, 2, 1, 130, 33, 40, 128),
    (1, 2, 2, 20, 40, 130, 250),
    (1, 1, 1, 3, 70, 17, 300),
]


def compute(dtype):
    return torch.float64 if dtype is torch.float64 else torch.float32


def exact(x):
    return x.double().cpu().numpy()


class Case:
    """Arguments of the kernel and of the reference, which mean the same."""

    def __init__(self, dtype, shape, device, seed=0):
        self.dtype, self.device = dtype, device
        batch, heads, key_heads, n, keys, dim, value_dim = shape
        self.random = torch.Generator().manual_seed(seed)
        self.query = self.normal(batch, heads, n, dim)
        self.key = self.normal(batch, key_heads, keys, dim)
        self.value = self.normal(batch, key_heads, keys, value_dim)
        self.rows = (batch, heads, n)
        self.scale = self.numbers(torch.full((1, 1, 1), dim**-0.5, dtype=torch.float64)).expand(
            self.rows
        )
        self.options, self.named = {}, {"window": (None, None)}

    def normal(self, *shape):
        """Return standard normal elements of the type."""
        return torch.randn(shape, generator=self.random).to(self.device, self.dtype)

    def numbers(self, x):
        """Return numbers in the type that is computed in."""
        return x.to(self.device, compute(self.dtype))

    def with_scale(self, rows):
        """Scale of each row."""
        self.scale = self.numbers(rows)
        self.named["scale"] = exact(self.scale)
        return self

    def add(self, name, x, reference_name=None, reference_x=None):
        """Give one more argument to both."""
        self.options[name] = x
        plain = exact(x) if torch.is_tensor(x) and x.dtype != torch.bool else x
        self.named[reference_name or name] = plain if reference_x is None else reference_x
        return self

    def window(self, left, right, offset=0):
        """Limit what is seen."""
        self.options |= {"offset": offset}
        self.options |= {} if left is None else {"left": left}
        self.options |= {} if right is None else {"right": right}
        self.named["window"] = (left, right)
        self.named["query_offsets"] = [offset] * self.rows[0]
        return self

    def everything(self):
        """Turn all on that changes a logit."""
        heads, n, keys = self.rows[1], self.rows[2], self.key.shape[2]
        self.window(keys // 2, 3, offset=keys // 3)
        self.with_scale(0.1 + torch.rand(self.rows, generator=self.random))
        self.add("softcap", 2.5)
        self.add("slopes", self.numbers(torch.linspace(0.01, 0.3, heads)), "alibi_slopes")
        mask = torch.rand((heads, n, keys), generator=self.random) < 0.7
        self.add("mask", mask[None].to(self.device), "mask", mask.numpy())
        terms = torch.randn((1, 1, n, keys), generator=self.random)
        terms[..., ::7] = -INF
        more = torch.randn((1, heads, 1, 1), generator=self.random)
        self.options |= {"terms": self.numbers(terms), "more_terms": self.numbers(more)}
        self.named["bias"] = exact(self.options["terms"]) + exact(self.options["more_terms"])
        return self

    def sinks(self):
        """Give each head a sink."""
        return self.add("sinks", self.numbers(torch.linspace(-1.0, 2.0, self.rows[1])))

    def run(self, **more):
        """Return out, logsumexp, entropy and max_logit of the kernel."""
        like = self.query.new_full((*self.rows, self.value.shape[3]), NAN)
        stats = [torch.full(self.rows, NAN, dtype=compute(self.dtype), device=self.device)] * 3
        stats = [x.clone() for x in stats]
        names = ("logsumexp", "entropy", "max_logit")
        _device.kernels().attention(
            self.query, self.key, self.value, self.scale, like,
            **self.options, **more, **dict(zip(names, stats, strict=True)),
        )  # fmt: skip
        return like, *stats

    def expected(self, **more):
        """Return the results of the reference."""
        arrays = (exact(x) for x in (self.query, self.key, self.value))
        with np.errstate(invalid="ignore"):
            return reference.attention_with_stats(*arrays, **self.named, **more)

    def check(self, found=None, want=None):
        """Compare with the contract in csrc/attention/attention_cuda.h."""
        out, logsumexp, entropy, max_logit = found or self.run()
        want = want or self.expected()
        u = 2.0**-51 if self.dtype is torch.float64 else 2.0**-24
        v = {torch.float32: 2.0**-21, torch.float64: u}.get(self.dtype, 2.0**-23)
        w = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}.get(self.dtype, 0.0)
        length = [
            np.linalg.norm(np.nan_to_num(exact(x)), axis=-1).max() for x in (self.query, self.key)
        ]
        s = v * math.sqrt(self.query.shape[3]) * float(self.scale.abs().max()) * math.prod(length)
        s += 8 * u * sum(
            np.abs(self.named[x])[np.isfinite(self.named[x])].max()
            * (self.key.shape[2] + self.rows[2] if x == "alibi_slopes" else 1)
            for x in ("bias", "alibi_slopes") if x in self.named
        )  # fmt: skip
        largest = np.abs(exact(self.value)[np.isfinite(exact(self.value))]).max(initial=0.0)
        close(exact(out), want.output, (2 * s + (32 + self.key.shape[2]) * u + w) * largest)
        scaled = np.maximum(1.0, np.abs(np.where(np.isfinite(want.logsumexp), want.logsumexp, 0.0)))
        close(exact(logsumexp), want.logsumexp, s + 8 * u * scaled)
        scaled = np.maximum(1.0, np.abs(np.where(np.isfinite(want.max_logit), want.max_logit, 0.0)))
        close(exact(max_logit), want.max_logit, s + 8 * u * scaled)
        close(
            exact(entropy), want.entropy, (2 * s + 32 * u) * (1 + math.log(self.key.shape[2] + 1))
        )


def close(found, want, bound):
    same = (found == want) | (np.isnan(found) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        assert np.all(same | (np.abs(found - want) <= bound)), np.nanmax(np.abs(found - want))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape, dtype, device):
    case = Case(dtype, shape, device)
    case.check()
    case.options.clear()
    out, *_ = case.run()
    _device.kernels().attention(case.query, case.key, case.value, case.scale, plain := out.clone())
    largest = float(case.value.abs().max())
    assert float((plain.double() - out.double()).abs().max()) <= largest * (2.0**-7 if dtype is torch.bfloat16 else 2.0**-10)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_everything_at_once(shape, dtype, device):
    Case(dtype, shape, device).everything().sinks().check()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("left", "right", "offset"),
    [(None, 0, 0), (None, 0, 30), (5, 0, 10), (0, 0, 0), (None, 0, -20), (3, 7, 95), (1, 1, -(2**60))],
)  # fmt: skip
def test_windows(left, right, offset, dtype, device):
    case = Case(dtype, (1, 2, 1, 70, 100, 32, 16), device).window(left, right, offset)
    case.check()
    if dtype in TENSORS:  # without statistics another kernel
        out = torch.empty_like(case.query[..., :16])
        kernel = _device.kernels().attention
        kernel(case.query, case.key, case.value, case.scale, out, **case.options)
        case.check((out, *case.run()[1:]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_see_nothing(dtype, device):
    case = Case(dtype, (1, 2, 2, 20, 40, 16, 16), device)
    mask = torch.ones((1, 2, 20, 40), dtype=torch.bool)
    mask[0, 1, 3:9] = False
    case.add("mask", mask.to(device), "mask", mask.numpy())
    out, logsumexp, entropy, max_logit = case.run()
    case.check((out, logsumexp, entropy, max_logit))
    assert not out[0, 1, 3:9].any()
    assert not entropy[0, 1, 3:9].any()
    assert (logsumexp[0, 1, 3:9] == -INF).all()
    assert (max_logit[0, 1, 3:9] == -INF).all()
    case.sinks().check()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_hidden_does_not_leak(causal, bad, dtype, device):
    case = Case(dtype, (1, 2, 2, 60, 60, 24, 24), device)
    if causal:
        case.window(None, 0)
        hidden = np.tri(60, dtype=bool)[None, None]
    else:
        mask = torch.rand((1, 2, 60, 60), generator=case.random) < 0.5
        case.add("mask", mask.to(device), "mask", mask.numpy())
        hidden = mask.numpy()
    case.value[:, :, 41] = bad
    case.value[:, :, 20, 3] = bad
    case.check()
    if math.isnan(bad):
        case.key[:, :, 41] = bad
        out = exact(case.run()[0])
        assert np.array_equal(np.isnan(out).all(-1), np.broadcast_to(hidden[..., 41], (1, 2, 60)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_and_paged(dtype, device):
    lengths = [(3, 17), (40, 5), (0, 9), (25, 70), (6, 0)]
    heads, key_heads, dim = 4, 2, 24
    cu = np.concatenate([[[0, 0]], np.cumsum(lengths, 0)])
    rows = torch.tensor(
        [[0, q, n, 0, k, m, m - n] for (q, k), (n, m) in zip(cu[:-1], lengths, strict=True)]
    )
    case = Case(dtype, (1, heads, key_heads, *map(int, cu[-1]), dim, dim), device)
    # (total, heads, dim) in memory, as packed arrays come
    for name in ("query", "key", "value"):
        x = getattr(case, name)
        setattr(case, name, x.transpose(1, 2).contiguous().transpose(1, 2))
    packed = {"sequences": rows.to(device), "longest": (40, 70), "right": 0}
    found = case.run(**packed)
    arrays = [exact(x[0].transpose(0, 1)) for x in (case.query, case.key, case.value)]
    want = reference.attention_with_stats(
        *arrays, is_causal=True, causal_alignment="lower_right", cu_seqlens_q=cu[:, 0], cu_seqlens_k=cu[:, 1]
    )  # fmt: skip
    swapped = [x[None].swapaxes(1, 2) for x in want[:4]]
    case.check(found, reference.AttentionResult(*swapped, None))

    # The same keys in a cache of blocks of 8, whose other rows are NaN.
    size, blocks = 8, []
    table = torch.full((len(lengths), 9), -1, dtype=torch.int32)
    caches = []
    for x in (case.key, case.value):
        blocks = []
        for b, (start, count) in enumerate(zip(cu[:-1, 1], (m for _, m in lengths), strict=True)):
            for k in range(0, count, size):
                block = x.new_full((1, key_heads, size, dim), NAN)
                part = x[:, :, start + k : start + min(k + size, count)]
                block[:, :, : part.shape[2]] = part
                table[b, k // size] = len(blocks)
                blocks.append(block)
        caches.append(torch.cat(blocks))
    order = torch.randperm(len(caches[0]), generator=case.random)
    table = torch.where(table >= 0, order[table.clamp(min=0).long()].int(), table)
    inverse = torch.argsort(order)
    case.key, case.value = (x[inverse] for x in caches)
    rows[:, 3], rows[:, 4] = torch.arange(len(lengths)), 0
    packed |= {"sequences": rows.to(device), "block_table": table.to(device)}
    for a, b in zip(case.run(**packed), found, strict=True):
        assert torch.equal(a, b)


def gradients(case, wants_logits=False, **more):
    """Gradients of the kernel and of the reference, with respect to every argument."""
    kind, sinks = compute(case.dtype), case.options.pop("sinks", None)
    forward = {} if sinks is None else {"sinks": sinks}
    out, logsumexp, entropy, _ = case.run(**forward)
    grad_out = case.normal(*out.shape)
    of_rows = [
        torch.randn(case.rows, generator=case.random).to(case.device, kind) for _ in range(2)
    ]
    found = [torch.full_like(x, NAN) for x in (case.query, case.key, case.value)]
    grad_scale = torch.full(case.rows, NAN, dtype=kind, device=case.device)
    scores = (*case.rows, case.key.shape[2])
    grad_logits = torch.zeros(scores, dtype=kind, device=case.device) if wants_logits else None
    size = _device.kernels().attention_gradient_workspace(math.prod(case.rows))
    _device.kernels().attention_gradient(
        case.query, case.key, case.value, case.scale, out, grad_out, logsumexp, *found,
        torch.empty(size, dtype=torch.uint8, device=case.device),
        entropy=entropy, grad_logsumexp=of_rows[0], grad_entropy=of_rows[1],
        grad_scale=grad_scale, grad_logits=grad_logits, **case.options, **more,
    )  # fmt: skip
    named = dict(case.named)
    if wants_logits:
        named["bias"] = np.broadcast_to(named.get("bias", 0.0), scores)
    named.setdefault("scale", np.broadcast_to(exact(case.scale), case.rows))
    arrays = (exact(x) for x in (case.query, case.key, case.value, grad_out))
    with np.errstate(invalid="ignore"):
        want = reference.attention_vjp(
            *arrays, grad_logsumexp=exact(of_rows[0]), grad_entropy=exact(of_rows[1]), **named
        )
    pairs = [*list(zip(found, want[:3], strict=True)), (grad_scale, want.scale)]
    return pairs + ([(grad_logits, want.bias)] if wants_logits else [])


def check_gradients(case, **options):
    bound = {torch.float32: 2.0**-15, torch.float64: 2.0**-43, torch.float16: 2.0**-8}
    for found, want in gradients(case, **options):
        largest = np.abs(want[np.isfinite(want)]).max(initial=0.0)
        close(exact(found), want, bound.get(case.dtype, 2.0**-5) * largest)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(shape, dtype, device):
    check_gradients(Case(dtype, shape, device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_gradients_of_everything_at_once(shape, dtype, device):
    check_gradients(Case(dtype, shape, device).everything().sinks(), wants_logits=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("left", "right", "offset"), [(None, 0, 0), (5, 0, 10), (3, 7, 95)])
def test_gradients_in_windows(left, right, offset, dtype, device):
    check_gradients(Case(dtype, (1, 2, 1, 70, 100, 32, 16), device).window(left, right, offset))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_rows_that_see_nothing_and_of_hidden_keys(dtype, device):
    case = Case(dtype, (1, 2, 2, 20, 40, 16, 16), device)
    mask = torch.rand((1, 2, 20, 40), generator=case.random) < 0.7
    mask[0, 1, 3:9] = False
    mask[..., 11] = False
    case.key[:, :, 11] = NAN
    case.value[:, :, 11] = INF
    case.query[0, 1, 4] = NAN
    case.add("mask", mask.to(device), "mask", mask.numpy())
    pairs = gradients(case, wants_logits=True)
    for found, _ in pairs:
        assert found.isfinite().all()
    assert not pairs[0][0][0, 1, 3:9].any()
    assert not pairs[3][0][0, 1, 3:9].any()
    assert not pairs[1][0][:, :, 11].any()
    assert not pairs[2][0][:, :, 11].any()


def spread(x):
    """Return the same elements with other steps, at addresses that are aligned for nothing."""
    memory = torch.full((x.numel() * 2 + 1,), NAN, dtype=x.dtype, device=x.device)
    b, h, n, d = x.shape
    view = memory[1:].as_strided((b, h, n, d), (2 * h * n * d, d, h * d, 1))
    view.copy_(x)
    return view


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_the_batch_the_steps_or_the_order_of_threads(
    dtype, device, monkeypatch
):
    case = Case(dtype, (3, 4, 2, 33, 70, 40, 40), device).window(50, 4, 20)
    whole = case.run()
    for seed in (1, 2):
        monkeypatch.setenv("LOGITKIT_EMULATION_SEED", str(seed))
        assert all(torch.equal(a, b) for a, b in zip(case.run(), whole, strict=True))
    case.random.manual_seed(1)
    found = [x for x, _ in gradients(case)]
    case.random.manual_seed(1)
    monkeypatch.setenv("LOGITKIT_EMULATION_SEED", "3")
    again = [x for x, _ in gradients(case)]
    assert all(map(torch.equal, found, again))
    alone = Case(dtype, (1, 2, 1, 33, 70, 40, 40), device).window(50, 4, 20)
    alone.query, alone.key, alone.value = (
        spread(x) for x in (case.query[1:2, 2:], case.key[1:2, 1:], case.value[1:2, 1:])
    )
    assert all(torch.equal(a, b[1:2, 2:]) for a, b in zip(alone.run(), whole, strict=True))


def test_errors(device):
    case = Case(torch.float32, (1, 2, 2, 5, 7, 8, 8), device)
    call = _device.kernels().attention
    out = torch.empty_like(case.query)
    with pytest.raises(ValueError, match="value has an unexpected shape"):
        call(case.query, case.key, case.value[:, :, 1:], case.scale, out)
    with pytest.raises(ValueError, match="out has an unexpected shape"):
        call(case.query, case.key, case.value, case.scale, out[:, :, 1:])
    with pytest.raises(ValueError, match="key has another type"):
        call(case.query, case.key.double(), case.value, case.scale, out)
    rows = torch.zeros((1, 7), dtype=torch.int64, device=device)
    with pytest.raises(ValueError, match="sequences needs longest"):
        call(case.query, case.key, case.value, case.scale, out, sequences=rows)

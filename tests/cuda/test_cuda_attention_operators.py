"""Attention as an operator of tensors on a GPU, against the same in main memory."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from logitkit import estimate_kappa
from logitkit.cuda import _attention as on_gpu
from logitkit.cuda import _attention_sequences
from logitkit.torch._attention_arguments import lowered_arguments
from logitkit.torch._attention_operator import (
    TENSOR_COUNT,
    Attention,
    AttentionOutput,
    AttentionVJP,
    AttentionWithLogsumexp,
    VisibleKeys,
)

INF = float("inf")


def normal(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


MASK = normal(9, 17) > -0.5
MASK[2:4] = False  # rows that see nothing
FLOAT = normal(2, 1, 9, 17).masked_fill(normal(9, 17) < -1.0, -INF)
EVERYTHING = {
    "mask": MASK,
    "bias": FLOAT,
    "window": (6, 2),
    "causal_alignment": "lower_right",
    "scale": 0.3 * normal(2, 4, 9).exp(),
    "softcap": 2.0,
    "alibi_slopes": [0.0, 0.1, 0.2, 0.3],
    "sinks": normal(4),
}
DENSE = {
    "plain": {},
    "causal": {"is_causal": True},
    "lower right": {"is_causal": True, "causal_alignment": "lower_right"},
    "bool mask": {"mask": MASK},
    "mask of heads": {"mask": normal(1, 4, 1, 17) > -1.0},
    "bias of one row": {"bias": normal(4, 1, 17)},
    "bias of one key": {"bias": normal(2, 1, 9, 1)},
    "bias of all": {"bias": normal(2, 4, 9, 17), "sinks": normal(4)},
    "lengths": {"is_causal": True, "key_lengths": [17, 0]},
    "lengths, lower right": {"window": (4, 0), "causal_alignment": "lower_right", "key_lengths": [11, 7]},
    "offsets": {"window": (3, 1), "query_offsets": [5, -3]},
    "far offsets": {"window": (3, 1), "query_offsets": [2**62, -(2**62)]},
    "lengths and mask": {"mask": MASK, "key_lengths": [16, 3], "query_offsets": [1, 2]},
    "everything": EVERYTHING,
}  # fmt: skip
PACKED = {
    "causal": {"is_causal": True},
    "lower right": {"window": (2, 0), "causal_alignment": "lower_right"},
    "offsets and lengths": {"is_causal": True, "query_offsets": [4, 0, 1], "key_lengths": [2, 1, 5]},
    "sinks": {"sinks": normal(4), "alibi_slopes": [0.0, 0.1, 0.2, 0.3], "scale": 0.1 * normal(10, 4).exp()},
}  # fmt: skip
TYPES = [torch.float32, torch.float64, torch.bfloat16]
# Of the largest element: what csrc/attention/attention_cuda.h says of gradients of such arguments,
# which is more than it says of results.
NEAR = {torch.float32: 2.0**-15, torch.float64: 2.0**-43, torch.bfloat16: 2.0**-5}


def dense_arrays(dtype, keys=17):
    # As they come out of a linear layer: heads beside dimensions.
    shapes = (2, 9, 4, 24), (2, keys, 2, 24), (2, keys, 2, 40)
    return [normal(*shape).to(dtype).transpose(1, 2) for shape in shapes]


def packed_arrays(dtype):
    return [normal(*shape).to(dtype) for shape in ((10, 4, 24), (12, 2, 24), (12, 2, 40))]


def packed_options(options):
    return {"cu_seqlens_q": [0, 3, 3, 10], "cu_seqlens_k": [0, 4, 5, 12], **options}


def moved(args, device):
    return [x.to(device) if torch.is_tensor(x) else x for x in args]


def listed(results):
    return [results] if torch.is_tensor(results) else list(results)


def check(definition, args, bound, device):
    """Compare with the operator in main memory, and shapes, types and strides with the fake."""
    found = listed(definition.compute_on_gpu(*moved(args, device)))
    want, fake = listed(definition.compute(*args)), listed(definition.fake(*args))
    for x, exact, like in zip(found, want, fake, strict=True):
        assert x.device.type == torch.device(device).type
        assert (x.shape, x.dtype, x.stride()) == (like.shape, like.dtype, like.stride())
        exact = exact.double()
        largest = exact[exact.isfinite()].abs().max() if exact.isfinite().any() else 0.0
        atol = float(bound * largest)
        torch.testing.assert_close(x.cpu().double(), exact, rtol=0, atol=atol, equal_nan=True)


def check_forward(arrays, options, device):
    a = lowered_arguments(*arrays, **options).arguments
    check(Attention, a, NEAR[arrays[0].dtype], device)
    check(AttentionOutput, a, NEAR[arrays[0].dtype], device)
    check(AttentionWithLogsumexp, a, NEAR[arrays[0].dtype], device)
    check(VisibleKeys, a, 0.0, device)
    return a


def check_gradient(a, device, wanted=(True, True)):
    """Compare the gradient, given the cotangents of the log-sum-exp and of the entropy or not."""
    output, logsumexp, entropy, _ = Attention.compute(*a)
    incoming = [
        normal(*x.shape).to(x.dtype) if is_wanted else None
        for x, is_wanted in zip((output, logsumexp, entropy), (True, *wanted), strict=True)
    ]
    args = [*a[:TENSOR_COUNT], output, logsumexp, entropy, *incoming, *a[TENSOR_COUNT:]]
    check(AttentionVJP, [*args, a.bias is not None], NEAR[a.query.dtype], device)


@pytest.mark.parametrize("options", DENSE.values(), ids=DENSE)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_dense(options, dtype, device):
    check_gradient(check_forward(dense_arrays(dtype), options, device), device)


@pytest.mark.parametrize("options", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_packed(options, dtype, device):
    a = check_forward(packed_arrays(dtype), packed_options(options), device)
    check_gradient(a, device, wanted=(False, True))


@pytest.mark.parametrize("ends", [[0, 150, 150, 300], [0, 129, 300], [0]], ids=str)
def test_packed_sequences_of_several_pieces(ends, device):
    arrays = [normal(ends[-1], 2, 8).float() for _ in range(3)]
    options = {"cu_seqlens_q": ends, "cu_seqlens_k": ends, "is_causal": True}
    check_gradient(check_forward(arrays, options, device), device)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_bits_of_packed_rows_do_not_depend_on_pieces(name, dtype, device, monkeypatch):
    a = lowered_arguments(*packed_arrays(dtype), **packed_options(PACKED[name])).arguments
    a = moved(a, device)
    whole = Attention.compute_on_gpu(*a)
    incoming = [torch.ones_like(x) for x in whole[:3]]

    def gradients():
        numbers = a[TENSOR_COUNT:]
        return AttentionVJP.compute_on_gpu(
            *a[:TENSOR_COUNT], *whole[:3], *incoming, *numbers, False
        )

    want = gradients()
    for size in (1, 2, 4):
        monkeypatch.setattr(_attention_sequences, "_PIECE", size)
        assert all(map(torch.equal, Attention.compute_on_gpu(*a), whole))
        assert all(map(torch.equal, gradients(), want))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_paged(packed, dtype, device):
    query = normal(2, 4, 3, 24).to(dtype)
    options = {
        "block_table": [[4, 0], [2, -9]],  # one block is enough for the second
        "key_lengths": [7, 3],
        "is_causal": True,
        "causal_alignment": "lower_right",
    }
    if packed:
        query = normal(6, 4, 24).to(dtype)
        options["cu_seqlens_q"] = [0, 5, 6]
    key, value = (normal(5, 4, 2, dim).to(dtype) for dim in (24, 40))
    a = check_forward([query, key, value], options, device)
    with pytest.raises(ValueError, match="a paged cache has no gradients"):
        check_gradient(a, device)


DECODING = {
    "plain": {},
    "window": {"window": (700, 0), "causal_alignment": "lower_right"},
    "lengths": {"is_causal": True, "causal_alignment": "lower_right", "key_lengths": [1100, 513]},
    "some see nothing": {"key_lengths": [0, 512], "sinks": None},
    "sinks": {"key_lengths": [0, 600], "sinks": normal(4), "alibi_slopes": [0.0, 0.1, 0.2, 0.3]},
    "cap": {"softcap": 2.0, "scale": 0.3},
}


@pytest.mark.parametrize("options", DECODING.values(), ids=DECODING)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_one_query_and_many_keys(options, dtype, device):
    query, key, value = (normal(2, h, n, 24) for h, n in ((4, 1), (2, 1100), (2, 1100)))
    check_forward([x.to(dtype) for x in (3.0 * query, key, value)], options, device)


@pytest.mark.parametrize("block_size", [16, 100, 700])
def test_one_query_and_many_blocks(block_size, device):
    table = torch.randperm(2 * (1400 // block_size)).reshape(2, -1)
    key, value = (normal(table.numel(), block_size, 2, 24).float() for _ in range(2))
    options = {"block_table": table, "key_lengths": [1321, 30], "is_causal": True}
    options["causal_alignment"] = "lower_right"
    check_forward([normal(2, 4, 1, 24).float(), key, value], options, device)


@pytest.mark.parametrize("sinks", [None, normal(4)], ids=["without sinks", "sinks"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_bits_depend_neither_on_room_for_keys_nor_on_the_batch(sinks, dtype, device):
    query, key, value = (normal(2, h, n, 24).to(dtype) for h, n in ((4, 1), (2, 1100), (2, 1100)))
    lengths = [300, 900]

    def found(rows, room):
        options = {"key_lengths": lengths[rows], "sinks": sinks}
        a = lowered_arguments(query[rows], key[rows, :, :room], value[rows, :, :room], **options)
        return Attention.compute_on_gpu(*moved(a.arguments, device))

    both, first, second = found(slice(0, 2), 1100), slice(0, 1), slice(1, 2)
    for rows, room in ((first, 300), (first, 512), (first, 700), (second, 900), (second, 1100)):
        assert all(torch.equal(x, y[rows]) for x, y in zip(found(rows, room), both, strict=True))


@pytest.mark.parametrize("wanted", [(False, False), (True, False)])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_gradient_of_the_output_alone(wanted, dtype, device):
    options = {"mask": MASK, "sinks": normal(4)}
    a = lowered_arguments(*dense_arrays(dtype), **options).arguments
    check_gradient(a, device, wanted)


@pytest.mark.parametrize(
    ("lead", "length", "keys"), [(0, 9, 17), (2, 0, 17), (2, 9, 0)], ids=["batches", "rows", "keys"]
)
def test_nothing(lead, length, keys, device):
    arrays = [normal(lead, 4, n, 8) for n in (length, keys, keys)]
    options = {"sinks": normal(4), "bias": normal(4, length, 1)}
    check_gradient(check_forward(arrays, options, device), device)


@pytest.mark.parametrize("name", ["everything", "bias of one row", "bias of one key"])
def test_chunks_of_scores(name, device, monkeypatch):
    a = lowered_arguments(*dense_arrays(torch.float64), **DENSE[name]).arguments
    monkeypatch.setattr(on_gpu, "_CHUNK", 100)  # some rows, and one batch
    check(VisibleKeys, a, 0.0, device)
    check_gradient(a, device)


def test_nothing_waits_for_the_gpu(monkeypatch):
    """Tensors of meta have no elements, so that whoever waits for one raises an error."""

    def kernel(*args, **options):
        calls.append(options)

    calls = []
    nothing = SimpleNamespace(
        attention=kernel, attention_gradient=kernel, attention_gradient_workspace=lambda rows: rows
    )
    monkeypatch.setattr(on_gpu, "kernels", lambda: nothing)
    dense, packed = dense_arrays(torch.float32), packed_arrays(torch.float32)
    cases = [(dense, options) for options in DENSE.values()]
    cases += [(packed, packed_options(options)) for options in PACKED.values()]
    for arrays, options in cases:
        a = lowered_arguments(*arrays, **options).arguments
        elsewhere = moved(a, "meta")
        results = Attention.compute_on_gpu(*elsewhere)
        AttentionOutput.compute_on_gpu(*elsewhere)
        AttentionWithLogsumexp.compute_on_gpu(*elsewhere)
        VisibleKeys.compute_on_gpu(*elsewhere)
        args = [*elsewhere[:TENSOR_COUNT], *results[:3], *results[:3], *elsewhere[TENSOR_COUNT:]]
        AttentionVJP.compute_on_gpu(*args, a.bias is not None)
    assert len(calls) == 4 * len(cases)


def test_lengths_out_of_range_are_cut(device):
    """Nothing looks at them before the kernel does; in main memory they are an error."""
    query, key, value = dense_arrays(torch.float32)
    whole = lowered_arguments(query, key, value, key_lengths=[17, 0]).arguments
    wrong = lowered_arguments(query, key, value, key_lengths=[10**12, -5]).arguments
    for x, y in zip(
        *(on_gpu.attention(a._make(moved(a, device))) for a in (whole, wrong)), strict=True
    ):
        assert torch.equal(x, y)  # fmt: skip
    arrays = packed_arrays(torch.float32)
    wrong = packed_options({}) | {"cu_seqlens_q": [-3, 3, 50, 8], "cu_seqlens_k": [5, 99, 4, -1]}
    a = lowered_arguments(*arrays, **wrong).arguments
    on_gpu.attention(a._make(moved(a, device)))
    on_gpu.visible_keys(a._make(moved(a, device)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sinks": normal(3)}, "sinks of 4 real numbers"),
        ({"key_lengths": torch.tensor([1.0, 1.0])}, "key_lengths of integers"),
        ({"key_lengths": torch.tensor([1])}, "key_lengths of 2 elements, not 1"),
        ({"cu_seqlens_k": torch.tensor([0, 17])}, "cu_seqlens_q and cu_seqlens_k together"),
        ({"block_table": torch.ones(2, 3, dtype=torch.int32)}, "key_lengths with block_table"),
    ],
)
def test_errors(change, message, device):
    a = lowered_arguments(*dense_arrays(torch.float32)).arguments._replace(**change)
    with pytest.raises(ValueError, match=message):
        Attention.compute_on_gpu(*moved(a, device))


@pytest.mark.parametrize("entropy", [None, 2.5, torch.tensor([2.0, 2.5, 3.0, 3.5])], ids=str)
def test_estimate_kappa_where_tensors_lie(entropy, device):
    query, key = normal(2, 4, 50, 16), normal(2, 2, 200, 16)
    options = {"lengths": [64, 100, 200], "rows": 20}
    given = entropy.to(device) if torch.is_tensor(entropy) else entropy
    x = [t.clone().to(device).requires_grad_() for t in (query, key)]
    found = estimate_kappa(*x, entropy=given, **options)
    exact = estimate_kappa(query.numpy(), key.numpy(), entropy=entropy, **options)
    for name in ("kappa", "entropy", "lengths", "scale"):
        ours, theirs = getattr(found, name), getattr(exact, name)
        assert ours == pytest.approx(theirs, rel=1e-11)
    for name, misfit in exact.misfit.items():
        assert found.misfit[name] == pytest.approx(misfit, rel=1e-8)

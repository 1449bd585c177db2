"""
What bench/gpu.py checks against float64 and times: our kernels and those of PyTorch.

A case is made when its turn comes, so that one that fails takes no other with it. The arguments of
a case are so many that the caches of a GPU cannot hold them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import logitkit
from logitkit import cuda

Call = Callable[..., Any]


@dataclass
class Case:
    """Candidates that do the same, ours first, and what one call moves or computes."""

    arguments: list[tuple[Any, ...]]
    candidates: dict[str, Call]
    error: float
    bound: float
    bytes: float = 0.0
    flops: float = 0.0
    goal: str = ""


@dataclass(frozen=True)
class Sizes:
    """Where arrays lie, and how large they are."""

    device: str
    large: int  # bytes, of which the caches of a GPU hold a tenth at most
    matrix: int  # rows and columns of the product whose rate is a limit
    lines: tuple[tuple[tuple[int, int], int], ...]  # shapes, and the axis of the lines
    attention: tuple[tuple[torch.dtype, int, int], ...]  # heads and length
    dims: tuple[int, ...]
    decoding: tuple[int, int]  # sequences and keys
    products: tuple[tuple[int, int, int], ...]  # rows, classes, depth
    layer: tuple[int, int, int]
    noise: tuple[int, int]
    updates: tuple[int, ...]
    classes: tuple[int, int]

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
        """Return random numbers."""
        return torch.randn(shape, device=self.device).to(dtype)

    def labels(self, rows: int, classes: int) -> Any:
        """Return random classes."""
        return torch.randint(0, classes, (rows,), device=self.device)

    def sets(self, make: Callable[[], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return as many sets of arguments as the caches cannot hold."""
        first = make()
        size = sum(x.nbytes for x in first if isinstance(x, torch.Tensor))
        return [first, *(make() for _ in range(min(16, self.large // max(size, 1))))]


FULL = Sizes(
    device="cuda",
    large=1 << 30,
    matrix=8192,
    lines=(
        ((4096, 4096), 1),
        ((65536, 512), 1),
        ((1_000_000, 64), 1),
        ((64, 1_000_000), 1),
        ((100_000, 512), 0),
        ((2048, 50257), 1),
    ),
    attention=((torch.bfloat16, 32, 4096), (torch.float16, 32, 4096), (torch.float32, 8, 2048)),
    dims=(128, 64),
    decoding=(32, 16384),
    products=((2048, 32000, 512), (4096, 50257, 768), (2048, 128000, 2048)),
    layer=(4096, 50257, 768),
    noise=(4096, 1000),
    updates=(1 << 22, 1 << 26),
    classes=(50_000, 768),
)

# For the emulation on a processor: the same code, in a few seconds.
TINY = Sizes(
    device="cpu",
    large=1 << 10,
    matrix=16,
    lines=(((3, 70), 1), ((70, 3), 0)),
    attention=((torch.bfloat16, 2, 40), (torch.float32, 2, 40)),
    dims=(64,),
    decoding=(2, 70),
    products=((3, 40, 16),),
    layer=(5, 40, 16),
    noise=(2, 5),
    updates=(1 << 8,),
    classes=(20, 8),
)

Named = tuple[str, Callable[[], Case]]


def difference(found: Any, exact: Any) -> float:
    """Return the largest error, relative to 1 + abs(exact); infinite for NaN."""
    found, exact = found.detach().double(), exact.detach().double()
    error = float(((found - exact).abs() / (1.0 + exact.abs())).max())
    return float("inf") if math.isnan(error) else error


def share_of_largest(found: Any, exact: Any) -> float:
    """Return the largest error of several arrays, each relative to its largest element."""
    worst = 0.0
    for x, y in zip(found, exact, strict=True):
        error = float((x.detach().double() - y).abs().max() / y.abs().max())
        worst = max(worst, float("inf") if math.isnan(error) else error)
    return worst


def reductions(sizes: Sizes) -> Iterator[Named]:
    """Name log-sum-exp, softmax and statistics along lines of several lengths."""
    for dtype in (torch.float32, torch.bfloat16):
        for shape, axis in sizes.lines:
            label = f"{'x'.join(map(str, shape))} axis {axis} {str(dtype)[6:]}"
            for name in ("logsumexp", "softmax", "log_softmax", "softmax_stats"):
                yield f"{name} {label}", partial(_reduction, sizes, name, shape, axis, dtype)


def _reduction(
    sizes: Sizes, name: str, shape: tuple[int, int], axis: int, dtype: torch.dtype
) -> Case:
    arguments = sizes.sets(lambda: (sizes.normal(*shape, dtype=dtype),))
    x, ours = arguments[0][0], getattr(logitkit, name)
    bound = 2.0**-20 if dtype is torch.float32 else 2.0**-8
    candidates = {"logitkit": lambda x: ours(x, axis)}
    if name == "softmax_stats":
        error = difference(ours(x, axis).logsumexp, torch.logsumexp(x.double(), axis))
        return Case(arguments, candidates, error, bound, bytes=x.nbytes)
    theirs = getattr(torch, name)
    candidates["torch"] = lambda x: theirs(x, axis)
    error = difference(ours(x, axis), theirs(x.double(), axis))
    moved = x.nbytes * (1 if name == "logsumexp" else 2)
    return Case(arguments, candidates, error, bound, bytes=moved, goal="85 % of copy, 1x torch")


def sdpa(backend: SDPBackend, *, is_causal: bool) -> Call:
    """Return PyTorch's attention by one of its backends."""

    def call(q: Any, k: Any, v: Any) -> Any:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    return call


def backward(forward: Call) -> Call:
    """Return a function that computes `forward` and the gradients of its sum of squares, halved."""

    def call(*tensors: Any) -> Any:
        out = forward(*tensors)
        return torch.autograd.grad(out, tensors, out.detach())

    return call


def attention(sizes: Sizes) -> Iterator[Named]:
    """Name attention, attention with its gradients, and decoding."""
    for dtype, heads, n in sizes.attention:
        for dim in sizes.dims:
            for is_causal in (False, True):
                label = f"{str(dtype)[6:]} {n} D={dim}{' causal' if is_causal else ''}"
                given = (sizes, dtype, heads, n, dim, is_causal)
                yield f"attention {label}", partial(_attention, *given, with_gradients=False)
                if dtype is not torch.float16:
                    made = partial(_attention, *given, with_gradients=True)
                    yield f"attention, backward {label}", made
    batches, keys = sizes.decoding
    yield f"attention, decoding bfloat16 {batches}x{keys}", partial(_decoding, sizes)


def _attention(
    sizes: Sizes,
    dtype: torch.dtype,
    heads: int,
    n: int,
    dim: int,
    is_causal: bool,
    *,
    with_gradients: bool,
) -> Case:
    half = dtype is not torch.float32

    def make() -> tuple[Any, ...]:
        tensors = (sizes.normal(2, heads, n, dim, dtype=dtype) for _ in range(3))
        return tuple(x.requires_grad_(with_gradients) for x in tensors)

    arguments = sizes.sets(make)[: 3 if with_gradients else None]
    backends = (
        {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
        if half
        else {"efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
    )
    candidates: dict[str, Call] = {
        "logitkit": lambda q, k, v: logitkit.attention(q, k, v, is_causal=is_causal)
    }
    candidates |= {name: sdpa(b, is_causal=is_causal) for name, b in backends.items()}
    flops = 4.0 * 2 * heads * n * n * dim * (0.5 if is_causal else 1.0)
    exact = sdpa(SDPBackend.MATH, is_causal=is_causal)
    some = [x[:1, :2].detach().clone().requires_grad_(with_gradients) for x in arguments[0]]
    wide = [x.detach().double().requires_grad_(with_gradients) for x in some]
    if not with_gradients:
        error = difference(candidates["logitkit"](*some), exact(*wide))
        bound = 2.0**-6 if half else 2.0**-16
        goal = "0.9x flash, 60 % of the rate" if half else "1.5x torch"
        return Case(arguments, candidates, error, bound, flops=flops, goal=goal)
    candidates = {name: backward(call) for name, call in candidates.items()}
    error = share_of_largest(candidates["logitkit"](*some), backward(exact)(*wide))
    bound = 2.0**-5 if half else 2.0**-15
    return Case(arguments, candidates, error, bound, flops=3.5 * flops)


def _decoding(sizes: Sizes) -> Case:
    """Return one query for each sequence, of 32 heads that share 8 of keys."""
    batches, keys = sizes.decoding

    def make() -> tuple[Any, ...]:
        shapes = ((batches, 32, 1, 128), *((batches, 8, keys, 128),) * 2)
        return tuple(sizes.normal(*shape, dtype=torch.bfloat16) for shape in shapes)

    def theirs(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    arguments = sizes.sets(make)[:3]
    q, k, v = arguments[0]
    some = [x[:1] for x in (q, k, v)]
    exact = theirs(*(x.double() for x in some))
    return Case(
        arguments,
        {"logitkit": lambda q, k, v: logitkit.attention(q, k, v), "torch": theirs},
        difference(logitkit.attention(*some), exact),
        2.0**-6,
        bytes=k.nbytes + v.nbytes,
    )


def products(sizes: Sizes) -> Iterator[Named]:
    """Name products whose rows are reduced, and cross-entropy."""
    for shape in sizes.products:
        yield f"linear_argmax float32 {'x'.join(map(str, shape))}", partial(_argmax, sizes, shape)
    rows, classes, _ = sizes.layer
    for dtype in (torch.float32, torch.bfloat16):
        name = f"cross_entropy {rows}x{classes} {str(dtype)[6:]}"
        yield name, partial(_cross_entropy, sizes, dtype)


def _argmax(sizes: Sizes, shape: tuple[int, int, int]) -> Case:
    rows, classes, depth = shape
    arguments = sizes.sets(lambda: (sizes.normal(rows, depth), sizes.normal(classes, depth)))[:3]
    x, weight = arguments[0]
    scores = x.double() @ weight.double().T
    values, indices = cuda.linear_argmax(x, weight)
    picked = scores.gather(1, indices[:, None].to(torch.int64))[:, 0]
    return Case(
        arguments,
        {"logitkit": cuda.linear_argmax, "two steps": lambda x, w: (x @ w.T).max(1)},
        max(difference(values, scores.amax(1)), difference(picked, scores.amax(1))),
        2.0**-14,
        flops=2.0 * rows * classes * depth,
        goal="1.5x torch",
    )


def _cross_entropy(sizes: Sizes, dtype: torch.dtype) -> Case:
    rows, classes, _ = sizes.layer
    arguments = sizes.sets(
        lambda: (sizes.normal(rows, classes, dtype=dtype), sizes.labels(rows, classes))
    )
    logits, target = arguments[0]
    ours = logitkit.losses.cross_entropy
    return Case(
        arguments,
        {"logitkit": ours, "torch": F.cross_entropy},
        difference(ours(logits, target), F.cross_entropy(logits.double(), target)),
        2.0**-20 if dtype is torch.float32 else 2.0**-7,
        bytes=logits.nbytes,
    )


def layers(sizes: Sizes) -> Iterator[Named]:
    """Name the cross-entropy of a linear layer, with gradients, and argmax with noise."""
    for dtype in (torch.float32, torch.bfloat16):
        label = f"{'x'.join(map(str, sizes.layer))} {str(dtype)[6:]}"
        yield f"linear_cross_entropy {label}", partial(_layer, sizes, dtype, False)
        yield f"linear_cross_entropy, backward {label}", partial(_layer, sizes, dtype, True)
    rows, classes = sizes.noise
    yield f"noise_argmax_probs {rows}x{classes} float32", partial(_noise, sizes)


def _stored(x: Any, weight: Any, target: Any) -> Any:
    return F.cross_entropy(x @ weight.T, target)


def _gradients(loss: Call) -> Call:
    def call(x: Any, weight: Any, target: Any) -> Any:
        return torch.autograd.grad(loss(x, weight, target), (x, weight))

    return call


def _layer(sizes: Sizes, dtype: torch.dtype, with_gradients: bool) -> Case:
    rows, classes, depth = sizes.layer

    def make() -> tuple[Any, ...]:
        x, weight = sizes.normal(rows, depth), 0.05 * sizes.normal(classes, depth)
        tensors = (t.to(dtype).requires_grad_(with_gradients) for t in (x, weight))
        return *tensors, sizes.labels(rows, classes)

    arguments = sizes.sets(make)[:3]
    x, weight, target = arguments[0]
    wide = [t.detach().double().requires_grad_(with_gradients) for t in (x, weight)]
    ours, half = logitkit.losses.linear_cross_entropy, dtype is torch.bfloat16
    candidates: dict[str, Call] = {"logitkit": ours, "stored logits": _stored}
    if hasattr(F, "linear_cross_entropy"):
        candidates["torch"] = F.linear_cross_entropy
    flops = 2.0 * rows * classes * depth
    if not with_gradients:
        error = difference(ours(x, weight, target), _stored(*wide, target))
        return Case(arguments, candidates, error, 2.0**-6 if half else 2.0**-16, flops=flops)
    candidates = {name: _gradients(call) for name, call in candidates.items()}
    error = share_of_largest(
        candidates["logitkit"](x, weight, target), _gradients(_stored)(*wide, target)
    )
    return Case(arguments, candidates, error, 2.0**-5 if half else 2.0**-12, flops=3.0 * flops)


def _noise(sizes: Sizes) -> Case:
    noise = logitkit.distributions.Normal()
    logits = sizes.normal(*sizes.noise)
    exact = cuda.noise_argmax_probs(logits[:64].double(), noise)
    return Case(
        [(logits,)],
        {"logitkit": lambda x: cuda.noise_argmax_probs(x, noise)},
        difference(cuda.noise_argmax_probs(logits[:64], noise), exact),
        1e-5,
        bytes=2.0 * logits.nbytes,
    )


def updates(sizes: Sizes) -> Iterator[Named]:
    """Name the update of a diffusion sampler, with and without noise."""
    for count in sizes.updates:
        for noisy in (False, True):
            name = f"diffusion_update{' with noise' if noisy else ''} {count} float32"
            yield name, partial(_update, sizes, count, noisy)


def _update(sizes: Sizes, count: int, noisy: bool) -> Case:
    shape = (8, count // 8)
    arguments = sizes.sets(lambda: tuple(sizes.normal(*shape) for _ in range(3)))
    x, y, out = arguments[0]
    amount = 1.0 if noisy else 0.0

    def ours(x: Any, y: Any, out: Any) -> Any:
        return cuda.diffusion_update(x, y, a=0.5, b=2.0, c=amount, rng=0, out=out)

    def theirs(x: Any, y: Any, out: Any) -> Any:
        torch.mul(x, 0.5, out=out).add_(y, alpha=2.0)
        return out.add_(torch.randn_like(x)) if noisy else out

    exact = 0.5 * x.double() + 2.0 * y.double()
    if noisy:
        exact = exact + cuda.random_normal(0, torch.empty_like(x)).double()
    return Case(
        arguments,
        {"logitkit": ours, "torch": theirs},
        difference(ours(x, y, out), exact),
        2.0**-21,
        bytes=3.0 * x.nbytes,
        goal="80 % of copy",
    )


SECTIONS: dict[str, Callable[[Sizes], Iterator[Named]]] = {
    "reductions": reductions,
    "attention": attention,
    "products": products,
    "layers": layers,
    "updates": updates,
}

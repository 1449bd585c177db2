"""The CUDA kernels against PyTorch, each checked against float64 before it is timed.

python bench/gpu.py [--only WORD] [--table PATH]

Some six minutes on an H100. Needs PyTorch with CUDA and a logitkit built with LOGITKIT_CUDA=ON.
Times are medians of events on the stream, all candidates in turn in every round, on arguments that
take turns too, so that none is in the cache of the GPU. The table has the share of what the GPU
can do, measured in the same run: the copy of a large tensor, or the product of two large matrices
in bfloat16. It is written to docs/gpu-<name of the GPU>.md, or to PATH.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import logitkit
from logitkit import check_argmaxable, cuda

ROUNDS = 15
LARGE = 1 << 30  # bytes, of which the caches of a GPU hold a tenth at most

Call = Callable[..., Any]


@dataclass
class Case:
    """Candidates that do the same, ours first, and what one call moves or computes."""

    name: str
    arguments: list[tuple[Any, ...]]
    candidates: dict[str, Call]
    error: float
    bound: float
    bytes: float = 0.0
    flops: float = 0.0
    goal: str = ""


@dataclass
class Limits:
    """What the GPU can do, in bytes and in floating-point operations a second."""

    copy: float
    bfloat16: float


@dataclass
class Table:
    """The lines of the result, printed as they come."""

    lines: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a line, and print it."""
        self.lines.append("| " + " | ".join(cells) + " |")
        print(self.lines[-1], flush=True)


def times(calls: dict[str, Call], arguments: list[tuple[Any, ...]]) -> dict[str, float]:
    """Return the median time of each candidate, in seconds."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    turn = 0
    for round_ in range(-2, ROUNDS):  # two to warm up
        for name, call in calls.items():
            turn += 1
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call(*arguments[turn % len(arguments)])
            end.record()
            end.synchronize()
            if round_ >= 0:
                found[name].append(start.elapsed_time(end) * 1e-3)
    return {name: statistics.median(values) for name, values in found.items()}


def sets(make: Callable[[], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return as many sets of arguments as the caches cannot hold."""
    first = make()
    size = sum(x.nbytes for x in first if isinstance(x, torch.Tensor))
    return [first, *(make() for _ in range(min(16, LARGE // max(size, 1))))]


def measure_limits() -> Limits:
    """Return what a copy and a product of large arrays reach."""
    x, y = (torch.empty(LARGE // 4, device="cuda") for _ in range(2))
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    copy = times({"copy": lambda: y.copy_(x)}, [()])["copy"]
    product = times({"product": lambda: a @ b}, [()])["product"]
    return Limits(2.0 * LARGE / copy, 2.0 * 8192.0**3 / product)


def difference(found: Any, exact: Any) -> float:
    """Return the largest error, relative to 1 + abs(exact)."""
    found, exact = found.double(), exact.double()
    return float(((found - exact).abs() / (1.0 + exact.abs())).max())


def reductions() -> Iterator[Case]:
    """Yield log-sum-exp, softmax and statistics along lines of several lengths."""
    shapes = [((4096, 4096), 1), ((65536, 512), 1), ((1_000_000, 64), 1), ((64, 1_000_000), 1)]
    shapes += [((100_000, 512), 0), ((2048, 50257), 1)]
    for dtype in (torch.float32, torch.bfloat16):
        bound = 2.0**-20 if dtype is torch.float32 else 2.0**-8
        for shape, axis in shapes:
            arguments = sets(lambda s=shape, d=dtype: (torch.randn(s, device="cuda").to(d),))
            x = arguments[0][0]
            label = f"{'x'.join(map(str, shape))} axis {axis} {str(dtype)[6:]}"
            for name in ("logsumexp", "softmax", "log_softmax"):
                ours, theirs = getattr(logitkit, name), getattr(torch, name)
                exact = theirs(x[:, :512].double() if axis == 0 else x[:64].double(), axis)
                found = ours(x[:, :512] if axis == 0 else x[:64], axis)
                moved = x.nbytes * (1 if name == "logsumexp" else 2)
                yield Case(
                    f"{name} {label}",
                    arguments,
                    {
                        "logitkit": lambda x, f=ours, a=axis: f(x, a),
                        "torch": lambda x, f=theirs, a=axis: f(x, a),
                    },
                    difference(found, exact),
                    bound,
                    bytes=moved,
                    goal="85 % of copy, 1x torch",
                )
            yield Case(
                f"softmax_stats {label}",
                arguments,
                {"logitkit": lambda x, a=axis: logitkit.softmax_stats(x, a)},
                difference(
                    logitkit.softmax_stats(x, axis).logsumexp, torch.logsumexp(x.double(), axis)
                ),
                bound,
                bytes=x.nbytes,
            )


def sdpa(backend: SDPBackend, *, is_causal: bool) -> Call:
    """Return PyTorch's attention by one of its backends."""

    def call(q: Any, k: Any, v: Any) -> Any:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)

    return call


def attention() -> Iterator[Case]:
    """Yield attention, and attention with its gradients."""
    for dtype, heads, n in (
        (torch.bfloat16, 32, 4096),
        (torch.float16, 32, 4096),
        (torch.float32, 8, 2048),
    ):
        for dim in (64, 128):
            for is_causal in (False, True):
                arguments = sets(
                    lambda h=heads, n=n, d=dim, t=dtype: tuple(
                        torch.randn(2, h, n, d, device="cuda").to(t) for _ in range(3)
                    )
                )
                q, k, v = (x[:1, :2] for x in arguments[0])
                exact = sdpa(SDPBackend.MATH, is_causal=is_causal)(*(x.double() for x in (q, k, v)))
                ours = {
                    "logitkit": lambda q, k, v, c=is_causal: logitkit.attention(
                        q, k, v, is_causal=c
                    )
                }
                half = dtype is not torch.float32
                backends = (
                    {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
                    if half
                    else {"efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
                )
                peers = {name: sdpa(b, is_causal=is_causal) for name, b in backends.items()}
                flops = 4.0 * 2 * heads * n * n * dim * (0.5 if is_causal else 1.0)
                label = f"{str(dtype)[6:]} {n} D={dim}{' causal' if is_causal else ''}"
                yield Case(
                    f"attention {label}",
                    arguments,
                    ours | peers,
                    difference(ours["logitkit"](q, k, v), exact),
                    2.0**-6 if half else 2.0**-16,
                    flops=flops,
                    goal="0.9x flash, 60 % of the rate" if half else "1.5x torch",
                )
                if dtype is torch.float16:
                    continue
                yield Case(
                    f"attention, backward {label}",
                    [tuple(x.clone().requires_grad_() for x in set_) for set_ in arguments[:2]],
                    {name: backward(call) for name, call in (ours | peers).items()},
                    0.0,  # tests/cuda has the gradients
                    0.0,
                    flops=3.5 * flops,
                )


def backward(forward: Call) -> Call:
    """Return a function that computes `forward` and the gradients of its sum."""

    def call(*tensors: Any) -> Any:
        out = forward(*tensors)
        return torch.autograd.grad(out, tensors, torch.ones_like(out))

    return call


def products() -> Iterator[Case]:
    """Yield products whose rows are reduced, and cross-entropy."""
    for rows, classes, depth in ((2048, 32000, 512), (4096, 50257, 768), (2048, 128000, 2048)):

        def make(m: int = rows, n: int = classes, d: int = depth) -> tuple[Any, ...]:
            return torch.randn(m, d, device="cuda"), torch.randn(n, d, device="cuda")

        arguments = sets(make)[:3]
        x, weight = arguments[0]
        scores = x[:256].double() @ weight.double().T
        values, indices = cuda.linear_argmax(x[:256], weight)
        picked = scores.gather(1, indices[:, None].to(torch.int64))[:, 0]
        yield Case(
            f"linear_argmax float32 {rows}x{classes}x{depth}",
            arguments,
            {
                "logitkit": cuda.linear_argmax,
                "two steps": lambda x, w: (x @ w.T).max(1),
            },
            max(difference(values, scores.amax(1)), difference(picked, scores.amax(1))),
            2.0**-14,
            flops=2.0 * rows * classes * depth,
            goal="1.5x torch",
        )
        del scores
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.randn(4096, 50257, device="cuda").to(dtype)
        target = torch.randint(0, 50257, (4096,), device="cuda")
        exact = F.cross_entropy(logits.double(), target)
        found = logitkit.losses.cross_entropy(logits, target)
        yield Case(
            f"cross_entropy 4096x50257 {str(dtype)[6:]}",
            [(logits, target)],
            {"logitkit": logitkit.losses.cross_entropy, "torch": F.cross_entropy},
            difference(found, exact),
            2.0**-7,
            bytes=logits.nbytes,
        )


def layers() -> Iterator[Case]:
    """Yield the cross-entropy of a linear layer, with gradients, and argmax with noise."""
    rows, classes, depth = 4096, 50257, 768
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(rows, depth, device="cuda").to(dtype).requires_grad_()
        weight = (0.05 * torch.randn(classes, depth, device="cuda")).to(dtype).requires_grad_()
        target = torch.randint(0, classes, (rows,), device="cuda")

        def stored(x: Any, w: Any, target: Any) -> Any:
            return F.cross_entropy(x @ w.T, target)

        with torch.no_grad():
            exact = stored(x.double(), weight.double(), target)
            found = logitkit.losses.linear_cross_entropy(x, weight, target)
        flops = 2.0 * rows * classes * depth
        for name, factor in (
            ("linear_cross_entropy", 1.0),
            ("linear_cross_entropy, backward", 3.0),
        ):
            wrap = gradients_of if factor > 1.0 else without_gradients
            yield Case(
                f"{name} {rows}x{classes}x{depth} {str(dtype)[6:]}",
                [(x, weight, target)],
                {
                    "logitkit": wrap(logitkit.losses.linear_cross_entropy),
                    "stored logits": wrap(stored),
                },
                difference(found, exact),
                2.0**-6 if dtype is torch.bfloat16 else 2.0**-16,
                flops=factor * flops,
            )
    logits = torch.randn(4096, 1000, device="cuda")
    noise = logitkit.distributions.Normal()
    exact = cuda.noise_argmax_probs(logits[:64].double(), noise)
    yield Case(
        "noise_argmax_probs 4096x1000 float32",
        [(logits,)],
        {"logitkit": lambda x: cuda.noise_argmax_probs(x, noise)},
        difference(cuda.noise_argmax_probs(logits[:64], noise), exact),
        1e-5,
        bytes=2.0 * logits.nbytes,
    )


def without_gradients(loss: Call) -> Call:
    """Return a function that computes the value alone."""

    def call(*args: Any) -> Any:
        with torch.no_grad():
            return loss(*args)

    return call


def gradients_of(loss: Call) -> Call:
    """Return a function that computes the gradients of the first two arguments."""

    def call(x: Any, weight: Any, target: Any) -> Any:
        return torch.autograd.grad(loss(x, weight, target), (x, weight))

    return call


def updates() -> Iterator[Case]:
    """Yield the update of a diffusion sampler, with and without noise."""
    from logitkit._diffusion_update import diffusion_update

    for count in (1 << 22, 1 << 26):
        arguments = sets(
            lambda n=count: tuple(torch.randn(8, n // 8, device="cuda") for _ in range(3))
        )
        x, y, out = arguments[0]
        diffusion_update(x, y, a=0.5, b=2.0, out=out)
        yield Case(
            f"diffusion_update, no noise, {count} float32",
            arguments,
            {
                "logitkit": lambda x, y, out: diffusion_update(x, y, a=0.5, b=2.0, out=out),
                "torch": lambda x, y, out: torch.mul(x, 0.5, out=out).add_(y, alpha=2.0),
            },
            difference(out, 0.5 * x.double() + 2.0 * y.double()),
            2.0**-22,
            bytes=3.0 * x.nbytes,
            goal="80 % of copy",
        )
        yield Case(
            f"diffusion_update with noise, {count} float32",
            arguments,
            {
                "logitkit": lambda x, y, out: diffusion_update(
                    x, y, a=0.5, b=2.0, c=1.0, rng=0, out=out
                ),
                "torch": lambda x, y, out: (
                    torch.mul(x, 0.5, out=out).add_(y, alpha=2.0).add_(torch.randn_like(x))
                ),
            },
            0.0,  # the bits of the noise are tested in tests/cuda
            0.0,
            bytes=3.0 * x.nbytes,
            goal="80 % of copy",
        )


def class_check() -> str:
    """Return how long the class check takes on 50,000 classes of 768 dimensions."""
    weight = torch.randn(50_000, 768, device="cuda")
    check_argmaxable(weight)
    torch.cuda.synchronize()
    start = time.perf_counter()
    report = check_argmaxable(weight)
    torch.cuda.synchronize()
    assert report.verify()
    return f"{time.perf_counter() - start:.2f} s"


def report(case: Case, limits: Limits, table: Table) -> None:
    """Check a case, time it and add its line."""
    if not case.error <= case.bound:
        raise SystemExit(f"{case.name}: error {case.error:.2e}, more than {case.bound:.2e}")
    found: dict[str, float] = {}
    for name, call in list(case.candidates.items()):
        try:
            call(*case.arguments[0])
        except RuntimeError as reason:  # a backend that this GPU or this version does not have
            if name == "logitkit":
                raise
            print(f"{name} cannot run {case.name}: {str(reason).splitlines()[0]}", file=sys.stderr)
            del case.candidates[name]
    found = times(case.candidates, case.arguments)
    ours = found.pop("logitkit")
    best = min(found, key=found.__getitem__) if found else ""
    if case.bytes:
        rate, share = f"{case.bytes / ours / 1e9:.0f} GB/s", case.bytes / ours / limits.copy
    else:
        rate, share = f"{case.flops / ours / 1e12:.0f} TFLOP/s", case.flops / ours / limits.bfloat16
    table.add(
        case.name,
        f"{ours * 1e6:.1f} us",
        rate,
        f"{share:.0%}",
        f"{found[best] / ours:.2f}x {best}" if best else "",
        f"{case.error:.1e}" if case.bound else "tests",
        case.goal,
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a word in the names of the cases")
    parser.add_argument("--table", type=Path, help="where to write the table")
    options = parser.parse_args()
    if not (cuda.is_available() and torch.cuda.is_available()):
        raise SystemExit("no GPU, or logitkit or PyTorch is built without CUDA")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    gpu, limits, table = torch.cuda.get_device_name(), measure_limits(), Table()
    conditions = (
        f"`python bench/gpu.py`; PyTorch {torch.__version__}, CUDA {torch.version.cuda}, logitkit "
        f"built for {', '.join(cuda.build_info().architectures)}. Copy "
        f"{limits.copy / 1e9:.0f} GB/s, product in bfloat16 {limits.bfloat16 / 1e12:.0f} TFLOP/s. "
        "Shares are of the first where a rate is in GB/s, else of the second."
    )
    heading = [f"# {gpu}", "", conditions, ""]
    print("\n".join(heading))
    table.add("case", "time", "rate", "share", "best peer", "error", "goal")
    table.add(*["---"] * 7)
    for cases in (reductions, updates, products, layers, attention):
        for case in cases():
            if options.only in case.name:
                report(case, limits, table)
    if options.only in "class check":
        table.add("class check 50000x768", class_check(), "", "", "", "verified", "1 s")
    name = "-".join(gpu.lower().split())
    path = options.table or Path(__file__).parents[1] / "docs" / f"gpu-{name}.md"
    path.write_text("\n".join([*heading, *table.lines, ""]))
    print(f"written to {path}")


if __name__ == "__main__":
    main()

"""Attention against torch, onnxruntime, JAX and NumPy, forward and backward.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 taskset -c 1 python bench/bench_attention.py [--quick]

One batch of 8 heads, on one thread and in processor time but where said. All candidates of a line
run in turn, many times, with a calibration of the peak of multiply-adds among them; each figure is
the median over the rounds of a ratio within a round, and behind it its 10th and 90th percentile.
Peers that are not installed are left out. Outputs are compared with the float64 reference before
they are timed. Causal work counts the visible half; backward counts 2.5 times the forward products.

For AVX2 on both sides: LOGITKIT_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2.
Without the matrix units of recent processors, for half types: LOGITKIT_ISA=avx512
ONEDNN_MAX_CPU_ISA=AVX512_CORE.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import numpy as np

import logitkit
from attention_peers import jax_calls, onnxruntime_calls
from harness import Ratio, paired_times, print_machine
from logitkit import EntropyInvariant, _cpu, reference

try:
    import torch
except ModuleNotFoundError:
    torch = None
else:
    torch.set_num_threads(1)

QUICK = "--quick" in sys.argv
HEADS = 8
PEAK = 100_000_000  # multiply-adds of a calibration


def paired_cpu_times(calls: dict[str, object], *, rounds: int) -> dict[str, np.ndarray]:
    """Return processor times, of all threads of this process: others may be at work as well."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(-1, rounds):  # the first one warms the caches up
        for name, call in calls.items():
            start = time.process_time()
            call()
            if round_ >= 0:
                times[name].append(time.process_time() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def rounds(seconds: float) -> int:
    """Return how many rounds suit calls of so many seconds."""
    return 3 if QUICK else int(np.clip(2.0 / seconds, 5, 60))


def arrays(count: int, length: int, dim: int, dtype: object = np.float32) -> list[np.ndarray]:
    """Return standard normal arrays (1, 8, length, dim)."""
    rng = np.random.default_rng(length + dim)
    return [rng.normal(size=(1, HEADS, length, dim)).astype(dtype) for _ in range(count)]


def calibrate() -> None:
    """Run multiply-adds on registers alone."""
    _cpu.multiply_add(PEAK)


def flops(length: int, dim: int, causal: bool) -> float:
    """Return the operations of the two products of attention, of what is visible."""
    visible = length * (length + 1) / 2 if causal else length**2
    return 4.0 * HEADS * visible * dim


def tensors(xs: list[np.ndarray], dtype: object = None) -> list[object]:
    """Return torch tensors of the same numbers."""
    return [torch.from_numpy(x) if dtype is None else torch.from_numpy(x).to(dtype) for x in xs]


def report(title: str, times: dict[str, np.ndarray], work: float = 0.0, wide: float = 1.0) -> None:
    """Print the time, the ratios to peers, and the share of the peak if `work` is known."""
    ours = times["ours"]
    line = f"{title:<34}{np.median(ours) * 1e3:>9.2f} ms"
    for name, other in times.items():
        if name not in ("ours", "peak"):
            line += f"   {name} {Ratio(other, ours)}"
    if work:
        seconds = work / (2.0 * PEAK * wide) * times["peak"]
        line += f"   of peak {Ratio(seconds, ours).percent()}"
    print(line, flush=True)


def check_accuracy() -> None:
    """Print errors against the reference: root mean square and largest, ours over torch's."""
    print("\nerrors against float64: rms, largest, logsumexp; torch over ours")
    for name, factor, outliers in (("normal", 1.0, False), ("outliers", 1.0, True)):
        for dim in (64, 128):
            q, k, v = arrays(3, 1024, dim)
            if outliers:
                k[..., ::97] *= 8.0
                q[..., ::89] *= 8.0
            exact = reference.attention_with_stats(q, k, v, scale=factor / np.sqrt(dim))
            got = logitkit.attention_with_stats(q, k, v, scale=factor / np.sqrt(dim))
            error = np.abs(got.output - exact.output)
            rms, most = np.sqrt(np.mean(error**2)), error.max()
            lse = np.max(np.abs(got.logsumexp - exact.logsumexp) / np.maximum(1, exact.logsumexp))
            line = f"{name:<10} D={dim:<4} {rms:.2e} {most:.2e} {lse:.2e}"
            if torch is not None:
                out = torch.nn.functional.scaled_dot_product_attention(*tensors([q, k, v]))
                theirs = np.abs(out.numpy() - exact.output)
                line += (
                    f"   torch {np.sqrt(np.mean(theirs**2)) / rms:.2f} {theirs.max() / most:.2f}"
                )
            print(line)


def bench_forward(length: int, dim: int, causal: bool, dtype: type = np.float32) -> None:
    """Print one line of a forward pass; what leaves the caches cold is timed apart from torch."""
    q, k, v = arrays(3, length, dim, dtype)
    ours = partial(logitkit.attention, q, k, v, is_causal=causal, threads=1)
    candidates = {"ours": ours, "peak": calibrate}
    if torch is not None:
        call = torch.nn.functional.scaled_dot_product_attention
        candidates["torch"] = partial(call, *tensors([q, k, v]), is_causal=causal)
    others = {}
    if dtype == np.float32:
        output = ours()
        others |= onnxruntime_calls(q, k, v, output, is_causal=causal)
        if length <= 1024:
            others |= jax_calls(q, k, v, output, is_causal=causal)
            others["NumPy"] = partial(numpy_attention, q, k, v, causal)
    work = flops(length, dim, causal)
    kind = "" if dtype == np.float32 else f" {np.dtype(dtype).name}"
    title = f"D={dim} N={length}{' causal' if causal else ''}{kind}"
    count = rounds(work / 5e10)
    report(
        title, paired_cpu_times(candidates, rounds=count), work, 1.0 if dtype == np.float32 else 0.5
    )
    if others:
        report("", paired_cpu_times({"ours": ours} | others, rounds=count))


def numpy_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    """Attention as one writes it in NumPy, in the type of its arguments."""
    z = q @ k.swapaxes(-1, -2) * q.dtype.type(q.shape[-1] ** -0.5)
    if causal:
        z = np.where(np.tri(q.shape[-2], dtype=bool), z, -np.inf)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return (p @ v) / p.sum(axis=-1, keepdims=True)


def bench_backward(length: int, dim: int, causal: bool) -> None:
    """Print one line of a forward and a backward pass."""
    q, k, v, grad = arrays(4, length, dim)

    def ours() -> object:
        result = logitkit.attention_with_stats(q, k, v, is_causal=causal, threads=1)
        return logitkit.attention_vjp(q, k, v, grad, result=result, is_causal=causal, threads=1)

    candidates = {"ours": ours, "peak": calibrate}
    if torch is not None:
        leaves = [x.requires_grad_() for x in tensors([q, k, v])]
        incoming = torch.from_numpy(grad)

        def theirs() -> object:
            call = torch.nn.functional.scaled_dot_product_attention
            return torch.autograd.grad(call(*leaves, is_causal=causal), leaves, incoming)

        candidates["torch"] = theirs
    work = 3.5 * flops(length, dim, causal)
    times = paired_cpu_times(candidates, rounds=rounds(work / 5e10))
    report(f"D={dim} N={length}{' causal' if causal else ''} fwd + bwd", times, work)


def bench_half(name: str, causal: bool) -> None:
    """Print one line of a half type, with our own float32 beside it."""
    try:
        dtype = np.dtype(getattr(__import__("ml_dtypes"), name, name))
    except ModuleNotFoundError:
        return
    wide = arrays(3, 1024, 64)
    halves = [x.astype(dtype) for x in wide]
    candidates = {
        "ours": partial(logitkit.attention, *halves, is_causal=causal, threads=1),
        "own float32": partial(logitkit.attention, *wide, is_causal=causal, threads=1),
    }
    if torch is not None:
        call = torch.nn.functional.scaled_dot_product_attention
        same = tensors(wide, getattr(torch, name))
        theirs = partial(call, *same, is_causal=causal)
        try:
            theirs()
        except RuntimeError as error:  # capped to AVX2, torch has no product of half types
            print(f"torch on {name}: {error}")
        else:
            candidates["torch"] = theirs
    times = paired_cpu_times(candidates, rounds=rounds(0.05))
    report(f"D=64 N=1024 {name}{' causal' if causal else ''}", times)


def bench_decode(queries: int) -> None:
    """Print one line of few queries against a long cache, and the share of read bandwidth."""
    q = arrays(1, queries, 64)[0]
    k, v = arrays(2, 32768, 64)
    candidates = {"ours": partial(logitkit.attention, q, k, v, threads=1)}
    candidates["read"] = (lambda: (k.sum(), v.sum())) if torch is None else None
    if torch is not None:
        tq, tk, tv = tensors([q, k, v])
        call = torch.nn.functional.scaled_dot_product_attention
        candidates["torch"] = partial(call, tq, tk, tv)
        candidates["read"] = lambda: (tk.sum(), tv.sum())
    times = paired_cpu_times(candidates, rounds=rounds(0.1))
    report(f"{queries} queries x 32768 keys", times)


def bench_variants() -> None:
    """Print what statistics, a schedule, masks and spread scores cost over the plain call."""
    q, k, v = arrays(3, 1024, 64)
    plain = partial(logitkit.attention, q, k, v, threads=1)
    spread = -110.0 * np.random.default_rng(0).random((1024, 1024)).astype(np.float32)
    band = np.abs(np.subtract.outer(np.arange(1024), np.arange(1024))) < 400
    variants = {
        "stats, entropy-invariant": partial(
            logitkit.attention_with_stats, q, k, v, threads=1, scale=EntropyInvariant()
        ),
        "bool mask, 63 % visible": partial(plain, mask=band),
        "bias of 0": partial(plain, bias=0 * spread),
        "bias over [-110, 0]": partial(plain, bias=spread),
        "softcap": partial(plain, softcap=20.0),
        "sinks and ALiBi": partial(plain, sinks=np.zeros(8), alibi_slopes=np.ones(8) / 64),
    }
    print("\nD=64 N=1024, time over the plain call")
    for name, call in variants.items():
        times = paired_cpu_times({"plain": plain, name: call}, rounds=rounds(0.04))
        print(f"{name:<34}{Ratio(times[name], times['plain'])}", flush=True)


def bench_threads() -> None:
    """Print how much faster two threads are."""
    if _cpu.default_threads() < 2:
        print("\nonly one processor to run on: no line for two threads")
        return
    print("\ntime of one thread over time of two")
    for length, heads in ((1024, 8), (1024, 1), (4096, 1)):
        q, k, v = (x[:, :heads] for x in arrays(3, length, 64))
        calls = {t: partial(logitkit.attention, q, k, v, is_causal=True, threads=t) for t in (1, 2)}
        times = paired_times(calls, rounds=rounds(0.05))
        print(f"{heads} heads N={length} causal{'':<14}{Ratio(times[1], times[2])}", flush=True)


MEMORY = """
import numpy as np, logitkit
from pathlib import Path
def peak():
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024
x = np.ones((1, 1, 16384, 64), np.float32)
small = x[:, :, :64]
result = logitkit.attention_with_stats(small, small, small)
logitkit.attention_vjp(small, small, small, small, result=result)
before = peak()
out = logitkit.attention_with_stats(x, x, x, is_causal=True)
after = peak()
print(f"forward {after - before - out.output.nbytes / 2**20:.1f} MiB beyond its output")
grads = logitkit.attention_vjp(x, x, x, x, result=out, is_causal=True)
print(f"backward {peak() - after - 3 * out.output.nbytes / 2**20:.1f} MiB beyond its gradients")
"""


def main() -> None:
    """Print all tables."""
    print_machine("numpy", "torch", "onnxruntime", "jax")
    check_accuracy()
    print("\nfloat32; time of the peer over ours")
    for dim in (64, 128):
        for length in (256, 1024) if QUICK else (256, 1024, 4096):
            for causal in (False, True):
                bench_forward(length, dim, causal)
    print("\nforward and backward")
    for dim in (64, 128):
        for length in (256, 1024):
            for causal in (False, True):
                bench_backward(length, dim, causal)
    print("\nother types")
    for causal in (False, True):
        bench_forward(1024, 64, causal, np.float64)
        for name in ("bfloat16", "float16"):
            bench_half(name, causal)
    print("\nfew queries, 128 MiB of keys and values")
    for queries in (1, 4, 16):
        bench_decode(queries)
    bench_variants()
    bench_threads()
    print("\nN=16384, D=64, one head")
    subprocess.run([sys.executable, "-c", MEMORY], check=True)


if __name__ == "__main__":
    main()

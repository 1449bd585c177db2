"""The CUDA kernels against PyTorch, each checked against float64 before it is timed.

python bench/gpu.py [--only WORD] [--minutes N] [--table PATH]

Needs PyTorch with CUDA and a logitkit built with LOGITKIT_CUDA=ON. No case begins after 7 or N
minutes; what there is no time for says so.

Times are medians of events on the stream, all candidates in turn in every round, on arguments that
take turns too, so that none is in the cache of the GPU. The GPU sleeps while a call is queued, so
that a time is that of the GPU alone; what the processor takes to queue it is a column of its own.
The table has the share of what the GPU can do, measured in the same run: the copy of a large
tensor, or the product of two large matrices in bfloat16. It is written to
docs/gpu-<name of the GPU>.md, or to PATH, after every line.

A process of its own runs the cases of a section. One that fails, breaks the GPU's context or hangs
has a line that says so, and the next process goes on after it.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu_cases import FULL, SECTIONS, Case, Sizes
from logitkit import check_argmaxable, cuda

ROUNDS = 15
ASLEEP = 6_000_000  # cycles of the GPU, some three milliseconds
PATIENCE = 60.0  # seconds, after which a case is taken for one that hangs
BROKEN = 3  # the status of a process whose context is lost
HEADER = ("case", "time", "to queue", "rate", "share", "best peer", "error", "goal")

Call = Callable[..., Any]


@dataclass
class Limits:
    """What the GPU can do, in bytes and in floating-point operations a second."""

    copy: float
    bfloat16: float


@dataclass
class Timing:
    """The medians of one candidate, in seconds."""

    on_gpu: float
    to_queue: float


def line(*cells: str) -> str:
    """Return a line of the table."""
    return "| " + " | ".join(cells) + " |"


def times(calls: dict[str, Call], arguments: list[tuple[Any, ...]]) -> dict[str, Timing]:
    """Return the median times of each candidate."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    turn = 0
    for round_ in range(-2, ROUNDS):  # two to warm up
        for name, call in calls.items():
            turn += 1
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(ASLEEP)
            start.record()
            begin = time.perf_counter()
            call(*arguments[turn % len(arguments)])
            queued = time.perf_counter() - begin
            end.record()
            end.synchronize()
            if round_ >= 0:
                found[name].append((start.elapsed_time(end) * 1e-3, queued))
    return {
        name: Timing(*(statistics.median(x) for x in zip(*of, strict=True)))
        for name, of in found.items()
    }


def measure_limits(sizes: Sizes) -> Limits:
    """Return what a copy and a product of large arrays reach."""
    x, y = (torch.empty(sizes.large // 4, device=sizes.device) for _ in range(2))
    n = sizes.matrix
    a, b = (sizes.normal(n, n, dtype=torch.bfloat16) for _ in range(2))
    copy = times({"copy": lambda: y.copy_(x)}, [()])["copy"].on_gpu
    product = times({"product": lambda: a @ b}, [()])["product"].on_gpu
    return Limits(2.0 * x.nbytes / copy, 2.0 * n**3 / product)


def result(name: str, case: Case, limits: Limits) -> str:
    """Time a case that is right and return its line."""
    if not case.error <= case.bound:
        return line(name, f"WRONG: error {case.error:.2e}, more than {case.bound:.2e}")
    for peer, call in list(case.candidates.items()):
        try:
            call(*case.arguments[0])
        except RuntimeError as reason:  # a backend that this GPU or this version does not have
            if peer == "logitkit":
                raise
            print(f"{peer} cannot run {name}: {str(reason).splitlines()[0]}", file=sys.stderr)
            del case.candidates[peer]
    found = times(case.candidates, case.arguments)
    ours = found.pop("logitkit")
    best = min(found, key=lambda peer: found[peer].on_gpu) if found else ""
    if case.bytes:
        rate, most, unit = case.bytes / ours.on_gpu, limits.copy, "GB/s"
    else:
        rate, most, unit = case.flops / ours.on_gpu, limits.bfloat16, "TFLOP/s"
    return line(
        name,
        f"{ours.on_gpu * 1e6:.1f} us",
        f"{ours.to_queue * 1e6:.0f} us",
        f"{rate / (1e9 if case.bytes else 1e12):.0f} {unit}",
        f"{rate / most:.0%}",
        f"{found[best].on_gpu / ours.on_gpu:.2f}x {best}" if best else "",
        f"{case.error:.1e}",
        case.goal,
    )


def class_check(sizes: Sizes) -> str:
    """Return the line of the class check."""
    weight = sizes.normal(*sizes.classes)
    check_argmaxable(weight[: max(2, len(weight) // 16)])  # loads what the first call loads
    begin = time.perf_counter()
    report = check_argmaxable(weight)
    seconds = time.perf_counter() - begin
    verified = "verified" if report.verify() else "WRONG"
    shape = "x".join(map(str, sizes.classes))
    return line(f"class check {shape}", f"{seconds:.2f} s", "", "", "", "", verified, "1 s")


def is_broken() -> bool:
    """Return whether the GPU takes no more work of this process."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def run_section(section: str, first: int, only: str, limits: Limits, deadline: float) -> int:
    """Print the lines of a section from case `first` on, each after a line that says it begins."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(first)
    if section == "class check":
        print("# 0 class check", flush=True)
        print(class_check(FULL), flush=True)
        return 0
    for number, (name, make) in enumerate(SECTIONS[section](FULL)):
        if number < first or only not in name:
            continue
        print(f"# {number} {name}", flush=True)
        if time.time() > deadline:
            print(line(name, "no time left"), flush=True)
            continue
        try:
            print(result(name, make(), limits), flush=True)
        except (RuntimeError, TypeError, ValueError) as reason:  # the next case may be fine
            print(line(name, f"FAILED: {_brief(reason)}"), flush=True)
            if is_broken():
                return BROKEN
        torch.cuda.empty_cache()
    return 0


def _brief(reason: BaseException) -> str:
    text = (str(reason) or type(reason).__name__).splitlines()[0]
    return text.replace("|", "/")[:120]


@dataclass
class Run:
    """The table so far, in a file after every line, and what is under way."""

    path: Path
    deadline: float
    lines: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Add lines to the table."""
        self.lines += lines
        print("\n".join(lines), flush=True)
        self.path.write_text("\n".join([*self.lines, ""]))

    def section(self, name: str, options: list[str]) -> None:
        """Run a section, in further processes after one that breaks or hangs."""
        first: int | None = 0
        while first is not None:
            first = self._process(name, first, options)

    def _process(self, section: str, first: int, options: list[str]) -> int | None:
        """Run a process from case `first` on; return where the next one is to begin, if any."""
        command = [sys.executable, __file__, "--section", section, "--first", str(first)]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
            case, name, is_open = self._follow(process, first, section)
        status = process.returncode
        if status == 0:
            return None
        if is_open or status != BROKEN:
            reason = "hangs" if status == -signal.SIGKILL else f"status {status} of its process"
            self.add(line(name, f"FAILED: {reason}"))
        is_last = section == "class check" or case < first or time.time() > self.deadline
        return None if is_last else case + 1

    def _follow(
        self, process: subprocess.Popen[str], first: int, section: str
    ) -> tuple[int, str, bool]:
        """Add the lines of a process; return its last case, and whether that has no line yet."""
        case, name, is_open = first - 1, section, False
        guard = self._guard(process)
        assert process.stdout is not None
        for text in process.stdout:
            guard.cancel()
            guard = self._guard(process)
            if text.startswith("# "):
                number, _, name = text[2:].strip().partition(" ")
                case, is_open = int(number), True
            elif text.startswith("|"):
                self.add(text.rstrip())
                is_open = False
        guard.cancel()
        return case, name, is_open

    @staticmethod
    def _guard(process: subprocess.Popen[str]) -> threading.Timer:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        return guard


def heading(limits: Limits) -> list[str]:
    """Return what stands above the table."""
    conditions = (
        f"`python bench/gpu.py`; PyTorch {torch.__version__}, CUDA {torch.version.cuda}, logitkit "
        f"built for {', '.join(cuda.build_info().architectures)}. Copy "
        f"{limits.copy / 1e9:.0f} GB/s, product in bfloat16 {limits.bfloat16 / 1e12:.0f} TFLOP/s. "
        "Shares are of the first where a rate is in GB/s, else of the second."
    )
    name = torch.cuda.get_device_name()
    return [f"# {name}", "", conditions, "", line(*HEADER), line(*["---"] * len(HEADER))]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a word in the names of the cases")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which nothing begins")
    parser.add_argument("--table", type=Path, help="where to write the table")
    parser.add_argument("--section", help="run these cases in this process")
    parser.add_argument("--first", type=int, default=0, help="the case of a section to begin with")
    parser.add_argument("--limits", type=float, nargs=2, help="of the GPU, for a section")
    parser.add_argument("--deadline", type=float, help="in seconds of the clock, for a section")
    options = parser.parse_args()
    if not (cuda.is_available() and torch.cuda.is_available()):
        raise SystemExit("no GPU, or logitkit or PyTorch is built without CUDA")
    if options.section:
        limits = Limits(*options.limits)
        found = run_section(options.section, options.first, options.only, limits, options.deadline)
        sys.exit(found)
    deadline = time.time() + 60.0 * options.minutes
    limits = measure_limits(FULL)
    torch.cuda.empty_cache()
    gpu = "-".join(torch.cuda.get_device_name().lower().split())
    path = options.table or Path(__file__).parents[1] / "docs" / f"gpu-{gpu}.md"
    run = Run(path, deadline)
    run.add(*heading(limits))
    passed = ["--only", options.only, "--deadline", str(deadline)]
    passed += ["--limits", str(limits.copy), str(limits.bfloat16)]
    for section in (*SECTIONS, "class check"):
        if section in SECTIONS or options.only in section:
            run.section(section, passed)
    print(f"written to {path}")
    if any("FAILED" in text or "WRONG" in text for text in run.lines):
        sys.exit(1)


if __name__ == "__main__":
    main()

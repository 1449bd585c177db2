"""
Cost of a step against diffusers, and the errors that it leaves.

    python bench/bench_diffusion.py

Processor time of one step with a prediction that costs nothing, candidates interleaved, best of
many rounds. Checks the errors on normal data before it times anything.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from harness import print_machine
from logitkit import diffusion as d

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffusers
    import torch

warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, inside diffusers
diffusers.utils.logging.set_verbosity_error()
SHAPES = ((4, 3, 8, 8), (8, 4, 64, 64))
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PAIRS: dict[str, tuple[type, dict[str, object], d.Solver]] = {
    "DDIM": (diffusers.DDIMScheduler, {**SCALED, "clip_sample": False}, d.DDIM()),
    "DDPM": (diffusers.DDPMScheduler, {**SCALED, "clip_sample": False}, d.DDPM()),
    "Euler": (diffusers.EulerDiscreteScheduler, SCALED, d.DDIM()),
    "Euler ancestral": (diffusers.EulerAncestralDiscreteScheduler, SCALED, d.DDIM(1.0)),
    "DPM-Solver++(2M)": (diffusers.DPMSolverMultistepScheduler, SCALED, d.DPMpp(2)),
    "DPM-Solver++(3M)": (
        diffusers.DPMSolverMultistepScheduler,
        {**SCALED, "solver_order": 3},
        d.DPMpp(3),
    ),
    "SDE-DPM-Solver++(2M)": (
        diffusers.DPMSolverMultistepScheduler,
        {**SCALED, "algorithm_type": "sde-dpmsolver++"},
        d.DPMpp(2, 1.0),
    ),
    "DEIS 3": (
        diffusers.DEISMultistepScheduler,
        {**SCALED, "solver_order": 3},
        d.ExponentialAdams(3, "eps"),
    ),
    "UniPC 2": (diffusers.UniPCMultistepScheduler, SCALED, d.UniPC(2)),
    "UniPC 3": (diffusers.UniPCMultistepScheduler, {**SCALED, "solver_order": 3}, d.UniPC(3)),
    "flow matching": (diffusers.FlowMatchEulerDiscreteScheduler, {}, d.DDIM()),
}
STEPS = 20


def their_run(make: type, options: dict[str, object], x: torch.Tensor) -> Callable[[], None]:
    """Return a function that takes all steps with a scheduler of diffusers."""
    scheduler = make(**options)
    output = 0.1 * x

    def run() -> None:
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(output, t, y, return_dict=False)[0]

    def fresh() -> None:
        scheduler.set_timesteps(STEPS)  # not timed: it may be done once for many images

    run.fresh = fresh  # type: ignore[attr-defined]
    return run


def our_run(
    make: type, options: dict[str, object], solver: d.Solver, x: object
) -> Callable[[], None]:
    """Return a function that takes all steps with a solver of ours."""
    setup = d.from_diffusers(make(**options), STEPS)
    output = 0.1 * x  # type: ignore[operator]
    predict = d.Predictor(setup.process, lambda x, t: output, setup.prediction)
    times = setup.times.tolist()
    rows = np.arange(len(x))  # type: ignore[arg-type]

    def run() -> None:
        state = d.State(x, times[0], rows)
        for t, s in pairwise(times):
            state = solver.step(state, predict, t, s, process=setup.process, rng=0)

    return run


def best_times(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the least processor time of a step, in microseconds, candidates interleaved."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            getattr(run, "fresh", lambda: None)()
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return {name: 1e6 * seconds / STEPS for name, seconds in best.items()}


def errors_of(name: str, options: dict[str, object], steps: int, spread: float) -> list[float]:
    """Return the largest error of ours and of theirs on data from N(1.5, spread^2)."""
    table = d.scaled_linear()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1)))
    alpha, sigma = table.alpha(1000.0), table.sigma(1000.0)
    exact = 1.5 + (x - alpha * 1.5) * spread / np.hypot(spread * alpha, sigma)

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        a, b = table.alpha(float(t) + 1.0), table.sigma(float(t) + 1.0)
        return b * (x - a * 1.5) / (spread**2 * a**2 + b**2)

    make, common, solver = PAIRS[name]
    scheduler = make(**{**common, **options})
    setup = d.from_diffusers(scheduler, steps)
    ours = d.sample(setup, predict, solver=solver, initial=x)
    scheduler.set_timesteps(steps)
    y = x
    for t in scheduler.timesteps:
        y = scheduler.step(predict(y, t), t, y, return_dict=False)[0]
    return [np.abs(z - exact).max().item() for z in (ours, y)]


def print_errors() -> None:
    """
    Print the errors on normal data, at the times of each scheduler.

    Errors change their sign along a path, so that a single one may be small by chance: the
    means are over spreads of the data and numbers of steps.
    """
    trailing: dict[str, object] = {"timestep_spacing": "trailing"}
    with_karras: dict[str, object] = {"use_karras_sigmas": True}
    print(f"\n{'largest error on N(1.5, 0.3^2)':<40}{'steps':>6}{'ours':>11}{'diffusers':>11}")
    for steps in (64, 128, 256, 600):
        ours, other = errors_of("DDIM", trailing, steps, 0.3)
        print(f"{'DDIM, trailing':<40}{steps:>6}{ours:>11.1e}{other:>11.1e}")
    names = ("DPM-Solver++(2M)", "DPM-Solver++(3M)", "DEIS 3", "UniPC 2", "UniPC 3")
    for name in names:
        for steps in (16, 64, 256):
            ours, other = errors_of(name, with_karras, steps, 0.3)
            print(f"{name + ', Karras':<40}{steps:>6}{ours:>11.1e}{other:>11.1e}")
    print(f"\n{'geometric mean, spreads 0.1 to 1.5, Karras':<46}{'ours':>11}{'diffusers':>11}")
    for name in names:
        for label, counts in (("8 to 20", (8, 10, 12, 14, 16, 18, 20)), ("24 to 64", (24, 32, 64))):
            pairs = [
                errors_of(name, with_karras, steps, spread)
                for steps in counts
                for spread in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
            ]
            ours, other = np.exp(np.mean(np.log(pairs), axis=0))
            print(f"{name + ', ' + label + ' steps':<46}{ours:>11.1e}{other:>11.1e}")


def main() -> None:
    """Print the errors, then the times."""
    torch.set_num_threads(1)
    print_machine("numpy", "torch", "diffusers")
    print_errors()
    for shape in SHAPES:
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        rounds = 30 if x.size < 10_000 else 12
        print(f"\n{'microseconds a step, ' + str(shape):<40}{'NumPy':>9}{'torch':>9}{'diffusers':>11}"
              f"{'times':>8}")  # fmt: skip
        for name, (make, options, solver) in PAIRS.items():
            runs = {
                "numpy": our_run(make, options, solver, x),
                "torch": our_run(make, options, solver, torch.from_numpy(x)),
                "diffusers": their_run(make, options, torch.from_numpy(x)),
            }
            t = best_times(runs, rounds)
            ratio = t["diffusers"] / t["torch"]
            print(
                f"{name:<40}{t['numpy']:>9.1f}{t['torch']:>9.1f}{t['diffusers']:>11.1f}{ratio:>8.1f}"
            )


if __name__ == "__main__":
    main()

"""
Cost of a step against diffusers; `accuracy_diffusion.py` has the errors.

    python bench/bench_diffusion.py

Processor time of one step with a prediction that costs nothing, candidates interleaved, best of
many rounds. Checks that both end in the same samples before it times anything.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

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
PAIRS: dict[str, tuple[type, dict[str, object]]] = {
    "DDIM": (diffusers.DDIMScheduler, {**SCALED, "clip_sample": False}),
    "DDPM": (diffusers.DDPMScheduler, {**SCALED, "clip_sample": False}),
    "Euler": (diffusers.EulerDiscreteScheduler, SCALED),
    "Euler ancestral": (diffusers.EulerAncestralDiscreteScheduler, SCALED),
    "DPM-Solver++(2M)": (diffusers.DPMSolverMultistepScheduler, SCALED),
    "DPM-Solver++(3M)": (
        diffusers.DPMSolverMultistepScheduler,
        {**SCALED, "solver_order": 3},
    ),
    "SDE-DPM-Solver++(2M)": (
        diffusers.DPMSolverMultistepScheduler,
        {**SCALED, "algorithm_type": "sde-dpmsolver++"},
    ),
    "DEIS 3": (
        diffusers.DEISMultistepScheduler,
        {**SCALED, "solver_order": 3},
    ),
    "UniPC 2": (diffusers.UniPCMultistepScheduler, SCALED),
    "UniPC 3": (diffusers.UniPCMultistepScheduler, {**SCALED, "solver_order": 3}),
    "flow matching": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
}
STEPS = 20
Run = Callable[[], object]


def their_run(make: type, options: dict[str, object], x: torch.Tensor) -> Run:
    """Return a function that takes all steps with a scheduler of diffusers."""
    scheduler = make(**options)
    output = 0.1 * x

    def run() -> torch.Tensor:
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(output, t, y, return_dict=False)[0]
        return y

    def fresh() -> None:
        scheduler.set_timesteps(STEPS)  # not timed: it may be done once for many images

    run.fresh = fresh  # type: ignore[attr-defined]
    return run


def our_run(make: type, options: dict[str, object], x: object) -> Run:
    """Return a function that takes all steps with the solvers of ours."""
    setup = d.from_diffusers(make(**options), STEPS)
    output = 0.1 * x  # type: ignore[operator]
    predict = d.Predictor(setup.process, lambda x, t: output, setup.prediction)
    process, times = setup.process, setup.times.tolist()
    several = isinstance(setup.solver, tuple)
    solvers = setup.solver if several else [setup.solver] * (len(times) - 1)
    rows = np.arange(len(x))  # type: ignore[arg-type]

    def run() -> object:
        state = d.State(x, times[0], rows)
        for solver, t, s in zip(solvers, times, times[1:], strict=False):
            state = solver.step(state, predict, t, s, process=process, rng=0)
        return state.x

    return run


def best_times(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the least processor time of a step, in microseconds, candidates interleaved."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            getattr(run, "fresh", lambda: None)()
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return {name: 1e6 * seconds / STEPS for name, seconds in best.items()}


def check(name: str, runs: dict[str, Run]) -> None:
    """See that all end in the same samples, where they draw no noise and begin with the same."""
    if name in ("DDPM", "Euler ancestral", "SDE-DPM-Solver++(2M)", "Euler"):
        return  # "Euler" of diffusers begins with x / alpha
    runs["diffusers"].fresh()  # type: ignore[attr-defined]
    theirs = runs["diffusers"]()
    for mine in ("numpy", "torch"):
        np.testing.assert_allclose(runs[mine](), theirs, rtol=2e-3, atol=2e-3)


def main() -> None:
    """Print the times."""
    torch.set_num_threads(1)
    print_machine("numpy", "torch", "diffusers")
    for shape in SHAPES:
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        rounds = 30 if x.size < 10_000 else 12
        print(f"\n{'microseconds a step, ' + str(shape):<40}{'NumPy':>9}{'torch':>9}{'diffusers':>11}"
              f"{'times':>8}")  # fmt: skip
        for name, (make, options) in PAIRS.items():
            runs = {
                "numpy": our_run(make, options, x),
                "torch": our_run(make, options, torch.from_numpy(x)),
                "diffusers": their_run(make, options, torch.from_numpy(x)),
            }
            check(name, runs)
            t = best_times(runs, rounds)
            ratio = t["diffusers"] / t["torch"]
            print(
                f"{name:<40}{t['numpy']:>9.1f}{t['torch']:>9.1f}{t['diffusers']:>11.1f}{ratio:>8.1f}"
            )


if __name__ == "__main__":
    main()

"""
Errors on data from a normal law, here and in diffusers, at the same times and network calls.

    python bench/accuracy_diffusion.py

The target is the exact flow, x = alpha mu + (z - alpha' mu) sqrt((alpha^2 s^2 + sigma^2) /
(alpha'^2 s^2 + sigma'^2)), at clean data; for DEIS, which in diffusers ends before, at its last
sigma. In both the network gets the times of the sigmas, not rounded ones. "Same" is the method that
diffusers has, orders of the last steps included; "own" is that of the solver here, at clean data.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from harness import print_machine
from logitkit import diffusion as d

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffusers
    import torch

warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, inside diffusers
diffusers.utils.logging.set_verbosity_error()
MEAN = 1.5
SPREADS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
STEPS = (16, 32, 64, 128, 256)
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
METHODS: dict[str, tuple[type, dict[str, object], d.Solver]] = {
    "DDIM": (diffusers.DDIMScheduler, {"clip_sample": False}, d.DDIM()),
    "Euler": (diffusers.EulerDiscreteScheduler, {}, d.DDIM()),
    "DPM-Solver++(2M)": (diffusers.DPMSolverMultistepScheduler, {}, d.DPMpp(2)),
    "DPM-Solver++(3M)": (
        diffusers.DPMSolverMultistepScheduler,
        {"solver_order": 3},
        d.DPMpp(3),
    ),
    "DEIS 2": (diffusers.DEISMultistepScheduler, {}, d.ExponentialAdams(2, "eps")),
    "DEIS 3": (
        diffusers.DEISMultistepScheduler,
        {"solver_order": 3},
        d.ExponentialAdams(3, "eps"),
    ),
    "UniPC 2": (diffusers.UniPCMultistepScheduler, {}, d.UniPC(2)),
    "UniPC 3": (diffusers.UniPCMultistepScheduler, {"solver_order": 3}, d.UniPC(3)),
}
GRIDS: dict[str, dict[str, object]] = {
    "Karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "trailing": {"timestep_spacing": "trailing"},
}


class Errors(NamedTuple):
    """Largest errors over 64 paths, and how far theirs is from the same method here."""

    theirs: float
    same: float
    own: float
    apart: float


def errors_of(name: str, grid: str, steps: int, spread: float = 0.3) -> Errors:
    """Return the errors of a method at the times of a grid."""
    table = d.scaled_linear()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 1)))

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        a, b = table.alpha(float(t) + 1.0), table.sigma(float(t) + 1.0)
        return b * (x - a * MEAN) / (spread**2 * a**2 + b**2)

    def exact(s: float) -> torch.Tensor:
        a, std = table.alpha(start), np.hypot(spread * table.alpha(start), table.sigma(start))
        slope = np.hypot(spread * table.alpha(s), table.sigma(s)) / std
        return table.alpha(s) * MEAN + (x - a * MEAN) * slope

    make, options, solver = METHODS[name]
    scheduler = make(**SCALED, **options, **GRIDS[grid])
    setup = d.from_diffusers(scheduler, steps)
    start = float(setup.times[0])
    to_data = np.append(setup.times[:steps], 0.0)
    theirs = their_samples(scheduler, setup, steps, predict, x)
    same = d.sample(setup, predict, initial=x)
    own = d.sample(setup, predict, initial=x, solver=solver, times=to_data)
    end = 0.0
    if isinstance(scheduler, diffusers.DEISMultistepScheduler):
        end = max(float(setup.times[-1]), 1.0)
        *_, same = (s.x for s in d.trajectory(setup, predict, initial=x) if s.t >= end)
    pairs = ((theirs, end), (same, end), (own, 0.0))
    errors = [float((ended - exact(s)).abs().max()) for ended, s in pairs]
    return Errors(*errors, apart=float((theirs - same).abs().max()))


def their_samples(
    scheduler: object, setup: d.SamplerSetup, steps: int, predict: object, x: torch.Tensor
) -> torch.Tensor:
    """Return what diffusers makes of noise, with a network that gets the times of the sigmas."""
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    scaled = isinstance(scheduler, diffusers.EulerDiscreteScheduler)
    y = x / setup.process.schedule.alpha(float(setup.times[0])) if scaled else x
    for t, time in zip(scheduler.timesteps, setup.times, strict=False):  # type: ignore
        seen = scheduler.scale_model_input(y, t)  # type: ignore[attr-defined]
        output = predict(seen, setup.network_time(float(time)))  # type: ignore[operator]
        y = scheduler.step(output, t, y, return_dict=False)[0]  # type: ignore[attr-defined]
    return y


def print_steps() -> None:
    """Print the errors at a spread of 0.3, three of each number of steps."""
    heads = "".join(f"{n:^27}" for n in STEPS)
    print(
        f"\n{'largest error on N(1.5, 0.3^2)':<30}{heads}\n{'':<30}"
        + "  theirs   same    own  " * 5
    )
    for grid in GRIDS:
        for name in METHODS:
            if name == "DDIM" and grid != "trailing":
                continue  # it has no such times
            cells = [errors_of(name, grid, steps) for steps in STEPS]
            row = "".join(f"{e.theirs:>9.1e}{e.same:>9.1e}{e.own:>9.1e}" for e in cells)
            print(f"{name + ', ' + grid:<30}{row}   apart {max(e.apart for e in cells):.0e}")


def print_means() -> None:
    """
    Print geometric means over spreads of the data.

    Errors change their sign along a path, so that a single one may be small by chance.
    """
    print(f"\n{'geometric mean, spreads 0.1 to 1.5':<46}{'theirs':>11}{'same':>11}{'own':>11}")
    for grid in GRIDS:
        for name in METHODS:
            if name == "DDIM" and grid != "trailing":
                continue
            for counts in ((8, 12, 16, 20), (24, 32, 64)):
                every = [errors_of(name, grid, n, s)[:3] for n in counts for s in SPREADS]
                means = np.exp(np.mean(np.log(every), axis=0))
                label = f"{name}, {grid}, {counts[0]} to {counts[-1]} steps"
                print(f"{label:<46}" + "".join(f"{mean:>11.1e}" for mean in means))


if __name__ == "__main__":
    print_machine("numpy", "torch", "diffusers")
    print_steps()
    print_means()

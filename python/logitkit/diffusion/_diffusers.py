"""Schedulers of the library diffusers as a process, solvers and times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._first_order import DDIM, DDPM
from ._gaussian import Gaussian
from ._grids import karras, shifted, uniform_log_snr
from ._lower_order import lower_order_final
from ._multistep import DEIS, DPMpp, ExponentialAdams, UniPC
from ._parameters import check_count
from ._predictions import Kind
from ._runge_kutta import DPMpp2S, DPMSolver2, FlowHeun, Heun
from ._schedule_tables import cosine, linear, scaled_linear, sigmoid, zero_terminal_snr
from ._schedules import StraightPath
from ._solver import Solver
from ._variance_preserving import StepTable

KINDS: Mapping[str, Kind] = {
    "epsilon": "eps",
    "sample": "x0",
    "v_prediction": "v",
    "flow_prediction": "flow",
}
COUNTING_THE_DATA = (  # whose spacings have one more time than steps, which they leave out
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
)
# Options of schedulers that have a counterpart here with these values alone.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "disable_corrector": ([], ()),
    "interpolation_type": ("linear",),
    "invert_sigmas": (False,),
    "lambda_min_clipped": (-math.inf, "-inf"),  # the second in a file
    "predict_x0": (True,),
    "shift_terminal": (0, 0.0),
    "solver_p": (),
    "solver_type": ("midpoint", "bh2", "logrho"),
    "stochastic_sampling": (False,),
    "use_beta_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "use_flow_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "variance_type": ("fixed_small", "fixed_large"),
}


@dataclass(frozen=True)
class SamplerSetup:
    """
    A process, a solver and times, as `sample` takes them in the place of a process.

    Parameters
    ----------
    process : Gaussian
        The forward process.
    solver : Solver, or tuple of them of length steps
        How a step is taken: all of them, or each.
    times : ndarray of float64, shape (steps + 1,)
        Falling times.
    prediction : {"eps", "x0", "v", "flow"}
        What the network predicts.
    per_step : float, default 1.0
        What the time is multiplied by for the network.
    offset : float, default 0.0
        What is then added to it.

    See Also
    --------
    from_diffusers : Makes it.

    Examples
    --------
    >>> from logitkit.diffusion import from_diffusers
    >>> setup = from_diffusers({"_class_name": "DDIMScheduler"}, steps=4)
    >>> setup.times
    array([751., 501., 251.,   1.,   0.])
    >>> setup.network_time(751.0)
    750.0
    """

    process: Gaussian
    solver: Solver | tuple[Solver, ...]
    times: NDArray[np.float64]
    prediction: Kind
    per_step: float = 1.0
    offset: float = 0.0

    def network_time(self, t: Any) -> Any:
        """
        Give the time that the network was trained with.

        Parameters
        ----------
        t : float or array, shape (n,)
            Time of the process.

        Returns
        -------
        float or array, shape (n,)
            Time for the network, not rounded.
        """
        return t * self.per_step + self.offset


def from_diffusers(scheduler: Any, /, steps: int) -> SamplerSetup:
    """
    Read a scheduler of the library diffusers, or its configuration.

    Parameters
    ----------
    scheduler : scheduler or mapping
        An object with a `config`, or the configuration with its ``_class_name``, such as the
        contents of ``scheduler_config.json``. The library need not be installed.
    steps : int
        Number of steps.

    Returns
    -------
    SamplerSetup
        What `sample` takes in the place of a process. The network is called with the times of
        diffusers, as they are: not rounded where a grid is not of whole times.

    Raises
    ------
    TypeError
        If it is neither a scheduler nor a configuration.
    ValueError
        If the scheduler, or one of its options, has no counterpart here.

    Notes
    -----
    Where the network gets the same times, the samples are the same up to the rounding of the
    tables, which there are of single precision. The last steps have the orders that the
    configuration asks for; pass a solver to `sample` for that solver's own end.

    Deliberate deviations: times are not rounded after Karras' or other spacings; a step always
    ends where the next one begins, also where `steps` does not divide the training steps; where
    the last step of DEIS there repeats the last time, it goes to clean data; SDE-DPM-Solver++ of
    order 3 has the weights of the equation; LMS is of order 3, not 4; the single-step DPM-Solver++
    predicts in the middle of each step, not at every other time; clipping and thresholding are
    guidance here (`DynamicThreshold`), not options of a solver.

    Examples
    --------
    >>> from logitkit.diffusion import from_diffusers
    >>> config = {"_class_name": "UniPCMultistepScheduler", "solver_order": 3}
    >>> from_diffusers(config, steps=4).solver
    (UniPC(order=3), UniPC(order=3), UniPC(order=2), UniPC(order=1))
    """
    config, steps = config_of(scheduler), check_count("steps", steps)
    name = config.get("_class_name") or type(scheduler).__name__
    for option, values in _ONLY.items():
        if config.get(option) is not None and config[option] not in values:
            expected = " or ".join(map(repr, (*values, None)))
            raise ValueError(f"expected {option} to be {expected}, not {config[option]!r}")
    solver = _solver_of(name, config)
    flow = name.startswith("FlowMatch")
    kind = KINDS["flow_prediction" if flow else config.get("prediction_type", "epsilon")]
    if flow:
        process = Gaussian(StraightPath())
        train = float(config.get("num_train_timesteps", 1000))
        shift = config.get("shift", 1.0)
        last = shifted(1.0 / train, shift)  # shifted twice, as there
        sigmas = np.append(np.linspace(1.0, last, steps), 0.0)
        return SamplerSetup(process, solver, shifted(sigmas, shift), kind, per_step=train)
    process = Gaussian(_table_of(config))
    times = _times_of(name, config, process, steps)
    return SamplerSetup(
        process, _ended(config, solver, steps, len(times) - 1), times, kind, offset=-1.0
    )


def config_of(scheduler: Any) -> dict[str, Any]:
    """Return the configuration of a scheduler, or one that is given, as a dict of its own."""
    config = scheduler if isinstance(scheduler, Mapping) else getattr(scheduler, "config", None)
    if isinstance(scheduler, type) or not isinstance(config, Mapping):
        raise TypeError(
            "expected a scheduler of diffusers or its configuration, such as "
            f"{{'_class_name': 'DDIMScheduler'}}, not {scheduler!r}"
        )
    return dict(config)


def _solver_of(name: str, config: Mapping[str, Any]) -> Solver:
    """Return the solver that a scheduler is."""
    order = config.get("solver_order", 2)
    if name.startswith("DPMSolver"):
        kind = config.get("algorithm_type", "dpmsolver++")
        if kind not in ("dpmsolver++", "sde-dpmsolver++"):
            raise ValueError(f"expected algorithm_type 'dpmsolver++' or its SDE, not {kind!r}")
        noise = 1.0 if kind.startswith("sde") else 0.0
        if name == "DPMSolverSinglestepScheduler":
            return DPMpp2S(eta=noise)
        if name == "DPMSolverMultistepScheduler":
            return DPMpp(order, eta=noise, halved=order == 3 and not noise)
    large = config.get("variance_type", "fixed_small") == "fixed_large"
    solvers: dict[str, Solver] = {
        "DDIMScheduler": DDIM(),
        "DDPMScheduler": DDPM("large" if large else "small"),
        "EulerDiscreteScheduler": DDIM(),
        "EulerAncestralDiscreteScheduler": DDIM(1.0),
        "HeunDiscreteScheduler": Heun(),
        "KDPM2DiscreteScheduler": DPMSolver2(),
        "UniPCMultistepScheduler": UniPC(min(order, 3)),
        "DEISMultistepScheduler": ExponentialAdams(min(order, 3), "eps", corrected=False),
        "LMSDiscreteScheduler": DEIS(3, corrected=False),
        "FlowMatchEulerDiscreteScheduler": DDIM(),
        "FlowMatchHeunDiscreteScheduler": FlowHeun(),
    }
    if name not in solvers:
        raise ValueError(f"expected one of {', '.join(solvers)}, not {name}")
    return solvers[name]


def _ended(
    config: Mapping[str, Any], solver: Solver, steps: int, taken: int
) -> Solver | tuple[Solver, ...]:
    """
    Return a solver with the orders that the last steps of a configuration have.

    Where there the last of its steps repeats a time, one less is `taken` here.
    """
    if not isinstance(solver, (DPMpp, UniPC, ExponentialAdams)):
        return solver
    lower, to_data = config.get("lower_order_final", True), _to_data(config)
    if isinstance(solver, UniPC):
        lowered = 2 if lower else 0
    elif lower and steps < 15:  # as there
        lowered = 2
    else:
        lowered = int(config.get("euler_at_final", False))
    if to_data and not isinstance(solver, ExponentialAdams):
        lowered = max(lowered, 1)
    lowered = min(lowered, solver.order - 1)
    return lower_order_final(solver, steps, lowered=lowered)[:taken] if lowered else solver


def _to_data(config: Mapping[str, Any]) -> bool:
    """Return whether the last step of a configuration goes to clean data."""
    ends_in_first_step = config.get("final_sigmas_type") == "sigma_min"
    return config.get("set_alpha_to_one", True) and not ends_in_first_step


def _table_of(config: Mapping[str, Any]) -> StepTable:
    """Return the schedule of a configuration."""
    steps = config.get("num_train_timesteps", 1000)
    ends = {"start": config.get("beta_start", 1e-4), "end": config.get("beta_end", 0.02)}
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        table = StepTable(config["trained_betas"])
    elif kind == "squaredcos_cap_v2":
        table = cosine(steps)
    elif kind in ("linear", "scaled_linear", "sigmoid"):
        make = {"linear": linear, "scaled_linear": scaled_linear, "sigmoid": sigmoid}[kind]
        table = make(steps, **ends)
    else:
        raise ValueError(f"expected a beta_schedule of this package, not {kind!r}")
    return zero_terminal_snr(table) if config.get("rescale_betas_zero_snr") else table


def _times_of(
    name: str, config: Mapping[str, Any], process: Gaussian, steps: int
) -> NDArray[np.float64]:
    """Return the times of a configuration: the index in its table, and 1 for the data."""
    train, to_data = process.span[1], _to_data(config)
    for option, grid in (
        ("use_karras_sigmas", karras),
        ("use_exponential_sigmas", uniform_log_snr),
    ):
        if config.get(option):
            return grid(process, steps - (not to_data), start=train, end=1.0, clean=to_data)
    sampled = name in ("DDIMScheduler", "DDPMScheduler")
    spacing = config.get("timestep_spacing", "leading" if sampled else "linspace")
    spare = int(name in COUNTING_THE_DATA)
    if spacing == "leading":
        ratio = int(train) // (steps + spare)
        times = np.arange(spare, steps + spare)[::-1] * ratio + config.get("steps_offset", 0) + 1.0
    elif spacing == "trailing":
        times = np.rint(np.arange(train, 0.0, -train / steps))
    elif spacing == "linspace":
        index = np.linspace(train - 1.0, 0.0, steps + spare)[:steps]
        times = 1.0 + (np.rint(index) if sampled or spare else index)
    else:
        raise ValueError(
            f"expected timestep_spacing leading, trailing or linspace, not {spacing!r}"
        )
    last = 0.0 if to_data and name != "DEISMultistepScheduler" else 1.0
    return np.append(times, last) if times[-1] > last else times

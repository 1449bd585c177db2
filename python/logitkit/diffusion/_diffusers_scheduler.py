"""A solver in the shape that pipelines of the library diffusers ask for."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..random import Philox
from ._arrays import Array
from ._diffusers import config_of, from_diffusers
from ._predictions import Prediction
from ._runge_kutta import DPMpp2S, DPMSolver2, FlowHeun, Heun
from ._solver import Solver, State, solver_of_each


class DiffusersScheduler:
    """
    A solver in the shape of a scheduler of the library diffusers, for its pipelines.

    Like theirs it counts its steps, which nothing else here does.

    Parameters
    ----------
    config : mapping
        What the network was trained with, as a scheduler has it.
    solver : Solver or None
        A solver with one prediction a step; None for the counterpart of the scheduler.
    rng : int or logitkit.random.Philox
        Seed, or generator, of the noise of random solvers.

    Raises
    ------
    ValueError
        If the solver asks for more than one prediction a step.

    See Also
    --------
    as_diffusers_scheduler : Makes it.

    Examples
    --------
    >>> from logitkit.diffusion import as_diffusers_scheduler
    >>> scheduler = as_diffusers_scheduler({"_class_name": "DDIMScheduler"})
    >>> scheduler.order
    1
    """

    order = 1

    def __init__(self, config: Mapping[str, Any], solver: Solver | None, rng: int | Philox) -> None:
        self.config = SimpleNamespace(**{"num_train_timesteps": 1000, **config})
        self._config, self._solver, self._rng = dict(config), solver, rng
        self.set_timesteps(1)

    init_noise_sigma = 1.0

    def __len__(self) -> int:
        """Return the number of training steps."""
        return int(self.config.num_train_timesteps)

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """
        Choose the number of steps, and begin anew.

        Parameters
        ----------
        num_inference_steps : int
            Number of steps.
        device : torch.device, optional
            Where the times are put.
        """
        import torch

        setup = from_diffusers(self._config, num_inference_steps)
        self.setup = setup
        self.solver = setup.solver if self._solver is None else self._solver
        self._solvers = solver_of_each(self.solver, len(setup.times) - 1)
        several = [s for s in self._solvers if isinstance(s, (Heun, DPMSolver2, DPMpp2S, FlowHeun))]
        if several:
            raise ValueError(f"expected a solver with one prediction a step, not {several[0]}")
        times = setup.network_time(setup.times[:-1])
        self.timesteps = torch.as_tensor(times, device=device)
        self._times = np.asarray(times, np.float64)
        self._state: State | None = None

    def scale_model_input(self, sample: Array, timestep: Any = None) -> Array:
        """
        Return the sample as it is: the processes here need no scaling.

        Parameters
        ----------
        sample : tensor, shape (n, ...)
            The samples.
        timestep : float, optional
            Their time.

        Returns
        -------
        tensor, shape (n, ...)
            The samples.
        """
        return sample

    def step(
        self, model_output: Array, timestep: Any, sample: Array, *, return_dict: bool = True,
        **ignored: Any,
    ) -> Any:  # fmt: skip
        """
        Take the next step.

        Parameters
        ----------
        model_output : tensor, shape (n, ...)
            The prediction.
        timestep : float
            The time of the samples. The first may be any of `timesteps`, as where a picture is
            changed and not made; from there on steps are taken in their order.
        sample : tensor, shape (n, ...)
            The samples.
        return_dict : bool, default True
            Whether to return an object with `prev_sample`, not a tuple.
        **ignored : object
            What other schedulers take, such as a generator.

        Returns
        -------
        object or tuple
            The samples of the next time.

        Raises
        ------
        ValueError
            If the time is not the next one.
        """
        setup, state = self.setup, self._state
        index = self._index_of(timestep)
        t, s = float(setup.times[index]), float(setup.times[index + 1])
        history = () if state is None else state.history
        state = State(sample, t, np.arange(sample.shape[0]), index, history)
        process, rng = setup.process, self._rng

        def predict(x: Array, at: Any) -> Prediction:
            return Prediction(model_output, setup.prediction, x, at)

        self._state = self._solvers[index].step(state, predict, t, s, process=process, rng=rng)
        x = self._state.x
        return SimpleNamespace(prev_sample=x) if return_dict else (x,)

    def _index_of(self, timestep: Any) -> int:
        """Return the number of the step that begins at a time: any to begin with, then the next."""
        given = float(timestep)
        near = np.flatnonzero(np.abs(self._times - given) <= 1e-4 * (1.0 + np.abs(self._times)))
        if self._state is None:
            if not near.size:
                raise ValueError(
                    f"expected one of the timesteps of this scheduler, not {given}: "
                    f"{self._times.tolist()}"
                )
            return int(near[0])
        index = self._state.step
        if index == len(self._times):
            raise ValueError(f"all {index} steps are taken: call set_timesteps to begin anew")
        if index not in near:
            raise ValueError(
                f"expected the next timestep, {self._times[index]}, not {given}: steps are taken "
                "in the order of the times, and set_timesteps begins anew"
            )
        return index

    def add_noise(self, original_samples: Array, noise: Array, timesteps: Any) -> Array:
        """
        Bring data to a time, by noise that is given.

        Parameters
        ----------
        original_samples : tensor, shape (n, ...)
            The data.
        noise : tensor, shape (n, ...)
            Standard normal noise.
        timesteps : tensor, shape (n,)
            Times of the network.

        Returns
        -------
        tensor, shape (n, ...)
            Samples at these times.
        """
        setup = self.setup
        t = (np.asarray(timesteps, np.float64) - setup.offset) / setup.per_step
        return setup.process.forward(original_samples, noise, t)


def as_diffusers_scheduler(
    scheduler: Any, /, *, solver: Solver | None = None, rng: int | Philox = 0
) -> DiffusersScheduler:
    """
    Make what a pipeline of the library diffusers takes for a scheduler.

    Parameters
    ----------
    scheduler : scheduler or mapping
        The scheduler of the pipeline, or its configuration: it says what the network was
        trained with.
    solver : Solver, optional
        A solver for its place, with one prediction a step. Default: its counterpart.
    rng : int or logitkit.random.Philox, default 0
        Seed, or generator, of the noise of random solvers.

    Returns
    -------
    DiffusersScheduler
        For ``pipeline.scheduler``. Needs torch.

    Examples
    --------
    >>> from logitkit.diffusion import DPMpp, as_diffusers_scheduler
    >>> scheduler = as_diffusers_scheduler({"_class_name": "DDIMScheduler"}, solver=DPMpp(2))
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps.tolist()
    [750.0, 500.0, 250.0, 0.0]
    """
    config = dict(config_of(scheduler))
    config.setdefault("_class_name", type(scheduler).__name__)
    return DiffusersScheduler(config, solver, rng)

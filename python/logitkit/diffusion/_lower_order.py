"""Solvers whose order falls in the last steps, as other libraries end their runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from ._multistep import DPMpp, ExponentialAdams, UniPC
from ._solver import Solver


def lower_order_final(
    solver: DPMpp | UniPC | ExponentialAdams, steps: int, *, lowered: int | None = None
) -> tuple[Solver, ...]:
    """
    Lower the order of a multistep solver step by step towards the end.

    Parameters
    ----------
    solver : DPMpp, UniPC or ExponentialAdams
        The solver of the steps before.
    steps : int
        Number of steps of the run.
    lowered : int, optional
        How many of the last steps have no higher order than there are steps left. Default: all.
        The very last is of order 1, and returns the data predicted at the last noise.

    Returns
    -------
    tuple of Solver, of length `steps`
        What `sample` takes as its solver: one for each step.

    Raises
    ------
    ValueError
        If there is less than one step, or `lowered` is negative.

    Notes
    -----
    DPM-Solver, EDM and most libraries end in the data predicted at the last noise, the mean of
    the law of the data there. Where that noise is small next to the spread of the data, r to s,
    the mean is nearer to the middle by a share of r^2 / 2 s^2: with many steps that is the whole
    error. Without this function the last step goes on with the solver's own order.

    References
    ----------
    .. [1] C. Lu et al., "DPM-Solver++", 2022, arXiv:2211.01095. Section 4.

    Examples
    --------
    >>> from logitkit.diffusion import UniPC, lower_order_final
    >>> lower_order_final(UniPC(3), 4)
    (UniPC(order=3), UniPC(order=3), UniPC(order=2), UniPC(order=1))
    """
    if isinstance(solver, type) or not hasattr(solver, "order"):
        raise TypeError(f"expected a solver with an order, such as UniPC(3), not {solver!r}")
    count = solver.order - 1 if lowered is None else lowered
    if steps < 1 or count < 0:
        raise ValueError(f"expected at least one step, and lowered from 0, not {steps} and {count}")
    left = [steps - index for index in range(steps)]
    orders = [min(solver.order, n) if n <= count else solver.order for n in left]
    of_order = {order: replace(solver, order=cast(Any, order)) for order in set(orders)}
    return tuple([of_order[order] for order in orders])

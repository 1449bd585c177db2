"""Which classes can win, by one linear program for each class: the published method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from ..argmaxable._features import Box

ARGMAXABLE, UNDECIDED, UNARGMAXABLE = 1, 0, -1
TOLERANCE = 1e-9  # on margins of rows of length one: what double precision LP can tell


def check_argmaxable(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    classes: ArrayLike | None = None,
    features: Box | None = None,
) -> NDArray[np.int8]:
    r"""
    Verdicts of the linear program of Grivas, Bogoychev and Lopez.

    .. math:: \max_{y, \epsilon} \epsilon \quad\text{such that}\quad
        a_j^\top y \ge \epsilon \|a_j\| \;\text{ for all } j \ne i, \qquad
        a_j = (w_i - w_j,\; b_i - b_j)

    Features in a box are ``y = (x, 1)``. Without a box the problem is homogeneous:
    ``y = (x, t)`` with ``t >= 0`` and no entry above one stands for the features `x / t`,
    so that no box decides.

    A verdict is only given where primal and dual agree on it: ARGMAXABLE if the margin at
    `y` exceeds a tolerance, UNARGMAXABLE if the dual solution bounds it by the tolerance.
    The status of the solver never counts.

    Parameters
    ----------
    weight : array_like, shape (n, d)
        Output layer.
    bias : array_like, shape (n,), optional
        Its bias.
    classes : array_like of int, optional
        Classes to check; default all.
    features : Box, optional
        Bounds of the features; default none.

    Returns
    -------
    ndarray of int8
        1 argmaxable, 0 undecided, -1 unargmaxable, for each of `classes`.

    References
    ----------
    .. [1] A. Grivas, N. Bogoychev and A. Lopez, "Low-rank softmax can have unargmaxable
       classes in theory but rarely in practice", ACL 2022, arXiv:2203.06462.

    Examples
    --------
    >>> check_argmaxable([[1, 2], [2, 1], [1, 0], [0, 1], [1, 1]]).tolist()
    [1, 1, 1, 1, -1]
    """
    w = np.asarray(weight, np.float64)
    n, d = w.shape
    b = np.zeros(n) if bias is None else np.asarray(bias, np.float64)
    lifted = np.column_stack([w, b])
    if features is None:
        low, high = np.append(np.full(d, -1.0), 0.0), np.ones(d + 1)
        # Without a box the units of the features are free: powers of two, so exact.
        lifted = np.ldexp(lifted, -np.frexp(np.ptp(lifted, axis=0))[1])
    else:
        low, high = (np.append(bound, 1.0) for bound in features.bounds(d))
    chosen = np.arange(n) if classes is None else np.asarray(classes, np.int64)
    verdicts = [_verdict(np.delete(lifted[i] - lifted, i, axis=0), low, high) for i in chosen]
    return np.array(verdicts, np.int8)


def _verdict(a: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> int:
    """Whether some y between `low` and `high` has ``a @ y > 0``, as far as an LP can tell."""
    from scipy.optimize import linprog

    if len(a) == 0:
        return ARGMAXABLE
    length = np.linalg.norm(a, axis=1, keepdims=True)
    if not length.all():
        return UNARGMAXABLE  # a class with the same row and the same bias
    a = a / length
    size = a.shape[1]
    found = linprog(
        np.append(np.zeros(size), -1.0),
        A_ub=np.column_stack([-a, np.ones(len(a))]),
        b_ub=np.zeros(len(a)),
        bounds=[*zip(low, high, strict=True), (None, None)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if found.x is None:
        return UNDECIDED
    y = np.clip(found.x[:size], low, high)
    if (a @ y).min() > TOLERANCE:
        return ARGMAXABLE
    multipliers = np.maximum(-found.ineqlin.marginals, 0.0)
    if not multipliers.sum() > 0:
        return UNDECIDED
    # No y gives the average of the margins, hence the least of them, more than this.
    average = multipliers @ a / multipliers.sum()
    bound = np.maximum(average * low, average * high).sum()
    return UNARGMAXABLE if bound <= TOLERANCE else UNDECIDED

"""The check: which classes of an output layer can some input make the model predict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _cpu
from ._box_rays import BoxRays
from ._deployed import deployed_dtype_name, rounding_of
from ._evidence import assemble_report, confirm_exactly
from ._exact import load_flint
from ._features import Box
from ._hard import decide_hard
from ._ledger import Ledger
from ._lifted import LiftedClasses
from ._problem import IndexArray, as_problem
from ._report import ArgmaxableReport
from ._self_witness import find_self_witnesses
from ._whitening import whiten


# What overflows is no witness and no proof, and needs no warning.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def check_argmaxable(
    weight: Any,
    bias: Any | None = None,
    *,
    classes: ArrayLike | None = None,
    features: Box | None = None,
    deployed_dtype: DTypeLike | None = None,
    exact: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ArgmaxableReport:
    r"""
    Decide for every class whether some input can make the model predict it.

    Class `i` of an output layer :math:`W x + b` is argmaxable when some feature
    vector `x` gives it the strictly largest logit,

    .. math:: w_i \cdot x + b_i > w_j \cdot x + b_j \quad \text{for all } j \ne i,

    and unargmaxable otherwise [1]_: greedy decoding can never output it. Every verdict
    comes with evidence that anyone can re-check: a witness `x`, or classes `j` and
    weights :math:`\lambda_j \ge 0`, :math:`\sum_j \lambda_j = 1`, with
    :math:`\sum_j \lambda_j w_j = w_i` and :math:`\sum_j \lambda_j b_j \ge b_i`.

    Parameters
    ----------
    weight : array_like, shape (n, d)
        Output layer, one row for each class: float16, bfloat16, float32 or float64;
        a NumPy array of any strides, a memory map, or anything with DLPack on the CPU.
        It is read in blocks and never copied whole.
    bias : array_like, shape (n,), optional
        Bias of each class, in logits.
    classes : array_like of int, optional
        The classes to decide, all by default. Each competes with all `n`.
    features : Box, optional
        Where `x` may lie. Everywhere by default. A constraint can only kill classes.
    deployed_dtype : dtype_like, optional
        The dtype in which the layer runs in production ('float16', 'bfloat16', 'int8',
        ...). Certificates that rounding to it may break are flagged `below_rounding`.
    exact : bool, default False
        Re-check every certificate in rational arithmetic; a class whose certificate
        fails becomes UNDECIDED. Certificates that hold in a box of features only stay
        enclosures, which are proofs too. Needs the extra `exact`.
    threads : int, optional
        Number of threads; by default the processors this process may use. The report
        does not depend on it.
    progress : callable, optional
        Called as ``progress(decided, total)`` now and then.

    Returns
    -------
    ArgmaxableReport
        A verdict for each class: ARGMAXABLE, UNARGMAXABLE, or UNDECIDED where
        float64 shows neither, with the evidence.

    Raises
    ------
    TypeError
        If the dtype of `weight` or `bias` is not a supported one, or `features` is not a Box.
    ValueError
        If the shapes do not fit, a value is NaN or infinite, all weights are denormal in
        ``float64``, or a class index is out of range; the message names the value and its place.

    See Also
    --------
    logitkit.reference.check_argmaxable : The published method, one linear program a class.

    References
    ----------
    .. [1] A. Grivas, N. Bogoychev and A. Lopez, "Low-rank softmax can have unargmaxable
       classes in theory but rarely in practice", ACL 2022, arXiv:2203.06462.

    Examples
    --------
    Five classes in the plane, the last one inside the hull of the others:

    >>> import numpy as np
    >>> import logitkit
    >>> weight = np.array([[1, 2], [2, 1], [1, 0], [0, 1], [1, 1]], np.float32)
    >>> report = logitkit.check_argmaxable(weight)
    >>> report.unargmaxable
    array([4])
    >>> report.verify()
    True
    """
    clock = Clock()
    problem = as_problem(weight, bias)
    wanted = _as_classes(classes, problem.n)
    deployed = deployed_dtype_name(deployed_dtype)
    if exact:
        load_flint()  # missing? say so before the work, not after it
    if features is not None:
        if not isinstance(features, Box):
            raise TypeError(f"features must be a Box, such as Box(-100, 100), not {features!r}")
        features.bounds(problem.d)
    count = Counter(len(wanted), progress)
    rounding = None if deployed is None else rounding_of(deployed, problem.weight)
    workers = _cpu.default_threads() if threads is None else _positive(threads)
    new_ledger = partial(Ledger, problem, rounding=rounding)
    clock.lap("read")
    whitening = whiten(problem)
    lifted = LiftedClasses(problem, whitening, with_bias=bool(np.ptp(problem.biases()) > 0.0))
    clock.lap("whiten")
    settled = count if features is None else Counter(0, None)
    own = find_self_witnesses(lifted, wanted, threads=workers, on_settled=settled)
    clock.lap("self-witness product")
    ledger = new_ledger(on_settled=settled)
    all_were_tried = len(wanted) == problem.n
    decide_hard(lifted, ledger, own.left(wanted), threads=workers, all_were_tried=all_were_tried)
    clock.lap("hard classes")
    if exact:
        confirm_exactly(ledger)
        clock.lap("exact")
    if features is not None:
        boxed = LiftedClasses(problem, whitening.completed(), with_bias=True)
        box = BoxRays(boxed, features)
        own.move_into(box)
        ledger.move_into(box)
        left = np.setdiff1d(own.left(wanted), ledger.settled())
        count(len(wanted) - len(left))
        inside = new_ledger(on_settled=count, box=box)
        decide_hard(boxed, inside, left, threads=workers, box=box)
        ledger.update(inside)
        clock.lap("box")
    return assemble_report(
        own, wanted, ledger, features=features, deployed=deployed, seconds=clock.seconds
    )


class Counter:
    """Counts settled classes, and tells the caller's progress function."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.total = total
        self.progress = progress
        self.done = 0

    def __call__(self, settled: int) -> None:
        """Add `settled` classes."""
        self.done += settled  # twice for a self-witness that is dropped later
        if self.progress is not None and settled:
            self.progress(min(self.done, self.total), self.total)


@dataclass
class Clock:
    """Wall time by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Book the time since the last call on `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = now - self.last
        self.last = now


def _as_classes(classes: ArrayLike | None, n: int) -> IndexArray:
    if classes is None:
        return np.arange(n, dtype=np.int64)
    given = np.asarray(classes)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"classes must be integers, not {given.dtype}")
    index = np.unique(given.astype(np.int64).ravel())
    bad = index[(index < 0) | (index >= n)]
    if len(bad):
        raise ValueError(f"classes contains {bad[0]}: weight has the classes 0 to {n - 1}")
    return index


def _positive(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"threads must be an integer or None, not {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return int(threads)

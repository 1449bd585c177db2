"""The check: which classes of an output layer can some input make the model predict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _cpu
from ._box_rays import BoxRays
from ._deployed import deployed_dtype_name, rounding_of
from ._exact import load_flint
from ._features import Box
from ._hard import decide_hard
from ._ledger import Ledger
from ._lifted import LiftedClasses
from ._problem import FloatArray, IndexArray, Problem, as_problem
from ._proof import prove_unargmaxable, witness_margins
from ._report import ArgmaxableReport
from ._rows import fingerprint
from ._verdict import Proof, Verdict
from ._whitening import whiten

CALL_SECONDS = 0.3  # of kernel time between two looks at the keyboard


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
        fails becomes UNDECIDED. Needs the extra `exact`.
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
        If the dtype of `weight` or `bias` is not a supported one.
    ValueError
        If the shapes do not fit, a value is NaN or infinite, or a class index is out of
        range; the message names the value and its place.

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
        features.bounds(problem.d)
    count = Counter(len(wanted), progress)
    rounding = None if deployed is None else rounding_of(deployed, problem.weight)
    workers = _cpu.default_threads() if threads is None else _positive(threads)
    ledger = partial(Ledger, problem, rounding=rounding)
    clock.lap("read")
    whitening = whiten(problem)
    lifted = LiftedClasses(problem, whitening, with_bias=bool(np.ptp(problem.biases()) > 0.0))
    clock.lap("whiten")
    settled = count if features is None else Counter(0, None)
    slack = _self_witnesses(lifted, wanted, workers, settled)
    scale, margins = _self_scales(lifted, slack)
    clock.lap("self-witness product")
    outcome = ledger(on_settled=settled)
    decide_hard(
        lifted,
        outcome,
        wanted[scale[wanted] == 0.0],
        threads=workers,
        all_were_tried=len(wanted) == problem.n,
    )
    clock.lap("hard classes")
    if features is not None:
        count(len(outcome.certificates))
        boxed = LiftedClasses(problem, whitening.completed(), with_bias=True)
        box = BoxRays(boxed, features)
        _move_into_box(lifted, box, slack, scale, margins, outcome)
        left = np.setdiff1d(wanted[scale[wanted] == 0.0], outcome.settled())
        count(len(wanted) - len(left) - count.done)
        inside = ledger(on_settled=count, box=box)
        decide_hard(boxed, inside, left, threads=workers, box=box)
        outcome.update(inside)
        clock.lap("box")
    if exact:
        _confirm(problem, outcome)
        clock.lap("exact")
    return _report(lifted, wanted, scale, margins, outcome, features, deployed, clock)


class Counter:
    """Counts settled classes, and tells the caller's progress function."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.total = total
        self.progress = progress
        self.done = 0

    def __call__(self, settled: int) -> None:
        """Add `settled` classes."""
        self.done += settled
        if self.progress is not None and settled:
            self.progress(self.done, self.total)


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
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return int(threads)


def _self_witnesses(
    lifted: LiftedClasses, wanted: IndexArray, threads: int, on_settled: Callable[[int], None]
) -> FloatArray:
    """Bound z_i.z_i - z_j.z_i over all j != i from below, for each class; 0 if it may fail."""
    n, rank = lifted.problem.n, lifted.whitening.rank
    is_wanted = np.zeros(n, bool)
    is_wanted[wanted] = True
    slack = np.zeros(n)
    if rank == 0 or n == 1 or 4 * len(wanted) < n:  # a few classes: their own products are cheaper
        return slack
    tails = np.empty((_cpu.witness_tails(rank), n), np.float32)
    squares = np.empty(n, np.float32)
    found = np.full(n, np.inf, np.float32)
    _cpu.prepare_self_witness(lifted.z, tails, squares, error=lifted.product_error, threads=threads)
    begin, rows = 0, 192
    while begin < n:
        start = time.perf_counter()
        end = min(n, begin + rows)
        _cpu.self_witness(lifted.z, tails, squares, found, begin=begin, end=end, threads=threads)
        # Rows before `end` have met every other row.
        won = is_wanted[lifted.order[begin:end]] & (found[begin:end] > 0.0)
        on_settled(int(np.count_nonzero(won)))
        begin = end
        if time.perf_counter() - start < CALL_SECONDS / 2:
            rows *= 2
    # The rows themselves are off by whitening_error each.
    lost = 1.01 * lifted.whitening_error * (lifted.norms[-1] + 3.0 * lifted.norms)
    slack[lifted.order] = np.maximum(found - lost, 0.0)
    return slack


def _self_scales(lifted: LiftedClasses, slack: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Find s so that x = s C^-1 (w_i - center) wins against the bias too, and its margin."""
    problem = lifted.problem
    behind = problem.biases().max() - problem.biases()
    settled = slack > 0.0
    scale = np.zeros(problem.n)
    scale[settled] = np.maximum(1.0, 2.0 * behind[settled] / slack[settled])
    margins = (scale * slack - behind) * (1.0 - 2.0**-50)
    scale[~(np.isfinite(scale) & (margins > 0.0))] = 0.0
    return scale, margins


def _confirm(problem: Problem, outcome: Ledger) -> None:
    """Prove every certificate in rational arithmetic; what fails is undecided."""
    groups: dict[bytes, list[int]] = {}
    for i, certificate in outcome.certificates.items():
        groups.setdefault(certificate.support.tobytes(), []).append(i)
    for members in groups.values():
        support = outcome.certificates[members[0]].support
        proved = prove_unargmaxable(
            problem.weight, problem.bias, np.array(members), support, exact=True
        )
        for g, i in enumerate(members):
            if proved.proof[g] == Proof.EXACT:
                outcome.certificates[i] = replace(
                    outcome.certificates[i],
                    coefficients=proved.coefficients[g],
                    residual=float(proved.residual[g]),
                    slack=float(proved.slack[g]),
                    bias_depth=float(proved.slack[g]),
                    proof=Proof.EXACT,
                )
            else:
                del outcome.certificates[i]
                outcome.reasons[i] = "its certificate does not hold in rational arithmetic"


def _move_into_box(
    lifted: LiftedClasses,
    box: BoxRays,
    slack: FloatArray,
    scale: FloatArray,
    margins: FloatArray,
    outcome: Ledger,
) -> None:
    """Shorten the witnesses so that they lie in the box; drop those that then lose."""
    problem = lifted.problem
    behind = problem.biases().max() - problem.biases()
    for block in problem.slices():
        own = np.flatnonzero(scale[block] > 0.0) + block.start
        x = lifted.self_witnesses(own)
        largest = scale[own] * box.shrunk(scale[own, None] * x)
        shorter = np.minimum(scale[own], largest)
        # Rounding of x to the box costs less than the factor 1 - 2^-40 in `shrunk`.
        margins[own] = (shorter * slack[own] - behind[own]) * (1.0 - 2.0**-50)
        scale[own] = np.where(margins[own] > 0.0, shorter, 0.0)
    classes = np.array(list(outcome.witnesses), np.int64)
    if len(classes) == 0:
        return
    x = np.array(list(outcome.witnesses.values()))
    x *= box.shrunk(x)[:, None]
    found = witness_margins(problem.weight, problem.bias, classes, x)
    outcome.witnesses.clear()
    outcome.margins.clear()
    for i, vector, margin in zip(classes.tolist(), x, found.tolist(), strict=True):
        if margin > 0.0 and (box.clip(vector) == vector).all():
            outcome.witnesses[i], outcome.margins[i] = vector, margin


def _report(
    lifted: LiftedClasses,
    wanted: IndexArray,
    scale: FloatArray,
    margins: FloatArray,
    outcome: Ledger,
    features: Box | None,
    deployed: str | None,
    clock: Clock,
) -> ArgmaxableReport:
    problem, whitening = lifted.problem, lifted.whitening
    dead = sorted(outcome.certificates)
    certificates = [outcome.certificates[i] for i in dead]
    verdicts = np.full(len(wanted), Verdict.UNDECIDED, np.int8)
    verdicts[scale[wanted] > 0.0] = Verdict.ARGMAXABLE
    verdicts[np.searchsorted(wanted, dead)] = Verdict.UNARGMAXABLE
    kept = margins[wanted]
    kept[scale[wanted] == 0.0] = np.nan
    witness_row = np.full(len(wanted), -1, np.int64)
    for row, i in enumerate(outcome.witnesses):
        place = np.searchsorted(wanted, i)
        witness_row[place], kept[place] = row, outcome.margins[i]
        if outcome.margins[i] > 0.0:
            verdicts[place] = Verdict.ARGMAXABLE
    rows = list(outcome.witnesses.values())
    return ArgmaxableReport(
        weight=problem.weight,
        bias=problem.bias,
        classes=wanted,
        verdicts=verdicts,
        margins=kept,
        self_scale=scale[wanted],
        # In the units of the weight: metric metric^T (w - center) there is C^-1 times
        # scale^2 here.
        center=whitening.center / problem.scale,
        metric=whitening.transform * problem.scale,
        witness_row=witness_row,
        witnesses=np.array(rows) if rows else np.zeros((0, problem.d)),
        support_offsets=np.cumsum([0] + [len(c.support) for c in certificates]),
        support=_concatenate([c.support for c in certificates], np.int64),
        coefficients=_concatenate([c.coefficients for c in certificates], np.float64),
        residual=np.array([c.residual for c in certificates], np.float64),
        slack=np.array([c.slack for c in certificates], np.float64),
        depth=np.array([c.depth for c in certificates], np.float64),
        bias_depth=np.array([c.bias_depth for c in certificates], np.float64),
        below_rounding=np.array([c.below_rounding for c in certificates], bool),
        proof=np.array([c.proof for c in certificates], np.int8),
        reasons=outcome.reasons,
        features=features,
        deployed_dtype=deployed,
        rank=whitening.rank,
        seconds=clock.seconds,
        fingerprint=fingerprint(problem.weight, problem.bias),
        version=version("logitkit"),
    )


def _concatenate(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])

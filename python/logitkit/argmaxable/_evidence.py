"""From what was proved to a report."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._features import Box
from ._ledger import Ledger
from ._problem import IndexArray
from ._proof import prove_unargmaxable
from ._report import ArgmaxableReport
from ._rows import fingerprint
from ._self_witness import SelfWitnesses
from ._verdict import Proof, Verdict


def confirm_exactly(ledger: Ledger) -> None:
    """Prove every certificate in rational arithmetic; what fails is undecided."""
    problem = ledger.problem
    groups: dict[bytes, list[int]] = {}
    for i, certificate in ledger.certificates.items():
        groups.setdefault(certificate.support.tobytes(), []).append(i)
    for members in groups.values():
        support = ledger.certificates[members[0]].support
        proved = prove_unargmaxable(
            problem.weight, problem.bias, np.array(members), support, exact=True
        )
        for g, i in enumerate(members):
            if proved.proof[g] == Proof.EXACT:
                ledger.certificates[i] = replace(
                    ledger.certificates[i],
                    coefficients=proved.coefficients[g],
                    residual=float(proved.residual[g]),
                    slack=float(proved.slack[g]),
                    bias_depth=float(proved.slack[g]),
                    proof=Proof.EXACT,
                )
            else:
                del ledger.certificates[i]
                ledger.reasons[i] = "its certificate does not hold in rational arithmetic"


def assemble_report(
    own: SelfWitnesses,
    wanted: IndexArray,
    ledger: Ledger,
    *,
    features: Box | None,
    deployed: str | None,
    seconds: dict[str, float],
) -> ArgmaxableReport:
    """Put the evidence for `wanted` classes into a report."""
    problem, whitening = own.lifted.problem, own.lifted.whitening
    dead = sorted(ledger.certificates)
    certificates = [ledger.certificates[i] for i in dead]
    verdicts = np.full(len(wanted), Verdict.UNDECIDED, np.int8)
    verdicts[own.scale[wanted] > 0.0] = Verdict.ARGMAXABLE
    verdicts[np.searchsorted(wanted, dead)] = Verdict.UNARGMAXABLE
    kept = own.margins[wanted]
    kept[own.scale[wanted] == 0.0] = np.nan
    witness_row = np.full(len(wanted), -1, np.int64)
    for row, i in enumerate(ledger.witnesses):
        place = np.searchsorted(wanted, i)
        witness_row[place], kept[place] = row, ledger.margins[i]
        if ledger.margins[i] > 0.0:
            verdicts[place] = Verdict.ARGMAXABLE
    rows = list(ledger.witnesses.values())
    return ArgmaxableReport(
        weight=problem.weight,
        bias=problem.bias,
        classes=wanted,
        verdicts=verdicts,
        margins=kept,
        self_scale=own.scale[wanted],
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
        reasons=ledger.reasons,
        features=features,
        deployed_dtype=deployed,
        rank=whitening.rank,
        seconds=seconds,
        fingerprint=fingerprint(problem.weight, problem.bias),
        version=version("logitkit"),
    )


def _concatenate(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])

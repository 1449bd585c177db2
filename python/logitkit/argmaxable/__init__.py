"""Which classes of an output layer can never be predicted."""

from ._check import check_argmaxable
from ._features import Box
from ._report import ArgmaxableReport
from ._verdict import Certificate, Proof, Verdict, Witness

__all__ = [
    "ArgmaxableReport",
    "Box",
    "Certificate",
    "Proof",
    "Verdict",
    "Witness",
    "check_argmaxable",
]

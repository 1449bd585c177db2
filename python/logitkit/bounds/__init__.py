"""
Inequalities of log-sum-exp and softmax, and a check of a log-sum-exp against all of them.

Each function bounds one quantity from below and above, for every row along `axis`. An entry of
-inf masks: the bound is that of the row without it, and where a bound has a limit, this limit.
Results are in the type of the arguments, ``float64`` for integers; they are computed in
``float64`` and rounded once, so that a side may be off by its rounding. `certify` allows for
that; it is the property test of the kernels.
"""

from ._certify import certify
from ._from_distribution import cauchy, entropy, hoelder
from ._from_expansion import quadratic, tangent
from ._from_pair import convexity, difference, lipschitz
from ._from_row import basic, bouchard, mean, top_k
from ._from_softmax import boehning, hessian, softmax_lipschitz, total_variation, variance
from ._from_temperature import scaled, tempered, tempered_difference, tempered_mean
from ._report import Check, Report, Worst
from ._rows import Bounds

__all__ = [
    "Bounds",
    "Check",
    "Report",
    "Worst",
    "basic",
    "boehning",
    "bouchard",
    "cauchy",
    "certify",
    "convexity",
    "difference",
    "entropy",
    "hessian",
    "hoelder",
    "lipschitz",
    "mean",
    "quadratic",
    "scaled",
    "softmax_lipschitz",
    "tangent",
    "tempered",
    "tempered_difference",
    "tempered_mean",
    "top_k",
    "total_variation",
    "variance",
]

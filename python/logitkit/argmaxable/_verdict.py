"""The three verdicts on a class, how they are proved, and the evidence for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Verdict(IntEnum):  # numpydoc ignore=PR01
    """
    Whether some feature vector gives a class the strictly largest logit.

    Examples
    --------
    >>> Verdict(-1).name
    'UNARGMAXABLE'
    """

    UNARGMAXABLE = -1
    """No feature vector does: a `Certificate` shows it."""
    UNDECIDED = 0
    """Neither was shown, and the report gives the reason. Never a guess."""
    ARGMAXABLE = 1
    """Some feature vector does: a `Witness` shows it."""


class Proof(IntEnum):  # numpydoc ignore=PR01
    """
    How far the certificate of an unargmaxable class is proved.

    Examples
    --------
    >>> Proof.INTERVAL > Proof.NONE
    True
    """

    NONE = 0
    """Not proved."""
    INTERVAL = 1
    """Proved in float64: every rounding error is enclosed in a rigorous bound."""
    EXACT = 2
    """Proved in rational arithmetic."""
    NUMERICAL = 3
    """Not proved: the equations hold within the stated float64 tolerance only."""


@dataclass(frozen=True, eq=False)
class Witness:
    """
    A feature vector for which a class wins.

    Parameters
    ----------
    x : ndarray of float64, shape (d,)
        The feature vector.
    margin : float
        Certified lower bound of the distance, in logits, to the runner-up; positive.
    norm : float
        Euclidean length of `x`.

    Examples
    --------
    >>> Witness(np.array([3.0, 4.0]), margin=0.5, norm=5.0).margin
    0.5
    """

    x: NDArray[np.float64]
    margin: float
    norm: float


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""
    Classes whose convex combination no feature vector lets class `i` beat.

    With :math:`\sum_j \lambda_j w_j = w_i`, :math:`\sum_j \lambda_j = 1`,
    :math:`\lambda \ge 0` and :math:`\sum_j \lambda_j b_j \ge b_i`, the logits of the
    support average to at least the logit of class `i`, whatever the features are: one
    of them is at least as large. (For a box of features the average only has to hold
    inside the box.)

    Parameters
    ----------
    support : ndarray of int64, shape (k,)
        The classes `j` of the combination.
    coefficients : ndarray of float64, shape (k,)
        Their :math:`\lambda_j > 0`, rounded to float64; they sum to one.
    residual : float
        Largest entry of :math:`|\sum_j \lambda_j w_j - w_i|` with these rounded
        coefficients, in the units of the weights.
    slack : float
        :math:`\sum_j \lambda_j b_j - b_i`, in logits: a certified lower bound where
        `proof` is INTERVAL.
    depth : float
        Radius of the ball around :math:`w_i` inside the simplex of the support, in the
        units of the weights: `w_i` has to move at least this far before this certificate
        breaks. 0 if the support is smaller than a full simplex.
    bias_depth : float
        How far :math:`b_i` may rise before this certificate breaks, in logits.
    below_rounding : bool
        Whether rounding to the deployed dtype may break this certificate.
    proof : Proof
        How it was proved.

    Examples
    --------
    >>> half = np.array([0.5, 0.5])
    >>> Certificate(np.array([0, 1]), half, 0.0, 0.0, 0.0, 0.0, False, Proof.EXACT).proof.name
    'EXACT'
    """

    support: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    residual: float
    slack: float
    depth: float
    bias_depth: float
    below_rounding: bool
    proof: Proof

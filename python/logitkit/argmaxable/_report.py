"""The result of a class check: a verdict on every class, and the evidence for it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _report_files, _verification
from ._features import Box
from ._margins import exact_margin
from ._problem import as_numpy
from ._rows import row_blocks, rows_as_float64
from ._verdict import Certificate, Proof, Verdict, Witness

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class ArgmaxableReport:
    """
    Verdicts on `m` classes of an output layer, each with evidence to check again.

    `check_argmaxable` makes it. The arrays below are aligned with `classes`, those of
    certificates with `unargmaxable` (D classes).

    Parameters
    ----------
    weight, bias : ndarray, shape (n, d) and (n,), or None
        The layer itself. A report from a file holds neither; a layer may have no bias.
    classes : ndarray of int64, shape (m,)
        Classes that were checked, ascending.
    verdicts : ndarray of int8, shape (m,)
        `Verdict` values.
    margins : ndarray of float64, shape (m,)
        Certified lower bound of the margin of the witness, in logits; the best margin
        found of an undecided class; nan for an unargmaxable one.
    self_scale : ndarray of float64, shape (m,)
        Where positive, the witness is ``self_scale * metric @ (metric.T @ (w_i - center))``.
    center, metric : ndarray of float64, shape (d,) and (d, r)
        Of these witnesses.
    witness_row : ndarray of int64, shape (m,)
        Row of `witnesses`, -1 for none.
    witnesses : ndarray of float64, shape (q, d)
        Explicit feature vectors, also the best candidates for undecided classes.
    support_offsets : ndarray of int64, shape (D + 1,)
        Where the certificate of each unargmaxable class begins in the next two.
    support, coefficients : ndarray of int64 and float64, shape (support_offsets[-1],)
        Classes and convex coefficients.
    residual, slack, depth, bias_depth : ndarray of float64, shape (D,)
        As in `Certificate`.
    below_rounding : ndarray of bool, shape (D,)
        As in `Certificate`.
    proof : ndarray of int8, shape (D,)
        `Proof` values.
    reasons : mapping of int to str
        Why a class is undecided.
    features : Box or None
        The feature vectors that were admitted; None for all.
    deployed_dtype : str or None
        The dtype that `below_rounding` is about.
    rank : int
        Numerical rank of the centred weights.
    seconds : mapping of str to float
        Time of each stage.
    fingerprint : str
        SHA-256 of the layer.
    version : str
        Version of logitkit that made the report.
    shape : tuple of two int
        `(n, d)`. Taken from `weight` unless given.
    has_bias : bool
        Whether the layer has a bias. Taken from `bias` where there is a `weight`.

    Examples
    --------
    >>> from logitkit import check_argmaxable
    >>> w = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> report = check_argmaxable(w)
    >>> report.unargmaxable.tolist()
    [4]
    >>> report.verdict(4).name, report.verify()
    ('UNARGMAXABLE', True)
    >>> report.margin(0) > 0
    True
    """

    weight: NDArray[Any] | None
    bias: NDArray[Any] | None
    classes: Index
    verdicts: NDArray[np.int8]
    margins: Array
    self_scale: Array
    center: Array
    metric: Array
    witness_row: Index
    witnesses: Array
    support_offsets: Index
    support: Index
    coefficients: Array
    residual: Array
    slack: Array
    depth: Array
    bias_depth: Array
    below_rounding: NDArray[np.bool_]
    proof: NDArray[np.int8]
    reasons: Mapping[int, str]
    features: Box | None
    deployed_dtype: str | None
    rank: int
    seconds: Mapping[str, float]
    fingerprint: str
    version: str
    shape: tuple[int, int] = field(default=(0, 0))
    has_bias: bool = field(default=False)

    def __post_init__(self) -> None:
        if self.weight is not None:
            n, d = self.weight.shape
            object.__setattr__(self, "shape", (int(n), int(d)))
            object.__setattr__(self, "has_bias", self.bias is not None)

    @property
    def unargmaxable(self) -> Index:
        """Classes that no feature vector makes the strict winner, ascending."""
        return self._classes_with(Verdict.UNARGMAXABLE)

    @property
    def undecided(self) -> Index:
        """Classes without a verdict, ascending; see `reasons`."""
        return self._classes_with(Verdict.UNDECIDED)

    @property
    def argmaxable(self) -> Index:
        """Classes that some feature vector makes the strict winner, ascending."""
        return self._classes_with(Verdict.ARGMAXABLE)

    def verdict(self, i: int) -> Verdict:
        """
        Verdict on class `i`.

        Parameters
        ----------
        i : int
            A checked class.

        Returns
        -------
        Verdict
            Its verdict.

        Raises
        ------
        IndexError
            If the class was not checked.
        """
        return Verdict(int(self.verdicts[self._position(i)]))

    def witness(
        self, i: int, weight: NDArray[Any] | None = None, bias: NDArray[Any] | None = None
    ) -> Witness:
        """
        Feature vector for which class `i` wins.

        Parameters
        ----------
        i : int
            An argmaxable class.
        weight, bias : ndarray, optional
            The layer, where the report was loaded from a file.

        Returns
        -------
        Witness
            The vector, its certified margin and its length.

        Raises
        ------
        IndexError
            If the class was not checked.
        ValueError
            If the class is not argmaxable, or the weights are missing.
        """
        at = self._position_of(i, Verdict.ARGMAXABLE, "witness")
        x = _verification.feature_vectors(
            self, np.array([at]), self._layer(weight, bias)[0] if self.self_scale[at] else None
        )[0]
        return Witness(x, float(self.margins[at]), math.hypot(*x))

    def margin(
        self, i: int, weight: NDArray[Any] | None = None, bias: NDArray[Any] | None = None
    ) -> float:
        """
        Exact margin, over all classes, of the witness of class `i`.

        Parameters
        ----------
        i : int
            An argmaxable class.
        weight, bias : ndarray, optional
            The layer, where the report was loaded from a file.

        Returns
        -------
        float
            Least difference to another logit, rounded down.

        Raises
        ------
        IndexError
            If the class was not checked.
        ValueError
            If the class is not argmaxable, or the weights are missing.
        """
        at = self._position_of(i, Verdict.ARGMAXABLE, "witness")
        weight, bias = self._layer(weight, bias)
        x = _verification.feature_vectors(self, np.array([at]), weight)[0]
        return exact_margin(weight, bias, int(i), x)

    def certificate(self, i: int) -> Certificate:
        """
        Support of an average that class `i` can never beat.

        Parameters
        ----------
        i : int
            An unargmaxable class.

        Returns
        -------
        Certificate
            Support, coefficients and how far they hold.

        Raises
        ------
        IndexError
            If the class was not checked.
        ValueError
            If the class is not unargmaxable.
        """
        at = self._position_of(i, Verdict.UNARGMAXABLE, "certificate")
        dead = int(np.count_nonzero(self.verdicts[:at] == Verdict.UNARGMAXABLE))
        own = slice(*self.support_offsets[dead : dead + 2])
        return Certificate(
            self.support[own],
            self.coefficients[own],
            float(self.residual[dead]),
            float(self.slack[dead]),
            float(self.depth[dead]),
            float(self.bias_depth[dead]),
            bool(self.below_rounding[dead]),
            Proof(int(self.proof[dead])),
        )

    def verify(
        self,
        weight: NDArray[Any] | None = None,
        bias: NDArray[Any] | None = None,
        *,
        exact: bool = False,
    ) -> bool:
        """
        Check every piece of evidence again, against the original weights.

        Nothing of the solver is used or believed: margins are bounded anew, the
        coefficients of every certificate are solved for anew from its support, and what
        the report states of them is compared.

        Parameters
        ----------
        weight, bias : ndarray, optional
            The layer; needed where the report was loaded from a file.
        exact : bool
            Prove the unargmaxable classes in rational arithmetic (with python-flint;
            seconds for each certificate where there are a thousand features).

        Returns
        -------
        bool
            Whether all of it holds. Undecided classes claim nothing.

        Raises
        ------
        ValueError
            If the weights are missing, or are not those that were checked.
        ModuleNotFoundError
            If `exact` is asked for without python-flint.
        """
        weight, bias = self._layer(weight, bias)
        return next(_verification.faults(self, weight, bias, exact=exact), None) is None

    def nearest_argmaxable(
        self, i: int, weight: NDArray[Any] | None = None, bias: NDArray[Any] | None = None
    ) -> int:
        """
        Find the argmaxable class whose row is closest to that of class `i`.

        Parameters
        ----------
        i : int
            Any class of the layer.
        weight, bias : ndarray, optional
            The layer, where the report was loaded from a file.

        Returns
        -------
        int
            The other class at the least Euclidean distance, the lowest of several;
            -1 if there is none.

        Raises
        ------
        IndexError
            If the layer has no such class.
        ValueError
            If the weights are missing.
        """
        weight, bias = self._layer(weight, bias)
        if not 0 <= i < self.shape[0]:
            raise IndexError(f"class {i}: the layer has classes 0 to {self.shape[0] - 1}")
        live = self.argmaxable[self.argmaxable != i]
        own = rows_as_float64(weight, np.array([i]))
        nearest, least = -1, np.inf
        for block in row_blocks(live.size, self.shape[1]):
            difference = rows_as_float64(weight, live[block]) - own
            distance = np.einsum("jk,jk->j", difference, difference)
            at = int(distance.argmin())
            if distance[at] < least or nearest < 0:
                nearest, least = int(live[block][at]), float(distance[at])
        return nearest

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """
        Write a JSON file: readable certificates, large arrays in base64.

        Parameters
        ----------
        path : path_like
            The file. It is replaced at once when all is written: a failure leaves
            nothing behind.
        """
        _report_files.write_json(self, path)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> ArgmaxableReport:
        """
        Read what `to_json` wrote, without the weights.

        Parameters
        ----------
        path : path_like
            The file.

        Returns
        -------
        ArgmaxableReport
            The same report; its `weight` and `bias` are None.

        Raises
        ------
        ValueError
            If the file is damaged, of another kind or version, or contradicts itself.
        """
        return cls(**_report_files.read_json(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write an npz file.

        Parameters
        ----------
        path : path_like
            The file, named exactly so. It is replaced at once when all is written.
        """
        _report_files.write_npz(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ArgmaxableReport:
        """
        Read what `save` wrote, without the weights.

        Parameters
        ----------
        path : path_like
            The file.

        Returns
        -------
        ArgmaxableReport
            The same report; its `weight` and `bias` are None.

        Raises
        ------
        ValueError
            If the file is damaged, of another kind or version, or contradicts itself.
        """
        return cls(**_report_files.read_npz(path))

    def __repr__(self) -> str:
        """Shape, counts and times in a few lines."""
        n, d = self.shape
        checked = "" if self.classes.size == n else f", {self.classes.size} classes checked"
        where = "" if self.features is None else ", features in a box"
        kinds = [
            f"{int(np.count_nonzero(self.proof == kind))} {name}"
            for kind, name in (
                (Proof.INTERVAL, "by enclosures"),
                (Proof.EXACT, "exactly"),
                (Proof.NUMERICAL, "only numerically"),
            )
            if (self.proof == kind).any()
        ]
        bias = "with" if self.has_bias else "without"
        proofs = f"  (proved {', '.join(kinds)})" if kinds else ""
        lines = [
            f"ArgmaxableReport of {n} x {d} weights {bias} bias{checked}{where}",
            f"  argmaxable   {self.argmaxable.size:8d}",
            f"  unargmaxable {self.unargmaxable.size:8d}{proofs}",
            f"  undecided    {self.undecided.size:8d}",
        ]
        if self.deployed_dtype is not None:
            count = int(np.count_nonzero(self.below_rounding))
            lines.append(f"  {count} certificates may break by rounding to {self.deployed_dtype}")
        if self.seconds:
            times = ", ".join(f"{stage} {time:.2f}" for stage, time in self.seconds.items())
            lines.append(f"  seconds: {times}")
        return "\n".join(lines)

    def _classes_with(self, verdict: Verdict) -> Index:
        chosen: Index = self.classes[self.verdicts == verdict]
        return chosen

    def _position(self, i: int) -> int:
        at = int(np.searchsorted(self.classes, i))
        if at == self.classes.size or self.classes[at] != i:
            raise IndexError(
                f"class {i} was not checked"
                if 0 <= i < self.shape[0]
                else f"class {i}: the layer has classes 0 to {self.shape[0] - 1}"
            )
        return at

    def _position_of(self, i: int, wanted: Verdict, evidence: str) -> int:
        at = self._position(i)
        found = Verdict(int(self.verdicts[at]))
        if found != wanted:
            why = f" ({self.reasons[i]})" if i in self.reasons else ""
            raise ValueError(f"class {i} has no {evidence}: it is {found.name}{why}")
        return at

    def _layer(
        self, weight: NDArray[Any] | None, bias: NDArray[Any] | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the layer given, or else the one that the report holds."""
        if weight is None:
            if self.weight is None:
                raise ValueError(
                    "this report was loaded from a file, which holds no weights: pass weight"
                    + (" and bias" if self.has_bias else "")
                )
            return self.weight, self.bias if bias is None else as_numpy(bias, "bias")
        weight = as_numpy(weight, "weight")
        if weight.shape != self.shape:
            raise ValueError(
                f"the report is about weights of shape {self.shape}, not {weight.shape}"
            )
        if bias is None and self.has_bias:
            raise ValueError("the report is about a layer with a bias: pass bias as well")
        return weight, None if bias is None else as_numpy(bias, "bias")

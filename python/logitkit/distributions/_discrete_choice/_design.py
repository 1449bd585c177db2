"""The design of a discrete choice: arrays, or a table with a row for each alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean, and which coefficients there are beside them."""

    features: tuple[str, ...]
    observation: str | None = None
    alternative: str | None = None
    alternatives: tuple[Any, ...] = ()
    constants: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all coefficients."""
        return (*(f"constant[{name}]" for name in self._with_constant()), *self.features)

    def _with_constant(self) -> tuple[Any, ...]:
        return self.alternatives[1:] if self.constants else ()  # the first one is the measure


class Design(NamedTuple):
    """
    Features of every alternative of every observation.

    `features` has the shape (n, J, k), with zeros where `available`, shape (n, J), is false;
    `columns` says what they are.
    """

    features: Array
    available: NDArray[np.bool_]
    columns: Columns


def is_table(design: object) -> bool:
    """Return whether `design` is a data frame: what has columns, and rows by their names."""
    return hasattr(design, "columns") and hasattr(design, "__getitem__")


def from_arrays(
    design: ArrayLike,
    available: ArrayLike | None,
    names: Sequence[str] | None,
    constants: bool,
) -> Design:
    """Return the design of an array of shape (n, J, k)."""
    x = np.asarray(design, np.float64)
    if x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(
            "expected a design of shape (observations, alternatives, features) with at least two "
            f"alternatives, not {x.shape}"
        )
    there = np.ones(x.shape[:2], bool) if available is None else np.asarray(available, bool)
    if there.shape != x.shape[:2]:
        raise ValueError(f"expected available of shape {x.shape[:2]}, not {there.shape}")
    features = tuple(names) if names is not None else tuple(f"x{i}" for i in range(x.shape[2]))
    if len(features) != x.shape[2]:
        raise ValueError(f"expected {x.shape[2]} names of features, not {len(features)}")
    columns = Columns(features, alternatives=tuple(range(x.shape[1])), constants=constants)
    return _checked(x, there, columns)


def from_table(table: Any, columns: Columns) -> tuple[Design, NDArray[np.int64]]:
    """
    Return the design of a table in long form, and the observation of each of its rows.

    The latter as a flat index into (n, J), so that a column of the table can follow.
    """
    if columns.observation is None or columns.alternative is None or not columns.features:
        raise ValueError(
            "expected columns, observation and alternative with a table: the names of the "
            "columns of features, and of those that say which row belongs to which choice"
        )
    _, case = np.unique(np.asarray(table[columns.observation]), return_inverse=True)
    kinds, kind = np.unique(np.asarray(table[columns.alternative]), return_inverse=True)
    if columns.alternatives:  # those of the fit, whatever a new table has
        known = {name: i for i, name in enumerate(columns.alternatives)}
        if unknown := [name for name in kinds.tolist() if name not in known]:
            raise ValueError(f"expected alternatives {columns.alternatives}, not {unknown[0]!r}")
        kind = np.array([known[name] for name in kinds.tolist()])[kind]
    else:
        columns = Columns(
            columns.features,
            columns.observation,
            columns.alternative,
            tuple(kinds.tolist()),
            columns.constants,
        )
    shape = (int(case.max(initial=-1)) + 1, len(columns.alternatives))
    place = case.astype(np.int64) * shape[1] + kind
    if len(np.unique(place)) < len(place):
        counts = np.bincount(place)
        row = int(np.flatnonzero(counts[place] > 1)[1])
        raise ValueError(f"expected each alternative of a choice once, but row {row} repeats one")
    x = np.zeros((shape[0] * shape[1], len(columns.features)))
    x[place] = np.stack([np.asarray(table[name], np.float64) for name in columns.features], axis=-1)
    available = np.zeros(len(x), bool)
    available[place] = True
    return _checked(x.reshape(*shape, -1), available.reshape(shape), columns), place


def _checked(x: Array, available: NDArray[np.bool_], columns: Columns) -> Design:
    bad = ~np.isfinite(x) & available[..., np.newaxis]
    if bad.any():
        i, j, k = map(int, np.argwhere(bad)[0])
        raise ValueError(
            f"expected finite features, not {x[i, j, k]} of {columns.features[k]!r} in choice {i}, "
            f"alternative {columns.alternatives[j]!r}"
        )
    if (few := available.sum(axis=1) < 1).any():
        raise ValueError(f"expected an alternative in choice {int(np.argmax(few))}")
    x = np.where(available[..., np.newaxis], x, 0.0)
    if columns.constants:
        ones = np.eye(x.shape[1])[:, 1:]
        x = np.concatenate([np.broadcast_to(ones, (len(x), *ones.shape)), x], axis=-1)
        x = np.where(available[..., np.newaxis], x, 0.0)
    return Design(x, available, columns)


def chosen_from_table(column: Any, place: NDArray[np.int64], design: Design) -> NDArray[np.int64]:
    """Return the chosen alternatives, of a column that is 1, or true, in their rows."""
    values = np.asarray(column).astype(np.float64)
    flat = np.zeros(design.available.size)
    flat[place] = values
    marks = flat.reshape(design.available.shape)
    if not np.all((marks == 0.0) | (marks == 1.0)):
        raise ValueError("expected a column of choices with 0 and 1 alone")
    if (other := marks.sum(axis=1) != 1.0).any():
        i = int(np.argmax(other))
        raise ValueError(
            f"expected one chosen alternative in each choice, not {marks[i].sum():.0f} in choice "
            f"{i}"
        )
    chosen: NDArray[np.int64] = np.argmax(marks, axis=1)
    return chosen


def chosen_from_array(choice: ArrayLike, design: Design) -> NDArray[np.int64]:
    """Return the chosen alternatives, of an array of their indices."""
    y = np.asarray(choice)
    n, alternatives = design.available.shape
    if y.dtype.kind not in "iu" or y.shape != (n,):
        raise ValueError(
            f"expected {n} integers, the chosen alternatives, not type {y.dtype} and shape "
            f"{y.shape}"
        )
    if (bad := (y < 0) | (y >= alternatives)).any():
        i = int(np.argmax(bad))
        raise ValueError(f"expected choices from 0 to {alternatives - 1}, not {y[i]} at {i}")
    y = y.astype(np.int64)
    if not (there := design.available[np.arange(n), y]).all():
        i = int(np.argmin(there))
        raise ValueError(f"expected an available choice, not {y[i]} at {i}")
    return y

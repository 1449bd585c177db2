"""What a reader of model files returns, and the one error that it raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

FLOATS = ("float16", "bfloat16", "float32", "float64")
_MOST_LISTED = 20


class ModelFileError(ValueError):
    """A model or label file that cannot be used as asked; the message says what to do."""


@dataclass(frozen=True, eq=False)
class OutputLayer:
    """
    The last linear layer of a classifier: logits = weight @ x + bias.

    Parameters
    ----------
    weight : ndarray, shape (n, d)
        One row per class. May be a transposed view or a read-only memory map;
        float16, bfloat16 (of ml_dtypes), float32 or float64, as stored.
    bias : ndarray, shape (n,), or None
        One number per class.
    labels : list of str, or None
        The name of each class.
    weight_name, bias_name : str
        The tensors that `weight` and `bias` come from (`bias_name` may be None).
    label_source : str or None
        Where `labels` come from and what was added to them.
    source : str
        How the layer was found, in a few words.
    """

    weight: Array
    bias: Array | None
    labels: list[str] | None
    weight_name: str
    bias_name: str | None
    label_source: str | None
    source: str


def require(module: str, path: Path) -> Any:
    """Import a library of the extra `io`, or say how to get it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f'reading {path} needs {error.name}: pip install "logitkit[io]"', name=error.name
        ) from None


def missing_tensor(path: Path, name: str, names: Iterable[str]) -> ModelFileError:
    """Return the error for a name that the file does not hold."""
    names = list(names)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    if not close and names:
        listed = ", ".join(sorted(names)[:_MOST_LISTED])
        more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
        hint = f"; it holds {listed}{more}"
    return ModelFileError(f"{path}: no tensor named {name!r}{hint}")


def ask(path: Path, problem: str, candidates: Mapping[str, Shape]) -> ModelFileError:
    """Return the error that lists candidates and says which option decides."""
    if not candidates:
        return ModelFileError(f"{path}: {problem}, and it holds no floating-point matrix at all")
    lines = [f"  {name}  {' x '.join(map(str, shape))}" for name, shape in candidates.items()]
    if len(lines) > _MOST_LISTED:
        lines[_MOST_LISTED:] = [f"  ... and {len(lines) - _MOST_LISTED} more"]
    return ModelFileError(
        f"{path}: {problem}; choose one with --weight NAME (weight=... in Python):\n"
        + "\n".join(lines)
    )


def check_float(path: Path, name: str, dtype: str) -> None:
    """Refuse a tensor that does not hold plain floating-point numbers."""
    if dtype not in FLOATS:
        raise ModelFileError(
            f"{path}: tensor {name!r} has dtype {dtype}, expected one of {', '.join(FLOATS)}; "
            "convert it (quantised weights need their scales applied) and save it again"
        )


def as_matrix(shape: Shape) -> Shape | None:
    """Return the rows and columns of a matrix or 1 x 1 convolution kernel, else None."""
    if len(shape) < 2 or 0 in shape or any(size != 1 for size in shape[2:]):
        return None
    return shape[:2]


def orient(
    path: Path, names: tuple[str, str | None], weight: Array, bias: Array | None, transposed: bool
) -> tuple[Array, Array | None]:
    """
    Turn a stored matrix so that its rows are the classes.

    The length of the bias decides; without one, or for a square matrix,
    `transposed` says whether the rows are features.
    """
    matrix = as_matrix(weight.shape)
    if matrix is None:
        raise ModelFileError(
            f"{path}: tensor {names[0]!r} has shape {weight.shape}, expected (classes, features)"
        )
    weight = weight.reshape(matrix)
    if bias is None:
        return (weight.T if transposed else weight), None
    if max(bias.shape, default=1) != bias.size or bias.size not in matrix:
        raise ModelFileError(
            f"{path}: bias {names[1]!r} has shape {bias.shape}, but weight {names[0]!r} has shape "
            f"{matrix}: one number per class is needed; choose another with --bias NAME, "
            "or none with --no-bias"
        )
    if matrix[0] != matrix[1]:
        transposed = bias.size == matrix[1]
    return (weight.T if transposed else weight), bias.reshape(-1)

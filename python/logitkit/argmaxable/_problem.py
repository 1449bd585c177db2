"""The output layer under check: validated, read in blocks, never copied whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._gpu_scores import as_host_array, origin_of
from ._rows import bias_as_float64, row_blocks

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]

BLOCK_BYTES = 8 << 20  # of float64 rows that are in work at a time


@dataclass(frozen=True, eq=False)
class Problem:
    """
    Logits ``W x + b`` of `n` classes over `d` features.

    `weight` and `bias` are the arrays as given. `rows` reads the weight as float64,
    multiplied by `scale`, a power of two that brings the largest weight near 1: exact, and
    no verdict depends on it. `origin` is the weight on the GPU that makes the large products,
    or None, and then the processor does.
    """

    weight: NDArray[Any]
    bias: NDArray[Any] | None
    scale: float
    origin: Any = None

    @property
    def n(self) -> int:
        """Number of classes."""
        return int(self.weight.shape[0])

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.weight.shape[1])

    def biases(self) -> FloatArray:
        """Return the bias as float64, 0 where there is none."""
        return bias_as_float64(self.bias, self.n)

    def rows(self, index: IndexArray | slice) -> FloatArray:
        """Return the scaled rows at `index` as float64."""
        rows: FloatArray = np.multiply(self.weight[index], self.scale, dtype=np.float64)
        return rows

    def slices(self) -> Iterator[slice]:
        """Cut the classes into consecutive blocks of bounded size."""
        return row_blocks(self.n, self.d, limit=BLOCK_BYTES)


def as_problem(weight: object, bias: object | None) -> Problem:
    """Check an output layer; the errors name the value and its place."""
    w = as_numpy(weight, "weight")
    if w.ndim != 2:
        raise ValueError(f"weight must have shape (classes, features), not {w.shape}")
    if w.shape[0] == 0 or w.shape[1] == 0:
        raise ValueError(f"weight of shape {w.shape} has no classes or no features")
    b = None
    if bias is not None:
        b = as_numpy(bias, "bias")
        if b.shape != (w.shape[0],):
            raise ValueError(
                f"bias must have shape ({w.shape[0]},), one value for each row of weight, "
                f"not {b.shape}"
            )
        _require_finite(b, "bias", 0)
    largest = 0.0
    for rows in row_blocks(w.shape[0], w.shape[1], limit=BLOCK_BYTES):
        block = w[rows]
        if block.dtype.itemsize < 4:
            block = block.astype(np.float32)
        # NaN and infinity survive in the extremes, which need no temporary array.
        low, high = float(block.min()), float(block.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            _require_finite(block, "weight", rows.start)
        largest = max(largest, abs(low), abs(high))
    if 0.0 < largest < np.finfo(np.float64).tiny:  # feature vectors and scales would overflow
        raise ValueError(
            f"every value of weight is denormal, the largest is {largest}: multiply weight and "
            "bias by the same power of two, which changes no verdict"
        )
    exponent = int(np.frexp(largest)[1]) if largest > 0.0 else 0
    return Problem(w, b, float(np.ldexp(1.0, -exponent)), origin_of(weight))


def as_numpy(array: object, name: str) -> NDArray[Any]:
    """View `array` as NumPy without a copy where that is possible, or say why it cannot be."""
    try:
        array = as_host_array(array)
    except NotImplementedError as error:  # a tensor on torch's device "meta"
        raise TypeError(f"{name} holds no numbers: {error}") from None
    if type(array).__module__.split(".")[0] == "torch":
        array = _torch_as_numpy(array, name)
    elif not isinstance(array, np.ndarray) and hasattr(array, "__dlpack__"):
        try:
            array = np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError):
            if not hasattr(array, "__array__"):
                raise
    try:
        result = np.asarray(array)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of equal length: {error}") from None
    if result.dtype.kind in "iu":
        wide = result.astype(np.float64)
        for place in np.argwhere(np.abs(wide) >= 2.0**53):
            if int(result[tuple(place)]) != int(wide[tuple(place)]):
                raise TypeError(
                    f"{name}[{', '.join(map(str, place))}] is {result[tuple(place)]}, which float64 "
                    "does not hold: divide by a power of two and convert to floats"
                )
        return wide
    # bfloat16 and its relatives of ml_dtypes are kind "V" to NumPy.
    if result.dtype.kind != "f" and result.dtype.name != "bfloat16":
        raise TypeError(
            f"{name} must hold float16, bfloat16, float32 or float64 values, not {result.dtype}"
        )
    if result.dtype.itemsize > 8:
        raise TypeError(f"{name} of dtype {result.dtype} would lose digits: convert it to float64")
    return result


def _torch_as_numpy(tensor: Any, name: str) -> NDArray[Any]:
    if not hasattr(tensor, "detach"):
        raise TypeError(f"{name} must be a tensor, not a {type(tensor).__name__}: pass its {name}")
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":  # unknown to NumPy, exact in float32
        tensor = tensor.float()
    try:
        array: NDArray[Any] = tensor.numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise TypeError(
            f"{name} of {tensor.dtype} and {tensor.layout} on {tensor.device} has no numbers that "
            f"NumPy can read ({error}): convert it, as with .to_dense() or .float()"
        ) from None
    return array


def _require_finite(block: NDArray[Any], name: str, first_row: int) -> None:
    bad = np.argwhere(~np.isfinite(block))
    if len(bad) == 0:
        return
    place = [int(i) for i in bad[0]]
    value = float(block[tuple(place)])
    place[0] += first_row
    raise ValueError(
        f"{name}[{', '.join(map(str, place))}] is {value}: every value must be finite, "
        f"since no logit of that class is defined"
    )

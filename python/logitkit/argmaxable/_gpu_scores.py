"""Scores of the whitened classes by the GPU on which the weight lies.

They are sums in float32 in the order of the coordinates, as on the processor, and err by no
more; what is concluded from them is certified in float64 on the processor all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backend import is_on_gpu, is_tensor

FloatArray = NDArray[np.float32]


def origin_of(array: Any) -> Any:
    """Return `array` if a GPU has it on which kernels can run, else None."""
    if not (array.is_cuda if is_tensor(array) else is_on_gpu(array)):
        return None
    from .. import cuda

    return array if cuda.is_available() else None


def as_host_array(array: Any) -> Any:
    """Return an array on a GPU in main memory, and every other object as it is."""
    if is_tensor(array):
        return array.detach().cpu()
    if not is_on_gpu(array):
        return array
    return array.get() if hasattr(array, "get") else np.asarray(array)  # CuPy, JAX


class GpuScores:
    """Rows of classes on the GPU of `like`, an array of any library."""

    def __init__(self, rows: FloatArray, like: Any) -> None:
        self._like = like
        self._rows = self._on_gpu(rows)

    def largest(
        self, x: FloatArray, bias: FloatArray | None, k: int
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return the `k` largest scores of each row of `x`, and their classes."""
        from .. import cuda

        of_class = None if bias is None else self._on_gpu(bias)
        found = cuda.linear_topk(self._on_gpu(x), self._rows, of_class, k=k, exact=True)
        return np.asarray(as_host_array(found.values)), np.asarray(as_host_array(found.indices))

    def _on_gpu(self, array: NDArray[Any]) -> Any:
        from array_api_compat import array_namespace, device

        return array_namespace(self._like).asarray(array, device=device(self._like))

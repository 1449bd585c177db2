"""Row maxima of a linear layer's scores, without storing the scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _cpu, reference
from ._backend import as_array, gpu_functions_for
from ._real_array import whole_number
from .reference import LargestScores

_BLOCK = 2**22  # scores that the reference may hold at a time: 32 MiB


def linear_argmax(
    x: Any, weight: Any, bias: Any = None, /, *, threads: int | None = None
) -> LargestScores:
    r"""
    Maximum of each row of a linear layer's scores, and its index.

    .. math:: v_i = \max_j s_{ij}, \quad s_{ij} = \sum_{k=1}^{d} x_{ik} w_{jk} + b_j

    The same as ``argmax`` and ``max`` of ``x @ weight.T + bias``, but the ``m x n`` scores
    are never stored: extra memory is a few bytes for each row of `x`.

    Parameters
    ----------
    x : array_like, shape (m, d)
        Rows of features: real numbers of at most 64 bits, like all arguments.
    weight : array_like, shape (n, d)
        One row for each class, as in ``torch.nn.Linear``; at least one.
    bias : array_like, shape (n,), optional
        Added to the scores. Default: nothing is.
    threads : int, optional
        At most so many threads. Default: one for each processor that this process may use,
        or ``LOGITKIT_NUM_THREADS``.

    Returns
    -------
    LargestScores
        A named tuple. `values`, shape ``(m,)``, is in the type that NumPy promotes the
        arguments to, ``float64`` for integers; `indices`, shape ``(m,)``, is ``int64``. Of
        equal scores the first wins, and the first NaN before all, as in ``numpy.argmax``.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If the shapes do not fit each other, `weight` has no row, or `threads` is not positive.

    See Also
    --------
    logitkit.linear_topk : The `k` largest.
    logitkit.cuda.linear_argmax : What is called for arrays on a GPU.
    logitkit.reference.linear_argmax : The same in NumPy and ``float64``.

    Notes
    -----
    In ``float32`` the terms of a score are added one by one in the order of `k`, or in blocks
    where the processor has tile registers. Either way it errs by at most
    :math:`\gamma_d \sum_k |x_{ik} w_{jk}|`, where
    :math:`\gamma_d = d 2^{-24} / (1 - d 2^{-24})` [1]_, and half a unit in the last place
    for adding the bias. It depends on nothing but the row of `x`, the row of `weight` and
    the processor's instruction set: results are the same, bit by bit, for any number of
    threads and any batch. Half types are computed in ``float32``, in a copy; ``float64`` by
    the reference, a block of rows at a time.

    References
    ----------
    .. [1] N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., SIAM,
       2002, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import linear_argmax
    >>> x = np.float32([[1.0, 0.0], [0.0, 2.0]])
    >>> weight = np.float32([[1.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
    >>> linear_argmax(x, weight)
    LargestScores(values=array([3., 4.], dtype=float32), indices=array([1, 2]))
    """
    if (functions := gpu_functions_for(x)) is not None:
        found: LargestScores = functions.linear_argmax(x, weight, bias)
        return found
    x, weight, bias, result = _checked(x, weight, bias)
    if x.dtype == np.float64:
        return _by_blocks(lambda rows: reference.linear_argmax(rows, weight, bias), x, weight)
    values, indices = np.empty(len(x), np.float32), np.empty(len(x), np.int64)
    _cpu.linear_argmax(x, weight, bias, values, indices, threads=_checked_threads(threads))
    return LargestScores(values.astype(result, copy=False), indices)


def linear_topk(
    x: Any, weight: Any, bias: Any = None, /, *, k: int, threads: int | None = None
) -> LargestScores:
    r"""
    Largest `k` of each row of a linear layer's scores, and their indices.

    The `k` largest of :math:`s_{ij} = \sum_{l=1}^{d} x_{il} w_{jl} + b_j` over `j`, for
    each `i`. The ``m x n`` scores are never stored: extra memory is 16 bytes for each score
    that is returned.

    Parameters
    ----------
    x : array_like, shape (m, d)
        Rows of features: real numbers of at most 64 bits, like all arguments.
    weight : array_like, shape (n, d)
        One row for each class, as in ``torch.nn.Linear``; at least one.
    bias : array_like, shape (n,), optional
        Added to the scores. Default: nothing is.
    k : int
        How many scores to return for each row of `x`, from 1 to `n`.
    threads : int, optional
        At most so many threads. Default: one for each processor that this process may use,
        or ``LOGITKIT_NUM_THREADS``.

    Returns
    -------
    LargestScores
        A named tuple. `values`, shape ``(m, k)``, in descending order, is in the type that
        NumPy promotes the arguments to, ``float64`` for integers; `indices`, shape
        ``(m, k)``, is ``int64``. Of equal scores the lowest index comes first, and NaN
        comes before all numbers.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If the shapes do not fit each other, `weight` has no row, `k` is not from 1 to `n`, or
        `threads` is not positive.

    See Also
    --------
    logitkit.linear_argmax : The largest alone; its notes on error and types hold here too.
    logitkit.reference.linear_topk : The same in NumPy and ``float64``.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import linear_topk
    >>> weight = np.float32([[1.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
    >>> linear_topk(np.float32([[1.0, 1.0]]), weight, k=2)
    LargestScores(values=array([[3., 2.]], dtype=float32), indices=array([[1, 0]]))
    """
    if (functions := gpu_functions_for(x)) is not None:
        found: LargestScores = functions.linear_topk(x, weight, bias, k=k)
        return found
    x, weight, bias, result = _checked(x, weight, bias)
    if not 1 <= k <= len(weight):
        raise ValueError(f"expected k from 1 to the {len(weight)} rows of weight, not {k}")
    if x.dtype == np.float64:
        return _by_blocks(lambda rows: reference.linear_topk(rows, weight, bias, k=k), x, weight)
    values, indices = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
    _cpu.linear_topk(x, weight, bias, values, indices, threads=_checked_threads(threads))
    return LargestScores(values.astype(result, copy=False), indices)


def _checked(x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any, np.dtype[Any]]:
    """Return dense arrays of one type, float32 or float64, and the type of the result."""
    given = {"x": as_array(x), "weight": as_array(weight)}
    if bias is not None:
        given["bias"] = as_array(bias)
    for name, array in given.items():
        if not isinstance(array, (np.ndarray, np.generic)):
            raise TypeError(f"expected {name} in main memory, not a {type(array).__name__}")
        half = array.dtype.name == "bfloat16"
        if not half and (array.dtype.kind not in "biuf" or array.dtype.itemsize > 8):
            raise TypeError(
                f"expected {name} of real numbers of at most 64 bits, not {array.dtype}"
            )
    shapes = {name: array.shape for name, array in given.items()}
    n, d = shapes["weight"] if len(shapes["weight"]) == 2 else (0, 0)
    if n == 0 or len(shapes["x"]) != 2 or shapes["x"][1] != d or shapes.get("bias", (n,)) != (n,):
        raise ValueError(
            "expected x of shape (m, d), weight of shape (n, d) with n >= 1 and bias of shape "
            "(n,), not " + ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
        )
    result = np.result_type(*given.values())
    if result.kind in "biu":
        result = np.dtype(np.float64)
    compute = np.float64 if result == np.float64 else np.float32
    dense = {name: np.ascontiguousarray(array, compute) for name, array in given.items()}
    return dense["x"], dense["weight"], dense.get("bias"), result


def _checked_threads(threads: int | None) -> int:
    if threads is not None and whole_number("threads", threads) < 1:
        raise ValueError(f"expected threads >= 1 or None, not {threads}")
    return threads or 0


def _by_blocks(
    of_rows: Callable[[NDArray[np.float64]], LargestScores],
    x: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> LargestScores:
    size = max(1, _BLOCK // len(weight))
    blocks = [of_rows(x[i : i + size]) for i in range(0, max(1, len(x)), size)]
    return LargestScores(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))

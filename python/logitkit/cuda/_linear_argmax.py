"""Row maxima of a linear layer's scores, of arrays on a GPU, without storing the scores."""

from __future__ import annotations

from typing import Any

from ..reference import LargestScores
from ._arrays import (
    as_floating,
    compute_name,
    dense,
    dtype_name,
    empty,
    namespace_of,
    queue,
    with_wide_types,
)
from ._arrays import workspace as bytes_on_device
from ._device import kernels


@with_wide_types
def linear_argmax(
    x: Any, weight: Any, bias: Any = None, /, *, exact: bool = False
) -> LargestScores:
    r"""
    Maximum of each row of a linear layer's scores on a GPU, and its index.

    .. math:: v_i = \max_j s_{ij}, \quad s_{ij} = \sum_{k=1}^{d} x_{ik} w_{jk} + b_j

    Parameters
    ----------
    x : array on a GPU, shape (m, d)
        Rows of features: real numbers.
    weight : array on a GPU, shape (n, d)
        One row for each class, in the type of `x`, like all arguments; ``1 <= n < 2**31 - 256``.
    bias : array on a GPU, shape (n,), optional
        Added to the scores. Default: nothing is.
    exact : bool, default False
        Whether scores of ``float32`` are sums in that type, as on a processor, and not sums of
        products of shorter floats on tensor cores, which are faster.

    Returns
    -------
    LargestScores
        A named tuple. `values`, shape ``(m,)``, is in the type of `x`, or ``float64`` for
        integers; `indices`, shape ``(m,)``, is ``int64``. Of equal scores the first wins, and the
        first NaN before all.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or the arguments are not of one type.
    ValueError
        If the shapes do not fit each other, `weight` has no row, or the GPU does not multiply
        numbers of this type.

    See Also
    --------
    logitkit.linear_argmax : The same for arrays in main memory.

    Notes
    -----
    A score errs by at most :math:`c (d + 16) 2^{-23} \sum_k |x_{ik} w_{jk}|` with c = 3.5 in
    ``float32`` and 1.1 in half types, and by :math:`d 2^{-24} \sum_k |x_{ik} w_{jk}|` if `exact`;
    ``float64`` is always exact in this sense. It depends on the row of `x` and the row of
    `weight` alone.
    """
    largest = linear_topk(x, weight, bias, k=1, exact=exact)
    return LargestScores(largest.values[:, 0], largest.indices[:, 0])


@with_wide_types
def linear_topk(
    x: Any, weight: Any, bias: Any = None, /, *, k: int, exact: bool = False
) -> LargestScores:
    """
    Largest `k` of each row of a linear layer's scores on a GPU, and their indices.

    Parameters
    ----------
    x : array on a GPU, shape (m, d)
        Rows of features: real numbers.
    weight : array on a GPU, shape (n, d)
        One row for each class, in the type of `x`, like all arguments.
    bias : array on a GPU, shape (n,), optional
        Added to the scores. Default: nothing is.
    k : int
        How many scores to return for each row of `x`, from 1 to `n`. The scores are computed
        once for every 16 of them.
    exact : bool, default False
        As for `linear_argmax`, and so are the errors.

    Returns
    -------
    LargestScores
        A named tuple. `values`, shape ``(m, k)``, in descending order, is in the type of `x`, or
        ``float64`` for integers; `indices`, shape ``(m, k)``, is ``int64``. Of equal scores the
        lowest index comes first, and NaN comes before all numbers.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or the arguments are not of one type.
    ValueError
        If the shapes do not fit each other, `weight` has no row, `k` is not from 1 to `n`, or the
        GPU does not multiply numbers of this type.

    See Also
    --------
    logitkit.linear_topk : The same for arrays in main memory.
    """
    x, weight, bias = checked_layer(x, weight, bias)
    rows, classes = x.shape[0], weight.shape[0]
    if not 1 <= k <= classes:
        raise ValueError(f"expected k from 1 to the {classes} rows of weight, not {k}")
    values = empty((rows, k), compute_name(x), x)
    indices = empty((rows, k), "int64", x)
    memory = bytes_on_device(kernels().linear_topk_workspace(rows, classes, k), x)
    queue(kernels().linear_topk, x, weight, bias, values, indices, memory, exact=exact)
    return LargestScores(namespace_of(x).astype(values, x.dtype), indices)


def checked_layer(x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Return dense arrays of one type that the kernels read; raise an error if they do not fit."""
    given = {"x": as_floating(x), "weight": as_floating(weight)}
    if bias is not None:
        given["bias"] = as_floating(bias)
    types = {name: dtype_name(array) for name, array in given.items()}
    if len(set(types.values())) > 1:
        raise TypeError(
            "expected arrays of one type, not "
            + ", ".join(f"{name} of {dtype}" for name, dtype in types.items())
        )
    shapes = {name: tuple(array.shape) for name, array in given.items()}
    n, d = shapes["weight"] if len(shapes["weight"]) == 2 else (0, 0)
    if n == 0 or len(shapes["x"]) != 2 or shapes["x"][1] != d or shapes.get("bias", (n,)) != (n,):
        raise ValueError(
            "expected x of shape (m, d), weight of shape (n, d) with n >= 1 and bias of shape "
            "(n,), not " + ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
        )
    arrays = {name: dense(array) for name, array in given.items()}
    return arrays["x"], arrays["weight"], arrays.get("bias")

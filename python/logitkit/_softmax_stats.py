"""Log-sum-exp, entropy, maximum and sum of squares of a softmax, in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _cpu
from ._backend import as_array, bridge_for
from ._lines import Lines, compute_type, delivered, normalized, plain, reduced, result_type
from ._real_array import real_number
from .reference import SoftmaxStats


def softmax_stats(
    x: Any, axis: int | tuple[int, ...] | None = -1, *, scale: float = 1.0
) -> SoftmaxStats:
    r"""
    Log-sum-exp, entropy, maximum and sum of squares of a softmax, in one pass.

    .. math:: z = \lambda x, \quad p_i = \frac{e^{z_i}}{\sum_{j=1}^{n} e^{z_j}}

    What diagnoses the sharpness of classes or of attention, with :math:`\lambda` = `scale`,
    for about the price of `logsumexp`: probabilities are not stored.

    Parameters
    ----------
    x : array_like, shape (..., n, ...)
        Logits, in nats: real numbers of at most 64 bits. ``-inf`` masks an element.
    axis : int or tuple of ints, optional
        The axis, or the axes, of `n` elements in all; None stands for all of them.
    scale : float, optional
        Multiplies `x`: a finite number that is not negative. What ``-inf`` masks stays masked,
        even where it is zero.

    Returns
    -------
    SoftmaxStats
        A named tuple of arrays of the shape of `x` without `axis`, or of scalars, in the
        floating-point type of `x`, or in ``float64`` if it has none:

        - `logsumexp`: :math:`\log \sum_i e^{z_i}`, in nats;
        - `entropy`: :math:`-\sum_i p_i \log p_i`, in nats, from 0 to :math:`\log n`;
        - `max`: :math:`\max_i z_i`;
        - `sum_of_squares`: :math:`\sum_i p_i^2`, from :math:`1 / n` to 1.

        An empty or fully masked line gives ``-inf``, 0, ``-inf`` and 0. One with ``+inf``
        gives ``inf``, NaN, ``inf`` and NaN; one with NaN gives NaN throughout.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers of at most 64 bits in main memory.
    ValueError
        If `scale` is negative, infinite or NaN.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.logsumexp : The first alone.
    logitkit.reference.softmax_stats : The same in NumPy and ``float64``.

    Notes
    -----
    The largest probability is ``exp(max - logsumexp)``, and ``exp(entropy)`` and
    ``1 / sum_of_squares`` count the elements that matter [1]_.

    The errors of `logsumexp` and `entropy`, and that of `sum_of_squares` relative to it, are at
    most :math:`\varepsilon (1 + \max_i |z_i| + \log n)`, the maximum being that of finite
    elements, where :math:`\varepsilon` is ``2**-22`` in ``float32``, which half types are computed
    in too, and ``2**-50`` in ``float64``.

    References
    ----------
    .. [1] M. O. Hill, "Diversity and evenness: a unifying notation and its consequences",
       Ecology 54(2), 1973.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import softmax_stats
    >>> stats = softmax_stats(np.log([[1.0, 1.0, 2.0], [1.0, 0.5, 0.5]]))
    >>> stats.entropy / np.log(2.0)
    array([1.5, 1.5])
    >>> stats.sum_of_squares
    array([0.375, 0.375])
    """
    if (bridge := bridge_for(x)) is not None:
        stats: SoftmaxStats = bridge.softmax_stats(x, axis, scale=scale)
        return stats
    scale = real_number("scale", scale)
    if not 0.0 <= scale < math.inf:
        raise ValueError(f"expected 0 <= scale < inf, not {scale}")
    if short := plain(x, axis):
        dense, line = short
        shape = dense.shape[:line] + dense.shape[line + 1 :]
        results = [np.empty(shape, dense.dtype) for _ in SoftmaxStats._fields]
        _cpu.softmax_stats(dense, line, scale, *results)
        return SoftmaxStats(*results) if shape else SoftmaxStats(*(value[()] for value in results))
    return _of_lines(as_array(x), axis, scale)


def _of_lines(x: Any, axis: Any, scale: float) -> SoftmaxStats:
    """Return the result for any layout and type."""
    dtype = result_type(x)
    compute = compute_type(dtype)
    if compute is None:
        raise TypeError(f"expected real numbers of at most 64 bits, not {dtype}")
    x = np.atleast_1d(x)
    axes = normalized(axis, x.ndim)
    lines = Lines.of(x, axes, compute)
    outer, _, inner = lines.array.shape
    results = np.empty((4, outer * inner), compute)
    _cpu.softmax_stats(lines.array, 1, scale, *results)
    kept, shape = reduced(x.shape, axes, keepdims=True), reduced(x.shape, axes, keepdims=False)
    unfolded = (lines.unfold(result, kept).reshape(shape) for result in results)
    return SoftmaxStats(*(delivered(result, None, dtype) for result in unfolded))

"""Draws from the softmax of tensors, which have no derivatives."""

from typing import Any

import torch
from numpy.typing import ArrayLike

from .. import cuda, random
from ..reference import LargestScores
from ._tensors import as_tensor, compute_type, elements, result_type


def gumbel_argmax(logits: Any, rng: Any, axis: int = -1, *, rows: ArrayLike | None = None) -> Any:
    """
    Draw a class from the softmax of a tensor of logits.

    Parameters
    ----------
    logits : Tensor, shape (..., n, ...)
        Logits, in nats. ``-inf`` masks a class.
    rng : int or Philox
        A seed, or a generator.
    axis : int, optional
        The axis of the `n` classes.
    rows : array_like of int64, optional
        An id for each line, as in ``logitkit.random.gumbel_argmax``.

    Returns
    -------
    Tensor of int64
        The indices of the classes, in the shape of `logits` without `axis`.

    See Also
    --------
    logitkit.random.gumbel_argmax : The same for arrays.
    """
    if logits.is_cuda:
        return cuda.gumbel_argmax(logits.detach(), rng, axis, rows=rows)
    return as_tensor(random.gumbel_argmax(_array(logits), rng, axis, rows=rows))


def gumbel_top_k(
    logits: Any, k: int, rng: Any, axis: int = -1, *, rows: ArrayLike | None = None
) -> LargestScores:
    """
    Draw `k` classes from the softmax of a tensor of logits, without replacement.

    Parameters
    ----------
    logits : Tensor, shape (..., n, ...)
        Logits, in nats. ``-inf`` masks a class.
    k : int
        How many classes, from 1 to `n`.
    rng : int or Philox
        A seed, or a generator.
    axis : int, optional
        The axis of the `n` classes.
    rows : array_like of int64, optional
        An id for each line, as in ``logitkit.random.gumbel_argmax``.

    Returns
    -------
    LargestScores
        A named tuple of tensors, as ``logitkit.random.gumbel_top_k`` explains.

    See Also
    --------
    logitkit.random.gumbel_top_k : The same for arrays.
    """
    if logits.is_cuda:
        return cuda.gumbel_top_k(logits.detach(), k, rng, axis, rows=rows)
    drawn = random.gumbel_top_k(_array(logits), k, rng, axis, rows=rows)
    return LargestScores(as_tensor(drawn.values).to(result_type(logits)), as_tensor(drawn.indices))


def _array(logits: Any) -> Any:
    with torch.no_grad():
        return elements("logits", logits.to(compute_type(result_type(logits))))

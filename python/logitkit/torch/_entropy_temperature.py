"""The temperature at which a softmax of a tensor has a given entropy."""

from typing import Any

import torch

from .. import _entropy_temperature
from .._lines import one_axis
from .._real_array import real_array
from ._log_arithmetic import below_maximum
from ._operator import operator
from ._softmax import probabilities
from ._tensors import as_array, as_tensor, compute_type, is_direct, kept, lines, result_type

_INF = float("inf")


class EntropyTemperature:
    name = "entropy_temperature"
    schema = "(Tensor x, Tensor target, SymInt[] dim) -> Tensor"

    @staticmethod
    def compute(x: Any, target: Any, dim: Any) -> Any:
        (axis,) = dim
        goals = as_array(target.squeeze(axis))
        temperature = _entropy_temperature.entropy_temperature(as_array(x), goals, axis)
        return as_tensor(temperature).unsqueeze(axis).contiguous()

    @staticmethod
    def fake(x: Any, target: Any, dim: Any) -> Any:
        return x.new_empty(kept(x, dim))

    @staticmethod
    def pullback(x: Any, target: Any, dim: Any, g: Any) -> Any:
        at_x, at_target = _slopes(x, target, dim)
        return g * at_x, (g * at_target).to(target.dtype)

    @staticmethod
    def pushforward(x: Any, target: Any, dim: Any, t: Any, u: Any) -> Any:
        at_x, at_target = _slopes(x, target, dim)
        tangent = torch.zeros_like(at_target)
        if t is not None:
            t = t.masked_fill(x == -_INF, 0.0)  # which may be infinite there
            tangent = tangent + (at_x * t).sum(dim, keepdim=True)
        return tangent if u is None else tangent + at_target * u.to(x.dtype)


entropy_temperature_op = operator(EntropyTemperature)


def _slopes(x: Any, target: Any, dim: Any) -> tuple[Any, Any]:
    """
    Return the gradients with respect to `x` and to the target, by implicit differentiation.

    They are p (z - mean) / v and tau / v, where z = x / tau and v is its variance under its
    softmax p; zero where the entropy does not fix the temperature.
    """
    tau = entropy_temperature_op(x, target, dim)
    free = (tau == 0.0) | (tau == _INF)
    tau = tau.masked_fill(free, 1.0)
    masked = x == -_INF
    z = below_maximum(x, dim).masked_fill(masked, 0.0) / tau  # -inf / tau has no derivative
    p = probabilities(z.masked_fill(masked, -_INF), dim)
    centred = (z - (p * z).sum(dim, keepdim=True)).masked_fill(masked, 0.0)
    variance = (p * centred * centred).sum(dim, keepdim=True)
    variance = variance.masked_fill(free | (variance == 0.0), _INF)
    return p * centred / variance, tau / variance


def entropy_temperature(x: Any, target_entropy: Any, axis: int = -1) -> Any:
    r"""
    Temperature at which a softmax of a tensor has a given entropy.

    .. math:: \tau > 0: \quad H(\operatorname{softmax}(x / \tau)) = H^*

    Parameters
    ----------
    x : Tensor, shape (..., n, ...)
        Logits: real numbers; ``-inf`` masks an entry, which does not count in `n`.
    target_entropy : Tensor, shape of `x` without `axis`, or a number
        The entropy :math:`H^*` that each row shall have, in nats: between ``log(k)`` and
        ``log(n)``, where `k` entries share the row's maximum.
    axis : int, default -1
        The axis of the `n` entries.

    Returns
    -------
    Tensor, shape of `x` without `axis`
        Temperatures, in units of `x` and in its floating-point type, or in the default one,
        with derivatives by the implicit function theorem. These are zero where the entropy
        does not fix the temperature.

    Raises
    ------
    TypeError
        If an argument is not a dense tensor of real numbers in main memory.
    ValueError
        If a target cannot be reached.
    RuntimeError
        If `target_entropy` cannot be broadcast to the rows of `x`.
    numpy.exceptions.AxisError
        If `x` has no such `axis`.

    See Also
    --------
    logitkit.entropy_temperature : The same for arrays; its notes hold here too.

    Examples
    --------
    >>> import torch
    >>> from logitkit import entropy_temperature, softmax_stats
    >>> x = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    >>> tau = entropy_temperature(x, 1.0)
    >>> torch.round(softmax_stats(x / tau[:, None]).entropy, decimals=12).tolist()
    [1.0]
    """
    dtype = result_type(x)
    if isinstance(target_entropy, (int, float)):
        target_entropy = torch.full((), target_entropy, dtype=torch.float64)
    elif not isinstance(target_entropy, torch.Tensor):
        target_entropy = as_tensor(real_array("target_entropy", target_entropy)).to(x.device)
    target = target_entropy.to(compute_type(result_type(target_entropy)))
    if x.dtype != compute_type(dtype):
        return entropy_temperature(x.to(compute_type(dtype)), target, axis).to(dtype)
    y, dim, _ = lines(x, one_axis(axis, x.dim()))
    (line,) = dim
    rows = (*y.shape[:line], *y.shape[line + 1 :])
    try:
        target = target.broadcast_to(rows)
    except RuntimeError:
        raise ValueError(
            f"cannot broadcast target_entropy of shape {tuple(target.shape)} to the rows of x, {rows}"
        ) from None
    if is_direct(y) and is_direct(target):
        return as_tensor(
            _entropy_temperature.entropy_temperature(as_array(y), as_array(target), line)
        )
    return entropy_temperature_op(y, target.unsqueeze(line), dim).squeeze(line)

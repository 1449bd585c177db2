"""Cross-entropy of the logits of a linear layer, which are not stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ._class_rows import class_weight
from ._layer_arguments import (
    check_layer,
    computing,
    labels_and_targets,
    layer_numbers,
    operators_for,
    type_of,
)
from ._layer_kernel import (
    LayerArrays,
    LayerNumbers,
    row_stats,
    row_values,
    values_and_gradients,
)
from ._namespace import cast, like, namespace_of
from ._reduction import Reduction, Weighting
from ._terms import Undo, loss

# The gradients that there are, by the position of their argument; bias is the first of those
# that are given by name.
GRADIENTS = {0: "input", 1: "linear_weight", 3: "linear_bias"}


@dataclass(frozen=True)
class LayerTerms:
    """
    The rows of a linear layer with one value each.

    Parameters
    ----------
    arrays : LayerArrays
        What the values depend on.
    numbers : LayerNumbers
        Softcap, label smoothing and z-loss.
    weighting : Weighting
        How the values become a loss.
    shape : tuple of int
        The shape of the values.
    dtype : dtype
        The type of the loss.
    undo : mapping
        By position, what makes the gradient of an argument out of that of its array.
    """

    arrays: LayerArrays
    numbers: LayerNumbers
    weighting: Weighting
    shape: tuple[int, ...]
    dtype: Any
    undo: Mapping[int, Undo]

    def value(self) -> Any:
        """Return the loss."""
        if (bridge := operators_for(self.arrays.input)) is not None:
            return cast(bridge.layer_loss(self), self.dtype)
        values = row_values(self.arrays, self.numbers).reshape(self.shape)
        return cast(self.weighting.reduced(values), self.dtype)

    def value_and_grad(self, argnums: tuple[int, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Return the loss and its gradients, by one pass."""
        for i in argnums:
            if i not in self.undo:
                names = ", ".join(f"{k} ({GRADIENTS[k]})" for k in self.undo)
                raise ValueError(f"expected argnums of {names}, not {i}")
        g = self.weighting.cotangent(np.zeros(self.shape)).reshape(-1)
        values, gradients = values_and_gradients(self.arrays, self.numbers, g, argnums)
        total = self.weighting.reduced(values.reshape(self.shape))
        return cast(total, self.dtype), tuple(self.undo[i](gradients[i]) for i in argnums)

    def value_and_stats(self) -> tuple[Any, tuple[Any, ...]]:
        """Return the loss, and statistics of the rows by the same pass; constants of tensors."""
        labels, targets = self.arrays.labels, self.arrays.targets
        if (bridge := operators_for(self.arrays.input)) is not None:
            found = bridge.layer_stats(self.arrays, self.numbers)
            value = self.value()
        else:
            found = row_stats(self.arrays, self.numbers, aux=True)
            values = row_values(self.arrays, self.numbers, found).reshape(self.shape)
            value = cast(self.weighting.reduced(values), self.dtype)
        right = found.best == (labels if targets is None else targets.argmax(-1))
        xp, lse = namespace_of(found.logsumexp), found.logsumexp
        results = (
            cast(xp.where(labels < 0, xp.zeros_like(lse), r), self.dtype)
            for r in (lse, cast(right, lse.dtype), found.entropy)
        )
        return value, tuple(r.reshape(self.shape) for r in results)


@loss
def linear_cross_entropy(
    input: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    softcap: float | None = None,
    weight: Any = None,
    mask: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    denominator: float | None = None,
) -> LayerTerms:
    r"""
    Cross-entropy of the logits of a linear layer, which are not stored.

    .. math::
        s = x W^\top + b, \qquad -\sum_j w_j t_j \log p_j, \qquad p = \operatorname{softmax}(s)

    The last layer of a language model and its loss in one: what takes the memory of a training
    step, `m` rows of logits of `n` classes, is not there. Rows that are left out are not computed.

    Parameters
    ----------
    input : array_like or Tensor, shape (..., d)
        Features `x` of the rows.
    linear_weight : array_like or Tensor, shape (n, d)
        A row of `W` for each class, as in ``torch.nn.Linear``.
    target : array_like or Tensor, shape (...) or (..., n)
        The true class of each row, or probabilities `t` of the classes, which sum to 1.
    linear_bias : array_like or Tensor, shape (n,), optional
        Added to the logits; ``-inf`` hides a class.
    softcap : float, optional
        Logits become :math:`c \tanh(s / c)`, and so lie between `-c` and `c`.
    weight : array_like or Tensor, shape (n,), optional
        Weights of the classes, which may be negative. A mean divides by those of the classes in
        `target`, as in PyTorch.
    mask : array_like or Tensor of bool, optional
        Which rows count, broadcast against the values. Others may hold anything, even NaN.
    ignore_index : int or None, default -100
        A class in `target` for rows that do not count.
    label_smoothing : float, default 0
        How much of each target to spread over all classes.
    z_loss : float, default 0
        Factor of the square of log-sum-exp, which is added to the value of each row. `weight`
        does not multiply it, though a mean divides the sum of both by its weights.
    <rows>

    <returns>

    See Also
    --------
    linear_cross_entropy_with_aux : The same with log-sum-exp, accuracy and entropy of each row.
    cross_entropy : The same of logits.

    Notes
    -----
    `value_and_grad` gives gradients for the arguments 0 and 1, and for 3, which is
    `linear_bias`. It computes logits once, for as many rows at a time as fit 36 MiB, or for 48
    rows if they take more. So does a tensor's loss in the forward pass, unless `reduction` is
    "none" or a function: then the backward pass computes them again. Derivatives beyond the first
    store all logits.

    With u = ``2**-24`` in ``float32``, which half types are computed in too, and ``2**-53`` in
    ``float64``, the error of a value is at most that of its logits,
    :math:`u (4 \sqrt{d} \sum_k |x_k W_{jk}| + 4 |b_j| + 2 |s_j|)` for the largest `j`, and
    :math:`128 u (1 + \sum_j w_j t_j)`. The bits of a row's value depend on the row, the layer
    and the instruction set alone, and gradients do not depend on the number of threads.

    References
    ----------
    .. [1] E. Wijmans et al., "Cut your losses in large-vocabulary language models",
       arXiv:2411.09009, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import losses
    >>> weight = np.log([[0.5], [0.25], [0.25]])
    >>> float(np.exp(-losses.linear_cross_entropy(np.ones((1, 1)), weight, [1])).round(12))
    0.25
    >>> step = losses.value_and_grad(losses.linear_cross_entropy, (0, 1))
    >>> _, (of_input, of_weight) = step(np.ones((1, 1)), weight, [1])
    >>> of_weight
    array([[ 0.5 ],
           [-0.75],
           [ 0.25]])
    """
    numbers = layer_numbers(softcap, label_smoothing, z_loss)
    named = {
        "input": input,
        "linear_weight": linear_weight,
        "linear_bias": linear_bias,
    }
    given = {name: x for name, x in named.items() if x is not None}
    computed, dtype = computing(given)
    x, layer, bias = computed["input"], computed["linear_weight"], computed.get("linear_bias")
    check_layer(x, layer, bias)
    labels, targets, kept = labels_and_targets(x, len(layer), target, mask, ignore_index)
    norm = None
    if weight is not None:
        weight = class_weight(weight, x, len(layer))
        norm = None if targets is not None else weight[labels.clip(0)]
    if sample_weight is not None:
        sample_weight = like("sample_weight", sample_weight, x)
    shape = tuple(x.shape[:-1])
    arrays = LayerArrays(
        x.reshape(math.prod(shape), x.shape[-1]),
        layer,
        bias,
        labels.reshape(math.prod(shape)),
        None if targets is None else targets.reshape(math.prod(shape), len(layer)),
        weight,
    )

    def undo(name: str, gradient: Any) -> Any:
        return cast(gradient.reshape(named[name].shape), type_of(named[name], dtype))

    wanted = {i: partial(undo, name) for i, name in GRADIENTS.items() if name in given}
    weighting = Weighting(reduction, sample_weight, kept, norm, denominator)
    return LayerTerms(arrays, numbers, weighting, shape, dtype, wanted)

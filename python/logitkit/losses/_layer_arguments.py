"""Arguments of the cross-entropy of a linear layer: checked, and in the type to compute in."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._lines import compute_type
from .._lines import result_type as result_type_of
from .._real_array import real_array, real_number
from ._class_rows import check_classes, check_distribution, class_numbers, kept_rows
from ._layer_kernel import LayerNumbers
from ._namespace import cast, integers, is_bool, is_floating, namespace_of, tensors_for


def operators_for(x: Any) -> Any:
    """Return the module with the operators of PyTorch if `x` is a tensor, else None."""
    if tensors_for(x) is None:
        return None
    from ..torch import _linear_cross_entropy  # a plain statement, which torch.compile can follow

    return _linear_cross_entropy


def computing(arrays: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the arrays that are not None in the type to compute in, and the type of results."""
    if (bridge := operators_for(arrays["input"])) is not None:
        return bridge.computing(arrays)  # type: ignore[no-any-return]
    given = {name: real_array(name, x) for name, x in arrays.items()}
    dtype = result_type_of(*given.values())
    compute = compute_type(dtype)
    return {
        name: np.ascontiguousarray(x, compute).reshape(x.shape) for name, x in given.items()
    }, dtype


def check_layer(x: Any, weight: Any, bias: Any) -> None:
    """Raise an error if the arrays of a layer do not fit each other."""
    if weight.ndim != 2:
        raise ValueError(
            f"expected linear_weight of shape (n, d), not {tuple(weight.shape)}: a class for each "
            "row"
        )
    n, d = weight.shape
    if x.ndim == 0 or x.shape[-1] != d:
        raise ValueError(
            f"expected input of shape (..., {d}), as linear_weight has {d} columns, "
            f"not {tuple(x.shape)}"
        )
    if n == 0:
        raise ValueError("expected at least one row of linear_weight")
    if bias is not None and tuple(bias.shape) != (n,):
        raise ValueError(f"expected linear_bias of shape ({n},), not {tuple(bias.shape)}")


def labels_and_targets(
    x: Any, n: int, target: Any, mask: Any, ignore_index: int | None
) -> tuple[Any, Any, Any]:
    """Return labels, -1 for rows that are left out, targets or None, and which rows count."""
    xp, t = namespace_of(x), integers("target", target, x)
    rows = tuple(x.shape[:-1])
    if tuple(t.shape) not in (rows, (*rows, n)):
        raise ValueError(
            f"expected target of shape {rows}, a class for each row of input, or {(*rows, n)}, "
            f"probabilities, not {tuple(t.shape)}"
        )
    kept = kept_rows(x, t, mask, ignore_index)
    if t.ndim == x.ndim:
        if kept is not None:
            t = xp.where(kept[..., None], t, xp.full_like(t, 1.0 / n))
        check_distribution(t, t.ndim - 1, target)
        labels = xp.zeros(rows, dtype=xp.int64)
        targets = cast(t, x.dtype)
    else:
        if is_floating(t) or is_bool(t):
            raise TypeError(f"expected target of integers, the number of each class, not {t.dtype}")
        labels, targets = cast(t, xp.int64), None
        check_classes(
            labels if kept is None else xp.where(kept, labels, xp.zeros_like(labels)),
            n,
            ignore_index,
        )
    if kept is not None:
        labels = xp.where(kept, labels, xp.full_like(labels, -1))
    return labels, targets, kept


def type_of(x: Any, dtype: Any) -> Any:
    """Return the type of an argument, or that of results if it has no fractions."""
    given = getattr(x, "dtype", None)
    return dtype if given is None or not is_floating(x) else given


def layer_numbers(softcap: float | None, label_smoothing: float, z_loss: float) -> LayerNumbers:
    """Return the numbers, checked."""
    label_smoothing, z_loss = class_numbers(label_smoothing, z_loss)
    if softcap is not None and not 0.0 < real_number("softcap", softcap) < np.inf:
        raise ValueError(f"expected softcap > 0 and finite, or None, not {softcap}")
    return LayerNumbers(0.0 if softcap is None else float(softcap), label_smoothing, z_loss)

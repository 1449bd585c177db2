"""One step of a diffusion sampler on tensors, in one pass over memory."""

from typing import Any

import torch

from .. import _diffusion_update, cuda
from ._tensors import as_array, as_tensor


def diffusion_update(x: Any, y: Any = None, /, *, out: Any = None, **options: Any) -> Any:
    """
    Combine two tensors and noise in one pass.

    Parameters
    ----------
    x : Tensor of float32 or float64, on a GPU also of a half type, shape (n, ...)
        One sample in each row.
    y : Tensor, optional
        Of the type and shape of `x`.
    out : Tensor, optional
        Where to write; may be `x` or `y`.
    **options : object
        The other arguments of ``logitkit._diffusion_update.diffusion_update``.

    Returns
    -------
    Tensor
        Of the type and shape of `x`; `out` if that is given.
    """
    if torch.is_grad_enabled() and any(getattr(v, "requires_grad", False) for v in (x, y)):
        raise RuntimeError(
            "diffusion_update() has no derivatives, but an argument requires grad: call it under "
            "torch.no_grad(), or pass x.detach()"
        )
    if x.is_cuda:
        return cuda.diffusion_update(x, y, out=out, **options)
    result = _diffusion_update.diffusion_update(
        as_array(x),
        None if y is None else as_array(y),
        out=None if out is None else as_array(out),
        **options,
    )
    return as_tensor(result) if out is None else out

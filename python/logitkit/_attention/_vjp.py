"""The gradient of attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cpu
from .._backend import as_array, bridge_for
from ..reference import AttentionGradients, AttentionResult
from ..reference._attention_scale import AttentionScale
from ._forward import Window, as_bits, computed, options_of
from ._layout import Layout, as_float64
from ._problem import Problem, prepared


def attention_vjp(
    query: Any,
    key: Any,
    value: Any,
    grad_output: Any,
    /,
    *,
    grad_logsumexp: Any = None,
    grad_entropy: Any = None,
    result: AttentionResult | None = None,
    mask: Any = None,
    bias: Any = None,
    is_causal: bool = False,
    causal_alignment: Literal["upper_left", "lower_right"] = "upper_left",
    window: Window | None = None,
    scale: float | ArrayLike | AttentionScale | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    sinks: ArrayLike | None = None,
    query_offsets: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    key_lengths: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    cu_seqlens_q: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    cu_seqlens_k: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    threads: int | None = None,
) -> AttentionGradients:
    r"""
    Gradient of attention with respect to all that goes into it.

    That of the sum of ``grad_output * output``, ``grad_logsumexp * logsumexp`` and
    ``grad_entropy * entropy``, from the gradient of the logits:

    .. math:: \frac{\partial}{\partial z_{ij}} = p_{ij} \Big( \langle g_i, v_j \rangle
              - \langle g_i, o_i \rangle + g^L_i - g^H_i (\log p_{ij} + H_i) \Big)

    Parameters
    ----------
    query : array_like, shape (..., heads, length, head_dim)
        Queries, of ``float16``, ``bfloat16``, ``float32`` or ``float64`` like `key` and
        `value`. With `cu_seqlens_q`: shape (total, heads, head_dim).
    key : array_like, shape (..., key_heads, keys, head_dim)
        Keys. `key_heads` divides `heads`, and each key head serves as many consecutive heads of
        queries; the axes before are broadcast. With `cu_seqlens_k`: shape (total_keys, key_heads,
        head_dim).
    value : array_like, shape (..., key_heads, keys, value_dim)
        Values, like `key` but for the last axis.
    grad_output : array_like, shape of the output
        The gradient that comes in, converted to the type of `query`.
    grad_logsumexp : array_like, shape of the output without its last axis, optional
        The gradient with respect to the log-sum-exp. Default: 0.
    grad_entropy : array_like, shape of the output without its last axis, optional
        The gradient with respect to the entropy. Default: 0.
    result : AttentionResult, optional
        What :func:`logitkit.attention_with_stats` gave for the same arguments, if it is at
        hand. Default: it is computed once more.
    mask : array_like, optional
        Of bool, where true means that the query may see the key; or of floats, which are added
        to the logits, and where ``-inf`` hides. It broadcasts to (..., heads, length, keys).
    bias : array_like, optional
        Floats that are added to the logits like a float `mask`.
    is_causal : bool
        Whether a query sees no key after its own position.
    causal_alignment : {'upper_left', 'lower_right'}
        Where the first query stands: at the first key, as in torch; or so that the last query
        stands at the last key, as in flash-attention.
    window : tuple of int or None, optional
        ``(left, right)``: a query sees so many keys before its position and after it; None is
        no limit.
    scale : float, array_like or AttentionScale, optional
        What ``query @ key.T`` is multiplied by: one number, one for each head, one for each row
        (in the shape of the statistics, at least two axes), or a schedule, which finds it from
        the number of keys that the row sees after all masks. Default: ``1 / sqrt(head_dim)``.
    softcap : float, optional
        Bounds the scaled scores: ``softcap * tanh(score / softcap)``.
    alibi_slopes : array_like, shape (heads,), optional
        Slope times the distance of query and key is subtracted from the logits.
    sinks : array_like, shape (heads,), optional
        The logit of one more key, which is always visible and whose value is 0.
    query_offsets : array_like of int, shape (batch,), optional
        The position of each sequence's first query among its keys, instead of what
        `causal_alignment` says.
    key_lengths : array_like of int, shape (batch,), optional
        How many of each sequence's keys there are; the others are not read.
    cu_seqlens_q : array_like of int, shape (batch + 1,), optional
        Where the sequences begin in a packed `query`, and its length.
    cu_seqlens_k : array_like of int, shape (batch + 1,), optional
        The same for `key` and `value`.
    threads : int, optional
        At most so many threads. Default: one for each processor that this process may use,
        or ``LOGITKIT_NUM_THREADS``.

    Returns
    -------
    AttentionGradients
        A named tuple of `query`, `key` and `value` in the shapes and the type of the arguments;
        `bias` in its shape and type, `sinks` in ``float64``, both None where not given; and
        `scale`, in ``float64``: of the shape of `scale`, or of the parameter of its schedule,
        None if there is no such thing. Rows that see nothing give nothing.

    Raises
    ------
    TypeError
        If the arrays are not of one of the types, all the same, in main memory.
    ValueError
        If shapes do not fit each other, or a length, window or threshold is out of range; the
        message names the shapes.

    See Also
    --------
    logitkit.attention_with_stats : What this is the gradient of.
    logitkit.reference.attention_vjp : The same in NumPy and ``float64``.
    logitkit.torch.attention_vjp : The same for tensors, which may be passed here too.

    Notes
    -----
    The weights are computed again from the log-sum-exp, a tile at a time. The order of all sums
    is fixed, so that results are the same, bit by bit, for any number of threads. Memory beyond
    the results is that of the gradients of `key` and `value` in ``float32`` or ``float64``, and
    with `bias` the scores of one batch.

    References
    ----------
    .. [1] T. Dao, "FlashAttention-2: faster attention with better parallelism and work
       partitioning", arXiv:2307.08691, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from logitkit import attention_vjp
    >>> x = np.eye(2)
    >>> attention_vjp(x, x, x, np.ones((2, 2)), is_causal=True).value.round(3)
    array([[1.33, 1.33],
           [0.67, 0.67]])
    """
    options = {**options_of(locals()), "block_table": None}
    for name in ("grad_output", "grad_logsumexp", "grad_entropy", "result"):
        del options[name]
    incoming = (grad_output, grad_logsumexp, grad_entropy)
    if (bridge := bridge_for(query)) is not None:
        gradients: AttentionGradients = bridge.attention_vjp(
            query,
            key,
            value,
            grad_output,
            grad_logsumexp=grad_logsumexp,
            grad_entropy=grad_entropy,
            result=result,
            **options,
        )
        return gradients
    problem = prepared(query, key, value, options, counted=result is None)
    if result is None:
        result = computed(problem, stats=True)
    raw = pulled_back(problem, result, *incoming, bias=bias, wants_scale=scale is not None)
    layout = problem.layout
    return AttentionGradients(
        _as_given(layout, raw.query, query),
        _as_given(layout, raw.key, key),
        _as_given(layout, raw.value, value),
        None if raw.bias is None else raw.bias.astype(as_array(bias).dtype),
        raw.sinks,
        None if raw.scale is None else _of_scale(problem, scale, raw.scale),
    )


def pulled_back(
    problem: Problem,
    result: AttentionResult,
    grad_output: Any,
    grad_logsumexp: Any,
    grad_entropy: Any,
    *,
    bias: Any,
    wants_scale: bool,
) -> AttentionGradients:
    """
    Call the kernel, and return gradients as it lays them out: (batch, head, row, ...).

    That of the scale is one for each row. A gradient of `bias` is wanted if that is not None.
    """
    layout = problem.layout
    incoming = _Incoming(layout, result, grad_output, grad_logsumexp, grad_entropy)
    arrays = (layout.query, layout.key, layout.value)
    new = np.empty if layout.all_in_sequences else np.zeros  # the kernel writes no others
    grad_query, grad_key, grad_value = (new(x.shape, x.dtype) for x in arrays)
    grad_rows = np.zeros(layout.rows, layout.compute) if wants_scale else None
    outgoing = [as_bits(grad_query), as_bits(grad_key), as_bits(grad_value), grad_rows]
    grad_bias = None
    if bias is None:
        _run(problem, incoming, outgoing, None)
    else:  # a batch at a time, for only one has to be as large as the scores
        grad_bias = np.zeros(np.shape(bias))
        for b in range(layout.rows[0]):
            part = problem.batch(b)
            grad_logits = np.zeros(
                (*part.layout.query.shape[:3], layout.key.shape[2]), layout.compute
            )
            one = [x if x is None else x[b : b + 1] for x in outgoing]
            _run(part, incoming.batch(b), one, grad_logits)
            _add_to_bias(grad_bias, grad_logits[0], b, layout)
    grad_sinks = None if problem.sinks is None else _of_sinks(problem, incoming)
    return AttentionGradients(grad_query, grad_key, grad_value, grad_bias, grad_sinks, grad_rows)


class _Incoming:
    """What the kernel reads: (batch, head, row), and (batch, head, row, dim)."""

    def __init__(
        self,
        layout: Layout,
        result: AttentionResult,
        grad_output: Any,
        grad_logsumexp: Any,
        grad_entropy: Any,
    ) -> None:
        output = as_array(result.output)
        expected = (*layout.row_shape, layout.value.shape[3])
        if output.shape != expected:
            raise ValueError(f"expected a result of shape {expected}, not {output.shape}")
        grad = as_array(grad_output)
        if grad.shape != output.shape:
            raise ValueError(
                f"expected grad_output of the shape of the output, {output.shape}, not {grad.shape}"
            )
        grad = np.ascontiguousarray(grad, layout.dtype)
        self.out = layout.kernel_matrix(np.ascontiguousarray(output, layout.dtype))
        self.grad_out = layout.kernel_matrix(grad)
        self.rows: dict[str, NDArray[Any] | None] = {}
        for name, x in (
            ("logsumexp", result.logsumexp),
            ("entropy", None if grad_entropy is None else result.entropy),
            ("grad_logsumexp", grad_logsumexp),
            ("grad_entropy", grad_entropy),
        ):
            if x is not None and np.shape(x) not in ((), output.shape[:-1]):
                raise ValueError(f"expected {name} of shape {output.shape[:-1]}, not {np.shape(x)}")
            rows = None if x is None else layout.kernel_rows(np.asarray(x, layout.compute))
            self.rows[name] = rows

    def batch(self, b: int) -> _Incoming:
        part = object.__new__(_Incoming)
        part.out, part.grad_out = self.out[b : b + 1], self.grad_out[b : b + 1]
        part.rows = {name: None if x is None else x[b : b + 1] for name, x in self.rows.items()}
        return part


def _run(problem: Problem, incoming: _Incoming, outgoing: list[Any], grad_logits: Any) -> None:
    layout, visible = problem.layout, problem.visible
    grad_query, grad_key, grad_value, grad_scale = outgoing
    logsumexp = incoming.rows["logsumexp"]
    assert logsumexp is not None
    _cpu.attention_gradient(
        as_bits(layout.query),
        as_bits(layout.key),
        as_bits(layout.value),
        layout.sequences,
        problem.scale,
        as_bits(incoming.out),
        as_bits(incoming.grad_out),
        logsumexp,
        grad_query,
        grad_key,
        grad_value,
        left=visible.left,
        right=visible.right,
        softcap=problem.softcap,
        slopes=problem.slopes,
        mask=visible.mask,
        terms=visible.terms[0] if visible.terms else None,
        more_terms=visible.terms[1] if len(visible.terms) > 1 else None,
        entropy=incoming.rows["entropy"],
        grad_logsumexp=incoming.rows["grad_logsumexp"],
        grad_entropy=incoming.rows["grad_entropy"],
        grad_scale=grad_scale,
        grad_logits=grad_logits,
        threads=problem.threads,
    )


def _sum_to(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Sum over the axes along which an array of this shape is broadcast."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    axes = tuple(k for k, size in enumerate(shape) if size == 1 and x.shape[k] != 1)
    return np.asarray(np.sum(x, axis=axes, keepdims=True)) if axes else x


def _add_to_bias(grad_bias: NDArray[Any], grad: NDArray[Any], b: int, layout: Layout) -> None:
    """Add the gradient (head, row, key) of one batch to where its bias lies."""
    if layout.single:
        grad = grad[0]
    lead_dims = max(0, grad_bias.ndim - grad.ndim)
    own = grad_bias
    if lead_dims:
        shape = grad_bias.shape[:lead_dims]
        index = np.unravel_index(b, layout.lead)[len(layout.lead) - lead_dims :]
        own = grad_bias[tuple(0 if n == 1 else i for n, i in zip(shape, index, strict=True))]
    own += _sum_to(grad.astype(np.float64), own.shape)


def _as_given(layout: Layout, grad: NDArray[Any], x: Any) -> NDArray[Any]:
    """Return a gradient in the shape of the argument, summed where that was broadcast."""
    shape = np.shape(x)
    if layout.packed:
        return np.ascontiguousarray(grad[0].swapaxes(0, 1))
    full = grad.reshape(*layout.lead, *grad.shape[1:])
    if full.shape == shape:
        return full
    if len(shape) == 2:
        shape = (1, *shape)
    return _sum_to(full.astype(layout.compute), shape).astype(layout.dtype).reshape(np.shape(x))


def _of_sinks(problem: Problem, incoming: _Incoming) -> NDArray[np.float64]:
    assert problem.sinks is not None
    rows = {
        name: np.zeros(1) if x is None else x.astype(np.float64)
        for name, x in incoming.rows.items()
    }
    sinks, logsumexp = problem.sinks.astype(np.float64)[:, None], rows["logsumexp"]
    there = np.isfinite(sinks) & np.isfinite(logsumexp)  # -inf - -inf would be NaN
    log_p = np.where(there, sinks, 0.0) - np.where(there, logsumexp, 0.0)
    out, grad = as_float64(incoming.out), as_float64(incoming.grad_out)
    product = np.einsum("bhid,bhid->bhi", out, grad)
    terms = rows["grad_logsumexp"] - product - rows["grad_entropy"] * (rows["entropy"] + log_p)
    return np.asarray(np.sum(np.where(there, np.exp(log_p) * terms, 0.0), axis=(0, 2)))


def _of_scale(problem: Problem, scale: Any, rows: Any) -> Any:
    layout = problem.layout
    rows = rows.astype(np.float64)
    if isinstance(scale, AttentionScale):
        assert problem.n_visible is not None
        n = np.broadcast_to(problem.n_visible, layout.rows)
        return scale.pull_back(rows, n, layout.query.shape[3])
    shape = np.shape(scale)
    if len(shape) == 1:
        return _sum_to(rows, (1, *shape, 1)).reshape(shape)
    return _sum_to(layout.user_rows(rows), shape)

"""
Attention of onnxruntime and of JAX, as calls without arguments.

Each is compared with the output that is expected before it is handed out, and left out where its
package is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np


def onnxruntime_calls(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, expected: np.ndarray, *, is_causal: bool
) -> dict[str, Callable[[], object]]:
    """Return both of its operators: ONNX's own, and the one of its graph optimiser."""
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return {}
    own = _session_call("Attention", [q, k, v], is_causal=int(is_causal))
    _check(own()[0], expected)
    fused = _session_call(
        "MultiHeadAttention",
        [_heads_last(x) for x in (q, k, v)],
        domain="com.microsoft",
        num_heads=q.shape[1],
        unidirectional=int(is_causal),
    )
    _check(fused()[0], _heads_last(expected))
    return {"onnxruntime": own, "its MHA": fused}


def _heads_last(x: np.ndarray) -> np.ndarray:
    """Return (batch, length, heads * dim) of (batch, heads, length, dim)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1).copy()


def _check(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def _session_call(
    operator: str, inputs: Sequence[np.ndarray], **attributes: object
) -> Callable[[], object]:
    import onnxruntime
    from onnx import TensorProto, helper

    names = ["query", "key", "value"]
    declared = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)
        for name, x in zip(names, inputs, strict=True)
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, inputs[0].shape)
    node = helper.make_node(operator, names, ["output"], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "attention", declared, [output]),
        opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return partial(session.run, None, dict(zip(names, inputs, strict=True)))


def jax_calls(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, expected: np.ndarray, *, is_causal: bool
) -> dict[str, Callable[[], object]]:
    """Return its compiled attention, on arrays that it holds in its own order of axes."""
    if find_spec("jax") is None:
        return {}
    import jax

    attention = jax.jit(partial(jax.nn.dot_product_attention, is_causal=is_causal))
    arrays = [jax.device_put(x.swapaxes(1, 2)) for x in (q, k, v)]
    _check(np.asarray(attention(*arrays)).swapaxes(1, 2), expected)
    return {"JAX": lambda: attention(*arrays).block_until_ready()}

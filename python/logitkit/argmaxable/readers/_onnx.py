"""The output layer of an ONNX model: walk back from the outputs of the graph."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from ._layer import (
    FLOATS,
    ModelFileError,
    OutputLayer,
    Shape,
    as_matrix,
    ask,
    check_float,
    missing_tensor,
    orient,
)
from ._onnx_graph import Graph, Node
from ._onnx_linear import (
    MOVES,
    Linear,
    groups_of_classes,
    linear,
    quantisation_scale,
    read_linear,
)

# These choose a class: a layer in front of one of them is the output layer beyond doubt.
_DECIDES = frozenset(["Softmax", "LogSoftmax", "ArgMax", "TopK", "Hardmax"])
# Increasing functions of each logit.
_INCREASES = frozenset(["Sigmoid", "Exp", "Log"])
# What a softmax that was taken apart subtracts or divides by.
_REDUCES = frozenset(["ReduceMax", "ReduceSum", "ReduceLogSumExp", "ReduceSumExp"])
_ARITHMETIC = frozenset(["Add", "Sub", "Mul", "Div"])
_SHAPES_A_SUM = frozenset(
    ["Reshape", "Expand", "Identity", "Max", "Unsqueeze", "Squeeze", "Cast", "Log", "Clip"]
)
# Outputs that hold no logits: the cache and the inner states of a transformer.
_NO_LOGITS = re.compile(r"(present|past|last_hidden_state|hidden_state|attention|pooler_output)")


def read_onnx(
    graph: Graph, weight: str | None, bias: str | Literal[False] | None, transpose: bool
) -> OutputLayer:
    """Read the output layer of an ONNX graph."""
    if weight is None:
        layer, source = _find(graph)
    else:
        found, source = _consumer(graph, weight), "named by the caller"
        if found is None:
            return _read_plain(graph, weight, bias, transpose)
        layer = found
    affine = read_linear(graph, layer)
    rows, vector = affine.weight, affine.bias
    shape = groups_of_classes(graph, layer, len(rows)) if weight is None else None
    if shape is not None:
        raise ModelFileError(
            f"{graph.path}: the {len(rows)} logits of {layer.label} are reshaped to {shape}, in "
            "which groups of them compete: save the rows of one group as a .npy file, or let all "
            f"compete with --weight {layer.weight}"
        )
    name: str | None = " + ".join(affine.bias_names) or None
    if affine.divisor != 1:
        source += f", logits divided by {affine.divisor:g}"
    if bias is not None:
        vector, name = None, None
    if bias:
        _require_name(graph, bias)
        name, vector = bias, graph.array(bias)
    if transpose:
        rows = rows.T
    rows, vector = orient(graph.path, (layer.weight, name), rows, vector, transposed=False)
    for tensor, array in ((layer.weight, rows), (name, vector)):
        if array is not None:
            check_float(graph.path, str(tensor), array.dtype.name)
    return OutputLayer(rows, vector, None, layer.weight, name, None, source)


def open_graph(path: Path) -> Graph:
    """Open a .onnx file without its external data."""
    return Graph(path)


def candidates(graph: Graph) -> dict[str, Shape]:
    """Return the weights of all linear layers, the last first; without any, all matrices."""
    shapes: dict[str, Shape] = {}
    for node in reversed(graph.nodes):
        layer = linear(graph, node)
        if layer is not None:
            shapes[layer.weight] = graph.shape(layer.weight)
    return shapes or {
        name: graph.shape(name)
        for name in graph.stored_names()
        if as_matrix(graph.shape(name)) is not None and graph.dtype(name) in FLOATS
    }


def _find(graph: Graph) -> tuple[Linear, str]:
    """Return the one layer that the outputs lead back to."""
    found = {
        name: walked
        for name in graph.outputs
        if not _NO_LOGITS.match(name) and (walked := _walk_back(graph, name)) is not None
    }
    decided = {name: (layer, by) for name, (layer, by) in found.items() if by}
    called = {name: walked for name, walked in found.items() if "logits" in name}
    plain = found if graph.outputs[0] in found else {}
    for some in (decided, called, plain):
        layers = {layer.weight: (layer, by) for layer, by in some.values()}
        if len(layers) == 1:
            ((layer, by),) = layers.values()
            before = f" before {by}" if by else ""
            return layer, f"last linear layer{before} ({layer.label})"
        if layers:
            several = {name: graph.shape(name) for name in layers}
            raise ask(graph.path, "several outputs have an output layer each", several)
    problem = f"no output leads straight back to a linear layer ({_obstacles(graph)})"
    raise ask(graph.path, problem, candidates(graph))


def _obstacles(graph: Graph) -> str:
    ends = [
        f"{name} <- {graph.producer[name].op_type}"
        for name in graph.outputs[:4]
        if name in graph.producer
    ]
    return "; ".join(ends) or "the outputs are inputs or constants"


def _walk_back(graph: Graph, name: str) -> tuple[Linear, str] | None:
    """Follow a tensor to the linear layer whose order of the classes it keeps."""
    decided, capped, by_class = "", False, False
    path: set[str] = set()
    while (node := graph.producer.get(name)) is not None:
        layer = linear(graph, node)
        if layer is not None:
            return replace(layer, path=frozenset(path)), decided
        path.add(name)
        back, position = _operand(graph, node, capped), _constant_input(graph, node)
        # A constant for each class belongs to the layer only in front of a softmax.
        curved = node.op_type not in MOVES | {"Mul"} and position is None
        if back is None or (curved and by_class):
            return None
        by_class |= position is not None and graph.array(node.input[position]).size > 1
        if node.op_type in _DECIDES or (node.op_type == "Div" and curved):
            decided = node.op_type if node.op_type in _DECIDES else "Softmax"
        # tanh is a cap on the logits when it is scaled afterwards, else a hidden layer.
        capped = node.op_type in {"Mul", "Div"} or (capped and node.op_type in MOVES)
        name = back
    return None


def _operand(graph: Graph, node: Node, capped: bool) -> str | None:
    """Return the input of a node that has the same order of the classes as its result."""
    kind, first = node.op_type, node.input[0] if node.input else None
    if kind == "TopK" and not graph.attributes(node).get("largest", 1):
        return None
    if kind in MOVES | _DECIDES or kind in _INCREASES or (kind == "Tanh" and capped):
        return first
    if kind not in _ARITHMETIC:
        return None
    position = _constant_input(graph, node)
    if position is not None:
        if not _keeps_order(graph, node, position):
            return None
        return str(node.input[1 - position])
    if kind in {"Sub", "Div"} and _is_reduction(graph, node.input[1]):
        return first
    if kind == "Mul":
        scales = [quantisation_scale(graph, source) for source in node.input]
        if (scales[0] is None) != (scales[1] is None):
            return str(node.input[0 if scales[0] is None else 1])
    return None


def _constant_input(graph: Graph, node: Node) -> int | None:
    """Return which operand of an arithmetic node is constant, if one is."""
    if node.op_type not in _ARITHMETIC:
        return None
    constant = [graph.is_constant(source) for source in node.input]
    return constant.index(True) if constant.count(True) == 1 else None


def _keeps_order(graph: Graph, node: Node, position: int) -> bool:
    # A scale for each class becomes part of the weight; one for all must be positive
    # wherever it stands, as behind a softmax there is nothing to put the sign into.
    if node.op_type == "Add" or (node.op_type == "Sub" and position == 1):
        return True
    if node.op_type == "Sub" or (node.op_type == "Div" and position == 0):
        return False
    values = graph.array(node.input[position])
    return values.size > 1 or bool(np.all(values > 0))


def _is_reduction(graph: Graph, name: str) -> bool:
    """Whether a tensor is a maximum or a sum over others, reshaped."""
    node = graph.producer.get(name)
    if node is None or node.op_type in _REDUCES:
        return node is not None
    return node.op_type in _SHAPES_A_SUM and any(
        _is_reduction(graph, source) for source in node.input
    )


def _consumer(graph: Graph, weight: str) -> Linear | None:
    """Return the linear layer that uses a stored tensor, directly or folded."""
    _require_name(graph, weight)
    nodes = (
        node
        for node in graph.nodes
        if any(weight in graph.origins(name) for name in node.input if graph.is_constant(name))
    )
    layers = [layer for node in nodes if (layer := linear(graph, node)) is not None]
    direct = [layer for layer in layers if layer.weight == weight]
    using = direct or [layer for layer in layers if weight in graph.origins(layer.weight)]
    if not using:
        return None
    for name in graph.outputs:  # which nodes follow it is clear if it is an output layer
        walked = _walk_back(graph, name)
        if walked is not None and walked[0].node.output[0] == using[-1].node.output[0]:
            return walked[0]
    return using[-1]


def _require_name(graph: Graph, name: str) -> None:
    if not graph.is_constant(name):
        raise missing_tensor(graph.path, name, graph.stored_names())


def _read_plain(
    graph: Graph, weight: str, bias: str | Literal[False] | None, transpose: bool
) -> OutputLayer:
    """Read a stored matrix that no linear layer uses, such as an embedding."""
    if as_matrix(graph.shape(weight)) is None:
        raise ModelFileError(
            f"{graph.path}: tensor {weight!r} has shape {graph.shape(weight)}, "
            "expected (classes, features)"
        )
    check_float(graph.path, weight, graph.array(weight).dtype.name)
    vector = None
    if bias:
        _require_name(graph, bias)
        vector = graph.array(bias)
    rows, vector = orient(
        graph.path, (weight, bias or None), graph.array(weight), vector, transpose
    )
    return OutputLayer(rows, vector, None, weight, bias or None, None, "named by the caller")

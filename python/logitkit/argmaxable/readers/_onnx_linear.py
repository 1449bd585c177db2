"""Linear nodes of an ONNX graph, and the affine nodes that follow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._layer import Array, ModelFileError, as_matrix
from ._onnx_graph import Graph, Node

# Operators that move logits about and change none of them. Quantisation of the result
# rounds the logits; the check is about the logits before that.
MOVES = frozenset(
    [
        "Identity",
        "Cast",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Dropout",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)
# The operand that is the weight where the product takes no other.
_FIXED_WEIGHT = {"Conv": 1, "DynamicQuantizeMatMul": 1}
_BIAS_INPUT = {"Gemm": 2, "Conv": 2, "DynamicQuantizeMatMul": 4}
_PRODUCTS = frozenset(["MatMul", "Gemm", "FusedMatMul", "MatMulInteger"]) | set(_FIXED_WEIGHT)


@dataclass(frozen=True)
class Linear:
    """A product of the features with a constant weight, on either side of it."""

    node: Node
    weight: str
    left: bool  # the weight is the left factor: its rows are the classes
    path: frozenset[str] = frozenset()  # tensors between the product and an output

    @property
    def label(self) -> str:
        """The operator and the tensor that it makes."""
        return f"{self.node.op_type} -> {self.node.output[0]}"


def linear(graph: Graph, node: Node) -> Linear | None:
    """Return a node as a linear layer, or None if it is not one."""
    if node.op_type not in _PRODUCTS or len(node.input) < 2:
        return None
    if node.op_type in _FIXED_WEIGHT:
        position = _FIXED_WEIGHT[node.op_type]
    else:
        constant = [graph.is_constant(name) for name in node.input[:2]]
        if constant[0] == constant[1]:
            return None
        position = constant.index(True)
    name = node.input[position]
    if not graph.is_constant(name) or graph.is_constant(node.input[1 - position]):
        return None
    # The kernel of a Conv is (classes, features, 1, 1): like a left factor.
    found = Linear(node, name, left=position == 0 or node.op_type == "Conv")
    return found if _matrix(graph, found) is not None else None


def _matrix(graph: Graph, layer: Linear) -> tuple[int, ...] | None:
    shape = graph.shape(layer.weight)
    if layer.node.op_type == "Conv":
        grouped = graph.attributes(layer.node).get("group", 1) != 1
        return None if grouped else as_matrix(shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape if len(shape) == 2 and 0 not in shape else None


@dataclass(frozen=True)
class Affine:
    """
    The map from features to logits: divisor * (x @ weight.T + bias).

    Left out is any number that is added to all logits alike: neither that nor a
    positive divisor changes which of them can win.
    """

    weight: Array
    bias: Array | None
    bias_names: list[str]
    divisor: float


def read_linear(graph: Graph, layer: Linear) -> Affine:
    """Return a linear layer together with the affine nodes that follow it."""
    matrix = _matrix(graph, layer)
    assert matrix is not None
    weight = graph.array(layer.weight).reshape(matrix)
    attributes = graph.attributes(layer.node)
    flipped = attributes.get("transA" if layer.left else "transB", 0)
    if bool(layer.left) == bool(flipped):
        weight = weight.T
    scale, terms = _own_scale(graph, layer, attributes)
    weight = _without_zero_point(graph, layer, weight)
    scale, terms = _follow(graph, layer, len(weight), scale, terms)
    return _apply(graph, layer, weight, scale, terms)


def groups_of_classes(graph: Graph, layer: Linear, n: int) -> str | None:
    """
    Return how the logits are reshaped into several rows, each with a winner of its own.

    So do models that read a fixed number of characters with one layer.
    """
    for node in (graph.producer[name] for name in layer.path):
        if node.op_type != "Reshape" or n == 1:
            continue
        entries = _known_entries(graph, node.input[1])
        while len(entries) > 1 and entries[-1] == 1:
            entries.pop()
        parts = [size for size in entries[1:] if size > 0 and n % size == 0]
        if n in entries or not parts:
            continue
        # A part of n in front of an unknown last entry may be a length as well.
        if entries[-1] > 0 or graph.last_size(node.output[0]) != n:
            return "(" + ", ".join(str(size) if size > 0 else "?" for size in entries) + ")"
    return None


def _known_entries(graph: Graph, name: str) -> list[int]:
    """Return the entries of a shape, -1 for those that are not constant."""
    if graph.is_constant(name):
        return [int(size) for size in graph.array(name).reshape(-1)]
    node = graph.producer.get(name)
    if node is None or node.op_type != "Concat":
        return [-1]
    parts = [graph.array(part) if graph.is_constant(part) else -1 for part in node.input]
    return [int(size) for part in parts for size in np.ravel(part)]


Scale = NDArray[np.float64]
Terms = list[tuple[Scale, str, float]]


def _own_scale(graph: Graph, layer: Linear, attributes: dict[str, float]) -> tuple[Scale, Terms]:
    node = layer.node
    scale: Scale = np.asarray(attributes.get("alpha", 1.0), np.float64)
    factor: Scale = np.asarray(attributes.get("beta", 1.0), np.float64)
    position = _BIAS_INPUT.get(node.op_type, len(node.input))
    terms: Terms = []
    if position < len(node.input) and node.input[position]:
        if not graph.is_constant(node.input[position]):
            raise ModelFileError(f"{graph.path}: the bias of {layer.label} depends on the input")
        terms = [(factor, node.input[position], 1.0)]
    if node.op_type == "DynamicQuantizeMatMul":
        scale = scale * graph.array(node.input[2]).astype(np.float64).reshape(-1)
    return scale, terms


def _without_zero_point(graph: Graph, layer: Linear, weight: Array) -> Array:
    """Turn stored integers into float32, exactly, and subtract their zero point."""
    zero = {"MatMulInteger": 2 if layer.left else 3, "DynamicQuantizeMatMul": 3}
    position = zero.get(layer.node.op_type)
    if position is None:
        return weight
    result: Array = weight.astype(np.float32)
    if position < len(layer.node.input) and layer.node.input[position]:
        result -= graph.array(layer.node.input[position]).astype(np.float32).reshape(-1, 1)
    return result


def _follow(graph: Graph, layer: Linear, n: int, scale: Scale, terms: Terms) -> tuple[Scale, Terms]:
    """Walk on while one node uses the tensor, or leads to the output, and is affine."""
    name = layer.node.output[0]
    while True:
        users = [node for node in graph.consumers.get(name, []) if node.op_type != "Shape"]
        if len(users) > 1:
            users = [node for node in users if node.output[0] in layer.path]
        if len(users) != 1:
            return scale, terms
        node = users[0]
        if node.op_type in MOVES and node.input[0] == name:
            name = node.output[0]
            continue
        step = _affine(graph, node, name, n)
        if step is None:
            if node.output[0] in layer.path:
                _refuse_other_shapes(graph, layer, node, n)
            return scale, terms
        factor, term = step
        scale = scale * factor
        terms = [(own * factor, constant, sign) for own, constant, sign in terms]
        if term is not None:
            terms.append((np.asarray(1.0), *term))
        name = node.output[0]


def _refuse_other_shapes(graph: Graph, layer: Linear, node: Node, n: int) -> None:
    """Refuse a constant that is neither one number nor one for each class."""
    for name in filter(graph.is_constant, node.input):
        if graph.array(name).size not in {1, n}:
            raise ModelFileError(
                f"{graph.path}: {node.op_type} adds to or scales the logits of {layer.label} by "
                f"{name!r} of shape {graph.shape(name)}, which is not one number for each of "
                f"{n} classes: save the rows of one position as a .npy file"
            )


def _affine(
    graph: Graph, node: Node, name: str, n: int
) -> tuple[Scale, tuple[str, float] | None] | None:
    """Return (factor, (constant, sign)) of factor * y + sign * constant, else None."""
    one = np.asarray(1.0)
    if node.op_type == "Neg":
        return -one, None
    if node.op_type not in {"Add", "Sub", "Mul", "Div"}:
        return None
    second = node.input[1] == name
    other = node.input[0] if second else node.input[1]
    if node.op_type == "Mul":
        factor = quantisation_scale(graph, other)
        return None if factor is None or factor.size not in {1, n} else (factor.reshape(-1), None)
    if not graph.is_constant(other) or graph.array(other).size not in {1, n}:
        return None
    if node.op_type == "Add":
        return one, (other, 1.0)
    if node.op_type == "Sub":
        return (-one, (other, 1.0)) if second else (one, (other, -1.0))
    if second:
        return None
    return 1.0 / graph.array(other).astype(np.float64).reshape(-1), None


def quantisation_scale(graph: Graph, name: str) -> Scale | None:
    """
    Return the constant part of a factor, None if it has none that is known.

    DynamicQuantizeLinear makes a positive scale for the features of each call: as the
    features are free, so is their scale, and it counts as 1.
    """
    if graph.is_constant(name):
        return graph.array(name).astype(np.float64)
    node = graph.producer.get(name)
    if node is None:
        return None
    if node.op_type == "DynamicQuantizeLinear" and list(node.output).index(name) == 1:
        return np.asarray(1.0)
    if node.op_type != "Mul":
        return None
    factors = [quantisation_scale(graph, source) for source in node.input]
    return None if factors[0] is None or factors[1] is None else factors[0] * factors[1]


def _apply(graph: Graph, layer: Linear, weight: Array, scale: Scale, terms: Terms) -> Affine:
    n = len(weight)
    used = [term for term in terms if n == 1 or graph.array(term[1]).size == n]
    names = [name for _, name, _ in used]
    if not np.all(np.isfinite(scale)) or not np.all(scale):
        raise ModelFileError(f"{graph.path}: the logits of {layer.label} are scaled by 0 or inf")
    if scale.size > 1 and np.all(scale == scale.flat[0]):
        scale = scale.reshape(-1)[:1]
    if scale.size > 1:
        weight = weight * scale.reshape(-1, 1)
        scale = np.asarray(1.0)
    elif scale.item() < 0:
        weight = -weight
    divisor = abs(scale.item())
    if len(used) == 1 and used[0][2] == divisor == 1 and np.all(used[0][0] == 1):
        return Affine(weight, graph.array(names[0]).reshape(-1), names, 1.0)
    bias = None
    for factor, name, sign in used:
        values = graph.array(name).astype(np.float64).reshape(-1)
        bias = (0.0 if bias is None else bias) + sign * factor.reshape(-1) * values / divisor
    return Affine(weight, bias, names, divisor)

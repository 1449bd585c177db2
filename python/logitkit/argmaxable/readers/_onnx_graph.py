"""An ONNX graph: its constants, folded on demand, and who makes and uses each tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ._layer import Array, ModelFileError, Shape, require

Node = Any  # onnx.NodeProto
Tensor = Any  # onnx.TensorProto

# Operators whose result is a constant when their inputs are: what exporters put between
# a stored weight and the product that uses it.
_FOLDABLE = frozenset(
    [
        "Identity",
        "Cast",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "DequantizeLinear",
        "Mul",
        "Div",
        "Add",
        "Sub",
        "Neg",
        "Concat",
        "Slice",
        "Gather",
        "Expand",
        "Where",
        # the norm of each row, by which cosine and weight-normalised layers divide
        "Pow",
        "Sqrt",
        "Reciprocal",
        "Max",
        "Clip",
        "ReduceL2",
        "ReduceSum",
        "ReduceSumSquare",
        "LpNormalization",
    ]
)
# A constant bigger than this is evaluated again rather than kept.
_KEPT_BYTES = 1 << 20


class Graph:
    """The graph of one .onnx file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._onnx = require("onnx", path)
        require("onnx.numpy_helper", path)
        self._model = self._load()
        graph = self._model.graph
        self.nodes: list[Node] = list(graph.node)
        self.outputs: list[str] = [output.name for output in graph.output]
        self.metadata = {entry.key: entry.value for entry in self._model.metadata_props}
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in set(node.input):
                self.consumers.setdefault(name, []).append(node)
        self._stored: dict[str, Tensor] = {tensor.name: tensor for tensor in graph.initializer}
        self._constant = set(self._stored)
        for node in self.nodes:  # ONNX keeps the nodes in topological order
            self._note_constants(node)
        self._small: dict[str, Array] = {}

    def is_constant(self, name: str) -> bool:
        """Whether a tensor does not depend on the input of the model."""
        return name in self._constant

    def stored_names(self) -> list[str]:
        """Return the names of the initializers and of the outputs of Constant nodes."""
        return list(self._stored)

    def shape(self, name: str) -> Shape:
        """Return the shape of a constant."""
        if name in self._stored:
            return tuple(self._stored[name].dims)
        return self.array(name).shape

    def dtype(self, name: str) -> str:
        """Return the dtype of a stored constant."""
        kind = self._stored[name].data_type
        try:
            return str(np.dtype(self._onnx.helper.tensor_dtype_to_np_dtype(kind)).name)
        except (KeyError, TypeError, ValueError):
            return f"ONNX type {kind}"

    def array(self, name: str) -> Array:
        """Return the value of a constant."""
        if name in self._small:
            return self._small[name]
        array = self._read(name) if name in self._stored else self._fold(name)
        if array.nbytes <= _KEPT_BYTES:
            self._small[name] = array
        return array

    def origins(self, name: str) -> set[str]:
        """Return the stored tensors that a constant is computed from."""
        if name in self._stored or name not in self._constant:
            return {name}
        inputs = (source for source in self.producer[name].input if source)
        return {name}.union(*(self.origins(source) for source in inputs))

    def last_size(self, name: str) -> int | None:
        """Return the length of the last axis of a tensor, None where it is not known."""
        inference = require("onnx.shape_inference", self.path)
        try:
            graph = inference.infer_shapes(self._model, data_prop=True).graph
        except (ValueError, RuntimeError):  # larger than protobuf allows, or of unknown operators
            return None
        for info in (*graph.value_info, *graph.output):
            if info.name == name and info.type.tensor_type.shape.dim:
                return info.type.tensor_type.shape.dim[-1].dim_value or None
        return None

    def attributes(self, node: Node) -> dict[str, Any]:
        """Return the attributes of a node as Python values."""
        return {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}

    def _load(self) -> Any:
        protobuf = require("google.protobuf.message", self.path)
        try:
            # External data are mapped later, and only those of the output layer.
            model = self._onnx.load(self.path, load_external_data=False)
        except (protobuf.DecodeError, OSError, ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{self.path}: not a complete .onnx file ({error}); download it again"
            ) from None
        if not model.graph.node or not model.graph.output:
            raise ModelFileError(f"{self.path}: an ONNX file without a graph; download it again")
        if model.functions:
            inliner = require("onnx.inliner", self.path)
            model = inliner.inline_local_functions(model)
        return model

    def _note_constants(self, node: Node) -> None:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            attribute = node.attribute[0]
            if attribute.name == "value":
                self._stored[node.output[0]] = attribute.t
            elif attribute.name in {"value_float", "value_floats", "value_int", "value_ints"}:
                value = np.asarray(self._onnx.helper.get_attribute_value(attribute))
                kind = np.float32 if value.dtype.kind == "f" else np.int64
                tensor = self._onnx.numpy_helper.from_array(value.astype(kind))
                self._stored[node.output[0]] = tensor
            else:
                return
        elif (
            node.op_type not in _FOLDABLE
            or not node.input
            or not all(name in self._constant for name in node.input if name)
        ):
            return
        self._constant.update(node.output)

    def _fold(self, name: str) -> Array:
        """Evaluate the one node that makes a constant, with the operators of this model."""
        node, helper = self.producer[name], self._onnx.helper
        inputs = {source: self.array(source) for source in node.input if source}
        attributes = self.attributes(node)
        if node.op_type == "DequantizeLinear" and not attributes.get("block_size"):
            return _dequantize(*inputs.values(), axis=attributes.get("axis", 1))
        declared = [helper.make_empty_tensor_value_info(source) for source in inputs]
        result = helper.make_empty_tensor_value_info(name)
        graph = helper.make_graph([node], "constant", declared, [result])
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        reference = require("onnx.reference", self.path)
        try:
            array: Array = reference.ReferenceEvaluator(model).run([name], inputs)[0]
        except (ValueError, TypeError, RuntimeError, IndexError, NotImplementedError) as error:
            raise ModelFileError(
                f"{self.path}: cannot evaluate the constant {name!r} made by {node.op_type} "
                f"({error}); simplify the model or give the stored tensor with --weight NAME"
            ) from None
        return array

    def _read(self, name: str) -> Array:
        tensor = self._stored[name]
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            return self._map(name, tensor)
        try:
            array: Array = self._onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} is damaged ({error}); download the file again"
            ) from None
        return array

    def _map(self, name: str, tensor: Tensor) -> Array:
        """Map a tensor of an external data file into memory."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        folder = self.path.resolve().parent
        file = (folder / entries.get("location", "").replace("\0", "?")).resolve()
        if not file.is_relative_to(folder) or not file.is_file():
            raise ModelFileError(
                f"{self.path}: tensor {name!r} lies in {entries.get('location')!r}, which is not a "
                "file in the same folder; download the external data too"
            )
        shape = tuple(tensor.dims)
        try:
            kind = np.dtype(self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            offset = int(entries.get("offset", 0))
            array: Array = np.memmap(file, kind, "r", offset, shape)
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} of shape {shape} does not fit into {file.name} "
                f"({error}); download the external data again"
            ) from None
        return array if array.flags.aligned else np.array(array)


def _dequantize(
    stored: Array, scale: Array, zero_point: Array | None = None, *, axis: int
) -> Array:
    """Return (stored - zero_point) * scale, which the reference lacks for old opsets."""
    shape = [1] * stored.ndim
    if scale.ndim:
        shape[axis] = scale.size
    shifted = stored.astype(scale.dtype)
    if zero_point is not None:
        shifted -= zero_point.astype(scale.dtype).reshape(shape)
    result: Array = shifted * scale.reshape(shape)
    return result

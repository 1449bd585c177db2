"""logitkit.argmaxable.readers: every format, every way to find the layer, every bad file."""

import json
from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save_file

from logitkit.argmaxable.readers import ModelFileError, read_output_layer

N, D = 7, 3
WEIGHT = np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)
BIAS = np.random.default_rng(2).normal(size=N).astype(np.float32)


def assert_layer(layer, weight=WEIGHT, bias=BIAS):
    np.testing.assert_array_equal(layer.weight, weight)
    if bias is None:
        assert layer.bias is None
    else:
        np.testing.assert_array_equal(layer.bias, bias)


def save_onnx(path, nodes, tensors=(), outputs=("y",), metadata=(), opset=13):
    """Write a graph with input x; every array of `tensors` is an initializer."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [initializer(name, np.array(a)) for name, a in dict(tensors).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports)
    helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())
    return path


def initializer(name, array):
    if array.dtype.name == "bfloat16":  # old versions of onnx do not know the NumPy type
        kind = TensorProto.BFLOAT16
        return helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)
    return numpy_helper.from_array(array, name)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


HEAD = [node("MatMul", "x W", "m"), node("Add", "m b", "y")]
TENSORS = {"W": WEIGHT.T, "b": BIAS}


# --- ONNX: forms of the layer ---------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "tensors"),
    [
        (HEAD, TENSORS),
        ([HEAD[0], node("Add", "b m", "y")], TENSORS),
        (HEAD, {"W": WEIGHT.T, "b": BIAS[None, None]}),
        ([node("MatMul", "W x", "m"), HEAD[1]], {"W": WEIGHT, "b": BIAS[:, None]}),
        ([node("Gemm", "x W b", "y")], TENSORS),
        ([node("Gemm", "x W b", "y", transB=1)], {"W": WEIGHT, "b": BIAS}),
        ([node("Gemm", "W x b", "y")], {"W": WEIGHT, "b": BIAS[:, None]}),
        ([node("Gemm", "W x b", "y", transA=1)], {"W": WEIGHT.T, "b": BIAS[:, None]}),
        ([node("Conv", "x W b", "y")], {"W": WEIGHT[..., None, None], "b": BIAS}),
        ([node("Conv", "x W", "m"), HEAD[1]], {"W": WEIGHT[..., None], "b": BIAS[:, None]}),
        ([constant("W", WEIGHT.T.copy()), constant("b", BIAS), *HEAD], {}),
        ([node("Transpose", "V", "W", perm=[1, 0]), *HEAD], {"V": WEIGHT, "b": BIAS}),
        ([node("Identity", "V", "W"), *HEAD], {"V": WEIGHT.T, "b": BIAS}),
        ([node("Cast", "V", "W", to=1), *HEAD], {"V": WEIGHT.T, "b": BIAS}),
        (
            [node("Reshape", "V s", "W"), *HEAD],
            {"V": WEIGHT.T.reshape(-1), "s": np.array([D, N]), "b": BIAS},
        ),
        (
            [node("FusedMatMul", "x W", "m", domain="com.microsoft", transB=1), HEAD[1]],
            {"W": WEIGHT, "b": BIAS},
        ),
    ],
)
def test_onnx_layer(tmp_path, nodes, tensors):
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", nodes, tensors))
    assert_layer(layer)


@pytest.mark.parametrize(
    "tail",
    [
        [],
        [node("Mul", "y s", "t"), node("Add", "c t", "z")],
        [node("Div", "y s", "t"), node("Sub", "t c", "z")],
        [node("Sub", "y c", "t"), node("Mul", "t two", "u"), node("Add", "u s", "z")],
        [node("Mul", "y two", "t"), node("Softmax", "t", "z")],
    ],
)
@pytest.mark.parametrize("gemm", [{}, {"alpha": 2.0, "beta": 0.5}, {"alpha": 0.25}])
def test_onnx_layer_predicts_what_the_graph_predicts(tmp_path, tail, gemm):
    tensors = {
        **TENSORS,
        "s": np.linspace(0.5, 2, N, dtype=np.float32),
        "c": np.linspace(-1, 1, N, dtype=np.float32)[None],
        "two": np.float32(2),
    }
    nodes = [node("Gemm", "x W b", "y", **gemm), *tail]
    path = save_onnx(tmp_path / "m.onnx", nodes, tensors, outputs=[nodes[-1].output[0]])
    x = np.random.default_rng(4).normal(size=(200, D)).astype(np.float32)
    (logits,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    layer = read_output_layer(path)
    ours = x @ layer.weight.T + layer.bias
    np.testing.assert_array_equal(ours.argmax(1), logits.argmax(1))


def test_onnx_weight_is_not_copied_to_be_transposed(tmp_path):
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", HEAD, TENSORS))
    assert layer.weight.base is not None
    assert (layer.weight_name, layer.bias_name) == ("W", "b")


def test_onnx_alpha_and_beta_become_part_of_the_bias(tmp_path):
    gemm = node("Gemm", "x W b", "y", alpha=4.0, beta=2.0)
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", [gemm], TENSORS))
    assert_layer(layer, WEIGHT, BIAS.astype(np.float64) / 2)
    assert "divided by 4" in layer.source


def test_onnx_scale_and_shift_after_the_layer(tmp_path):
    nodes = [*HEAD[:1], node("Add", "m b", "a"), node("Mul", "a s", "p"), node("Sub", "p c", "y")]
    scale, shift = np.arange(1.0, N + 1, dtype=np.float32), np.ones(N, np.float32)
    tensors = {**TENSORS, "s": scale, "c": shift}
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", nodes, tensors))
    np.testing.assert_allclose(layer.weight, WEIGHT * scale[:, None].astype(float), rtol=1e-15)
    np.testing.assert_allclose(layer.bias, BIAS * scale.astype(float) - 1, rtol=1e-15)


def test_onnx_negative_temperature_turns_the_weight(tmp_path):
    nodes = [*HEAD[:1], node("Add", "m b", "a"), node("Neg", "a", "n"), node("Softmax", "n", "y")]
    path = save_onnx(tmp_path / "m.onnx", nodes, TENSORS)
    layer = read_output_layer(path, weight="W")
    assert_layer(layer, -WEIGHT, -BIAS)


def test_onnx_same_shift_for_all_classes_is_no_bias(tmp_path):
    tensors = {"W": WEIGHT.T, "b": np.float32(3)}
    assert_layer(read_output_layer(save_onnx(tmp_path / "m.onnx", HEAD, tensors)), bias=None)


def test_onnx_dequantized_weight(tmp_path):
    stored = np.arange(N * D, dtype=np.int8).reshape(D, N)
    tensors = {"Q": stored, "s": np.float32(0.5), "z": np.int8(3), "b": BIAS}
    nodes = [node("DequantizeLinear", "Q s z", "W"), *HEAD]
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", nodes, tensors))
    assert_layer(layer, ((stored - 3.0) * 0.5).T.astype(np.float32))
    by_name = read_output_layer(tmp_path / "m.onnx", weight="Q")
    assert_layer(by_name, layer.weight)


@pytest.mark.parametrize("scale", [np.float32(0.5), np.arange(1, N + 1, dtype=np.float32)])
@pytest.mark.parametrize("fused", [False, True])
def test_onnx_dynamically_quantized_layer(tmp_path, scale, fused):
    stored = np.arange(N * D, dtype=np.uint8).reshape(D, N)
    one = node("DynamicQuantizeMatMul", "x Q s z b", "y", domain="com.microsoft")
    several = [
        node("DynamicQuantizeLinear", "x", "xq xs xz"),
        node("MatMulInteger", "xq Q xz z", "i"),
        node("Cast", "i", "c", to=1),
        node("Mul", "xs s", "f"),
        node("Mul", "c f", "m"),
        HEAD[1],
    ]
    tensors = {"Q": stored, "z": np.uint8(3), "s": scale, "b": BIAS}
    nodes = [one] if fused else several
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", nodes, tensors))
    integers = (stored - 3.0).T
    if scale.ndim:
        assert_layer(layer, integers * scale[:, None])
    else:
        assert_layer(layer, integers, BIAS.astype(float) / 0.5)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, "bfloat16"])
def test_onnx_float_types(tmp_path, kind):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    path = save_onnx(tmp_path / "m.onnx", HEAD, {"W": WEIGHT.T.astype(kind), "b": BIAS})
    layer = read_output_layer(path)
    assert_layer(layer, WEIGHT.astype(kind))


def test_onnx_external_data_are_mapped(tmp_path):
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(D, 500)).astype(np.float32)
    path = save_onnx(tmp_path / "m.onnx", HEAD[:1], {"W": weight}, outputs=["m"])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    layer = read_output_layer(path)
    assert_layer(layer, weight.T, None)
    assert isinstance(layer.weight, np.memmap)
    (tmp_path / "m.bin").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"'W'.*does not fit into m\.bin"):
        read_output_layer(path)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelFileError, match="download the external data"):
        read_output_layer(path)


def test_onnx_external_data_outside_the_folder_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "W.bin").write_bytes(bytes(4 * N * D))
    path = save_onnx(tmp_path / "in" / "m.onnx", HEAD[:1], {"W": WEIGHT.T}, outputs=["m"])
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../W.bin")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="not a file in the same folder"):
        read_output_layer(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("offset", "-4"), ("offset", "9" * 25), ("offset", "x"), ("offset", "4"), ("location", "a\0")],
)
def test_onnx_external_data_at_impossible_places_are_refused(tmp_path, key, value):
    path = save_onnx(tmp_path / "m.onnx", HEAD, TENSORS)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    (tmp_path / "W.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for name, text in ({"location": "W.bin"} | {key: value}).items():
        tensor.external_data.add(key=name, value=text)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"does not fit into W\.bin|not a file in the same"):
        read_output_layer(path)


# --- ONNX: finding the layer ----------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        [node("Softmax", "y", "z", axis=-1)],
        [node("LogSoftmax", "y", "z")],
        [node("ArgMax", "y", "z")],
        [node("Identity", "y", "i"), node("Cast", "i", "c", to=1), node("Softmax", "c", "z")],
        [node("Reshape", "y shape", "r"), node("Softmax", "r", "z")],
        [node("Transpose", "y", "z", perm=[1, 0])],
        [node("Sigmoid", "y", "z")],
        [node("Div", "y cap", "i"), node("Tanh", "i", "t"), node("Mul", "t cap", "z")],
        [
            node("ReduceMax", "y", "top"),
            node("Sub", "y top", "s"),
            node("Exp", "s", "e"),
            node("ReduceSum", "e", "sum"),
            node("Expand", "sum shape", "wide"),
            node("Div", "e wide", "z"),
        ],
    ],
)
def test_onnx_walks_back_through(tmp_path, tail):
    before = [node("MatMul", "x V", "h0"), node("Relu", "h0", "h")]
    layer = [node("MatMul", "h W", "m"), HEAD[1]]
    tensors = {
        **TENSORS,
        "V": np.ones((D, D), np.float32),
        "shape": np.array([-1, N]),
        "cap": np.float32(30),
    }
    path = save_onnx(tmp_path / "m.onnx", [*before, *layer, *tail], tensors, outputs=["z"])
    found = read_output_layer(path)
    scale = 30 if tail[0].op_type == "Div" else 1
    np.testing.assert_allclose(found.weight, WEIGHT, rtol=0)
    np.testing.assert_allclose(found.bias, BIAS, rtol=1e-15 * scale)


TWO = [
    node("MatMul", "x W", "p"),
    node("MatMul", "x V", "q"),
]
TWO_TENSORS = {"W": WEIGHT.T, "V": WEIGHT.T + 1}


def test_onnx_bias_on_the_branch_that_is_put_out(tmp_path):
    nodes = [*HEAD[:1], node("Relu", "m", "r"), HEAD[1], node("Softmax", "y", "z")]
    path = save_onnx(tmp_path / "m.onnx", nodes, TENSORS, outputs=["r", "z"])
    assert_layer(read_output_layer(path))
    assert_layer(read_output_layer(path, weight="W"))


@pytest.mark.parametrize("kind", ["Mul", "Add", "Div"])
def test_onnx_constants_for_each_class_after_a_softmax_are_not_ignored(tmp_path, kind):
    nodes = [*HEAD, node("Softmax", "y", "p"), node(kind, "p b", "z")]
    path = save_onnx(tmp_path / "m.onnx", nodes, TENSORS, outputs=["z"])
    with pytest.raises(ModelFileError, match="no output leads"):
        read_output_layer(path)


def split(target, *, output=None):
    """Return the end of a model that reshapes its logits, by a constant or a computed shape."""
    if output is not None:
        return [node("Reshape", "y shape", output), node("Softmax", output, "z")], {
            "shape": np.array(target)
        }
    parts = ["one", *(f"e{i}" for i in range(len(target)))]
    tensors = {f"e{i}": np.array([size]) for i, size in enumerate(target)}
    nodes = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "one"),
        node("Concat", " ".join(parts), "shape", axis=0),
        node("Reshape", "y shape", "r"),
        node("ArgMax", "r", "z", axis=-1),
    ]
    return nodes, {**tensors, "zero": np.array([0])}


@pytest.mark.parametrize(
    "tail",
    [
        split([-1, 2, N], output="r"),
        split([0, 2, -1], output="r"),
        split([-1, N, 2, 1], output="r"),
        split([2, N]),
    ],
)
def test_onnx_groups_that_compete_among_themselves_are_refused(tmp_path, tail):
    nodes, tensors = tail
    two = {"W": np.tile(WEIGHT.T, 2), "b": np.tile(BIAS, 2)}
    path = save_onnx(tmp_path / "m.onnx", [*HEAD, *nodes], {**two, **tensors}, outputs=["z"])
    with pytest.raises(ModelFileError, match=r"14 logits .* groups of them compete.*--weight W"):
        read_output_layer(path)
    assert read_output_layer(path, weight="W").weight.shape == (2 * N, D)


@pytest.mark.parametrize("target", [[0, -1], [-1, 1, N], [4, -1], [1, -1, N, 1], [-1, 5, N]])
def test_onnx_positions_are_no_groups(tmp_path, target):
    nodes, tensors = split(target, output="r")
    path = save_onnx(tmp_path / "m.onnx", [*HEAD, *nodes], {**TENSORS, **tensors}, outputs=["z"])
    assert_layer(read_output_layer(path))


def test_onnx_smallest_logits_are_not_chosen_by_the_largest(tmp_path):
    nodes = [*HEAD, node("TopK", "y k", "v z", largest=0)]
    path = save_onnx(
        tmp_path / "m.onnx", nodes, {**TENSORS, "k": np.array([1])}, outputs=["z", "v"]
    )
    with pytest.raises(ModelFileError, match="no output leads"):
        read_output_layer(path)


def test_onnx_constants_of_other_shapes_are_not_ignored(tmp_path):
    path = save_onnx(tmp_path / "m.onnx", HEAD, {**TENSORS, "b": np.stack([BIAS, -BIAS])})
    with pytest.raises(ModelFileError, match=r"Add .* 'b' of shape \(2, 7\).*each of 7 classes"):
        read_output_layer(path)


def test_onnx_rows_that_are_normalised(tmp_path):
    nodes = [
        node("ReduceL2", "V axes", "length"),
        node("Div", "V length", "W"),
        *HEAD,
    ]
    tensors = {"V": WEIGHT.T, "axes": np.array([0]), "b": BIAS}
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", nodes, tensors, opset=18))
    np.testing.assert_allclose(np.linalg.norm(layer.weight, axis=1), 1, rtol=1e-6)


def test_onnx_matrices_are_listed_where_nothing_is_found(tmp_path):
    nodes = [node("Einsum", "x W", "y", equation="bd,nd->bn")]
    path = save_onnx(tmp_path / "m.onnx", nodes, {"W": WEIGHT})
    with pytest.raises(ModelFileError, match=r"(?s)y <- Einsum.*--weight NAME.*W  7 x 3"):
        read_output_layer(path)
    assert_layer(read_output_layer(path, weight="W"), bias=None)


def test_onnx_two_heads_are_listed(tmp_path):
    path = save_onnx(tmp_path / "m.onnx", TWO, TWO_TENSORS, outputs=["p", "q"])
    with pytest.raises(ModelFileError, match="several outputs") as caught:
        read_output_layer(path)
    assert "--weight NAME" in str(caught.value)
    assert "W  3 x 7" in str(caught.value)
    assert "V  3 x 7" in str(caught.value)
    assert_layer(read_output_layer(path, weight="V"), WEIGHT + 1, None)


def test_onnx_prefers_the_output_that_chooses_a_class(tmp_path):
    nodes = [*TWO, node("Softmax", "q", "z")]
    path = save_onnx(tmp_path / "m.onnx", nodes, TWO_TENSORS, outputs=["p", "z"])
    assert read_output_layer(path).weight_name == "V"


def test_onnx_prefers_logits_and_ignores_the_cache(tmp_path):
    for name, other in (("logits", "p"), ("y", "present.0.key")):
        nodes = [node("MatMul", "x W", other), node("MatMul", "x V", name)]
        path = save_onnx(tmp_path / "m.onnx", nodes, TWO_TENSORS, outputs=[name, other])
        assert read_output_layer(path).weight_name == "V"


def test_onnx_second_output_is_no_substitute_for_an_unreadable_first(tmp_path):
    nodes = [*TWO, node("Relu", "p", "r")]
    path = save_onnx(tmp_path / "m.onnx", nodes, TWO_TENSORS, outputs=["r", "q"])
    with pytest.raises(ModelFileError, match=r"r <- Relu.*choose one with --weight"):
        read_output_layer(path)


def test_onnx_pooler_is_not_an_output_layer(tmp_path):
    nodes = [*HEAD, node("Tanh", "y", "t")]
    path = save_onnx(tmp_path / "m.onnx", nodes, TENSORS, outputs=["t"])
    with pytest.raises(ModelFileError, match="no output leads"):
        read_output_layer(path)


def test_onnx_named_embedding_that_no_product_uses(tmp_path):
    nodes = [node("Gather", "E x", "g"), node("Relu", "g", "y")]
    path = save_onnx(tmp_path / "m.onnx", nodes, {"E": WEIGHT, "b": BIAS})
    assert_layer(read_output_layer(path, weight="E"), bias=None)
    assert_layer(read_output_layer(path, weight="E", bias="b"))


def test_onnx_bias_by_name_or_none(tmp_path):
    path = save_onnx(tmp_path / "m.onnx", HEAD, {**TENSORS, "other": BIAS + 1})
    assert_layer(read_output_layer(path, bias="other"), bias=BIAS + 1)
    assert_layer(read_output_layer(path, bias=False), bias=None)
    with pytest.raises(ModelFileError, match="did you mean 'other'"):
        read_output_layer(path, bias="othr")


# --- safetensors ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        ("lm_head.weight", "lm_head.bias"),
        ("output.weight", None),
        ("model.embed_out.weight", None),
        ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"),
        ("cls.predictions.decoder.weight", "cls.predictions.bias"),
        ("lm_head.decoder.weight", "lm_head.bias"),
        ("classifier.6.weight", "classifier.6.bias"),
        ("classifier.out_proj.weight", "classifier.out_proj.bias"),
        ("score.weight", None),
        ("fc.weight", "fc.bias"),
        ("head.fc.weight", "head.fc.bias"),
        ("model.embed_tokens.weight", None),
        ("transformer.wte.weight", None),
        ("model.shared.weight", "final_logits_bias"),
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"),
        ("anything.at.all", None),
    ],
)
def test_safetensors_names(tmp_path, weight, bias):
    others = {
        "norm.weight": np.ones(D, np.float32),
        "ids": np.zeros((2, 2), np.int64),
    }
    if weight != "anything.at.all":
        square = np.eye(D, dtype=np.float32)
        others |= {"model.layers.0.fc.weight": square, "encoder.embed_tokens.weight": square}
        others["classifier.0.weight" if weight[-8] == "6" else "pooler.weight"] = square
    tensors = {weight: WEIGHT, **others}
    if bias is not None:
        tensors[bias] = BIAS[None] if bias == "final_logits_bias" else BIAS
    save_file(tensors, tmp_path / "model.safetensors")
    layer = read_output_layer(tmp_path / "model.safetensors")
    assert (layer.weight_name, layer.bias_name) == (weight, bias)
    assert_layer(layer, bias=None if bias is None else BIAS)


def test_safetensors_head_beats_embedding(tmp_path):
    save_file(
        {"model.embed_tokens.weight": WEIGHT + 1, "lm_head.weight": WEIGHT},
        tmp_path / "m.safetensors",
    )
    assert read_output_layer(tmp_path / "m.safetensors").weight_name == "lm_head.weight"


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shift", [0, 1])
def test_safetensors_float_types_are_mapped(tmp_path, kind, shift):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    code, dtype = {
        "float16": ("F16", np.float16),
        "bfloat16": ("BF16", ml_dtypes.bfloat16),
        "float32": ("F32", np.float32),
        "float64": ("F64", np.float64),
    }[kind]
    weight = WEIGHT.astype(dtype)
    header = {"lm_head.weight": {"dtype": code, "shape": [N, D], "data_offsets": [0, 0]}}
    header["lm_head.weight"]["data_offsets"] = [shift, shift + weight.nbytes]
    header["byte"] = {"dtype": "U8", "shape": [shift], "data_offsets": [0, shift]}
    text = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(shift) + weight.tobytes())
    layer = read_output_layer(path)
    assert layer.weight.dtype == dtype
    assert layer.weight.flags.aligned
    assert_layer(layer, weight, None)


def test_safetensors_bias_length_or_kernel_shows_the_orientation(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"lm_head.weight": WEIGHT.T.copy(), "lm_head.bias": BIAS}, path)
    assert_layer(read_output_layer(path))
    save_file({"lm_head.kernel": WEIGHT.T.copy()}, path)
    assert_layer(read_output_layer(path), bias=None)
    save_file({"lm_head.weight": WEIGHT.T.copy()}, path)
    assert_layer(read_output_layer(path, transpose=True), bias=None)


def test_safetensors_shards(tmp_path):
    save_file({"lm_head.weight": WEIGHT}, tmp_path / "b.safetensors")
    save_file({"x.weight": WEIGHT}, tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    where = {"lm_head.weight": "b.safetensors", "x.weight": "a.safetensors"}
    index.write_text(json.dumps({"weight_map": where}))
    assert_layer(read_output_layer(index), bias=None)
    assert_layer(read_output_layer(tmp_path), bias=None)
    index.write_text(json.dumps({"weight_map": where | {"y.weight": "b.safetensors"}}))
    with pytest.raises(ModelFileError, match=r"'y.weight' in 'b.safetensors'"):
        read_output_layer(index, weight="y.weight")
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ModelFileError, match="download the whole checkpoint"):
        read_output_layer(index)
    index.write_text('{"weight_map": 3}')
    with pytest.raises(ModelFileError, match="index of a sharded checkpoint"):
        read_output_layer(index)


# --- NumPy ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "bias"), [("weight", "bias"), ("W", "b"), ("w", "b"), ("fc_w", "fc_b")]
)
@pytest.mark.parametrize("flip", [False, True])
def test_npz(tmp_path, weight, bias, flip):
    path = tmp_path / "m.npz"
    stored = WEIGHT.T if flip else WEIGHT
    np.savez_compressed(path, **{weight: stored, bias: BIAS, "enc_w_hh": WEIGHT[:2]})
    layer = read_output_layer(path)
    assert (layer.weight_name, layer.bias_name) == (weight, bias)
    assert_layer(layer)


def test_npz_only_matrix_and_named_bias(tmp_path):
    np.savez(tmp_path / "m.npz", arr_0=WEIGHT, arr_1=BIAS)
    assert_layer(read_output_layer(tmp_path / "m.npz"), bias=None)
    assert_layer(read_output_layer(tmp_path / "m.npz", bias="arr_1"))


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "m.npy", WEIGHT)
    layer = read_output_layer(tmp_path / "m.npy")
    assert isinstance(layer.weight, np.memmap)
    assert_layer(layer, bias=None)


# --- labels ---------------------------------------------------------------------------

NAMES = ["a", "b\u2028c", " ", "\u0301", "", "é", "z"]


def save_npy(tmp_path):
    np.save(tmp_path / "m.npy", WEIGHT)
    return tmp_path / "m.npy"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "\n".join(NAMES)),
        ("l.txt", "\n".join(NAMES) + "\n"),
        ("l.txt", "\ufeff" + "\r\n".join(NAMES) + "\r\n"),
        ("l.json", json.dumps(NAMES)),
        ("l.json", json.dumps({name: i for i, name in enumerate(NAMES)})),
        ("l.json", json.dumps(dict(enumerate(NAMES)))),
        ("l.json", json.dumps({"id2label": dict(enumerate(NAMES)), "hidden_size": 3})),
        ("l.json", json.dumps({"target_labels": NAMES, "size": 3})),
        ("l.json", json.dumps({"model": {"vocab": [[name, -1.5] for name in NAMES]}})),
        (
            "l.json",
            json.dumps(
                {
                    "model": {"vocab": {name: i for i, name in enumerate(NAMES[:-1])}},
                    "added_tokens": [{"id": N - 1, "content": "z"}],
                }
            ),
        ),
    ],
)
def test_labels_file(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    layer = read_output_layer(save_npy(tmp_path), labels=tmp_path / name)
    assert layer.labels == NAMES
    assert layer.label_source == str(tmp_path / name)


def test_vocabulary_with_gaps(tmp_path):
    (tmp_path / "l.json").write_text(json.dumps({"a": 0, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}))
    layer = read_output_layer(save_npy(tmp_path), labels=tmp_path / "l.json")
    assert layer.labels[:3] == ["a", "<no token 1>", "b"]
    assert "1 of 7 classes have no token" in layer.label_source


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", b"a\nb\n", "2 lines for 7 classes"),
        ("l.txt", b"a\nb\nc\nd\ne\n", r"dictionary of a CTC model.*<blank>.*one space"),
        ("l.txt", b"\xff\xfe\x00", "must be UTF-8"),
        ("l.json", b"{", "not valid JSON"),
        ("l.json", b"3", "expected a list of strings"),
        ("l.json", b'["a"]', "1 labels for 7 classes"),
        ("l.json", b'{"a": 9}', "ids up to 9 for 7 classes"),
        ("l.json", b'{"a": 0}', "1 labels with ids up to 0 for 7 classes"),
        ("l.json", b'{"a": -1}', "7 classes"),
        ("l.json", b'{"a": 1.5}', "expected {token: id}"),
        ("l.json", b'{"model": {}}', "expected a vocabulary"),
        ("l.json", b'{"a": "b"}', "expected a vocabulary"),
    ],
)
def test_bad_labels(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_output_layer(save_npy(tmp_path), labels=tmp_path / name)
    assert name in str(caught.value)


def test_missing_labels_file(tmp_path):
    with pytest.raises(ModelFileError, match="cannot read the labels"):
        read_output_layer(save_npy(tmp_path), labels=tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("dictionary", "labels", "said"),
    [
        ("abcdefg", list("abcdefg"), "'character'"),
        ("bcdefg", ["<blank>", *"bcdefg"], "class 0 is the CTC blank"),
        ("bcdef", ["<blank>", *"bcdef", " "], "class 6 the space"),
        ("b\u2028def", ["<blank>", *"b\u2028def", " "], "class 6 the space"),
        ("abc", None, None),
    ],
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_paddleocr_dictionary(tmp_path, dictionary, labels, said, end):
    metadata = {"character": "\n".join(dictionary) + end}
    layer = read_output_layer(save_onnx(tmp_path / "m.onnx", HEAD, TENSORS, metadata=metadata))
    assert layer.labels == labels
    assert layer.label_source == said or said in layer.label_source


def test_labels_beside_a_checkpoint(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"lm_head.weight": WEIGHT}, path)
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    (tmp_path / "vocab.txt").write_text("too\nfew\n")
    assert read_output_layer(path).labels is None
    vocabulary = {"model": {"vocab": {name: i for i, name in enumerate(NAMES)}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(vocabulary))
    layer = read_output_layer(path)
    assert layer.labels == NAMES
    assert layer.label_source.endswith("tokenizer.json")


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.bin", b"x", "unknown kind of file '.bin'.*save it with safetensors"),
        ("m.gguf", b"x", r"unknown kind of file.*\.safetensors, \.onnx, \.npz, \.npy"),
        ("m", b"x", "no extension"),
        ("m.onnx", b"", "the file is empty"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("m.onnx", b"not a model", "not a complete .onnx file"),
        ("m.onnx", b"\x08\x07", "without a graph"),
        ("m.safetensors", b"short", "not a complete .safetensors file"),
        ("m.safetensors", b"\xff" * 64, "not a complete .safetensors file"),
        ("m.npz", b"PK\x03\x04 cut", "not a complete .npz file"),
        ("m.npy", b"\x93NUMPY\x01\x00", "not a complete .npy file"),
        ("m.npy", b"garbage", "not a complete .npy file"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_output_layer(path)
    assert str(path) in str(caught.value)


def save_every_format(tmp_path):
    save_onnx(tmp_path / "m.onnx", HEAD, TENSORS)
    save_file({"lm_head.weight": WEIGHT}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", weight=WEIGHT)
    np.save(tmp_path / "m.npy", WEIGHT)


@pytest.mark.parametrize("name", ["m.onnx", "m.safetensors", "m.npz", "m.npy"])
def test_truncated_anywhere(tmp_path, name):
    save_every_format(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        with suppress(ModelFileError):  # or all that is missing follows the tensors
            np.testing.assert_array_equal(read_output_layer(tmp_path / name).weight, WEIGHT)


@pytest.mark.parametrize("name", ["m.onnx", "m.safetensors", "m.npz", "m.npy"])
def test_every_flipped_byte_is_read_or_refused(tmp_path, name):
    save_every_format(tmp_path)
    whole = bytearray((tmp_path / name).read_bytes())
    for place in range(len(whole)):
        damaged = bytes(whole[:place]) + bytes([whole[place] ^ 0x55]) + bytes(whole[place + 1 :])
        (tmp_path / name).write_bytes(damaged)
        with suppress(ModelFileError):
            read_output_layer(tmp_path / name)


@pytest.mark.parametrize("name", ["m.onnx", "m.safetensors", "m.npz", "m.npy"])
def test_missing_names(tmp_path, name):
    save_every_format(tmp_path)
    for option in ({"weight": "nothing"}, {"bias": "nothing"}):
        with pytest.raises(ModelFileError, match="no tensor named 'nothing'"):
            read_output_layer(tmp_path / name, **option)


def test_close_names_are_offered(tmp_path):
    save_every_format(tmp_path)
    with pytest.raises(ModelFileError, match=r"did you mean 'lm_head\.weight'"):
        read_output_layer(tmp_path / "m.safetensors", weight="lm_haed.weight")


@pytest.mark.parametrize(
    ("tensors", "option", "message"),
    [
        ({"a": WEIGHT, "c": WEIGHT + 1}, {}, r"(?s)choose one with --weight.*a  7 x 3.*c  7 x 3"),
        ({"fc.weight": WEIGHT, "head.weight": WEIGHT + 1}, {}, "several tensors look like"),
        ({"wte.weight": WEIGHT, "emb.weight": WEIGHT + 1}, {}, "several embeddings"),
        ({"v": BIAS}, {}, r"no floating-point matrix at all: v \(float32, shape \(7,\)\)"),
        ({"v": WEIGHT.astype(np.int8)}, {}, r"no floating-point matrix at all: v \((int8|I8), "),
        ({"v": BIAS}, {"weight": "v"}, r"shape \(7,\), expected \(classes, features\)"),
        ({"v": WEIGHT[:, :, None, None].repeat(3, 3)}, {"weight": "v"}, "expected"),
        ({"v": WEIGHT.astype(np.int8)}, {"weight": "v"}, "dtype I8.*int8|int8|I8"),
        ({"fc.weight": WEIGHT, "fc.bias": BIAS[:5]}, {}, r"'fc.bias' has shape \(5,\).*--no-bias"),
        ({"fc.weight": WEIGHT, "v": WEIGHT}, {"weight": "v", "bias": "fc.weight"}, "one number"),
        ({"fc.weight": WEIGHT, "v": BIAS.astype(int)}, {"bias": "v"}, "'v' has dtype I64|int64"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, tensors, option, message):
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", **tensors)
    for name in ("m.safetensors", "m.npz"):
        with pytest.raises(ModelFileError, match=message) as caught:
            read_output_layer(tmp_path / name, **option)
        assert name in str(caught.value)


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    objects = np.array([["a"]], object)
    np.savez(tmp_path / "m.npz", weight=objects)
    np.save(tmp_path / "m.npy", objects)
    for name in ("m.npz", "m.npy"):
        with pytest.raises(ModelFileError):
            read_output_layer(tmp_path / name, weight="weight" if name == "m.npz" else None)


def test_folders(tmp_path):
    with pytest.raises(ModelFileError, match="a folder without"):
        read_output_layer(tmp_path)
    save_npy(tmp_path)
    assert_layer(read_output_layer(tmp_path), bias=None)
    np.savez(tmp_path / "n.npz", weight=WEIGHT)
    with pytest.raises(ModelFileError, match=r"several models, give one of m\.npy, n\.npz"):
        read_output_layer(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        read_output_layer(tmp_path / "none.onnx")


def test_missing_extra_names_it(tmp_path, monkeypatch):
    save_every_format(tmp_path)
    for module, name in (("onnx", "m.onnx"), ("safetensors", "m.safetensors")):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(ModuleNotFoundError, match=r'pip install "logitkit\[io\]"'):
            read_output_layer(tmp_path / name)

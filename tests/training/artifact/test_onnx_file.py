"""Files that are refused before onnxruntime reads them, each by its reason."""

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lookalike.training.artifact import onnx_file
from lookalike.training.artifact.onnx_file import OnnxModel, library, read_model
from lookalike.training.errors import ArtifactError, ConfigError
from tests.factories import cloud
from tests.onnx_graphs import graph, linear, save_graph

RELU = helper.make_node("Relu", ["x"], ["y"])
SCALAR = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])


def test_reads_the_ends_of_a_model(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "model.onnx", linear(cloud(3, 2)))
    assert read_model(path) == OnnxModel("x", "y", None, (3,))
    path = save_graph(tmp_path / "fixed.onnx", graph([RELU], rows=(8, 3)))
    assert read_model(path) == OnnxModel("x", "y", 8, (3,))


def test_a_dimension_may_have_any_size() -> None:
    model = OnnxModel("x", "y", None, (3, None))
    assert model.accepts((3, 7))
    assert not model.accepts((4, 7))
    assert not model.accepts((3, 7, 1))


def two_outputs() -> Any:
    model = graph([RELU, helper.make_node("Neg", ["x"], ["z"])], out=("batch", 3))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3]))
    return model


def two_inputs() -> Any:
    model = graph([helper.make_node("Add", ["x", "x2"], ["y"])], out=("batch", 3))
    model.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, ["batch", 3]))
    return model


def with_external_data() -> Any:
    model = linear(cloud(3, 2))
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model


def with_external_data_in_a_branch() -> Any:
    """An If whose branch has a constant in another file."""
    tensor = helper.make_tensor("c", TensorProto.FLOAT, [1, 2], [0.0, 0.0])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "other.bin"
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 2])
    branch = helper.make_graph([helper.make_node("Constant", [], ["b"], value=tensor)], "branch", [], [value])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    return graph([node], weights={"flag": np.array([True])})


def custom() -> Any:
    return graph([helper.make_node("Run", ["x"], ["y"], domain="evil")], domains=["evil"])


def custom_in_a_branch() -> Any:
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Run", ["x"], ["b"], domain="evil")], "branch", [], [value])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    return graph([node], weights={"flag": np.array([True])}, domains=["evil"])


BAD: dict[str, tuple[Any, str]] = {
    "two outputs": (two_outputs, "expected one output, found 2: y, z"),
    "two inputs": (two_inputs, "expected one input, found 2: x, x2"),
    "numbers of float64": (lambda: graph([RELU], dtype=TensorProto.DOUBLE), "expected an input of float32"),
    "an output of three dimensions": (
        lambda: graph([RELU], rows=("batch", 3, 2), out=("batch", 3, 2)),
        r"expected an output of shape \(batch, dimension\), found y of 3 dimensions",
    ),
    "no dimensions of a row": (
        lambda: graph([helper.make_node("Flatten", ["x"], ["y"])], rows=("batch",)),
        r"expected an input of shape",
    ),
    "too large a batch": (
        lambda: graph([RELU], rows=(1_025, 3)),
        "expected batches of any size, or of at most 1,024 rows, found batches of 1,025 rows",
    ),
    "weights in another file": (with_external_data, "expected a model with its weights in the same file"),
    "weights of a branch in another file": (with_external_data_in_a_branch, "weights in the same file"),
    "an operator of its own": (custom, "expected operators of the ONNX standard, found the operator Run of evil"),
    "an operator of its own in a branch": (custom_in_a_branch, "found the operator Run of evil"),
    "an unknown operator": (
        lambda: graph([helper.make_node("NoSuch", ["x"], ["y"])]),
        "expected a valid ONNX model",
    ),
    "shapes that do not fit": (
        lambda: graph([helper.make_node("MatMul", ["x", "w"], ["y"])], weights={"w": cloud(4, 2)}),
        "expected a valid ONNX model",
    ),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD.keys())
def test_refuses_a_model_by_its_reason(tmp_path: Path, make: Any, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        read_model(save_graph(tmp_path / "model.onnx", make()))


def test_accepts_the_functions_of_the_model_itself(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    node = helper.make_node("Twice", ["x"], ["y"], domain="mine")
    model = graph([node], out=("batch", 3), domains=["mine"])
    model.functions.append(function)
    assert read_model(save_graph(tmp_path / "model.onnx", model)).dims == (3,)


def test_refuses_files_of_another_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = linear(cloud(3, 2)).SerializeToString()
    for name, content in {"truncated": whole[:-7], "text": b"hello", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=r"expected (an ONNX file|a valid ONNX model|one input)"):
            read_model(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "bomb.onnx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(1 << 24))
    with pytest.raises(ArtifactError, match="expected an ONNX file"):
        read_model(tmp_path / "bomb.onnx")
    with pytest.raises(ArtifactError, match="No such file"):
        read_model(tmp_path / "missing.onnx")
    monkeypatch.setattr(onnx_file, "MAX_BYTES", len(whole) - 1)
    (tmp_path / "large").write_bytes(whole)
    with pytest.raises(ArtifactError, match=f"expected at most {len(whole) - 1} bytes, found {len(whole)} bytes"):
        read_model(tmp_path / "large")


def test_a_damaged_file_raises_no_other_error(tmp_path: Path) -> None:
    whole = linear(cloud(3, 2)).SerializeToString()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "model.onnx").write_bytes(damaged)
        with contextlib.suppress(ArtifactError):
            read_model(tmp_path / "model.onnx")


def test_a_missing_library_is_named_with_its_extra() -> None:
    assert library("onnx") is onnx
    with pytest.raises(ConfigError, match=r"Run pip install 'lookalike\[onnx\]'"):
        library("onnx_that_is_not_there")

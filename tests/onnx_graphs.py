"""Small ONNX graphs, made operator by operator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["graph", "linear", "looping", "save_graph"]

Dim = int | str | None


def graph(
    nodes: Sequence[Any],
    *,
    rows: Sequence[Dim] = ("batch", 3),
    out: Sequence[Dim] = ("n", "values"),
    weights: dict[str, NDArray[Any]] | None = None,
    dtype: int = TensorProto.FLOAT,
    domains: Sequence[str] = (),
) -> Any:
    """A model whose nodes read `x` of shape `rows` and write `y` of shape `out`."""
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    inside = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", dtype, list(rows))],
        [helper.make_tensor_value_info("y", dtype, list(out))],
        initializers,
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(inside, opset_imports=opsets, ir_version=10)


def linear(matrix: NDArray[np.float32], batch: Dim = "batch") -> Any:
    """The model x @ matrix: (batch, width) -> (batch, dim)."""
    width, dim = matrix.shape
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return graph([node], rows=(batch, width), out=(batch, dim), weights={"w": matrix})


def looping(most: float) -> Any:
    """The model x @ the identity of 3, which for rows with a value above `most` is in a loop that never ends."""
    scalar = helper.make_tensor_value_info
    step = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name} next"]) for name in ("goes on", "rows")],
        "step",
        [
            scalar("count", TensorProto.INT64, []),
            scalar("goes on", TensorProto.BOOL, []),
            scalar("rows", TensorProto.FLOAT, None),
        ],
        [scalar("goes on next", TensorProto.BOOL, []), scalar("rows next", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "most"], ["is large"]),
        helper.make_node("Loop", ["", "is large", "x"], ["y"], body=step),
    ]
    return graph(nodes, out=("batch", 3), weights={"most": np.array(most, np.float32)})


def save_graph(path: Path, model: Any) -> Path:
    onnx.save_model(model, str(path))
    return path

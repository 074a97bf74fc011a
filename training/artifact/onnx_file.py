"""Check an ONNX file before it is used: standard operators, no other files, one input and one output of float32.

An ONNX file is a graph of operators with their weights. Standard operators run no code from the file. All other
operators are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lookalike.training.errors import ArtifactError, ConfigError

__all__ = ["MAX_BATCH", "MAX_BYTES", "OnnxModel", "library", "read_model"]

MAX_BYTES = 1 << 30
"""The most bytes of a file."""
MAX_BATCH = 1_024
"""The most rows of a batch, if the model reads batches of one size only: one row is repeated to fill the batch."""
_STANDARD = {"", "ai.onnx", "ai.onnx.ml"}
_FLOAT, _EXTERNAL = 1, 1
"""onnx.TensorProto.FLOAT and onnx.TensorProto.EXTERNAL."""
Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxModel:
    """A checked model.

    Attributes:
        input, output: the name of the input, and the name of the output.
        batch: the rows of every batch; None if a batch may have any number.
        dims: the shape of one row; None for a dimension of any size.
    """

    input: str
    output: str
    batch: int | None
    dims: Dims

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a row may have this shape."""
        return len(shape) == len(self.dims) and all(
            wanted in (None, size) for wanted, size in zip(self.dims, shape, strict=True)
        )


def library(name: str) -> Any:
    """Return a library of the extra `onnx`. Raises ConfigError if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        remedy = "Run pip install 'lookalike[onnx]'."
        raise ConfigError("ONNX", f"the library {name}", found="no such library", remedy=remedy) from error


def read_model(path: Path) -> OnnxModel:
    """Read and check a model. Raises ArtifactError, with the reason, if the model cannot be used."""
    onnx = library("onnx")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _refused(path, f"at most {MAX_BYTES:,} bytes", f"{size:,} bytes")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise _refused(path, "an ONNX file", error.strerror or str(error)) from error
    except ArtifactError:
        raise
    except Exception as error:  # protobuf's DecodeError, whose module differs between versions
        raise _refused(path, "an ONNX file", "content of another form, or a truncated file") from error
    _check_graphs(path, model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, or what their libraries raise
        raise _refused(path, "a valid ONNX model", _first_line(error)) from error
    return _read_signature(path, model.graph)


def _check_graphs(path: Path, model: Any) -> None:
    """Raise ArtifactError for an operator outside the ONNX standard, or for weights in another file."""
    own = {(function.domain, function.name) for function in model.functions}
    graphs = [model.graph, *_inner_graphs(model.graph.node)]
    for function in model.functions:
        graphs += [function, *_inner_graphs(function.node)]
    for graph in graphs:
        for node in graph.node:
            if node.domain not in _STANDARD and (node.domain, node.op_type) not in own:
                found = f"the operator {node.op_type[:60]} of {node.domain[:60]}"
                raise _refused(path, "operators of the ONNX standard", found)
        if any(tensor.data_location == _EXTERNAL or tensor.external_data for tensor in _tensors(graph)):
            remedy = "Save the model as one file, as torch.onnx.export(..., external_data=False) does."
            raise _refused(path, "a model with its weights in the same file", "weights in another file", remedy)


def _inner_graphs(nodes: Any) -> Iterator[Any]:
    """Yield the graphs inside nodes, such as the branches of an If, at any depth."""
    for node in nodes:
        for attribute in node.attribute:
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield graph
                yield from _inner_graphs(graph.node)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors of a graph or a function, without the tensors of inner graphs."""
    yield from getattr(graph, "initializer", ())
    sparse = list(getattr(graph, "sparse_initializer", ()))
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _read_signature(path: Path, graph: Any) -> OnnxModel:
    """Return the input and the output of a graph. Raises ArtifactError if the encoder cannot use them."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for name, ends in (("input", inputs), ("output", list(graph.output))):
        if len(ends) != 1:
            raise _refused(path, f"one {name}", f"{len(ends)}: {', '.join(end.name for end in ends)[:80] or 'none'}")
        if not ends[0].type.HasField("tensor_type") or ends[0].type.tensor_type.elem_type != _FLOAT:
            raise _refused(path, f"an {name} of float32", f"{ends[0].name[:80]} of another type")
    (row,), (embedding,) = inputs, graph.output
    batch, *dims = _dims(row) or [None]
    if not dims:
        raise _refused(path, "an input of shape (batch, ...)", f"{row.name[:80]} without dimensions of a row")
    if batch is not None and batch > MAX_BATCH:
        raise _refused(path, f"batches of any size, or of at most {MAX_BATCH:,} rows", f"batches of {batch:,} rows")
    out = _dims(embedding)
    if len(out) != 2:
        raise _refused(path, "an output of shape (batch, dimension)", f"{embedding.name[:80]} of {len(out)} dimensions")
    return OnnxModel(row.name, embedding.name, batch, tuple(dims))


def _dims(value: Any) -> list[int | None]:
    return [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _refused(path: Path, expected: str, found: str, remedy: str = "") -> ArtifactError:
    return ArtifactError(str(path), expected=expected, found=found, remedy=remedy)

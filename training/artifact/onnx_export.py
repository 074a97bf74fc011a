"""Write an autoencoder's encoder, with its preprocessing, as an ONNX file, and compare it with the original."""

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.artifact.export import check_same
from lookalike.training.artifact.onnx_encoder import run_model
from lookalike.training.artifact.onnx_file import library
from lookalike.training.errors import DataError
from lookalike.training.sealed import replacing

__all__ = ["export_onnx"]

_REMEDY = "This encoder cannot be exported to ONNX: serve the version instead."
_BATCH = 2
"""Rows of the example that torch traces; the file accepts any number."""


class _Exported(nn.Module):
    """From rows, (n, *input_shape) raw float32 less the origin, to embeddings, (n, latent_dim)."""

    def __init__(self, encoder: Encoder, *, unit_length: bool) -> None:
        super().__init__()
        self.preprocess = encoder.preprocess.to(torch.device("cpu"))
        self.layers = nn.Sequential(*map(_plain, copy.deepcopy(encoder.encoder).cpu())).eval()
        self.unit_length = unit_length

    def forward(self, rows: Tensor) -> Tensor:
        latent: Tensor = self.layers(self.preprocess.apply(rows.flatten(1)))  # (n, latent_dim)
        return nn.functional.normalize(latent, dim=1) if self.unit_length else latent


def export_onnx(encoder: Encoder, out: Path, *, wanted: Floats, probe: Floats, unit_length: bool) -> None:
    """Write the encoder to `out`, which appears whole or not at all.

    The input of the file is a row in the encoder's input shape; in a table, a category is its code, and a missing value
    is NaN. If the encoder has bases or an origin, the user of the file must first subtract the columns' bases in
    integers, then the origin in float64; the file's metadata has both.

    Args:
        wanted: (n, latent_dim) the encoder's embeddings of the probe rows; the file must compute the same.
        probe: (n, width) raw rows.
        unit_length: whether the embeddings are scaled to length 1.

    Raises:
        ConfigError: the libraries of the extra `onnx` are not installed.
        DataError: `out` is not a path for a file in an existing folder.
        ExportError: the embeddings or their neighbors differ from the encoder's.
    """
    if not out.parent.is_dir() or out.is_dir():
        raise DataError(str(out), expected="a path for a file, in a folder that exists", found="no such path")
    library("onnx"), library("onnxruntime"), library("onnxscript")
    model = _traced(encoder, unit_length)
    facts = {"input_shape": list(encoder.input_shape), "columns": [column.name for column in encoder.columns]}
    if encoder.origin is not None:
        facts["origin"] = encoder.origin.tolist()
    if any(bases := [column.base for column in encoder.columns]):
        facts["base"] = bases
    for name, fact in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"lookalike.{name}", json.dumps(fact)
    with replacing(out) as new:
        new.write_bytes(model.SerializeToString())
        found = run_model(new, probe.reshape(len(probe), *encoder.input_shape))
        check_same(wanted, found, names=("the encoder's", "exported"), remedy=_REMEDY)


def _traced(encoder: Encoder, unit_length: bool) -> Any:
    """Return the encoder as an ONNX protobuf."""
    example = torch.zeros(_BATCH, *encoder.input_shape)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torch warns that it does not find torchvision
    try:
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                _Exported(encoder, unit_length=unit_length),
                (example,),
                input_names=["rows"],
                output_names=["embeddings"],
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logging.disable(level)
    if program is None:  # never with dynamo
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model_proto


def _plain(layer: nn.Module) -> nn.Module:
    """Return the layer of torch that a steady layer (training.artifact.steady) is derived from."""
    for kind in type(layer).__mro__:
        if kind.__module__.startswith("torch.nn.") and kind is not nn.Module:
            plain = copy.copy(layer)
            plain.__class__ = kind
            return plain
    return layer

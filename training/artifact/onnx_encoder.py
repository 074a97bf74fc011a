"""The artifact of an ONNX model: model.onnx, and a manifest with the shape of its input.

Rows are not scaled: the model reads the pixels of a photo from 0 to 255, and the numbers of a table. A model that needs
scaled rows must contain the scaling.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import FORMAT
from lookalike.training.artifact.export import check_same
from lookalike.training.artifact.fields import Fields, check_fields
from lookalike.training.artifact.onnx_file import OnnxModel, library, read_model
from lookalike.training.artifact.onnx_session import OnnxSession
from lookalike.training.artifact.preprocess import Preprocessor, build_preprocessor
from lookalike.training.artifact.row_encoder import MAX_DIM, Refusal, RowEncoder, unscaled
from lookalike.training.choices import DeviceName
from lookalike.training.config import DataConfig
from lookalike.training.errors import ArtifactError, ConfigError, DataError
from lookalike.training.rows import Rows
from lookalike.training.sealed import REMEDY, open_sealed, seal
from lookalike.training.tables.columns import FittedColumn, describe_columns, read_columns
from lookalike.training.transforms import Transform

__all__ = ["OnnxEncoder", "OnnxManifest", "load_onnx", "reading_settings", "run_model", "write_onnx"]

_MODEL = "model.onnx"
_BLOCK_ROWS, _BLOCK_VALUES = 64, 1 << 22
_PROBED = 64
"""Rows that are embedded one by one and together, and compared."""
_LARGEST = float(np.finfo(np.float32).max)
_Size = Annotated[int, Field(ge=1, lt=1 << 31)]
_Shape = Annotated[list[_Size], Field(min_length=1, max_length=8)]


class OnnxManifest(Fields):
    """The manifest. A row is reshaped to `model_shape`; before, its last axis is moved first if `channels_first`."""

    format: str
    kind: Literal["onnx"]
    input_shape: _Shape
    latent_dim: Annotated[int, Field(ge=1, le=MAX_DIM)]
    model_shape: _Shape
    channels_first: bool
    columns: list[dict[str, Any]] = Field([])
    transform: Transform | None = None
    config: dict[str, dict[str, Any]] = Field({})


@dataclasses.dataclass(frozen=True, repr=False)
class OnnxEncoder(RowEncoder):
    """Embeds rows with onnxruntime, which is loaded at the first row."""

    kind = "onnx"
    is_fast = False

    path: Path
    model: OnnxModel

    def encode(self, rows: Floats) -> Floats:
        """(n, width) raw float32 -> (n, latent_dim) float32. Raises ArtifactError if the model fails."""
        count = self.model.batch or max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // self.width))
        output = np.empty((len(rows), self.latent_dim), np.float32)
        for start in range(0, len(rows), count):
            block = rows[start : start + count]
            size = len(block)
            if self.model.batch and size < count:  # the model reads batches of one size only
                block = np.concatenate([block, np.repeat(block[-1:], count - size, axis=0)])
            output[start : start + size] = self._run(self._shaped(block))[:size]
        return output

    def first_refused(self, rows: Floats) -> Refusal | None:
        missing = np.flatnonzero(np.isnan(rows).any(axis=1))
        if not len(missing):
            return None
        return Refusal(int(missing[0]), "a row without missing values", "a missing value", "Fill or remove it.")

    def _shaped(self, block: Floats) -> Floats:
        """(n, width) -> (n, *model_shape)"""
        pictures = block.reshape(len(block), *self.input_shape)
        if self.header["channels_first"]:
            pictures = np.moveaxis(pictures, -1, 1)  # (n, channels, ...)
        return np.ascontiguousarray(pictures.reshape(len(block), *self.header["model_shape"]), np.float32)

    def _run(self, block: Floats) -> Floats:
        """(n, *model_shape) -> (n, latent_dim)"""
        output = self._session.run(block)
        if output.shape != (len(block), self.latent_dim) or output.dtype != np.float32:
            expected, found = f"float32 ({len(block)}, {self.latent_dim})", f"{output.dtype} {output.shape}"
            raise ArtifactError(f"{self.path}, output", expected=expected, found=found)
        embeddings: Floats = output
        return embeddings

    @cached_property
    def _session(self) -> OnnxSession:
        return OnnxSession(self.path, self.model, self.device)


def reading_settings(path: Path, settings: DataConfig) -> DataConfig:
    """Return the settings for photos of the size that a model reads; unchanged if the model does not read one size.

    Raises ArtifactError if the model cannot be used.
    """
    dims = read_model(path).dims
    if len(dims) != 3 or None in dims or settings.image_size != "auto":
        return settings
    first, middle, last = (size or 0 for size in dims)
    height, width, channels = (middle, last, first) if first in (1, 3) else (first, middle, last)
    if channels not in (1, 3):
        return settings
    return dataclasses.replace(settings, image_size=(height, width), image_mode="grey" if channels == 1 else "rgb")


def run_model(path: Path, inputs: Floats) -> Floats:
    """(n, ...) -> (n, dimension): the output of a checked model. Raises ArtifactError if it cannot be used or fails."""
    embeddings: Floats = OnnxSession(path, read_model(path), torch.device("cpu")).run(inputs)
    return embeddings


def write_onnx(folder: Path, model: Path, rows: Rows) -> None:
    """Copy a model to the empty `folder`, try it on some of the rows, and seal the artifact.

    Raises:
        ArtifactError: the model cannot be used, or fails.
        DataError: the model's input does not fit the shape of the rows, or a column has no numbers.
        ExportError: the embedding of a row depends on the other rows of its batch.
    """
    shutil.copyfile(model, folder / _MODEL)
    with _named(model):
        checked = read_model(folder / _MODEL)
    fed, channels_first = _layout(checked, rows)
    probe = next(rows.chunks(_PROBED)).inputs
    columns = _numeric_columns(rows)
    header = {
        "input_shape": list(rows.shape),
        "model_shape": list(fed),
        "channels_first": channels_first,
        "latent_dim": 1,
        **({"columns": describe_columns(columns)} if columns else {}),
        **({"transform": rows.transform.model_dump(mode="json")} if rows.transform else {}),
        **({"config": {"data": _plain(rows.settings)}} if rows.settings else {}),
    }
    encoder = _assembled(header, "", folder / _MODEL, checked, "cpu")
    with _named(model):
        header["latent_dim"] = _dimension(encoder, probe[:1])
        encoder = dataclasses.replace(encoder, header=header)
        together = encoder.encode(probe)
        alone = np.concatenate([encoder.encode(row[None]) for row in probe])
    if not np.isfinite(together).all():
        row = int(np.flatnonzero(~np.isfinite(together).all(axis=1))[0])
        raise DataError(f"{rows.name}, row {row}", "a row with a finite embedding", f"NaN or infinity from {model}")
    remedy = "Export the model in eval mode: dropout and batch statistics make an embedding depend on the batch."
    check_same(together, alone, names=("one batch's", "single rows'"), remedy=remedy)
    seal(folder, FORMAT, {"kind": OnnxEncoder.kind, **header})


def load_onnx(folder: Path, device: DeviceName = "cpu") -> OnnxEncoder:
    """Verify `folder`, check its model and return its encoder. Raises ArtifactError if a file is damaged."""
    sealed = open_sealed(folder, FORMAT, needs=(_MODEL,))
    fields, model = check_fields(sealed, OnnxManifest), read_model(folder / _MODEL)
    place = str(folder / "manifest.json")
    if not model.accepts(tuple(fields.model_shape)) or math.prod(fields.model_shape) != math.prod(fields.input_shape):
        expected, found = f"the shape of the model's input, {model.dims}", f"{fields.model_shape}"
        raise ArtifactError(f"{place}, model_shape", expected=expected, found=found, remedy=REMEDY)
    try:
        return _assembled(sealed.header, sealed.digest, folder / _MODEL, model, device)
    except ValueError as error:
        raise ArtifactError(place, expected="a description of an encoder", found=str(error)) from error


def _assembled(header: dict[str, Any], digest: str, path: Path, model: OnnxModel, device: DeviceName) -> OnnxEncoder:
    width = math.prod(header["input_shape"])
    preprocess: Preprocessor = unscaled(width)
    if "columns" in header:
        preprocess = build_preprocessor("none", read_columns(header["columns"]))
        if preprocess.width != width or any(column.kind != "numeric" for column in preprocess.columns):
            raise ValueError(f"{preprocess.width} columns for rows of {width} numbers")
    return OnnxEncoder(header, digest, _device(device), preprocess, np.empty(0, np.uint64), path=path, model=model)


def _device(name: DeviceName) -> torch.device:
    """Return CUDA if onnxruntime can use it, else the CPU. Raises ConfigError if `cuda` is not available."""
    if name == "cpu":
        return torch.device("cpu")
    has_cuda = "CUDAExecutionProvider" in library("onnxruntime").get_available_providers()
    if name == "cuda" and not (has_cuda and torch.cuda.is_available()):
        remedy = "Use auto or cpu, or install onnxruntime-gpu."
        raise ConfigError(
            "device", expected="an onnxruntime with CUDA", found="an onnxruntime without CUDA", remedy=remedy
        )
    return torch.device("cuda" if has_cuda and torch.cuda.is_available() else "cpu")


@contextmanager
def _named(model: Path) -> Iterator[None]:
    """Name the user's file in errors about the copy of the file, or about the output of the copy."""
    try:
        yield
    except ArtifactError as error:
        field = str(model) + error.field.rpartition(_MODEL)[2]
        raise ArtifactError(field, error.expected, error.found, error.remedy) from error


def _layout(model: OnnxModel, rows: Rows) -> tuple[tuple[int, ...], bool]:
    """Return the shape of a row for the model, and whether the channels move first; DataError if no shape fits."""
    shape = tuple(rows.shape)
    moved = (shape[-1], *shape[:-1])
    for fed, channels_first in (
        (shape, False),
        ((rows.width,), False),
        (moved, len(shape) > 1),
        ((1, *shape), False),
        ((*shape, 1), False),
    ):
        if model.accepts(fed):
            return fed, channels_first
    wanted = ", ".join("any" if size is None else str(size) for size in model.dims)
    raise DataError(rows.name, f"rows of shape ({wanted}), as the model reads them", f"rows of shape {shape}")


def _numeric_columns(rows: Rows) -> tuple[FittedColumn, ...]:
    """Return the columns of a table as numbers that are not scaled. Raises DataError if a column has other values."""
    for column in rows.columns:
        if column.kind != "numeric":
            remedy = f"Leave it out: --set data.exclude='[\"{column.name}\"]'."
            raise DataError(f"{rows.name}, column {column.name}", "numbers", f"{column.kind} values", remedy)
    return tuple(FittedColumn(column, 0, low=-_LARGEST, high=_LARGEST) for column in rows.columns)


def _dimension(encoder: OnnxEncoder, row: Floats) -> int:
    """Return the number of values of an embedding."""
    block = encoder._shaped(np.repeat(row, encoder.model.batch or 1, axis=0))
    output = encoder._session.run(block)
    if output.ndim != 2 or len(output) != len(block) or not 1 <= output.shape[1] <= MAX_DIM:
        expected = f"({len(block)}, at most {MAX_DIM:,})"
        raise ArtifactError(f"{encoder.path}, output", expected=f"the shape {expected}", found=f"{output.shape}")
    return int(output.shape[1])


def _plain(settings: DataConfig) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return fields

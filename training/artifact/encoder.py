"""The encoder artifact: a sealed folder with the two halves of an autoencoder and its preprocessing.

    weights.safetensors   encoder.N.weight, encoder.N.bias, decoder.N..., preprocess.offset, ..., and preprocess.origin
                          in float64, if rows have an origin (training.tables.origin); a descriptor has encoder.0.base,
                          encoder.0.offset and encoder.0.factor
    manifest.json         input_shape, latent_dim, the layers in order, and how it was made

A table's preprocessing is not in the weights but in the manifest, column by column (`training.tables.columns`).

Writer and reader are both here. Loading runs no code from the file and needs no training loop.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lookalike.training.array_types import Floats
from lookalike.training.artifact.architecture import describe, rebuild
from lookalike.training.artifact.cuda import CudaSteps
from lookalike.training.artifact.fields import check_fields
from lookalike.training.artifact.manifest import EncoderManifest
from lookalike.training.artifact.normalizer import normalizer_of
from lookalike.training.artifact.preprocess import Preprocessor, build_preprocessor
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.choices import DeviceName, ScaleKind
from lookalike.training.errors import ArtifactError, ConfigError
from lookalike.training.models.layers import ToPicture, ToSeries
from lookalike.training.sealed import Sealed, open_sealed, seal
from lookalike.training.tables.columns import describe_columns, read_columns
from lookalike.training.tables.origin import Origin
from lookalike.training.transforms import read_transform

__all__ = ["FORMAT", "Encoder", "load_encoder", "resolve_device", "write_encoder"]

FORMAT = "lookalike-encoder/6"
_WEIGHTS = "weights.safetensors"
_BLOCK_ROWS = 1_024
_BLOCK_VALUES = 1 << 23
"""A block has at most this many rows, and at most this many values between two layers: 32 MiB."""
_BLOCK_PICTURES = 64
"""Pictures in a block: the values around each place, nine times as many, fit the processor's cache."""
_PARTS = ("offset", "factor", "low", "high")
_ORIGIN = "preprocess.origin"


@dataclass(frozen=True, repr=False)
class Encoder(RowEncoder):
    """A loaded autoencoder: its two halves with their preprocessing."""

    kind = "autoencoder"

    encoder: nn.Sequential
    decoder: nn.Sequential
    widest: int
    """The most values of a row between two layers."""

    def encode(self, rows: Floats) -> Floats:
        """(n, width) raw float32 -> (n, latent_dim) float32, not normalized; in a table, NaN is a missing value."""
        return self._blockwise(
            "encode", rows, self.latent_dim, lambda x: _through(self.encoder, self.preprocess.apply(x))
        )

    def reconstruct(self, rows: Floats) -> Floats:
        """(n, width) raw float32 -> (n, width) through the bottleneck and back, in the raw unit."""
        return self.decode(self.encode(rows))

    def decode(self, latent: Floats) -> Floats:
        """(n, latent_dim), the output of `encode` -> (n, width) float32 in the raw unit."""
        logits = self.header["output"] == "logits"

        def step(z: Tensor) -> Tensor:
            return self.preprocess.decode(_through(self.decoder, z), logits=logits)

        return self._blockwise("decode", latent, self.width, step)

    def encode_with_errors(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the output of `encode`, and the root mean square of the reconstruction error over a row's features.

        Features of missing values have no error. (n, width) raw float32 -> (n, latent_dim) and (n,) float32, the errors
        in the unit of the preprocessed rows; NaN or infinite if the decoder's output is.
        """
        logits = self.header["output"] == "logits"

        def step(x: Tensor) -> Tensor:
            features = self.preprocess.apply(x)  # (block, features)
            latent = _through(self.encoder, features)
            differences, root = self.preprocess.differences(_through(self.decoder, latent), features, logits=logits)
            lengths = torch.linalg.vector_norm(differences, dim=1, keepdim=True, dtype=torch.float64)  # (block, 1)
            return torch.cat([latent, (lengths / root).float()], dim=1)  # (block, latent_dim + 1)

        both = self._blockwise("encode with errors", rows, self.latent_dim + 1, step)
        return both[:, :-1], both[:, -1]

    def warming(self) -> AbstractContextManager[None]:
        """On a GPU, capture a graph per small batch size that is used in this context: later batches are faster."""
        return self._on_cuda.capturing() if self.device.type == "cuda" else nullcontext()

    @cached_property
    def _takes_pictures(self) -> bool:
        return any(isinstance(layer, ToPicture | ToSeries) for layer in self.encoder)

    @cached_property
    def _on_cuda(self) -> CudaSteps:
        return CudaSteps(self.device, self.widest)

    def _blockwise(self, name: str, rows: Floats, width: int, step: Callable[[Tensor], Tensor]) -> Floats:
        if self.device.type == "cuda":
            return self._on_cuda.run(name, rows, width, step)
        output = np.empty((len(rows), width), np.float32)
        most = _BLOCK_PICTURES if self._takes_pictures else _BLOCK_ROWS
        count = max(1, min(most, _BLOCK_VALUES // self.widest))
        with torch.inference_mode():
            for start in range(0, len(rows), count):
                block = rows[start : start + count]  # (size, width)
                size = len(block)
                if size == 1 and not self._takes_pictures:
                    block = np.concatenate([block, block])  # once here, otherwise in each layer
                output[start : start + size] = step(torch.from_numpy(block)).numpy()[:size]
        return output


def _through(stack: nn.Sequential, rows: Tensor) -> Tensor:
    """Apply the stack to (n, ins). Its layers have no hooks, so `forward` saves the time of looking for them."""
    for layer in stack:
        rows = layer.forward(rows)
    return rows


def write_encoder(
    folder: Path, encoder: nn.Sequential, decoder: nn.Sequential, *, preprocess: Preprocessor, header: dict[str, Any]
) -> None:
    """Write and seal an artifact in the empty `folder`. The stacks must be folded (`training.artifact.export`)."""
    halves = {"encoder": encoder, "decoder": decoder}
    tensors = {f"{half}.{name}": t for half, stack in halves.items() for name, t in stack.state_dict().items()}
    columns = {"columns": describe_columns(preprocess.table.fitted)} if preprocess.table else {}
    if not columns:
        tensors |= {f"preprocess.{name}": tensor for name, tensor in preprocess.tensors().items()}
        if preprocess.origin is not None:
            tensors[_ORIGIN] = torch.from_numpy(preprocess.origin)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    (folder / _WEIGHTS).write_bytes(safetensors.torch.save(plain))
    layers = {half: describe(stack) for half, stack in halves.items()}
    seal(folder, FORMAT, {"kind": Encoder.kind, **header, "scale": preprocess.kind, **columns, **layers})


def load_encoder(folder: Path, device: DeviceName = "cpu") -> Encoder:
    """Verify `folder` and build its encoder. Raises ArtifactError if a file is damaged or contradicts another."""
    sealed = open_sealed(folder, FORMAT, needs=(_WEIGHTS,))
    target = resolve_device(device)
    place = str(folder / _WEIGHTS)
    try:
        tensors = safetensors.torch.load_file(folder / _WEIGHTS)
    except SafetensorError as error:
        raise ArtifactError(place, expected="a safetensors file", found=str(error)) from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(
                f"{place}, {name}", "finite numbers", "NaN or infinity", remedy="Train and export again."
            )
    try:
        return _assemble(sealed, tensors, place, target)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        manifest = str(folder / "manifest.json")
        raise ArtifactError(manifest, expected="a description of an encoder", found=str(error)) from error


def _assemble(sealed: Sealed, tensors: dict[str, Tensor], place: str, device: torch.device) -> Encoder:
    check_fields(sealed, EncoderManifest)
    header = sealed.header
    width, latent = math.prod(header["input_shape"]), header["latent_dim"]
    take = partial(_take, tensors, place)
    origin = _take(tensors, place, _ORIGIN, (width,), torch.float64).numpy() if _ORIGIN in tensors else None
    preprocess = _preprocessor(header, width, take, origin).to(device)
    encoder, wide = rebuild("encoder", header["encoder"], take, ends=(preprocess.features, latent))
    decoder, wider = rebuild("decoder", header["decoder"], take, ends=(latent, preprocess.features))
    held_out = np.array(header.get("held_out", []), np.uint64)
    return Encoder(
        header,
        sealed.digest,
        device,
        preprocess,
        held_out,
        encoder=encoder.to(device),
        decoder=decoder.to(device),
        widest=max(wide, wider),
    )


def _preprocessor(
    header: dict[str, Any], width: int, take: Callable[[str, tuple[int, ...]], Tensor], origin: Origin
) -> Preprocessor:
    kind: ScaleKind = header["scale"]
    if "columns" not in header:
        offset, factor, low, high = (take(f"preprocess.{name}", (width,)) for name in _PARTS)
        transform = None if header.get("transform") is None else read_transform(header["transform"])
        if transform and list(transform.shape) != header["input_shape"]:
            raise ValueError(f"input_shape is {header['input_shape']}, but the transform's rows have {transform.shape}")
        return Preprocessor(kind, offset, factor, low, high, origin=origin, normalizer=normalizer_of(transform))
    fitted = read_columns(header["columns"])
    if header["input_shape"] != [len(fitted)]:
        raise ValueError(f"input_shape is {header['input_shape']}, but there are {len(fitted)} columns")
    return build_preprocessor(kind, fitted)


def resolve_device(name: DeviceName) -> torch.device:
    """Return the device; `auto` is CUDA if it is available. Raises ConfigError if `cuda` is not available."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", expected="an available CUDA device", found="no device", remedy="Use auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _take(
    tensors: dict[str, Tensor], place: str, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.dtype != dtype or tuple(tensor.shape) != shape:
        expected = f"{str(dtype).removeprefix('torch.')} {shape}"
        found = "no such tensor" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise ArtifactError(f"{place}, {name}", expected=expected, found=found, remedy="Train and export again.")
    return tensor

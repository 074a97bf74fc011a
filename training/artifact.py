"""The encoder artifact: a sealed folder with the two halves of an autoencoder and its preprocessing.

    weights.safetensors   encoder.N.weight, encoder.N.bias, decoder.N..., preprocess.offset, ...
    manifest.json         input_shape, latent_dim, the layers in order, and how it was made

Writer and reader stand here together. Loading runs no code from the file and needs no training loop.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from training.errors import ArtifactError, ConfigError
from training.model import ACTIVATIONS
from training.preprocess import Preprocessor
from training.sealed import Sealed, open_sealed, seal

__all__ = ["FORMAT", "DeviceName", "Encoder", "load_encoder", "resolve_device", "write_encoder"]

DeviceName = Literal["auto", "cpu", "cuda"]
FORMAT = "lookalike-encoder/1"
_WEIGHTS = "weights.safetensors"
_BLOCK = 8_192
_PARTS = ("offset", "factor", "low", "high")


@dataclass(frozen=True)
class Encoder:
    """A loaded artifact. `digest` is the SHA-256 of its manifest, and so of all of it."""

    encoder: nn.Sequential
    decoder: nn.Sequential
    preprocess: Preprocessor
    header: dict[str, Any]
    digest: str
    device: torch.device

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.header["input_shape"])

    @property
    def width(self) -> int:
        return int(np.prod(self.input_shape))

    @property
    def latent_dim(self) -> int:
        return int(self.header["latent_dim"])

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, width) raw float32 -> (n, latent_dim) float32, not normalised."""
        return self._blockwise(rows, self.latent_dim, lambda x: self.encoder(self.preprocess.apply(x)))

    def reconstruct(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, width) raw float32 -> (n, width) through the bottleneck and back, in the raw unit."""
        return self._blockwise(
            rows, self.width, lambda x: self.preprocess.invert(self.decoder(self.encoder(self.preprocess.apply(x))))
        )

    def _blockwise(
        self, rows: NDArray[np.float32], width: int, step: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        output = np.empty((len(rows), width), np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), _BLOCK):
                block = torch.from_numpy(rows[start : start + _BLOCK]).to(self.device)  # (block, width)
                output[start : start + _BLOCK] = step(block).cpu().numpy()
        return output


def write_encoder(
    folder: Path, encoder: nn.Sequential, decoder: nn.Sequential, *, preprocess: Preprocessor, header: dict[str, Any]
) -> None:
    """Write and seal an artifact in the empty `folder`. Dropout must be gone and batch norm folded."""
    halves = {"encoder": encoder, "decoder": decoder}
    tensors = {
        f"{half}.{name}": tensor for half, stack in halves.items() for name, tensor in stack.state_dict().items()
    }
    tensors |= {f"preprocess.{name}": tensor for name, tensor in preprocess.tensors().items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    (folder / _WEIGHTS).write_bytes(safetensors.torch.save(plain))
    layers = {half: [_describe(layer) for layer in stack] for half, stack in halves.items()}
    seal(folder, FORMAT, {**header, "scale": preprocess.kind, **layers})


def load_encoder(folder: Path, device: DeviceName = "cpu") -> Encoder:
    """Verify `folder`, then build the encoder and the decoder that it describes.

    Raises:
        ArtifactError: a file is damaged, or the weights are not those that the manifest describes.
    """
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
                f"{place}, {name}", expected="finite numbers", found="NaN or infinity", remedy="Train and export again."
            )
    try:
        return _assemble(sealed, tensors, place, target)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            str(folder / "manifest.json"), expected="a description of an encoder", found=f"{error!r}"
        ) from error


def _assemble(sealed: Sealed, tensors: dict[str, Tensor], place: str, device: torch.device) -> Encoder:
    header = sealed.header
    width, latent = math.prod(header["input_shape"]), header["latent_dim"]
    encoder = _build("encoder", header, tensors, place, ends=(width, latent)).to(device)
    decoder = _build("decoder", header, tensors, place, ends=(latent, width)).to(device)
    parts = {name: _take(tensors, f"preprocess.{name}", place, (width,)) for name in _PARTS}
    preprocess = Preprocessor(header["scale"], **parts).to(device)
    return Encoder(encoder, decoder, preprocess, header, sealed.digest, device)


def resolve_device(name: DeviceName) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ConfigError: `cuda` is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", expected="a CUDA device", found="none", remedy="Use auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _describe(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        return {"kind": "dense", "ins": layer.in_features, "outs": layer.out_features}
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    return {"kind": names[type(layer)]}


def _build(
    half: str, header: dict[str, Any], tensors: dict[str, Tensor], place: str, *, ends: tuple[int, int]
) -> nn.Sequential:
    stack, width = nn.Sequential(), ends[0]
    for number, layer in enumerate(header[half]):
        if layer["kind"] == "dense":
            if layer["ins"] != width:
                raise ValueError(f"{half} layer {number} takes {layer['ins']} columns of {width}")
            width = layer["outs"]
            dense = nn.Linear(layer["ins"], layer["outs"], device="meta")
            weight = _take(tensors, f"{half}.{number}.weight", place, (layer["outs"], layer["ins"]))
            bias = _take(tensors, f"{half}.{number}.bias", place, (layer["outs"],))
            dense.load_state_dict({"weight": weight, "bias": bias}, assign=True)
            stack.append(dense)
        else:
            stack.append(ACTIVATIONS[layer["kind"]]())
    if width != ends[1]:
        raise ValueError(f"{half} ends with {width} columns, not {ends[1]}")
    return stack.eval().requires_grad_(False)


def _take(tensors: dict[str, Tensor], name: str, place: str, shape: tuple[int, ...]) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.dtype != torch.float32 or tuple(tensor.shape) != shape:
        found = "none" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise ArtifactError(
            f"{place}, {name}", expected=f"float32 {shape}", found=found, remedy="Train and export again."
        )
    return tensor

"""Open an encoder artifact of any kind."""

from importlib import import_module
from pathlib import Path
from typing import get_args

from lookalike.training.artifact.encoder import FORMAT
from lookalike.training.artifact.row_encoder import EncoderKind, RowEncoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import REMEDY, read_manifest

__all__ = ["open_encoder"]

_LOADERS = {
    "autoencoder": "encoder:load_encoder",
    "none": "given_vectors:load_vectors",
    "onnx": "onnx_encoder:load_onnx",
}
"""By kind: the module of this room and its function; each is imported at its first use."""


def open_encoder(folder: Path, device: DeviceName = "cpu") -> RowEncoder:
    """Verify `folder` and load its encoder. Raises ArtifactError if a file is damaged or contradicts another."""
    kind = read_manifest(folder, FORMAT).header.get("kind")
    if kind not in _LOADERS:
        expected = f"one of {', '.join(get_args(EncoderKind))}"
        raise ArtifactError(f"{folder / 'manifest.json'}, kind", expected, found=str(kind)[:80], remedy=REMEDY)
    module, _, function = _LOADERS[kind].partition(":")
    encoder: RowEncoder = getattr(import_module(f"lookalike.training.artifact.{module}"), function)(folder, device)
    return encoder

"""The manifests of an autoencoder's artifact and of its checkpoints, as typed models (training.artifact.fields)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from lookalike.training.artifact.fields import Count, Digest, Fields, NotNegative
from lookalike.training.choices import ScaleKind
from lookalike.training.history import Epoch
from lookalike.training.transforms import Transform

__all__ = ["CheckpointManifest", "EncoderManifest"]

_Side = Annotated[int, Field(ge=1, lt=1 << 31)]
_Sketch = Annotated[int, Field(ge=0, lt=1 << 64)]


class _Layer(Fields):
    """One layer, as `training.artifact.architecture` writes and reads it."""

    kind: str
    ins: _Side = 1
    outs: _Side = 1
    height: _Side = 1
    width: _Side = 1
    length: _Side = 1
    channels: _Side = 1
    cell: _Side = 1
    below: Annotated[int, Field(ge=0, le=1)] = 0
    right: Annotated[int, Field(ge=0, le=1)] = 0


class _Rows(Fields):
    """The rows that an encoder was trained on."""

    name: str
    rows: Count
    sha256: Digest


class _Settings(Fields):
    """The settings and the rows of a run (training.fit.fitting)."""

    config: dict[str, dict[str, Any]]
    precision: Literal["bf16", "fp32"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    data: _Rows
    columns: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field([])


class _WithinEpoch(Fields):
    """The progress of an epoch that has not ended (training.history)."""

    step: Count
    seconds: Annotated[float, Field(ge=0)]
    counts: dict[str, NotNegative]


class CheckpointManifest(Fields):
    """The state of a run at the end of an epoch, or within an epoch (training.fit.checkpoint)."""

    format: str
    history: list[Epoch]
    best_epoch: NotNegative
    stopped: Literal["", "finished", "patience", "interrupted", "hopeless"]
    facts: dict[str, Any]
    within: _WithinEpoch | None = None
    settings: _Settings


class EncoderManifest(Fields):
    """The manifest of an autoencoder's artifact (training.artifact.encoder); fields about its training are optional."""

    format: str
    kind: Literal["autoencoder"]
    input_shape: Annotated[list[_Side], Field(min_length=1, max_length=8)]
    latent_dim: _Side
    output: Literal["values", "logits"]
    scale: ScaleKind
    encoder: Annotated[list[_Layer], Field(min_length=1, max_length=1_000)]
    decoder: Annotated[list[_Layer], Field(min_length=1, max_length=1_000)]
    columns: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field([])
    transform: Transform | None = None
    held_out: list[_Sketch] = Field([])
    config: dict[str, dict[str, Any]] = Field({})
    precision: Literal["bf16", "fp32"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    data: _Rows | None = None
    best_epoch: NotNegative = 0
    history: list[Epoch] = Field([])

"""The fields of manifests, as typed models: all fields are checked before any field is used.

A digest shows that a file was not changed, but not who sealed it. So a manifest is untrusted input: an unknown field,
a wrong type or a value out of bounds raises an ArtifactError that names the field.
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.training.choices import ScaleKind
from lookalike.training.errors import ArtifactError
from lookalike.training.history import Epoch
from lookalike.training.sealed import MANIFEST, REMEDY, Sealed
from lookalike.training.transforms import Transform

__all__ = [
    "MAX_SAFE_INTEGER",
    "CheckpointManifest",
    "Count",
    "Digest",
    "EncoderManifest",
    "Fields",
    "NotNegative",
    "Share",
    "check_fields",
]

MAX_SAFE_INTEGER = (1 << 53) - 1
"""The largest integer that every JSON reader holds exactly; no count comes near it."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
NotNegative = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Share = Annotated[float, Field(ge=0, le=1)]
_EXPECTED = {"missing": "a value", "extra_forbidden": "no such field"}
_Side = Annotated[int, Field(ge=1, lt=1 << 31)]
_Sketch = Annotated[int, Field(ge=0, lt=1 << 64)]


class Fields(BaseModel):
    """Some fields of a manifest. Refuses other fields, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def check_together(self, *names: str) -> None:
        """Raise ValueError if some of these fields are present, but not all."""
        present = [name in self.model_fields_set and getattr(self, name) is not None for name in names]
        if self.model_fields_set.intersection(names) and not all(present):
            raise ValueError(f"{', '.join(names)}: each of them, or none")


T = TypeVar("T", bound=Fields)


def check_fields(sealed: Sealed, model: type[T]) -> T:
    """Return the header of a sealed folder as a model. Raises ArtifactError with the name of the first wrong field."""
    try:
        return model.model_validate_json(json.dumps(sealed.header), strict=True)
    except ValidationError as error:
        raise _refused(sealed, error) from error


def _refused(sealed: Sealed, error: ValidationError) -> ArtifactError:
    first = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])[1:]
    expected, found = _EXPECTED.get(first["type"]) or _plainly(first["msg"]), str(first["input"])[:80]
    if first["type"] == "missing":
        found = "nothing"
    elif not place:  # the error is about several fields, which its message names
        place, _, expected = expected.partition(": ")
        found = "some of them"
    return ArtifactError(f"{sealed.folder / MANIFEST}, {place[:200]}", expected=expected, found=found, remedy=REMEDY)


def _plainly(message: str) -> str:
    """The expectation in a pydantic message, without the value that was found."""
    for start in ("Input should be ", "Value error, ", "List should have ", "String should have ", "String should "):
        message = message.removeprefix(start)
    return message.partition(" after validation")[0]


class _Layer(Fields):
    """One layer, as `training.artifact.architecture` writes and reads it."""

    kind: str
    ins: _Side = 1
    outs: _Side = 1
    height: _Side = 1
    width: _Side = 1
    length: _Side = 1
    channels: _Side = 1
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
    columns: Annotated[list[dict[str, Any]], Field(min_length=1)] = []


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
    columns: Annotated[list[dict[str, Any]], Field(min_length=1)] = []
    transform: Transform | None = None
    held_out: list[_Sketch] = []
    config: dict[str, dict[str, Any]] = {}
    precision: Literal["bf16", "fp32"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    data: _Rows | None = None
    best_epoch: NotNegative = 0
    history: list[Epoch] = []

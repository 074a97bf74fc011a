"""The artifact for rows that are embeddings already: it has no encoder, and its folder has only a manifest."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import FORMAT, resolve_device
from lookalike.training.artifact.fields import Fields, check_fields
from lookalike.training.artifact.row_encoder import MAX_DIM, Refusal, RowEncoder, unscaled
from lookalike.training.choices import DeviceName
from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import Rows
from lookalike.training.sealed import open_sealed, seal

__all__ = ["GivenVectors", "VectorsManifest", "load_vectors", "write_vectors"]

_READING = ("columns", "exclude", "id", "label")
"""The settings that change how embeddings are read from a file."""
_Dim = Annotated[int, Field(ge=1, le=MAX_DIM)]


class GivenVectors(RowEncoder):
    """Returns each row as its own embedding."""

    kind = "none"

    def encode(self, rows: Floats) -> Floats:
        """(n, dim) -> a copy of the rows, float32."""
        return np.array(rows, np.float32)

    def first_refused(self, rows: Floats) -> Refusal | None:
        if not self.header["directions"]:
            return None
        zeros = np.flatnonzero(~rows.any(axis=1))
        if not len(zeros):
            return None
        expected, found = "a vector that can be compared by its direction", "zeros only"
        return Refusal(int(zeros[0]), expected, found, "Remove the row, or build with --metric l2.")


class VectorsManifest(Fields):
    """The manifest; `directions` is true if the metric compares directions, which a vector of zeros lacks."""

    format: str
    kind: Literal["none"]
    input_shape: Annotated[list[_Dim], Field(min_length=1, max_length=1)]
    latent_dim: _Dim
    directions: bool
    config: dict[str, dict[str, Any]] = Field({})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.input_shape != [self.latent_dim]:
            raise ValueError("input_shape: one number, the same as latent_dim")
        return self


def write_vectors(folder: Path, rows: Rows, *, directions: bool) -> None:
    """Write and seal an artifact for embeddings like `rows` in the empty `folder`.

    Raises DataError as `check_vectors` does.
    """
    check_vectors(rows)
    settings, usual = rows.settings or DataConfig(), DataConfig()
    given = {name: getattr(settings, name) for name in _READING if getattr(settings, name) != getattr(usual, name)}
    config = {"config": {"data": given}} if given else {}
    header = {"input_shape": list(rows.shape), "latent_dim": rows.width, "directions": directions, **config}
    seal(folder, FORMAT, {"kind": GivenVectors.kind, **header})


def check_vectors(rows: Rows) -> None:
    """Raise DataError if the rows are not vectors, or are longer than MAX_DIM."""
    if len(rows.shape) != 1 or not 0 < rows.width <= MAX_DIM:
        expected = f"vectors of 1 to {MAX_DIM:,} numbers"
        raise DataError(rows.name, expected=expected, found=f"rows of shape {rows.shape}")


def load_vectors(folder: Path, device: DeviceName = "cpu") -> GivenVectors:
    """Verify `folder` and return its encoder. Raises ArtifactError if a file is damaged."""
    sealed = open_sealed(folder, FORMAT, needs=())
    dim = check_fields(sealed, VectorsManifest).latent_dim
    resolve_device(device)  # raises an error for a device that does not exist
    held_out = np.empty(0, np.uint64)
    return GivenVectors(sealed.header, sealed.digest, torch.device("cpu"), unscaled(dim), held_out)

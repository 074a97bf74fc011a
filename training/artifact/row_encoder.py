"""The interface of every encoder: what the index and the service use, and what an artifact of each kind has.

autoencoder    trained by `lookalike train` (training.artifact.encoder)
onnx           a model of the user (training.artifact.onnx_encoder)
none           the rows are embeddings already (training.artifact.given_vectors)
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.training.array_types import Doubles, Floats
from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.config import build_config
from lookalike.training.tables.columns import Column
from lookalike.training.tables.origin import Origin
from lookalike.training.transforms import ImageTransform, InputSpec, WindowTransform, read_transform

__all__ = ["MAX_DIM", "EncoderKind", "Refusal", "RowEncoder", "unscaled"]

MAX_DIM = 65_536
"""The most values of an embedding that was not made by an autoencoder; an autoencoder has the same limit."""
EncoderKind = Literal["autoencoder", "onnx", "none"]
_LARGEST = float(np.finfo(np.float32).max)


class Refusal(NamedTuple):
    """A row that can be no item, by its number among the rows, and the reason."""

    row: int
    expected: str
    found: str
    remedy: str


@dataclass(frozen=True)
class RowEncoder(ABC):
    """A loaded artifact: it maps raw rows, (n, width), to embeddings, (n, latent_dim).

    Attributes:
        header: the fields of the artifact's manifest.
        digest: the SHA-256 of the manifest, which covers every file.
        preprocess: the scaling of the rows, and the range of values that the encoder knows.
        held_out: sketches (training.rows) of rows from the same data that the encoder was not trained on.
    """

    kind: ClassVar[EncoderKind]
    is_fast: ClassVar[bool] = True
    """Whether a few rows take less than a millisecond, so that a service can encode them without a thread."""

    header: dict[str, Any]
    digest: str
    device: torch.device
    preprocess: Preprocessor
    held_out: NDArray[np.uint64]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input_shape} -> {self.latent_dim}, {self.device}, {self.digest[:16]}…)"

    @property
    def embeds(self) -> bool:
        """Whether rows differ from their embeddings; if not, clients send embeddings instead of inputs."""
        return self.kind != "none"

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.header["input_shape"])

    @property
    def width(self) -> int:
        return int(np.prod(self.input_shape))

    @property
    def latent_dim(self) -> int:
        return int(self.header["latent_dim"])

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a row, if the encoder reads the rows of a table."""
        return self.preprocess.columns

    @cached_property
    def inputs(self) -> InputSpec:
        """How the encoder's inputs are read from a source."""
        data = self.header.get("config", {}).get("data", {})
        return InputSpec(self.columns, self.transform, build_config({"data": data}).data, vectors=not self.embeds)

    @cached_property
    def transform(self) -> ImageTransform | WindowTransform | None:
        """The conversion of photos or recordings to rows, if the encoder reads such rows."""
        fields = self.header.get("transform")
        return None if fields is None else read_transform(fields)

    @property
    def origin(self) -> Origin:
        """Subtracted from each row, in float64, before it becomes float32; callers subtract it before `encode`."""
        return self.preprocess.origin

    @abstractmethod
    def encode(self, rows: Floats) -> Floats:
        """(n, width) raw float32 -> (n, latent_dim) float32, not normalized; in a table, NaN is a missing value."""

    def encode_with_errors(self, rows: Floats) -> tuple[Floats, Floats | Doubles | None]:
        """Return the output of `encode`, and the reconstruction errors, (n,); None if the encoder has no decoder."""
        return self.encode(rows), None

    def first_refused(self, rows: Floats) -> Refusal | None:
        """The first of (n, width) rows that can be no item, and the reason; None if all can."""
        return None

    def warming(self) -> AbstractContextManager[None]:
        """Within this context the encoder may prepare for the batch sizes that are used in it."""
        return nullcontext()


def unscaled(width: int) -> Preprocessor:
    """Return the preprocessor that changes no value of rows of `width` values."""
    largest = torch.full((width,), _LARGEST)
    return Preprocessor("none", torch.zeros(width), torch.ones(width), -largest, largest)

"""How the inputs of an encoder are read from a source. The encoder artifact stores all fields of `InputSpec`."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from lookalike.training.config import DataConfig
from lookalike.training.tables.columns import Column
from lookalike.training.transforms.image import ImageTransform
from lookalike.training.transforms.window import WindowTransform

__all__ = ["InputSpec", "Transform", "read_transform"]

Transform = Annotated[ImageTransform | WindowTransform, Field(discriminator="kind")]


@dataclass(frozen=True)
class InputSpec:
    """How an encoder's inputs are read, so that a file, a request and a retraining give the same rows.

    Attributes:
        columns: the columns of a table, matched by name; empty for other rows.
        transform: the conversion of a photo or a recording; None for other rows.
        settings: the settings with which the training rows were read.
        vectors: whether each row is an embedding already (training.rows.vectors).
    """

    columns: tuple[Column, ...] = ()
    transform: ImageTransform | WindowTransform | None = None
    settings: DataConfig = field(default_factory=DataConfig)
    vectors: bool = False


def read_transform(fields: dict[str, Any]) -> ImageTransform | WindowTransform:
    """Return the transform of an artifact's JSON. Raises ValueError if a field is unknown or wrong."""
    read: ImageTransform | WindowTransform = TypeAdapter(Transform).validate_python(fields)
    return read

"""The JSON responses, for OpenAPI and tests; service.api.responses writes them. The requests: service.parsing."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookalike.training.artifact.known_range import MAX_NAMED

__all__ = [
    "ClippedValue",
    "EmbedResponse",
    "ExplainResponse",
    "ExplainedPart",
    "Hit",
    "ItemPage",
    "ItemResponse",
    "Problem",
    "PutResponse",
    "QueryResult",
    "ReadyResponse",
    "ReloadResponse",
    "SearchResponse",
    "WindowPlace",
    "WriteResponse",
]

Base64 = Annotated[
    str, Field(description="With encoding_format base64: the float32 of an embedding, little-endian, in base64.")
]
Embedding = Annotated[list[float], Field(description="latent_dim numbers.")]
Sequence = Annotated[int, Field(ge=0, description="The last change of the change log that the answer includes.")]
WrittenSequence = Annotated[int, Field(ge=0, description="The number of the last of these changes in the change log.")]
ServingVersion = Annotated[int, Field(description="The version that serves.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WindowPlace(_Strict):
    """The place of a row, if a segment of a recording was longer than a window."""

    input: int = Field(ge=0, description="The number of the segment in the request, from 0.")
    start: float = Field(
        description="When the window begins in the segment: in seconds if the encoder has a rate, else in samples."
    )
    end: float = Field(description="When it ends.")


Windows = Annotated[
    list[WindowPlace] | None,
    Field(
        description="Only for an encoder of windows, if a segment was longer than a window: the place of each window. "
        "A window with too many missing samples is left out."
    ),
]


class EmbedResponse(_Strict):
    """Embeddings in the order of the rows, of unit length if the metric is cosine."""

    version: int
    embeddings: list[Embedding | Base64]
    windows: Windows = None
    columns: list[list[str] | None] | None = Field(
        None, description="If a row of a table was a part of a row: the columns that were used, null for a whole row."
    )


class Hit(_Strict):
    """One item found. The score is the cosine similarity, the inner product or the Euclidean distance."""

    id: str
    score: float
    payload: dict[str, Any] | None = None


class QueryResult(_Strict):
    """One query's hits, best first, and how unusual it is."""

    hits: list[Hit]
    novelty: float = Field(
        gt=0,
        le=1,
        description="A p-value: how often a row that was held out in training is as unusual, by its reconstruction "
        "error and its neighbors' distance (of embeddings and ids, by the distance). Below 0.01, trust no hit. A part "
        "of a row is compared with the same parts of held-out rows.",
    )
    columns: list[str] | None = Field(
        None, description="If the query was a part of a table's row: the columns that were used."
    )


class SearchResponse(_Strict):
    """One result for each query, in their order."""

    version: int
    sequence: Sequence
    results: list[QueryResult]
    windows: Windows = None


class ExplainedPart(_Strict):
    """A part of two inputs, a and b, and how much it explains."""

    part: str = Field(description="The name: a field of a table, or the place in a picture, a window or a row.")
    kind: Literal["field", "tile", "segment", "values"]
    place: dict[str, Any] = Field(
        description="Of a tile top, left, bottom and right in pixels; of a segment channel (null: all), start and stop "
        "in samples; of values start and stop. A bottom, right or stop is not included."
    )
    a: Any = Field(description="The value of the first; of several values the mean, or an object by column.")
    b: Any = Field(description="The value of the second.")
    alike: float = Field(
        description="How much closer the embeddings are because of this part than those of unrelated rows, as a share "
        "of the mean distance of two unrelated rows. Negative if the parts differ more than usual."
    )
    apart: float = Field(
        description="The share of the way from one embedding to the other that it takes to replace this part by the "
        "other's; 0 for equal parts."
    )
    difference: float = Field(
        description="The plain difference, without the encoder: of numbers in standard deviations; of categories 0 "
        "or 1."
    )


class ExplainResponse(_Strict):
    """What makes two inputs alike, and what separates them: their parts, the highest `alike` first."""

    version: int
    sequence: Sequence
    score: float = Field(description="Of the two embeddings, in the unit of the metric.")
    parts: list[ExplainedPart]


class WriteResponse(_Strict):
    """The changes are on disk, and every search from now on includes them, on every worker."""

    version: ServingVersion
    sequence: WrittenSequence
    count: int = Field(ge=0, description="Items that were deleted.")


class ClippedValue(_Strict):
    """A value that the encoder clips to the nearest value that it knows."""

    id: str = Field(description="The item's id.")
    column: str | int = Field(description="The column's name in a table, else its number from 0.")
    value: float
    low: float = Field(description="The least value that the encoder knows.")
    high: float = Field(description="The greatest value that the encoder knows.")


class PutResponse(_Strict):
    """The items are on disk, and every search from now on includes them, on every worker."""

    version: ServingVersion
    sequence: WrittenSequence
    count: int = Field(ge=0, description="Items that were put.")
    clipped: int = Field(ge=0, description="Values that the encoder clips.")
    warnings: list[ClippedValue] = Field(max_length=MAX_NAMED, description="The first of these values.")


class ItemResponse(_Strict):
    """One item, with its embedding by the version that serves."""

    version: int
    sequence: Sequence
    id: str
    payload: dict[str, Any]
    embedding: Embedding


class ItemSummary(_Strict):
    """One item of a page."""

    id: str
    payload: dict[str, Any]


class ItemPage(_Strict):
    """A page of items, in the order of their ids."""

    version: int
    sequence: Sequence
    items: list[ItemSummary]
    next: str | None = Field(description="The `after` of the next page; null on the last page.")


class ReadyResponse(_Strict):
    """The canary query got its known answer."""

    ready: bool
    version: int
    refused: int | None = Field(None, description="The champion, if it could not replace the serving version.")


class ReloadResponse(_Strict):
    """The version that serves now."""

    version: int


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str
    expected: str
    found: str

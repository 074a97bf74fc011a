"""The JSON of the calls, for OpenAPI and for tests; `service.parsing` reads the same without these models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookalike.index.items.ids import MAX_ID
from lookalike.index.limits import DEFAULT_LIMIT
from lookalike.training.artifact.known_range import MAX_NAMED

__all__ = [
    "DELETE_QUERY",
    "LIST_QUERY",
    "MIN_SEQUENCE",
    "NPY_QUERY",
    "PAGE",
    "ClippedValue",
    "EmbedRequest",
    "EmbedResponse",
    "Hit",
    "ItemPage",
    "ItemResponse",
    "Problem",
    "PutRequest",
    "PutResponse",
    "QueryResult",
    "ReadyResponse",
    "ReloadResponse",
    "SearchRequest",
    "SearchResponse",
    "WriteResponse",
]

PAGE = 100
"""Items on a page, unless more are asked for."""

Row = Annotated[
    list[Any] | dict[str, Any],
    Field(
        description="One input: its values flat, or nested in the encoder's input shape. Of a table: its values in "
        "the columns' order or by their names, text for a category, null for a missing one; GET /version has the "
        "columns."
    ),
]
Base64 = Annotated[
    str, Field(description="With encoding_format base64: the float32 of an embedding, little-endian, in base64.")
]
Embedding = Annotated[list[float], Field(description="latent_dim numbers.")]

FILTER = (
    "Only items whose payload passes: {field, equal}, {field, in: [...]}, {field, range: {gt, gte, lt, lte}}, "
    "{field, exists}, or {and: [...]}, {or: [...]}, {not: ...} of these. A number equals no text, and an object's "
    "fields are named by their path, as a.b; a condition holds for a list where it holds for one element. Integers are "
    "from -2^63 to 2^63 - 1."
)


SPACE = (
    "Whose embeddings they are, where that is an older version: they are mapped to the serving one. Without it, they "
    "are the serving one's."
)


_DIGIT = (
    *(0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0),
    *(0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0),
)
"""A row of `digits`, which the examples are about."""


SEQUENCE = "The last change of the change log that the answer includes."
LEAST = (
    "A change of the change log that the answer must include, such as the `sequence` of an earlier answer. If the log "
    "does not have it within the deadline, the answer is 503. What this service itself acknowledged is always included."
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _examples(*bodies: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(bodies)})


class EmbedRequest(_Strict):
    """Rows to embed."""

    model_config = _examples({"inputs": [_DIGIT]}, {"inputs": [_DIGIT], "encoding_format": "base64"})

    inputs: list[Row] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"


class EmbedResponse(_Strict):
    """Embeddings in the order of the rows, of unit length where the metric is cosine."""

    version: int
    embeddings: list[Embedding | Base64]


class SearchRequest(_Strict):
    """Exactly one of inputs, embeddings and ids."""

    model_config = _examples(
        {"inputs": [_DIGIT], "limit": 3},
        {"ids": ["0", "1"], "limit": 3, "with_payload": False},
        {"ids": ["0"], "limit": 3, "filter": {"and": [{"field": "label", "in": [0, 6]}]}},
    )

    inputs: list[Row] | None = Field(None, min_length=1)
    embeddings: list[Embedding] | None = Field(None, min_length=1)
    ids: list[str] | None = Field(None, min_length=1, description="Items of the version; none finds itself.")
    version: int | None = Field(None, ge=1, description=SPACE)
    limit: int = Field(DEFAULT_LIMIT, ge=1, description="Hits per query.")
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    with_payload: bool = True
    min_sequence: int = Field(0, ge=0, description=LEAST)


NPY_QUERY: dict[str, dict[str, Any]] = {
    "kind": {"type": "string", "enum": ["inputs", "embeddings"], "default": "inputs"},
    "limit": {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
    "with_payload": {"type": "boolean", "default": True},
    "filter": {"type": "string", "description": "A filter, as JSON text."},
    "version": {"type": "integer", "minimum": 1, "description": SPACE},
    "min_sequence": {"type": "integer", "minimum": 0, "default": 0, "description": LEAST},
}
"""With an .npy body, what a JSON body says beside its rows."""


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
        description="A p-value: how often a row that was held out in training is as far off, by its reconstruction "
        "error and its neighbours' distance (of embeddings and ids, by the distance). Below 0.01, trust no hit.",
    )


class SearchResponse(_Strict):
    """One entry a query, in their order."""

    version: int
    sequence: int = Field(ge=0, description=SEQUENCE)
    results: list[QueryResult]


class Item(_Strict):
    """An item to put."""

    id: str = Field(min_length=1, max_length=MAX_ID, description="Any but control characters.")
    input: Row
    payload: dict[str, Any] = Field({}, description="At most 65,536 bytes of JSON; integers from -2^63 to 2^63 - 1.")


class PutRequest(_Strict):
    """Items to make, or to put in the place of those of the same ids; no id twice."""

    model_config = _examples(
        {"items": [{"id": "new", "input": _DIGIT, "payload": {"label": 0}}]},
        {"items": [{"id": "shelf 3/new", "input": _DIGIT}, {"id": "new", "input": _DIGIT}]},
    )

    items: list[Item] = Field(min_length=1)


class WriteResponse(_Strict):
    """The changes are on disk, and every search from now on includes them, on every worker."""

    version: int = Field(description="The version that serves.")
    sequence: int = Field(ge=0, description="The number of the last of these changes in the change log.")
    count: int = Field(ge=0, description="Items that were there and are deleted.")


class ClippedValue(_Strict):
    """A value that the encoder clips: it counts as the end of the range that the encoder knows."""

    id: str = Field(description="The item's.")
    column: str | int = Field(description="Of a table its name, else its number from 0.")
    value: float
    low: float = Field(description="The least value that the encoder knows.")
    high: float = Field(description="The greatest value that the encoder knows.")


class PutResponse(_Strict):
    """The items are on disk, and every search from now on includes them, on every worker."""

    version: int = Field(description="The version that serves.")
    sequence: int = Field(ge=0, description="The number of the last of these changes in the change log.")
    count: int = Field(ge=0, description="Items that were put.")
    clipped: int = Field(ge=0, description="Values that the encoder clips.")
    warnings: list[ClippedValue] = Field(max_length=MAX_NAMED, description="The first of these values.")


class ItemResponse(_Strict):
    """One item, with its embedding by the version that serves."""

    version: int
    sequence: int = Field(ge=0, description=SEQUENCE)
    id: str
    payload: dict[str, Any]
    embedding: Embedding


class ItemSummary(_Strict):
    """One of a page's items."""

    id: str
    payload: dict[str, Any]


class ItemPage(_Strict):
    """A page of items, in the order of their ids."""

    version: int
    sequence: int = Field(ge=0, description=SEQUENCE)
    items: list[ItemSummary]
    next: str | None = Field(description="The `after` of the next page; null where this is the last.")


_FILTER_PARAMETER = {
    "name": "filter",
    "in": "query",
    "description": FILTER,
    "content": {"application/json": {"schema": {"type": "object"}}},
}
MIN_SEQUENCE: dict[str, Any] = {
    "name": "min_sequence",
    "in": "query",
    "description": LEAST,
    "schema": {"type": "integer", "minimum": 0, "default": 0},
}
LIST_QUERY: tuple[dict[str, Any], ...] = (
    MIN_SEQUENCE,
    _FILTER_PARAMETER,
    {
        "name": "limit",
        "in": "query",
        "description": "Items on a page.",
        "schema": {"type": "integer", "minimum": 1, "default": PAGE},
    },
    {
        "name": "after",
        "in": "query",
        "description": "An id: the page begins after it, in the order of code points, whether an item has it or not.",
        "schema": {"type": "string"},
    },
)
DELETE_QUERY: tuple[dict[str, Any], ...] = (_FILTER_PARAMETER | {"required": True},)


class ReadyResponse(_Strict):
    """The canary query got its known answer."""

    ready: bool
    version: int
    refused: int | None = Field(None, description="The champion, where it could not take this version's place.")


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

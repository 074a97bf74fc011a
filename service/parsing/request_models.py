"""The requests as pydantic models: they validate each call's fields, and OpenAPI describes the calls by them.

The rows of a request are typed Any here, because their shape depends on the encoder: service.parsing.rows and
service.parsing.json_rows check them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from lookalike.index.items.ids import MAX_ID
from lookalike.index.items.integers import INT64_MAX
from lookalike.index.limits import DEFAULT_LIMIT

__all__ = [
    "PAGE",
    "DeleteParams",
    "EmbedParams",
    "EmbedRequest",
    "ExplainRequest",
    "Item",
    "ItemParams",
    "ListParams",
    "NpyParams",
    "PutParams",
    "PutRequest",
    "SearchRequest",
]

PAGE = 100
"""Items on a page, unless the call asks for more."""

_ROW = {
    "anyOf": [{"type": "array", "items": {}}, {"type": "object", "additionalProperties": True}],
    "description": "One input: its values flat, or nested in the encoder's input shape. A row of a table: its values "
    "in the columns' order or by their names, text for a category and for a date or time, null for a missing value. An "
    "object may leave columns out; they are unknown. GET /version lists the columns. A segment of a recording: a list "
    "of samples, each a list of the channels' values, null for a missing one; a segment longer than a window is cut "
    "into windows.",
}
_EMBEDDING = {"type": "array", "items": {"type": "number"}, "description": "latent_dim numbers."}
_DIGIT = (
    *(0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0),
    *(0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0),
)
"""A row of `digits`, for the examples."""

Row = Annotated[Any, WithJsonSchema(_ROW)]
Rows = Annotated[Any, WithJsonSchema({"type": "array", "minItems": 1, "items": _ROW})]
Embedding = Annotated[Any, WithJsonSchema(_EMBEDDING)]
Embeddings = Annotated[Any, WithJsonSchema({"type": "array", "minItems": 1, "items": _EMBEDDING})]
_ID = {"type": "string", "minLength": 1, "maxLength": MAX_ID, "description": "No control characters are allowed."}
Id = Annotated[str, WithJsonSchema(_ID)]
Image = Annotated[
    str,
    Field(description="A JPEG, PNG or WebP file in base64, if the version's encoder was trained on photos."),
]
Images = list[Image]
FilterField = Annotated[
    dict[str, Any],
    Field(
        description="Only items whose payload passes: {field, equal}, {field, in: [...]}, {field, range: {gt, gte, lt, "
        "lte}}, {field, exists}, or {and: [...]}, {or: [...]}, {not: ...} of these. A number never equals a text. A "
        "field inside an object is named by its path, such as a.b. A condition holds for a list if it holds for one "
        "element. Integers are from -2^63 to 2^63 - 1."
    ),
]
Limit = Annotated[int, Field(description="Hits per query.", json_schema_extra={"minimum": 1})]
VersionField = Annotated[
    int,
    Field(
        json_schema_extra={"minimum": 1},
        description="The older version that made the embeddings; they are mapped to the serving version. Without "
        "it, they are the serving version's.",
    ),
]
MinSequence = Annotated[
    int,
    Field(
        ge=0,
        le=INT64_MAX,
        description="A change of the change log that the answer must include, such as the `sequence` of an earlier "
        "answer. If the log does not have it within the deadline, the answer is 503. Changes that this service "
        "acknowledged are always included.",
    ),
]


Distinct = Annotated[
    bool,
    Field(
        description="For windows of recordings: whether a hit that overlaps a better hit is left out; true by default. "
        "Other items have no recordings.",
    ),
]
_EXCLUDE = {
    "type": ["number", "string"],
    "description": "For windows of recordings, in a search by ids: a hit of the query's own recording is left out if "
    "its distance to the query is less than this: a number of seconds (of samples without a clock), or a time such as "
    "30s. By default, a hit that overlaps the query is left out.",
}
Exclude = Annotated[Any, WithJsonSchema(_EXCLUDE)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _examples(*bodies: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(bodies)})


class EmbedRequest(_Strict):
    """Rows or photos to embed: exactly one of inputs and images."""

    model_config = _examples({"inputs": [_DIGIT]}, {"inputs": [_DIGIT], "encoding_format": "base64"})

    inputs: Rows | None = None
    images: Images | None = Field(None, min_length=1, fail_fast=True)
    encoding_format: Literal["float", "base64"] = "float"


class SearchRequest(_Strict):
    """Exactly one of inputs, embeddings, ids and images."""

    model_config = _examples(
        {"inputs": [_DIGIT], "limit": 3},
        {"ids": ["0", "1"], "limit": 3, "with_payload": False},
        {"ids": ["0"], "limit": 3, "filter": {"and": [{"field": "label", "in": [0, 6]}]}},
    )

    inputs: Rows | None = None
    embeddings: Embeddings | None = None
    ids: list[str] | None = Field(
        None, min_length=1, fail_fast=True, description="Items of the version; an item never finds itself."
    )
    images: Images | None = Field(None, min_length=1, fail_fast=True)
    version: VersionField | None = None
    limit: Limit = DEFAULT_LIMIT
    filter: FilterField | None = None
    with_payload: bool = True
    min_sequence: MinSequence = 0
    distinct: Distinct | None = None
    exclude: Exclude | None = None


class ExplainRequest(_Strict):
    """Either the ids of two items, or an input or image, such as a query, and the id of an item, such as a hit."""

    model_config = _examples({"ids": ["0", "1"]}, {"input": _DIGIT, "id": "0"})

    ids: list[str] | None = Field(None, fail_fast=True, json_schema_extra={"minItems": 2, "maxItems": 2})
    input: Row | None = None
    image: Image | None = None
    id: Id | None = None
    min_sequence: MinSequence = 0


class EmbedParams(_Strict):
    """The query string of an embed call whose body is an .npy array, a photo or a form with photos."""

    encoding_format: Literal["float", "base64"] = "float"


class NpyParams(_Strict):
    """The query string of a search whose body is an .npy array, a photo or a form with photos."""

    kind: Literal["inputs", "embeddings"] = "inputs"
    limit: Limit = DEFAULT_LIMIT
    with_payload: bool = True
    filter: FilterField | None = None
    version: VersionField | None = None
    min_sequence: MinSequence = 0
    distinct: Distinct | None = None
    exclude: Exclude | None = None


class Item(_Strict):
    """An item to put, with an input or an image, the same in all items of a call.

    For a version of existing embeddings, it has its embedding instead.
    """

    id: Id
    input: Row | None = None
    image: Image | None = None
    embedding: Embedding | None = None
    payload: dict[str, Any] = Field({}, description="At most 65,536 bytes of JSON; integers from -2^63 to 2^63 - 1.")


class PutRequest(_Strict):
    """Items to create or to replace by id; each id once."""

    model_config = _examples(
        {"items": [{"id": "new", "input": _DIGIT, "payload": {"label": 0}}]},
        {"items": [{"id": "shelf 3/new", "input": _DIGIT}, {"id": "new", "input": _DIGIT}]},
    )

    items: list[Item] = Field(min_length=1, fail_fast=True)


class PutParams(_Strict):
    """The query string of an item whose body is a photo."""

    id: str = Field("", description="The id of the item, if the body is its photo.")
    payload: dict[str, Any] = Field({}, description="The payload of the item, if the body is its photo.")


class ListParams(_Strict):
    """The query string of a list of items."""

    min_sequence: MinSequence = 0
    filter: FilterField | None = None
    limit: int = Field(PAGE, description="Items on a page.", json_schema_extra={"minimum": 1})
    after: str = Field(
        "", description="An id: the page begins after it, in the order of code points; no item needs to have this id."
    )


class ItemParams(_Strict):
    """The query string of one item."""

    min_sequence: MinSequence = 0


class DeleteParams(_Strict):
    """The query string of a deletion by filter."""

    filter: FilterField

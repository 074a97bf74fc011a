"""From the JSON of a search or embed request to one validated query.

The models in service.parsing.request_models check the fields; here the limits of the service and of its version apply.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from lookalike.index.items.filters import Filter, read_filter
from lookalike.index.limits import check_limit
from lookalike.service.errors import RequestError, TooLargeError, truncate_repr
from lookalike.service.parsing.json_bodies import check_lists, parse_json, restore_integers
from lookalike.service.parsing.json_rows import rows_from_json
from lookalike.service.parsing.photos import Photo, photos_of_json
from lookalike.service.parsing.request_models import EmbedRequest, Item, NpyParams, SearchRequest
from lookalike.service.parsing.rows import RequestLimits, check_count, read_plain, rows_from_array, to_float32
from lookalike.service.parsing.segments import SegmentWindow, cut_segments
from lookalike.training.array_types import Floats

__all__ = [
    "EmbedQuery",
    "SearchQuery",
    "decode_embed",
    "decode_search",
    "photo_search",
    "search_query",
    "undecoded",
    "validate",
]

MAX_ERRORS = 1_000
"""If a request has more wrong fields, the error names none, because pydantic describes all of them to name one."""
_EXPECTED = {
    "missing": "a value",
    "int_type": "an integer",
    "bool_type": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "a JSON object",
    "model_type": "a JSON object",
    "too_short": "a list that is not empty",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}
"""By the type of pydantic's error; its context fills the braces."""

Model = TypeVar("Model", bound=BaseModel)
Kind = Literal["inputs", "embeddings", "ids"]


@dataclass(frozen=True)
class SearchQuery:
    """A validated search.

    Attributes:
        rows: (n, width) float32 inputs or embeddings; (n, 0) for n ids.
        limit: hits for each row.
        version: the version whose embeddings the rows are; None: the serving version.
        min_sequence: the change of the change log that the answer must include; 0 for none.
        photos: the inputs that are not decoded yet; then the rows are (n, 0).
        distinct, exclude: as in `index.versions.distinct.thinning_for`.
        windows: the place of each row, if a segment of a recording was cut into several.
    """

    kind: Kind
    rows: Floats
    limit: int
    ids: list[str] | None = None
    filter: Filter | None = None
    with_payload: bool = True
    version: int | None = None
    min_sequence: int = 0
    photos: Sequence[Photo] = ()
    distinct: bool | None = None
    exclude: float | str | None = None
    windows: tuple[SegmentWindow, ...] = ()


@dataclass(frozen=True)
class EmbedQuery:
    """A validated embed request: rows (n, width) float32 or photos, and the form of each embedding.

    `windows` as a search has.
    """

    rows: Floats
    form: Literal["float", "base64"] = "float"
    photos: Sequence[Photo] = ()
    windows: tuple[SegmentWindow, ...] = ()


def decode_embed(body: bytes, limits: RequestLimits) -> EmbedQuery:
    """JSON {"inputs": rows, "encoding_format": "float" or "base64"} -> a query. Raises as `decode_search` does."""
    request = validate(EmbedRequest, _read_fields(body, limits))
    if (request.inputs is None) == (request.images is None):
        found = "none" if request.inputs is None else "inputs and images"
        raise RequestError("inputs, images", expected="exactly one of them", found=found)
    if request.images is not None:
        photos = photos_of_json(request.images, "images[{}]", limits)
        return EmbedQuery(undecoded(photos), request.encoding_format, photos)
    rows, windows = _rows(request.inputs, "inputs", limits)
    return EmbedQuery(rows, request.encoding_format, windows=windows)


def decode_search(body: bytes, limits: RequestLimits) -> SearchQuery:
    """JSON with one of inputs, embeddings, ids and images -> a query.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    request = validate(SearchRequest, _read_fields(body, limits))
    values = {"inputs": request.inputs, "embeddings": request.embeddings, "ids": request.ids}
    values["images"] = request.images
    kinds = [kind for kind, value in values.items() if value is not None]
    if len(kinds) != 1:
        raise RequestError(", ".join(values), expected="exactly one of them", found=" and ".join(kinds) or "none")
    limits = limits.for_version(request.version, kinds[0])
    if request.ids is not None:
        check_count(len(request.ids), "ids", limits)
        return search_query("ids", np.empty((len(request.ids), 0), np.float32), request, limits)
    if request.images is not None:
        return photo_search(photos_of_json(request.images, "images[{}]", limits), request, limits)
    kind: Kind = "embeddings" if request.inputs is None else "inputs"
    rows, windows = _rows(values[kind], kind, limits)
    return replace(search_query(kind, rows, request, limits), windows=windows)


def photo_search(photos: list[Photo], request: SearchRequest | NpyParams, limits: RequestLimits) -> SearchQuery:
    """A search with photos, which are not decoded yet. Raises as `search_query` does."""
    return replace(search_query("inputs", undecoded(photos), request, limits), photos=photos)


def search_query(kind: Kind, rows: Floats, request: SearchRequest | NpyParams, limits: RequestLimits) -> SearchQuery:
    """Checked rows with the other fields of their request.

    Raises:
        QueryError: the filter is wrong, or the limit is more than a query may have.
        TooLargeError: queries times limit is more than one answer may have.
    """
    check_limit(request.limit, limits.max_limit)
    hits = len(rows) * request.limit
    if hits > limits.max_hits:
        raise TooLargeError("limit", expected=f"at most {limits.max_hits} hits in one answer", found=str(hits))
    ids = request.ids if isinstance(request, SearchRequest) else None
    filter_ = None if request.filter is None else read_filter(request.filter)
    options = (request.with_payload, request.version, request.min_sequence)
    query = SearchQuery(kind, rows, request.limit, ids, filter_, *options)
    thinned = request.distinct is not None or request.exclude is not None
    return replace(query, distinct=request.distinct, exclude=request.exclude) if thinned else query


def validate(model: type[Model], fields: object) -> Model:
    """The fields of a request as their model.

    Raises RequestError if a field is missing, unknown or wrong; the error names the first, with its path.
    """
    if isinstance(fields, dict) and len(fields) > MAX_ERRORS:
        raise RequestError("body", expected="the fields of this call", found=f"{len(fields)} fields")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        if error.error_count() > MAX_ERRORS:
            raise RequestError("body", expected="the fields of this call", found="many wrong fields") from None
        errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    path = first["loc"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:64]}" for part in path).removeprefix(".")
    if first["type"] == "extra_forbidden":
        known = Item.model_fields if len(path) > 1 else model.model_fields
        expected, found = f"one of {', '.join(sorted(known))}", "an unknown field"
    else:
        expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
        found = "nothing" if first["type"] == "missing" else truncate_repr(first["input"])
    raise RequestError(field or ("a field without a name" if path else "body"), expected=expected, found=found)


def undecoded(photos: Sequence[Photo]) -> Floats:
    """(n, 0): the rows of photos until they are decoded."""
    return np.empty((len(photos), 0), np.float32)


def _read_fields(body: bytes, limits: RequestLimits) -> Any:
    """The JSON of the body; plain rows are one array, and all others are lists."""
    if (plain := read_plain(body, limits)) is not None:
        return plain
    check_lists(body, limits)
    fields = parse_json(body)
    return restore_integers(body, fields) if isinstance(fields, dict) and "filter" in fields else fields


def _rows(values: Any, kind: str, limits: RequestLimits) -> tuple[Floats, tuple[SegmentWindow, ...]]:
    if isinstance(values, np.ndarray) and (values.shape[1] == limits.width(kind) or not limits.windows):
        return rows_from_array(values, kind, limits), ()
    if not isinstance(values, list | np.ndarray) or not len(values):
        raise RequestError(kind, expected="a list of rows", found=truncate_repr(values))
    check_count(len(values), kind, limits)
    at = kind + "[{}]"
    if limits.windows and kind == "inputs":
        segments = cut_segments(values, limits.windows, limits.max_windows, at)
        return to_float32(segments.rows, kind, limits, at), segments.described
    return to_float32(rows_from_json(list(values), kind, limits, at), kind, limits, at), ()

"""Bodies of photos: a body that is one photo, or a form with several; the other fields are in the query string.

Of `PUT /items`, a form has all items: each file is an item. Its id is the name of the file, or is in the form's field
`ids`, a JSON list with an id for each file. The field `payloads` is a JSON list with an object for each file.
"""

from typing import Any

from starlette.datastructures import QueryParams

from lookalike.service.errors import RequestError, truncate_repr
from lookalike.service.parsing.bodies import MULTIPART, Body
from lookalike.service.parsing.decoding import SearchQuery, photo_search
from lookalike.service.parsing.item_bodies import ItemBatch, photo_batch
from lookalike.service.parsing.json_bodies import parse_exactly
from lookalike.service.parsing.multipart import Part, read_parts
from lookalike.service.parsing.photos import Photo, check_photos, file_photos, photos_of_body
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import NpyParams, PutParams
from lookalike.service.parsing.rows import RequestLimits

__all__ = ["decode_photo_items", "decode_photo_search"]

_FIELDS = ("ids", "payloads")


def decode_photo_search(
    body: Body, media: str, content_type: str, params: QueryParams, limits: RequestLimits
) -> SearchQuery:
    """A photo, or a form with photos, and a query string with the other fields -> a search.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    request = read_params(NpyParams, params)
    if request.kind != "inputs":
        raise RequestError("kind", expected="inputs, if the body has photos", found=request.kind)
    limits = limits.for_version(request.version, "inputs")
    return photo_search(photos_of_body(body, media, content_type, limits), request, limits)


def decode_photo_items(
    body: Body, media: str, content_type: str, params: QueryParams, limits: RequestLimits
) -> ItemBatch:
    """A photo, and a query string with its id and payload, or a form with photos -> a batch.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    if media != MULTIPART:
        request = read_params(PutParams, params)
        check_photos(1, "body", limits)
        return photo_batch([request.id], [Photo("body", body)], [request.payload])
    if params:
        raise RequestError(min(params)[:64], expected="ids and payloads in the form", found="it in the query string")
    parts = read_parts(body, content_type, limits.max_rows)
    files = [part for part in parts if part.file is not None]
    photos = file_photos(files, limits)
    lists = _lists(parts, len(files))
    ids, payloads = lists.get("ids") or [part.file for part in files], lists.get("payloads") or [{} for _ in files]
    _check_kind("ids", ids, str, "a string")
    _check_kind("payloads", payloads, dict, "a JSON object")
    return photo_batch(ids, photos, payloads)


def _check_kind(name: str, values: list[Any], kind: type, expected: str) -> None:
    for number, value in enumerate(values):
        if not isinstance(value, kind):
            raise RequestError(f"{name}[{number}]", expected=expected, found=truncate_repr(value))


def _lists(parts: list[Part], count: int) -> dict[str, list[Any]]:
    """The form's fields that are no files: JSON lists with `count` elements each."""
    lists: dict[str, list[Any]] = {}
    for part in parts:
        if part.file is not None:
            continue
        if part.name not in _FIELDS or part.name in lists:
            found = "it twice" if part.name in lists else "a field that is no file"
            raise RequestError(part.name[:64] or "body", expected=f"files, {' and '.join(_FIELDS)}", found=found)
        values = parse_exactly(part.content, part.name)
        if not isinstance(values, list) or len(values) != count:
            raise RequestError(part.name, expected=f"a list of {count}, one for each file", found=truncate_repr(values))
        lists[part.name] = values
    return lists

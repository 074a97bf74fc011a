"""Bodies of photos: a body that is one photo, or a form with photos; the other fields are in the query string.

These functions run in a thread, because splitting a form of 60 MB takes 0.2 seconds.

In a form for `PUT /items`, each file is an item. Its id is the name of the file, or is in the form's field `ids`: a
JSON list with an id for each file. The field `payloads` is a JSON list with an object for each file.
"""

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request

from lookalike.index.items.ids import MAX_ID
from lookalike.service.errors import RequestError, TooLargeError, truncate_repr
from lookalike.service.parsing.bodies import MULTIPART, Body, header
from lookalike.service.parsing.decoding import EmbedQuery, SearchQuery, photo_search, undecoded
from lookalike.service.parsing.item_bodies import ItemBatch, photo_batch
from lookalike.service.parsing.json_bodies import MAX_PAYLOAD, check_brackets, parse_exactly
from lookalike.service.parsing.multipart import Part, read_parts
from lookalike.service.parsing.photos import Photo, check_photos, file_photos
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import EmbedParams, NpyParams, PutParams
from lookalike.service.parsing.rows import FIELD_BYTES, RequestLimits

__all__ = ["PhotoBody", "decode_photo_embed", "decode_photo_items", "decode_photo_search"]

_FIELDS = {"ids": 12 * MAX_ID, "payloads": 2 * MAX_PAYLOAD}
"""The fields of a form that are not files, with the most bytes of each element: an escaped character has 12 bytes."""


@dataclass(frozen=True)
class PhotoBody:
    """A body of photos, its Content-Type, and the query string."""

    content: Body
    content_type: str
    params: QueryParams

    @staticmethod
    def of(request: Request, content: Body) -> "PhotoBody":
        return PhotoBody(content, header(request, b"content-type") or "", request.query_params)

    @property
    def is_form(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() == MULTIPART

    def photos(self, limits: RequestLimits) -> list[Photo]:
        """Return the photo that is the body, or the files of a form; the form may have no other parts.

        Raises as `check_photos` and `read_parts` do.
        """
        check_photos(1, "body", limits)
        if not self.is_form:
            return [Photo("body", self.content)]
        parts = read_parts(self.content, self.content_type, limits.max_rows)
        for part in parts:
            if part.file is None:
                expected = "only files; the other fields are in the query string"
                raise RequestError(part.name[:64] or "body", expected=expected, found="a field that is no file")
        return file_photos(parts, limits)


def decode_photo_embed(body: PhotoBody, limits: RequestLimits) -> EmbedQuery:
    """A photo, or a form with photos -> a query. Raises MalformedError, RequestError or TooLargeError."""
    form = read_params(EmbedParams, body.params).encoding_format
    photos = body.photos(limits)
    return EmbedQuery(undecoded(photos), form, photos)


def decode_photo_search(body: PhotoBody, limits: RequestLimits) -> SearchQuery:
    """A photo, or a form with photos, and a query string with the other fields -> a search.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    request = read_params(NpyParams, body.params)
    if request.kind != "inputs":
        raise RequestError("kind", expected="inputs, if the body has photos", found=request.kind)
    limits = limits.for_version(request.version, "inputs")
    return photo_search(body.photos(limits), request, limits)


def decode_photo_items(body: PhotoBody, limits: RequestLimits) -> ItemBatch:
    """A photo, and a query string with its id and payload, or a form with photos -> a batch.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    if not body.is_form:
        request = read_params(PutParams, body.params)
        return photo_batch([request.id], body.photos(limits), [request.payload])
    if body.params:
        raise RequestError(
            min(body.params)[:64], expected="ids and payloads in the form", found="a field in the query string"
        )
    check_photos(1, "body", limits)
    parts = read_parts(body.content, body.content_type, limits.max_rows)
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
    """Return the form's fields that are not files: JSON lists with `count` elements each."""
    lists: dict[str, list[Any]] = {}
    for part in parts:
        if part.file is not None:
            continue
        if part.name not in _FIELDS or part.name in lists:
            found = "the field twice" if part.name in lists else "a field that is no file"
            raise RequestError(part.name[:64] or "body", expected=f"files, {' and '.join(_FIELDS)}", found=found)
        most = FIELD_BYTES + count * _FIELDS[part.name]
        if len(part.content) > most:
            raise TooLargeError(part.name, expected=f"at most {most} bytes", found=str(len(part.content)))
        text = bytes(part.content)
        check_brackets(text, part.name, 2 * count)
        values = parse_exactly(text, part.name)
        if not isinstance(values, list) or len(values) != count:
            raise RequestError(part.name, expected=f"a list of {count}, one for each file", found=truncate_repr(values))
        lists[part.name] = values
    return lists

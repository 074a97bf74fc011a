"""The OpenAPI description of the guarded calls, whose endpoints read the request and write the response themselves."""

from collections.abc import Iterator
from typing import Any

from fastapi import Response, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel

from lookalike.index.items.ids import MAX_ID
from lookalike.service.api.response_models import Problem
from lookalike.service.errors import PROBLEM
from lookalike.service.parsing.bodies import JSON, MULTIPART, NPY, PHOTOS, WEBP

__all__ = ["KEY", "PATH_ID", "describe_call", "describe_item_call", "describe_preview", "problems"]

_KEY = "A key that `lookalike keys add` made, of scope read; of scope write for calls that change something."

KEY = [
    Security(APIKeyHeader(name="X-API-Key", auto_error=False, description=_KEY)),
    Security(HTTPBearer(auto_error=False, description=f"{_KEY} The same key, as a bearer token.")),
]
"""Either header; service.api.guard checks it."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_STATUSES = {
    400: "Malformed",
    401: "No key",
    403: "The key's scope does not allow the call",
    404: "Unknown id",
    408: "The body was too slow",
    409: "The champion was refused",
    413: "Too large",
    415: "Unsupported media type",
    422: "Wrong content",
    429: "Too many rows wait",
    503: "Not ready, or the request bodies in memory are too large",
    504: "The deadline has passed",
}

_FILES = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": "JPEG, PNG or WebP files; the fields of the form may have any names.",
}
_LISTS = {
    "ids": {"type": "string", "contentMediaType": JSON, "description": "A JSON list with an id for each file."},
    "payloads": {
        "type": "string",
        "contentMediaType": JSON,
        "description": "A JSON list with an object for each file.",
    },
}

PATH_ID: dict[str, Any] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "An item's id, percent-encoded; control characters are not allowed.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
}


def describe_call(
    request: type[BaseModel], response: type[BaseModel], *statuses: int, params: type[BaseModel] | None = None
) -> Any:
    """The arguments of a route that accepts JSON, .npy or photos, and returns JSON or .npy.

    `params` go with a body that is not JSON.
    """
    content = {JSON: {"schema": _inlined(request)}, NPY: _BINARY, **_photo_content()}
    body = {"required": True, "content": content}
    errors = problems(400, 401, 403, 408, 413, 415, 422, 429, 503, 504, *statuses)
    return {
        "response_model": response,
        "responses": {200: {"content": {NPY: _BINARY}}, **errors},
        "openapi_extra": {"requestBody": body, "parameters": list(_parameters(params)) if params else []},
    }


def describe_item_call(
    response: type[BaseModel],
    *statuses: int,
    request: type[BaseModel] | None = None,
    params: type[BaseModel] | None = None,
    path: dict[str, Any] | None = None,
    tag: str = "items",
) -> Any:
    """The arguments of a route of items; `path` describes a parameter of its path.

    A `request` is JSON; with `params`, which then go with a body that is not JSON, it may also be photos.
    """
    extra: dict[str, Any] = {"parameters": [*([path] if path else []), *(_parameters(params) if params else [])]}
    if request:
        content = {JSON: {"schema": _inlined(request)}, **(_photo_content(**_LISTS) if params else {})}
        extra["requestBody"] = {"required": True, "content": content}
    responses = problems(401, 403, *statuses)
    return {"response_model": response, "responses": responses, "openapi_extra": extra, "tags": [tag]}


def describe_preview(*statuses: int, params: type[BaseModel], path: dict[str, Any]) -> Any:
    """The arguments of a route that returns a picture."""
    not_changed = {"description": "The client knows the preview, by its If-None-Match"}
    responses = {200: {"content": {WEBP: _BINARY}}, 304: not_changed, **problems(401, 403, *statuses)}
    extra = {"parameters": [path, *_parameters(params)]}
    return {"response_class": Response, "responses": responses, "openapi_extra": extra, "tags": ["items"]}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented errors."""
    content = {PROBLEM: {"schema": Problem.model_json_schema()}}
    return {status: {"description": _STATUSES[status], "content": content} for status in sorted(statuses)}


def _photo_content(**fields: dict[str, Any]) -> dict[str, Any]:
    """The media types of photos; `fields`: those of a form besides its files."""
    form = {"type": "object", "properties": {"files": _FILES, **fields}}
    return {**dict.fromkeys(PHOTOS, _BINARY), MULTIPART: {"schema": form}}


def _parameters(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """The fields of a model as parameters of a query string; an object is JSON text."""
    schema = model.model_json_schema()
    for name, field in schema["properties"].items():
        value = {**field, **next((each for each in field.get("anyOf", ()) if each["type"] != "null"), {})}
        parameter: dict[str, Any] = {"name": name, "in": "query"}
        if name in schema.get("required", ()):
            parameter["required"] = True
        if description := value.pop("description", None):
            parameter["description"] = description
        value = {key: part for key, part in value.items() if key not in {"anyOf", "title"} and part is not None}
        is_object = value["type"] == "object"
        yield parameter | ({"content": {JSON: {"schema": {"type": "object"}}}} if is_object else {"schema": value})


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with the schemas of its inner models in place: OpenAPI keeps them elsewhere than pydantic."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return inline(inner[value["$ref"].removeprefix("#/$defs/")])
        return {name: inline(each) for name, each in value.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined

"""What OpenAPI says of the guarded calls, whose endpoints read the request and write the response themselves."""

from collections.abc import Sequence
from typing import Any

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel

from lookalike.index.items.ids import MAX_ID
from lookalike.service.api.schemas import Problem
from lookalike.service.errors import PROBLEM
from lookalike.service.parsing.bodies import JSON, NPY

__all__ = ["KEY", "PATH_ID", "calls", "item_calls", "problems"]

_KEY = "A key that `lookalike keys add` made, of scope read; of scope write for calls that change something."

KEY = [
    Security(APIKeyHeader(name="X-API-Key", auto_error=False, description=_KEY)),
    Security(HTTPBearer(auto_error=False, description=f"{_KEY} The same key, as a bearer token.")),
]
"""Either header; service.api.auth is what checks it."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_STATUSES = {
    400: "Malformed",
    401: "No key",
    403: "A key whose scope does not reach",
    404: "Unknown id",
    408: "Slow",
    409: "Refused",
    413: "Too large",
    415: "Media type",
    422: "Wrong content",
    429: "Too much waits",
    503: "Not ready, or too many bytes of bodies at once",
    504: "Too late",
}


PATH_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "An item's id, percent-encoded: it may hold any but control characters.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
}


def calls(takes: type[BaseModel], gives: type[BaseModel], *statuses: int, query: dict[str, Any] | None = None) -> Any:
    """The arguments of a route that takes and gives JSON or .npy; `query` goes with an .npy body."""
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in (query or {}).items()]
    content = {JSON: {"schema": takes.model_json_schema()}, NPY: _BINARY}
    return {
        "response_model": gives,
        "responses": {
            200: {"content": {NPY: _BINARY}},
            **problems(400, 401, 403, 408, 413, 415, 422, 429, 503, 504, *statuses),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": content}, "parameters": parameters},
    }


def item_calls(
    gives: type[BaseModel], *statuses: int, takes: type[BaseModel] | None = None, parameters: Sequence[Any] = ()
) -> Any:
    """The arguments of a route of items: JSON alone; `parameters` as OpenAPI has them."""
    told: dict[str, Any] = {"parameters": list(parameters)}
    if takes:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": _whole(takes)}}}
    return {
        "response_model": gives,
        "responses": problems(401, 403, *statuses),
        "openapi_extra": told,
        "tags": ["items"],
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented ways to fail."""
    content = {PROBLEM: {"schema": Problem.model_json_schema()}}
    return {status: {"description": _STATUSES[status], "content": content} for status in sorted(statuses)}


def _whole(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with those of the models in it in their places: OpenAPI keeps them elsewhere than pydantic."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})

    def put_in(value: Any) -> Any:
        if isinstance(value, list):
            return [put_in(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return put_in(inner[value["$ref"].removeprefix("#/$defs/")])
        return {name: put_in(each) for name, each in value.items()}

    whole: dict[str, Any] = put_in(schema)
    return whole

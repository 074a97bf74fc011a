"""Parse the service's responses. Each response is checked completely before any part of it is returned."""

import base64
import http
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import orjson
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.service.client.errors import MalformedResponse, Problem, ProblemError, problem_error
from lookalike.service.client.messages import Response
from lookalike.service.client.requests import JSON, NPY

__all__ = [
    "EmbedResponse", "Hit", "QueryResult", "ReadyResponse", "SearchResponse", "WindowPlace", "finite", "malformed",
    "read_embeddings", "read_live", "read_object", "read_problem", "read_ready", "read_search", "read_version",
    "sequence_of", "truncate_repr",
]  # fmt: skip

_PROBLEM = "application/problem+json"
_VERSION_HEADER = "x-lookalike-version"
_HEADER_BYTES = 1_024
_TEXTS = ("type", "title", "detail", "field", "expected", "found")


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that a search found, with its payload if the search asked for payloads.

    The score is the cosine similarity, the inner product or the Euclidean distance.
    """

    id: str
    score: float
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query's hits, best first, and its novelty: near 0 the query is unlike the data, do not trust its hits.

    Attributes:
        novelty: a p-value; below 0.01, fewer than one of a hundred held-out rows is as unlike the data as the query.
        columns: of a part of a table's row, the columns that were used; None for a whole row.
    """

    hits: tuple[Hit, ...]
    novelty: float
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class WindowPlace:
    """The place of a query in a segment of a recording: the number of the segment, and when the window begins and ends.

    The times are in seconds if the encoder has a rate, else in samples.
    """

    input: int
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class EmbedResponse:
    """Embeddings (n, latent_dim) float32, in the order of the rows; unit length if the metric is cosine.

    Attributes:
        windows: the place of each embedding, if a segment of a recording was longer than a window; else empty.
        columns: the columns of each row that were used, None for a whole row; empty if all rows are whole.
    """

    embeddings: NDArray[np.float32]
    version: int
    windows: tuple[WindowPlace, ...] = ()
    columns: tuple[tuple[str, ...] | None, ...] = ()


@dataclass(frozen=True)
class SearchResponse:
    """One result per query, in order, all from one version; `sequence` is the last change that each result includes.

    A segment of a recording that is longer than a window has a query for each window: `windows` has the place of each.
    """

    version: int
    sequence: int
    results: tuple[QueryResult, ...]
    windows: tuple[WindowPlace, ...] = ()


@dataclass(frozen=True)
class ReadyResponse:
    """The service is ready: its canary query returned the known answer."""

    ready: bool
    version: int


def read_problem(response: Response) -> ProblemError | MalformedResponse:
    """Return the error of a response other than 200.

    An error page of a proxy becomes a problem without details. A redirect is a malformed response.
    """
    if response.status < 400:
        return MalformedResponse("status", "200, or a problem", str(response.status), response.request_id)
    members = _problem_members(response)
    try:
        title = http.HTTPStatus(response.status).phrase
    except ValueError:
        title = "Unknown"
    kind = response.media_type[:60] or "not typed"
    fields = {"type": "about:blank", "title": title, "detail": f"no details, the body is {kind}"} | members
    problem = Problem(status=response.status, retry_after=_retry_after(response.headers), **fields)
    return problem_error(problem, response.request_id)


def read_embeddings(response: Response, count: int) -> EmbedResponse:
    """Read the embeddings of `count` rows, and the version that computed them.

    In an .npy body, a header has the version. In JSON, embeddings are base64; there, segments of recordings may have
    several embeddings each.

    Raises:
        MalformedResponse: the type, shape, size or dtype is wrong, a value is not finite, or the version is missing.
    """
    if response.media_type == JSON:
        return _embeddings_of_json(response, count)
    _check_media_type(response, NPY)
    text = response.headers.get(_VERSION_HEADER, "nothing")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise malformed(response, _VERSION_HEADER, "a version number", text[:40])
    return EmbedResponse(_array(response, count), int(text))


def read_search(response: Response, *, count: int, limit: int, with_payload: bool) -> SearchResponse:
    """Read the JSON response to `count` queries. Raises MalformedResponse, whose `field` names the wrong part."""
    fields = read_version(response)
    results, windows = fields.get("results"), _windows(response, fields.get("windows"), count)
    count = len(windows) or count
    if not isinstance(results, list) or len(results) != count:
        raise malformed(response, "results", f"a list of {count}", truncate_repr(results))
    each = [_query_result(response, f"results[{number}]", result, limit) for number, result in enumerate(results)]
    if any((hit.payload is not None) != with_payload for result in each for hit in result.hits):
        expected, found = ("a payload in every hit", "a hit without") if with_payload else ("no payload", "a payload")
        raise malformed(response, "payload", expected, found)
    return SearchResponse(fields["version"], sequence_of(response, fields), tuple(each), windows)


def read_ready(response: Response) -> ReadyResponse:
    """Read the version that is ready. Raises MalformedResponse unless `ready` is true and a version is named."""
    fields = read_version(response)
    if fields.get("ready") is not True:
        raise malformed(response, "ready", "true", truncate_repr(fields.get("ready")))
    return ReadyResponse(True, fields["version"])


def read_live(response: Response) -> bool:
    """Return True. Raises MalformedResponse unless `live` is true."""
    fields = read_object(response)
    if fields.get("live") is not True:
        raise malformed(response, "live", "true", truncate_repr(fields.get("live")))
    return True


def read_version(response: Response) -> dict[str, Any]:
    """Read a JSON object that contains a version number. Raises MalformedResponse if the body is anything else."""
    fields = read_object(response)
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise malformed(response, "version", "a version number", truncate_repr(version))
    return fields


def sequence_of(response: Response, fields: dict[str, Any]) -> int:
    """The last change that a response includes. Raises MalformedResponse if it is not a sequence number."""
    sequence = fields.get("sequence")
    if type(sequence) is not int or sequence < 0:
        raise malformed(response, "sequence", "a sequence number", truncate_repr(sequence))
    return sequence


def read_object(response: Response) -> dict[str, Any]:
    """Read a JSON object. Raises MalformedResponse if the body is anything else."""
    _check_media_type(response, JSON)
    try:
        fields = orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise malformed(response, "body", "JSON", error.msg) from error
    if not isinstance(fields, dict):
        raise malformed(response, "body", "a JSON object", truncate_repr(fields))
    return fields


def _problem_members(response: Response) -> dict[str, str]:
    """The text members of a problem document; empty if the body is not one."""
    if response.media_type != _PROBLEM:
        return {}
    try:
        members = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return {}
    known = members if isinstance(members, dict) else {}
    return {name: known[name] for name in _TEXTS if isinstance(known.get(name), str)}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds. A date is compared with the response's own Date: the two clocks may differ."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if (retry_at := _date(text)) is None:
        return None
    return max(0.0, (retry_at - (_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _array(response: Response, count: int) -> NDArray[np.float32]:
    """Return (count, latent_dim) float32. Compares the header with the number of bytes before it makes an array."""
    stream = io.BytesIO(response.body)
    try:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError("unknown version of the .npy format")
        shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=_HEADER_BYTES)
    except Exception as error:  # NumPy's parser may raise almost anything for a damaged header
        raise malformed(response, "body", "an .npy file", "a damaged header") from error
    if len(shape) != 2 or shape[0] != count or shape[1] < 1 or dtype != np.dtype("<f4"):
        raise malformed(response, "body", f"shape ({count}, latent_dim) of <f4", f"shape {shape} of {dtype.str}")
    start = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    if len(response.body) - start != size:
        raise malformed(response, "body", f"{size} bytes of values", str(len(response.body) - start))
    values = np.frombuffer(response.body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    return _finite_copy(response, values)


def _finite_copy(response: Response, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A writable copy for the caller. Raises MalformedResponse for NaN or infinity."""
    if not np.isfinite(values).all():
        raise malformed(response, "body", "finite embeddings", "NaN or infinity")
    return np.array(values, np.float32, order="C")


def _embeddings_of_json(response: Response, count: int) -> EmbedResponse:
    fields = read_version(response)
    windows, rows = _windows(response, fields.get("windows"), count), fields.get("embeddings")
    columns = tuple[tuple[str, ...] | None, ...]()
    try:
        content = [base64.b64decode(row, validate=True) for row in rows or ()]
    except (TypeError, ValueError):
        content = []
    size, count = len(content[0]) if content else 0, len(windows) or count
    if len(content) != count or size < 4 or size % 4 or any(len(row) != size for row in content):
        raise malformed(response, "embeddings", f"{count} texts of base64 of one length", truncate_repr(rows))
    values = np.frombuffer(b"".join(content), "<f4").reshape(count, -1)
    if (used := fields.get("columns")) is not None:
        if not isinstance(used, list) or len(used) != count:
            raise malformed(response, "columns", f"a list of {count}", truncate_repr(used))
        columns = tuple(_columns(response, f"columns[{number}]", names) for number, names in enumerate(used))
    return EmbedResponse(_finite_copy(response, values), fields["version"], windows, columns)


def _windows(response: Response, places: Any, count: int) -> tuple[WindowPlace, ...]:
    """The places of the windows of `count` segments, if the response has them."""
    windows = []
    for place in places if isinstance(places, list) else []:
        fields = place if isinstance(place, dict) else {}
        number, start, end = fields.get("input"), _number(fields.get("start")), _number(fields.get("end"))
        if type(number) is not int or not 0 <= number < count or not start < end:
            raise malformed(response, "windows", "the segment, start and end of each window", truncate_repr(place))
        windows.append(WindowPlace(number, start, end))
    return tuple(windows)


def _query_result(response: Response, path: str, result: Any, limit: int) -> QueryResult:
    fields = result if isinstance(result, dict) else {}
    hits, novelty = fields.get("hits"), _number(fields.get("novelty"))
    if not isinstance(hits, list) or len(hits) > limit:
        raise malformed(response, f"{path}.hits", f"a list of at most {limit}", truncate_repr(hits))
    if not 0 < novelty <= 1:
        raise malformed(response, f"{path}.novelty", "a number over 0, up to 1", truncate_repr(fields.get("novelty")))
    columns = _columns(response, f"{path}.columns", fields.get("columns"))
    found = tuple(_hit(response, f"{path}.hits[{number}]", hit) for number, hit in enumerate(hits))
    return QueryResult(found, novelty, columns)


def _columns(response: Response, path: str, columns: Any) -> tuple[str, ...] | None:
    if columns is not None and not (isinstance(columns, list) and all(isinstance(name, str) for name in columns)):
        raise malformed(response, path, "a list of names", truncate_repr(columns))
    return None if columns is None else tuple(columns)


def _hit(response: Response, path: str, hit: Any) -> Hit:
    fields = hit if isinstance(hit, dict) else {}
    name, payload = fields.get("id"), fields.get("payload")
    if not isinstance(name, str):
        raise malformed(response, f"{path}.id", "text", truncate_repr(name))
    score = finite(response, "score", fields, f"{path}.score")
    if payload is not None and not isinstance(payload, dict):
        raise malformed(response, f"{path}.payload", "an object", truncate_repr(payload))
    return Hit(name, score, payload)


def finite(response: Response, key: str, fields: dict[str, Any], path: str = "") -> float:
    """A field as a float. Raises MalformedResponse if it is not a finite number; `path` names it."""
    value = _number(fields.get(key))
    if not math.isfinite(value):
        raise malformed(response, path or key, "a finite number", truncate_repr(fields.get(key)))
    return value


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _check_media_type(response: Response, expected: str) -> None:
    if response.media_type != expected:
        raise malformed(response, "Content-Type", expected, response.media_type[:60] or "none")


def malformed(response: Response, field: str, expected: str, found: str) -> MalformedResponse:
    """Return the error for a response with a wrong field."""
    return MalformedResponse(field, expected, found, response.request_id)


def truncate_repr(value: Any) -> str:
    """A short description of a JSON value for an error message."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else repr(value)[:40]

"""From answers to what they mean. Everything is checked before any of it is returned."""

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

from lookalike.service.client.errors import MalformedAnswer, Problem, ProblemError, problem_error
from lookalike.service.client.messages import Answer
from lookalike.service.client.requests import JSON, NPY

__all__ = [
    "EmbedResponse",
    "Hit",
    "QueryResult",
    "ReadyResponse",
    "SearchResponse",
    "malformed",
    "read_embedded",
    "read_live",
    "read_object",
    "read_problem",
    "read_ready",
    "read_searched",
    "read_version",
    "sequence_of",
    "truncate_repr",
]

_PROBLEM = "application/problem+json"
_VERSION_HEADER = "x-lookalike-version"
_HEADER_BYTES = 1_024
_TEXTS = ("type", "title", "detail", "field", "expected", "found")


@dataclass(frozen=True, eq=False)
class EmbedResponse:
    """Embeddings (n, latent_dim) float32, in the order of the rows; of unit length where the metric is cosine."""

    embeddings: NDArray[np.float32]
    version: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found. The score is the cosine similarity, the inner product or the Euclidean distance.

    Attributes:
        payload: None where it was not asked for.
    """

    id: str
    score: float
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query's hits, best first, and the p-value of a query that is none of the data: below 0.01, trust no hit."""

    hits: tuple[Hit, ...]
    novelty: float


@dataclass(frozen=True)
class SearchResponse:
    """What was found for each query, in their order, all by one version.

    Attributes:
        sequence: the last change of the change log that every part of the answer includes.
    """

    version: int
    sequence: int
    results: tuple[QueryResult, ...]


@dataclass(frozen=True)
class ReadyResponse:
    """The canary query got its known answer."""

    ready: bool
    version: int


def read_problem(answer: Answer) -> ProblemError | MalformedAnswer:
    """Any answer but 200. A proxy's own page is a problem without a document; a redirect is none."""
    if answer.status < 400:
        return MalformedAnswer("status", "200, or a problem", str(answer.status), answer.request_id)
    members = _problem_members(answer)
    try:
        title = http.HTTPStatus(answer.status).phrase
    except ValueError:
        title = "Unknown"
    kind = answer.media_type[:60] or "nothing"
    given = {"type": "about:blank", "title": title, "detail": f"no more is said, the answer is {kind}"} | members
    problem = Problem(status=answer.status, retry_after=_retry_after(answer.headers), **given)
    return problem_error(problem, answer.request_id)


def read_embedded(answer: Answer, count: int) -> EmbedResponse:
    """An .npy of `count` embeddings, and the header with the version that made them.

    Raises:
        MalformedAnswer: another type, shape, size or dtype, values that are not finite, or no version.
    """
    _check_media_type(answer, NPY)
    text = answer.headers.get(_VERSION_HEADER, "nothing")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise malformed(answer, _VERSION_HEADER, "a version's number", text[:40])
    return EmbedResponse(_array(answer, count), int(text))


def read_searched(answer: Answer, *, count: int, limit: int, with_payload: bool) -> SearchResponse:
    """The JSON of an answer to `count` queries.

    Raises:
        MalformedAnswer: it names the field.
    """
    fields = read_version(answer)
    results = fields.get("results")
    if not isinstance(results, list) or len(results) != count:
        raise malformed(answer, "results", f"a list of {count}", truncate_repr(results))
    each = [_found(answer, f"results[{number}]", result, limit) for number, result in enumerate(results)]
    payloads = [(hit.payload is not None) == with_payload for found in each for hit in found.hits]
    if not all(payloads):
        raise malformed(answer, "payload", "one a hit" if with_payload else "none", "another number")
    return SearchResponse(fields["version"], sequence_of(answer, fields), tuple(each))


def read_ready(answer: Answer) -> ReadyResponse:
    """Raises MalformedAnswer unless it says that it is ready, and which version is."""
    fields = read_version(answer)
    if fields.get("ready") is not True:
        raise malformed(answer, "ready", "true", truncate_repr(fields.get("ready")))
    return ReadyResponse(True, fields["version"])


def read_live(answer: Answer) -> bool:
    """True. Raises MalformedAnswer unless it says so."""
    fields = read_object(answer)
    if fields.get("live") is not True:
        raise malformed(answer, "live", "true", truncate_repr(fields.get("live")))
    return True


def read_version(answer: Answer) -> dict[str, Any]:
    """A JSON object with the number of a version. Raises MalformedAnswer where it is none."""
    fields = read_object(answer)
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise malformed(answer, "version", "a version's number", truncate_repr(version))
    return fields


def sequence_of(answer: Answer, fields: dict[str, Any]) -> int:
    """The last change that an answer includes. Raises MalformedAnswer if it is no sequence number."""
    sequence = fields.get("sequence")
    if type(sequence) is not int or sequence < 0:
        raise malformed(answer, "sequence", "a sequence number", truncate_repr(sequence))
    return sequence


def read_object(answer: Answer) -> dict[str, Any]:
    """A JSON object. Raises MalformedAnswer where it is none."""
    _check_media_type(answer, JSON)
    try:
        fields = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise malformed(answer, "body", "JSON", error.msg) from error
    if not isinstance(fields, dict):
        raise malformed(answer, "body", "a JSON object", truncate_repr(fields))
    return fields


def _problem_members(answer: Answer) -> dict[str, str]:
    """Those texts of a problem that are there; of anything else, none."""
    if answer.media_type != _PROBLEM:
        return {}
    try:
        members = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    known = members if isinstance(members, dict) else {}
    return {name: known[name] for name in _TEXTS if isinstance(known.get(name), str)}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, given as such or as a date, which is held against the answer's own: two clocks need not agree."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if (then := _date(text)) is None:
        return None
    return max(0.0, (then - (_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _array(answer: Answer, count: int) -> NDArray[np.float32]:
    """(count, latent_dim) float32. Its header is held against the bytes that came before an array is made of them."""
    stream = io.BytesIO(answer.body)
    try:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format")
        shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=_HEADER_BYTES)
    except Exception as error:  # NumPy's parser of a damaged header may end in almost any
        raise malformed(answer, "body", "an .npy file", "a damaged header") from error
    if len(shape) != 2 or shape[0] != count or shape[1] < 1 or dtype != np.dtype("<f4"):
        raise malformed(answer, "body", f"shape ({count}, latent_dim) of <f4", f"shape {shape} of {dtype.str}")
    start = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    if len(answer.body) - start != size:
        raise malformed(answer, "body", f"{size} bytes of values", str(len(answer.body) - start))
    values = np.frombuffer(answer.body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    if not np.isfinite(values).all():
        raise malformed(answer, "body", "finite embeddings", "NaN or infinity")
    return np.array(values, np.float32, order="C")  # the caller's own, to write in


def _found(answer: Answer, place: str, result: Any, limit: int) -> QueryResult:
    fields = result if isinstance(result, dict) else {}
    hits, novelty = fields.get("hits"), _number(fields.get("novelty"))
    if not isinstance(hits, list) or len(hits) > limit:
        raise malformed(answer, f"{place}.hits", f"a list of at most {limit}", truncate_repr(hits))
    if not 0 < novelty <= 1:
        raise malformed(answer, f"{place}.novelty", "a number over 0, up to 1", truncate_repr(fields.get("novelty")))
    return QueryResult(tuple(_hit(answer, f"{place}.hits[{number}]", hit) for number, hit in enumerate(hits)), novelty)


def _hit(answer: Answer, place: str, hit: Any) -> Hit:
    fields = hit if isinstance(hit, dict) else {}
    name, score, payload = fields.get("id"), _number(fields.get("score")), fields.get("payload")
    if not isinstance(name, str):
        raise malformed(answer, f"{place}.id", "text", truncate_repr(name))
    if not math.isfinite(score):
        raise malformed(answer, f"{place}.score", "a finite number", truncate_repr(fields.get("score")))
    if payload is not None and not isinstance(payload, dict):
        raise malformed(answer, f"{place}.payload", "an object", truncate_repr(payload))
    return Hit(name, score, payload)


def _number(value: Any) -> float:
    """NaN where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _check_media_type(answer: Answer, expected: str) -> None:
    if answer.media_type != expected:
        raise malformed(answer, "Content-Type", expected, answer.media_type[:60] or "none")


def malformed(answer: Answer, field: str, expected: str, found: str) -> MalformedAnswer:
    """An answer whose field is another than it must be."""
    return MalformedAnswer(field, expected, found, answer.request_id)


def truncate_repr(value: Any) -> str:
    """What stood there, short whatever it is."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else repr(value)[:40]

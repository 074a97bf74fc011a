"""The exchanges. Large arrays are sent in parts, and the results are joined only if one version answered all parts."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from lookalike.service.client.errors import MalformedResponse, ProblemError, VersionChangedError, problem_error
from lookalike.service.client.images import Images, base64_images, check_images, image_parts
from lookalike.service.client.messages import Call, Exchange, Response
from lookalike.service.client.requests import Query, Rows, check_rows, embed_call, embed_images_call, search_call
from lookalike.service.client.responses import (
    EmbedResponse,
    ReadyResponse,
    SearchResponse,
    WindowPlace,
    read_embeddings,
    read_live,
    read_object,
    read_ready,
    read_search,
    read_version,
)
from lookalike.service.client.retrying import Retries, request

__all__ = ["ClientOptions", "embed", "live", "manifest", "ready", "reload", "search", "with_row_offset"]

_MAX_ROUNDS = 3
"""The most rounds of one call. Each round sends the parts again whose version is not the latest."""
_MAX_HITS = 100_000
"""The most hits in one response, by the service's default settings."""
_ROW = re.compile(r"\A(inputs|embeddings|ids|items|images)\[(\d+)\]")


@dataclass(frozen=True)
class ClientOptions:
    """How a client sends its calls.

    Attributes:
        timeout: seconds for one attempt.
        max_rows: the most rows in one call.
    """

    timeout: float
    retries: Retries
    max_rows: int

    def __post_init__(self) -> None:
        """Raises ValueError if no call could be sent."""
        if not self.timeout > 0 or self.max_rows < 1:
            raise ValueError(f"expected a timeout over 0 and max_rows of at least 1, found {self}")

    def request(self, call: Call) -> Exchange[Response]:
        """Send a call, with the retries and the timeout of these options."""
        return request(call, self.retries, self.timeout)


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


Part = TypeVar("Part", bound=_Versioned)


def embed(rows: Rows | None, options: ClientOptions, images: Images | None = None) -> Exchange[EmbedResponse]:
    """Embed rows or photos. Raises ValueError unless exactly one of the two is given, or if they cannot be sent."""
    if images is not None and rows is None:
        return (yield from _embed_images(images, options))
    if rows is None or images is not None:
        raise ValueError("expected exactly one of rows and images")
    check_rows(rows, "inputs")

    def embed_part(start: int) -> Exchange[EmbedResponse]:
        part = rows[start : start + options.max_rows]
        return read_embeddings((yield from options.request(embed_call(part))), len(part))

    starts = _starts(rows, options.max_rows)
    return _joined((yield from _from_one_version(starts, embed_part)), starts)


def _embed_images(images: Images, options: ClientOptions) -> Exchange[EmbedResponse]:
    """Embed photos. Raises ValueError if they cannot be sent."""
    check_images(images)
    ends = {part.start: part.stop for part in image_parts(images, options.max_rows)}

    def embed_part(start: int) -> Exchange[EmbedResponse]:
        part = base64_images(images[start : ends[start]], start)
        return read_embeddings((yield from options.request(embed_images_call(part))), len(part))

    return _joined((yield from _from_one_version(ends, embed_part)), ends)


def _joined(parts: list[EmbedResponse], starts: Collection[int]) -> EmbedResponse:
    if len({part.embeddings.shape[1] for part in parts}) > 1:
        expected, found = "embeddings of one width from one version", "several widths"
        raise MalformedResponse("body", expected, found, "of several parts")
    if len(parts) == 1:
        return parts[0]
    joined = np.concatenate([part.embeddings for part in parts])
    columns = [names for part in parts for names in part.columns or [None] * len(part.embeddings)]
    windows = _windows([(part.windows, len(part.embeddings)) for part in parts], starts)
    return EmbedResponse(joined, parts[0].version, windows, tuple(columns) if any(columns) else ())


def search(query: Query, options: ClientOptions) -> Exchange[SearchResponse]:
    """Search with any number of query rows."""
    step = max(1, min(options.max_rows, _MAX_HITS // max(1, query.limit)))
    is_images = query.kind == "images"
    ends = {part.start: part.stop for part in image_parts(query.rows, step)} if is_images else {}

    def search_part(start: int) -> Exchange[SearchResponse]:
        part = query.rows[start : ends.get(start, start + step)]
        part = base64_images(part, start) if is_images else part
        response = yield from options.request(search_call(query, part))
        return read_search(response, count=len(part), limit=query.limit, with_payload=query.with_payload)

    parts = yield from _from_one_version(ends or _starts(query.rows, step), search_part)
    sequence = min(part.sequence for part in parts)
    results = tuple(result for part in parts for result in part.results)
    windows = _windows([(part.windows, len(part.results)) for part in parts], _starts(query.rows, step))
    return SearchResponse(parts[0].version, sequence, results, windows)


def manifest(options: ClientOptions) -> Exchange[dict[str, Any]]:
    """Get the manifest of the serving version."""
    return read_object((yield from options.request(Call("GET", "version"))))


def ready(options: ClientOptions) -> Exchange[ReadyResponse]:
    """Check that the service is ready. Sent once, because 503 is a valid result."""
    return read_ready((yield from options.request(Call("GET", "readyz", retryable=False))))


def live(options: ClientOptions) -> Exchange[bool]:
    """Check that the service is alive. Sent once."""
    return read_live((yield from options.request(Call("GET", "livez", retryable=False))))


def reload(options: ClientOptions) -> Exchange[dict[str, Any]]:
    """Make the service open the champion. Sent once, because the call changes something."""
    return read_version((yield from options.request(Call("POST", "admin/reload", retryable=False))))


def _windows(parts: list[tuple[tuple[WindowPlace, ...], int]], starts: Collection[int]) -> tuple[WindowPlace, ...]:
    """The windows of all parts, with the numbers of the segments in the whole call; empty if no segment was cut.

    A part has its windows, and the number of its results.
    """
    if not (first := next((windows[0] for windows, _ in parts if windows), None)):
        return ()
    length = first.end - first.start
    joined: list[WindowPlace] = []
    for start, (windows, count) in zip(starts, parts, strict=True):
        places = windows or [WindowPlace(number, 0.0, length) for number in range(count)]
        joined += [replace(place, input=start + place.input) for place in places]
    return tuple(joined)


def _starts(rows: Rows, step: int) -> range:
    """The first row of each part. No rows are one part, which the service refuses with its own message."""
    return range(0, max(1, len(rows)), step)


def _from_one_version(starts: Collection[int], send_part: Callable[[int], Exchange[Part]]) -> Exchange[list[Part]]:
    """Send every part; send parts again until all are from the version that answered last.

    Raises:
        VersionChangedError: the version changed in every round.
        ProblemError: a part failed; row numbers are those in the whole array.
    """
    parts: dict[int, Part] = {}
    latest = 0
    for _ in range(_MAX_ROUNDS):
        for start in starts:
            if start not in parts or parts[start].version != latest:
                parts[start] = yield from with_row_offset(start, send_part)
                latest = parts[start].version
        if all(part.version == latest for part in parts.values()):
            return [parts[start] for start in starts]
    raise VersionChangedError(tuple(sorted({part.version for part in parts.values()})))


def with_row_offset(start: int, send_part: Callable[[int], Exchange[Part]]) -> Exchange[Part]:
    """Send the part that begins at row `start`. Raises ProblemError with the row's number in the whole array."""
    try:
        return (yield from send_part(start))
    except ProblemError as error:
        if not start or not _ROW.match(error.field):
            raise
        texts = (error.field, error.detail)
        field, detail = (_ROW.sub(lambda row: f"{row[1]}[{int(row[2]) + start}]", text) for text in texts)
        problem = replace(error.problem, field=field, detail=detail)
        raise problem_error(problem, error.request_id) from error

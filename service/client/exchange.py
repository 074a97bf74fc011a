"""The conversations: large arrays go in parts, and come together again only where one version answered them all."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from lookalike.service.client.answers import (
    EmbedResponse,
    ReadyResponse,
    SearchResponse,
    read_embedded,
    read_live,
    read_object,
    read_ready,
    read_searched,
    read_version,
)
from lookalike.service.client.errors import MalformedAnswer, ProblemError, VersionChangedError, problem_error
from lookalike.service.client.messages import Answer, Call, Exchange
from lookalike.service.client.requests import Query, Rows, check_rows, embed_call, search_call
from lookalike.service.client.retrying import Retries, ask

__all__ = ["ClientOptions", "embed", "live", "manifest", "placed", "ready", "reload", "search"]

_ROUNDS = 3
"""How often parts are asked before it is said that versions change faster than they are answered."""
_MAX_HITS = 100_000
"""What the service allows in one answer, unless it is told otherwise."""
_ROW = re.compile(r"\A(inputs|embeddings|ids|items)\[(\d+)\]")


@dataclass(frozen=True)
class ClientOptions:
    """How a client asks.

    Attributes:
        timeout: seconds for one attempt.
        max_rows: rows in one call at most.
    """

    timeout: float
    retries: Retries
    max_rows: int

    def __post_init__(self) -> None:
        """Raises ValueError where nothing could be asked."""
        if not self.timeout > 0 or self.max_rows < 1:
            raise ValueError(f"expected a timeout over 0 and max_rows of at least 1, found {self}")

    def ask(self, call: Call) -> Exchange[Answer]:
        return ask(call, self.retries, self.timeout)


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


Part = TypeVar("Part", bound=_Versioned)


def embed(rows: Rows, options: ClientOptions) -> Exchange[EmbedResponse]:
    """Rows -> embeddings (n, latent_dim).

    Raises:
        ValueError, LookalikeError: see service.client.errors.
    """
    check_rows(rows, "inputs")
    starts = _starts(rows, options.max_rows)

    def one(start: int) -> Exchange[EmbedResponse]:
        some = rows[start : start + options.max_rows]
        return read_embedded((yield from options.ask(embed_call(some))), len(some))

    parts = yield from _by_one_version(starts, one)
    if len({part.embeddings.shape[1] for part in parts}) > 1:
        raise MalformedAnswer("body", "embeddings of one width from one version", "several", "of several parts")
    return (
        parts[0] if len(parts) == 1 else EmbedResponse(np.concatenate([p.embeddings for p in parts]), parts[0].version)
    )


def search(query: Query, options: ClientOptions) -> Exchange[SearchResponse]:
    """A question of any number of rows -> what was found for each.

    Raises:
        LookalikeError: see service.client.errors.
    """
    step = max(1, min(options.max_rows, _MAX_HITS // max(1, query.limit)))

    def one(start: int) -> Exchange[SearchResponse]:
        some = query.rows[start : start + step]
        answer = yield from options.ask(search_call(query, some))
        return read_searched(answer, count=len(some), limit=query.limit, with_payload=query.with_payload)

    parts = yield from _by_one_version(_starts(query.rows, step), one)
    sequence = min(part.sequence for part in parts)
    return SearchResponse(parts[0].version, sequence, tuple(found for part in parts for found in part.results))


def manifest(options: ClientOptions) -> Exchange[dict[str, Any]]:
    """The serving version's manifest."""
    return read_object((yield from options.ask(Call("GET", "version"))))


def ready(options: ClientOptions) -> Exchange[ReadyResponse]:
    """Is it ready now? Asked once, for 503 is an answer to this."""
    return read_ready((yield from options.ask(Call("GET", "readyz", again=False))))


def live(options: ClientOptions) -> Exchange[bool]:
    """Does it live now? Asked once."""
    return read_live((yield from options.ask(Call("GET", "livez", again=False))))


def reload(options: ClientOptions) -> Exchange[dict[str, Any]]:
    """Take over the champion. Sent once, for it changes something."""
    return read_version((yield from options.ask(Call("POST", "admin/reload", again=False))))


def _starts(rows: Rows, step: int) -> range:
    """Where each part begins; no rows are one part, which the service refuses in its own words."""
    return range(0, max(1, len(rows)), step)


def _by_one_version(starts: range, one: Callable[[int], Exchange[Part]]) -> Exchange[list[Part]]:
    """Each part's answer, all of the version that answered last; those of others are asked again.

    Raises:
        VersionChangedError: the version changed in every round.
        ProblemError: one part's, with the number that its row has in the whole.
    """
    parts: dict[int, Part] = {}
    latest = 0
    for _ in range(_ROUNDS):
        for start in starts:
            if start not in parts or parts[start].version != latest:
                parts[start] = yield from placed(start, one)
                latest = parts[start].version
        if all(part.version == latest for part in parts.values()):
            return [parts[start] for start in starts]
    raise VersionChangedError(tuple(sorted({part.version for part in parts.values()})))


def placed(start: int, one: Callable[[int], Exchange[Part]]) -> Exchange[Part]:
    """One part's answer. Raises ProblemError, with the number that its row has in the whole."""
    try:
        return (yield from one(start))
    except ProblemError as error:
        if not start or not _ROW.match(error.field):
            raise
        field, detail = (
            _ROW.sub(lambda row: f"{row[1]}[{int(row[2]) + start}]", t) for t in (error.field, error.detail)
        )
        moved = dataclasses.replace(error.problem, field=field, detail=detail)
        raise problem_error(moved, error.request_id) from error

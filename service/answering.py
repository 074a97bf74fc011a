"""Calls that wait together, answered together: encoded at once, searched at once, and parted again."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from index.embed import in_metric
from index.errors import QueryError
from index.filters import Filter
from index.novelty import reconstruction_errors
from index.version import Found, Version

__all__ = ["Answer", "Call", "Left", "Outcome", "answer_all", "novelty_of", "stays"]

Rows2D = NDArray[np.float32]
Left = Callable[[], bool]

_NOTHING = Found(np.empty((0, 0), np.float32), np.empty((0, 0), np.int64), np.empty(0))


@dataclass(frozen=True)
class Answer:
    """Embeddings (n, latent), and what was found for them."""

    embeddings: Rows2D
    found: Found = _NOTHING


def stays() -> bool:
    """A client that never leaves."""
    return False


def _future() -> "asyncio.Future[Answer]":
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class Call:
    """One call, as it waits.

    Attributes:
        rows: (n, width) raw float32, or (n, latent) where they are encoded.
        limit: hits for each row; 0 for no search.
        own: (n,) where the rows stand that are items.
        until: the event loop's time at which the call is given up.
        left: is the client gone?
        known: is it the version's own question?
    """

    rows: Rows2D
    encoded: bool
    limit: int = 0
    given: Filter | None = None
    own: NDArray[np.int64] | None = None
    until: float = 0.0
    left: Left = stays
    known: bool = False
    future: "asyncio.Future[Answer]" = field(default_factory=_future, repr=False)


@dataclass(frozen=True)
class Outcome:
    """An answer a call, and the seconds that the batch took."""

    answers: list[Answer | Exception]
    encoding: float = 0.0
    searching: float = 0.0


def answer_all(version: Version, batch: list[Call]) -> Outcome:
    """Where the batch fails, each call is answered alone, so that none pays for another."""
    try:
        return _answer(version, batch)
    except Exception as error:
        if len(batch) == 1:
            return Outcome([error])
        each = [answer_all(version, [call]) for call in batch]
        times = (sum(one.encoding for one in each), sum(one.searching for one in each))
        return Outcome([answer for one in each for answer in one.answers], *times)


def novelty_of(batch: list[Call], answers: list[Answer | Exception]) -> NDArray[np.float64]:
    """(n,): of the queries that came from outside; what an item or the known question gets tells nothing of drift."""
    each = zip(batch, answers, strict=True)
    told = [a.found.novelty for call, a in each if isinstance(a, Answer) and call.own is None and not call.known]
    return np.concatenate(told) if told else np.empty(0)


def _answer(version: Version, batch: list[Call]) -> Outcome:
    began = perf_counter()
    latents = _encode(version, batch)
    encoded = perf_counter()
    answers: list[Answer | Exception] = [Answer(latent) for latent in latents]
    alike: dict[Hashable, list[int]] = {}
    for number, call in enumerate(batch):
        alike.setdefault((call.limit, call.given, call.encoded, call.own is None), []).append(number)
    for some in alike.values():
        told = _answer_alike(version, [batch[number] for number in some], [latents[number] for number in some])
        for number, answer in zip(some, told, strict=True):
            answers[number] = answer
    searched = any(call.limit for call in batch)
    return Outcome(answers, encoded - began, perf_counter() - encoded if searched else 0.0)


def _answer_alike(version: Version, calls: list[Call], latents: list[Rows2D]) -> list[Answer]:
    """For calls that ask alike, each with its rows as the encoder gave them."""
    first, latent = calls[0], _joined(latents)
    embeddings, places = in_metric(latent, version.metric), _places(latents)
    if not first.limit:
        return [Answer(embeddings[part]) for part in places]
    errors = None
    if not first.encoded:
        errors = reconstruction_errors(version.encoder, _joined([call.rows for call in calls]), latent)
    own = None if first.own is None else np.concatenate([call.own for call in calls if call.own is not None])
    found = version.search(embeddings, first.limit, first.given, errors=errors, own=own)
    return [
        Answer(embeddings[part], Found(found.scores[part], found.positions[part], found.novelty[part]))
        for part in places
    ]


def _encode(version: Version, batch: list[Call]) -> list[Rows2D]:
    """Each call's rows as the encoder gives them; those that came encoded are left as they are.

    Raises QueryError where finite inputs leave float32 on their way through the encoder.
    """
    raw = [call.rows for call in batch if not call.encoded]
    if not raw:
        return [call.rows for call in batch]
    with np.errstate(invalid="ignore"):
        latent = version.encoder.encode(_joined(raw))
    if not np.isfinite(latent).all():
        raise QueryError("inputs", expected="values of the size that the encoder knows", found="too large ones")
    parts = iter(latent[part] for part in _places(raw))
    return [call.rows if call.encoded else next(parts) for call in batch]


def _places(parts: Sequence[Rows2D]) -> list[slice]:
    """Where each part's rows stand among all, one after the other."""
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    return [slice(*pair) for pair in pairwise(ends)]


def _joined(parts: Sequence[Rows2D]) -> Rows2D:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

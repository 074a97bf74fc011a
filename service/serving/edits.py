"""The changes of items that a client asks for: to put some, to delete one, to delete all that pass a filter.

A deletion is decided by what this process has read of the change log, and written only if the item has not changed
since (index.changes.change.Change.seen): what another process acknowledges in between is never deleted unseen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from lookalike.index.ann.vectors import comparable
from lookalike.index.changes.change import Change
from lookalike.index.changes.inputs import Input
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import Filter
from lookalike.service.serving.batching import IsDisconnected, never
from lookalike.service.serving.serving import Current, Serving
from lookalike.training.artifact.known_range import Clipped
from lookalike.training.tables.origin import relative

__all__ = ["WriteResult", "delete", "delete_matching", "put"]

DELETED_TOGETHER = 512
"""Items of a filter that are deleted in one step: of many, others are answered in between."""


@dataclass(frozen=True)
class WriteResult:
    """Changes that are durable, and that every search from now on includes, on every worker.

    Attributes:
        count: how many items were put, or were there and are deleted.
        sequence: the number of the last of these changes; if there were none, of the last change known.
        version: the version that serves.
        clipped: the values of items that were put that its encoder clips.
    """

    count: int
    sequence: int
    version: int
    clipped: Clipped = field(default_factory=Clipped)


async def put(
    serving: Serving, ids: list[str], rows: Input, payloads: list[str], is_disconnected: IsDisconnected = never
) -> WriteResult:
    """Make or replace items.

    Args:
        ids: n that differ.
        rows: (n, width), raw, as the client sent them.
        payloads: n JSON objects as text.

    Raises:
        QueryError: the encoder cannot read a row; nothing is written.
        LogError: the log cannot be written; nothing is.
    """
    engine = serving.current.engine
    near = relative(rows, engine.version.encoder.origin)
    embeddings = await engine.embed(near, is_disconnected)
    unusable = np.flatnonzero(~comparable(embeddings))
    if len(unusable):  # the log would keep it, and no search find it
        place = f"items[{unusable[0]}].input"
        raise QueryError(place, expected="values of the size that the encoder knows", found="too large ones")
    clipped = engine.version.encoder.preprocess.clipped(near, ids)
    changes = [Change(name, row, payload) for name, row, payload in zip(ids, rows, payloads, strict=True)]
    written = _written(serving, await serving.write(changes, embeddings, engine.version.number))
    return replace(written, clipped=clipped)


async def delete(serving: Serving, name: str) -> WriteResult:
    """Delete an item if it is there, also one that this version's encoder cannot read.

    Raises:
        LogError: the log cannot be written; nothing is.
    """
    while True:
        current = serving.current
        await serving.wait_for_sequence(current)
        seen = current.collection.applied
        if not await serving.holds(name):
            return WriteResult(0, seen, current.version.number)
        done = _written(serving, await serving.write([Change(name, seen=seen)]))
        if done.count:
            return done  # else the item has changed since: look again


async def delete_matching(serving: Serving, filter_: Filter) -> WriteResult:
    """Delete each item that passes a filter at the moment of its deletion.

    Many are deleted in several steps, each with all its items or none.

    Raises:
        QueryError: as `Live.passing`.
        LogError: the log cannot be written; earlier steps stay.
    """
    count, only = 0, set[str]()
    while True:
        current = serving.current
        await serving.wait_for_sequence(current)
        seen, names = await _matching(current, filter_)
        done, late = WriteResult(0, seen, current.version.number), set[str]()
        asked = (Change(name, seen=seen) for name in names if not only or name in only)
        while some := list(islice(asked, DELETED_TOGETHER)):
            written = await serving.write(some)
            late.update(change.id for change, sequence in zip(some, written, strict=True) if not sequence)
            done = _written(serving, written)
            count += done.count
        if not late:
            return WriteResult(count, done.sequence, done.version)
        only = late  # these have changed since the filter saw them: ask the filter again


async def _matching(current: Current, filter_: Filter) -> tuple[int, Iterator[str]]:
    """The ids of the items that pass a filter, and the last change that the filter saw."""
    collection, places, seen = current.collection, list[int](), 0

    def look() -> None:
        nonlocal seen
        places.extend(collection.items.passing(filter_).tolist())
        seen = collection.applied

    await current.engine.change(look)
    return seen, map(collection.items.id_at, places)


def _written(serving: Serving, written: list[int]) -> WriteResult:
    current = serving.current
    sequence = max(written, default=0) or current.collection.applied
    return WriteResult(sum(map(bool, written)), sequence, current.version.number)

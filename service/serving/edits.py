"""The changes of items that a client requests: put items, delete one item, delete all items that pass a filter.

A deletion depends on the changes that this process has read, and is written only if the item has not changed since
(index.changes.change.Change.seen). So a change that another process acknowledges in between is never lost.
"""

from collections.abc import Iterator, Sequence
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
"""Items that are deleted in one step; other calls are answered between the steps."""


@dataclass(frozen=True)
class WriteResult:
    """Durable changes, which every later search includes, on every worker.

    Attributes:
        count: how many items were put or deleted.
        sequence: the number of the last of these changes; without changes, of the last known change.
        version: the version that serves.
        clipped: the put values that its encoder clips.
    """

    count: int
    sequence: int
    version: int
    clipped: Clipped = field(default_factory=Clipped)


async def put(
    serving: Serving,
    ids: list[str],
    rows: Input,
    payloads: list[str],
    is_disconnected: IsDisconnected = never,
    *,
    previews: Sequence[bytes | None] = (),
) -> WriteResult:
    """Create or replace items.

    Args:
        ids: n different ids.
        rows: (n, width), raw, as the client sent them.
        payloads: n JSON objects as text.
        previews: n WebP files, or none.

    Raises:
        QueryError: the encoder cannot read a row; nothing is written.
        LogError: the log cannot be written; nothing is written.
    """
    engine = serving.current.engine
    encoder = engine.version.encoder
    field = "input" if encoder.embeds else "embedding"
    near = relative(rows, encoder.origin)
    if refused := encoder.first_refused(near):
        raise QueryError(f"items[{refused.row}].{field}", refused.expected, refused.found)
    embeddings = await engine.embed(near, is_disconnected)
    unusable = np.flatnonzero(~comparable(embeddings))
    if len(unusable):  # the log would keep the item, but no search could find it
        expected = "values that the encoder can compute with"
        raise QueryError(f"items[{unusable[0]}].{field}", expected=expected, found="too large values")
    clipped = encoder.preprocess.clipped(near, ids)
    parts = zip(ids, rows, payloads, previews or [None] * len(rows), strict=True)
    changes = [Change(name, row, payload, preview=preview) for name, row, payload, preview in parts]
    written = _written(serving, await serving.write(changes, embeddings, engine.version.number))
    return replace(written, clipped=clipped)


async def delete(serving: Serving, name: str) -> WriteResult:
    """Delete an item if it exists, also if this version's encoder cannot read it.

    Raises LogError if the log cannot be written; nothing is written.
    """
    while True:
        current = serving.current
        await serving.wait_for_sequence(current)
        seen = current.collection.applied
        if not await serving.has_item(name):
            return WriteResult(0, seen, current.version.number)
        done = _written(serving, await serving.write([Change(name, seen=seen)]))
        if done.count:
            return done  # otherwise the item has changed since, so check again


async def delete_matching(serving: Serving, filter_: Filter) -> WriteResult:
    """Delete each item that passes a filter at the moment of its deletion.

    Many are deleted in several steps, each with all its items or none.

    Raises:
        QueryError: the filter does not fit the items.
        LogError: the log cannot be written; earlier steps remain.
    """
    count, only = 0, set[str]()
    while True:
        current = serving.current
        await serving.wait_for_sequence(current)
        seen, names = await _matching(current, filter_)
        done, changed = WriteResult(0, seen, current.version.number), set[str]()
        deletions = (Change(name, seen=seen) for name in names if not only or name in only)
        while batch := list(islice(deletions, DELETED_TOGETHER)):
            written = await serving.write(batch)
            changed.update(change.id for change, sequence in zip(batch, written, strict=True) if not sequence)
            done = _written(serving, written)
            count += done.count
        if not changed:
            return WriteResult(count, done.sequence, done.version)
        only = changed  # these items have changed since the filter saw them, so filter again


async def _matching(current: Current, filter_: Filter) -> tuple[int, Iterator[str]]:
    """The last change that the filter saw, and the ids of the items that pass it."""
    collection, positions, seen = current.collection, list[int](), 0

    def read() -> None:
        nonlocal seen
        positions.extend(collection.items.passing(filter_).tolist())
        seen = collection.applied

    await current.engine.change(read)
    return seen, map(collection.items.id_at, positions)


def _written(serving: Serving, written: list[int]) -> WriteResult:
    current = serving.current
    sequence = max(written, default=0) or current.collection.applied
    return WriteResult(sum(map(bool, written)), sequence, current.version.number)

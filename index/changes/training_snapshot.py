"""The current items as rows to train on: the source of a version, combined with the change log up to some change.

Rows that the log replaced or deleted are left out of the source. After the source come the puts of the log: the latest
change of each id, in order. Whenever the source is read, the digest of its inputs is compared with the version's. In
memory are the changed ids and 16 bytes for each row.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import StoreError
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Booleans, Floats, Integers
from lookalike.training.artifact.known_range import Clipped
from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows, sketches
from lookalike.training.transforms import Interval, interval_of

__all__ = ["ChampionRows", "Sketches", "TrainingSnapshot", "changes", "check_whole", "take_snapshot", "with_previews"]

Sketches = NDArray[np.uint64]
Readable = Callable[[list[Change]], Booleans]


@dataclass(frozen=True)
class ChampionRows:
    """The source of the rows of a version. It may have moved and grown since the build.

    Attributes:
        rows: the present source.
        name, count, digest: its name, the number of its rows, and the SHA-256 of all inputs at the build.
        ids: the ids of the rows at the build; None means its first rows.
    """

    rows: Rows
    name: str
    count: int
    digest: str
    ids: frozenset[str] | None = None

    @property
    def new(self) -> int:
        """The number of rows that the source did not have at the build; they are no items, and are left out."""
        return self.rows.count - self.count

    def chunks(self, size: int | None = None) -> Iterator[Chunk]:
        """Yield the rows of the version in chunks. Raises DataError if the source has not all of them unchanged."""
        if self.new < 0:
            raise self._changed(f"{self.rows.count:,} rows instead of {self.count:,}")
        digest, seen = hashlib.sha256(), 0
        for chunk in self.rows.chunks(size):
            known = self._known(chunk, seen) if self.new else chunk
            digest.update(known.inputs.data)
            seen += len(chunk.ids)
            if known.ids:
                yield known
        if digest.hexdigest() != self.digest:
            more = f", and {self.new:,} more" if self.new else " of the same number"
            raise self._changed(f"other rows{more}")

    def _known(self, chunk: Chunk, first: int) -> Chunk:
        """Return the rows of a chunk that the source had at the build; `first`: the number of the chunk's first row."""
        if self.ids is None:
            return _some(chunk, range(len(chunk.ids))[: max(0, self.count - first)])
        return _some(chunk, [place for place, name in enumerate(chunk.ids) if name in self.ids])

    def _changed(self, found: str) -> DataError:
        expected = f"the rows that the version was built from, as {self.name}"
        remedy = "Restore them, name their new place with --data, or build a version from the new rows."
        return DataError(self.rows.name, expected=expected, found=found, remedy=remedy)


@dataclass(frozen=True)
class TrainingSnapshot:
    """The items at one change of the log.

    Attributes:
        rows: all rows to train on.
        sketches: (rows,) the sketch of each row.
        before: (source rows,) the sketches of all rows of the source, including replaced and deleted rows.
        sequence: the last change of the log that is included.
        new, replaced, deleted: the numbers of rows that the log added to the source, replaced and deleted.
        unreadable: the number of items that the version's encoder cannot embed; they are left out, and stay in the log.
        intervals: (rows,) the interval of each row, if the rows are windows of recordings; else empty.
        outside: (m,) rising, which rows have values outside the range that the version's encoder knows.
        clipped: these values.
    """

    rows: Rows
    sketches: Sketches
    before: Sketches
    sequence: int
    new: int
    replaced: int
    deleted: int
    unreadable: int
    outside: Integers
    clipped: Clipped
    intervals: Sequence[Interval | None] = ()


def take_snapshot(
    source: ChampionRows, store: Path, upto: int, readable: Readable, known: Preprocessor
) -> TrainingSnapshot:
    """Return the source combined with the store's log up to the change `upto`.

    `readable` returns which puts, (n,), can be embedded; `known` is the preprocessing of the version's encoder. Raises
    DataError if the source changed, or cannot be read, or has another width than the log's inputs, and ArtifactError or
    LogError as the log does.
    """
    put, deleted, unreadable = set[str](), set[str](), set[str]()
    log_outside, source_outside = _Outside(known), _Outside(known)
    log_sketches = [np.empty(0, np.uint64)]
    intervals, of_log = list[Interval | None](), list[Interval | None]()
    for batch in changes(store, upto, source.rows):
        puts = [change for change in batch if not change.is_delete]
        usable = readable(puts)
        ids = [change.id for change in compress(puts, usable)]
        put.update(ids)
        unreadable.update(change.id for change in compress(puts, ~usable))
        deleted.update(change.id for change in batch if change.is_delete)
        inputs = _inputs(puts, source.rows)[usable]
        log_sketches.append(sketches(inputs))
        log_outside.add(inputs, ids)
        of_log += _intervals((json.loads(put.payload or "{}") for put in compress(puts, usable)), source.rows)
    changed, replaced, removed = put | deleted | unreadable, 0, 0
    source_sketches, unchanged = [np.empty(0, np.uint64)], [np.empty(0, np.bool_)]
    with progress_bar("reading", source.rows.count, "rows") as advance:
        for chunk in source.chunks():
            source_sketches.append(sketches(chunk.inputs))
            unchanged.append(np.array([name not in changed for name in chunk.ids], np.bool_))
            intervals += _intervals(compress(chunk.payloads, unchanged[-1]), source.rows)
            source_outside.add(chunk.inputs[unchanged[-1]], list(compress(chunk.ids, unchanged[-1])))
            replaced += sum(name in put for name in chunk.ids)
            removed += sum(name in deleted for name in chunk.ids)
            advance(len(chunk.ids))
    before, kept = np.concatenate(source_sketches), np.concatenate(unchanged)
    rows = replace(
        source.rows,
        name=source.name,
        count=source_outside.count + len(put),
        read=lambda size: _read(source, store, upto, (changed, unreadable), size),
        settings=None,
        notes=(),
        reopen=None,
        read_with_previews=None,
        skipped=(),
    )
    return TrainingSnapshot(
        rows,
        np.concatenate([before[kept], *log_sketches]),
        before,
        sequence=upto,
        new=len(put) - replaced,
        replaced=replaced,
        deleted=removed,
        unreadable=len(unreadable),
        outside=np.concatenate([source_outside.places, source_outside.count + log_outside.places]),
        clipped=log_outside.clipped.joined(source_outside.clipped),
        intervals=intervals + of_log,
    )


def _intervals(payloads: Iterable[dict[str, Any]], rows: Rows) -> list[Interval | None]:
    """The interval of each window; none if the rows are no windows of recordings."""
    return [interval_of(payload, rows.group) for payload in payloads] if rows.group else []


class _Outside:
    """Collects which rows have values outside the range that an encoder knows."""

    def __init__(self, known: Preprocessor) -> None:
        self._known = known
        self._places: list[Integers] = [np.empty(0, np.int64)]
        self.count, self.clipped = 0, Clipped()

    @property
    def places(self) -> Integers:
        """(m,) rising."""
        return np.concatenate(self._places)

    def add(self, inputs: Floats, ids: list[str]) -> None:
        """Look at the next rows, (n, width), and their ids."""
        self._places.append(self.count + np.unique(self._known.outside(inputs)[:, 0]))
        self.clipped = self.clipped.joined(self._known.clipped(inputs, ids))
        self.count += len(inputs)


def with_previews(rows: Rows, version: Version) -> Rows:
    """Return the rows of a snapshot with the previews that the version has of them; none if it has no previews.

    The puts of the log have their own.
    """
    previews, items = version.previews, version.items

    def found(name: str) -> bytes:
        position = items.find(name)
        return b"" if previews is None or position is None else previews.at(position)

    def read(size: int) -> Iterator[Chunk]:
        for chunk in rows.read(size):
            yield replace(chunk, previews=(chunk.previews or [*map(found, chunk.ids)]) if previews else [])

    return replace(rows, read=read)


def check_whole(store: Path, folded: int) -> None:
    """Check that the log has all changes from the first to `folded`, the last that the version includes.

    Without these changes the rows would lack acknowledged items, and contain deleted ones. Raises StoreError if the log
    was lost, or replaced by an older copy, and ArtifactError or LogError as the log does.
    """
    with closing(ChangeLog(store)) as log:
        begins, last = log.begins(), log.last()
    if begins > 0 or last < folded:
        expected = f"a change log from change 1 to {max(folded, begins):,}, which a version includes"
        found = f"changes {begins + 1:,} to {last:,}" if last > begins else "none of these changes"
        remedy = "Restore items.db from a backup, or build a new store from the current rows."
        raise StoreError(f"store {store}", expected, found, remedy)


def changes(store: Path, upto: int, rows: Rows) -> Iterator[list[Change]]:
    """Yield the latest change of each id up to a change of the log.

    Raises DataError if its inputs have another length than the rows.
    """
    with closing(ChangeLog(store)) as log:
        width = log.width()
        if width not in (None, rows.width):
            expected = f"rows of {width} values, like the items in the change log"
            raise DataError(rows.name, expected=expected, found=f"{rows.width}")
        yield from log.current(0, upto)


def _read(
    source: ChampionRows, store: Path, upto: int, without: tuple[set[str], set[str]], size: int
) -> Iterator[Chunk]:
    """Yield all rows in chunks; `without`: the ids to skip in the source, and in the log."""
    changed, unreadable = without
    for chunk in source.chunks(size):
        kept = [place for place, name in enumerate(chunk.ids) if name not in changed]
        if len(kept) == len(chunk.ids):
            yield chunk
        elif kept:
            yield _some(chunk, kept)
    for batch in changes(store, upto, source.rows):
        puts = [change for change in batch if not change.is_delete and change.id not in unreadable]
        for start in range(0, len(puts), size):
            some = puts[start : start + size]
            payloads = [json.loads(change.payload or "{}") for change in some]
            previews = [change.preview or b"" for change in some]
            yield Chunk([change.id for change in some], _inputs(some, source.rows), payloads, previews)


def _some(chunk: Chunk, kept: Sequence[int]) -> Chunk:
    """Return some rows of a chunk."""
    ids, payloads = [chunk.ids[i] for i in kept], [chunk.payloads[i] for i in kept]
    return Chunk(ids, chunk.inputs[list(kept)], payloads, [chunk.previews[i] for i in kept if chunk.previews])


def _inputs(puts: list[Change], rows: Rows) -> Floats:
    """(n, width): the inputs of puts, less the origin of the rows."""
    return stacked((change.input for change in puts), rows.origin) if puts else np.empty((0, rows.width), np.float32)

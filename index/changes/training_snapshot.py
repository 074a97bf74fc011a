"""The collection as rows to train on: a version's source, overlaid by the change log up to some change.

What the log replaced or deleted is left out of the source, and what counts of the log comes after it, in the order of
its changes. The source is known again by the digest of its inputs, each time that it is read. In memory are the changed
ids and 16 bytes a row.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.inputs import stacked
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import StoreError
from lookalike.training.artifact.known_range import Clipped
from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows, sketches

__all__ = ["ChampionRows", "TrainingSnapshot", "changes", "check_whole", "take_snapshot"]

Floats = NDArray[np.float32]
Sketches = NDArray[np.uint64]
Readable = Callable[[list[Change]], NDArray[np.bool_]]


@dataclass(frozen=True)
class ChampionRows:
    """A version's rows, wherever they are now, and what its manifest says of them.

    Attributes:
        name: what they were called when the version was built.
        digest: the SHA-256 of all inputs.
    """

    rows: Rows
    name: str
    count: int
    digest: str

    def chunks(self, size: int | None = None) -> Iterator[Chunk]:
        """As `Rows.chunks`.

        Raises:
            DataError: these are other rows than the version's.
        """
        if self.rows.count != self.count:
            raise self._changed(f"{self.rows.count:,} rows where there were {self.count:,}")
        digest = hashlib.sha256()
        for chunk in self.rows.chunks(size):
            digest.update(chunk.inputs.data)
            yield chunk
        if digest.hexdigest() != self.digest:
            raise self._changed("others of the same number")

    def _changed(self, found: str) -> DataError:
        return DataError(
            self.rows.name,
            expected=f"the rows that the version was built of, as {self.name}",
            found=found,
            remedy="Bring them back, name where they are with --data, or build a version of the new ones.",
        )


@dataclass(frozen=True)
class TrainingSnapshot:
    """The collection at one change of the log.

    Attributes:
        rows: all of it.
        sketches: (rows,) what each is known again by.
        before: (source rows,) the same of the source as it is, also of what was replaced or deleted.
        sequence: up to which change of the log.
        new, replaced, deleted: items that the log added to the source, put in the place of one of it, and took away.
        unreadable: items that the version's encoder cannot embed; they are left out, and stay in the log.
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
    outside: NDArray[np.int64]
    clipped: Clipped


def take_snapshot(
    source: ChampionRows, store: Path, upto: int, readable: Readable, known: Preprocessor
) -> TrainingSnapshot:
    """The source overlaid by the store's log up to the change `upto`.

    Args:
        readable: which of some puts, (n,), can be embedded.
        known: the preprocessing of the version's encoder.

    Raises:
        DataError: the source is another one, or cannot be read, or takes other inputs than the log has.
        ArtifactError, LogError: the log.
    """
    put, deleted, unreadable, prints = set[str](), set[str](), set[str](), [np.empty(0, np.uint64)]
    far_puts, far_rows = _Outside(known), _Outside(known)
    for batch in changes(store, upto, source.rows):
        puts = [change for change in batch if not change.is_delete]
        good = readable(puts)
        put.update(change.id for change, one in zip(puts, good, strict=True) if one)
        unreadable.update(change.id for change, one in zip(puts, good, strict=True) if not one)
        deleted.update(change.id for change in batch if change.is_delete)
        inputs = _inputs(puts, source.rows)[good]
        prints.append(sketches(inputs))
        far_puts.add(inputs, [change.id for change, one in zip(puts, good, strict=True) if one])
    before, there, replaced, gone = [np.empty(0, np.uint64)], [np.empty(0, np.bool_)], 0, 0
    out = put | deleted | unreadable
    with progress_bar("reading", source.rows.count, "rows") as advance:
        for chunk in source.chunks():
            before.append(sketches(chunk.inputs))
            kept = np.array([name not in out for name in chunk.ids], np.bool_)
            there.append(kept)
            far_rows.add(chunk.inputs[kept], [name for name in chunk.ids if name not in out])
            replaced += sum(name in put for name in chunk.ids)
            gone += sum(name in deleted for name in chunk.ids)
            advance(len(chunk.ids))
    all_before, all_kept = np.concatenate(before), np.concatenate(there)
    rows = Rows(
        source.name,
        source.rows.shape,
        int(all_kept.sum()) + len(put),
        source.rows.pixels,
        lambda size: _read(source, store, upto, (out, unreadable), size),
        source.rows.columns,
        source.rows.gaps,
        origin=source.rows.origin,
    )
    counts = len(put) - replaced, replaced, gone, len(unreadable)
    outside = np.concatenate([far_rows.places, far_rows.count + far_puts.places])
    return TrainingSnapshot(
        rows,
        np.concatenate([all_before[all_kept], *prints]),
        all_before,
        upto,
        *counts,
        outside,
        far_puts.clipped.joined(far_rows.clipped),
    )


class _Outside:
    """Which of some rows have values outside the range that an encoder knows."""

    def __init__(self, known: Preprocessor) -> None:
        self._known = known
        self._places: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        self.count, self.clipped = 0, Clipped()

    @property
    def places(self) -> NDArray[np.int64]:
        """(m,) rising."""
        return np.concatenate(self._places)

    def add(self, inputs: Floats, ids: list[str]) -> None:
        """The next rows, (n, width), and their ids."""
        self._places.append(self.count + np.unique(self._known.outside(inputs)[:, 0]))
        self.clipped = self.clipped.joined(self._known.clipped(inputs, ids))
        self.count += len(inputs)


def check_whole(store: Path, folded: int) -> None:
    """Is the log there from its first change to the last that a version has folded in?

    Without those the rows would lack items that were acknowledged, and have such again that were deleted.

    Raises:
        StoreError: it was lost, or an older copy stands in its place.
        ArtifactError, LogError: the log.
    """
    with closing(ChangeLog(store)) as log:
        begins, last = log.begins(), log.last()
    if begins > 0 or last < folded:
        raise StoreError(
            f"store {store}",
            expected=f"a change log from change 1 to {max(folded, begins):,}, which a version has folded in",
            found=f"one from {begins + 1:,} to {last:,}" if last > begins else "none of its changes",
            remedy="Restore items.db from a backup, or build a new store from the current rows.",
        )


def changes(store: Path, upto: int, rows: Rows) -> Iterator[list[Change]]:
    """What counts of the log up to a change.

    Raises:
        DataError: its inputs are of another length than the rows.
    """
    with closing(ChangeLog(store)) as log:
        width = log.width()
        if width not in (None, rows.width):
            raise DataError(
                rows.name, expected=f"rows of {width} values, as the items that were put have", found=f"{rows.width}"
            )
        yield from log.current(0, upto)


def _read(
    source: ChampionRows, store: Path, upto: int, without: tuple[set[str], set[str]], size: int
) -> Iterator[Chunk]:
    """The chunks of the collection; `without`: what is not taken of the source, and what is not of the log."""
    out, unreadable = without
    for chunk in source.chunks(size):
        kept = [place for place, name in enumerate(chunk.ids) if name not in out]
        if len(kept) == len(chunk.ids):
            yield chunk
        elif kept:
            yield Chunk([chunk.ids[i] for i in kept], chunk.inputs[kept], [chunk.payloads[i] for i in kept])
    for batch in changes(store, upto, source.rows):
        puts = [change for change in batch if not change.is_delete and change.id not in unreadable]
        for start in range(0, len(puts), size):
            some = puts[start : start + size]
            yield Chunk([change.id for change in some], _inputs(some, source.rows), list(map(_payload, some)))


def _inputs(puts: list[Change], rows: Rows) -> Floats:
    """(n, width), less the origin of the rows beside which they are."""
    return stacked((change.input for change in puts), rows.origin) if puts else np.empty((0, rows.width), np.float32)


def _payload(change: Change) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(change.payload or "{}")
    return payload

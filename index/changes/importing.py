"""Import the rows of a source into the change log; each transaction includes the place up to which the source was read.

The place is a note of the log, "import NAME": {"rows": 3000, "sha256": ...} of the first 3,000 rows, which are in the
log. If the source still begins with the same rows, the next import continues after them; if not, it begins again.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np

from lookalike.index.ann.spec import Metric
from lookalike.index.ann.vectors import comparable
from lookalike.index.changes.change import Change
from lookalike.index.changes.inputs import Input
from lookalike.index.changes.log import ChangeLog, Note
from lookalike.index.items.ids import check_ids
from lookalike.index.items.previews import PLACES
from lookalike.index.items.table import ItemTable, payload_texts, read_items
from lookalike.index.versions.embed import embed, suited
from lookalike.index.versions.store import Store
from lookalike.training.artifact.known_range import Clipped
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.artifact.row_encoder import Refusal, RowEncoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows
from lookalike.training.tables.origin import relative

__all__ = ["ImportResult", "import_rows"]

MOST, BYTES = 1_000, 1 << 23
"""At most this many rows, and bytes of inputs, in a transaction: then the disk's share of the time is small."""


@dataclass(frozen=True)
class ImportResult:
    """The result of an import.

    Attributes:
        rows: the number of rows that were written.
        before: how many of the source's first rows were in the log already.
        sequence: the last change in the log.
        clipped: values of the written rows that the champion's encoder clips.
        replaced: how many of the written rows replaced an item: of the version, of the log, or of an earlier row.
    """

    rows: int
    before: int
    sequence: int
    clipped: Clipped
    replaced: int = 0


def import_rows(rows: Rows, store: Store, *, again: bool = False, device: DeviceName = "cpu") -> ImportResult:
    """Put each row as an item; a later row replaces an earlier row of the same id. A running service finds the items.

    After an interruption, the next call continues: no row is written twice. `again` writes all rows, also those that
    were written before.

    Raises:
        StoreError: there is no champion.
        DataError: the rows do not fit the champion's encoder, or a row is invalid: the error names it, and nothing of
            its transaction is written.
        LogError, ArtifactError: the log cannot be written, or is damaged.
        JobError: another import of the same source wrote at the same time.
    """
    check, key = _Check(store, device), f"import {rows.name}"
    rows = rows.suited(check.encoder.inputs)
    if check.has_previews:
        rows = rows.with_previews()
    _check_ids_column(rows, check.encoder)
    suited(rows, check.encoder)  # raises an error for rows of another width
    items = read_items(store.path(store.champion_number()))
    with closing(ChangeLog(store.folder)) as log:
        noted = log.note(key)
        before = _NOTHING if again or noted is None else _Place(**json.loads(noted))
        source = _Source(rows, before.rows, check.dtype)
        if not source.begins_with(before):
            before, source = _NOTHING, _Source(rows, 0, check.dtype)
        left, replaced = rows.count - before.rows, 0
        with progress_bar("importing", left, "rows", shown=left > 0) as advance:
            for part in source.parts():
                check.embeddings(part, rows.name)
                reached = json.dumps(asdict(source.place))
                replaced += _present(part.ids, log, items)
                log.append(part.changes(), Note(key, reached, before=noted))
                noted = reached
                advance(len(part.ids))
        return ImportResult(left, before.rows, log.last(), check.clipped, replaced)


def _check_ids_column(rows: Rows, encoder: RowEncoder) -> None:
    """Refuse a table without the column of ids that the training's settings name: row numbers would replace items."""
    settings = encoder.inputs.settings
    if rows.columns and rows.ids is None and settings.id != type(settings)().id:
        expected = f"a column {settings.id!r} of ids, as data.id names it"
        raise DataError(rows.name, expected=expected, found="no such column", remedy="Add the column.")


def _present(ids: list[str], log: ChangeLog, items: ItemTable) -> int:
    """Return how many of the ids an item has, or an earlier one of the ids: by the log, else by the version."""
    seen, count = set[str](), 0
    for name in ids:
        last = log.find(name)
        count += name in seen or (items.find(name) is not None if last is None else not last.is_delete)
        seen.add(name)
    return count


@dataclass(frozen=True)
class _Place:
    """The first rows of a source: their number, and the digest of their ids, inputs and payloads."""

    rows: int
    sha256: str


_NOTHING = _Place(0, "")


@dataclass(frozen=True)
class _Part:
    """The rows of one transaction; `first` is the row number of the first in the source."""

    ids: list[str]
    inputs: Input
    payloads: list[str]
    previews: list[bytes]
    first: int

    def changes(self) -> list[Change]:
        previews = self.previews or [b""] * len(self.ids)
        parts = zip(self.ids, self.inputs, self.payloads, previews, strict=True)
        return [Change(name, row, payload, preview=preview or None) for name, row, payload, preview in parts]


class _Source:
    """The rows in order, in a part for each transaction, with the digest of all rows so far."""

    def __init__(self, rows: Rows, edge: int, dtype: type[np.float32 | np.float64]) -> None:
        """A part ends after `edge` rows; `dtype` is the type of the inputs."""
        size = max(1, min(MOST, BYTES // (4 * max(1, rows.width))))
        self._name, self._count = rows.name, rows.count
        self._chunks = _cut(rows.chunks(size, dtype), edge)
        self._digests = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._read = 0

    @property
    def place(self) -> _Place:
        """The rows that were read so far; the digest does not depend on the sizes of the parts."""
        digests = "".join(digest.hexdigest() for digest in self._digests)
        return _Place(self._read, hashlib.sha256(digests.encode()).hexdigest())

    def begins_with(self, before: _Place) -> bool:
        """Read as many rows as `before` has, and return whether they are the same."""
        if before.rows > self._count:
            return False
        parts = self.parts()
        with progress_bar("comparing", before.rows, "rows", shown=before.rows > 0) as advance:
            while self._read < before.rows:
                advance(len(next(parts).ids))
        return before in (_NOTHING, self.place)

    def parts(self) -> Iterator[_Part]:
        """Yield the parts that were not read yet. Raises DataError if an id or a payload is invalid."""
        ids, inputs, payloads = self._digests
        for chunk in self._chunks:
            check_ids(chunk.ids, self._name)
            texts = payload_texts(chunk.ids, chunk.payloads, self._name)
            part = _Part(chunk.ids, np.ascontiguousarray(chunk.inputs), texts, chunk.previews, self._read)
            ids.update(_lines(part.ids))
            inputs.update(part.inputs.data)
            payloads.update(_lines(texts))
            self._read += len(part.ids)
            yield part


class _Check:
    """Checks that the champion's encoder can embed rows, and collects the values that it clips."""

    def __init__(self, store: Store, device: DeviceName) -> None:
        number = store.champion_number()
        self._metric: Metric = store.manifest(number).index.metric
        self.encoder = open_encoder(store.path(number) / "encoder", device)
        self.dtype: type[np.float32 | np.float64] = np.float32 if self.encoder.origin is None else np.float64
        """The type of stored inputs: float64 if the encoder has an origin to subtract first."""
        self.has_previews = (store.path(number) / PLACES).exists()
        self.clipped = Clipped()

    def embeddings(self, part: _Part, name: str) -> None:
        """Raises DataError if a row's embedding is not comparable, because no search would find it."""
        with np.errstate(invalid="ignore", over="ignore"):
            near = relative(part.inputs, self.encoder.origin)
            if refused := self.encoder.first_refused(near):
                raise _refused(part, name, refused)
            bad = np.flatnonzero(~comparable(embed(self.encoder, near, self._metric)))
        if len(bad):
            expected, remedy = "a row that the champion's encoder can embed", "Correct or remove the row."
            found = "values so far from the encoder's data that the embedding is not finite"
            raise _refused(part, name, Refusal(int(bad[0]), expected, found, remedy))
        self.clipped = self.clipped.joined(self.encoder.preprocess.clipped(near, part.ids))


def _refused(part: _Part, name: str, refused: Refusal) -> DataError:
    row = f"{name}, row {part.first + refused.row}, id {part.ids[refused.row][:40]!r}"
    return DataError(row, refused.expected, refused.found, refused.remedy)


def _lines(texts: list[str]) -> bytes:
    """Join texts that contain no line break."""
    return "".join(f"{text}\n" for text in texts).encode()


def _cut(chunks: Iterator[Chunk], edge: int) -> Iterator[Chunk]:
    """Yield the same rows, in chunks of which one ends after `edge` rows."""
    seen = 0
    for chunk in chunks:
        inside = edge - seen
        seen += len(chunk.ids)
        if 0 < inside < len(chunk.ids):
            for part in (slice(inside), slice(inside, None)):
                yield Chunk(chunk.ids[part], chunk.inputs[part], chunk.payloads[part], chunk.previews[part])
        else:
            yield chunk

"""Rows of a source into the change log, each transaction with the place up to which the source was read.

A note of the log under "import NAME": {"rows": 3000, "sha256": ...} of the first 3,000 rows, which are in the log.
So an interrupted import goes on behind them, and a finished one has nothing to do, where the source still begins with
the same rows; where not, it begins again.
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
from lookalike.index.items.table import payload_texts
from lookalike.index.versions.embed import embed, suited
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.artifact.known_range import Clipped
from lookalike.training.choices import DeviceName
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows
from lookalike.training.tables.origin import relative

__all__ = ["ImportResult", "import_rows"]

MOST = 1_000
"""Rows of a transaction: beyond that, the disk's share of the time is small."""
BYTES = 1 << 23
"""Of its inputs, at most."""


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        rows: how many it wrote.
        before: how many of the source's first rows were in the log already.
        sequence: of the last change in the log.
        clipped: values of the rows that it wrote that the champion's encoder clips.
    """

    rows: int
    before: int
    sequence: int
    clipped: Clipped


def import_rows(rows: Rows, store: Store, *, again: bool = False, device: DeviceName = "cpu") -> ImportResult:
    """Put each row as an item, the later of two with one id in place of the earlier; a running service finds them.

    Interrupted, it goes on where it was when it is called again: what is in the log is not written twice.

    Args:
        again: all rows, also those that were written before.

    Raises:
        StoreError: there is no champion, whose encoder must be able to read the rows.
        DataError: they are others than it takes, or one cannot be read: it is named, and nothing of its transaction
            is written.
        LogError, ArtifactError: the log cannot be written, or is damaged.
        JobError: another import of the same source wrote at the same time.
    """
    check, key = _Check(store, device), f"import {rows.name}"
    rows = rows.suited(check.encoder.columns)
    suited(rows, check.encoder)  # it refuses rows of another width
    dtype = check.dtype
    with closing(ChangeLog(store.folder)) as log:
        noted = log.note(key)
        before = _NOTHING if again or noted is None else _Place(**json.loads(noted))
        source = _Source(rows, before.rows, dtype)
        if not source.begins_with(before):
            before, source = _NOTHING, _Source(rows, 0, dtype)
        left = rows.count - before.rows
        with progress_bar("importing", left, "rows", shown=left > 0) as advance:
            for part in source.parts():
                check.embeddings(part, rows.name)
                reached = json.dumps(asdict(source.place))
                log.append(part.changes(), Note(key, reached, before=noted))
                noted = reached
                advance(len(part.ids))
        return ImportResult(left, before.rows, log.last(), check.clipped)


@dataclass(frozen=True)
class _Place:
    """So many rows of a source, and their digest: of ids, inputs and payloads."""

    rows: int
    sha256: str


_NOTHING = _Place(0, "")


@dataclass(frozen=True)
class _Part:
    """Rows of one transaction, as the source has them, of which the first is its row number `first`."""

    ids: list[str]
    inputs: Input
    payloads: list[str]
    first: int

    def changes(self) -> list[Change]:
        return list(map(Change, self.ids, self.inputs, self.payloads))


class _Source:
    """The rows in order, in parts that make a transaction each, with the digest of all up to the last."""

    def __init__(self, rows: Rows, edge: int, dtype: type[np.float32 | np.float64]) -> None:
        """One part ends where `edge` rows are read; `dtype` is that of the inputs."""
        size = max(1, min(MOST, BYTES // (4 * max(1, rows.width))))
        self._name, self._count = rows.name, rows.count
        self._chunks = _cut(rows.chunks(size, dtype), edge)
        self._digests = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._read = 0

    @property
    def place(self) -> _Place:
        """Up to where it was read; the digest is the same however the rows were parted."""
        told = "".join(digest.hexdigest() for digest in self._digests)
        return _Place(self._read, hashlib.sha256(told.encode()).hexdigest())

    def begins_with(self, before: _Place) -> bool:
        """Read as many rows as were read then: are they the same ones?"""
        if before.rows > self._count:
            return False
        parts = self.parts()
        with progress_bar("comparing", before.rows, "rows", shown=before.rows > 0) as advance:
            while self._read < before.rows:
                advance(len(next(parts).ids))
        return before in (_NOTHING, self.place)

    def parts(self) -> Iterator[_Part]:
        """Those that were not read yet.

        Raises:
            DataError: an id or a payload that no item can have.
        """
        ids, inputs, payloads = self._digests
        for chunk in self._chunks:
            check_ids(chunk.ids, self._name)
            texts = payload_texts(chunk.ids, chunk.payloads, self._name)
            part = _Part(chunk.ids, np.ascontiguousarray(chunk.inputs), texts, self._read)
            ids.update(_lines(part.ids))
            inputs.update(part.inputs.data)
            payloads.update(_lines(texts))
            self._read += len(part.ids)
            yield part


class _Check:
    """Whether the champion's encoder can read rows, and which of their values it clips."""

    def __init__(self, store: Store, device: DeviceName) -> None:
        number = store.champion_number()
        self._metric: Metric = store.manifest(number).index.metric
        self.encoder = load_encoder(store.path(number) / "encoder", device)
        self.clipped = Clipped()

    @property
    def dtype(self) -> type[np.float32 | np.float64]:
        """In which an input is kept: float64 if the encoder has an origin to subtract first."""
        return np.float32 if self.encoder.origin is None else np.float64

    def embeddings(self, part: _Part, name: str) -> None:
        """Raises DataError where a row's embedding is not comparable: no search would find it."""
        with np.errstate(invalid="ignore", over="ignore"):
            near = relative(part.inputs, self.encoder.origin)
            embeddings = embed(self.encoder, near, self._metric)
        bad = np.flatnonzero(~comparable(embeddings))
        if len(bad):
            place = int(bad[0])
            raise DataError(
                f"{name}, row {part.first + place}, id {part.ids[place][:40]!r}",
                expected="a row that the champion's encoder can read",
                found="values so far from its data that its embedding is no number",
                remedy="Mend or remove the row.",
            )
        self.clipped = self.clipped.joined(self.encoder.preprocess.clipped(near, part.ids))


def _lines(texts: list[str]) -> bytes:
    """Of texts without a line's end."""
    return "".join(f"{text}\n" for text in texts).encode()


def _cut(chunks: Iterator[Chunk], edge: int) -> Iterator[Chunk]:
    """The same rows, of which one chunk ends where `edge` rows are read."""
    seen = 0
    for chunk in chunks:
        inside = edge - seen
        seen += len(chunk.ids)
        if 0 < inside < len(chunk.ids):
            for part in (slice(inside), slice(inside, None)):
                yield Chunk(chunk.ids[part], chunk.inputs[part], chunk.payloads[part])
        else:
            yield chunk

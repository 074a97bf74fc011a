"""Embed all rows into a folder that survives an interruption: what it had is not embedded again.

STORE/building/KEY/
    embeddings.f4   float32 (rows so far, latent_dim)
    chunks.jsonl    a line a chunk: how many rows, the SHA-256 of their inputs and of their embeddings

Three steps overlap: chunks are read and hashed, a thread a core encodes those that came before, and another writes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.spec import Metric
from lookalike.index.items.table import ItemWriter
from lookalike.index.versions.embed import embed
from lookalike.index.versions.parallel import map_in_order, one_thread_each
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows, evenly, sketches
from lookalike.training.sealed import locked

__all__ = ["CachedEmbeddings", "embed_with_cache", "open_cache"]

MOST_HELD = 8_192
"""Rows that ask questions before they are items too."""
HELD_BYTES = 1 << 28
TELLING, UNEVEN = 1_000, 0.2
"""So many rows that an encoder held out lie no farther than that share of all rows from where they would lie evenly."""
_EMBEDDINGS = "embeddings.f4"
_CHUNKS = "chunks.jsonl"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class CachedEmbeddings:
    """All rows, embedded.

    Attributes:
        embeddings: float32 (rows, latent_dim), mapped, in the order of the rows.
        first: the first row, (1, width).
        held: (m,) rising, which rows are held out of the index until it is measured.
        held_rows: (m, width) those rows themselves.
        digest: the SHA-256 of all inputs.
    """

    embeddings: Vectors
    first: Vectors
    held: NDArray[np.int64]
    held_rows: Vectors
    digest: str

    @property
    def is_held(self) -> NDArray[np.bool_]:
        """(rows,)"""
        held = np.zeros(len(self.embeddings), np.bool_)
        held[self.held] = True
        return held


@contextmanager
def open_cache(store: Path, rows: Rows, encoder: Encoder, metric: Metric) -> Iterator[Path]:
    """The folder in which this encoder embeds these rows, alone in the store; removed unless it was interrupted.

    A DataError removes it too: what was wrong with the rows may have been wrong before.
    """
    building = store / "building"
    building.mkdir(parents=True, exist_ok=True)
    told = json.dumps([encoder.digest, rows.name, rows.count, rows.shape, metric])
    folder = building / hashlib.sha256(told.encode()).hexdigest()[:16]
    with locked(building):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except DataError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def embed_with_cache(rows: Rows, encoder: Encoder, metric: Metric, folder: Path, items: ItemWriter) -> CachedEmbeddings:
    """Embed `rows` into `folder`, from where it was left, and write their ids and payloads to `items`.

    Args:
        rows: as `suited` to the encoder.
        folder: a `open_cache`.

    Raises:
        DataError: a bad row.
    """
    held, first, digest = _Held(rows, encoder), np.empty((0, rows.width), np.float32), ""
    with (
        progress_bar("embedding", rows.count, "rows") as advance,
        _EmbeddingCache(folder, encoder.latent_dim) as journal,
        one_thread_each(encoder.device) as threads,
        closing(map_in_order(partial(_embedded, encoder, metric), _digested(rows.chunks(), journal), threads)) as parts,
        closing(map_in_order(partial(_write, journal, items, held), parts)) as written,
    ):
        for part in written:
            first, digest = first if len(first) else part.chunk.inputs[:1].copy(), part.digest
            advance(len(part.chunk.ids), "had before" if part.known else "")
    vectors = np.memmap(folder / _EMBEDDINGS, np.float32, "r", shape=(rows.count, encoder.latent_dim))
    return CachedEmbeddings(vectors, first, *held.chosen(), digest)


@dataclass(frozen=True)
class _Part:
    """A chunk on its way: the SHA-256 of all inputs up to its last, and whether its embeddings stand in the journal."""

    chunk: Chunk
    digest: str
    known: bool


def _digested(chunks: Iterator[Chunk], journal: "_EmbeddingCache") -> Iterator[_Part]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.inputs.data)
        told = digest.hexdigest()
        yield _Part(chunk, told, journal.knows(len(chunk.ids), told))


def _embedded(encoder: Encoder, metric: Metric, part: _Part) -> tuple[_Part, Vectors | None]:
    return part, None if part.known else embed(encoder, part.chunk.inputs, metric)


def _write(journal: "_EmbeddingCache", items: ItemWriter, held: "_Held", done: tuple[_Part, Vectors | None]) -> _Part:
    part, embeddings = done
    items.write(part.chunk.ids, part.chunk.payloads)
    held.take(part.chunk)
    if embeddings is not None:
        journal.add(embeddings, part.digest)
    return part


class _EmbeddingCache:
    """What was embedded so far, and of which inputs."""

    def __init__(self, folder: Path, dim: int) -> None:
        for name in (_EMBEDDINGS, _CHUNKS):
            (folder / name).touch()
        self._embeddings = (folder / _EMBEDDINGS).open("r+b")
        self._chunks = (folder / _CHUNKS).open("r+b")
        self._width = 4 * dim
        self._before = list(takewhile(_is_line, self._chunks))
        self._chunks.seek(0)

    def __enter__(self) -> "_EmbeddingCache":
        return self

    def __exit__(self, *_: object) -> None:
        self._embeddings.close()
        self._chunks.close()

    def knows(self, count: int, digest: str) -> bool:
        """Is the next chunk here, so many rows of just these inputs? Where not, what comes after it is not either."""
        if not self._before:
            return False
        line, start = self._before.pop(0), self._embeddings.tell()
        told = json.loads(line)
        stored = self._embeddings.read(told["rows"] * self._width)
        if told == _line(count, digest, stored):
            self._chunks.seek(len(line), os.SEEK_CUR)
            return True
        self._embeddings.seek(start)
        self._before = []
        return False

    def add(self, embeddings: Vectors, digest: str) -> None:
        """Append a chunk's embeddings, (n, dim), in place of what was not known; and then the line that says so."""
        for file, content in (
            (self._embeddings, embeddings.tobytes()),
            (self._chunks, json.dumps(_line(len(embeddings), digest, embeddings.data)).encode() + b"\n"),
        ):
            file.truncate()
            file.write(content)
            file.flush()


def _is_line(line: bytes) -> bool:
    """A power cut may leave anything."""
    try:
        told = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(told, dict) and type(told.get("rows")) is int and told["rows"] > 0


def _line(count: int, digest: str, embeddings: bytes | memoryview) -> dict[str, Any]:
    return {"rows": count, "inputs": digest, "embeddings": hashlib.sha256(embeddings).hexdigest()}


class _Held:
    """Rows to hold out of the index until it is measured: those that the encoder was not trained on.

    Where the rows are other ones than it was trained on, they are drawn evenly over all. A tenth at most.
    """

    def __init__(self, rows: Rows, encoder: Encoder) -> None:
        self._most = min(MOST_HELD, rows.count // 10, max(1, HELD_BYTES // (4 * rows.width)))
        self._chance = np.sort(np.random.default_rng(0).choice(rows.count, self._most, replace=False))
        self._left = np.unique(encoder.held_out)
        self._enough = max(1, len(encoder.held_out) // 2)
        self._seen = 0
        self._parts: dict[bool, list[tuple[NDArray[np.int64], Vectors]]] = {True: [], False: []}

    def take(self, chunk: Chunk) -> None:
        """Look at the next chunk."""
        prints = sketches(chunk.inputs)
        near = np.searchsorted(self._left, prints)  # (n,): where each would stand
        there = np.flatnonzero(near < len(self._left))
        there = there[self._left[near[there]] == prints[there]]
        found, firsts = np.unique(near[there], return_index=True)  # of equal rows one
        self._left = np.delete(self._left, found)
        start, stop = np.searchsorted(self._chance, [self._seen, self._seen + len(prints)])
        for known, out in ((True, there[np.sort(firsts)]), (False, self._chance[start:stop] - self._seen)):
            self._parts[known].append((self._seen + out, chunk.inputs[out]))
        self._seen += len(prints)

    def _are_known(self) -> bool:
        """Are these the rows that the encoder was trained on: do those that it held out lie all over them?"""
        found = np.concatenate([places for places, _ in self._parts[True]])
        if len(found) < max(self._enough, TELLING):
            return len(found) >= self._enough
        even = np.linspace(0, self._seen, len(found))
        return bool(np.abs(found - even).max() < UNEVEN * self._seen)

    def chosen(self) -> tuple[NDArray[np.int64], Vectors]:
        """Their positions, (m,), rising, and the rows, (m, width)."""
        parts = self._parts[self._are_known()]
        places, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        some = evenly(len(places), self._most)
        return places[some], rows[some]

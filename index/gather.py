"""Embed all rows into a folder that survives an interruption: what it had is not embedded again.

STORE/building/KEY/
    embeddings.f4   float32 (rows so far, latent_dim)
    chunks.jsonl    a line a chunk: how many rows, the SHA-256 of their inputs and of their embeddings

Three steps overlap: a thread reads the next chunk while this one is encoded, and another writes the last one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.embed import embed
from index.items import ItemWriter
from index.spec import Metric
from training.artifact import Encoder
from training.errors import DataError
from training.progress import progress_bar
from training.rows import Chunk, Rows, evenly, sketches
from training.sealed import locked

__all__ = ["Gathered", "gather", "workplace"]

MOST_HELD = 8_192
"""Rows that ask questions before they are items too."""
HELD_BYTES = 1 << 28
TELLING, UNEVEN = 1_000, 0.2
"""So many rows that an encoder held out lie no farther than that share of all rows from where they would lie evenly."""
_EMBEDDINGS = "embeddings.f4"
_CHUNKS = "chunks.jsonl"

Vectors = NDArray[np.float32]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Gathered:
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
def workplace(store: Path, rows: Rows, encoder: Encoder, metric: Metric) -> Iterator[Path]:
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


def gather(rows: Rows, encoder: Encoder, metric: Metric, folder: Path, items: ItemWriter) -> Gathered:
    """Embed `rows` into `folder`, from where it was left, and write their ids and payloads to `items`.

    Args:
        rows: as `suited` to the encoder.
        folder: a `workplace`.

    Raises:
        DataError: a bad row.
    """
    held = _Held(rows, encoder)
    first = np.empty((0, rows.width), np.float32)
    with ExitStack() as stack:
        advance = stack.enter_context(progress_bar("embedding", rows.count, "rows"))
        journal = stack.enter_context(_Journal(folder, encoder.latent_dim))
        reader, writer = (stack.enter_context(ThreadPoolExecutor(1, name)) for name in ("reader", "writer"))
        writing: Future[None] | None = None
        digest = hashlib.sha256().hexdigest()
        for chunk, digest in _ahead(_digested(rows.chunks()), reader):
            known = journal.knows(len(chunk.ids), digest)
            embeddings = None if known else embed(encoder, chunk.inputs, metric)
            if writing:
                writing.result()  # one at a time, in order
            writing = writer.submit(_write, journal, items, held, (chunk, embeddings, digest))
            first = first if len(first) else chunk.inputs[:1].copy()
            advance(len(chunk.ids), "had before" if known else "")
        if writing:
            writing.result()
    vectors = np.memmap(folder / _EMBEDDINGS, np.float32, "r", shape=(rows.count, encoder.latent_dim))
    return Gathered(vectors, first, *held.chosen(), digest)


def _digested(chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, str]]:
    """Each chunk with the SHA-256 of all inputs up to its last."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.inputs.data)
        yield chunk, digest.hexdigest()


def _ahead(values: Iterator[Value], reader: ThreadPoolExecutor) -> Iterator[Value]:
    """The same values, the next one fetched by a thread while one is worked on."""
    coming = reader.submit(next, values, None)
    while (value := coming.result()) is not None:
        coming = reader.submit(next, values, None)
        yield value


def _write(journal: "_Journal", items: ItemWriter, held: "_Held", done: tuple[Chunk, Vectors | None, str]) -> None:
    chunk, embeddings, digest = done
    items.write(chunk.ids, chunk.payloads)
    held.take(chunk)
    if embeddings is not None:
        journal.add(embeddings, digest)


class _Journal:
    """What was embedded so far, and of which inputs."""

    def __init__(self, folder: Path, dim: int) -> None:
        for name in (_EMBEDDINGS, _CHUNKS):
            (folder / name).touch()
        self._embeddings = (folder / _EMBEDDINGS).open("r+b")
        self._chunks = (folder / _CHUNKS).open("r+b")
        self._width = 4 * dim
        self._before = list(takewhile(_is_line, self._chunks))
        self._chunks.seek(0)

    def __enter__(self) -> "_Journal":
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
        self._left = encoder.held_out
        self._enough = max(1, len(self._left) // 2)
        self._seen = 0
        self._parts: dict[bool, list[tuple[NDArray[np.int64], Vectors]]] = {True: [], False: []}

    def take(self, chunk: Chunk) -> None:
        """Look at the next chunk."""
        places = np.arange(self._seen, self._seen + len(chunk.ids))
        found, untrained = np.unique(sketches(chunk.inputs), return_index=True)
        untrained = np.sort(untrained[np.isin(found, self._left)])  # of equal rows one
        self._left = np.setdiff1d(self._left, found)
        for known, out in ((True, untrained), (False, np.flatnonzero(np.isin(places, self._chance)))):
            self._parts[known].append((places[out], chunk.inputs[out]))
        self._seen += len(places)

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

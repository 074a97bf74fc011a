"""Embed all rows into a folder that survives an interruption, so that no chunk is embedded twice.

STORE/building/KEY/
    embeddings.f4   float32 (rows so far, latent_dim)
    chunks.jsonl    a line for each chunk: its number of rows, the SHA-256 of all inputs so far, and of its embeddings

Three steps overlap: the caller's thread reads and hashes chunks, one thread per core encodes earlier chunks, and one
thread writes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.index.ann.spec import Metric
from lookalike.index.versions.embed import embed
from lookalike.index.versions.item_writers import ItemWriters
from lookalike.index.versions.parallel import one_thread_each
from lookalike.training.array_types import Booleans, Floats, Integers
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.errors import DataError
from lookalike.training.parallel import map_in_order
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Chunk, Rows, sketches, spread
from lookalike.training.sealed import locked
from lookalike.training.transforms import WindowTransform

__all__ = ["CachedEmbeddings", "embed_with_cache", "open_cache"]

MOST_HELD = 8_192  # At most this many rows are held out of the index, to query it with
HELD_BYTES = 1 << 28
TELLING, UNEVEN = 1_000, 0.2
"""With this many known held-out rows, none is farther from its place in an even distribution than this share."""
_EMBEDDINGS = "embeddings.f4"
_CHUNKS = "chunks.jsonl"


@dataclass(frozen=True)
class CachedEmbeddings:
    """The embeddings of all rows.

    Attributes:
        embeddings: float32 (rows, latent_dim), mapped, in the order of the rows.
        first: the first row, (1, width).
        held: (m,) rising, which rows are held out of the index until it is measured.
        held_rows: (m, width), the held-out rows.
        digest: the SHA-256 of all inputs.
    """

    embeddings: Floats
    first: Floats
    held: Integers
    held_rows: Floats
    digest: str

    @property
    def is_held(self) -> Booleans:
        """(rows,)"""
        held = np.zeros(len(self.embeddings), np.bool_)
        held[self.held] = True
        return held


@contextmanager
def open_cache(store: Path, rows: Rows, encoder: RowEncoder, metric: Metric) -> Iterator[Path]:
    """Yield the folder in which this encoder embeds these rows; one build at a time uses it.

    It is removed at the end, but not after an interruption. A DataError removes it too, because the rows may be wrong.
    """
    building = store / "building"
    building.mkdir(parents=True, exist_ok=True)
    key = json.dumps([encoder.digest, rows.name, rows.count, rows.shape, metric])
    folder = building / hashlib.sha256(key.encode()).hexdigest()[:16]
    with locked(building):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except DataError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def embed_with_cache(
    rows: Rows, encoder: RowEncoder, metric: Metric, folder: Path, writers: ItemWriters
) -> CachedEmbeddings:
    """Embed `rows` into `folder`, continuing after the cached chunks; `writers` get all chunks.

    `rows` are as `suited` to the encoder, `folder` is that of `open_cache`. Raises DataError if a row is invalid.
    """
    held, first, digest = _HeldOut(rows, encoder), np.empty((0, rows.width), np.float32), ""

    def embedded(part: _Part) -> tuple[_Part, Floats | None]:
        return part, None if part.is_cached else embed(encoder, part.chunk.inputs, metric)

    def written(done: tuple[_Part, Floats | None]) -> _Part:
        part, embeddings = done
        writers.write(part.chunk)
        held.see(part.chunk)
        if embeddings is not None:
            cache.add(embeddings, part.digest)
        return part

    with (
        progress_bar("embedding", rows.count, "rows") as advance,
        closing(_EmbeddingCache(folder, encoder.latent_dim)) as cache,
        one_thread_each(encoder.device) as threads,
        closing(map_in_order(embedded, _digested(rows.chunks(), cache), threads)) as embedded_parts,
        closing(map_in_order(written, embedded_parts)) as written_parts,
    ):
        for part in written_parts:
            first, digest = first if len(first) else part.chunk.inputs[:1].copy(), part.digest
            advance(len(part.chunk.ids), "cached" if part.is_cached else "")
    vectors = np.memmap(folder / _EMBEDDINGS, np.float32, "r", shape=(rows.count, encoder.latent_dim))
    return CachedEmbeddings(vectors, first, *held.chosen(), digest)


@dataclass(frozen=True)
class _Part:
    """A chunk, the SHA-256 of all inputs up to its last row, and whether the cache has its embeddings."""

    chunk: Chunk
    digest: str
    is_cached: bool


def _digested(chunks: Iterator[Chunk], cache: "_EmbeddingCache") -> Iterator[_Part]:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk.inputs.data)
        digest = sha256.hexdigest()
        yield _Part(chunk, digest, cache.has_next(len(chunk.ids), digest))


class _EmbeddingCache:
    """The embeddings so far, and the digests of their inputs."""

    def __init__(self, folder: Path, dim: int) -> None:
        for name in (_EMBEDDINGS, _CHUNKS):
            (folder / name).touch()
        self._embeddings = (folder / _EMBEDDINGS).open("r+b")
        self._chunks = (folder / _CHUNKS).open("r+b")
        self._width = 4 * dim
        self._cached = list(takewhile(_is_line, self._chunks))
        self._chunks.seek(0)

    def close(self) -> None:
        self._embeddings.close()
        self._chunks.close()

    def has_next(self, count: int, digest: str) -> bool:
        """Whether the next cached chunk has `count` rows of these inputs. If not, all later chunks are dropped."""
        if not self._cached:
            return False
        line, start = self._cached.pop(0), self._embeddings.tell()
        fields = json.loads(line)
        stored = self._embeddings.read(fields["rows"] * self._width)
        if fields == _fields(count, digest, stored):
            self._chunks.seek(len(line), os.SEEK_CUR)
            return True
        self._embeddings.seek(start)
        self._cached = []
        return False

    def add(self, embeddings: Floats, digest: str) -> None:
        """Append a chunk's embeddings, (n, dim), and then its line; both replace dropped chunks."""
        line = json.dumps(_fields(len(embeddings), digest, embeddings.data)).encode() + b"\n"
        for file, content in ((self._embeddings, embeddings.tobytes()), (self._chunks, line)):
            file.truncate()
            file.write(content)
            file.flush()


def _is_line(line: bytes) -> bool:
    """Whether it is a line of `_fields`: a power cut may leave any bytes."""
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(fields, dict) and type(fields.get("rows")) is int and fields["rows"] > 0


def _fields(count: int, digest: str, embeddings: bytes | memoryview) -> dict[str, Any]:
    return {"rows": count, "inputs": digest, "embeddings": hashlib.sha256(embeddings).hexdigest()}


class _HeldOut:
    """Chooses rows to hold out of the index until it is measured: rows that the encoder was not trained on.

    If the encoder was trained on other data, the rows are drawn evenly over all; of windows of recordings, neighbors
    are drawn together. At most a tenth is held out.
    """

    def __init__(self, rows: Rows, encoder: RowEncoder) -> None:
        self._most = min(MOST_HELD, rows.count // 10, max(1, HELD_BYTES // (4 * rows.width)))
        self._series = isinstance(encoder.transform, WindowTransform)
        self._drawn = _drawn(rows.count, self._most, self._series)
        self._missing = np.unique(encoder.held_out)
        self._enough = max(1, len(encoder.held_out) // 2)
        self._seen = 0
        self._known: list[tuple[Integers, Floats]] = []
        self._random: list[tuple[Integers, Floats]] = []

    def see(self, chunk: Chunk) -> None:
        prints = sketches(chunk.inputs)
        at = np.searchsorted(self._missing, prints)  # (n,)
        places = np.flatnonzero(at < len(self._missing))
        places = places[self._missing[at[places]] == prints[places]]
        found, firsts = np.unique(at[places], return_index=True)  # one of several equal rows
        self._missing = np.delete(self._missing, found)
        known = places[np.sort(firsts)]
        start, stop = np.searchsorted(self._drawn, [self._seen, self._seen + len(prints)])
        drawn = self._drawn[start:stop] - self._seen
        self._known.append((self._seen + known, chunk.inputs[known]))
        self._random.append((self._seen + drawn, chunk.inputs[drawn]))
        self._seen += len(prints)

    def _are_known(self) -> bool:
        """Whether the encoder was trained on these rows: enough of its held-out rows are found, evenly distributed."""
        found = np.concatenate([places for places, _ in self._known])
        if self._series or len(found) < max(self._enough, TELLING):  # whole recordings are not evenly distributed
            return len(found) >= self._enough
        even = np.linspace(0, self._seen, len(found))
        return bool(np.abs(found - even).max() < UNEVEN * self._seen)

    def chosen(self) -> tuple[Integers, Floats]:
        """Return the positions, (m,), rising, and the rows, (m, width)."""
        parts = self._known if self._are_known() else self._random
        places, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        some = spread(len(places), self._most, self._series)
        return places[some], rows[some]


def _drawn(count: int, most: int, series: bool) -> Integers:
    """(most,) rising: a random choice of the numbers 0 to count - 1; of windows, which overlap, consecutive numbers."""
    generator = np.random.default_rng(0)
    if series:
        return int(generator.integers(count - most + 1)) + np.arange(most)
    return np.sort(generator.choice(count, most, replace=False))

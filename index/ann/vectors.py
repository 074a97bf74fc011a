"""The one place on this floor that calls FAISS, and so the one place that checks what it is called with.

FAISS itself stores NaN, allocates what `k` asks for, and answers a wrong dimension with an empty error.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.scores import bounded
from lookalike.index.ann.search_params import SearchParams, Selection
from lookalike.index.ann.spec import MAX_KEY, IndexSpec, Metric, read_head, wrong_key
from lookalike.index.arrays import is_permutation
from lookalike.index.errors import QueryError
from lookalike.index.limits import MAX_FOUND, check_limit
from lookalike.training.errors import ArtifactError, ConfigError

__all__ = [
    "MAX_VALUE",
    "VectorIndex",
    "comparable",
    "near_pairs",
    "nearest",
    "one_thread",
]

MAX_VALUE = 1e16
"""Beyond this, squares and their sums leave float32, and FAISS finds nothing without saying so."""

FARTHER = 4
"""How many times as far a search among some looks the next time, until it finds nothing more."""
LEAST_ASKED = 10
"""Of so many at least, whether they change says something."""
CHANGED = 0.02
"""The share of what is found that may be other than the last time: of fewer than 50, none."""

BLOCK_PAIRS = 1 << 24
"""Vectors that are compared with all others at a time, times those: at most so many pairs are in memory."""
ROUNDING = 1e-5
"""Of the largest squared length: what a squared distance out of a float32 matrix product may be wrong by."""
_MINUS_HALF, _ONE = np.float32(-0.5), np.float32(1)

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]


class VectorIndex:
    """Embeddings in the order they were added, as the index keeps them; a position is an int64 row number."""

    def __init__(self, spec: IndexSpec, dim: int, loaded: faiss.Index | None = None) -> None:
        """Raises ConfigError where FAISS makes no such index of so many dimensions, or it has no such parameter."""
        self.dim = dim
        self._index = _made(spec, dim) if loaded is None else loaded
        self.search_params = SearchParams(self._index)
        self.search_params.set(spec.search)
        self.spec = spec
        self._count = int(self._index.ntotal)

    def __len__(self) -> int:
        return self._count

    def set_search(self, search: str) -> None:
        """Search by other parameters from now on, such as "nprobe=8". Raises ConfigError as the constructor does."""
        self.search_params.set(search)
        self.spec = replace(self.spec, search=search)

    def train(self, sample: Vectors) -> None:
        """Fit what the index learns, its centroids and codes, to (n, dim); Flat and HNSW learn nothing.

        Raises:
            ConfigError: too few vectors for an index of this kind.
        """
        try:
            self._index.train(_checked(sample, self.dim))
        except RuntimeError as error:
            raise ConfigError(
                "index",
                expected=f"enough vectors to train {self.spec.key} on",
                found=f"{len(sample)} ({_reason(error)})",
                remedy="Choose a smaller index, or let --index be chosen.",
            ) from error

    def add(self, embeddings: Vectors) -> None:
        """Append (n, dim) float32, within MAX_VALUE; for cosine, of unit length."""
        embeddings = _checked(embeddings, self.dim)
        try:
            with (
                one_thread() if self.search_params.is_graph else nullcontext()
            ):  # two would link in whatever order they come
                self._index.add(embeddings)
        except RuntimeError as error:
            raise _no_index(self.spec, self.dim, _reason(error)) from error
        self._count = int(self._index.ntotal)

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Positions]:
        """The k nearest of each query, best first, as near as the index knows them.

        Args:
            queries: (n, dim) float32, within MAX_VALUE; for cosine, of unit length.
            k: from 1 to MAX_FOUND.

        Returns:
            scores: (n, min(k, items)) float32 in the metric's unit.
            positions: the same shape, int64; -1 where an approximate search found fewer.

        Raises:
            QueryError: a wrong shape, a value that is not finite or too large, or k out of bounds.
        """
        return self._search(queries, k, None)

    def select(self, allowed: NDArray[np.bool_]) -> Selection:
        """Prepare searches among the allowed items, (items,) bool: what is asked of the index once for all of them."""
        return self.search_params.select(allowed)

    def search_among(self, queries: Vectors, k: int, selection: Selection) -> tuple[Positions, NDArray[np.bool_]]:
        """The k nearest of each query, (n, dim), among the selected, looking farther until nothing more is found.

        How far it must look depends on the query: where the selected lie far from it, their distances differ little
        from one another, and the nearest are in many lists.

        Returns:
            positions: (n, min(k, items)) int64, best first; -1 where fewer were found.
            settled: (n,) bool; where False, it takes no longer to compare the query with all of the selected.

        Raises:
            QueryError: as `search`.
        """
        check_limit(k, MAX_FOUND)
        asked, farther = min(max(k, LEAST_ASKED), self._count), 1
        positions = np.full((len(queries), asked), -1)
        settled = np.zeros(len(queries), bool)
        while not settled.all():
            parameters = self.search_params.selecting(selection, asked, farther)
            if parameters is None:
                break
            left = np.flatnonzero(~settled)
            _, found = self._search(queries[left], asked, parameters)
            settled[left] = _as_before(found, positions[left])
            positions[left] = found
            farther *= FARTHER
        return positions[:, :k], settled

    def emptied(self, path: Path) -> "VectorIndex":
        """The index of a file that was verified, which this one maps: what it has learned, and no vectors."""
        index = faiss.read_index(str(path))
        index.reset()
        return VectorIndex(self.spec, self.dim, index)

    @property
    def bytes(self) -> int:
        """What it takes: vectors, graph and ids together, as on disk."""
        sizes: list[int] = []
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part))))
        return sum(sizes)

    def write(self, path: Path) -> None:
        """In FAISS's own format, through a file of ours: FAISS does not say that the disk is full as it closes its own.

        Raises:
            OSError: it cannot be written.
        """
        with path.open("wb") as file:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, dim: int, count: int) -> "VectorIndex":
        """Map a file that was verified into memory; nothing may be added to it.

        Raises:
            ArtifactError: not an index, or not the one of `count` vectors that `spec` and `dim` describe.
        """
        try:
            wanted = cls(spec, dim)._index
        except ConfigError as error:
            raise ArtifactError(str(path), expected="an index that can be made again", found=str(error)) from error
        if (head := read_head(path)) != (dim, count):  # before FAISS allocates as much as the file states
            raise ArtifactError(
                str(path), expected=f"an index of {dim} dimensions and {count} items", found="{} and {}".format(*head)
            )
        try:
            loaded = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, MemoryError) as error:
            raise ArtifactError(str(path), expected="a FAISS index", found=_reason(error)) from error
        if not isinstance(loaded, type(wanted)) or loaded.d != dim or loaded.metric_type != spec.faiss_metric:
            raise ArtifactError(
                str(path),
                expected=f"{spec.key}, {dim} dimensions, {spec.metric}",
                found=f"{type(loaded).__name__}, {loaded.d} dimensions",
                remedy="Build the version again.",
            )
        return cls(spec, dim, loaded)

    def check(self, path: Path) -> None:
        """Raises ArtifactError unless the lists, if there are any, hold each position once; `path` is the file's."""
        if self.search_params.lists and not is_permutation(self.search_params.positions(), self._count):
            raise ArtifactError(str(path), expected="each position in one list", found="one missing or repeated")

    def _search(self, queries: Vectors, k: int, parameters: object) -> tuple[Vectors, Positions]:
        check_limit(k, MAX_FOUND)
        queries, pointer = _checked(queries, self.dim), faiss.swig_ptr
        k = min(k, self._count)
        scores, positions = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        if k and len(queries):  # FAISS's own `search` checks all this once more, which takes as long as the search
            try:
                self._index.search_c(len(queries), pointer(queries), k, pointer(scores), pointer(positions), parameters)
            except RuntimeError as error:
                raise _no_index(self.spec, self.dim, _reason(error)) from error
        return _unit(scores, self.spec.metric), positions


def nearest(queries: Vectors, vectors: Vectors, k: int, metric: Metric) -> tuple[Vectors, Positions]:
    """The k nearest of `vectors`, (m, dim), to each of `queries`, (n, dim), by comparison with all.

    Returns:
        scores and positions, (n, min(k, m)), best first. Scores are as near as a float32 matrix product is.
    """
    faiss_metric = IndexSpec("Flat", metric).faiss_metric
    scores, positions = faiss.knn(_checked(queries, vectors.shape[1]), vectors, min(k, len(vectors)), faiss_metric)
    return _unit(scores, metric), positions


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS with a single thread: what is timed or built then does not depend on how many cores there are."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _made(spec: IndexSpec, dim: int) -> faiss.Index:
    """An empty index. Raises ConfigError where FAISS makes none of this description."""
    if wrong := wrong_key(spec.key, dim):
        raise _no_index(spec, dim, wrong)
    try:
        index = faiss.index_factory(dim, spec.key, spec.faiss_metric)
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise _no_index(spec, dim, _reason(error)) from error
    if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
        raise _no_index(spec, dim, "an IDMap, and a position must be a row number")
    if isinstance(index, faiss.IndexNSG):  # FAISS 1.15: never ends where items are the same, and cannot be added to
        raise _no_index(spec, dim, "an NSG, whose links FAISS never ends making where many items are the same")
    if index.metric_type != spec.faiss_metric:
        raise _no_index(spec, dim, f"one that cannot search by {spec.metric}")
    return index


def _no_index(spec: IndexSpec, dim: int, found: str) -> ConfigError:
    return ConfigError(
        f"index {spec.key[:MAX_KEY]}",
        expected=f"a description that FAISS's index_factory knows, for {dim} dimensions",
        found=found,
        remedy="Examples: Flat, HNSW32, IVF512,SQfp16; or leave --index out.",
    )


def _reason(error: Exception) -> str:
    """FAISS's own words, without the place in its source."""
    return str(error).splitlines()[-1].rpartition("Error: ")[2][:200] or "another"


def comparable(vectors: Vectors) -> NDArray[np.bool_]:
    """(n,): which of (n, dim) can be searched and found: all numbers, within MAX_VALUE."""
    within: NDArray[np.bool_] = np.logical_and.reduce(np.abs(vectors) <= MAX_VALUE, axis=1)
    return within


def _checked(vectors: Vectors, dim: int) -> Vectors:
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise QueryError("embeddings", expected=f"shape (n, {dim})", found=f"{vectors.shape}")
    vectors = np.ascontiguousarray(vectors, np.float32)
    flat = vectors.reshape(-1)
    if not np.dot(flat, flat) <= MAX_VALUE**2 and not comparable(vectors).all():
        raise QueryError("embeddings", expected=f"finite numbers within ±{MAX_VALUE:g}", found="others")
    return vectors


def _as_before(found: Positions, before: Positions) -> NDArray[np.bool_]:
    """(n,): are all places of `found`, (n, k), filled, and nearly all with what stands in the same row of `before`?"""
    both = np.sort(np.concatenate([found, before], axis=1), axis=1)  # (n, 2 k), and no row of one says a thing twice
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1)
    same: NDArray[np.bool_] = (found >= 0).all(axis=1) & (shared >= (1 - CHANGED) * found.shape[1])
    return same


def _unit(scores: Vectors, metric: Metric) -> Vectors:
    """(n, k) as FAISS gives them, squared distances but for inner products, made the metric's own in place."""
    if metric == "cosine":
        scores *= _MINUS_HALF  # in place: for one query, each array that is made takes as long as looking into a list
        scores += _ONE
        bounded(scores, metric)
    elif metric == "l2":
        np.sqrt(np.maximum(scores, 0, out=scores), out=scores)
    return scores


def near_pairs(vectors: Vectors, reach: float) -> Iterator[tuple[int, Positions, Positions]]:
    """All pairs of (n, dim) vectors within the Euclidean distance `reach`, and some that are a rounding farther.

    Yields:
        Block by block: how many vectors it compared with all; the pairs, (pairs,) and (pairs,), the first of each
        the lesser.
    """
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    largest = float(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0))
    size = max(1, BLOCK_PAIRS // max(1, len(vectors)))
    for start in range(0, len(vectors), size):
        block = vectors[start : start + size]
        ends, _, other = index.range_search(block, reach**2 + ROUNDING * largest)
        counts = (ends[1:] - ends[:-1]).astype(np.int64)  # (block,)
        one = np.repeat(np.arange(start, start + len(block)), counts)
        after = other > one
        yield len(block), one[after], other[after]

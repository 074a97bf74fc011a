"""The index of a version's vectors: the only module on this floor that searches with FAISS, with checked arguments.

FAISS itself accepts NaN, allocates memory for any `k`, and raises an empty error for a wrong dimension.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np

from lookalike.index.ann.scores import bounded
from lookalike.index.ann.search_params import SearchParams, Selection
from lookalike.index.ann.spec import MAX_KEY, IndexSpec, Metric, key_problem, read_header
from lookalike.index.arrays import is_permutation
from lookalike.index.errors import QueryError
from lookalike.index.limits import MAX_FOUND, check_limit
from lookalike.training.array_types import Booleans, Floats, Positions
from lookalike.training.errors import ArtifactError, ConfigError

__all__ = ["MAX_VALUE", "VectorIndex", "comparable", "near_pairs", "nearest", "one_thread"]

MAX_VALUE = 1e16
"""Above this, squares and their sums overflow float32, and FAISS silently finds nothing."""

FARTHER = 4
"""The factor by which a filtered search increases its effort until the result is stable."""
LEAST_FETCHED = 10
"""The fewest hits whose stability is meaningful."""
CHANGED = 0.02
"""The share of hits that may change in a stable result: none of fewer than 50."""

BLOCK_PAIRS = 1 << 24
"""The most pairs of vectors in memory at a time."""
ROUNDING = 1e-5
"""The error of a squared distance from a float32 matrix product, relative to the largest squared length."""
_MINUS_HALF, _ONE = np.float32(-0.5), np.float32(1)


class VectorIndex:
    """An index of embeddings, numbered in the order in which they were added; a position is an int64 row number."""

    def __init__(self, spec: IndexSpec, dim: int, loaded: faiss.Index | None = None) -> None:
        """Raises ConfigError if FAISS cannot build the index, or if it does not have a search parameter."""
        self.dim = dim
        self._index = _create(spec, dim) if loaded is None else loaded
        self.search_params = SearchParams(self._index)
        self.search_params.set(spec.search)
        self.spec = spec
        self._count = int(self._index.ntotal)

    def __len__(self) -> int:
        return self._count

    def set_search(self, search: str) -> None:
        """Use other search parameters from now on, such as "nprobe=8". Raises ConfigError like the constructor."""
        self.search_params.set(search)
        self.spec = replace(self.spec, search=search)

    def train(self, sample: Floats) -> None:
        """Fit the centroids and codes, if any, to (n, dim) vectors. Raises ConfigError if there are too few vectors."""
        try:
            self._index.train(_checked(sample, self.dim))
        except RuntimeError as error:
            raise ConfigError(
                "index",
                expected=f"enough vectors to train {self.spec.key} on",
                found=f"{len(sample)} ({_reason(error)})",
                remedy="Choose a smaller index, or leave --index out.",
            ) from error

    def add(self, embeddings: Floats) -> None:
        """Append (n, dim) float32 vectors within MAX_VALUE; for cosine, of unit length."""
        embeddings = _checked(embeddings, self.dim)
        # with several threads, the links of a graph depend on timing
        try:
            with one_thread() if self.search_params.is_graph else nullcontext():
                self._index.add(embeddings)
        except RuntimeError as error:
            raise _no_index(self.spec, self.dim, _reason(error)) from error
        self._count = int(self._index.ntotal)

    def search(self, queries: Floats, k: int, parameters: object = None) -> tuple[Floats, Positions]:
        """Return the approximate k nearest of each query, best first.

        Args:
            queries: (n, dim) float32, within MAX_VALUE; for cosine, of unit length.
            k: from 1 to MAX_FOUND.
            parameters: FAISS's parameters of this search; None means those of the index.

        Returns:
            scores: (n, min(k, items)) float32 in the metric's unit.
            positions: the same shape, int64; -1 if an approximate search found fewer.

        Raises:
            QueryError: a wrong shape, a value that is not finite or too large, or k out of bounds.
        """
        check_limit(k, MAX_FOUND)
        queries, pointer = _checked(queries, self.dim), faiss.swig_ptr
        k = min(k, self._count)
        scores, positions = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        if k and len(queries):  # FAISS's `search` would check all this again, which takes as long as the search
            try:
                self._index.search_c(len(queries), pointer(queries), k, pointer(scores), pointer(positions), parameters)
            except RuntimeError as error:
                raise _no_index(self.spec, self.dim, _reason(error)) from error
        return _in_metric_unit(scores, self.spec.metric), positions

    def select(self, allowed: Booleans) -> Selection:
        """Prepare filtered searches among the allowed items, (items,) bool."""
        return self.search_params.select(allowed)

    def search_among(self, queries: Floats, k: int, selection: Selection) -> tuple[Positions, Booleans]:
        """Return the k nearest selected items of each query, (n, dim), searching with more effort until stable.

        The effort depends on the query: if the selected items are far from it, their distances differ little, and the
        nearest are spread over many lists.

        Returns:
            positions: (n, min(k, items)) int64, best first; -1 if fewer were found.
            settled: (n,) bool; False if comparing the query with all selected items takes no longer.

        Raises:
            QueryError: as in `search`.
        """
        check_limit(k, MAX_FOUND)
        fetched, effort = min(max(k, LEAST_FETCHED), self._count), 1
        positions = np.full((len(queries), fetched), -1)
        settled = np.zeros(len(queries), bool)
        while not settled.all():
            parameters = self.search_params.for_selection(selection, fetched, effort)
            if parameters is None:
                break
            unsettled = np.flatnonzero(~settled)
            _, found = self.search(queries[unsettled], fetched, parameters)
            settled[unsettled] = _is_stable(found, positions[unsettled])
            positions[unsettled] = found
            effort *= FARTHER
        return positions[:, :k], settled

    def emptied(self, path: Path) -> "VectorIndex":
        """Return a trained index without vectors, from the verified file of this index."""
        index = faiss.read_index(str(path))
        index.reset()
        return VectorIndex(self.spec, self.dim, index)

    @property
    def bytes(self) -> int:
        """The size of the index on disk: vectors, graph and ids."""
        sizes: list[int] = []
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part))))
        return sum(sizes)

    def write(self, path: Path) -> None:
        """Write the index. A Python file raises OSError if the disk is full; FAISS reports nothing on close."""
        with path.open("wb") as file:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, dim: int, count: int) -> "VectorIndex":
        """Map a verified index file of `count` vectors into memory, read-only. Raises ArtifactError if it differs."""
        try:
            template = cls(spec, dim)._index
        except ConfigError as error:
            raise ArtifactError(str(path), expected="an index that FAISS can build", found=str(error)) from error
        if (head := read_header(path)) != (dim, count):  # before FAISS allocates as much as the file states
            expected = f"an index of {dim} dimensions and {count} items"
            raise ArtifactError(str(path), expected=expected, found="{} and {}".format(*head))
        try:
            loaded = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, MemoryError) as error:
            raise ArtifactError(str(path), expected="a FAISS index", found=_reason(error)) from error
        if not isinstance(loaded, type(template)) or loaded.d != dim or loaded.metric_type != spec.faiss_metric:
            expected, found = (
                f"{spec.key}, {dim} dimensions, {spec.metric}",
                f"{type(loaded).__name__}, {loaded.d} dimensions",
            )
            raise ArtifactError(str(path), expected=expected, found=found, remedy="Build the version again.")
        return cls(spec, dim, loaded)

    def check(self, path: Path) -> None:
        """Raise ArtifactError, with `path`, unless the lists, if any, contain each position once."""
        if self.search_params.lists and not is_permutation(self.search_params.positions(), self._count):
            raise ArtifactError(str(path), expected="each position in one list", found="a missing or repeated position")


def nearest(queries: Floats, vectors: Floats, k: int, metric: Metric) -> tuple[Floats, Positions]:
    """Return the k nearest of `vectors`, (m, dim), to each of `queries`, (n, dim), by exhaustive comparison.

    Returns:
        scores and positions, (n, min(k, m)), best first. Scores have the precision of a float32 matrix product.
    """
    faiss_metric = IndexSpec("Flat", metric).faiss_metric
    scores, positions = faiss.knn(_checked(queries, vectors.shape[1]), vectors, min(k, len(vectors)), faiss_metric)
    return _in_metric_unit(scores, metric), positions


@contextmanager
def one_thread() -> Iterator[None]:
    """Run FAISS with one thread, so that timings and builds do not depend on the number of cores."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _create(spec: IndexSpec, dim: int) -> faiss.Index:
    """Return an empty index. Raises ConfigError if FAISS cannot build it."""
    if problem := key_problem(spec.key, dim):
        raise _no_index(spec, dim, problem)
    try:
        index = faiss.index_factory(dim, spec.key, spec.faiss_metric)
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise _no_index(spec, dim, _reason(error)) from error
    if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
        raise _no_index(spec, dim, "an IDMap, but a position must be a row number")
    if isinstance(index, faiss.IndexNSG):  # FAISS 1.15: the build never ends if items are equal; no items can be added
        raise _no_index(spec, dim, "an NSG, whose build never ends if many items are equal")
    if index.metric_type != spec.faiss_metric:
        raise _no_index(spec, dim, f"an index that cannot search by {spec.metric}")
    return index


def _no_index(spec: IndexSpec, dim: int, found: str) -> ConfigError:
    return ConfigError(
        f"index {spec.key[:MAX_KEY]}",
        expected=f"a valid description for FAISS's index_factory, for {dim} dimensions",
        found=found,
        remedy="Examples: Flat, HNSW32, IVF512,SQfp16; or leave --index out.",
    )


def _reason(error: Exception) -> str:
    """Return the message of a FAISS error, without its location in the source."""
    return str(error).splitlines()[-1].rpartition("Error: ")[2][:200] or "an unknown error"


def comparable(vectors: Floats) -> Booleans:
    """Return which of (n, dim) vectors can be searched: those with only finite values within MAX_VALUE, (n,) bool."""
    within: Booleans = np.logical_and.reduce(np.abs(vectors) <= MAX_VALUE, axis=1)
    return within


def _checked(vectors: Floats, dim: int) -> Floats:
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise QueryError("embeddings", expected=f"shape (n, {dim})", found=f"{vectors.shape}")
    vectors = np.ascontiguousarray(vectors, np.float32)
    flat = vectors.reshape(-1)
    if not np.dot(flat, flat) <= MAX_VALUE**2 and not comparable(vectors).all():
        raise QueryError("embeddings", expected=f"finite numbers within ±{MAX_VALUE:g}", found="NaN or larger numbers")
    return vectors


def _is_stable(found: Positions, before: Positions) -> Booleans:
    """Return which rows of `found`, (n, k), are full and contain nearly the same hits as in `before`: (n,) bool."""
    both = np.sort(np.concatenate([found, before], axis=1), axis=1)  # (n, 2 k); no row has a duplicate in one array
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1)
    stable: Booleans = (found >= 0).all(axis=1) & (shared >= (1 - CHANGED) * found.shape[1])
    return stable


def _in_metric_unit(scores: Floats, metric: Metric) -> Floats:
    """Convert FAISS's scores, (n, k), in place to the metric's unit; they are squared distances except for ip."""
    if metric == "cosine":
        scores *= _MINUS_HALF  # in place: for a single query, a new array costs as much as searching a list
        scores += _ONE
        bounded(scores, metric)
    elif metric == "l2":
        np.sqrt(np.maximum(scores, 0, out=scores), out=scores)
    return scores


def near_pairs(vectors: Floats, reach: float) -> Iterator[tuple[int, Positions, Positions]]:
    """Yield all pairs of (n, dim) vectors within the Euclidean distance `reach`, up to rounding, block by block.

    Yields:
        The number of vectors compared with all others, and the pairs as two arrays, (pairs,), the lower position first.
    """
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    largest = float(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0))
    size = max(1, BLOCK_PAIRS // max(1, len(vectors)))
    for start in range(0, len(vectors), size):
        block = vectors[start : start + size]
        ends, _, other = index.range_search(block, reach**2 + ROUNDING * largest)
        counts = (ends[1:] - ends[:-1]).astype(np.int64)  # (block,)
        first = np.repeat(np.arange(start, start + len(block)), counts)
        ascending = other > first
        yield len(block), first[ascending], other[ascending]

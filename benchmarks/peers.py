"""How fast are the other libraries' approximate searches, each with the settings that suit it best?

hnswlib, usearch, voyager, ScaNN and scalable-vs over the same unit-length vectors, built with two threads, searched
with one. Several indexes of each library are swept from little effort to much, with rough timings; the fastest at a
floor of recall are then timed carefully, in alternation. `raw_pixels` is hnswlib on the images themselves.

    found = best(vectors, queries, truth)
    found["ScaNN", 0.95].batch.per_second

scalable-vs offers its compression, LVQ, on Intel's processors only: on others it ends the process, so it is left out.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import hnswlib
import numpy as np
import svs
import voyager
from numpy.typing import NDArray
from scann import scann_ops_pybind
from usearch import compiled as usearch

from benchmarks.report import alternate, seconds
from lookalike.index.ann.recall import recalls

__all__ = ["Best", "Candidate", "Measured", "Pixels", "batch_rate", "best", "candidates", "raw_pixels", "single_us"]

Vectors = NDArray[np.float32]
Ids = NDArray[Any]
Search = Callable[[Vectors, int], Ids]

K = 10
FLOORS = (0.95, 0.99)
BEYOND = 0.999
"""No floor is this high: a sweep ends here."""
LEAST_GAIN = 0.0002
"""If recall grows by less than this, more effort does not help."""
ROUNDS = 7
FINALISTS = 3
GLANCE = 300
"""Queries sent one at a time for a rough timing."""
BUILDERS = 2
EFFORTS = (10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 96, 128)


@dataclass(frozen=True)
class Candidate:
    """One setting of one index: call `select`, then search; the selection applies to the whole index.

    `search` maps (m, dim) to (m, k); `search_one`, the leanest call of the library, maps (dim,) to (k,) or (1, k).
    `bytes` is the size of the index as saved, including the vectors.
    """

    name: str
    settings: str
    bytes: int
    select: Callable[[], object]
    search: Search
    search_one: Search


@dataclass(frozen=True)
class Measured:
    """The recall of the nearest ten, and the speed: all queries in one call, and one query at a time."""

    candidate: Candidate
    recall: float
    per_second: float
    microseconds: float


@dataclass(frozen=True)
class Best:
    """A library's fastest at a floor of recall, in batch and one at a time."""

    batch: Measured
    single: Measured


@dataclass(frozen=True)
class Pixels:
    """hnswlib on the images themselves."""

    label_precision: float
    measured: Measured


def candidates(vectors: Vectors) -> Iterator[Candidate]:
    """Every setting of every library over `vectors`, (n, dim) float32 of unit length; builds each index on the way."""
    return chain.from_iterable(chain.from_iterable(sweeps(vectors) for sweeps in LIBRARIES))


def best(
    vectors: Vectors, queries: Vectors, truth: NDArray[np.int64], floors: tuple[float, ...] = FLOORS
) -> dict[tuple[str, float], Best]:
    """By library and floor, the fastest that recall at least that share of `truth`, (m, 10), the positions.

    Raises:
        ValueError: a library does not reach a floor at any setting.
    """
    found = {}
    for sweeps in LIBRARIES:
        seen = [one for sweep in sweeps(vectors) for one in _time_roughly(sweep, queries, truth, min(floors))]
        timed = _time_carefully(_finalists(seen, floors), queries)
        for floor in floors:
            fit = [one for one in timed if one.recall >= floor]
            if not fit:
                raise ValueError(f"{sweeps.__name__}: expected a recall of {floor}, found none")
            found[fit[0].candidate.name, floor] = Best(
                max(fit, key=lambda one: one.per_second), min(fit, key=lambda one: one.microseconds)
            )
    return found


def raw_pixels(
    items: Vectors, item_labels: NDArray[Any], queries: Vectors, query_labels: NDArray[Any], floor: float = 0.95
) -> Pixels:
    """hnswlib over raw rows (n, width), Euclidean, at the least effort that recalls `floor` of the nearest ten."""
    _, truth = faiss.knn(queries, items, K)
    sweep = _hnswlib(items, links=16, space="l2")
    found = _time_carefully([next(_time_roughly(sweep, queries, truth, floor))], queries)[0]
    found.candidate.select()
    nearest = found.candidate.search(queries, K)
    return Pixels(float((item_labels[nearest] == query_labels[:, None]).mean()), found)


def batch_rate(candidate: Candidate, queries: Vectors) -> float:
    """Queries per second, all in one call."""
    candidate.select()
    return len(queries) / seconds(lambda: candidate.search(queries, K))


def single_us(candidate: Candidate, queries: Vectors) -> float:
    """The median microseconds of one query, each in a separate call."""
    candidate.select()
    search, taken = candidate.search_one, []
    for query in list(queries):
        began = time.perf_counter()
        search(query, K)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def _time_roughly(
    sweep: Iterable[Candidate], queries: Vectors, truth: NDArray[np.int64], least: float
) -> Iterator[Measured]:
    """The candidates of a sweep with enough recall, timed roughly, until more effort no longer helps."""
    before = -1.0
    for candidate in sweep:
        candidate.select()
        share = float(recalls(candidate.search(queries, K).astype(np.int64), truth).mean())
        if share >= least:
            rate = max(batch_rate(candidate, queries) for _ in range(2))
            yield Measured(candidate, share, rate, single_us(candidate, queries[:GLANCE]))
        if share > BEYOND or share - before < LEAST_GAIN:
            return
        before = share


def _finalists(seen: list[Measured], floors: tuple[float, ...]) -> list[Measured]:
    """The first few at each floor, for batches and for single queries."""
    chosen: dict[int, Measured] = {}
    for floor in floors:
        fit = [one for one in seen if one.recall >= floor]
        fast = sorted(fit, key=lambda one: -one.per_second)[:FINALISTS]
        prompt = sorted(fit, key=lambda one: one.microseconds)[:FINALISTS]
        chosen |= {id(one): one for one in fast + prompt}
    return list(chosen.values())


def _time_carefully(finalists: list[Measured], queries: Vectors) -> list[Measured]:
    """The same candidates, timed again: medians of several rounds, alternating."""
    batches = {str(n): partial(batch_rate, one.candidate, queries) for n, one in enumerate(finalists)}
    singles = {str(n): partial(single_us, one.candidate, queries) for n, one in enumerate(finalists)}
    rates, micros = alternate(batches, ROUNDS), alternate(singles, ROUNDS)
    return [
        Measured(one.candidate, one.recall, statistics.median(rates[str(n)]), statistics.median(micros[str(n)]))
        for n, one in enumerate(finalists)
    ]


def with_hnswlib(vectors: Vectors) -> Iterator[Iterator[Candidate]]:
    """Few links are enough in few dimensions; 32 are slower than 24, and ef is never below k."""
    for links in (8, 12, 16, 24):
        yield _hnswlib(vectors, links=links, space="ip")


def _hnswlib(vectors: Vectors, *, links: int, space: str) -> Iterator[Candidate]:
    index = hnswlib.Index(space, vectors.shape[1])
    index.init_index(len(vectors), M=links, ef_construction=200, random_seed=0)
    index.add_items(vectors, num_threads=BUILDERS)
    index.set_num_threads(1)

    def search(queries: Vectors, k: int) -> Ids:
        ids: Ids = index.knn_query(queries, k, 1)[0]
        return ids

    for effort in EFFORTS:
        settings_text = f"M {links}, ef_construction 200, ef {effort}"
        yield Candidate(
            "hnswlib", settings_text, index.index_file_size(), partial(index.set_ef, effort), search, search
        )


def with_usearch(vectors: Vectors) -> Iterator[Iterator[Candidate]]:
    """In single and in half precision; below, bf16 and i8 lose more recall than they gain in speed."""
    for kind, links in ((usearch.ScalarKind.F32, 12), (usearch.ScalarKind.F32, 16), (usearch.ScalarKind.F16, 16)):
        yield _usearch(vectors, kind=kind, links=links)


def _usearch(vectors: Vectors, *, kind: usearch.ScalarKind, links: int) -> Iterator[Candidate]:
    """The compiled index itself: the class around it takes nine microseconds per call."""
    index = usearch.Index(
        ndim=vectors.shape[1],
        dtype=kind,
        connectivity=links,
        expansion_add=200,
        expansion_search=K,
        metric_kind=usearch.MetricKind.IP,
        enable_key_lookups=False,
    )
    index.add_many(np.arange(len(vectors), dtype=np.uint64), vectors, threads=BUILDERS)

    def search(queries: Vectors, k: int) -> Ids:
        found: Ids = index.search_many(queries, k, False, 1)[0]
        return found

    def search_one(query: Vectors, k: int) -> Ids:
        found: Ids = index.search_many(query[None], k, False, 1)[0]
        return found

    for effort in EFFORTS:
        settings_text = f"{kind.name.lower()}, connectivity {links}, expansion_add 200, expansion_search {effort}"
        select = partial(setattr, index, "expansion_search", effort)
        yield Candidate("usearch", settings_text, index.serialized_length, select, search, search_one)


def with_voyager(vectors: Vectors) -> Iterator[Iterator[Candidate]]:
    """By Euclidean distance, the fastest metric that orders unit vectors alike; its 8 bits do not reach 0.95."""
    for links in (8, 12, 16):
        yield _voyager(vectors, links=links)


def _voyager(vectors: Vectors, *, links: int) -> Iterator[Candidate]:
    count, width = vectors.shape
    index = voyager.Index(
        voyager.Space.Euclidean, width, M=links, ef_construction=200, random_seed=0, max_elements=count
    )
    index.add_items(vectors, num_threads=BUILDERS)
    size = len(index.as_bytes())

    def search(queries: Vectors, k: int) -> Ids:
        ids: Ids = index.query(queries, k, 1)[0]
        return ids

    for effort in EFFORTS:
        settings_text = f"M {links}, ef_construction 200, ef {effort}"
        yield Candidate("voyager", settings_text, size, partial(setattr, index, "ef", effort), search, search)


def with_scann(vectors: Vectors) -> Iterator[Iterator[Candidate]]:
    """About as many leaves as the square root of the number of vectors; at so few dimensions, a code for each helps."""
    root = len(vectors) ** 0.5
    for share, block, spill in (
        (0.4, 1, None),
        (0.7, 1, None),
        (1, 1, None),
        (1.5, 1, None),
        (1, 2, None),
        (1, 1, 1.5),
    ):
        yield from _scann(vectors, leaves=round(root * share), block=block, spill=spill)


def _scann(vectors: Vectors, *, leaves: int, block: int, spill: float | None) -> Iterator[Iterator[Candidate]]:
    """For each number of vectors that are scored again, a sweep of the leaves."""
    builder = scann_ops_pybind.builder(vectors, K, "dot_product").set_n_training_threads(BUILDERS)
    builder.tree(leaves, num_leaves_to_search=K, training_sample_size=len(vectors), soar_lambda=spill)
    builder.score_ah(block, anisotropic_quantization_threshold=0.2)
    index = builder.reorder(10 * K).build()
    size = _saved_bytes(lambda folder: index.serialize(str(folder)))

    def settings(again: int) -> Iterator[Candidate]:
        for visited in (3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48):
            settings_text = (
                f"{leaves} leaves, {block} dimensions a block, SOAR {spill}, {visited} searched, {again} reordered"
            )
            yield Candidate(
                "ScaNN",
                settings_text,
                size,
                lambda: None,
                lambda queries, k, visited=visited: index.search_batched(queries, k, again, visited)[0],  # type: ignore[misc]
                lambda query, k, visited=visited: index.search(query, k, again, visited)[0],  # type: ignore[misc]
            )

    return map(settings, (15, 20, 25, 30, 40, 60, 100))


def with_svs(vectors: Vectors) -> Iterator[Iterator[Candidate]]:
    """Vamana, in single and in half precision; the inner product is better at 0.95, Euclidean distance above."""
    half = vectors.astype(np.float16)
    product, euclidean = (svs.DistanceType.MIP, 0.95), (svs.DistanceType.L2, 1.2)
    for kept, metric, degree in (
        *((half, product, 24), (half, product, 32), (vectors, product, 32)),
        *((half, euclidean, 32), (half, euclidean, 64)),
    ):
        yield _svs(kept, metric=metric, degree=degree)


def _svs(vectors: NDArray[Any], *, metric: tuple[Any, float], degree: int) -> Iterator[Candidate]:
    """Its window may be smaller than k, if its buffer is not; the set of visited vectors does not help here."""
    distance, alpha = metric
    parameters = svs.VamanaBuildParameters(graph_max_degree=degree, window_size=128, alpha=alpha)
    index = svs.Vamana.build(parameters, vectors, distance, num_threads=BUILDERS)
    index.num_threads = 1
    size = _saved_bytes(lambda folder: index.save(*(str(folder / part) for part in ("config", "graph", "data"))))

    def search(queries: Vectors, k: int) -> Ids:
        ids: Ids = index.search(queries, k)[0]
        return ids

    for window in (5, 6, 7, 8, 9, *EFFORTS):
        settings_text = (
            f"{vectors.dtype}, {distance.name}, degree {degree}, window 128, alpha {alpha}, search window {window}"
        )
        buffer = svs.SearchBufferConfig(window, max(window, K))
        chosen = svs.VamanaSearchParameters(buffer, False, 8, 8)
        yield Candidate(
            "scalable-vs", settings_text, size, partial(setattr, index, "search_parameters", chosen), search, search
        )


LIBRARIES = (with_hnswlib, with_usearch, with_voyager, with_scann, with_svs)


def _saved_bytes(save: Callable[[Path], object]) -> int:
    """The bytes of an index saved into a folder."""
    with TemporaryDirectory() as folder:
        save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

"""Similarity search: exact search by hand and by FAISS, and two indexes that compare only some of the items."""

from typing import Any

import faiss
import numpy as np
import torch

from lookalike.index.ann.vectors import one_thread
from lookalike.lessons.denoising import train
from lookalike.lessons.picture import Curves, Series
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import agreement, digits, isolated
from lookalike.training.array_types import Floats, Positions

__all__ = ["exact", "experiment", "graph", "lists", "recall"]

K = 10
LISTS, PROBES = 32, (1, 2, 4, 8, 16, 32)
LINKS, BUILD_EFFORT, EFFORTS = 8, 40, (10, 16, 32, 64)
ByEffort = dict[int, tuple[Positions, float]]
"""For each effort: the result, (queries, k), and the mean share of the items that a query was compared with."""


def experiment(seed: int = 0) -> Shown:
    """Embed digits, search them exactly in two ways, then with an inverted file and a graph at increasing effort."""
    data = digits(seed)
    with isolated(seed):
        encoder = train(data.train, level=0.5)[0]
    with torch.inference_mode():
        unit = [torch.nn.functional.normalize(part) for part in (encoder(data.train), encoder(data.test))]
        raw = [torch.nn.functional.normalize(part) for part in (data.train, data.test)]
    items, queries = unit[0].numpy(), unit[1].numpy()
    truth = exact(items, queries)
    numbers = {
        "share of neighbors on which numpy and FAISS's flat index agree": recall(_flat(items, queries), truth),
        "precision@10, raw rows of 64 numbers": agreement(raw[0], data.train_labels, raw[1], data.test_labels),
        "precision@10, embeddings of 16 numbers": agreement(unit[0], data.train_labels, unit[1], data.test_labels),
    }
    series: dict[str, Series] = {}
    for name, by_effort in _approximate(items, queries).items():
        recalls = {effort: recall(found, truth) for effort, (found, _) in by_effort.items()}
        series[name] = ([share for _, share in by_effort.values()], list(recalls.values()))
        for effort, (_, share) in by_effort.items():
            numbers[f"recall@10, {name} = {effort}"] = recalls[effort]
            numbers[f"share of the items compared, {name} = {effort}"] = share
    label = "share of the items that a query is compared with"
    return Shown(numbers, Curves("More comparisons, more recall", label, "recall@10", series, log_x=True))


def _approximate(items: Floats, queries: Floats) -> dict[str, ByEffort]:
    return {"inverted file, nprobe": lists(items, queries), "graph, ef_search": graph(items, queries)}


def exact(items: Floats, queries: Floats, k: int = K) -> Positions:
    """The positions of the k items with the greatest inner product with each query, best first: (queries, k)."""
    scores = queries @ items.T  # (queries, items)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found: Positions, truth: Positions) -> float:
    """The mean share of each query's true neighbors that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def _flat(items: Floats, queries: Floats) -> Positions:
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    nearest: Positions = index.search(queries, K)[1]
    return nearest


def lists(items: Floats, queries: Floats) -> ByEffort:
    """An inverted file: k-means divides the items into lists, and a query searches the lists nearest to it."""
    quantizer = faiss.IndexFlatIP(items.shape[1])
    index = faiss.IndexIVFFlat(quantizer, items.shape[1], LISTS, faiss.METRIC_INNER_PRODUCT)
    index.train(items)
    index.add(items)
    sizes = np.bincount(quantizer.search(items, 1)[1].ravel(), minlength=LISTS)  # (lists,)
    found: ByEffort = {}
    for probes in PROBES:
        index.nprobe = probes
        _, probed = quantizer.search(queries, probes)  # (queries, probes)
        found[probes] = index.search(queries, K)[1], float(sizes[probed].sum(1).mean() / len(items))
    return found


def graph(items: Floats, queries: Floats) -> ByEffort:
    """HNSW: each item is linked to near items; a query follows links and keeps a list of the `ef_search` best."""
    index = faiss.IndexHNSWFlat(items.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_EFFORT
    with one_thread():
        index.add(items)  # with several threads the graph would differ each time
    counted: Any = faiss.cvar.hnsw_stats
    found: ByEffort = {}
    for effort in EFFORTS:
        index.hnsw.efSearch = effort
        counted.reset()
        nearest = index.search(queries, K)[1]
        found[effort] = nearest, counted.ndis / len(queries) / len(items)
    return found

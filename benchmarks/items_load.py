"""The writers and searchers of benchmarks.items, the same for every measured system.

A measured system is behind a `Door`: a connection, or its equivalent. Everything that it sends is prepared before the
clock starts. The latency of a search counts from when it was due, so that a system that stalls is charged for every
waiting search.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrived", "Door", "K", "Material", "Searched", "arrivals", "recall", "searches", "together", "write_all"]

K = 10
PATIENCE = 120.0
"""Seconds until all processes have prepared what they send."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """The items and queries that all systems get, kept in a file that any process can map.

    Attributes:
        base: (60000, dim) of unit length; item i has the id str(i).
        rows: (n, width) of new items, and `new`, (n, dim), their embeddings; item i has the id new-i.
        queries: (m, width), and `asked`, (m, dim).
    """

    base: Vectors
    rows: Vectors
    new: Vectors
    queries: Vectors
    asked: Vectors

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Material":
        with np.load(path, allow_pickle=False) as file:
            return cls(**file)


class Door(Protocol):
    """One connection."""

    def made(self, first: int, count: int) -> Any:
        """The argument of `put` for `count` new items from number `first` on."""

    def put(self, made: Any) -> None:
        """Create or replace items; they are durable when the call returns."""

    def query(self, number: int) -> Any:
        """The argument of `find` for a query."""

    def find(self, query: Any) -> list[str]:
        """The ids of the K nearest, best first."""


Opener = Callable[[], Door]


@dataclass
class Arrived:
    """When each batch was sent and acknowledged, on the clock of all processes, and the number of items by then."""

    sent: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Items per second, from the first one on."""
        return self.count[-1] / (self.done[-1] - self.sent[0])


@dataclass
class Searched:
    """For each search: its latency in seconds, its start and end, the number of its query, and the ids found."""

    latencies: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    query: list[int] = field(default_factory=list)
    found: list[list[str]] = field(default_factory=list)

    def milliseconds(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) * 1e3


def searches(opener: Opener, queries: int, rate: float, seconds: float, ready: Barrier) -> Searched:
    """Search at a rate per second, one search at a time; a late search is sent as soon as possible."""
    door, seen = opener(), Searched()
    prepared = [door.query(number) for number in range(queries)]
    for query in prepared:
        door.find(query)
    gc.freeze()
    ready.wait(PATIENCE)
    start = time.monotonic()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        found = door.find(prepared[number % queries])
        ended = time.monotonic()
        seen.latencies.append(ended - due)
        seen.began.append(began)
        seen.ended.append(ended)
        seen.query.append(number % queries)
        seen.found.append(found)
    return seen


def arrivals(opener: Opener, batch: int, rate: float, seconds: float, ready: Barrier) -> Arrived:
    """Put items at a rate per second, in batches; a late batch is sent as soon as possible, and none after the end."""
    door, seen = opener(), Arrived()
    batches = [door.made(first, batch) for first in range(0, int(rate * seconds), batch)]
    gc.freeze()
    ready.wait(PATIENCE)
    start = time.monotonic()
    for number, made in enumerate(batches):
        due = start + number * batch / rate
        if time.monotonic() > start + seconds:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        seen.sent.append(time.monotonic())
        door.put(made)
        seen.done.append(time.monotonic())
        seen.count.append((number + 1) * batch)
    return seen


def write_all(opener: Opener, first: int, batch: int, most: int, seconds: float, ready: Barrier) -> Arrived:
    """Put new items over one connection, in batches, each when the previous batch is acknowledged."""
    door, seen = opener(), Arrived()
    batches = [door.made(first + number * batch, batch) for number in range(most)]
    gc.freeze()
    ready.wait(PATIENCE)
    end = time.monotonic() + seconds
    for made in batches:
        if time.monotonic() > end:
            break
        seen.sent.append(time.monotonic())
        door.put(made)
        seen.done.append(time.monotonic())
        seen.count.append(len(seen.count) * batch + batch)
    return seen


def together(works: Sequence[Callable[[Any], Any]], *, processes: bool) -> list[Any]:
    """Run each in a separate process or thread, starting at the same moment; returns their results in order."""
    if not processes:
        all_ready = Barrier(len(works))
        with ThreadPoolExecutor(len(works)) as threads:
            return [future.result() for future in [threads.submit(work, all_ready) for work in works]]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(works), context) as pool:
        ready = manager.Barrier(len(works))
        return [future.result() for future in [pool.submit(work, ready) for work in works]]


def recall(material: Material, searched: Searched, arrived: Arrived | None = None) -> float:
    """The mean share of the K nearest that were found, of all items that surely existed, or may have existed."""
    nearest = _nearest(material)
    new = material.asked @ material.new.T  # (m, n)
    shares = []
    for began, ended, query, found in zip(searched.began, searched.ended, searched.query, searched.found, strict=True):
        surely = maybe = 0
        if arrived:
            surely = max([0, *(c for d, c in zip(arrived.done, arrived.count, strict=True) if d <= began)])
            maybe = max([0, *(c for s, c in zip(arrived.sent, arrived.count, strict=True) if s <= ended)])
        truth = {name for count in {surely, maybe} for name in _truth(nearest[query], new[query], count)}
        shares.append(len(truth.intersection(found)) / K)
    return float(np.mean(shares))


def _nearest(material: Material) -> list[list[tuple[float, str]]]:
    """The scores and ids of each query's K nearest of the base."""
    found = []
    for query in material.asked:
        scores = material.base @ query
        best = np.argpartition(-scores, K)[:K]
        found.append([(float(scores[place]), str(place)) for place in best])
    return found


def _truth(base: list[tuple[float, str]], new: Vectors, count: int) -> set[str]:
    """The K nearest of the base and of the first `count` new items."""
    scores = new[:count]
    best = np.argpartition(-scores, K)[:K] if count > K else np.arange(count)
    every = [*base, *((float(scores[place]), f"new-{place}") for place in best.tolist())]
    return {name for _, name in sorted(every, reverse=True)[:K]}

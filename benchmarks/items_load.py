"""Who writes and who searches in benchmarks.items, the same way whatever is measured.

What is measured is behind a `Door`: a connection, or what stands for one. All that it sends is made before the clock
starts. The latency of a search counts from when it was due, so that who stalls is charged with all that waited.
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
"""Seconds until all have made what they send."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """What all of them hold, get and are asked, kept in a file that any process can map.

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
        """What `put` takes for so many new items from number `first` on."""

    def put(self, made: Any) -> None:
        """Make or replace items; they are durable when it returns."""

    def canary(self, number: int) -> Any:
        """What `find` takes for a query."""

    def find(self, canary: Any) -> list[str]:
        """The ids of the K nearest, best first."""


Opener = Callable[[], Door]


@dataclass
class Arrived:
    """When each batch was sent and acknowledged, in the clock that all processes share, and how many were by then."""

    sent: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Items a second, from the first on."""
        return self.count[-1] / (self.done[-1] - self.sent[0])


@dataclass
class Searched:
    """Of each search its latency in seconds, when it began and ended, which query it was, and what it found."""

    latencies: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    query: list[int] = field(default_factory=list)
    found: list[list[str]] = field(default_factory=list)

    def milliseconds(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) * 1e3


def searches(opener: Opener, queries: int, rate: float, seconds: float, ready: Barrier) -> Searched:
    """So many searches a second, one at a time; what is late is asked as soon as it can be."""
    door, seen = opener(), Searched()
    canaries = [door.canary(number) for number in range(queries)]
    for canary in canaries:
        door.find(canary)
    gc.freeze()
    ready.wait(PATIENCE)
    start = time.monotonic()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        found = door.find(canaries[number % queries])
        ended = time.monotonic()
        seen.latencies.append(ended - due)
        seen.began.append(began)
        seen.ended.append(ended)
        seen.query.append(number % queries)
        seen.found.append(found)
    return seen


def arrivals(opener: Opener, batch: int, rate: float, seconds: float, ready: Barrier) -> Arrived:
    """So many new items a second, by batches; what is late is sent as soon as it can be, and nothing after the end."""
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
    """New items from one connection, by batches, each once the one before is acknowledged."""
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
    """Each in a process or in a thread of its own, beginning at the same moment; what they return, in their order."""
    if not processes:
        all_ready = Barrier(len(works))
        with ThreadPoolExecutor(len(works)) as threads:
            return [future.result() for future in [threads.submit(work, all_ready) for work in works]]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(works), context) as pool:
        ready = manager.Barrier(len(works))
        return [future.result() for future in [pool.submit(work, ready) for work in works]]


def recall(material: Material, searched: Searched, arrived: Arrived | None = None) -> float:
    """The mean share of the K nearest that were found, of all items that there surely were, or may have been."""
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
    """Of each query, the scores and ids of the K nearest of the base."""
    found = []
    for query in material.asked:
        scores = material.base @ query
        best = np.argpartition(-scores, K)[:K]
        found.append([(float(scores[place]), str(place)) for place in best])
    return found


def _truth(base: list[tuple[float, str]], new: Vectors, count: int) -> set[str]:
    """The K nearest of the base's and the first `count` new items."""
    scores = new[:count]
    best = np.argpartition(-scores, K)[:K] if count > K else np.arange(count)
    every = [*base, *((float(scores[place]), f"new-{place}") for place in best.tolist())]
    return {name for _, name in sorted(every, reverse=True)[:K]}

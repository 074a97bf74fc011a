"""One random history: a store, workers that follow its log, and the answers that they must return."""

import contextlib
import dataclasses
import json
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.changes import FILTERS, PAYLOADS, random_changes, start_writer
from benchmarks.plain import Plain, matrix_of, random_row
from lookalike.index.ann.spec import Metric
from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, embedded, open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import QueryError, StoreError, TargetError, UnknownItemError
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.build import build
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.store import Store
from tests.factories import encoder_at, made_rows

__all__ = ["History", "MismatchError"]

METRICS: tuple[Metric, ...] = ("l2", "cosine", "ip")
KEYS = ("Flat", "IVF6,Flat", "HNSW32", "IVF6,SQfp16")
EVERYTHING = {"IVF6,Flat": "nprobe=6", "HNSW32": "efSearch=512", "IVF6,SQfp16": "nprobe=6"}
"""The widest search that the index allows: an IVF index of flat lists is then exact."""
EXACT = ("Flat", "IVF6,Flat")
FOUND = 0.95
"""The least share of the nearest that an approximate index finds."""
NEW = 60
"""Ids that the data does not contain."""
WEIGHTS = {
    "upsert": 28, "delete": 14, "batch": 6, "search": 20, "filtered": 9, "by id": 8, "look": 6, "catch up": 6,
    "agree": 1, "crash": 0.7, "adopt": 0.5, "compact": 0.25, "promote": 0.25, "roll back": 0.15, "retrain": 0.12,
    "prune": 0.1,
}  # fmt: skip


class MismatchError(Exception):
    """A collection's answer differs from the dictionary's."""


@dataclasses.dataclass
class Worker:
    """A collection that follows the log over its own connection, and a dictionary with the expected answers."""

    collection: Collection
    log: ChangeLog
    plain: Plain


class History:
    """A store under random operations, each of which checks itself.

    Raises:
        MismatchError: from any step.
    """

    def __init__(self, folder: Path, seed: int, *, others: bool = False, workers: int = 3) -> None:
        """`others`: whether a second process writes to the log too."""
        self._rng = np.random.default_rng(seed)
        self.done: Counter[str] = Counter()
        self._folder = folder
        self._store = Store(folder / "store")
        self._metric = METRICS[seed % len(METRICS)]
        self._key = KEYS[seed // len(METRICS) % len(KEYS)]
        self._base = int(self._rng.choice([40, 150, 300]))
        self._deleting = float(self._rng.choice([0.2, 0.4, 0.7]))
        self._known: dict[int, Change] = {}
        self._matrices: dict[int, NDArray[np.float32]] = {}
        names = [f"row-{i}" for i in range(self._base)] + [f"new-{i}" for i in range(NEW)]
        matrix = matrix_of(self._rng)
        self._head = Plain(names, matrix, self._metric)
        for place in range(self._base):
            self._head.apply(Change(f"row-{place}", random_row(self._rng) % 4, json.dumps(PAYLOADS[place % 12])))
        self._alias: list[int] = []
        self._built(matrix)
        self._store.promote(1)
        self._alias = [1]
        self._hits = self._wanted = 0
        self._process: BaseProcess | None = None
        self._reports: Connection | None = None
        if others:
            self._process, self._reports = start_writer(self._store.folder, names, seed)
        self._workers = [self._opened(1) for _ in range(workers)]

    def step(self) -> None:
        """Run one operation, drawn by its weight."""
        chances = np.array(list(WEIGHTS.values()))
        name = str(self._rng.choice(list(WEIGHTS), p=chances / chances.sum()))
        getattr(self, f"_{name.replace(' ', '_')}")(self._workers[int(self._rng.integers(len(self._workers)))])
        self.done[name] += 1

    def settle(self) -> None:
        """Check the end: all workers at the end of the log agree, and so does a newly opened store."""
        self._drain_reports()
        self._crash(self._workers[0])
        for worker in self._workers:
            self._look(worker)
            self._search(worker)
        if self._wanted and self._hits < FOUND * self._wanted:
            raise MismatchError(f"{self._key} found {self._hits} of {self._wanted}")

    def close(self) -> None:
        for worker in self._workers:
            worker.log.close()
        self._drain_reports()

    # Operations that change items

    def _upsert(self, worker: Worker) -> None:
        self._write(worker, random_changes(self._rng, self._head.names, 1, deleting=0))

    def _delete(self, worker: Worker) -> None:
        there = worker.plain.present()
        names = there if there and self._rng.random() < 0.7 else self._head.names
        self._write(worker, random_changes(self._rng, names, 1, deleting=1))

    def _batch(self, worker: Worker) -> None:
        count = int(self._rng.integers(2, 40))
        self._write(worker, random_changes(self._rng, self._head.names, count, deleting=self._deleting))

    def _write(self, worker: Worker, changes: list[Change]) -> None:
        last = worker.log.append(changes)
        for place, change in enumerate(changes, start=last - len(changes) + 1):
            self._learn(dataclasses.replace(change, sequence=place))
        if self._rng.random() < 0.8:  # as a service does; otherwise this worker reads the change later, like the others
            self._catch_up(worker, most=1_000)

    def _prune(self, worker: Worker) -> None:
        last = worker.log.last()
        worker.log.prune()
        if worker.log.last() < last:
            raise MismatchError(f"sequence {worker.log.last()} after {last}")
        for each in self._workers:  # until then, a worker that is behind does not know what was replaced
            self._catch_up(each, most=10_000)

    # Operations that search

    def _search(self, worker: Worker) -> None:
        rows = np.stack([np.clip(random_row(self._rng), -3, 3) for _ in range(int(self._rng.integers(1, 4)))])
        queries = worker.plain.embed(rows)
        limit = int(self._rng.choice([1, 3, 10, 50, 500]))
        found = worker.collection.searcher.search(queries, limit)
        for number, query in enumerate(queries):
            scores = worker.plain.scores(query)
            self._check(worker, _result(worker, found, number), scores, worker.plain.nearest(scores, limit))
        if not ((found.novelty > 0) & (found.novelty <= 1)).all():
            raise MismatchError(f"novelty {found.novelty}")

    def _filtered(self, worker: Worker) -> None:
        filter_ = FILTERS[int(self._rng.integers(len(FILTERS)))]
        query = worker.plain.embed(np.clip(random_row(self._rng), -3, 3)[None])
        limit, scores = int(self._rng.choice([1, 5, 400])), worker.plain.scores(query[0])
        wanted = worker.plain.nearest(scores, limit, filter_)
        try:
            found = worker.collection.searcher.search(query, limit, read_filter(filter_))
        except QueryError as error:  # no present item has the field; a deleted item may have had it
            if "not" in json.dumps(filter_) or not wanted:
                return
            raise MismatchError(f"filter {filter_}: {error}") from error
        self._check(worker, _result(worker, found, 0), scores, wanted, exact=True)

    def _by_id(self, worker: Worker) -> None:
        name = self._head.names[int(self._rng.integers(len(self._head.names)))]
        plain, limit = worker.plain, int(self._rng.choice([1, 4, 500]))
        if not plain.found()[plain.places[name]]:
            with contextlib.suppress(UnknownItemError):
                worker.collection.searcher.search_items([name], limit)
                raise MismatchError(f"{name} was deleted, but a search by its id succeeded")
            return
        scores = plain.scores(plain.embeddings[plain.places[name]])
        found = worker.collection.searcher.search_items([name], limit)
        self._check(worker, _result(worker, found, 0), scores, plain.nearest(scores, limit, own=name))

    def _look(self, worker: Worker) -> None:
        items, plain = worker.collection.items, worker.plain
        there = plain.found()
        if items.count != int(there.sum()):
            raise MismatchError(f"count {items.count}, not {int(there.sum())}")
        for place in self._rng.integers(len(plain.names), size=5):
            at = items.find(plain.names[place])
            if (at is not None) != there[place]:
                raise MismatchError(f"{plain.names[place]} is at {at}")
            if at is not None and json.loads(items.payload_json(at)) != json.loads(plain.payloads[place]):
                raise MismatchError(f"payload of {plain.names[place]}: {items.payload_json(at)}")

    def _agree(self, worker: Worker) -> None:
        """Check that all workers on one version return exactly the same once they have applied the same changes."""
        queries = worker.plain.embed(np.clip(random_row(self._rng), -3, 3)[None])
        for each in self._workers:
            self._catch_up(each, most=10_000)
        same = [
            _result(each, each.collection.searcher.search(queries, 20), 0)
            for each in self._workers
            if each.collection.number == worker.collection.number
            and each.collection.applied == worker.collection.applied
        ]
        if any(result != same[0] for result in same):
            raise MismatchError(f"workers disagree: {same}")

    # Operations on workers and versions

    def _catch_up(self, worker: Worker, most: int = 0) -> None:
        most = most or int(self._rng.integers(1, 30))
        changes = worker.log.read(worker.collection.applied, most)
        worker.collection.apply(changes, embedded(worker.collection.version, changes))
        self._follow(worker.plain, worker.collection.applied)

    def _crash(self, worker: Worker) -> None:
        for each in self._workers:
            each.log.close()
        self._store = Store(self._store.folder)
        self._check_alias()
        self._workers = [self._opened(self._store.champion_number()) for _ in self._workers]

    def _adopt(self, worker: Worker) -> None:
        worker.log.close()
        self._workers[self._workers.index(worker)] = self._opened(self._store.champion_number())

    def _compact(self, worker: Worker) -> None:
        try:
            number = compact(self._store)
        except (StoreError, TargetError):
            if self._opened(self._alias[-1]).collection.items.count > len(EVERYTHING):
                raise
            return
        if number is not None:
            self._matrices[number] = self._matrices[self._alias[-1]]
            self._alias[-1] = number
        self._check_alias()

    def _retrain(self, worker: Worker) -> None:
        self._follow(self._head, worker.log.last())
        number = self._built(matrix_of(self._rng))
        if number and self._rng.random() < 0.7:
            self._store.promote(number, instead_of=self._alias[-1])
            self._alias.append(number)
        self._check_alias()

    def _promote(self, worker: Worker) -> None:
        number = int(self._rng.choice(self._store.numbers()))
        self._store.promote(number)
        if number != self._alias[-1]:
            self._alias.append(number)
        self._check_alias()

    def _roll_back(self, worker: Worker) -> None:
        try:
            self._store.rollback()
            self._alias.pop()
        except StoreError:
            if len(self._alias) > 1:
                raise
        self._check_alias()

    # Checks

    def _check(
        self,
        worker: Worker,
        result: tuple[list[str], list[float]],
        scores: Any,
        wanted: list[str],
        *,
        exact: bool = False,
    ) -> None:
        """`scores`: (names,) the scores that items must have; `exact`: require exact results from any index."""
        names, scores_found = result
        places = [worker.plain.places[name] for name in names]
        right = scores[places]
        about = f"version {worker.collection.number}, {self._metric}, {self._key}: {names} {scores_found}, not {wanted}"
        if len(set(names)) != len(names) or not np.allclose(scores_found, right, rtol=1e-6, atol=1e-6):
            raise MismatchError(about)
        if not worker.plain.found()[places].all():
            raise MismatchError(f"found a deleted item, {about}")
        if exact or self._key in EXACT:
            best = scores[[worker.plain.places[name] for name in wanted]]
            near = self._metric == "cosine" and len(names) == len(wanted) and np.allclose(scores_found, best, atol=1e-6)
            if names != wanted and not near:  # with cosine, items that differ only by rounding may swap places
                raise MismatchError(about)
            return
        self._hits += len(set(names) & set(wanted))
        self._wanted += len(wanted)

    def _check_alias(self) -> None:
        alias = self._store.champion()
        if alias is None or [*alias.replaced, alias.version] != self._alias:
            raise MismatchError(f"champion {alias}, not {self._alias}")

    def _learn(self, change: Change) -> None:
        if change.sequence in self._known:
            raise MismatchError(f"sequence {change.sequence} was given twice")
        self._known[change.sequence] = change

    def _follow(self, plain: Plain, upto: int) -> None:
        """Apply to a dictionary the acknowledged changes of both processes, up to a sequence number."""
        for sequence in range(plain.applied + 1, upto + 1):
            while sequence not in self._known:
                if self._reports is None or not self._reports.poll(30):
                    raise MismatchError(f"a phantom: change {sequence}, which was never written")
                for change in self._reports.recv():
                    self._learn(change)
            plain.apply(self._known[sequence])

    def _drain_reports(self) -> None:
        """Read all remaining reports of the other process."""
        if self._process and self._reports:
            with contextlib.suppress(EOFError):
                while True:
                    for change in self._reports.recv():
                        self._learn(change)
            self._process.join()
            self._process = self._reports = None

    def _opened(self, number: int) -> Worker:
        collection = open_collection(self._store, number)
        if self._key in EVERYTHING and collection.version.index.spec.key == self._key:
            collection.version.index.set_search(EVERYTHING[self._key])
        self._follow(self._head, collection.applied)
        plain = self._head.copy(self._matrices[number], self._metric)
        return Worker(collection, ChangeLog(self._store.folder), plain)

    def _built(self, matrix: NDArray[np.float32]) -> int | None:
        """A version of all current items by an encoder; None if there are too few items."""
        plain = self._head.copy(matrix, self._metric)
        names = plain.present()
        if len(names) < 30:
            return None
        places = [plain.places[name] for name in names]
        rows = made_rows(plain.rows[places], names, [json.loads(plain.payloads[place]) for place in places])
        encoder = encoder_at(self._folder / f"encoder-{len(self._matrices)}", matrix)
        target = Target(recall=0.3, key=self._key)
        number = build(rows, encoder, self._store, metric=self._metric, target=target, device="cpu")
        self._matrices[number] = matrix
        return number


def _result(worker: Worker, found: SearchResult, row: int) -> tuple[list[str], list[float]]:
    places = [int(place) for place in found.positions[row] if place >= 0]
    return [worker.collection.items.id_at(place) for place in places], found.scores[row][: len(places)].tolist()

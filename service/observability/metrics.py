"""Metrics in Prometheus's format, of one process or merged from several.

Workers share their numbers through files in a folder, which `share` sets before they are spawned.
"""

import asyncio
import os
import time
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookalike.index.changes.log import LogSize
from lookalike.service.observability.drift import DriftWatch
from lookalike.service.observability.logs import NOTE, Note, log_request, request_id
from lookalike.training.array_types import Doubles

__all__ = ["Metrics", "MetricsMiddleware", "Outcome", "Reason", "forget", "share"]

Reason = Literal["queue_full", "deadline", "client_gone"]
Outcome = Literal["served", "refused"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
UNMATCHED = "none"
"""The route of a request that matches no route, so that clients cannot create label values."""
JUDGED_TOGETHER = 256
"""p-values of queries that the drift test judges together."""
SHARE_SECONDS = 5.0
"""Seconds between two exchanges of drift evidence with the other processes."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WORK = (0.00005, 0.0001, 0.00025, *_SECONDS)
_P_VALUES = (0.001, 0.005, 0.01, 0.02, 0.05, *(tenths / 10 for tenths in range(1, 11)))
_ROWS = tuple(2.0**power for power in range(13))
_CALLS = tuple(2.0**power for power in range(9))


class Metrics:
    """The metrics of one app. Each method takes some microseconds; call them from one thread."""

    def __init__(self, drift: DriftWatch | None = None) -> None:
        """`drift`: a watch that shares its evidence; by default a watch of this process alone."""
        self._registry = CollectorRegistry()
        self._drift = drift or DriftWatch()
        self._p_values: list[Doubles] = []  # of queries to the serving version, not yet judged
        self._waiting = self._serving = 0
        self._count_requests()
        self._show_version()

    def _count_requests(self) -> None:
        requests = self._counter("requests", "Requests answered.", "route", "status")
        text = "From the request's head to the answer's last byte."
        seconds = self._histogram("request_seconds", text, _SECONDS, "route")
        rows = self._counter("rows", "Queries and rows answered.", "route")
        rejected = self._counter("rejected", "Calls that failed before they were answered.", "reason")
        self._requests, self._seconds, self._rows = cache(requests.labels), cache(seconds.labels), cache(rows.labels)
        self._rejected = {reason: rejected.labels(reason) for reason in get_args(Reason)}
        self._queue = self._gauge("queue_calls", "Calls that wait for a batch.", "livesum")
        self._batch_rows = self._histogram("batch_rows", "Rows of a batch.", _ROWS)
        self._batch_calls = self._histogram("batch_calls", "Calls of a batch.", _CALLS)
        self._encode = self._histogram("encode_seconds", "Time to encode a batch.", _WORK)
        self._search = self._histogram("search_seconds", "Time to search for a batch.", _WORK)

    def _show_version(self) -> None:
        self._version = self._gauge("version", "The version that serves.", "livemostrecent")
        self._items = self._gauge("items", "Items that a search can find.", "livemostrecent")
        text = "The last change of the change log that answers include."
        self._sequence = self._gauge("item_sequence", text, "livemin")
        self._log_bytes = self._gauge("item_log_bytes", "Size of the change log's files.", "livemostrecent")
        text = "The share of its changes that a later change superseded."
        self._superseded = self._gauge("item_log_superseded_ratio", text, "livemostrecent")
        self._refused = self._gauge("refused", "1 while a version is refused, else 0.", "livemax")
        self._refused_version = self._gauge("refused_version", "The version that is refused, or 0.", "livemax")
        changes = self._counter("version_changes", "Changes to another version.", "outcome")
        self._changes = {outcome: changes.labels(outcome) for outcome in get_args(Outcome)}
        text = "p-values of the queries: how often a normal row is as unusual."
        self._novelty = _Bulk("lookalike_novelty", text, buckets=_P_VALUES, registry=self._registry)
        text = "Evidence that the queries are no longer like the data, log10."
        self._evidence = self._gauge("drift_evidence", text, "livemax")
        self._alarm = self._gauge("drift_alarm", "1 after a drift alarm, until another encoder serves.", "livemax")

    def request(self, route: str, status: int, seconds: float, rows: int = 0) -> None:
        """Count an answered request and its rows or queries."""
        self._requests(route, status).inc()
        self._seconds(route).observe(seconds)
        if rows:
            self._rows(route).inc(rows)

    def queued(self, depth: int) -> None:
        """Set the number of waiting calls."""
        self._queue.set(depth)

    def rejected(self, reason: Reason) -> None:
        """Count a call that failed before it was answered."""
        self._rejected[reason].inc()

    def batched(self, rows: int, calls: int, encoding: float, searching: float) -> None:
        """Count a batch, with the seconds to encode and to search; 0 without a search."""
        self._batch_rows.observe(rows)
        self._batch_calls.observe(calls)
        self._encode.observe(encoding)
        if searching:
            self._search.observe(searching)

    def novelty(self, values: Doubles, version: int) -> None:
        """Count (n,) p-values of a version's queries from outside; items and the canary query say nothing about drift.

        The drift test judges some hundreds at a time, because one by one takes ten times as long. It leaves out the
        queries to a version that no longer serves.
        """
        if len(values) == 0:
            return
        self._novelty.observe_all(values)
        if version == self._serving:
            self._p_values.append(values)
            self._waiting += len(values)
            if self._waiting >= JUDGED_TOGETHER:
                self._judge()

    async def share_drift(self) -> None:
        """Exchange drift evidence with the other processes, until cancelled."""
        while True:
            self._judge()
            await self._drift.exchange()
            self._publish_drift()
            await asyncio.sleep(SHARE_SECONDS)

    def close(self) -> None:
        """Save the drift evidence for the next process."""
        self._judge()
        self._drift.close()

    def serving(self, version: int, rows: int, calibration: str) -> None:
        """Set the serving version; none is refused now. For rows and calibration see `DriftWatch.serve`."""
        self._judge()
        self._serving = version
        self._drift.serve(version, rows, calibration)
        self._publish_drift()
        self._version.set(version)
        self.refused(0)

    def items(self, count: int, sequence: int) -> None:
        """Set the number of items, and the last change of the change log that answers include."""
        self._items.set(count)
        self._sequence.set(sequence)

    def log(self, size: LogSize) -> None:
        """Set the size of the change log."""
        self._log_bytes.set(size.bytes)
        self._superseded.set(size.superseded / max(1, size.changes))

    def refused(self, number: int) -> None:
        """Set the version that is the champion but cannot serve; 0 for none."""
        self._refused.set(min(number, 1))
        self._refused_version.set(number)

    def changed(self, outcome: Outcome) -> None:
        """Count a change to another version, which was served or refused."""
        self._changes[outcome].inc()

    def render(self) -> bytes:
        """All metrics as text, merged from all workers."""
        self._publish_drift()
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)

    def _judge(self) -> None:
        """Give the collected p-values to the drift test."""
        if self._p_values:
            self._drift.add(np.concatenate(self._p_values), self._serving)
            self._p_values, self._waiting = [], 0

    def _publish_drift(self) -> None:
        self._judge()
        drift = self._drift.current()
        self._evidence.set(max(0.0, drift.evidence))
        self._alarm.set(drift.drifted)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"lookalike_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"lookalike_{name}", text, labels, buckets=buckets, registry=self._registry)

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemin", "livemax", "livemostrecent"]) -> Gauge:
        return Gauge(f"lookalike_{name}", text, registry=self._registry, multiprocess_mode=mode)


class _Bulk(Histogram):
    """A histogram that counts many values at once."""

    def observe_all(self, values: Doubles) -> None:
        """(n,) finite values, n > 0."""
        if len(values) == 1:
            self.observe(float(values[0]))
            return
        self._sum.inc(float(values.sum()))
        counts = np.bincount(np.searchsorted(self._upper_bounds, values))
        for bucket in np.flatnonzero(counts).tolist():
            self._buckets[bucket].inc(int(counts[bucket]))


def share(folder: Path) -> None:
    """Let workers that are spawned later share their numbers through `folder`; remove those of earlier workers."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
    os.environ[FOLDER] = str(folder)


def forget(pid: int) -> None:
    """Remove the gauges of a dead worker; its counters stay."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


class MetricsMiddleware:
    """Counts, times and logs each request under its route's template, and gives each answer its X-Request-Id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        note = scope[NOTE] = Note(request_id(scope["headers"]))
        status = 500
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server removes the body

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (b"x-request-id", note.request_id.encode("ascii"))
                message = {**message, "headers": [*message["headers"], header]}
            await send(message)

        try:
            await self.app(inner, receive, watch)
        finally:
            seconds = time.perf_counter() - started
            inner["method"] = scope["method"]
            route = getattr(inner.get("route"), "path", UNMATCHED)
            self.metrics.request(route, status, seconds, note.rows)
            log_request(inner, note, route=route, status=status, seconds=seconds)

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from lookalike.index.changes.change import Change
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.drift.drift import FOLDER as DRIFT
from lookalike.index.drift.drift import drift_of
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.observability.metrics import FOLDER, Metrics, forget, share
from lookalike.service.settings import Settings
from tests.service.helpers import serving, settings_for

Labels = tuple[str, ...]

WORKER = """
import sys
import numpy as np
from lookalike.service.observability.metrics import Metrics
metrics, number = Metrics(), int(sys.argv[1])
metrics.serving(number, 143, str(number))
metrics.items(10 * number, number)
metrics.request("/search", 200, 0.003, rows=number)
metrics.queued(number)
metrics.novelty(np.full(90, 0.001) if number == 2 else np.array([0.5]), number)
metrics.render()
metrics.refused(3 if number == 2 else 0)
print("done", flush=True)
sys.stdin.read()
"""


def fail(app: FastAPI) -> None:
    """A failing route with a parameter."""

    @app.get("/fail/{name}")
    async def failing(name: str) -> None:
        raise RuntimeError(name)


@pytest.fixture
async def counted(settings: Settings, version: Version) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings, version, fail) as client:
        yield client


def read(text: str, name: str) -> dict[Labels, float]:
    """Values by their labels' values, in the order of their labels' names."""
    return {
        tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def shown(metrics: Metrics, name: str) -> dict[Labels, float]:
    return read(metrics.render().decode(), name)


async def samples(client: httpx.AsyncClient, name: str) -> dict[Labels, float]:
    return read((await client.get("/metrics")).text, name)


@contextmanager
def worker(number: int) -> Iterator[int]:
    """Another process that has counted something and still runs; its id."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WORKER, str(number)], text=True, **pipes) as popen:  # type: ignore[call-overload]
        try:
            assert popen.stdout.readline() == "done\n"
            yield popen.pid
        finally:
            popen.kill()


@pytest.mark.anyio
async def test_requests_are_counted_by_the_routes_template_and_status(counted: httpx.AsyncClient) -> None:
    for path in ("/livez", "/livez", "/readyz", "/fail/one", "/fail/two", "/made/up", "/made-up?x=1"):
        await counted.get(path)
    await counted.get("/search")
    for body in ('{"ids": ["0"]}', '{"ids": ["none"]}', "{"):
        await counted.post("/search", content=body)
    expected = {
        ("/livez", "200"): 2,
        ("/readyz", "200"): 1,
        ("/fail/{name}", "500"): 2,
        ("none", "404"): 2,
        ("/search", "405"): 1,
        ("/search", "200"): 1,
        ("/search", "404"): 1,
        ("/search", "400"): 1,
    }
    assert await samples(counted, "lookalike_requests_total") == expected
    seconds = await samples(counted, "lookalike_request_seconds_count")
    assert seconds.pop(("/metrics",)) == 1
    by_route = {route: sum(n for (r, _), n in expected.items() if r == route) for route, _ in expected}
    assert seconds == {(route,): count for route, count in by_route.items()}


@pytest.mark.anyio
async def test_counts_rows_by_route(counted: httpx.AsyncClient) -> None:
    await counted.post("/embed", json={"inputs": [[0.5] * 64] * 3})
    await counted.post("/embed", json={"inputs": [[0.5] * 63] * 5})
    await counted.post("/search", json={"ids": ["0", "1"]})
    assert await samples(counted, "lookalike_rows_total") == {("/embed",): 3, ("/search",): 2}


@pytest.mark.anyio
async def test_the_version_and_its_items_stand_there(counted: httpx.AsyncClient) -> None:
    assert await samples(counted, "lookalike_version") == {(): 1}
    assert await samples(counted, "lookalike_items") == {(): 1437}
    assert await samples(counted, "lookalike_refused") == {(): 0}


@pytest.mark.anyio
async def test_the_novelty_is_that_of_queries_from_outside(counted: httpx.AsyncClient) -> None:
    noise = {"inputs": np.random.default_rng(0).uniform(0, 16, (20, 64)).tolist()}
    await counted.post("/search", json={"ids": ["0", "1"]})
    await counted.get("/readyz")
    assert await samples(counted, "lookalike_novelty_count") == {(): 0}
    told = [hit["novelty"] for hit in (await counted.post("/search", json=noise)).json()["results"]]
    assert await samples(counted, "lookalike_novelty_count") == {(): 20}
    assert (await samples(counted, "lookalike_novelty_sum"))[()] == pytest.approx(sum(told))
    assert (await samples(counted, "lookalike_drift_evidence"))[()] > 3


@pytest.mark.anyio
async def test_the_drift_test_continues_after_a_compaction(store_copy: Store) -> None:
    shutil.rmtree(store_copy.folder / DRIFT, ignore_errors=True)  # a service of another test may have served it
    noise = {"inputs": np.random.default_rng(0).uniform(0, 16, (40, 64)).tolist()}
    apps: list[FastAPI] = []
    async with serving(settings_for(store_copy.folder), store_copy.open_champion(), apps.append) as client:
        await client.post("/search", json=noise)
        assert await samples(client, "lookalike_drift_alarm") == {(): 1}
        log = ChangeLog(store_copy.folder)
        log.append([Change(store_copy.open_champion().items.id_at(0))])
        log.close()
        assert compact(store_copy) == 2
        await apps[0].state.serving.follow()
        assert await samples(client, "lookalike_version") == {(): 2}
        assert await samples(client, "lookalike_drift_alarm") == {(): 1}
    drift = drift_of(store_copy)
    assert (drift.version, drift.queries, drift.drifted) == (2, 40, True)


@pytest.mark.anyio
async def test_two_apps_do_not_share_their_counts(settings: Settings, version: Version) -> None:
    async with serving(settings, version) as one, serving(settings, version) as other:
        await one.get("/livez")
        assert await samples(other, "lookalike_requests_total") == {}


@pytest.mark.anyio
@pytest.mark.parametrize("given", ["a", "x" * 128, "A.b_c-9"])
@pytest.mark.parametrize("path", ["/livez", "/fail/now", "/made-up", "/search"])
async def test_a_request_keeps_its_id(counted: httpx.AsyncClient, path: str, given: str) -> None:
    answer = await counted.get(path, headers={"X-Request-Id": given})
    assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.anyio
@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", 'a"b', "é"])
@pytest.mark.parametrize("path", ["/livez", "/fail/now"])
async def test_a_request_with_an_invalid_id_gets_a_new_id(counted: httpx.AsyncClient, path: str, given: str) -> None:
    headers = {b"X-Request-Id": given.encode("latin-1")}
    made = [(await counted.get(path, headers=headers)).headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in made)


def test_seconds_are_counted_from_half_a_millisecond_to_ten_seconds() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.0006, 10.0, 11.0):
        metrics.request("/search", 200, seconds)
    buckets = shown(metrics, "lookalike_request_seconds_bucket")
    assert [float(bound) for bound, _ in buckets][0::13] == [0.0005, 10.0]
    assert [buckets[bound, "/search"] for bound in ("0.0005", "0.001", "5.0", "10.0", "+Inf")] == [1, 2, 2, 3, 4]
    assert shown(metrics, "lookalike_request_seconds_sum") == {("/search",): pytest.approx(21.0011)}


def test_batches_are_counted_by_rows_and_calls() -> None:
    metrics = Metrics()
    metrics.batched(3, 2, 0.1, 0.0)
    metrics.batched(1, 1, 0.1, 0.0)
    rows, calls = (shown(metrics, f"lookalike_batch_{of}_bucket") for of in ("rows", "calls"))
    assert [rows[bound,] for bound in ("1.0", "2.0", "4.0", "4096.0")] == [1, 1, 2, 2]
    assert [calls[bound,] for bound in ("1.0", "2.0", "256.0")] == [1, 2, 2]
    assert shown(metrics, "lookalike_batch_rows_sum") == {(): 4}


def test_work_is_timed() -> None:
    metrics = Metrics()
    metrics.batched(1, 1, 0.00004, 0.3)
    assert shown(metrics, "lookalike_encode_seconds_bucket")["5e-05",] == 1
    assert shown(metrics, "lookalike_search_seconds_bucket")["0.25",] == 0
    assert shown(metrics, "lookalike_search_seconds_bucket")["0.5",] == 1


def test_what_waits_and_what_was_rejected() -> None:
    metrics = Metrics()
    metrics.queued(7)
    metrics.queued(5)
    metrics.rejected("deadline")
    metrics.rejected("deadline")
    assert shown(metrics, "lookalike_queue_calls") == {(): 5}
    rejected = {("queue_full",): 0, ("deadline",): 2, ("client_gone",): 0}
    assert shown(metrics, "lookalike_rejected_total") == rejected


def test_a_refused_version_stands_there_until_one_serves() -> None:
    metrics = Metrics()
    metrics.serving(4, 143, "four")
    metrics.refused(5)
    metrics.changed("refused")
    assert [shown(metrics, f"lookalike_{name}") for name in ("version", "refused", "refused_version")] == [
        {(): 4},
        {(): 1},
        {(): 5},
    ]
    metrics.serving(6, 143, "six")
    metrics.items(20, 5)
    metrics.changed("served")
    assert [
        shown(metrics, f"lookalike_{name}")
        for name in ("version", "items", "item_sequence", "refused", "refused_version")
    ] == [
        {(): 6},
        {(): 20},
        {(): 5},
        {(): 0},
        {(): 0},
    ]
    assert shown(metrics, "lookalike_version_changes_total") == {("served",): 1, ("refused",): 1}


def one_by_one(metrics: Metrics, values: list[float]) -> None:
    for value in values:
        metrics.novelty(np.array([value]), 1)


def at_once(metrics: Metrics, values: list[float]) -> None:
    metrics.novelty(np.array(values), 1)


@pytest.mark.parametrize("told", [one_by_one, at_once])
def test_p_values_are_counted_in_their_buckets(told: Callable[[Metrics, list[float]], None]) -> None:
    metrics = Metrics()
    metrics.novelty(np.empty(0), 1)
    told(metrics, [0.0005, 0.001, 0.003, 0.5, 1.0])
    counts = {float(bound): count for (bound,), count in shown(metrics, "lookalike_novelty_bucket").items()}
    assert list(counts) == [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, np.inf]
    assert list(counts.values()) == [2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5]
    assert shown(metrics, "lookalike_novelty_sum") == {(): pytest.approx(1.5045)}


def test_the_drift_is_that_of_the_serving_encoders_queries() -> None:
    metrics = Metrics()
    metrics.serving(1, 143, "one")
    assert shown(metrics, "lookalike_drift_evidence") == {(): 0}
    metrics.novelty(np.full(60, 0.001), 1)
    assert shown(metrics, "lookalike_drift_evidence")[()] > 6
    assert shown(metrics, "lookalike_drift_alarm") == {(): 1}
    metrics.serving(1, 143, "one")
    metrics.novelty(np.full(500, 0.9), 1)
    assert shown(metrics, "lookalike_drift_alarm") == {(): 1}
    metrics.serving(2, 143, "one")  # a compaction
    metrics.novelty(np.full(5, 0.9), 2)
    assert shown(metrics, "lookalike_drift_alarm") == {(): 1}
    metrics.serving(3, 143, "three")
    metrics.novelty(np.full(60, 0.001), 2)
    assert shown(metrics, "lookalike_drift_evidence") == {(): 0}
    assert shown(metrics, "lookalike_drift_alarm") == {(): 0}


def test_workers_numbers_are_merged_and_the_gauges_of_dead_ones_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, "")
    (tmp_path / "counter_1.db").write_bytes(b"of an earlier run")
    share(tmp_path)
    assert os.environ[FOLDER] == str(tmp_path)
    watching = Metrics()  # it counts nothing, because this process started before `share`
    with worker(1):
        with worker(2) as two:
            both = watching.render().decode()
        forget(two)
        left = watching.render().decode()
    for text in (both, left):
        assert read(text, "lookalike_requests_total") == {("/search", "200"): 2}
        assert read(text, "lookalike_rows_total") == {("/search",): 3}
        assert read(text, "lookalike_novelty_count") == {(): 91}
        assert read(text, "lookalike_request_seconds_bucket")["0.005", "/search"] == 2
    assert [read(text, "lookalike_drift_evidence")[()] > 6 for text in (both, left)] == [True, False]
    gauges = ("version", "items", "queue_calls", "refused", "refused_version", "drift_alarm")
    assert [read(both, f"lookalike_{name}")[()] for name in gauges] == [2, 20, 3, 1, 3, 1]
    assert [read(left, f"lookalike_{name}")[()] for name in gauges] == [1, 10, 1, 0, 0, 0]

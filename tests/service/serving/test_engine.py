import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError, UnknownItemError
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.errors import BusyError, DeadlineError, DisconnectedError
from lookalike.service.observability.metrics import Metrics
from lookalike.service.serving.engine import (
    INLINE_WORK,
    MAX_BATCH,
    ROW_WORK,
    Engine,
    QueueLimits,
    engine_thread,
    use_threads,
)
from tests.service.changing import ROWS, assert_of_one_version, changing_store, held, holds, listening_to, metric, until
from tests.service.helpers import answered, call, pixels_of, search, search_ids

pytestmark = pytest.mark.anyio
Rows2D = NDArray[np.float32]
T = TypeVar("T")
MANY = ROWS.repeat(5, axis=0)
"""More rows than the event loop answers."""
INLINE_ROWS = INLINE_WORK // ROW_WORK
Answer = Rows2D | SearchResult
Call = Callable[[Engine], Awaitable[Answer]]
THREES = read_filter({"field": "label", "equal": 3})
SMALL = read_filter({"field": "label", "range": {"lt": 5}})


@pytest.fixture
async def engine(version: Version) -> AsyncIterator[Engine]:
    use_threads(1)
    with engine_thread() as pool:
        yield Engine(Collection(version), pool)


def same(one: Answer, other: Answer) -> None:
    if isinstance(one, SearchResult) and isinstance(other, SearchResult):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_allclose(one.novelty, other.novelty, atol=0.01)
    else:
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-5)


async def started(call: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
    """Start a call and let it wait or work."""
    future = asyncio.ensure_future(call)
    for _ in range(3):
        await asyncio.sleep(0)
    return future


def counted(metrics: Metrics, name: str) -> float:
    lines = metrics.render().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"lookalike_{name} "))


def rejected(metrics: Metrics, reason: str) -> float:
    return counted(metrics, f'rejected_total{{reason="{reason}"}}')


async def alone(version: Version, asked: Call) -> Answer:
    with engine_thread() as pool:
        return await asked(Engine(Collection(version), pool))


def threads() -> int:
    return sum(thread.name.startswith("engine") for thread in threading.enumerate())


async def test_embeddings_are_the_versions(engine: Engine, version: Version, rows: Rows2D) -> None:
    np.testing.assert_allclose(await engine.embed(rows), version.embed(rows), atol=1e-6)


async def test_answers_a_batch_like_single_calls(engine: Engine, version: Version, rows: Rows2D) -> None:
    """All kinds, several limits and filters in one batch; the last makes it too large for the event loop."""
    encoded = version.embed(rows[5:9])
    calls: list[Call] = [
        lambda engine: engine.embed(rows[:1]),
        lambda engine: engine.embed(rows[1:4]),
        lambda engine: search(engine, rows[3:6], 3, encoded=False),
        lambda engine: search(engine, encoded, 3, encoded=True),
        lambda engine: search(engine, encoded[:1], 100, encoded=True),
        lambda engine: search_ids(engine, ["0", "2"], 3),
        lambda engine: search_ids(engine, ["2"], 1),
        lambda engine: search_ids(engine, ["2", "3"], 3, THREES),
        lambda engine: search(engine, rows[3:6], 3, encoded=False, filter_=THREES),
        lambda engine: search(engine, rows[5:6], 3, encoded=False, filter_=SMALL),
        lambda engine: search(engine, encoded, 3, encoded=True, filter_=SMALL),
        lambda engine: search(engine, rows[:INLINE_ROWS], 7, encoded=False),
    ]
    for batch in (calls[:-1], calls):
        together = await asyncio.gather(*(asked(engine) for asked in batch))
        for asked, answer in zip(batch, together, strict=True):
            same(answer, await alone(version, asked))


@pytest.mark.parametrize(("count", "expected"), [(INLINE_ROWS, 0), (INLINE_ROWS + 1, 1)])
async def test_only_a_large_batch_uses_a_thread(engine: Engine, rows: Rows2D, count: int, expected: int) -> None:
    before = threads()
    await engine.embed(rows[:count])
    assert threads() - before == expected


async def test_a_filtered_search_uses_a_thread_and_finds_only_passing_items(
    engine: Engine, version: Version, rows: Rows2D
) -> None:
    before = threads()
    found = await search(engine, rows[:2], 5, encoded=False, filter_=THREES)
    assert threads() - before == 1
    assert {version.items.payload_at(int(p))["label"] for p in found.positions.ravel()} == {3}


async def test_many_hits_are_much_work(engine: Engine, rows: Rows2D) -> None:
    before = threads()
    await search(engine, rows[:1], INLINE_WORK, encoded=False)
    assert threads() == before
    await search(engine, rows[:2], INLINE_WORK // 2 + 1, encoded=False)
    assert threads() - before == 1


async def test_a_batch_has_a_bound_that_one_call_may_pass(engine: Engine, version: Version, rows: Rows2D) -> None:
    large = np.resize(rows, (MAX_BATCH + 1, 64))
    first, last, single = await asyncio.gather(engine.embed(rows[:1]), engine.embed(large), engine.embed(rows[1:2]))
    np.testing.assert_allclose(last, version.embed(large), atol=1e-5)
    for answer, own in ((first, rows[:1]), (single, rows[1:2])):
        np.testing.assert_allclose(answer, version.embed(own), atol=1e-5)


@pytest.mark.parametrize("count", [1, 150], ids=["on the loop", "in the thread"])
async def test_a_client_that_disconnects_does_not_disturb_others(
    engine: Engine, version: Version, rows: Rows2D, count: int
) -> None:
    stays = [asyncio.ensure_future(engine.embed(rows[i : i + count])) for i in range(3)]
    before = threads()
    leaves = asyncio.ensure_future(engine.embed(rows[:150]))
    await asyncio.sleep(0)  # all wait now
    leaves.cancel()
    for i, answer in enumerate(await asyncio.gather(*stays)):
        np.testing.assert_allclose(answer, version.embed(rows[i : i + count]), atol=1e-5)
    assert leaves.cancelled()
    assert threads() - before == (count > INLINE_ROWS)  # the disconnected client causes no work


async def test_a_client_may_disconnect_while_the_thread_works(engine: Engine, version: Version, rows: Rows2D) -> None:
    leaves = asyncio.ensure_future(engine.embed(rows))
    for _ in range(3):
        await asyncio.sleep(0)
    leaves.cancel()
    answer = await engine.embed(rows[:2])
    np.testing.assert_allclose(answer, version.embed(rows[:2]), atol=1e-5)


@pytest.mark.parametrize("count", [1, 150], ids=["on the loop", "in the thread"])
@pytest.mark.parametrize("limit", [0, 3])
async def test_a_call_that_fails_does_not_disturb_others(
    limitless: Version, rows: Rows2D, too_large: Rows2D, count: int, limit: int
) -> None:
    with engine_thread() as pool:
        await fails_alone(Engine(Collection(limitless), pool), limitless, rows[:count], too_large, limit)


async def fails_alone(engine: Engine, version: Version, rows: Rows2D, too_large: Rows2D, limit: int) -> None:
    bad = search(engine, too_large, limit, encoded=False) if limit else engine.embed(too_large)
    failed, *found, embedded = await asyncio.gather(
        bad,
        search(engine, rows, 3, encoded=False),
        search(engine, version.embed(rows[:1]), 3, encoded=True),
        engine.embed(rows[:1]),
        return_exceptions=True,
    )
    assert isinstance(failed, QueryError)
    assert failed.field == "inputs"
    assert isinstance(embedded, np.ndarray)
    np.testing.assert_allclose(embedded, version.embed(rows[:1]), atol=1e-5)
    for answer in found:
        assert isinstance(answer, SearchResult)
        assert answer.positions[0].tolist() == version.searcher.search(version.embed(rows[:1]), 3).positions[0].tolist()


async def test_an_item_never_finds_itself(engine: Engine, version: Version) -> None:
    ids = [version.items.id_at(i) for i in range(len(version.items))][:60]
    answer = await search_ids(engine, ids, 1)
    assert (answer.positions >= 0).sum() == 60
    assert all(version.items.id_at(int(p)) != name for name, p in zip(ids, answer.positions[:, 0], strict=True))


async def test_an_item_asks_with_its_own_embedding(engine: Engine, version: Version) -> None:
    answer = await search_ids(engine, ["7"], 3)
    itself, *others = (await search(engine, pixels_of("7"), 4, encoded=False)).positions[0]
    assert itself == version.items.position("7")
    assert answer.positions[0].tolist() == others


async def test_an_unknown_id_is_named(engine: Engine) -> None:
    with pytest.raises(UnknownItemError, match="'none such'"):
        await search_ids(engine, ["0", "none such"], 3)


async def test_refuses_calls_beyond_the_waiting_rows(version: Version, rows: Rows2D) -> None:
    metrics = Metrics()
    with engine_thread() as pool:
        engine = Engine(Collection(version), pool, queue_limits=QueueLimits(rows=100), metrics=metrics)
        with held(engine._pool):
            working = await started(engine.embed(rows[:70]))
            waiting = [await started(engine.embed(rows[:count])) for count in (60, 40)]
            for count in (1, 100, 200):
                with pytest.raises(BusyError, match="at most 100 waiting rows"):
                    await engine.embed(rows[:count])
            known = await started(engine.answers_canary())  # the canary query is never refused
        for answer, count in zip((working, *waiting), (70, 60, 40), strict=True):
            np.testing.assert_allclose(await answer, version.embed(rows[:count]), atol=1e-5)
        assert await known
        assert rejected(metrics, "queue_full") == 3
        np.testing.assert_allclose(await engine.embed(rows[:1]), version.embed(rows[:1]), atol=1e-5)


async def test_answers_a_call_with_more_rows_than_may_wait_if_none_waits(version: Version, rows: Rows2D) -> None:
    with engine_thread() as pool:
        engine = Engine(Collection(version), pool, queue_limits=QueueLimits(rows=10))
        np.testing.assert_allclose(await engine.embed(rows), version.embed(rows), atol=1e-5)


async def test_fails_calls_after_their_deadline_working_or_waiting(version: Version, rows: Rows2D) -> None:
    metrics = Metrics()
    with engine_thread() as pool:
        engine = Engine(Collection(version), pool, queue_limits=QueueLimits(seconds=0.1), metrics=metrics)
        for turn in range(1, 4):
            with held(engine._pool):
                working = await started(engine.embed(rows))
                waiting = await started(search(engine, rows, 3, encoded=False))
                for error in await asyncio.gather(working, waiting, return_exceptions=True):
                    assert isinstance(error, DeadlineError)
                    assert error.expected == "an answer in 0.1 s"
            assert rejected(metrics, "deadline") == 2 * turn
            while engine._busy:
                await asyncio.sleep(0.001)
            np.testing.assert_allclose(await engine.embed(rows[:2]), version.embed(rows[:2]), atol=1e-5)
        assert engine._waiting == []


async def test_a_call_with_a_later_deadline_is_answered(engine: Engine, rows: Rows2D) -> None:
    """The canary query has an earlier deadline than the calls before it."""
    with held(engine._pool):
        patient = await started(engine.embed(rows))
        for _ in range(2):
            with pytest.raises(DeadlineError):
                await engine.answers_canary()
        assert not patient.done()
    assert np.asarray(await patient).shape == (len(rows), 8)
    assert await engine.answers_canary()


async def test_does_no_work_for_a_disconnected_client(version: Version, rows: Rows2D) -> None:
    metrics, gone = Metrics(), [False]
    with engine_thread() as pool:
        engine = Engine(Collection(version), pool, metrics=metrics)
        with held(engine._pool):
            working = await started(engine.embed(rows[:70], lambda: gone[0]))
            embedding = await started(engine.embed(rows[:90], lambda: gone[0]))
            searching = await started(search(engine, rows[:90], 3, encoded=False, is_disconnected=lambda: gone[0]))
            by_id = await started(search_ids(engine, ["0"], 3, is_disconnected=lambda: gone[0]))
            staying = await started(engine.embed(rows[:1]))
            gone[0] = True
        left = await asyncio.gather(embedding, searching, by_id, return_exceptions=True)
        assert [type(error) for error in left] == [DisconnectedError] * 3
        assert np.asarray(await staying).shape == (1, 8)
        assert np.asarray(await working).shape == (70, 8)  # it was already at work
        assert rejected(metrics, "client_gone") == 3
        assert (counted(metrics, "batch_rows_sum"), counted(metrics, "batch_rows_count")) == (71, 2)


async def test_what_waits_is_told(version: Version, rows: Rows2D) -> None:
    metrics = Metrics()
    with engine_thread() as pool:
        engine = Engine(Collection(version), pool, metrics=metrics)
        large = np.resize(rows, (MAX_BATCH, 64))
        calls = await asyncio.gather(engine.embed(large), engine.embed(rows[:1]), engine.embed(rows[1:2]))
        assert [len(answer) for answer in calls] == [MAX_BATCH, 1, 1]
        assert (counted(metrics, "batch_calls_sum"), counted(metrics, "batch_calls_count")) == (3, 2)
        assert counted(metrics, "queue_calls") == 0


async def test_a_version_that_forgot_its_answer_is_found_out(version: Version) -> None:
    with engine_thread() as pool:
        engine = Engine(Collection(version), pool)
        assert await engine.answers_canary()
    wrong = version.manifest.canary.model_copy(
        update={"scores": [score + 1 for score in version.manifest.canary.scores]}
    )
    other = replace(version, manifest=version.manifest.model_copy(update={"canary": wrong}))
    with engine_thread() as pool:
        assert not await Engine(Collection(other), pool).answers_canary()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return changing_store(tmp_path_factory.mktemp("store"))


async def test_what_may_not_wait_is_told_to_come_again_and_what_waits_is_answered(store: Store) -> None:
    async with listening_to(store, max_waiting=100) as (client, at_work):
        engine = at_work.current.engine
        with held(at_work._engines):
            working = asyncio.create_task(call(client, "/embed", inputs=MANY.tolist()))
            await until(holds(lambda: bool(engine._working)))
            waiting = asyncio.create_task(call(client, "/embed", inputs=MANY.tolist()))
            await until(holds(lambda: bool(engine._waiting)))
            answer = await client.post("/search", json={"inputs": ROWS[:1].tolist()})
            answered(answer, 429, "request")
            assert answer.headers["retry-after"] == "1"
        for told in (await working, await waiting):
            assert_of_one_version(told, MANY)
        assert_of_one_version(await call(client, "/search", inputs=ROWS[:1].tolist()), ROWS[:1])


async def test_what_takes_longer_than_a_call_may_is_told_so_each_time(store: Store) -> None:
    async with listening_to(store, deadline_seconds=0.1) as (client, at_work):
        for _ in range(2):
            with held(at_work._engines):
                for body in ({"inputs": MANY.tolist()}, {"inputs": ROWS[:1].tolist()}):
                    answered(await client.post("/embed", json=body), 504, "request")
            await until(holds(lambda: not at_work.current.engine._busy))
            assert_of_one_version(await call(client, "/embed", inputs=ROWS[:1].tolist()), ROWS[:1])
        assert await metric(client, 'rejected_total{reason="deadline"}') == 4


async def test_does_no_work_for_a_client_that_disconnects_before_its_turn(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"inputs": MANY.tolist()}).encode()
    lines = (
        "POST /embed HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", "")).encode()
    async with listening_to(store) as (client, at_work):
        engine = at_work.current.engine
        with held(at_work._engines):
            working = asyncio.create_task(call(client, "/embed", inputs=MANY.tolist()))
            await until(holds(lambda: bool(engine._working)))
            writers = [(await asyncio.open_connection("127.0.0.1", client.base_url.port))[1] for _ in range(3)]
            for writer in writers:
                writer.write(head + body)
            await until(holds(lambda: len(engine._waiting) == 3))
            staying = asyncio.create_task(call(client, "/embed", inputs=ROWS[:1].tolist()))
            await until(holds(lambda: len(engine._waiting) == 4))
            for writer in writers:
                writer.close()
            await until(holds(lambda: sum(waits.is_disconnected() for waits in engine._waiting) == 3))
        assert_of_one_version(await working, MANY)
        assert_of_one_version(await staying, ROWS[:1])
        text = (await client.get("/metrics")).text
        assert await metric(client, 'rejected_total{reason="client_gone"}') == 3
        assert await metric(client, "batch_rows_sum") == len(MANY) + 1
        assert 'lookalike_requests_total{route="/embed",status="499"} 3.0' in text
        assert 'status="500"' not in text
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []

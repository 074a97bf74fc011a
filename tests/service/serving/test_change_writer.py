"""Items of a running service: durable, and found by every process and every version."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import LogError
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.store import Store
from lookalike.service.errors import NotReadyError
from lookalike.service.observability.metrics import Metrics
from lookalike.service.serving.batching import Answer, Call, answer_all
from lookalike.service.serving.edits import delete, delete_matching, put
from lookalike.service.serving.serving import Health, Serving
from lookalike.service.serving.workers import WorkerBoard
from tests.factories import cloud, no_room
from tests.service.changing import ROWS, changing_store, until
from tests.service.helpers import search, settings_for

pytestmark = pytest.mark.anyio

NEW = cloud(600, 4, seed=8)
"""More changes than are applied together."""


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read only."""
    return changing_store(tmp_path_factory.mktemp("two-versions"))


@pytest.fixture
def store(two_versions: Store, tmp_path: Path) -> Store:
    """A copy, to change."""
    return Store(Path(shutil.copytree(two_versions.folder, tmp_path / "store")))


@asynccontextmanager
async def process(
    store: Store, share: float = 0.0, *, board: WorkerBoard | None = None, slot: int = 0, seconds: float = 30.0
) -> AsyncIterator[Serving]:
    """The serving part of one process; processes with the same board are workers of one service."""
    shared = board or WorkerBoard(1)
    health = Health(sequence=lambda: shared.sequence, publish=lambda sequence: shared.publish(slot, sequence))
    settings = settings_for(store.folder, compact_share=share, deadline_seconds=seconds)
    serving = Serving(settings, open_collection(store, store.champion_number()), Metrics(), health)
    try:
        yield serving
    finally:
        await serving.close()


@asynccontextmanager
async def workers(store: Store) -> AsyncIterator[tuple[Serving, Serving]]:
    """Two workers that do not check the log from time to time."""
    board = WorkerBoard(2)
    async with process(store, board=board) as one, process(store, board=board, slot=1) as other:
        for serving in (one, other):
            serving._tasks["items"].cancel()
        yield one, other


@pytest.fixture
async def one(store: Store) -> AsyncIterator[Serving]:
    async with process(store) as serving:
        yield serving


async def nearest(serving: Serving, row: NDArray[np.float32]) -> str:
    """The id of the item nearest to a raw row, (4,)."""
    await serving.wait_for_sequence(serving.current)
    found = await search(serving.current.engine, row[None], 1, encoded=False)
    return serving.current.collection.items.id_at(int(found.positions[0, 0]))


async def has_taken_up(serving: Serving, sequence: int) -> None:
    async def is_it() -> bool:
        return serving.current.collection.applied >= sequence

    await until(is_it)


async def test_acknowledged_items_are_durable_and_found_and_deleted_ones_are_not(one: Serving, store: Store) -> None:
    written = await put(one, ["a", "b"], NEW[:2], ["{}", '{"n":1}'])
    assert (written.count, written.sequence, written.version) == (2, 2, 1)
    assert [change.id for change in ChangeLog(store.folder).read(0)] == ["a", "b"]
    assert await nearest(one, NEW[0]) == "a"
    items = one.current.collection.items
    assert items.payload_json(int(items.positions(["b"])[0])) == '{"n":1}'
    gone = [await delete(one, name) for name in ("a", "never", "1-3")]
    assert [(done.count, done.sequence) for done in gone] == [(1, 3), (0, 3), (1, 4)]
    assert await nearest(one, NEW[0]) != "a"
    assert await nearest(one, ROWS[3]) != "1-3"
    assert (await delete(one, "a")).count == 0


async def test_each_worker_includes_changes_that_another_acknowledged(store: Store) -> None:
    async with workers(store) as (one, other):
        for place in range(20):
            name = f"n{place}"
            await put(one, [name], NEW[place : place + 1], ["{}"])
            assert await nearest(other, NEW[place]) == name
            assert (await delete(other, name)).count == 1
            assert (await delete(one, name)).count == 0
            assert await nearest(one, NEW[place]) != name


async def test_every_worker_finds_an_item_that_one_has_found(store: Store) -> None:
    async with workers(store) as (one, other):
        log = ChangeLog(store.folder)
        log.append([Change("n", NEW[0], "{}")])  # by a process that ended before it could publish the change
        log.close()
        await one._catch_up()
        assert await nearest(other, NEW[0]) == "n"


async def test_an_answer_says_which_changes_it_includes(one: Serving) -> None:
    await put(one, ["a", "b"], NEW[:2], ["{}", "{}"])
    for count in (1, 100):  # on the event loop, and in a thread
        rows = np.tile(NEW[:1], (count, 1))
        assert (await search(one.current.engine, rows, 3, encoded=False)).sequence == 2


async def test_a_deletion_by_filter_sees_other_workers_changes(store: Store) -> None:
    new, kept = '{"kind":"new"}', '{"kind":"kept"}'
    passing = read_filter({"field": "kind", "equal": "new"})
    async with workers(store) as (one, other):
        await put(one, ["a", "b", "c", "d"], NEW[:4], [kept, new, new, new])
        await put(one, ["a"], NEW[:1], [new])
        write, interrupted = other.write, list[int]()

        async def interrupt(changes: Sequence[Change]) -> list[int]:
            """After the filter has seen all four, and before the first deletion is written."""
            if not interrupted:
                interrupted.append(1)
                await put(one, ["b", "c"], NEW[4:6], [kept, new])
                await delete(one, "d")
            return await write(changes)

        other.write = interrupt  # type: ignore[method-assign,assignment]
        done = await delete_matching(other, passing)
        assert interrupted
        assert done.count == 2  # a, and c as it was put at last
        for serving in (one, other):
            await serving.wait_for_sequence(serving.current)
            there = serving.current.collection.items
            assert [there.find(name) is not None for name in "abcd"] == [False, True, False, False]


async def test_counts_a_deletion_once_if_two_workers_delete(store: Store) -> None:
    async with workers(store) as (one, other):
        await put(one, ["a"], NEW[:1], ["{}"])
        done = await asyncio.gather(*(delete(serving, "a") for serving in (one, other, one, other)))
        assert sorted(each.count for each in done) == [0, 0, 0, 1]


async def test_a_read_waits_for_the_change_that_it_asks_for(one: Serving, store: Store) -> None:
    reading = asyncio.create_task(one.wait_for_sequence(one.current, 2))
    log = ChangeLog(store.folder)
    log.append([Change("a", NEW[0], "{}")])
    await has_taken_up(one, 1)
    assert not reading.done()
    log.append([Change("b", NEW[1], "{}")])
    log.close()
    await asyncio.wait_for(reading, 10)
    assert one.current.collection.applied == 2


async def test_a_change_that_does_not_come_is_not_waited_for_longer_than_a_call_may_take(store: Store) -> None:
    async with process(store, seconds=0.2) as serving:
        with pytest.raises(
            NotReadyError, match=r"expected change 7 of the change log, found a log whose last change is 0"
        ):
            await serving.wait_for_sequence(serving.current, 7)


async def test_no_answer_is_given_from_a_log_that_has_lost_acknowledged_changes(store: Store) -> None:
    board = WorkerBoard(2)
    board.publish(1, 9)
    async with process(store, board=board) as serving:
        with pytest.raises(NotReadyError, match="expected change 9 of the change log"):
            await nearest(serving, NEW[0])


async def test_every_process_finds_an_acknowledged_item(one: Serving, store: Store) -> None:
    async with process(store) as other:
        written = await put(one, [f"n{i}" for i in range(len(NEW))], NEW, ["{}"] * len(NEW))
        await has_taken_up(other, written.sequence)
        assert await nearest(other, NEW[7]) == await nearest(one, NEW[7]) == "n7"
        back = await put(other, ["n7"], NEW[:1] * 3, ["{}"])
        await has_taken_up(one, back.sequence)
        for serving in (one, other):
            assert serving.current.collection.items.count == len(ROWS) + len(NEW)


async def test_many_at_once_are_all_there_each_with_its_own_number(one: Serving, store: Store) -> None:
    calls = [put(one, [f"n{i}"], NEW[i : i + 1], ["{}"]) for i in range(50)]
    numbers = {(await done).sequence for done in asyncio.as_completed(calls)}
    assert numbers == set(range(1, 51))
    log = {change.sequence: change.id for change in ChangeLog(store.folder).read(0)}
    items = one.current.collection.items
    assert [items.id_at(len(ROWS) + place) for place in range(50)] == [log[number] for number in range(1, 51)]


async def test_put_items_stay_after_a_change_of_version(one: Serving, store: Store) -> None:
    await put(one, ["late"], NEW[:1], ["{}"])
    for number in (2, 1):
        store.promote(number)
        current = await one.follow()
        assert current.collection.applied == 1
        assert await nearest(one, NEW[0]) == "late"
        assert await current.engine.answers_canary()


async def test_nothing_acknowledged_is_missing_while_versions_change(one: Serving, store: Store) -> None:
    async def write() -> None:
        for number in range(60):
            name = f"w{number}"
            await put(one, [name], NEW[number : number + 1], ["{}"])
            assert await nearest(one, NEW[number]) == name

    writing = asyncio.create_task(write())
    while not writing.done():
        await asyncio.to_thread(store.promote, 2)
        await one.follow()
        await asyncio.to_thread(store.rollback)
        await one.follow()
    await writing
    assert one.current.collection.items.count == len(ROWS) + 60


async def test_where_the_disk_is_full_nothing_is_acknowledged_and_afterwards_all_goes_on(one: Serving) -> None:
    await put(one, ["a"], NEW[:1], ["{}"])
    with no_room():
        tried = [put(one, [f"n{i}"], NEW[i : i + 1], ["{}"]) for i in (1, 2)]
        outcomes = await asyncio.gather(*tried, return_exceptions=True)
    assert all(isinstance(outcome, LogError) for outcome in outcomes)
    assert one.current.collection.items.count == len(ROWS) + 1
    assert (await put(one, ["b"], NEW[3:4], ["{}"])).count == 1
    assert await nearest(one, NEW[3]) == "b"


async def test_is_not_ready_if_the_change_log_cannot_be_read(one: Serving, store: Store) -> None:
    one.check_alive()
    await put(one, ["a"], NEW[:1], ["{}"])
    log = ChangeLog(store.folder)
    log.append([Change("b", NEW[1], "{}")])
    log._connection().execute("UPDATE changes SET payload = '{\"n\": 2}' WHERE id = 'b'")  # type: ignore[union-attr]
    log.close()

    async def is_told() -> bool:
        try:
            one.check_alive()
        except NotReadyError as error:
            return error.field == "items"
        return False

    await until(is_told)
    assert await nearest(one, NEW[0]) == "a"
    await asyncio.sleep(0.2)
    assert await is_told()  # until it can be read


async def test_what_this_encoder_cannot_read_is_deleted_too(one: Serving, store: Store) -> None:
    log = ChangeLog(store.folder)
    log.append([Change("odd", np.full(4, np.nan, np.float32), "{}")])
    log.close()
    assert [(await delete(one, name)).count for name in ("odd", "never", "odd")] == [1, 0, 0]


async def test_who_waits_for_a_change_may_leave_and_the_batch_is_answered(one: Serving) -> None:
    engine = one.current.engine
    many = asyncio.create_task(search(engine, np.tile(ROWS, (100, 1)), 10, encoded=False))
    await asyncio.sleep(0)
    while not engine._is_threaded and not many.done():
        await asyncio.sleep(0)
    applied: list[int] = []
    waiting = asyncio.create_task(engine.change(lambda: applied.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await many).positions.shape == (2_000, 10)
    assert applied == [1]


async def test_an_item_that_was_replaced_during_a_search_does_not_find_itself(one: Serving) -> None:
    call = Call(np.empty((1, 0), np.float32), True, 3, ids=["1-5"])
    await put(one, ["1-5"], NEW[:1], ["{}"])
    (answer,) = answer_all(one.current.collection, [call]).answers
    assert isinstance(answer, Answer)
    assert "1-5" not in {one.current.collection.items.id_at(int(p)) for p in answer.result.positions[0]}


async def test_compacts_many_changes_into_a_version_that_serves_then(store: Store) -> None:
    async with process(store, share=0.5) as serving:
        names = [f"n{i}" for i in range(len(NEW))]
        for payload in ('{"n":1}', '{"n":2}'):
            await put(serving, names, NEW, [payload] * len(NEW))

        async def has_changed() -> bool:
            return serving.current.version.number == 3

        await until(has_changed)
        collection: Collection = serving.current.collection
        assert (collection.is_changed, collection.items.count) == (False, len(ROWS) + len(NEW))
        assert collection.items.payload_json(int(collection.items.positions(["n5"])[0])) == '{"n":2}'
        assert await nearest(serving, NEW[5]) == "n5"

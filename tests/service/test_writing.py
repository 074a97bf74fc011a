"""Items in a service that runs: durable, found by every process, and by whichever version serves."""

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index.collection import Collection, open_collection
from index.errors import LogError
from index.log import Change, ItemLog
from index.store import Store
from service.answering import Answer, Call, answer_all
from service.errors import NotReadyError
from service.metrics import Metrics
from service.serving import Pulse, Serving
from tests.index.made import cloud
from tests.service.changing import ROWS, changing_store, until
from tests.service.helpers import settings_for

pytestmark = pytest.mark.anyio

NEW = cloud(600, 4, seed=8)
"""More than is taken up at a time."""


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read only."""
    return changing_store(tmp_path_factory.mktemp("two-versions"))


@pytest.fixture
def store(two_versions: Store, tmp_path: Path) -> Store:
    """The same, to change."""
    return Store(Path(shutil.copytree(two_versions.folder, tmp_path / "store")))


@asynccontextmanager
async def process(store: Store, share: float = 0.0) -> AsyncIterator[Serving]:
    """What one process of a service has at work."""
    collection = open_collection(store, store.champion_number())
    serving = Serving(settings_for(store.folder, compact_share=share), collection, Metrics(), Pulse())
    try:
        yield serving
    finally:
        await serving.close()


@pytest.fixture
async def one(store: Store) -> AsyncIterator[Serving]:
    async with process(store) as serving:
        yield serving


async def nearest(serving: Serving, row: NDArray[np.float32]) -> str:
    """The id of what lies nearest to a raw row, (4,)."""
    found = await serving.current.engine.search(row[None], 1, encoded=False)
    return serving.current.collection.items.id_at(int(found.positions[0, 0]))


async def has_taken_up(serving: Serving, sequence: int) -> None:
    async def is_it() -> bool:
        return serving.current.collection.applied >= sequence

    await until(is_it)


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_is_acknowledged_is_on_disk_and_found_and_what_is_deleted_is_not(one: Serving, store: Store) -> None:
    written = await one.put(["a", "b"], NEW[:2], ["{}", '{"n":1}'])
    assert (written.count, written.sequence, written.version) == (2, 2, 1)
    assert [change.id for change in ItemLog(store.folder).read(0)] == ["a", "b"]
    assert await nearest(one, NEW[0]) == "a"
    items = one.current.collection.items
    assert items.payload_json(int(items.positions(["b"])[0])) == '{"n":1}'
    gone = await one.delete(["a", "never", "1-3"])
    assert (gone.count, gone.sequence) == (2, 4)
    assert await nearest(one, NEW[0]) != "a"
    assert await nearest(one, ROWS[3]) != "1-3"
    assert (await one.delete(["a"])).count == 0


async def test_every_process_finds_what_one_acknowledged(one: Serving, store: Store) -> None:
    async with process(store) as other:
        written = await one.put([f"n{i}" for i in range(len(NEW))], NEW, ["{}"] * len(NEW))
        await has_taken_up(other, written.sequence)
        assert await nearest(other, NEW[7]) == await nearest(one, NEW[7]) == "n7"
        back = await other.put(["n7"], NEW[:1] * 3, ["{}"])
        await has_taken_up(one, back.sequence)
        for serving in (one, other):
            assert serving.current.collection.items.count == len(ROWS) + len(NEW)


async def test_many_at_once_are_all_there_each_with_its_own_number(one: Serving, store: Store) -> None:
    calls = [one.put([f"n{i}"], NEW[i : i + 1], ["{}"]) for i in range(50)]
    numbers = {(await done).sequence for done in asyncio.as_completed(calls)}
    assert numbers == set(range(1, 51))
    log = {change.sequence: change.id for change in ItemLog(store.folder).read(0)}
    items = one.current.collection.items
    assert [items.id_at(len(ROWS) + place) for place in range(50)] == [log[number] for number in range(1, 51)]


async def test_what_was_put_stays_whatever_version_serves(one: Serving, store: Store) -> None:
    await one.put(["late"], NEW[:1], ["{}"])
    for number in (2, 1):
        store.promote(number)
        current = await one.follow()
        assert current.collection.applied == 1
        assert await nearest(one, NEW[0]) == "late"
        assert await current.engine.knows_its_question()


async def test_nothing_acknowledged_is_missing_while_versions_change(one: Serving, store: Store) -> None:
    async def write() -> None:
        for number in range(60):
            name = f"w{number}"
            await one.put([name], NEW[number : number + 1], ["{}"])
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
    await one.put(["a"], NEW[:1], ["{}"])
    with no_room():
        tried = [one.put([f"n{i}"], NEW[i : i + 1], ["{}"]) for i in (1, 2)]
        outcomes = await asyncio.gather(*tried, return_exceptions=True)
    assert all(isinstance(outcome, LogError) for outcome in outcomes)
    assert one.current.collection.items.count == len(ROWS) + 1
    assert (await one.put(["b"], NEW[3:4], ["{}"])).count == 1
    assert await nearest(one, NEW[3]) == "b"


async def test_a_service_whose_item_log_cannot_be_read_is_not_ready(one: Serving, store: Store) -> None:
    one.check_alive()
    await one.put(["a"], NEW[:1], ["{}"])
    log = ItemLog(store.folder)
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
    log = ItemLog(store.folder)
    log.append([Change("odd", np.full(4, np.nan, np.float32), "{}")])
    log.close()
    assert (await one.delete(["odd", "never"])).count == 1
    assert (await one.delete(["odd"])).count == 0


async def test_who_waits_for_a_change_may_leave_and_the_batch_is_answered(one: Serving) -> None:
    engine = one.current.engine
    many = asyncio.create_task(engine.search(np.tile(ROWS, (100, 1)), 10, encoded=False))
    await asyncio.sleep(0)
    while not engine._is_threaded and not many.done():
        await asyncio.sleep(0)
    applied: list[int] = []
    waiting = asyncio.create_task(engine.change(lambda: applied.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await many).positions.shape == (2_000, 10)
    assert applied == [1]


async def test_an_item_that_was_replaced_since_it_was_asked_with_does_not_find_itself(one: Serving) -> None:
    call = Call(np.empty((1, 0), np.float32), True, 3, ids=["1-5"])
    await one.put(["1-5"], NEW[:1], ["{}"])
    (answer,) = answer_all(one.current.collection, [call]).answers
    assert isinstance(answer, Answer)
    assert "1-5" not in {one.current.collection.items.id_at(int(p)) for p in answer.found.positions[0]}


async def test_many_changes_are_folded_into_a_version_that_takes_over(store: Store) -> None:
    async with process(store, share=0.5) as serving:
        names = [f"n{i}" for i in range(len(NEW))]
        for payload in ('{"n":1}', '{"n":2}'):
            await serving.put(names, NEW, [payload] * len(NEW))

        async def has_changed() -> bool:
            return serving.current.version.number == 3

        await until(has_changed)
        collection: Collection = serving.current.collection
        assert (collection.is_changed, collection.items.count) == (False, len(ROWS) + len(NEW))
        assert collection.items.payload_json(int(collection.items.positions(["n5"])[0])) == '{"n":2}'
        assert await nearest(serving, NEW[5]) == "n5"

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from index.errors import QueryError, UnknownItemError
from index.filters import read_filter
from index.version import Found, Version
from service.engine import INLINE_WORK, MAX_BATCH, ROW_WORK, Engine, engine_thread, use_threads
from tests.service.helpers import pixels_of

pytestmark = pytest.mark.anyio
Rows2D = NDArray[np.float32]
INLINE_ROWS = INLINE_WORK // ROW_WORK
Answer = Rows2D | Found
Call = Callable[[Engine], Awaitable[Answer]]
THREES = read_filter({"field": "label", "equal": 3})
SMALL = read_filter({"field": "label", "range": {"lt": 5}})


@pytest.fixture
async def engine(version: Version) -> AsyncIterator[Engine]:
    use_threads(1)
    with engine_thread() as pool:
        yield Engine(version, pool)


@pytest.fixture
def too_large(version: Version) -> Rows2D:
    """One row of float32 that is finite, but not once the encoder has summed it up."""
    weights = version.encoder.encoder.state_dict()["0.weight"].numpy()
    row: Rows2D = np.float32(3e38) * np.sign(weights[np.abs(weights).sum(axis=1).argmax()])[None, :]
    assert np.isfinite(row).all()
    assert not np.isfinite(version.encoder.encode(row)).all()
    return row


def same(one: Answer, other: Answer) -> None:
    if isinstance(one, Found) and isinstance(other, Found):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_allclose(one.novelty, other.novelty, atol=0.01)
    else:
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-5)


async def alone(version: Version, call: Call) -> Answer:
    with engine_thread() as pool:
        return await call(Engine(version, pool))


def threads() -> int:
    return sum(thread.name.startswith("engine") for thread in threading.enumerate())


async def test_embeddings_are_the_versions(engine: Engine, version: Version, rows: Rows2D) -> None:
    np.testing.assert_allclose(await engine.embed(rows), version.embed(rows), atol=1e-6)


async def test_calls_that_wait_together_are_answered_as_alone(engine: Engine, version: Version, rows: Rows2D) -> None:
    """All kinds, several limits and filters in one batch; the last makes it too large for the event loop."""
    encoded = version.embed(rows[5:9])
    calls: list[Call] = [
        lambda engine: engine.embed(rows[:1]),
        lambda engine: engine.embed(rows[1:4]),
        lambda engine: engine.search(rows[3:6], 3, encoded=False),
        lambda engine: engine.search(encoded, 3, encoded=True),
        lambda engine: engine.search(encoded[:1], 100, encoded=True),
        lambda engine: engine.search_ids(["0", "2"], 3),
        lambda engine: engine.search_ids(["2"], 1),
        lambda engine: engine.search_ids(["2", "3"], 3, THREES),
        lambda engine: engine.search(rows[3:6], 3, encoded=False, given=THREES),
        lambda engine: engine.search(rows[5:6], 3, encoded=False, given=SMALL),
        lambda engine: engine.search(encoded, 3, encoded=True, given=SMALL),
        lambda engine: engine.search(rows[:INLINE_ROWS], 7, encoded=False),
    ]
    for batch in (calls[:-1], calls):
        together = await asyncio.gather(*(call(engine) for call in batch))
        for call, answer in zip(batch, together, strict=True):
            same(answer, await alone(version, call))


@pytest.mark.parametrize(("count", "expected"), [(INLINE_ROWS, 0), (INLINE_ROWS + 1, 1)])
async def test_only_a_large_batch_takes_a_thread(engine: Engine, rows: Rows2D, count: int, expected: int) -> None:
    before = threads()
    await engine.embed(rows[:count])
    assert threads() - before == expected


async def test_a_filter_takes_a_thread_and_only_what_passes_is_found(
    engine: Engine, version: Version, rows: Rows2D
) -> None:
    before = threads()
    found = await engine.search(rows[:2], 5, encoded=False, given=THREES)
    assert threads() - before == 1
    assert {version.items.payload_at(int(p))["label"] for p in found.positions.ravel()} == {3}


async def test_a_filter_of_no_field_fails_alone(engine: Engine, rows: Rows2D) -> None:
    wrong = read_filter({"field": "colour", "equal": 3})
    failed, right = await asyncio.gather(
        engine.search(rows[:1], 3, encoded=False, given=wrong),
        engine.search(rows[:1], 3, encoded=False, given=THREES),
        return_exceptions=True,
    )
    assert isinstance(failed, QueryError)
    assert failed.field == "filter.field"
    assert isinstance(right, Found)


async def test_many_hits_are_much_work(engine: Engine, rows: Rows2D) -> None:
    before = threads()
    await engine.search(rows[:1], INLINE_WORK, encoded=False)
    assert threads() == before
    await engine.search(rows[:2], INLINE_WORK // 2 + 1, encoded=False)
    assert threads() - before == 1


async def test_a_batch_has_a_bound_that_one_call_may_pass(engine: Engine, version: Version, rows: Rows2D) -> None:
    large = np.resize(rows, (MAX_BATCH + 1, 64))
    first, last, single = await asyncio.gather(engine.embed(rows[:1]), engine.embed(large), engine.embed(rows[1:2]))
    np.testing.assert_allclose(last, version.embed(large), atol=1e-5)
    for answer, own in ((first, rows[:1]), (single, rows[1:2])):
        np.testing.assert_allclose(answer, version.embed(own), atol=1e-5)


@pytest.mark.parametrize("count", [1, 150], ids=["on the loop", "in the thread"])
async def test_a_client_that_leaves_does_not_disturb_its_neighbours(
    engine: Engine, version: Version, rows: Rows2D, count: int
) -> None:
    stays = [asyncio.ensure_future(engine.embed(rows[i : i + count])) for i in range(3)]
    before = threads()
    leaves = asyncio.ensure_future(engine.embed(rows[:150]))
    await asyncio.sleep(0)  # all are waiting now
    leaves.cancel()
    for i, answer in enumerate(await asyncio.gather(*stays)):
        np.testing.assert_allclose(answer, version.embed(rows[i : i + count]), atol=1e-5)
    assert leaves.cancelled()
    assert threads() - before == (count > INLINE_ROWS)  # the one that left is no work


async def test_a_client_may_leave_while_the_thread_works(engine: Engine, version: Version, rows: Rows2D) -> None:
    leaves = asyncio.ensure_future(engine.embed(rows))
    for _ in range(3):
        await asyncio.sleep(0)
    leaves.cancel()
    answer = await engine.embed(rows[:2])
    np.testing.assert_allclose(answer, version.embed(rows[:2]), atol=1e-5)


@pytest.mark.parametrize("count", [1, 150], ids=["on the loop", "in the thread"])
@pytest.mark.parametrize("limit", [0, 3])
async def test_a_call_that_fails_does_not_disturb_its_neighbours(
    engine: Engine, version: Version, rows: Rows2D, too_large: Rows2D, count: int, limit: int
) -> None:
    bad = engine.search(too_large, limit, encoded=False) if limit else engine.embed(too_large)
    failed, *found, embedded = await asyncio.gather(
        bad,
        engine.search(rows[:count], 3, encoded=False),
        engine.search(version.embed(rows[:1]), 3, encoded=True),
        engine.embed(rows[:1]),
        return_exceptions=True,
    )
    assert isinstance(failed, QueryError)
    assert failed.field == "inputs"
    assert isinstance(embedded, np.ndarray)
    np.testing.assert_allclose(embedded, version.embed(rows[:1]), atol=1e-5)
    for answer in found:
        assert isinstance(answer, Found)
        assert answer.positions[0].tolist() == version.search(version.embed(rows[:1]), 3).positions[0].tolist()


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1, 1e6, 1e38])
async def test_the_length_of_an_embedding_does_not_matter_to_cosine(
    engine: Engine, version: Version, rows: Rows2D, factor: float
) -> None:
    encoded = version.embed(rows[:2])
    expected = await engine.search(encoded, 5, encoded=True)
    answer = await engine.search(encoded * np.float32(factor), 5, encoded=True)
    np.testing.assert_allclose(answer.scores, expected.scores, atol=1e-5)


async def test_an_item_never_finds_itself(engine: Engine, version: Version) -> None:
    ids = [version.items.id_at(i) for i in range(len(version.items))][:60]
    answer = await engine.search_ids(ids, 1)
    assert (answer.positions >= 0).sum() == 60
    assert all(version.items.id_at(int(p)) != name for name, p in zip(ids, answer.positions[:, 0], strict=True))


async def test_an_item_asks_with_its_own_embedding(engine: Engine, version: Version) -> None:
    answer = await engine.search_ids(["7"], 3)
    itself, *others = (await engine.search(pixels_of("7"), 4, encoded=False)).positions[0]
    assert itself == version.items.position("7")
    assert answer.positions[0].tolist() == others


async def test_an_unknown_id_is_named(engine: Engine) -> None:
    with pytest.raises(UnknownItemError, match="'none such'"):
        await engine.search_ids(["0", "none such"], 3)

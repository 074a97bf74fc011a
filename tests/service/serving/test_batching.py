"""Each call of a batch gets the same answer as alone from the version."""

import asyncio
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.collection import Collection
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.searching import SearchResult
from lookalike.index.versions.version import Version
from lookalike.service.serving.batching import Answer, Call, answer_all, never, novelty_of

pytestmark = pytest.mark.anyio
Rows2D = NDArray[np.float32]
THREES = read_filter({"field": "label", "equal": 3})
SMALL = read_filter({"field": "label", "range": {"lt": 5}})
NONE = read_filter({"field": "label", "equal": 77})
COLOUR = read_filter({"field": "colour", "equal": 3})


def answer_of(answer: Answer | Exception) -> Answer:
    assert isinstance(answer, Answer), answer
    return answer


def same(one: SearchResult, other: SearchResult) -> None:
    assert one.positions.tolist() == other.positions.tolist()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_allclose(one.novelty, other.novelty, atol=0.01)


def of_items(*ids: str, limit: int, **more: Any) -> Call:
    return Call(np.empty((len(ids), 0), np.float32), True, limit, ids=list(ids), **more)


async def test_each_call_of_a_batch_gets_its_own_answer(version: Version, rows: Rows2D) -> None:
    """Raw rows, embeddings and items, with several limits and filters; calls with the same options are not adjacent."""
    encoded = version.embed(rows[5:9])
    batch: list[tuple[Call, Rows2D | SearchResult]] = [
        (Call(rows[:3], False, 4), version.searcher.search_rows(rows[:3], 4)),
        (Call(rows[:1], False), version.embed(rows[:1])),
        (Call(encoded, True, 4), version.searcher.search(encoded, 4)),
        (of_items("2", "7", limit=4), version.searcher.search_items(["2", "7"], 4)),
        (Call(rows[3:5], False, 4, THREES), version.searcher.search_rows(rows[3:5], 4, THREES)),
        (Call(rows[9:80], False), version.embed(rows[9:80])),
        (of_items("9", limit=4), version.searcher.search_items(["9"], 4)),
        (Call(rows[7:8], False, 4), version.searcher.search_rows(rows[7:8], 4)),
        (Call(encoded[:1], True, 100), version.searcher.search(encoded[:1], 100)),
        (of_items("9", "2", limit=4, filter_=SMALL), version.searcher.search_items(["9", "2"], 4, SMALL)),
        (Call(rows[3:5], False, 4, SMALL), version.searcher.search_rows(rows[3:5], 4, SMALL)),
        (Call(rows[3:5], False, 4, NONE), version.searcher.search_rows(rows[3:5], 4, NONE)),
        (Call(version.canary, False, 4, canary=True), version.searcher.search_rows(version.canary, 4)),
    ]
    for some in (batch, batch[::-1], batch[:1], batch[1:2]):
        outcome = answer_all(Collection(version), [call for call, _ in some])
        for answer, (call, expected) in zip(outcome.answers, some, strict=True):
            if isinstance(expected, SearchResult):
                same(answer_of(answer).result, expected)
            else:
                np.testing.assert_allclose(answer_of(answer).embeddings, expected, atol=1e-5)
                assert answer_of(answer).result.positions.size == 0
            assert not call.future.done()  # the engine sets it


async def test_a_call_of_many_rows_and_one_of_few_share_a_batch(version: Version, rows: Rows2D) -> None:
    counts = [1, 2, 16, 17, 64, 65, 1]
    calls = [Call(rows[count : 2 * count], False, 3) for count in counts]
    for answer, count in zip(answer_all(Collection(version), calls).answers, counts, strict=True):
        same(answer_of(answer).result, version.searcher.search_rows(rows[count : 2 * count], 3))


@pytest.mark.parametrize("limit", [0, 3])
async def test_a_failed_call_fails_no_other(limitless: Version, rows: Rows2D, too_large: Rows2D, limit: int) -> None:
    bad = [Call(too_large, False, limit), Call(rows[:1], False, 3, COLOUR)]
    good = [Call(rows[:2], False, 3), Call(limitless.embed(rows[:1]), True, 3), Call(rows[:1], False)]
    failed, one, other, filtered, embedded = answer_all(
        Collection(limitless), [bad[0], *good[:2], bad[1], good[2]]
    ).answers
    assert isinstance(failed, QueryError)
    assert failed.field == "inputs"
    assert isinstance(filtered, QueryError)
    assert filtered.field == "filter.field"
    same(answer_of(one).result, limitless.searcher.search_rows(rows[:2], 3))
    same(answer_of(other).result, limitless.searcher.search(limitless.embed(rows[:1]), 3))
    np.testing.assert_allclose(answer_of(embedded).embeddings, limitless.embed(rows[:1]), atol=1e-5)


async def test_does_not_retry_a_single_failed_call(limitless: Version, too_large: Rows2D) -> None:
    outcome = answer_all(Collection(limitless), [Call(too_large, False)])
    assert [type(answer) for answer in outcome.answers] == [QueryError]
    assert (outcome.encoding, outcome.searching) == (0, 0)


async def test_reports_the_seconds_of_encoding_and_searching(version: Version, rows: Rows2D) -> None:
    embedded = answer_all(Collection(version), [Call(rows, False)])
    assert embedded.encoding > 0
    assert embedded.searching == 0
    both = answer_all(Collection(version), [Call(rows, False), Call(rows, False, 3)])
    assert both.encoding > 0
    assert both.searching > 0


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1, 1e6, 1e38])
async def test_the_length_of_an_embedding_does_not_matter_to_cosine(
    version: Version, rows: Rows2D, factor: float
) -> None:
    encoded = version.embed(rows[:2])
    (answer,) = answer_all(Collection(version), [Call(encoded * np.float32(factor), True, 5)]).answers
    np.testing.assert_allclose(answer_of(answer).result.scores, version.searcher.search(encoded, 5).scores, atol=1e-5)


async def test_drift_is_told_by_what_came_from_outside_and_was_answered() -> None:
    def found(*novelty: float) -> Answer:
        count = len(novelty)
        return Answer(
            np.empty((count, 1), np.float32),
            SearchResult(np.empty((count, 1), np.float32), np.empty((count, 1), np.int64), np.array(novelty)),
        )

    row = np.zeros((1, 1), np.float32)
    batch = [
        Call(row, False, 1),
        Call(row, True, 1, ids=["3"]),
        Call(row, False, 1, canary=True),
        Call(row, False, 1),
        Call(row, True, 1),
        Call(row, False),
    ]
    failed = QueryError("x", expected="y", found="z")
    answers: list[Answer | Exception] = [found(0.5, 0.25), found(0.1), found(0.2), failed, found(0.75), found()]
    assert novelty_of(batch, answers).tolist() == [0.5, 0.25, 0.75]
    assert novelty_of(batch[1:3], answers[1:3]).tolist() == []
    assert novelty_of([], []).tolist() == []


async def test_a_call_waits_in_the_loop_that_it_was_made_in_with_a_client_that_stays() -> None:
    call = Call(np.zeros((1, 1), np.float32), False)
    assert call.future.get_loop() is asyncio.get_running_loop()
    assert not call.is_disconnected()
    assert call.is_disconnected is never

"""When a process starts a compaction, when it retries, and what it logs."""

import asyncio
import logging
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.store import Store
from lookalike.service.serving import compaction as compacting
from lookalike.service.serving.compaction import AGAIN_SECONDS, Compactor
from tests.factories import cloud, flip
from tests.service.changing import changing_store, until

pytestmark = pytest.mark.anyio

NEW = cloud(30, 4, seed=8)
OF_AN_ITEM = b"Traceback (most recent call last):\n  File ...\nKeyError: 'an id of mine'\n"


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read only."""
    return changing_store(tmp_path_factory.mktemp("two-versions"))


@pytest.fixture
def store(two_versions: Store, tmp_path: Path) -> Store:
    """A copy with enough changes for a compaction."""
    own = Store(Path(shutil.copytree(two_versions.folder, tmp_path / "store")))
    put(own, "a")
    return own


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets; and few changes are enough."""
    monkeypatch.setattr(compacting, "LEAST_CHANGES", len(NEW))
    now = [0.0]
    monkeypatch.setattr(compacting, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of the compaction log lines."""
    caplog.set_level(logging.INFO, "lookalike.events")
    fields: list[dict[str, Any]] = []

    def noting(record: logging.LogRecord) -> bool:
        if record.getMessage() == "compaction":
            fields.append(vars(record)["fields"])
        return True

    caplog.handler.addFilter(noting)
    return fields


@pytest.fixture
async def compactor(store: Store) -> AsyncIterator[Compactor]:
    """A compactor that is always closed: a running process would keep the event loop alive."""
    made = Compactor(store.folder, 0.5, 10)
    yield made
    await made.close()


def put(store: Store, start: str) -> None:
    log = ChangeLog(store.folder)
    log.append([Change(f"{start}{i}", row, "{}") for i, row in enumerate(NEW)])
    log.close()


def opened(store: Store) -> Collection:
    return open_collection(store, store.champion_number())


async def ended(told: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """The last of `count` attempts."""

    async def are_they() -> bool:
        return len(told) == count

    await until(are_they)
    return told[-1]


@pytest.mark.slow
async def test_a_version_is_not_folded_again_before_it_is_opened_nor_soon_after_the_last_time(
    compactor: Compactor, store: Store, clock: list[float], told: list[dict[str, Any]]
) -> None:
    before = opened(store)
    assert compactor.poll(before)
    assert not compactor.poll(before)
    clock[0] = 1_000.0  # the time that it took
    assert await ended(told, 1) == {"code": 0, "reason": None}
    assert store.numbers() == [1, 2, 3]
    clock[0] += AGAIN_SECONDS - 1
    put(store, "b")
    assert not compactor.poll(opened(store))
    clock[0] += 1
    assert not compactor.poll(before)
    assert compactor.poll(opened(store))


async def test_each_failure_doubles_the_time_to_the_next_attempt_up_to_an_hour(
    compactor: Compactor, store: Store, clock: list[float], told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(store.folder / "nothing"))
    collection = opened(store)
    for count, wait in enumerate((120, 240, 480, 960, 1_920, 3_600, 3_600), start=1):
        assert compactor.poll(collection)
        assert await ended(told, count) == {"code": None, "reason": "FileNotFoundError: No such file or directory"}
        clock[0] += wait - 1
        assert not compactor.poll(collection)
        clock[0] += 1


@pytest.mark.slow
async def test_a_store_that_is_busy_is_asked_again_soon_and_a_failure_says_why(
    compactor: Compactor, store: Store, clock: list[float], told: list[dict[str, Any]]
) -> None:
    collection = opened(store)
    with store.job("retrain"):
        assert compactor.poll(collection)
        assert (await ended(told, 1))["code"] == 75
    clock[0] += AGAIN_SECONDS
    flip(store.path(1) / "index.faiss", 40)
    assert compactor.poll(collection)
    last = await ended(told, 2)
    assert last["code"] == 2
    assert "index.faiss: expected" in last["reason"]
    clock[0] += AGAIN_SECONDS
    assert not compactor.poll(collection)


def test_logs_only_the_type_of_an_exception() -> None:
    assert compacting._last_line(OF_AN_ITEM, whole=False) == "KeyError"
    assert compacting._last_line(b"", whole=True) is None
    assert compacting._last_line(b"compacting\nstore S: expected a, found b.\n\n", whole=True) == (
        "store S: expected a, found b."
    )


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_process_that_is_about_to_begin_is_ended(
    compactor: Compactor, store: Store, clock: list[float], told: list[dict[str, Any]], turns: int
) -> None:
    assert compactor.poll(opened(store))
    for _ in range(turns):
        await asyncio.sleep(0)
    await compactor.close()
    assert (store.numbers(), [one["code"] for one in told]) == ([1, 2], [-15])

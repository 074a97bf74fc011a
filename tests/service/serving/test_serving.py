"""Versions are replaced while requests run, and a version that cannot serve is refused."""

import asyncio
import gc
import itertools
import json
import logging
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from lookalike.index.changes.collection import Collection
from lookalike.index.versions.manifest import FORMAT
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.app import create_app
from lookalike.service.errors import NotReadyError
from lookalike.service.serving.serving import Health, Serving
from tests.factories import flip, reseal
from tests.service.changing import ROWS, assert_of_one_version, changing_store, held, holds, metric, point_at, until
from tests.service.helpers import call, problem, serving, settings_for

pytestmark = pytest.mark.anyio
MANY = ROWS.repeat(5, axis=0)
"""More rows than the event loop answers."""
BAD = '{"version": 2, "replaced": [1]}'


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read only."""
    return changing_store(tmp_path_factory.mktemp("two-versions"))


@pytest.fixture
def store(two_versions: Store, tmp_path: Path) -> Store:
    """A copy, to change and to damage."""
    return Store(Path(shutil.copytree(two_versions.folder, tmp_path / "store")))


@pytest.fixture
def client_of(store: Store) -> Callable[[], Any]:
    @asynccontextmanager
    async def started() -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
        apps: list[FastAPI] = []
        async with serving(settings_for(store.folder), store.open_champion(), apps.append) as client:
            yield client, apps[0]

    return started


@pytest.fixture
async def running(client_of: Callable[[], Any]) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    async with client_of() as both:
        yield both


@pytest.fixture
def client(running: tuple[httpx.AsyncClient, FastAPI]) -> httpx.AsyncClient:
    return running[0]


@pytest.fixture
def at_work(running: tuple[httpx.AsyncClient, FastAPI]) -> Serving:
    found: Serving = running[1].state.serving
    return found


async def number_of(client: httpx.AsyncClient) -> int:
    number: int = (await client.get("/version")).json()["version"]
    return number


async def ready(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/readyz")
    assert answer.status_code == 200, answer.text
    members: dict[str, Any] = answer.json()
    return members


async def until_version(client: httpx.AsyncClient, number: int) -> None:
    async def is_it() -> bool:
        return await number_of(client) == number

    await until(is_it)


async def until_refused(client: httpx.AsyncClient, refused: bool = True) -> int | None:
    async def is_it() -> bool:
        return ((await ready(client))["refused"] is not None) == refused

    await until(is_it)
    number: int | None = (await ready(client))["refused"]
    return number


async def test_promoting_and_going_back_reach_a_service_that_runs(client: httpx.AsyncClient, store: Store) -> None:
    assert await number_of(client) == 1
    store.promote(2)
    await until_version(client, 2)
    assert_of_one_version(await call(client, "/embed", inputs=ROWS.tolist()), ROWS)
    assert await ready(client) == {"ready": True, "version": 2, "refused": None}
    assert [await metric(client, name) for name in ("version", "items", "refused")] == [2, 20, 0]
    store.rollback()
    await until_version(client, 1)
    assert 'lookalike_version_changes_total{outcome="served"} 2.0' in (await client.get("/metrics")).text


async def test_what_was_promoted_while_a_service_started_is_served_too(store: Store) -> None:
    opened = store.open_champion()
    store.promote(2)
    async with serving(settings_for(store.folder), opened) as client:
        await until_version(client, 2)


async def test_reload_changes_at_once_and_says_to_what(client: httpx.AsyncClient, store: Store) -> None:
    for number in (2, 2, 1):
        store.promote(number)
        answer = await client.post("/admin/reload")
        assert (answer.status_code, answer.json()) == (200, {"version": number})
        assert await number_of(client) == number


async def test_no_request_fails_and_none_is_answered_by_two_versions(client: httpx.AsyncClient, store: Store) -> None:
    done = asyncio.Event()
    seen: list[int] = []

    async def ask(number: int) -> None:
        rows = MANY if number % 3 == 0 else ROWS[number % 20 : number % 20 + 1]
        path, more = ("/embed", {}) if number % 2 else ("/search", {"limit": 2})
        answer = await call(client, path, inputs=rows.tolist(), **more)
        assert_of_one_version(answer, rows)
        seen.append(answer["version"])

    async def keep_asking(first: int) -> None:
        for number in itertools.count(first):
            if done.is_set() and len(seen) >= 400:
                return
            await ask(number)

    async def keep_changing() -> None:
        for number in range(20):
            await asyncio.to_thread(store.promote, 2 - number % 2)
            if number % 4 == 0:
                assert (await client.post("/admin/reload")).json() == {"version": 2 - number % 2}
            else:
                await until_version(client, 2 - number % 2)
        done.set()

    await asyncio.gather(keep_changing(), *(keep_asking(first) for first in range(12)))
    assert set(seen) == {1, 2}
    assert len(seen) >= 400


async def test_what_runs_is_finished_by_the_version_that_began_it(
    client: httpx.AsyncClient, at_work: Serving, store: Store
) -> None:
    old = at_work.current.engine
    with held(at_work._engines):
        begun = asyncio.create_task(call(client, "/embed", inputs=MANY.tolist()))
        await until(holds(lambda: bool(old._working)))
        found = asyncio.create_task(call(client, "/search", inputs=MANY.tolist(), limit=1))
        await until(holds(lambda: bool(old._waiting)))
        store.promote(2)
        assert (await client.post("/admin/reload")).json() == {"version": 2}
        assert (await call(client, "/embed", inputs=ROWS.tolist()))["version"] == 2
        assert not begun.done()
        assert not found.done()
    for answer in (await begun, await found):
        assert answer["version"] == 1
        assert_of_one_version(answer, MANY)


def flipped(folder: Path) -> None:
    flip(folder / "index.faiss", 60)


def flipped_weights(folder: Path) -> None:
    flip(folder / "encoder" / "weights.safetensors", -1)


def forgetful(folder: Path) -> None:
    header = json.loads((folder / "manifest.json").read_text())
    header["canary"]["scores"] = [score + 1 for score in header["canary"]["scores"]]
    reseal(folder, FORMAT, {key: value for key, value in header.items() if key != "files"})


def without_an_answer(folder: Path) -> None:
    header = json.loads((folder / "manifest.json").read_text())
    reseal(folder, FORMAT, {key: value for key, value in header.items() if key not in {"files", "canary"}})


def huge(folder: Path) -> None:
    """A hole in a file takes no room on the disk."""
    with (folder / "items.arrow").open("r+b") as file:
        file.truncate(1 << 43)


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flipped, "index.faiss"),
        (flipped_weights, "weights.safetensors"),
        (forgetful, "the known answer to its canary query"),
        (without_an_answer, "canary"),
        (huge, "memory: expected 8,796,0"),
        (gone, "found 2"),
    ],
)
async def test_a_champion_that_cannot_serve_is_refused_and_the_one_before_goes_on(
    client: httpx.AsyncClient, store: Store, damage: Callable[[Path], None], reason: str
) -> None:
    damage(store.path(2))
    point_at(store, BAD)
    assert await until_refused(client) == 2
    assert [await metric(client, name) for name in ("version", "refused", "refused_version")] == [1, 1, 2]
    again = problem(await client.post("/admin/reload"), 409)
    assert (again["field"], reason in again["found"]) == ("version", True)
    assert_of_one_version(await call(client, "/embed", inputs=MANY.tolist()), MANY)
    assert await number_of(client) == 1
    store.promote(1)
    assert await until_refused(client, False) is None
    assert [await metric(client, name) for name in ("refused", "refused_version")] == [0, 0]
    assert (await client.post("/admin/reload")).json() == {"version": 1}


async def test_what_was_refused_serves_once_it_is_mended_and_asked_for(client: httpx.AsyncClient, store: Store) -> None:
    flipped(store.path(2))
    point_at(store, BAD)
    await until_refused(client)
    flipped(store.path(2))  # the bit is restored
    assert (await client.post("/admin/reload")).json() == {"version": 2}
    assert await ready(client) == {"ready": True, "version": 2, "refused": None}


@pytest.mark.parametrize("text", ["", "{", "null", '{"version": "two", "replaced": []}', '{"version": 2}'])
async def test_an_alias_that_cannot_be_read_changes_nothing(client: httpx.AsyncClient, store: Store, text: str) -> None:
    point_at(store, text)
    await until_refused(client)
    assert await metric(client, "refused") == 1
    assert f"{store.folder}/champion" in problem(await client.post("/admin/reload"), 409)["found"]
    assert await number_of(client) == 1
    point_at(store, BAD)
    await until_version(client, 2)
    assert (await ready(client))["refused"] is None


async def until_ready(client: httpx.AsyncClient, field: str | None = None) -> None:
    """Wait until /readyz is 200, or names this field."""

    async def is_it() -> bool:
        answer = await client.get("/readyz")
        return answer.status_code == 200 if field is None else answer.json().get("field") == field

    await until(is_it)


async def put(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.put("/items", json={"items": [{"id": name, "input": ROWS[0].tolist()}]})


def reasons(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [vars(record)["fields"]["reason"] for record in caplog.records if record.getMessage() == event]


@pytest.mark.parametrize(
    "name",
    ["champion", "versions/000001", "versions/000001/items.arrow", "versions/000001/manifest.sha256", "versions"],
)
async def test_without_what_it_would_start_from_a_service_accepts_no_change(
    client: httpx.AsyncClient, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "lookalike.events")
    assert (await put(client, "a")).status_code == 200
    for _ in range(2):
        caplog.clear()
        (store.folder / name).rename(tmp_path / "aside")
        await until_ready(client, "store")
        refused = await put(client, "b")
        assert problem(refused, 503)["field"] == "store"
        assert refused.headers["Retry-After"] == "1"
        assert str(store.folder) not in refused.text
        assert_of_one_version(await call(client, "/search", embeddings=ROWS.tolist(), limit=1), ROWS)
        assert (await client.get("/livez")).status_code == 200
        (tmp_path / "aside").rename(store.folder / name)
        await until_ready(client)
        said = reasons(caplog, "store incomplete")
        assert len(said) == 1
        assert name in said[0] or "expected a promoted version, found no champion" in said[0]
    assert (await put(client, "c")).json()["sequence"] == 2


async def test_serves_on_without_the_alias_until_another_version_is_promoted(
    client: httpx.AsyncClient, store: Store
) -> None:
    (store.folder / "champion").unlink()
    await until_ready(client, "store")
    assert "a promoted version" in problem(await client.post("/admin/reload"), 409)["found"]
    assert await number_of(client) == 1
    store.promote(2)
    await until_version(client, 2)
    await until_ready(client)
    assert await ready(client) == {"ready": True, "version": 2, "refused": None}


async def test_a_version_that_serves_no_more_may_be_removed(
    client: httpx.AsyncClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.promote(2)
    await until_version(client, 2)
    store.remove([1])
    for _ in range(10):
        assert (await ready(client))["version"] == 2
        await asyncio.sleep(0.02)
    assert reasons(caplog, "store incomplete") == []


@pytest.mark.parametrize("name", ["items.db", "items.db-wal", "items.db-shm"])
async def test_while_a_file_of_the_item_log_is_away_no_change_is_acknowledged(
    client: httpx.AsyncClient, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "lookalike.events")
    assert (await put(client, "a")).status_code == 200
    (store.folder / name).rename(tmp_path / "aside")
    assert problem(await put(client, "b"), 503)["field"] == "items"
    await until_ready(client, "items")
    assert_of_one_version(await call(client, "/embed", inputs=ROWS.tolist()), ROWS)
    (tmp_path / "aside").rename(store.folder / name)
    await until_ready(client)
    assert (await put(client, "c")).json()["sequence"] == 2
    assert await number_of(client) == 1
    said = reasons(caplog, "changes not applied")
    assert len(said) == 1
    assert f"{name}: expected the file that this process opened, found no file" in said[0]


async def test_the_size_of_the_item_log_and_the_share_of_superseded_changes_are_measured(
    client: httpx.AsyncClient, store: Store
) -> None:
    for name in ("a", "b", "a", "a"):
        assert (await put(client, name)).status_code == 200

    async def is_it() -> bool:
        return await metric(client, "item_log_superseded_ratio") == 0.5

    await until(is_it)
    there = sum(path.stat().st_size for path in store.folder.glob("items.db*"))
    assert await metric(client, "item_log_bytes") == there


async def test_ready_means_that_the_champion_is_watched(client: httpx.AsyncClient, at_work: Serving) -> None:
    at_work._tasks["watcher"].cancel()
    await asyncio.gather(at_work._tasks["watcher"], return_exceptions=True)
    assert problem(await client.get("/readyz"), 503)["field"] == "watcher"
    assert (await client.get("/livez")).status_code == 200


async def test_ready_means_that_batches_are_formed(client: httpx.AsyncClient, at_work: Serving) -> None:
    at_work.current.engine._busy = True  # as if a batch were at work, but none is
    members = problem(await client.get("/readyz"), 503)
    assert (members["field"], members["found"]) == ("version", "no answer")
    assert (await client.get("/livez")).status_code == 200


async def test_ready_means_that_a_large_batch_is_answered(client: httpx.AsyncClient, at_work: Serving) -> None:
    with held(at_work._engines):
        begun = asyncio.create_task(call(client, "/embed", inputs=MANY.tolist()))
        await until(holds(lambda: bool(at_work.current.engine._working)))
        problem(await client.get("/readyz"), 503)
    await begun
    assert (await ready(client))["ready"]


def not_well() -> None:
    raise NotReadyError("workers", expected="2 healthy workers", found="1")


@pytest.mark.parametrize(
    ("health", "field"), [(Health(stopping=lambda: True), "service"), (Health(check=not_well), "workers")]
)
async def test_is_ready_only_if_all_workers_are_healthy_and_none_stops(
    store: Store, health: Health, field: str
) -> None:
    def change(app: FastAPI) -> None:
        app.state.health = health

    async with serving(settings_for(store.folder), store.open_champion(), change) as client:
        assert problem(await client.get("/readyz"), 503)["field"] == field
        assert (await client.get("/livez")).status_code == 200


async def test_reports_the_serving_version_while_the_event_loop_runs(store: Store) -> None:
    beats: list[int] = []

    def change(app: FastAPI) -> None:
        app.state.health = Health(beat=beats.append)

    async with serving(settings_for(store.folder), store.open_champion(), change):
        await until(holds(lambda: len(beats) >= 3))
        store.promote(2)
        await until(holds(lambda: beats[-1] == 2))
    assert beats == sorted(beats)


async def test_is_healthy_while_a_version_takes_long_to_open(store: Store) -> None:
    beats: list[int] = []
    apps: list[FastAPI] = []

    def change(app: FastAPI) -> None:
        app.state.health = Health(beat=beats.append)
        apps.append(app)

    async with serving(settings_for(store.folder), store.open_champion(), change) as client:
        at_work: Serving = apps[0].state.serving
        with held(at_work._loader):
            store.promote(2)
            await until(holds(lambda: at_work._following.locked()))  # the version is being opened
            seen = len(beats)
            await until(holds(lambda: len(beats) >= seen + 3))
            assert (await ready(client))["version"] == 1
        await until_version(client, 2)


async def test_whoever_asks_while_the_question_is_asked_has_the_same_answer(at_work: Serving) -> None:
    engine = at_work.current.engine
    asked = [asyncio.ensure_future(engine.answers_canary()) for _ in range(50)]
    await asyncio.sleep(0)
    assert len(engine._waiting) <= 1
    assert await asyncio.gather(*asked) == [True] * 50


async def test_frees_a_version_once_another_serves(store: Store) -> None:
    app = create_app(settings_for(store.folder), Collection(store.open_champion()))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        first = weakref.ref(app.state.serving.current.version.index)
        await call(client, "/embed", inputs=MANY.tolist())
        store.promote(2)
        await until_version(client, 2)
        await call(client, "/embed", inputs=ROWS.tolist())
        gc.collect()
        assert first() is None


async def test_the_end_ends_its_threads(store: Store, client_of: Callable[[], Any]) -> None:
    before = set(threading.enumerate())
    async with client_of() as (client, _):
        store.promote(2)
        await client.post("/admin/reload")
        await call(client, "/embed", inputs=MANY.tolist())
        names = {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - before}
        assert names == {"drift", "engine", "item-log", "loader"}
    assert set(threading.enumerate()) == before


async def test_the_version_that_serves_is_the_engines(at_work: Serving) -> None:
    current: Version = at_work.current.version
    assert current is at_work.current.engine.version
    assert at_work.current.limits.input_shape == (4,)

"""Real processes behind one port: killed, stopped, started again, and ended."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from lookalike.index.versions.store import Store
from lookalike.service.errors import NotReadyError
from lookalike.service.serving.workers import WorkerBoard
from tests.factories import flip
from tests.service.changing import ROWS, assert_of_one_version, changing_store, point_at, wait_until
from tests.service.process import SEARCH, Process, connect, running

STALLED = f"{SEARCH}Content-Length: 9\n\n{{"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return changing_store(tmp_path_factory.mktemp("workers"))


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Process]:
    """Two workers; each test must leave them healthy."""
    with served(store) as process:
        yield process


def served(store: Store, **environment: str) -> AbstractContextManager[Process]:
    return running(
        "serve", "--store", str(store.folder), "--port", "0", "--workers", "2", LOOKALIKE_DEVICE="cpu", **environment
    )


def status_of(server: Process, path: str = "/readyz") -> int:
    """The status of a GET on a new connection, which any worker may accept; 0 without an answer."""
    try:
        return httpx.get(server.url + path, timeout=5).status_code
    except httpx.TransportError:
        return 0


def wait_until_ready(server: Process) -> None:
    wait_until(lambda: status_of(server) == 200)


def metrics(server: Process) -> str:
    return httpx.get(f"{server.url}/metrics").text


def pids(server: Process) -> set[int]:
    """The running workers."""
    return {pid for pid in children(server.popen.pid) if is_running(pid) and "spawn_main" in command(pid)}


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def versions(server: Process, count: int = 20) -> set[int]:
    """The versions in `count` answers, each on a new connection."""
    answers = [httpx.post(f"{server.url}/embed", json={"inputs": ROWS.tolist()}).json() for _ in range(count)]
    for answer in answers:
        assert_of_one_version(answer, ROWS)
    return {answer["version"] for answer in answers}


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_board_by_hand() -> None:
    board = WorkerBoard(2)
    assert board.version is None
    with pytest.raises(NotReadyError, match="expected 2 healthy workers, found 0"):
        board.check()
    board.beat(1, 7)
    with pytest.raises(NotReadyError, match="expected 2 healthy workers, found 1"):
        board.check()
    board.beat(0, 8)
    board.check()
    assert board.version == 8
    board.seen[1] = time.monotonic() - 1.6
    with pytest.raises(NotReadyError, match="found 1"):
        board.check()


@pytest.mark.slow
def test_workers_share_one_port_and_their_numbers_are_one(server: Process) -> None:
    wait_until_ready(server)
    assert len(pids(server)) == 2
    assert server.popen.pid not in pids(server)
    before = metrics(server)
    for _ in range(30):
        assert httpx.post(f"{server.url}/embed", json={"inputs": ROWS[:2].tolist()}).status_code == 200
    assert all(rows_told(metrics(server)) == rows_told(before) + 60 for _ in range(10))  # any worker may answer
    assert re.search(r"^lookalike_version 1\.0$", metrics(server), re.M)


def rows_told(text: str) -> float:
    found = re.search(r'^lookalike_rows_total\{route="/embed"\} (\S+)$', text, re.M)
    return float(found[1]) if found else 0.0


@pytest.mark.slow
def test_one_promote_reaches_all_workers(server: Process, store: Store) -> None:
    wait_until_ready(server)
    store.promote(2)
    wait_until(lambda: versions(server) == {2})
    store.rollback()
    wait_until(lambda: versions(server) == {1})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_replaces_a_worker_that_dies_or_hangs(server: Process, number: int) -> None:
    wait_until_ready(server)
    before = pids(server)
    (victim, other) = sorted(before)
    os.kill(victim, number)
    wait_until(lambda: status_of(server) == 503)
    assert versions(server, 3) == {1}  # the other worker answers
    wait_until_ready(server)
    assert not is_running(victim)
    now = pids(server)
    assert (len(now), victim in now, other in now) == (2, False, True)


@pytest.mark.slow
def test_who_takes_anothers_place_serves_what_the_others_do(server: Process, store: Store) -> None:
    """The champion was damaged later, and the new worker refuses it too."""
    wait_until_ready(server)
    flip(store.path(2) / "index.faiss", 60)
    point_at(store, '{"version": 2, "replaced": [1]}')
    wait_until(lambda: httpx.get(f"{server.url}/readyz").json()["refused"] is not None)
    victim = min(pids(server))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: status_of(server) == 503)
    wait_until_ready(server)
    assert victim not in pids(server)
    assert versions(server) == {1}
    wait_until(lambda: all(httpx.get(f"{server.url}/readyz").json()["refused"] for _ in range(10)))
    flip(store.path(2) / "index.faiss", 60)
    store.promote(1)
    wait_until(lambda: not any(httpx.get(f"{server.url}/readyz").json()["refused"] for _ in range(10)))


@pytest.mark.slow
def test_a_client_that_stalls_does_not_hold_up_the_end_and_an_idle_one_is_told_at_once(store: Store) -> None:
    with served(store, LOOKALIKE_STOP_SECONDS="1") as server:
        wait_until_ready(server)
        workers = pids(server)
        with connect(server.address, STALLED), httpx.Client() as idle:
            assert idle.get(f"{server.url}/readyz").status_code == 200
            began = time.monotonic()
            server.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: not_ready(idle, server))
            _, errors = server.popen.communicate(timeout=60)
            assert time.monotonic() - began < 1 + 5 + 10  # the limit, and ten seconds for a slow machine
        assert server.popen.returncode == 0
        assert "Traceback" not in errors
        assert not any(is_running(pid) for pid in workers)


def not_ready(client: httpx.Client, server: Process) -> bool:
    try:
        return client.get(f"{server.url}/readyz").status_code == 503
    except httpx.TransportError:  # a closed connection means the same
        return True


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False], ids=["while they start", "while they serve"])
def test_ctrl_c_in_a_terminal_reaches_all_and_ends_them_quietly(store: Store, early: bool) -> None:
    """A group of processes gets the signal: the supervisor and its workers."""
    with served(store) as server:
        if not early:
            wait_until_ready(server)
        time.sleep(0.5)
        for pid in [*children(server.popen.pid), server.popen.pid]:
            os.kill(pid, signal.SIGINT)
        _, errors = server.popen.communicate(timeout=60)
    assert server.popen.returncode == 0
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.slow
def test_workers_end_with_the_process_that_watches_them(store: Store) -> None:
    with served(store) as server:
        wait_until_ready(server)
        workers = pids(server)
        server.popen.kill()
        wait_until(lambda: not any(is_running(pid) for pid in workers))


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_service_with_one_clear_line(store: Store, tmp_path: Path) -> None:
    """The champion is damaged after the supervisor has checked it, and before its workers do."""
    own = Store(Path(shutil.copytree(store.folder, tmp_path / "store")))
    with served(own) as server:
        flip(own.path(1) / "index.faiss", 60)
        _, errors = server.popen.communicate(timeout=80)
    assert server.popen.returncode == 2
    *log, line = errors.splitlines()
    assert line.startswith("lookalike: workers: expected processes that serve, found a process that ended with 2 ")
    reasons = [json.loads(one).get("reason", "") for one in log]
    assert any("index.faiss" in reason for reason in reasons)
    assert status_of(server, "/livez") == 0

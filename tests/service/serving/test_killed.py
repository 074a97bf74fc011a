"""A service that is killed while items are put has all acknowledged items after a restart."""

import random
import signal
import threading

import httpx
import pytest

from lookalike.index.changes.collection import open_collection
from lookalike.index.versions.store import Store
from lookalike.service.client import Client
from lookalike.training.rows import open_rows, read_sample
from tests.service.process import Process, free_port, running

ROWS, _ = read_sample(open_rows("digits:test"), 360, seed=0)
TOGETHER = 3


def put_until_killed(process: Process, first: int, after: float) -> tuple[list[str], list[str]]:
    """Put items in groups of three, and kill the process some seconds `after` the first.

    Returns:
        The ids that were acknowledged, and those that were under way at the end.
    """
    acknowledged: list[str] = []
    killer = threading.Timer(after, process.popen.send_signal, [signal.SIGKILL])
    with httpx.Client(base_url=process.url) as client:
        for start in range(first, len(ROWS), TOGETHER):
            ids = [f"new-{i}" for i in range(start, start + TOGETHER)]
            items = [{"id": name, "input": ROWS[start + i].tolist()} for i, name in enumerate(ids)]
            try:
                answer = client.put("/items", json={"items": items})
            except httpx.TransportError:
                return acknowledged, ids
            assert answer.status_code == 200, answer.text
            if not acknowledged:
                killer.start()
            acknowledged += ids
    pytest.fail("it was not killed in time")


@pytest.mark.slow
def test_acknowledged_changes_survive_a_killed_service(store_copy: Store) -> None:
    serve = ("serve", "--store", str(store_copy.folder), "--port")
    chance, known, under_way = random.Random(0), set[str](), list[set[str]]()
    for _ in range(3):
        with running(*serve, str(free_port())) as process:
            acknowledged, rest = put_until_killed(process, len(known) + 3 * len(under_way), chance.uniform(0.0, 0.08))
        known |= set(acknowledged)
        under_way.append(set(rest))
        items = open_collection(store_copy, 1).items
        assert all(items.find(name) is not None for name in known)
        for batch in under_way:  # never acknowledged: all of it or nothing
            assert len({items.find(name) is None for name in batch}) == 1
    with running(*serve, str(free_port())) as process, Client(process.url) as client:
        name = sorted(known)[0]
        found = client.search(inputs=ROWS[[int(name.removeprefix("new-"))]], limit=1)
        assert found.results[0].hits[0].id == name
        assert {item.id for item in client.items()} >= known

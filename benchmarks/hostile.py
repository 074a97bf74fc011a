"""What do 64 connections without a key do to other clients? The worst answer of /livez, and the memory, in each attack.

ours    the worst of the answers to GET /livez, one every 10 ms, during the attack; and the service's highest resident
        memory after the start of the attack, as a multiple of the memory before

The service has a key, and the attackers do not know it. Each attack is a way to send bytes, for `--seconds` on each of
64 connections at once: heads, chunks and trailers that never end, bodies that are never finished, filters and searches
as large as the limits, and senders that are slow. An attacker whose connection is closed opens the next one. The
attackers are a separate process, on the second core.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_process import free_port, lookalike, running_server, store_of, two_cores, wait_until_ready
from lookalike.index.versions.store import Store

__all__ = ["ATTACKS", "main"]

CONNECTIONS = 64
SECONDS = 5.0
EVERY = 0.01
KEY = "a key that no attacker knows, of this benchmark"
PART = 1 << 16
PAUSE = 0.2
"""The pause of slow senders between two bytes."""

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /livez" + HOST
SEARCH = b"POST /search" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = SEARCH + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = 60 << 20


def large_filter() -> bytes:
    """A search whose filter has 256 lists of 10,000 values."""
    values = ",".join(map(str, range(10_000)))
    lists = ",".join(f'{{"field":"label","in":[{values}]}}' for _ in range(256))
    return _whole(f'{{"ids":["0"],"limit":1,"filter":{{"or":[{lists}]}}}}'.encode())


def large_search() -> bytes:
    """A search for 100 items with 1,000 hits each."""
    return _whole(json.dumps({"ids": list(map(str, range(100))), "limit": 1_000}).encode())


def _whole(body: bytes) -> bytes:
    return SEARCH + b"Content-Length: %d\r\n\r\n" % len(body) + body


Attack = tuple[bytes, bytes, float]
"""The start of a connection, the bytes that are then sent repeatedly, and the seconds between them."""
ATTACKS: dict[str, Callable[[], Attack]] = {
    "nothing": lambda: (b"", b"", PAUSE),
    "a header without end": lambda: (GET + b"X: ", b"a" * PART, 0.0),
    "a header's name without end": lambda: (GET + b"X", b"a" * PART, 0.0),
    "headers without end": lambda: (GET, b"X: y\r\n" * (PART // 6), 0.0),
    "a path without end": lambda: (b"GET /", b"a" * PART, 0.0),
    "a query without end": lambda: (b"GET /items?", b"a=&" * (PART // 3), 0.0),
    "a trailer without end": lambda: (CHUNKED + b"0\r\nX: ", b"a" * PART, 0.0),
    "chunks of one byte": lambda: (CHUNKED, b"1\r\na\r\n" * (PART // 6), 0.0),
    "a chunk's extension without end": lambda: (CHUNKED + b"1;", b"a" * PART, 0.0),
    "half of a large body": lambda: (SEARCH + b"Content-Length: %d\r\n\r\n" % BODY, b" " * PART, 0.0),
    "filters as large as the limits": lambda: (b"", large_filter(), 0.0),
    "searches as large as the limits": lambda: (b"", large_search(), PAUSE),
    "a head, byte by byte": lambda: (GET + b"X: ", b"a", PAUSE),
    "a body, byte by byte": lambda: (SEARCH + b"Content-Length: %d\r\n\r\n" % BODY, b" ", PAUSE),
}


def attack(port: int, name: str, until: float, core: int) -> None:
    """Attack from 64 threads at once. Run it in a separate process, because it binds the process to a core."""
    os.sched_setaffinity(0, {core})
    begun, part, pause = ATTACKS[name]()
    threads = [threading.Thread(target=send, args=(port, begun, part, pause, until)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send(port: int, begun: bytes, part: bytes, pause: float, until: float) -> None:
    """Attack on one connection after the other."""
    while time.time() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.settimeout(1.0)
            connection.sendall(begun)
            sent = len(begun)
            while time.time() < until and (part or pause):
                if sent < BODY:
                    connection.sendall(part)
                    sent += len(part)
                    time.sleep(pause)
                else:
                    time.sleep(PAUSE)


def livez(port: int) -> float:
    """The seconds that one answer takes."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=60) as answer:
        answer.read()
    return time.perf_counter() - began


def resident(pid: int) -> int:
    """The resident memory of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def measure(port: int, pid: int, name: str, seconds: float, core: int) -> tuple[list[float], float]:
    """The seconds of each answer of /livez during an attack, and the highest memory over the memory before."""
    before, highest, times = resident(pid), 0, list[float]()
    until = time.time() + seconds
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(port, name, until + 1, core))
    process.start()
    while time.time() < until + 1:
        times.append(livez(port))
        highest = max(highest, resident(pid))
        time.sleep(EVERY)
    process.join()
    return times, highest / before


def run_attacks(store: Store, seconds: float, names: list[str]) -> list[Row]:
    """Two rows per attack."""
    rows, port = list[Row](), free_port()
    server_core, other_core = two_cores()
    with running_server(lookalike(store, port), [server_core], LOOKALIKE_API_KEY=KEY) as process:
        wait_until_ready(port, process)
        measure_one = partial(measure, port, process.pid, seconds=seconds, core=other_core)
        measure_one("searches as large as the limits")  # the memory that the first connections allocate stays allocated
        for name in names:
            times, growth = measure_one(name)
            worst, typical = max(times) * 1e3, statistics.median(times) * 1e3
            rows.append(row(f"worst /livez, {name}", "ms", ours=worst, floor=typical, bar=Bar("ours", "<=", 100)))
            rows.append(row(f"memory, {name}", "times before", ours=growth, bar=Bar("ours", "<=", 1.25)))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="a store with a promoted version [default: a new store]")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of each attack")
    parser.add_argument("--only", choices=list(ATTACKS), action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = run_attacks(store_of(options.store, Path(name)), options.seconds, options.only or list(ATTACKS))
    report("hostile", rows, "The floor of a worst answer is the median answer meanwhile.")


if __name__ == "__main__":
    main()

"""Do other clients suffer from a client that misbehaves? Four kinds of it, next to clients that search continuously.

ours    the p99 of 16 connections that search with a row of 784 numbers, while at the same time
        - 50 clients send a body one byte at a time, a byte every tenth of a second
        - 8 clients have requested 4,096 embeddings as JSON, and read a kilobyte of the 3 MB every tenth of a second
        - 1,000 connections are open and silent
        - a client posts JSON that is 100,000 lists deep, five times a second
floor   the same p99 without them, immediately before, in alternating rounds

The server has one core, the clients have the other. Every answer to the 16 connections must be a 200.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import uvloop

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_client import Figures, Shot, Traffic, posted, to_npy
from benchmarks.service_process import ask, free_port, lookalike, running_server, store_of, two_cores
from lookalike.training.progress import progress_bar
from lookalike.training.rows import open_rows, read_sample

__all__ = ["main"]

SECONDS = 5.0
ROUNDS = 5
CONNECTIONS = 16
SLOW_BODIES, SLOW_READERS, SILENT = 50, 8, 1_000
DEPTH = 100_000
PAUSE = 0.1
READ = 1_024
SETTLE = 1.0

Disturbance = Callable[[int], AbstractAsyncContextManager[None]]


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with a small receive buffer."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * READ)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=narrow, limit=READ)


async def send_slowly(port: int) -> None:
    """Send a body of 10,000 bytes, byte by byte; the server closes the connection, and the client starts again."""
    while True:
        _, writer = await opened(port)
        writer.write(posted("/search", b" " * 10_000)[:-10_000])
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(PAUSE)


async def read_slowly(port: int, body: bytes) -> None:
    """Read an answer of megabytes, one kilobyte at a time."""
    reader, writer = await opened(port)
    writer.write(posted("/embed", body, "application/x-npy", "application/json"))
    while await reader.read(READ):
        await asyncio.sleep(PAUSE)


async def stay_silent(port: int) -> None:
    """Keep a silent connection open; if the server closes it, open a new one."""
    while True:
        reader, _ = await opened(port)
        await reader.read()


async def post_deep(port: int) -> None:
    """Post JSON of nested lists."""
    request = posted("/search", b'{"inputs":' + b"[" * DEPTH + b"]" * DEPTH + b"}")
    while True:
        reader, writer = await opened(port)
        writer.write(request)
        with contextlib.suppress(ConnectionError):
            await reader.readline()
        writer.close()
        await asyncio.sleep(2 * PAUSE)


@contextlib.asynccontextmanager
async def disturbed(what: Callable[[int], Coroutine[None, None, None]], count: int, port: int) -> AsyncIterator[None]:
    """Run `count` such clients, which have started when the block begins, and end them after the block."""
    tasks = [asyncio.ensure_future(what(port)) for _ in range(count)]
    await asyncio.sleep(SETTLE)
    try:
        yield
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()  # a client that ended earlier did not disturb
                raise RuntimeError("a client that should have stayed has ended")
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(
    port: int, shots: list[Shot], kinds: dict[str, Disturbance], options: argparse.Namespace
) -> list[Row]:
    """One row per disturbance: medians over alternating rounds."""
    gc.freeze()
    steady: dict[str, list[Figures]] = {kind: [] for kind in kinds}
    under_attack: dict[str, list[Figures]] = {kind: [] for kind in kinds}
    await Traffic(port, shots, CONNECTIONS).run(seconds=1)
    with progress_bar("measuring", options.rounds * len(kinds), "pairs") as advance:
        for kind, disturbance in [*kinds.items()] * options.rounds:
            steady[kind].append(await Traffic(port, shots, CONNECTIONS).run(seconds=options.seconds))
            async with disturbance(port):
                under_attack[kind].append(await Traffic(port, shots, CONNECTIONS).run(seconds=options.seconds))
            advance(1, kind)
    bar = Bar("ours / floor", "<=", 2)
    rows = [
        row(f"p99 beside {kind}", "ms", ours=p99(under_attack[kind]), floor=p99(steady[kind]), bar=bar)
        for kind in kinds
    ]
    wrong = sum(figures.wrong.total() for each in (*steady.values(), *under_attack.values()) for figures in each)
    return [*rows, row("answers that were no 200", "", ours=wrong, bar=Bar("ours", "<=", 0))]


def p99(rounds: list[Figures]) -> float:
    """The median of the rounds, in milliseconds."""
    return median(figures.milliseconds(99) for figures in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--store", type=Path, help="a store with a promoted version of fashion-mnist [default: a new store]"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of each load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    server_core, client_core = two_cores()
    port = free_port()
    images, _ = read_sample(open_rows("fashion-mnist:test"), 4_096, 0)
    many = to_npy(images.astype(np.float32))
    shots = [Shot(posted("/search", orjson.dumps({"inputs": [image.astype(int).tolist()]}))) for image in images[:200]]
    kinds: dict[str, Disturbance] = {
        f"{SLOW_BODIES} slow bodies": partial(disturbed, send_slowly, SLOW_BODIES),
        f"{SLOW_READERS} slow readers": partial(disturbed, partial(read_slowly, body=many), SLOW_READERS),
        f"{SILENT:,} silent connections": partial(disturbed, stay_silent, SILENT),
        f"JSON of {DEPTH:,} levels": partial(disturbed, post_deep, 1),
    }
    with tempfile.TemporaryDirectory() as name:
        store = store_of(options.store, Path(name))
        os.sched_setaffinity(0, {client_core})
        with running_server(lookalike(store, port), [server_core]):
            ask(port, '{"ids": ["0"]}')
            report("fairness", uvloop.run(measure(port, shots, kinds, options)))


if __name__ == "__main__":
    main()

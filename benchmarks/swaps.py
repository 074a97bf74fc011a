"""Do clients notice that the version changes? 1,000 changes under full load, with every answer checked.

ours    calls from 16 connections, each sent after the previous answer: /embed and /search, by rows and by ids, as
        JSON and as .npy, while `promote` and `rollback` change the champion back and forth in the store's folder, each
        as soon as an answer shows the change before
floor   the same load immediately before, without changes

Both versions contain the same 60,000 items, by different encoders. An answer is compared with the result of the version
that it names for the same query, number by number: an answer that matches the other version is mixed, one that matches
neither is wrong. The server has one core; the client and the promotions have the other. The memory is anonymous memory.
"""

import argparse
import asyncio
import gc
import io
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_client import Figures, Reply, Shot, Traffic, posted, to_npy
from benchmarks.service_process import (
    Footprint,
    ask,
    footprint,
    free_port,
    lookalike,
    running_server,
    store_of,
    two_cores,
)
from lookalike.index.ann.target import Target
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample

__all__ = ["Seen", "main", "make_shots", "two_versions"]

CHANGES = 1_000
SECONDS = 15.0
CONNECTIONS = 16
QUERIES = 40
MOST_ROWS = 8
LIMIT = 10
EARLY, LATE = 5, 200
PATIENCE = 30.0
JSON, NPY = "application/json", "application/x-npy"
CLOSE = 5e-5
"""How much the size of a batch may change a float32 of an answer."""
REMEMBERED = 1_000

Content = tuple[NDArray[np.float32], list[list[str]]]
"""The numbers of an answer, (n, latent) or (n, limit), and the ids with them."""


@dataclass
class Seen:
    """The version that the last answer named, and the answers that are known to be right."""

    version: int = 0
    right: dict[tuple[int, bytes, bytes], int] = field(default_factory=dict)


def two_versions(existing: Path | None, folder: Path) -> Store:
    """A store of two versions of the same rows, by different encoders; the first is the champion."""
    store = store_of(existing, folder)
    if existing:
        store = Store(Path(shutil.copytree(existing, folder / "copy")))
    rows = open_rows("fashion-mnist")
    train(rows, load_config(overrides=["fit.epochs=1", "fit.seed=1"]), folder / "other")
    key = store.open_champion().index.spec.key
    build(rows, folder / "other", store, target=Target(key=key))
    return store


def found_by(version: Version, rows: NDArray[np.float32] | None, ids: list[str]) -> Content:
    """The result of the version itself."""
    found = version.searcher.search_items(ids, LIMIT) if rows is None else version.searcher.search_rows(rows, LIMIT)
    return found.scores, [[version.items.id_at(p) for p in places] for places in found.positions.tolist()]


def read_embeddings(reply: Reply) -> tuple[int, Content]:
    answer = orjson.loads(reply.body)
    return answer["version"], (np.array(answer["embeddings"], np.float32), [])


def read_hits(reply: Reply) -> tuple[int, Content]:
    answer = orjson.loads(reply.body)
    hits = [one["hits"] for one in answer["results"]]
    scores = np.array([[hit["score"] for hit in row] for row in hits], np.float32)
    return answer["version"], (scores, [[hit["id"] for hit in row] for row in hits])


def read_npy(reply: Reply) -> tuple[int, Content]:
    """Read embeddings, or records of ids and scores; only the head names the version."""
    array = np.load(io.BytesIO(reply.body), allow_pickle=False)
    content = (array["score"], array["id"].tolist()) if array.dtype.names else (array, [])
    return version_of(reply), content


def version_of(reply: Reply) -> int:
    head = reply.head.lower()
    at = head.index(b"x-lookalike-version: ") + len(b"x-lookalike-version: ")
    return int(head[at:].split(b"\r\n", 1)[0])


def agrees(result: Content, wanted: Content) -> bool:
    """Whether two results are the same except for rounding, which may also swap neighbors of nearly equal score."""
    (numbers, ids), (others, names) = result, wanted
    if numbers.shape != others.shape or len(ids) != len(names):
        return False
    shared = [len(set(one) & set(other)) for one, other in zip(ids, names, strict=True)]
    return bool(np.abs(numbers - others).max() <= CLOSE) and all(count >= LIMIT - 1 for count in shared)


def checker(
    number: int, read: Callable[[Reply], tuple[int, Content]], wanted: dict[int, Content], seen: Seen
) -> Callable[[Reply], str]:
    """A check of answers to query `number`; `wanted` contains each version's result."""

    def check(reply: Reply) -> str:
        if reply.status != 200:
            return f"status {reply.status}"
        named = str(version_of(reply)).encode()
        known = seen.right.get((number, named, reply.body))
        if known is None:
            version, content = read(reply)
            fits = [each for each, other in wanted.items() if agrees(content, other)]
            if version != int(named) or fits != [version]:
                return "mixed" if fits else "wrong"
            known = version
            if len(seen.right) < REMEMBERED * QUERIES:
                seen.right[number, named, reply.body] = version
        seen.version = known
        return ""

    return check


def make_shots(store: Store, seen: Seen) -> list[Shot]:
    """Every kind of call, with one row or some; raises if the versions have the same results."""
    versions = [store.open(number) for number in store.numbers()]
    images, _ = read_sample(open_rows("fashion-mnist:test"), QUERIES * MOST_ROWS, 0)
    random = np.random.default_rng(0)
    shots = []
    for number in range(QUERIES):
        count = int(random.integers(1, MOST_ROWS + 1)) if number % 2 else 1
        rows = images[number * MOST_ROWS :][:count].astype(np.float32)
        ids = [versions[0].items.id_at(int(p)) for p in random.integers(0, len(versions[0].items), count)]
        inputs = orjson.dumps({"inputs": rows.astype(int).tolist(), "limit": LIMIT})
        embedded: dict[int, Content] = {v.number: (v.embed(rows), []) for v in versions}
        near, own = ({v.number: found_by(v, given, ids) for v in versions} for given in (rows, None))
        for kind in (embedded, near, own):
            if agrees(*kind.values()):
                raise RuntimeError("the two versions answer alike")
        calls = [
            (posted("/embed", orjson.dumps({"inputs": rows.astype(int).tolist()})), read_embeddings, embedded),
            (posted("/embed", to_npy(rows), NPY, NPY), read_npy, embedded),
            (posted("/search", inputs), read_hits, near),
            (posted("/search", to_npy(rows), NPY), read_hits, near),
            (posted("/search", inputs, JSON, NPY), read_npy, near),
            (posted("/search", orjson.dumps({"ids": ids, "limit": LIMIT})), read_hits, own),
        ]
        shots += [
            Shot(sent, checker(6 * number + kind, read, wanted, seen))
            for kind, (sent, read, wanted) in enumerate(calls)
        ]
    return shots


def change(folder: Path) -> int:
    """Promote the second version, or roll back to the first; returns the number of the champion."""
    store = Store(folder)
    alias = store.rollback() if store.champion_number() == 2 else store.promote(2)
    return alias.version


async def change_often(changes: int, store: Store, seen: Seen, other: Executor, pid: int) -> list[Footprint]:
    """Change, and wait until an answer shows it; returns the footprint after some, after many, and at the end."""
    held = []
    for number in range(1, changes + 1):
        wanted = await asyncio.get_running_loop().run_in_executor(other, change, store.folder)
        deadline = time.monotonic() + PATIENCE
        while seen.version != wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"change {number}: no answer of version {wanted} within {PATIENCE:g} s")
            await asyncio.sleep(0.002)
        if number in {EARLY, LATE, changes}:
            held.append(footprint(pid))
    return held


async def drive(
    port: int, pid: int, store: Store, seconds: float, changes: int
) -> tuple[Figures, Figures, list[Footprint]]:
    """The steady figures, those during the changes, and the server's footprint."""
    seen = Seen()
    shots = make_shots(store, seen)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), os.nice, (19,)) as other:
        await asyncio.get_running_loop().run_in_executor(other, change, store.folder)  # loads modules
        await asyncio.get_running_loop().run_in_executor(other, change, store.folder)
        gc.freeze()
        await Traffic(port, shots, CONNECTIONS).run(seconds=2)
        steady = await Traffic(port, shots, CONNECTIONS).run(seconds=seconds)
        traffic = Traffic(port, shots, CONNECTIONS)
        running = asyncio.create_task(traffic.run())
        try:
            held = await change_often(changes, store, seen, other, pid)
        finally:
            traffic.stop()
            moving = await running
    return steady, moving, held


def report_rows(steady: Figures, moving: Figures, held: list[Footprint], changes: int) -> list[Row]:
    """The rows of the report."""
    mixed = moving.wrong["mixed"] + steady.wrong["mixed"]
    failed = moving.wrong.total() + steady.wrong.total() - mixed
    first, many = held[0].anonymous / 1e6, held[min(1, len(held) - 1)].anonymous / 1e6
    within = Bar("ours / floor", "<=", 1.05)
    return [
        row("changes", "", ours=changes),
        row("answers while it changes", "", ours=len(moving.latencies)),
        row("failed, or wrong", "answers", ours=failed, bar=Bar("ours", "<=", 0)),
        row("mixed", "answers", ours=mixed, bar=Bar("ours", "<=", 0)),
        row("a change, until an answer shows it", "s", ours=moving.seconds / changes),
        row("requests a second", "", ours=moving.rate, floor=steady.rate),
        *(
            row(f"p{p:g}", "ms", ours=moving.milliseconds(p), floor=steady.milliseconds(p), bar=bar)
            for p, bar in ((50.0, None), (99.0, Bar("ours / floor", "<=", 2)), (99.9, None))
        ),
        row(f"memory after {LATE} changes; floor: after {EARLY}", "MB", ours=many, floor=first, bar=within),
        row(f"memory at the end; floor: after {EARLY}", "MB", ours=held[-1].anonymous / 1e6, floor=first),
        row(f"open files at the end; floor: after {EARLY}", "", ours=held[-1].files, floor=held[0].files),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="a store with a promoted version of fashion-mnist; it is copied")
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of the steady load")
    options = parser.parse_args()
    server_core, client_core = two_cores()
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        store = two_versions(options.store, Path(name))
        os.sched_setaffinity(0, {client_core})
        with running_server(lookalike(store, port), [server_core]) as process:
            ask(port, '{"ids": ["0"]}')
            steady, moving, held = uvloop.run(drive(port, process.pid, store, options.seconds, options.changes))
    note = ", ".join(f"{count} x {what}" for what, count in (steady.wrong + moving.wrong).items())
    report("swaps", report_rows(steady, moving, held, options.changes), note)


if __name__ == "__main__":
    main()

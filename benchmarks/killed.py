"""A writer under random load that is killed at random moments, repeatedly."""

import contextlib
import dataclasses
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.changes import random_changes
from benchmarks.failures import NotHeldError
from benchmarks.plain import Plain
from benchmarks.steps import NAMES, made_store
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import StoreError
from lookalike.index.versions.store import Store
from lookalike.training.progress import progress_bar

__all__ = ["killed"]

LONGEST = 0.06
"""The longest life of a writer in seconds: some hundreds of changes, or a compaction."""
A_STORE = 50
"""The kills in each store."""
JOBS = 0.02
"""The share of a writer's steps that build, promote or roll back a version."""


def killed(kills: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kill `kills` writers, and check the store after each.

    Returns:
        How often each event was seen, and the failed checks.
    """
    rng, seen, wrong = np.random.default_rng(seed), Counter[str](), list[str]()
    with progress_bar("random kills", kills, "kills") as advance:
        for first in range(0, kills, A_STORE):
            with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
                store, plain = made_store(Path(folder))
                try:
                    for number in range(first, min(kills, first + A_STORE)):
                        _kill(store, plain, [seed, number], rng.uniform(0, LONGEST), seen)
                        advance(1)
                except Exception as error:
                    wrong.append(f"seed {seed}, kill {number}: {error!r}")
                    print(wrong[-1], file=sys.stderr)
    return seen, wrong


def _kill(store: Store, plain: Plain, seed: list[int], after: float, seen: Counter[str]) -> None:
    """Run one writer and check the store after its end; `plain` contains the expected items."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.killed"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_write, args=(store.folder, seed, sender))
    process.start()
    sender.close()
    receiver.recv()
    time.sleep(after)
    process.kill()
    process.join()
    sent, acknowledged = _received(receiver)
    for changes, last in acknowledged:
        for place, change in enumerate(changes, start=last - len(changes) + 1):
            plain.apply(dataclasses.replace(change, sequence=place))
        seen["acknowledged changes"] += len(changes)
    seen["kills"] += 1
    seen["kills while changes were under way"] += isinstance(sent, list)
    seen["kills while a version was made or changed"] += isinstance(sent, str)
    log = ChangeLog(store.folder)
    known, after_all = log.read(0, 1 << 20), log.read(plain.applied, 10_000)
    log.close()
    if [change.sequence for change in known] != list(range(1, len(known) + 1)):
        raise NotHeldError("a change is missing")
    if after_all:
        if not isinstance(sent, list) or [c.id for c in after_all] != [c.id for c in sent]:
            raise NotHeldError(f"a phantom, or part of a batch: {len(after_all)} changes")
        seen["changes that were there and not acknowledged"] += len(after_all)
        for change, wanted in zip(after_all, sent, strict=True):
            plain.apply(dataclasses.replace(wanted, sequence=change.sequence))
    _check(store, plain)


def _received(receiver: Connection) -> tuple[list[Change] | str | None, list[tuple[list[Change], int]]]:
    """The operation in progress at the end, and the acknowledged ones with the last sequence number."""
    sent: list[Change] | str | None = None
    acknowledged: list[tuple[list[Change], int]] = []
    while True:
        try:
            message = receiver.recv()
        except (EOFError, OSError):  # killed while it announced an operation, which had not started
            return sent, acknowledged
        if isinstance(message, int):
            if isinstance(sent, list):
                acknowledged.append((sent, message))
            sent = None
        else:
            sent = message


def _check(store: Store, plain: Plain) -> None:
    number = store.champion_number()
    collection = open_collection(store, number)
    if not collection.version.answers_canary():
        raise NotHeldError(f"version {number} does not answer its canary query")
    present = plain.found()
    for name, wanted in zip(plain.names, present, strict=True):
        place = collection.items.find(name)
        if (place is not None) != wanted:
            raise NotHeldError(f"{name} at {place}")
        if place is not None and collection.items.payload_json(place) != plain.payloads[plain.places[name]]:
            raise NotHeldError(f"payload of {name}")
    for query in plain.embeddings[present][::7]:
        found = collection.searcher.search(query[None], 10)
        names = [collection.items.id_at(int(place)) for place in found.positions[0] if place >= 0]
        if names != plain.nearest(plain.scores(query), 10):
            raise NotHeldError(f"found {names}")


def _write(folder: Path, seed: list[int], reports: Connection) -> None:
    """The writer process, until it is killed: announce each operation, run it, acknowledge it."""
    rng, store, log = np.random.default_rng(seed), Store(folder), ChangeLog(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    reports.send(0)
    while True:
        if rng.random() < JOBS:
            name = str(rng.choice(["compact", "promote", "roll back"]))
            reports.send(name)
            _job(store, name, rng)
            reports.send(0)
        else:
            changes = random_changes(rng, NAMES, int(rng.choice([1, 1, 1, 5, 100])))
            reports.send(changes)
            reports.send(log.append(changes))


def _job(store: Store, name: str, rng: np.random.Generator) -> None:
    if name == "compact":
        compact(store)
    elif name == "promote":
        store.promote(int(rng.choice(store.numbers())))
    else:
        with contextlib.suppress(StoreError):  # no version to roll back to
            store.rollback()

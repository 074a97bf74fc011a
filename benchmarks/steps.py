"""The steps that `benchmarks.durability` interrupts: a second process changes a store; and the checks afterwards.

The second process is forked from a process that has imported everything and used nothing, so that it starts at once. It
reports the result of a step in shared memory, because its writes are made to fail.
"""

import dataclasses
import io
import json
import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from benchmarks.changes import random_changes
from benchmarks.failures import NotHeldError
from benchmarks.plain import WIDTH, Plain, matrix_of
from benchmarks.retrained import resume
from lookalike.index.ann.target import Target
from lookalike.index.ann.vectors import one_thread
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Alias, Store
from lookalike.training.errors import LookalikeError
from tests.factories import encoder_at, made_rows

__all__ = ["KEPT", "SHARED_BYTES", "STEPS", "TRACEBACK", "Held", "attempt", "made_store", "read_outcomes"]

ROWS = 40
TRIES = 8
SHARED_BYTES = 1 << 14
"""Bytes of shared memory."""
NAMES = [*(f"row-{i}" for i in range(ROWS)), *(f"new-{i}" for i in range(20))]
SENT = [
    Change("row-3", np.arange(WIDTH, dtype=np.float32), '{"n": 1}'),
    Change("row-4"),
    Change("new-19", np.ones(WIDTH, np.float32), '{"n": 2}'),
]
"""The changes of an upsert."""
BULK = [Change(f"new-{i % 19}", np.full(WIDTH, i % 7, np.float32), json.dumps({"n": "x" * 20_000})) for i in range(300)]
"""So many bytes that SQLite moves them from its log to its table in the same call."""

BEFORE = Alias(2, (1,))
AFTER = {"compact": (1,), "promote": (1, 2), "roll back": ()}
"""The versions that the champion has replaced after a step that changes it."""
TRACEBACK = "TRACEBACK"
KEPT = "it is the champion now"
"""Part of the message if the alias was replaced and the disk did not confirm it."""


def made_store(folder: Path, *, logged: bool = True) -> tuple[Store, Plain]:
    """Make versions 1 and 2, the second serving, and a log with changes after it; returns what must be found in it."""
    rng, store = np.random.default_rng(0), Store(folder / "store")
    matrix = matrix_of(rng)
    plain = Plain(NAMES, matrix, "l2")
    rows = rng.integers(-3, 4, (ROWS, WIDTH)).astype(np.float32)
    for name, row in zip(NAMES, rows, strict=False):
        plain.apply(Change(name, row, "{}"))
    source, encoder = made_rows(rows, NAMES[:ROWS], [{}] * ROWS), encoder_at(folder / "encoder", matrix)
    with one_thread(), redirect_stderr(io.StringIO()):
        for number in (1, 2):
            build(source, encoder, store, metric="l2", target=Target(0.3, key="Flat"), device="cpu")
            store.promote(number)
    if logged:
        log = ChangeLog(store.folder)
        changes = random_changes(rng, NAMES, 80)
        log.append(changes)
        log.close()
        for sequence, change in enumerate(changes, start=1):
            plain.apply(dataclasses.replace(change, sequence=sequence))
    return store, plain


def _upsert(folder: Path, log: ChangeLog) -> None:
    log.append(SENT)


def _bulk(folder: Path, log: ChangeLog) -> None:
    log.append(BULK)


def _close(folder: Path, log: ChangeLog) -> None:
    log.close()


STEPS: dict[str, Callable[[Path, ChangeLog], object]] = {
    "upsert": _upsert,
    "first upsert": _upsert,
    "bulk upsert": _bulk,
    "close": _close,
    "compact": lambda folder, log: compact(Store(folder)),
    "promote": lambda folder, log: Store(folder).promote(1),
    "roll back": lambda folder, log: Store(folder).rollback(),
    "resumed retrain": lambda folder, log: resume(Store(folder)),
}


def attempt(name: str, folder: Path, shared: Path, ready: Connection) -> None:
    """In the second process: run the step when `ready` says so, and if it fails, run it again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    with shared.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), SHARED_BYTES)
    torch.set_num_threads(1)
    log, outcomes = ChangeLog(folder), []
    log.last()
    ready.send(os.getpid())
    ready.recv()
    for _ in range(TRIES):
        outcomes.append(_outcome(lambda: STEPS[name](folder, log)))
        text = json.dumps(outcomes).encode()
        memory[: len(text) + 1] = text + b"\n"
        if outcomes[-1] == "done" or KEPT in outcomes[-1]:
            break
    os._exit(0)


def read_outcomes(shared: Path) -> list[str]:
    """The result of each attempt: "done", or the error; none if the process was killed before."""
    text = shared.read_bytes().partition(b"\n")[0].strip(b"\0")
    return [str(outcome) for outcome in json.loads(text)] if text else []


def _outcome(step: Callable[[], object]) -> str:
    """The message that a user would see."""
    try:
        step()
    except LookalikeError as error:
        return f"{type(error).__name__}: {error}"[:400]
    except BaseException as error:
        return f"{TRACEBACK}: {error!r}"[:400]
    return "done"


class Held:
    """A store as it was before a step, of which each attempt gets a copy; and the checks after the step."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._made, self._plain = made_store(folder, logged=name != "first upsert")
        self._sent = {"upsert": SENT, "first upsert": SENT, "bulk upsert": BULK}.get(name, [])

    def copy(self, to: Path) -> Path:
        shutil.rmtree(to, ignore_errors=True)
        return Path(shutil.copytree(self._made.folder, to))

    def check(self, folder: Path, outcomes: list[str], *, killed: bool) -> bool:
        """Check that no acknowledged change is lost, no unsent change appears, and a verified version serves.

        Returns:
            Whether the step had been done.
        """
        store = Store(folder)
        after, alias = "done" in outcomes, store.champion()
        changed = alias is not None and alias != BEFORE and alias.replaced == AFTER.get(self._name)
        if not changed and (alias != BEFORE or (after and self._name in AFTER)):
            raise NotHeldError(f"champion {alias}")
        if not store.open_champion().answers_canary():
            raise NotHeldError("the champion does not answer its canary query")
        log = ChangeLog(folder)
        new = log.read(self._plain.applied, 10_000)
        log.close()
        there = len(new) == len(self._sent) and all(map(_same, new, self._sent))
        if new and not there:
            raise NotHeldError(f"{len(new)} changes of {len(self._sent)}")
        if self._sent and after and not there:
            raise NotHeldError("an acknowledged change is missing")
        if new and not after and not killed:
            raise NotHeldError("a refused change is present")
        self._answers(store, new)
        return after or bool(new) or changed

    def again(self, folder: Path, *, done: bool) -> None:
        """Check that the step succeeds without faults, and leaves nothing of the attempts before."""
        log = ChangeLog(folder)
        if not done:
            STEPS[self._name](folder, log)
        log.close()
        self.check(folder, ["done"], killed=False)
        with redirect_stderr(io.StringIO()):
            compact(Store(folder))  # a step that uses a folder deletes what earlier attempts left in it
        left = [path.name for path in (folder / "versions").iterdir() if not path.name.isdigit()]
        if left:
            raise NotHeldError(f"left behind: {left}")

    def _answers(self, store: Store, new: Sequence[Change]) -> None:
        plain = self._plain.copy(self._plain.matrix, "l2")
        for change in new:
            plain.apply(change)
        collection = open_collection(store, store.champion_number())
        if collection.items.count != len(plain.present()):
            raise NotHeldError(f"{collection.items.count} items, not {len(plain.present())}")
        for query in plain.embeddings[plain.found()][::5]:
            found = collection.searcher.search(query[None], 10)
            names = [collection.items.id_at(int(place)) for place in found.positions[0] if place >= 0]
            if names != plain.nearest(plain.scores(query), 10):
                raise NotHeldError(f"found {names}")


def _same(one: Change, other: Change) -> bool:
    if one.id != other.id or one.payload != other.payload or (one.input is None) != (other.input is None):
        return False
    return one.input is None or bool(np.array_equal(one.input, other.input if other.input is not None else []))

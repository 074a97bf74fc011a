"""Do all workers answer like a single one, while processes are killed and stopped and versions change?

ours    answers that no order of all operations on an item explains (linearizability: benchmarks.linearizable)

Clients put, replace, delete by id and by filter, get, list and search the same 50 ids, over connections to all
workers. At the same time, workers and the whole service are killed (SIGKILL) and stopped (SIGSTOP), and versions are
compacted, promoted and rolled back. Each client records when it sent each call, and when it received which answer. A
call without an answer (lost connection, time-out, 5xx) may have taken effect at any later time, or never. No call is
sent twice. The checker is checked too: it must find a stale read that is added to the history of each item.
`--seed N` repeats the calls and the faults, but not their timing.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.consistency_client import WIDTH, name_of, vector_of
from benchmarks.consistency_faults import Service, change_versions, disturb
from benchmarks.histories import in_memory
from benchmarks.linearizable import Operation, Violation, violations
from benchmarks.report import Bar, Row, report, row
from benchmarks.service_process import free_port
from lookalike.index.ann.target import Target
from lookalike.index.ann.vectors import one_thread
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from tests.factories import encoder_at, made_rows

__all__ = ["ByItem", "Seen", "check", "main", "read_history", "with_stale_reads"]

CLIENTS, OPERATIONS, MINUTES = 8, 100_000, 30.0
LEAST = 200_000
"""The least number of operations in all runs together."""
BASE = 200
"""Items that no client changes."""
SHOWN = 3
"""The number of violations that are printed in full."""

ByItem = dict[int, list[Operation]]


@dataclass
class Seen:
    """The record of one run's clients.

    Attributes:
        calls: the number of calls of each kind.
        lost: the number of calls without an answer, by reason.
        unexpected: answers that no client should receive.
        by_item: the operations on each item.
        done: the number of faults and of changes of the version.
    """

    calls: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    by_item: ByItem = field(default_factory=lambda: defaultdict(list))
    done: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def read_history(files: list[Path]) -> Seen:
    """Read what the clients recorded, one file per client."""
    seen = Seen()
    for number, file in enumerate(files):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                name, called, answered, effects, note = json.loads(line)
                seen.calls[name] += 1
                if note.startswith("unexpected: "):
                    seen.unexpected.append(note)
                elif note:
                    seen.lost[note] += 1
                for place, kind, text in effects:
                    client = f"client {number}, {name}"
                    seen.by_item[place].append(Operation(kind, text, called, answered, client))
    return seen


def check(by_item: ByItem) -> dict[int, list[Violation]]:
    """The violations of each item that has any."""
    found = {place: violations(operations) for place, operations in sorted(by_item.items())}
    return {place: some for place, some in found.items() if some}


def with_stale_reads(by_item: ByItem) -> ByItem:
    """Return the replaced items with one more read at the end of each, which finds the first value again."""
    broken: ByItem = {}
    for place, operations in by_item.items():
        writes = [one for one in operations if one.kind == "write" and one.answered is not None]
        first = min(writes, key=lambda one: one.called, default=None)
        if first and any(one.called > (first.answered or 0) for one in writes):
            end = max(max(one.called, one.answered or 0) for one in operations)
            broken[place] = [*operations, Operation("read", first.text, end + 1, end + 2, "added")]
    return broken


def _made_store(folder: Path) -> Store:
    """Make a store of two versions whose encoders rotate all rows; no shared item is in them."""
    store, names = Store(folder / "store"), [f"base {number}" for number in range(BASE)]
    rows = np.array([vector_of(name) for name in names], np.float32)
    payloads = [{"value": "", "tag": "base", "group": -1}] * BASE
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)
    for number, matrix in enumerate((np.eye(WIDTH, dtype=np.float32), turned), start=1):
        encoder = encoder_at(folder / f"encoder-{number}", matrix)
        build(made_rows(rows, names, payloads), encoder, store, target=Target(key="Flat"), device="cpu")
        store.promote(number)
    return store


def run(workers: int, seed: int, operations: int, minutes: float, clients: int = CLIENTS) -> Seen:
    """Serve, send calls and cause faults until all clients end; returns the clients' record."""
    with tempfile.TemporaryDirectory(prefix="lookalike-", dir=in_memory()) as name:
        folder, ended = Path(name), threading.Event()
        store = _made_store(folder)
        service = Service(store, free_port(), workers, folder / "service.log")
        files = [folder / f"client-{number}" for number in range(clients)]
        try:
            service.start()
            began = time.monotonic()
            processes = [
                _client(service.port, number, seed, operations // clients, began + 60 * minutes, file)
                for number, file in enumerate(files)
            ]
            with ThreadPoolExecutor(1) as pool:
                changes = pool.submit(change_versions, store, random.Random(f"versions {seed}"), ended)
                try:
                    chance = random.Random(f"faults {seed}")
                    faults = disturb(service, chance, lambda: any(each.poll() is None for each in processes))
                finally:
                    ended.set()
            seconds = time.monotonic() - began
            if failed := [each.returncode for each in processes if each.returncode]:
                raise RuntimeError(f"clients ended with {failed}")
        except BaseException:
            print((folder / "service.log").read_text(errors="replace")[-4_000:], file=sys.stderr)
            raise
        finally:
            service.kill()
        seen = read_history(files)
        seen.done, seen.seconds = faults + changes.result(), seconds
        return seen


def _client(port: int, number: int, seed: int, operations: int, until: float, file: Path) -> "subprocess.Popen[bytes]":
    arguments = map(str, (port, number, seed, operations, until, file))
    return subprocess.Popen([sys.executable, "-m", "benchmarks.consistency_client", *arguments])


def _rows(workers: int, seen: Seen, found: dict[int, list[Violation]]) -> list[Row]:
    name, none = f"{workers} workers", Bar("ours", "<=", 0)
    broken = with_stale_reads(seen.by_item)
    caught = [place for place, some in check(broken).items() if some[-1].operation is broken[place][-1]]
    return [
        row(f"{name}: operations", "operations", ours=seen.calls.total()),
        row(f"{name}: time", "s", ours=seen.seconds),
        row(f"{name}: operations a second", "", ours=seen.calls.total() / seen.seconds),
        *(row(f"{name}: {what}", "operations", ours=count) for what, count in sorted(seen.calls.items())),
        row(f"{name}: without an answer", "operations", ours=seen.lost.total()),
        *(row(f"{name}: {what}", "times", ours=count) for what, count in sorted(seen.done.items())),
        row(f"{name}: unexpected answers", "operations", ours=len(seen.unexpected), bar=none),
        row(f"{name}: answers that no order explains", "answers", ours=sum(map(len, found.values())), bar=none),
        row(f"{name}: items that have such answers", "items", ours=len(found), bar=none),
        row(
            f"{name}: added stale reads that were found", "items", ours=len(caught), bar=Bar("ours", ">=", len(broken))
        ),
    ]


def _note(workers: int, seed: int, seen: Seen, found: dict[int, list[Violation]]) -> str:
    """The seed, the first unexpected answers, and the windows of the first violations."""
    lines = [f"{workers} workers: seed {seed}; without an answer: {dict(seen.lost)}", *seen.unexpected[:SHOWN]]
    for place, some in list(found.items())[:SHOWN]:
        states = " or ".join(state or "nothing" for state in some[0].states)
        lines.append(f"{name_of(place)}: {_spelled(some[0].operation)} is impossible, possible was {states}")
        start = some[0].window[0].called
        for one in some[0].window:
            answered = "none" if one.answered is None else f"{(one.answered - start) / 1e6:9.3f}"
            lines.append(f"  {(one.called - start) / 1e6:9.3f} to {answered} ms  {_spelled(one)}")
    return "\n".join(lines)


def _spelled(operation: Operation) -> str:
    text = operation.text or ("nothing" if operation.kind == "read" else "")
    return f"{operation.client}: {operation.kind} {text}"


def main() -> None:
    """Make one run for each number of workers; `report` prints and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="operations in each run")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the longest duration of a run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, notes, total = list[Row](), list[str](), 0
    for workers in options.workers:
        with one_thread():
            seen = run(workers, options.seed, options.operations, options.minutes)
        found = check(seen.by_item)
        total += seen.calls.total()
        rows += _rows(workers, seen, found)
        notes.append(_note(workers, options.seed, seen, found))
    rows.append(row("operations in all", "operations", ours=total, bar=Bar("ours", ">=", LEAST)))
    report("consistency", rows, "\n".join(notes))


if __name__ == "__main__":
    main()

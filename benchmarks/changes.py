"""Random changes of items, made by this process and by a second one."""

import dataclasses
import json
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plain import random_row
from lookalike.index.changes.change import Change
from lookalike.index.changes.log import ChangeLog

__all__ = ["FILTERS", "PAYLOADS", "random_changes", "start_writer"]

BATCHES = 200
"""The batches that the second process writes."""
PAYLOADS: tuple[dict[str, Any], ...] = (
    *({"n": n} for n in range(5)),
    *({}, {"n": "2"}, {"n": 2.5}, {"n": [1, 4]}, {"n": 2, "tag": "x"}, {"tag": "y"}, {"n": None}),
)
FILTERS: tuple[dict[str, Any], ...] = (
    *({"field": "n", "equal": n} for n in (0, 2, "2", 2.5, 9)),
    {"field": "n", "in": [1, 3, "2"]},
    {"field": "n", "range": {"gte": 2}},
    {"field": "tag", "exists": True},
    {"not": {"field": "n", "exists": True}},
    {"and": [{"field": "n", "equal": 2}, {"field": "tag", "equal": "x"}]},
    {"or": [{"field": "n", "equal": 0}, {"not": {"field": "tag", "exists": False}}]},
)


def random_changes(rng: np.random.Generator, names: Sequence[str], count: int, deleting: float = 0.3) -> list[Change]:
    """Random puts, replacements and deletions, also of missing items and of one id twice in a batch."""
    changes = []
    for _ in range(count):
        name = names[int(rng.integers(len(names)))]
        if rng.random() < deleting:
            changes.append(Change(name))
        else:
            payload = PAYLOADS[int(rng.integers(len(PAYLOADS)))]
            changes.append(Change(name, random_row(rng), json.dumps(payload)))
    return changes


def start_writer(store: Path, names: list[str], seed: int) -> tuple[BaseProcess, Connection]:
    """A second process that writes changes, and the report of what it wrote."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.changes"])
    local, remote = context.Pipe()
    process = context.Process(target=_write_beside, args=(store, names, seed, remote))
    process.start()
    remote.close()
    return process, local


def _write_beside(store: Path, names: list[str], seed: int, reports: Connection) -> None:
    rng, log = np.random.default_rng([seed, 1]), ChangeLog(store)
    for _ in range(BATCHES):
        changes = random_changes(rng, names, int(rng.integers(1, 6)))
        last = log.append(changes)
        first = last - len(changes) + 1
        reports.send([dataclasses.replace(change, sequence=first + i) for i, change in enumerate(changes)])
    log.close()

import io
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.drift.drift import read_drift
from lookalike.service.observability.drift import DriftWatch
from lookalike.service.observability.logs import JsonFormatter

Watches = Callable[[Path | None], DriftWatch]
Events = Callable[[], list[dict[str, object]]]


@pytest.fixture
def watches() -> Iterator[Watches]:
    """Creates watches of version 3, with 143 calibration rows, and closes them."""
    with ExitStack() as stack:

        def make(folder: Path | None) -> DriftWatch:
            watch = DriftWatch(folder)
            watch.serve(3, 143, "three")
            stack.callback(watch.close)
            return watch

        yield make


@pytest.fixture
def events() -> Iterator[Events]:
    """The lifecycle events that were logged."""
    stream, log = io.StringIO(), logging.getLogger("lookalike")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log.setLevel(level)
    log.removeHandler(handler)


@pytest.mark.parametrize("size", [1, 7, 300])
def test_judges_many_queries_like_single_ones(watches: Watches, size: int) -> None:
    gathered, singly = watches(None), watches(None)
    history = np.random.default_rng(0).random(773) ** 1.2
    for start in range(0, len(history), size):
        gathered.add(history[start : start + size], 3)
    for p in history:
        singly.add(np.array([p]), 3)
        singly.current()
    one, other = gathered.current(), singly.current()
    assert (one.queries, one.asked, one.strange) == (other.queries, other.asked, other.strange)
    assert one.evidence == pytest.approx(other.evidence)


def test_leaves_out_queries_to_a_version_that_no_longer_serves(watches: Watches) -> None:
    watch = watches(None)
    watch.add(np.full(100, 0.001), 2)
    assert watch.current().queries == 0
    watch.add(np.full(100, 0.001), 3)
    assert watch.current().drifted
    watch.serve(4, 143, "four")
    watch.add(np.full(100, 0.001), 3)
    assert (watch.current().queries, watch.current().drifted) == (0, False)


@pytest.mark.anyio
async def test_a_compaction_keeps_the_drift_evidence(watches: Watches, tmp_path: Path) -> None:
    one, other = watches(tmp_path), watches(tmp_path)
    one.add(np.full(100, 0.001), 3)
    assert one.current().drifted
    one.add(np.full(7, 0.5), 3)
    one.serve(4, 143, "three")
    one.add(np.full(10, 0.5), 4)
    one.add(np.full(10, 0.5), 3)  # of a call that the previous version still answers
    assert (one.current().version, one.current().queries, one.current().drifted) == (4, 117, True)
    await one.exchange()
    await other.exchange()
    assert (other.current().version, other.current().queries, other.current().drifted) == (3, 117, True)
    one.close()
    later = DriftWatch(tmp_path)
    later.serve(5, 143, "three")
    await later.exchange()
    assert (later.current().queries, later.current().drifted) == (117, True)
    later.close()


def test_an_alarm_is_logged_once(watches: Watches, events: Events) -> None:
    watch = watches(None)
    for _ in range(3):
        watch.add(np.full(100, 0.001), 3)
        watch.current()
    assert [event["event"] for event in events()] == ["drift"]


@pytest.mark.anyio
async def test_processes_share_their_evidence(watches: Watches, tmp_path: Path) -> None:
    one, other = watches(tmp_path), watches(tmp_path)
    one.add(np.full(12, 0.001), 3)
    other.add(np.full(12, 0.001), 3)
    alone = one.current().evidence
    for watch in (one, other, one):
        await watch.exchange()
    assert (one.current().queries, one.current().processes) == (24, 1)
    assert one.current().evidence == pytest.approx(alone + math.log10(2))


@pytest.mark.anyio
async def test_an_alarm_of_all_processes_stays(watches: Watches, tmp_path: Path) -> None:
    one, other = watches(tmp_path), watches(tmp_path)
    other.add(np.full(200, 0.001), 3)
    await other.exchange()
    await one.exchange()
    assert one.current().drifted
    one.add(np.full(1, 0.5), 3)
    other.serve(4, 143, "four")
    await other.exchange()
    other.add(np.full(1, 0.5), 4)
    await other.exchange()
    await one.exchange()
    assert (one.current().queries, one.current().drifted) == (1, True)


@pytest.mark.anyio
async def test_a_restart_keeps_the_drift_evidence(tmp_path: Path) -> None:
    first = DriftWatch(tmp_path)
    first.serve(3, 143, "three")
    first.add(np.full(12, 0.001), 3)
    evidence = first.current().evidence
    first.close()
    second = DriftWatch(tmp_path)
    second.serve(3, 143, "three")
    second.add(np.full(5, 0.9), 3)
    await second.exchange()
    assert second.current().queries == read_drift(tmp_path, 3, "three").queries == 17
    assert second.current().evidence > evidence - 1
    second.close()
    third = DriftWatch(tmp_path)
    third.serve(3, 143, "three")
    third.close()  # before any exchange
    assert read_drift(tmp_path, 3, "three").queries == 17


@pytest.mark.anyio
async def test_logs_once_that_the_store_cannot_be_written_and_continues(
    watches: Watches, tmp_path: Path, events: Events
) -> None:
    (tmp_path / "file").write_bytes(b"")
    watch = watches(tmp_path / "file" / "drift")
    watch.add(np.full(100, 0.001), 3)
    for _ in range(3):
        await watch.exchange()
    assert watch.current().drifted
    assert [event["event"] for event in events()] == ["drift not shared", "drift"]
    assert "file" in str(events()[0]["reason"])


@pytest.mark.anyio
async def test_logs_a_damaged_file_of_another_process_once(watches: Watches, tmp_path: Path, events: Events) -> None:
    other, watch = watches(tmp_path), watches(tmp_path)
    other.add(np.full(1, 0.5), 3)
    await other.exchange()
    (tmp_path / "0.json").write_text("{")
    for _ in range(3):
        watch.add(np.full(1, 0.5), 3)
        await watch.exchange()
    assert [event["event"] for event in events()] == ["drift not shared"]
    assert watch.current().queries == 3

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from lookalike.cli.drift_command import drift_lines
from lookalike.index.drift.detector import Bets, Detector, Evidence
from lookalike.index.drift.drift import FOLDER, Drift, DriftFile, DriftState
from lookalike.index.versions.store import Store
from tests.lookalike.helpers import refused, run


@pytest.fixture
def store(store_copy: Store) -> Store:
    """A store that no service has served."""
    shutil.rmtree(store_copy.folder / FOLDER, ignore_errors=True)
    return store_copy


def record_queries(store: Store, p: float, count: int) -> None:
    """Record `count` queries with the p-value `p`, as a serving process that has ended."""
    bets = Bets(143)
    detector = Detector(bets, Evidence.none(bets, time.time()))
    detector.add(np.full(count, p), time.time())
    file = DriftFile(store.folder / FOLDER)
    file.write(DriftState(store.champion_number(), store.open_champion().calibration, bets, detector.evidence))
    file.close()


def test_a_store_without_queries_has_not_drifted(store: Store) -> None:
    done = run("drift", "--store", store.folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "version: 1",
        "queries: 0",
        "evidence: 10^0.0, drift from 10^6.0 on",
        "false alarms: at most one in 1,000,000 normal queries, on average",
        "drifted: no",
    ]


def test_exits_with_10_if_the_queries_have_drifted(store: Store) -> None:
    record_queries(store, 0.9, 30)
    assert run("drift", "--store", store.folder).code == 0
    record_queries(store, 0.001, 100)
    done = run("drift", "--store", store.folder)
    assert (done.code, done.err) == (10, "")
    lines = done.out.splitlines()
    assert lines[1] == "queries: 100"
    assert "of 100 queries 100 have p <= 0.01, where normal data has at most 4.3%" in lines[4]
    assert lines[5].startswith("drifted: yes, alarmed 2")


def test_reports_a_damaged_file(store: Store) -> None:
    record_queries(store, 0.001, 100)
    (store.folder / FOLDER / "0.json").write_text("{")
    done = run("drift", "--store", store.folder)
    assert (done.code, done.out.splitlines()[-1]) == (0, "drifted: no")
    assert done.err.startswith("ignored: ")


def test_a_store_without_a_champion_is_a_user_error(tmp_path: Path) -> None:
    refused(run("drift", "--store", tmp_path), "promoted version")


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (Drift(1, 5, 2, 6.0), "drifted: yes"),  # the processes together, though neither alone
        (Drift(1, 5, 1, 0.0, alarm=1e9), "drifted: yes, alarmed 2001-09-09 01:46:40 UTC"),
        (Drift(1, 5, 1, 5.9), "drifted: no"),
    ],
)
def test_the_last_line_is_the_verdict(found: Drift, last: str) -> None:
    assert drift_lines(found)[-1] == last

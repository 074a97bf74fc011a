import contextlib
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.drift.detector import Bets, Detector, Evidence
from lookalike.index.drift.drift import FOLDER, Drift, DriftFile, DriftState, drift_of, read_drift
from lookalike.index.errors import StoreError
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.errors import ArtifactError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows

Files = Callable[[Path], DriftFile]
Write = Callable[[Path, DriftState], DriftFile]

BETS = Bets(143)
HOLDER = """
import sys
from pathlib import Path
import numpy as np
from lookalike.index.drift.detector import Bets, Detector, Evidence
from lookalike.index.drift.drift import DriftFile, DriftState
bets = Bets(143)
one = Detector(bets, Evidence.none(bets, 0.0))
one.add(np.full(7, 0.5), 1.0)
file = DriftFile(Path(sys.argv[1]))
file.write(DriftState(3, "three", bets, one.evidence))
print("done", flush=True)
sys.stdin.read()
"""


def state_of(
    p: float = 0.5, count: int = 10, calibration: str = "three", once_in: float = 1e6, rows: int = 143
) -> DriftState:
    bets = Bets(rows)
    one = Detector(bets, Evidence.none(bets, 0.0), once_in)
    one.add(np.full(count, p), 100.0)
    return DriftState(3, calibration, bets, one.evidence, once_in)


@pytest.fixture
def files() -> Iterator[Files]:
    """Creates files and closes them, as the end of their processes would."""
    with contextlib.ExitStack() as stack:

        def make(folder: Path) -> DriftFile:
            file = DriftFile(folder)
            stack.callback(file.close)
            return file

        yield make


@pytest.fixture
def written(files: Files) -> Write:
    def write(folder: Path, what: DriftState) -> DriftFile:
        file = files(folder)
        file.write(what)
        return file

    return write


def test_no_files_mean_no_drift(tmp_path: Path) -> None:
    assert read_drift(tmp_path / "none", 3, "three") == Drift(3)
    assert not Drift(3).drifted


def test_reads_back_the_state_of_a_process(tmp_path: Path, written: Write) -> None:
    written(tmp_path, state_of(0.001, 5))
    drift = read_drift(tmp_path, 3, "three")
    won = np.exp(BETS.won)
    stakes = [sum(w**n for n in range(1, 6)) for w in won]  # each query adds a stake of 1
    assert 10**drift.evidence == pytest.approx(np.mean(stakes))
    best = int(np.argmax(stakes))
    assert drift == Drift(
        *(3, 5, 1, drift.evidence, 1e6),
        alarm=None,
        since=0.0,  # the run began at the start
        level=BETS.levels[best],
        rate=BETS.rates[best],
        asked=5,
        strange=5,
    )


def test_a_file_has_readable_fields(tmp_path: Path, written: Write) -> None:
    written(tmp_path, state_of(0.001, 50))
    found = json.loads((tmp_path / "0.json").read_text())
    fields = {name: found[name] for name in ("version", "calibration", "calibration_rows", "queries", "alarm_at")}
    assert fields == {"version": 3, "calibration": "three", "calibration_rows": 143, "queries": 50, "alarm_at": 100.0}
    assert found["once_in"] == 1e6
    assert found["evidence"] > 6
    assert found["changed_since"] == 0.0


def test_combines_the_states_of_processes(tmp_path: Path, written: Write) -> None:
    parts = [state_of(0.001, 8), state_of(0.5, 30), state_of(0.001, 8)]
    for part in parts:
        written(tmp_path, part)
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.processes, drift.asked, drift.strange) == (46, 3, 8, 8)
    assert drift.evidence == pytest.approx(math.log10(sum(math.exp(part.evidence.total) for part in parts)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{n}.{kind}" for n in range(3) for kind in ("json", "lock")
    )


def test_drifted_once_the_combined_evidence_reaches_the_threshold(tmp_path: Path, written: Write) -> None:
    once_in = 1.5 * math.exp(state_of(0.001, 8).evidence.total)
    written(tmp_path, state_of(0.001, 8, once_in=once_in))
    assert not read_drift(tmp_path, 3, "three").drifted
    written(tmp_path, state_of(0.001, 8, once_in=once_in))
    both = read_drift(tmp_path, 3, "three")
    assert (both.alarm, both.drifted) == (None, True)


def test_an_alarm_of_one_process_counts_for_all(tmp_path: Path, written: Write) -> None:
    alarmed = state_of(0.001, 100)._replace(once_in=1e300)
    written(tmp_path, alarmed)
    written(tmp_path, state_of())
    assert (read_drift(tmp_path, 3, "three").alarm, read_drift(tmp_path, 3, "three").drifted) == (100.0, True)


def test_ignores_other_calibrations(tmp_path: Path, written: Write) -> None:
    written(tmp_path, state_of(0.001, 100, "two"))
    written(tmp_path, state_of(count=4))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.processes, drift.drifted, drift.damaged) == (4, 1, False, ())


def test_a_process_continues_from_the_states_of_dead_processes(tmp_path: Path, written: Write, files: Files) -> None:
    parts = [state_of(0.001, 8), state_of(0.5, 30), state_of(0.001, 8, "two")]
    for file in [written(tmp_path, part) for part in parts]:
        file.close()
    successor = files(tmp_path)
    state = successor.take_over("three")
    assert state is not None
    assert state.evidence.queries == 38
    assert math.exp(state.evidence.total) == pytest.approx(sum(math.exp(part.evidence.total) for part in parts[:2]))
    assert list(tmp_path.glob("*.json")) == []
    assert successor.take_over("three") is None
    successor.write(state)
    assert read_drift(tmp_path, 3, "three").queries == 38


def test_takes_over_from_a_killed_but_not_from_a_living_process(tmp_path: Path, files: Files) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], text=True, **pipes) as popen:  # type: ignore[call-overload]
        try:
            assert popen.stdout.readline() == "done\n"
            own = files(tmp_path)
            assert own.take_over("three") is None
            own.write(state_of(count=4))
            assert [state.evidence.queries for state in own.others("three")[0]] == [7]
            assert read_drift(tmp_path, 3, "three").queries == 11
        finally:
            popen.kill()
    assert read_drift(tmp_path, 3, "three").queries == 11
    state = own.take_over("three")
    assert state is not None
    assert state.evidence.queries == 11
    assert own.others("three") == ([], ())


def test_ignores_and_reports_a_truncated_file(tmp_path: Path, written: Write) -> None:
    written(tmp_path, state_of(0.001, 100))
    written(tmp_path, state_of(count=4))
    path = tmp_path / "0.json"
    content = path.read_bytes()
    for length in range(0, len(content) - 2, 7):
        path.write_bytes(content[:length])
        drift = read_drift(tmp_path, 3, "three")
        assert (drift.queries, drift.drifted, len(drift.damaged)) == (4, False, 1), length
        assert str(path) in drift.damaged[0]


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "lookalike-drift-0"},
        {"version": "3"},
        {"version": True},
        {"calibration": 3},
        {"calibration": None},
        {"calibration_rows": 19},
        {"calibration_rows": -1},
        {"calibration_rows": 1e3},
        {"queries": 99},
        {"queries": None},
        {"once_in": "many"},
        {"alarm_at": math.inf},
        {"alarm_at": []},
        {"alarm_at": 1e12},
        {"alarm_at": -1},
        {"bets": {}},
        {"bets": 7},
    ],
)
def test_ignores_and_reports_a_file_with_invalid_fields(
    tmp_path: Path, damage: dict[str, object], written: Write, files: Files
) -> None:
    written(tmp_path, state_of(0.001, 100)).close()
    path = tmp_path / "0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.drifted, len(drift.damaged)) == (0, False, 1)
    assert files(tmp_path).take_over("three") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(
            ["logs", "since", "asked", "strange"], [[], [1.0], None, "x", [math.nan] * 15, [[1] * 15], [10**400] * 15]
        ),
        *itertools.product(["since", "asked", "strange"], [[-1] * 15]),
        *itertools.product(["asked", "strange"], [[101] * 15]),
        ("since", [1e12] * 15),
    ],
)
def test_ignores_and_reports_invalid_bets(tmp_path: Path, name: str, value: object, written: Write) -> None:
    written(tmp_path, state_of(0.001, 100)).close()
    path = tmp_path / "0.json"
    found = json.loads(path.read_text())
    found["bets"][name] = value
    path.write_text(json.dumps(found))
    assert len(read_drift(tmp_path, 3, "three").damaged) == 1


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"[" * 60_000, b"\xff\xfe", b" " * 70_000, b'{"format": 3}'])
def test_ignores_and_reports_a_file_that_is_not_a_state(tmp_path: Path, text: bytes, files: Files) -> None:
    (tmp_path / "0.json").write_bytes(text)
    assert len(read_drift(tmp_path, 3, "three").damaged) == 1
    assert files(tmp_path).take_over("three") is None


def test_does_not_mix_states_with_other_calibration_rows(tmp_path: Path, written: Write) -> None:
    written(tmp_path, state_of())
    written(tmp_path, state_of(rows=1_000))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, len(drift.damaged)) == (10, 1)


def test_ignores_a_half_written_file(tmp_path: Path, written: Write) -> None:
    file = written(tmp_path, state_of(count=4))
    left = tmp_path / ".lookalike-making-killed"
    left.mkdir()
    (left / "0.json").write_text("{")
    assert read_drift(tmp_path, 3, "three") == read_drift(tmp_path, 3, "three")
    assert read_drift(tmp_path, 3, "three").damaged == ()
    file.write(state_of(count=5))
    assert read_drift(tmp_path, 3, "three").queries == 5
    assert not left.exists()


def test_counts_queries_without_calibration_rows(tmp_path: Path, written: Write) -> None:
    written(tmp_path, state_of(1.0, rows=0))
    drift = read_drift(tmp_path, 3, "three")
    assert (drift.queries, drift.evidence, drift.since, drift.drifted) == (10, -math.inf, None, False)


def test_reports_a_folder_that_cannot_be_written(tmp_path: Path, files: Files) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        files(tmp_path / "file" / "drift").write(state_of())
    assert read_drift(tmp_path / "file" / "drift", 3, "three") == Drift(3)


def test_the_drift_of_a_store_is_that_of_its_champion(store_copy: Store, written: Write) -> None:
    shutil.rmtree(store_copy.folder / FOLDER, ignore_errors=True)  # another test may have served this store
    written(store_copy.folder / FOLDER, state_of(count=4, calibration=store_copy.open_champion().calibration))
    written(store_copy.folder / FOLDER, state_of(0.001, 100))
    drift = drift_of(store_copy)
    assert (drift.version, drift.queries, drift.drifted) == (1, 4, False)


def test_an_alarm_survives_a_compaction_but_not_a_new_encoder(
    store_copy: Store, tmp_path: Path, written: Write
) -> None:
    shutil.rmtree(store_copy.folder / FOLDER, ignore_errors=True)
    written(store_copy.folder / FOLDER, state_of(0.001, 100, store_copy.open_champion().calibration))
    log = ChangeLog(store_copy.folder)
    log.append([Change(store_copy.open_champion().items.id_at(0))])
    log.close()
    assert compact(store_copy) == 2
    drift = drift_of(store_copy)
    assert (drift.version, drift.queries, drift.alarm, drift.drifted) == (2, 100, 100.0, True)
    (tmp_path / "other.toml").write_text('[model]\nhidden = [8]\nlatent_dim = 2\n[fit]\nepochs = 1\ndevice = "cpu"\n')
    train(open_rows("digits"), load_config(tmp_path / "other.toml"), tmp_path / "other")
    store_copy.promote(build(open_rows("digits"), tmp_path / "other", store_copy, target=Target(key="Flat")))
    assert drift_of(store_copy) == Drift(3)


def test_refuses_a_champion_with_a_damaged_manifest(store_copy: Store) -> None:
    (store_copy.path(1) / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="manifest"):
        drift_of(store_copy)


def test_refuses_a_store_without_a_champion(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="promote"):
        drift_of(Store(tmp_path))
